"""``okta-m2m audit``: all service apps of the org in one table, and what a policy does not allow.

Invariant: the exit code is 0 only if each policy was checked for each app, and allows all that was found.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ..admin import audit as org_audit
from ..admin.audit import AuditedApp, Policy
from .exits import Exit
from .options import Json, days, flag
from .printing import report
from .sign_in import SignIn, signed_in
from .terminal import columns


@signed_in
def audit(
    sign_in: SignIn,
    key_age: Annotated[int | None, days("--key-age", "Allow no active key of this age: 90d.")] = None,
    no_super_admin: Annotated[bool, flag("--no-super-admin", "Allow no role SUPER_ADMIN.")] = False,
    require_dpop: Annotated[bool, flag("--require-dpop", "Allow no app without DPoP.")] = False,
    unused_scopes: Annotated[
        int | None, days("--unused-scopes", "Allow no granted scope that was in no token for so long: 30d.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show all service apps: status, DPoP, age of each key, last token, roles, scopes.

    With policies, also lists what they do not allow, and then exits with 1.
    """
    found = org_audit.audit(sign_in(), Policy(key_age, no_super_admin, require_dpop, unused_scopes))
    heading = ["CLIENT ID", "STATUS", "DPOP", "KEY AGES", "LAST TOKEN", "ROLES", "SCOPES", "NAME"]
    lines = columns([heading, *(_row(one, found.log_visible) for one in found.apps)])
    for one in found.apps:
        lines += [f"{one.app.name} ({one.app.client_id}): {each.problem} {each.remedy}" for each in one.findings]
    report(asdict(found), lines, as_json)
    if any(one.findings for one in found.apps):
        raise typer.Exit(Exit.FAILED)


def _row(one: AuditedApp, log_visible: bool) -> list[str]:
    app, ages = one.app, zip(one.app.keys, one.key_ages, strict=True)
    keys = [f"{'?' if age is None else age}d{'' if key.active else ' (inactive)'}" for key, age in ages]
    last_token = (one.last_token or "none in 90d").partition("T")[0] if log_visible else "not permitted"
    names = ("not permitted" if found is None else " ".join(found) or "none" for found in (one.roles, one.scopes))
    dpop, key_ages = "required" if app.dpop else "no", app.jwks_uri or " ".join(keys) or "none"
    return [app.client_id, app.status or "-", dpop, key_ages, last_token, *names, app.name or "-"]
