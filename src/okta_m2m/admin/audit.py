"""Looks at all service apps of an org: their keys, scopes, roles and last tokens, and what a policy does not allow::

    for app in audit(api, Policy(key_age=90, no_super_admin=True)).apps:
        for finding in app.findings:
            print(app.app.name, finding.problem, finding.remedy)

Invariants: nothing is changed. A policy that cannot be checked is never reported as kept. Ages count by Okta's clock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from ..errors import ConfigurationError, quoted
from ._app_keys import key_age
from ._apps import App, list_apps
from ._changes import moment, shown_id
from .errors import NotFound, PermissionMissing, ScopeMissing
from .management import ManagementApi, described_as
from .provisioning import list_grants, list_roles

__all__ = ["Audit", "AuditedApp", "Finding", "Policy", "audit"]

LOG_KEPT: Final = 90
"""The number of days for which Okta keeps the System Log (Okta: System Log API, "Data retention")."""

_TOKENS: Final = (
    '(eventType eq "app.oauth2.token.grant.access_token" or eventType eq "app.oauth2.as.token.grant.access_token")'
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Policy:
    """What is allowed; by default everything.

    - ``key_age``: the age in days from which an active key is too old. Default ``None``: never.
    - ``no_super_admin``: whether no app may have the role ``SUPER_ADMIN``. Default ``False``.
    - ``require_dpop``: whether each app must require DPoP. Default ``False``.
    - ``unused_scopes``: for how many days a granted scope may be in no token; at most 90. Default ``None``: for ever.
    """

    key_age: int | None = None
    no_super_admin: bool = False
    require_dpop: bool = False
    unused_scopes: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A ``problem`` of an app that ``policy``, a field of :class:`Policy`, does not allow; and the ``remedy``."""

    policy: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class AuditedApp:
    """A service app, and what was found.

    - ``app``: the app, with its keys.
    - ``key_ages``: the age of each key in ``app.keys``, in whole days; ``None`` if Okta does not return when it was registered.
    - ``scopes``: its granted scopes; ``None`` if the account that signs in may not see them.
    - ``roles``: its admin roles: the type of a standard one (``SUPER_ADMIN``), the ids of a custom one and of its resource
      set (``cr0.../iam...``). ``None`` if the account may not see them.
    - ``last_token``: when its last token was issued (ISO 8601). ``None`` if it got none in the last 90 days, or if
      :attr:`Audit.log_visible` is ``False``.
    - ``findings``: what the policy does not allow.
    """

    app: App
    key_ages: tuple[int | None, ...]
    scopes: tuple[str, ...] | None
    roles: tuple[str, ...] | None
    last_token: str | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of :func:`audit`.

    - ``apps``: the service apps that the account may see.
    - ``log_visible``: whether the account may read the System Log.
    """

    apps: tuple[AuditedApp, ...]
    log_visible: bool


def audit(api: ManagementApi, policy: Policy | None = None) -> Audit:
    """Looks at all service apps. Makes three calls for each, and more if ``unused_scopes`` needs more of the log.

    - ``api``: the management API of the org.
    - ``policy``: what is allowed. Default ``None``: everything.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a policy that needs more of the log than Okta keeps. Raises
    :class:`~okta_m2m.admin.errors.PermissionMissing` or :class:`~okta_m2m.admin.errors.ScopeMissing` if the account may
    not see the apps, or something that the policy is about.
    """
    policy = policy or Policy()
    if policy.unused_scopes is not None and policy.unused_scopes > LOG_KEPT:
        raise ConfigurationError(f"Okta keeps the System Log for {LOG_KEPT} days.", remedy="Use a shorter time.")
    log_visible, apps = True, []
    for app in list_apps(api):
        with suppress(NotFound):  # it was deleted after it was listed
            audited, log_visible = _audit_app(api, app, policy, log_visible)
            apps.append(audited)
    return Audit(tuple(apps), log_visible)


def _audit_app(api: ManagementApi, app: App, policy: Policy, log_visible: bool) -> tuple[AuditedApp, bool]:
    """The app, and whether the account may read the System Log. It is not asked again if it may not."""
    span = policy.unused_scopes
    grants = _if_visible(lambda: list_grants(api, app.id), span is not None)
    roles = _if_visible(lambda: tuple(role.name for role in list_roles(api, app.client_id)), policy.no_super_admin)
    active = [grant for grant in grants or () if grant.status == "ACTIVE"]
    since = api.now() - (0.0 if span is None else span * 86_400)
    unused = {grant.scope for grant in active if span is not None and (moment(grant.created) or 0.0) < since}
    used = _if_visible(lambda: _last_token(api, app, unused, since), span is not None) if log_visible else None
    ages = tuple(key_age(api, key) for key in app.keys)
    scopes = None if grants is None else tuple(grant.scope for grant in active)
    findings = tuple(_findings(app, ages, roles or (), unused, policy))
    return AuditedApp(app, ages, scopes, roles, used or None, findings), used is not None


def _if_visible(look: Callable[[], T], is_needed: bool) -> T | None:
    try:
        return look()
    except (PermissionMissing, ScopeMissing):
        if is_needed:
            raise
        return None


def _last_token(api: ManagementApi, app: App, unused: set[str], since: float) -> str:
    """When the last token was issued; empty if there was none. Removes the scopes of the tokens since then from ``unused``.

    Reads the log from its end, and no further than necessary.
    """
    # For an app with a chosen client id, no source says which of its two ids the log has.
    ids = " or ".join(f"actor.id eq {json.dumps(id)}" for id in dict.fromkeys((app.client_id, app.id)))
    # Date has whole seconds, so the present one ends a second later.
    until = datetime.fromtimestamp(api.now() + 1, UTC)
    bounds = {"since": (until - timedelta(days=LOG_KEPT)).isoformat(), "until": until.isoformat()}
    last_token = ""
    query = {**bounds, "sortOrder": "DESCENDING", "limit": "1000" if unused else "1"}
    for event in api.pages("/api/v1/logs", {**query, "filter": f"{_TOKENS} and ({ids})"}, until_empty=True):
        with described_as("event"):
            last_token = last_token or event["published"]
            if not unused or (moment(event["published"]) or 0.0) < since:
                break
            unused -= set(re.split(r"[\s,]+", event["debugContext"]["debugData"]["grantedScopes"]))
    return last_token


def _findings(
    app: App, ages: tuple[int | None, ...], roles: tuple[str, ...], unused: set[str], policy: Policy
) -> Iterator[Finding]:
    if policy.key_age is not None:
        if app.jwks_uri is not None:
            problem = f"Okta fetches its keys from {quoted(app.jwks_uri, 200)}, so their age is not known."
            yield Finding("key_age", problem, "Rotate them there, or register them at Okta.")
        elif app.auth_method != "private_key_jwt":
            problem = f"It signs in with {quoted(app.auth_method, 40)}, not with a key."
            yield Finding("key_age", problem, "Create an app with a key instead: okta-m2m app create")
        for key, age in zip(app.keys, ages, strict=True):
            if key.active and (age is None or age >= policy.key_age):
                old = "of unknown age" if age is None else f"{age} days old"
                problem = f"Its key {shown_id(key.kid or key.id)} is {old}."
                yield Finding("key_age", problem, "Rotate it where its file is: okta-m2m key rotate")
    if policy.no_super_admin and "SUPER_ADMIN" in roles:
        remedy = f"Assign narrower roles, then run: okta-m2m app role remove SUPER_ADMIN --app {app.id}"
        yield Finding("no_super_admin", "It has the role SUPER_ADMIN.", remedy)
    if policy.require_dpop and not app.dpop:
        yield Finding("require_dpop", "It does not require DPoP.", f"Run: okta-m2m app edit {app.id} --dpop")
    if policy.unused_scopes is not None and unused:
        names = quoted(" ".join(sorted(unused)), 1000)
        remedy = f"If it does not need them, run: okta-m2m app revoke-grant {names} --app {app.id}"
        yield Finding("unused_scopes", f"For {policy.unused_scopes} days, no token had {names}.", remedy)
