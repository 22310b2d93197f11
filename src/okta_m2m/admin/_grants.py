"""The ``okta.*`` scopes that are granted to an app: list, grant, revoke.

Invariant: one change per scope, read back before it is reported. A failure of one scope does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ConfigurationError, quoted
from ._answers import items_of, not_as_described
from ._changes import change, path_segment, read_back
from ._scopes import KNOWN_SCOPES, similar_scope
from .errors import InvalidRequest, ProvisioningError, response_details
from .management import ManagementApi

__all__ = ["Grant", "GrantResult", "grant_scopes", "list_grants", "revoke_scopes"]


@dataclass(frozen=True, slots=True)
class Grant:
    """A scope of Okta's own API that is granted to an app.

    - ``id``: Okta's id for the grant.
    - ``scope``: the scope, such as ``okta.users.read``.
    - ``status``: ``ACTIVE``, or ``REVOKED``.
    """

    id: str
    scope: str
    status: str


@dataclass(frozen=True, slots=True)
class GrantResult:
    """The result for one scope.

    - ``scope``: the scope.
    - ``outcome``: ``granted``, or ``present`` if it was granted before; ``revoked``, or ``absent`` if it was not granted;
      ``failed`` if Okta refused the change or does not show it.
    """

    scope: str
    outcome: Literal["granted", "present", "revoked", "absent", "failed"]


def list_grants(api: ManagementApi, app_id: str) -> list[Grant]:
    """The scopes of Okta's own API that are granted to an app.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    """
    return [_grant(item) for item in items_of(api.call("GET", _path(app_id)), "grants")]


def grant_scopes(
    api: ManagementApi,
    app_id: str,
    scopes: Iterable[str],
    *,
    progress: Callable[[GrantResult], None] | None = None,
) -> list[GrantResult]:
    """Grants scopes to an app. Okta lets only a Super Admin do so.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    - ``scopes``: scopes of Okta's own API (``okta.*``, ``ssf.*``). Scopes of a custom authorization server are granted
      by its access policies.
    - ``progress``: called with each result as soon as it is known, also with one that failed. Default ``None``.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a scope that cannot be granted, before anything is sent. If a
    scope fails, the others are tried too. Then the first failure is raised, and the granted scopes stay granted.
    """
    wanted = _check_scopes(scopes)
    present = _granted(api, app_id)

    def grant(scope: str) -> GrantResult:
        if scope in present:
            return GrantResult(scope, "present")
        _grant_scope(api, app_id, scope)
        read_back(api, lambda: scope in _granted(api, app_id), f"{quoted(scope, 80)} is granted")
        return GrantResult(scope, "granted")

    return _try_all(wanted, grant, progress)


def revoke_scopes(
    api: ManagementApi,
    app_id: str,
    scopes: Iterable[str],
    *,
    progress: Callable[[GrantResult], None] | None = None,
) -> list[GrantResult]:
    """Revokes grants of an app. Tokens that were already issued keep their scopes until they expire.

    - ``api``: the management API of the org.
    - ``app_id``: :attr:`App.id`.
    - ``scopes``, ``progress``: as for :func:`grant_scopes`.

    Raises the same errors as :func:`grant_scopes`.
    """
    wanted = _check_scopes(scopes)
    present = {grant.scope: grant.id for grant in list_grants(api, app_id)}

    def revoke(scope: str) -> GrantResult:
        if scope not in present:
            return GrantResult(scope, "absent")
        path = f"{_path(app_id)}/{path_segment(present[scope])}"
        change(api, "DELETE", path, lambda: scope not in _granted(api, app_id), f"{quoted(scope, 80)} is revoked")
        return GrantResult(scope, "revoked")

    return _try_all(wanted, revoke, progress)


def _try_all(
    scopes: Iterable[str], attempt: Callable[[str], GrantResult], progress: Callable[[GrantResult], None] | None
) -> list[GrantResult]:
    results: list[GrantResult] = []
    failure: ProvisioningError | None = None
    for scope in scopes:
        try:
            results.append(attempt(scope))
        except ProvisioningError as error:
            failure = failure or error
            results.append(GrantResult(scope, "failed"))
        if progress is not None:
            progress(results[-1])
    if failure is not None:
        raise failure
    return results


def _check_scopes(scopes: Iterable[str]) -> list[str]:
    """The scopes, checked, without duplicates, in order."""
    if isinstance(scopes, str):
        raise ConfigurationError("scopes must be a list, not a string.", remedy=f"Write scopes={scopes.split()!r}.")
    wanted = list(dict.fromkeys(scopes))
    for scope in wanted:
        if not scope.startswith(("okta.", "ssf.")):
            near = similar_scope(f"okta.{scope}") or similar_scope(scope)
            near = f"okta.{scope}" if f"okta.{scope}" in KNOWN_SCOPES else near
            raise ConfigurationError(
                f"{quoted(scope, 80)!r} is not a scope of Okta's own API, and only those can be granted to an app.",
                remedy=(f"Did you mean {near!r}? " if near else "")
                + "Scopes of a custom authorization server are given by its access policies.",
            )
        if scope.endswith(".self"):
            raise ConfigurationError(
                f"{quoted(scope, 80)!r} is about the user who is signed in, and a service app has no user.",
                remedy=f"Use {scope.removesuffix('.self')!r}.",
            )
    return wanted


def _grant_scope(api: ManagementApi, app_id: str, scope: str) -> None:
    try:
        api.call("POST", _path(app_id), {"issuer": api.org_url, "scopeId": scope})
    except InvalidRequest as error:
        near = similar_scope(scope)
        if near is None:
            raise
        raise InvalidRequest(
            f"Okta does not grant {quoted(scope, 80)!r}.",
            remedy=f"Did you mean {near!r}?",
            **response_details(error),
        ) from error


def _granted(api: ManagementApi, app_id: str) -> set[str]:
    return {grant.scope for grant in list_grants(api, app_id) if grant.status == "ACTIVE"}


def _path(app_id: str) -> str:
    return f"/api/v1/apps/{path_segment(app_id)}/grants"


def _grant(item: Mapping[str, Any]) -> Grant:
    try:
        return Grant(item["id"], item["scopeId"], item.get("status") or "ACTIVE")
    except (KeyError, TypeError):
        raise not_as_described("grant") from None
