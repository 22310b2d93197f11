"""``okta-m2m app``: create a service app, grant it scopes, assign it admin roles, and show all of these.

Invariant: what already exists is shown and not changed. Nothing is created twice unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Annotated

import typer

from ..admin.errors import PermissionMissing, ScopeMissing
from .create_app import create, describe_app
from .grants import grant, revoke_grant, role_app, role_name
from .options import As, Json, MaxWait, TokenFile, ViaName, parse_via
from .printing import echo, echo_json
from .sign_in import management_api, target_app
from .terminal import columns

# Modules of ..admin are imported inside functions: they import requests, which --help does not need.

__all__ = ["app"]

app = typer.Typer(help="Create a service app, grant it scopes, assign it admin roles.", no_args_is_help=True)
app.command()(create)


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(metavar="[NAME|ID]", help="By default the configured app.")] = None,
    via: ViaName = "apps",
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """Show an app: its keys, scopes and admin roles."""
    endpoint = parse_via(via)
    with management_api("okta-m2m app show", token_file, as_, max_wait) as api:
        from ..admin.provisioning import list_grants, list_roles

        found = target_app(api, name, endpoint)

        def list_if_allowed(names: Callable[[], Iterable[str]]) -> list[str] | None:
            try:
                return list(names())
            except (PermissionMissing, ScopeMissing):
                return None  # the account that signs in may see the app, but not these

        scopes = list_if_allowed(lambda: (one.scope for one in list_grants(api, found.id)))
        roles = list_if_allowed(lambda: (role_name(one) for one in list_roles(api, found.client_id)))
    if as_json:
        echo_json({**asdict(found), "scopes": scopes, "roles": roles})
        return
    for line in describe_app(found):
        echo(line)
    for title, values in (("scopes", scopes), ("roles", roles)):
        echo(f"{title:<12}{'not permitted to see' if values is None else ' '.join(values) or 'none'}")


@app.command("list")
def list_(
    via: ViaName = "apps",
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """List the org's service apps."""
    endpoint = parse_via(via)
    with management_api("okta-m2m app list", token_file, as_, max_wait) as api:
        from ..admin.provisioning import list_apps

        found = list(list_apps(api, via=endpoint))
    if as_json:
        echo_json([asdict(one) for one in found])
        return
    rows = [["CLIENT ID", "STATUS", "KEYS", "NAME"]]
    rows += [[one.client_id, one.status, one.jwks_uri or str(len(one.keys)), one.name] for one in found]
    for line in columns(rows):
        echo(line)


app.command()(grant)
app.command("revoke-grant")(revoke_grant)
app.add_typer(role_app, name="role")
