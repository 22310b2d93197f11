"""The scopes of Okta's own APIs.

Invariant: these are the scopes in Okta's published OpenAPI documents (release 2026.06.3): those of the management API, and
the ``okta.*`` scopes of the OAuth document (dynamic client registration, universal logout, Okta Workflows).
"""

from __future__ import annotations

__all__ = ["OKTA_SCOPES"]

_READ_AND_MANAGE = """
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

OKTA_SCOPES = frozenset(
    {f"{resource}.{kind}" for resource in _READ_AND_MANAGE.split() for kind in ("read", "manage")}
    | {"okta.clients.register", "okta.logs.read", "okta.universalLogout.manage", "okta.workflows.invoke.manage"}
)
