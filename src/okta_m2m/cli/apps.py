"""``okta-m2m app``: create, change, show and delete service apps, grant scopes, and assign admin roles.

Invariant: an existing app is shown, not changed. Nothing is created twice unless requested, and nothing is deleted
without confirmation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Annotated

import typer

from ..admin import provisioning
from ..admin.errors import PermissionMissing, ScopeMissing
from ..admin.provisioning import App
from .create_app import create, describe_app
from .grants import grant, revoke_grant, role_app, role_name
from .groups import command_group
from .options import As, Json, MaxWait, TokenFile, ViaName, Yes, parse_via
from .printing import echo, echo_json
from .secrets import confirm
from .sign_in import management_api, target_app
from .terminal import columns

__all__ = ["app"]

app = command_group("Create and delete service apps; grant scopes and assign admin roles.")
app.command()(create)

Named = Annotated[str | None, typer.Argument(metavar="[NAME|ID]", help="By default the configured app.")]


@app.command()
def show(
    name: Named = None,
    via: ViaName = "apps",
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """Show an app: its keys, scopes and admin roles."""
    endpoint = parse_via(via)
    with management_api(token_file, as_, max_wait) as api:
        found = target_app(api, name, endpoint)

        def list_if_allowed(names: Callable[[], Iterable[str]]) -> list[str] | None:
            try:
                return list(names())
            except (PermissionMissing, ScopeMissing):
                return None  # the account that signs in may see the app, but not these details

        scopes = list_if_allowed(lambda: (one.scope for one in provisioning.list_grants(api, found.id)))
        roles = list_if_allowed(lambda: (role_name(one) for one in provisioning.list_roles(api, found.client_id)))
    if as_json:
        echo_json({**asdict(found), "scopes": scopes, "roles": roles})
        return
    _show(found, as_json=False)
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
    with management_api(token_file, as_, max_wait) as api:
        found = list(provisioning.list_apps(api, via=endpoint))
    if as_json:
        echo_json([asdict(one) for one in found])
        return
    rows = [["CLIENT ID", "STATUS", "KEYS", "NAME"]]
    rows += [[one.client_id, one.status, one.jwks_uri or str(len(one.keys)), one.name] for one in found]
    for line in columns(rows):
        echo(line)


@app.command()
def edit(
    name: Named = None,
    dpop: Annotated[bool | None, typer.Option("--dpop/--no-dpop", help="Whether the app requires DPoP.")] = None,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """Change whether an app requires DPoP. Services that use OktaAuth adapt automatically."""
    if dpop is None:
        raise typer.BadParameter("There is nothing to change. Use --dpop or --no-dpop.")
    with management_api(token_file, as_, max_wait) as api:
        _show(provisioning.set_dpop(api, target_app(api, name).id, dpop), as_json)


@app.command()
def activate(
    name: Named = None, token_file: TokenFile = None, as_: As = None, max_wait: MaxWait = 120, as_json: Json = False
) -> None:
    """Let an app get tokens again."""
    with management_api(token_file, as_, max_wait) as api:
        found = target_app(api, name)
        if found.status != "ACTIVE":
            provisioning.activate_app(api, found.id)
        _show(provisioning.get_app(api, found.id), as_json)


@app.command()
def deactivate(
    name: Named = None,
    yes: Yes = False,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """Prevent an app from getting tokens until it is activated again."""
    with management_api(token_file, as_, max_wait) as api:
        found = target_app(api, name)
        if found.status == "ACTIVE":
            confirm(f"Deactivate {found.name} ({found.id})? Its services will get no new tokens.", yes)
            provisioning.deactivate_app(api, found.id)
        _show(provisioning.get_app(api, found.id), as_json)


@app.command()
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="The app, by its name or id.")],
    yes: Yes = False,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """Delete an app permanently, with its keys, grants and roles. Its key file and okta.yaml stay."""
    with management_api(token_file, as_, max_wait) as api:
        found = target_app(api, name)
        confirm(f"Delete {found.name} ({found.id}) permanently?", yes)
        provisioning.delete_app(api, found.id)
    if as_json:
        echo_json({**asdict(found), "status": "DELETED"})
    else:
        echo(f"deleted  {found.name}  {found.id}")


def _show(found: App, as_json: bool) -> None:
    if as_json:
        echo_json(asdict(found))
        return
    for line in describe_app(found):
        echo(line)


app.command()(grant)
app.command("revoke-grant")(revoke_grant)
app.add_typer(role_app, name="role")
