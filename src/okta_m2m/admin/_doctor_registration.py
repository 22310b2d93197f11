"""The doctor's rows about the app as Okta has it, if an administrator is signed in: its status, its keys, grants and roles.

Invariant: nothing is changed. What the account may not see is ``skipped``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .. import ServiceApp
from .._urls.org_url import custom_server
from ..errors import OktaM2MError, quoted
from ..keys import Signer, thumbprint
from ._apps import App, find_app
from ._changes import shown_id
from ._doctor_rows import NOT_POSSIBLE, Check, Kind, row
from .errors import NotFound
from .management import ManagementApi
from .provisioning import list_grants, list_roles

REGISTRATION_ROWS: Final = ("app", "app's keys", "grants", "roles")
"""The names of the rows, in order."""


def check_registration(api: ManagementApi, app: ServiceApp) -> Iterator[Check]:
    """A row for each of :data:`REGISTRATION_ROWS`.

    - ``api``: the management API of the app's org.
    - ``app``: the app.
    """
    try:
        found = find_app(api, app.client_id)
    except OktaM2MError as error:
        if isinstance(error, NotFound):
            remedy = "Check the client id, and the org URL. List the apps: okta-m2m app list"
            yield row("app", "fail", f"the org has no app {shown_id(app.client_id)}", remedy, Kind.REFUSED)
        else:
            yield _not_permitted("app", error)
        yield from (row(name, "skipped", NOT_POSSIBLE) for name in REGISTRATION_ROWS[1:])
        return
    yield _check_status(found)
    yield _check_key(found, app.keys[0])
    if custom_server(app.token_endpoint):
        yield from (row(name, "skipped", "a custom authorization server decides") for name in REGISTRATION_ROWS[2:])
        return
    yield _check_grants(api, found, app)
    yield _check_roles(api, found)


def _check_status(found: App) -> Check:
    name, shown = "app", f"{quoted(found.name, 80)} ({found.id})"
    if found.status == "ACTIVE":
        return row(name, "ok", f"{shown} is active")
    remedy = f"Activate it: okta-m2m app activate {found.id}"
    return row(name, "fail", f"{shown} is inactive, so it gets no tokens", remedy, Kind.REFUSED)


def _check_key(found: App, key: Signer) -> Check:
    name, kid = "app's keys", shown_id(key.kid)
    if found.jwks_uri is not None:
        return row(name, "skipped", f"Okta fetches them from {quoted(found.jwks_uri, 150)}")
    same = next((one for one in found.keys if one.thumbprint == thumbprint(key.public_jwk)), None)
    if same is None:
        remedy = f"Register it: okta-m2m key add --app {found.id}"
        return row(name, "fail", f"the key with the kid {kid} is not registered", remedy, Kind.REFUSED)
    if not same.active:
        remedy = f"Activate it: okta-m2m key activate {same.id or shown_id(same.kid)} --app {found.id}"
        return row(name, "fail", f"the key with the kid {kid} is inactive", remedy, Kind.REFUSED)
    if key.kid is not None and key.kid != same.kid:
        detail = f"the key is registered with the kid {shown_id(same.kid)}, but {kid} is used"
        return row(name, "fail", detail, "Use the kid that Okta has: kid: in the key file.", Kind.REFUSED)
    return row(name, "ok", f"the key with the kid {shown_id(same.kid)} is registered and active")


def _check_grants(api: ManagementApi, found: App, app: ServiceApp) -> Check:
    name = "grants"
    try:
        granted = {grant.scope for grant in list_grants(api, found.id) if grant.status == "ACTIVE"}
    except OktaM2MError as error:
        return _not_permitted(name, error)
    missing = quoted(" ".join(scope for scope in app.scopes if scope not in granted))
    if missing:
        remedy = f"Grant them: okta-m2m app grant {missing} --app {found.id}"
        return row(name, "fail", f"not granted: {missing}", remedy, Kind.SCOPE)
    return row(name, "ok", "all requested scopes are granted")


def _check_roles(api: ManagementApi, found: App) -> Check:
    name = "roles"
    try:
        roles = [role.label for role in list_roles(api, found.client_id)]
    except OktaM2MError as error:
        return _not_permitted(name, error)
    if roles:
        return row(name, "ok", quoted(", ".join(roles)))
    remedy = f"Assign one: okta-m2m app role add READ_ONLY_ADMIN --app {found.id}"
    return row(name, "warn", "none, so Okta's API refuses its calls", remedy, Kind.ROLE)


def _not_permitted(name: str, error: OktaM2MError) -> Check:
    return row(name, "skipped", f"the account that signs in may not see it ({quoted(error.problem, 120)})")
