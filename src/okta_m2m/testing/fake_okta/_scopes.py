"""Which scopes a token request gets.

Invariant: a token never has a scope that was not requested, unless none was requested and the server has default scopes.
"""

from __future__ import annotations

import re

from ._app import App
from ._org import AuthorizationServer, Org
from ._refusals import Refused

# RFC 6749 section 3.3
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


def parse_scope(scope: str, openid_refusal: str) -> list[str]:
    """The scopes in a parameter. ``openid_refusal`` refuses ``openid``, which no service app gets."""
    asked = list(dict.fromkeys(scope.split(" ")))
    if not all(_SCOPE_TOKEN.fullmatch(name) for name in asked):
        raise Refused("invalid_scope")
    if "openid" in asked:
        raise Refused(openid_refusal)
    return asked


def org_scopes(org: Org, app: App, scope: str | None) -> list[str]:
    """Those of the org's own server that are granted to ``app``."""
    if scope is None:
        raise Refused("missing_scopes")
    asked = parse_scope(scope, "openid_not_allowed_client_creds")
    if any(name.startswith("okta.") and name.endswith(".self") for name in asked):
        raise Refused("client_credentials_self_scope_requested")
    if not org.scopes.issuperset(asked):
        raise Refused("no_matching_scope")
    in_force = app.in_force()
    granted = [name for name in asked if in_force is not None and name in in_force.scopes]
    if not granted:
        raise Refused("no_org_scopes_granted")
    return granted


def custom_scopes(server: AuthorizationServer, scope: str | None, openid_refusal: str) -> list[str]:
    """Those of a custom server: all that are requested, or its default ones."""
    if scope is None:
        if not server.default_scopes:
            raise Refused("no_default_scopes")
        return list(server.default_scopes)
    asked = parse_scope(scope, openid_refusal)
    if not all(name in server.scopes for name in asked):
        raise Refused("no_matching_scope")
    return asked
