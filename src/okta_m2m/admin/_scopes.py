"""The scopes of Okta's own APIs, to recognize a misspelled one.

Invariant: an unknown scope is not refused, because Okta adds scopes. The known scopes are those of Okta's published
OpenAPI documents (release 2026.06.3).
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

_READ_AND_MANAGE: Final = """
okta.agentPools okta.apiTokens okta.appGrants okta.apps okta.apps.interclientTrust okta.authenticators
okta.authorizationServers okta.behaviors okta.botProtection okta.brands okta.captchas okta.clients
okta.customTelephonyProvider okta.deviceAssurance okta.deviceIntegrations okta.devicePostureChecks okta.devices
okta.directories.groups okta.domains okta.dr okta.emailDomains okta.emailServers okta.eventHooks okta.features
okta.groups okta.identitySources okta.idps okta.inlineHooks okta.linkedObjects okta.logStreams okta.networkZones
okta.oauthIntegrations okta.orgs okta.personal.adminSettings okta.policies okta.principalRateLimits
okta.profileMappings okta.pushProviders okta.rateLimits okta.realmAssignments okta.realms okta.roles okta.schemas
okta.securityEventsProviders okta.serviceAccounts okta.serviceAccounts.okta okta.sessions okta.templates
okta.threatInsights okta.trustedOrigins okta.uischemas okta.userRisk okta.userTypes okta.users ssf
"""

KNOWN_SCOPES: Final = frozenset(
    {f"{resource}.{kind}" for resource in _READ_AND_MANAGE.split() for kind in ("read", "manage")}
    | {"okta.clients.register", "okta.logs.read", "okta.universalLogout.manage", "okta.workflows.invoke.manage"}
)


def similar_scope(scope: str) -> str | None:
    """The most similar known scope; ``None`` if this scope is known, or if none is similar."""
    if scope in KNOWN_SCOPES:
        return None
    by_folded = {name.lower(): name for name in KNOWN_SCOPES}
    near = get_close_matches(scope.lower(), by_folded, n=1, cutoff=0.75)
    return by_folded[near[0]] if near else None
