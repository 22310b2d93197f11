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
from ..admin.management import ManagementApi
from .create_app import create, describe_app
from .grants import grant, revoke_grant, role_app, role_name
from .groups import command_group
from .options import Json, Yes
from .printing import report
from .secrets import confirm
from .sign_in import SignIn, signed_in, target_app
from .terminal import columns

__all__ = ["app"]

app = command_group("Create and delete service apps; grant scopes and assign admin roles.")
app.command()(create)

Named = Annotated[str | None, typer.Argument(metavar="[NAME|ID]", help="By default the configured app.")]


@app.command()
@signed_in
def show(sign_in: SignIn, name: Named = None, as_json: Json = False) -> None:
    """Show an app: its keys, scopes and admin roles."""
    api = sign_in()
    found = target_app(api, name)

    def list_if_allowed(names: Callable[[], Iterable[str]]) -> list[str] | None:
        try:
            return list(names())
        except (PermissionMissing, ScopeMissing):
            return None  # the account that signs in may see the app, but not these details

    scopes = list_if_allowed(lambda: (one.scope for one in provisioning.list_grants(api, found.id)))
    roles = list_if_allowed(lambda: (role_name(one) for one in provisioning.list_roles(api, found.client_id)))
    lines = describe_app(found)
    for title, values in (("scopes", scopes), ("roles", roles)):
        lines.append(f"{title:<12}{'not permitted to see' if values is None else ' '.join(values) or 'none'}")
    report({**asdict(found), "scopes": scopes, "roles": roles}, lines, as_json)


@app.command("list")
@signed_in
def list_(sign_in: SignIn, as_json: Json = False) -> None:
    """List the org's service apps."""
    found = list(provisioning.list_apps(sign_in()))
    rows = [["CLIENT ID", "STATUS", "KEYS", "NAME"]]
    rows += [[one.client_id, one.status, one.jwks_uri or str(len(one.keys)), one.name or "-"] for one in found]
    report([asdict(one) for one in found], columns(rows), as_json)


@app.command()
@signed_in
def edit(
    sign_in: SignIn,
    name: Named = None,
    dpop: Annotated[bool | None, typer.Option("--dpop/--no-dpop", help="Whether the app requires DPoP.")] = None,
    as_json: Json = False,
) -> None:
    """Change whether an app requires DPoP. Services that use OktaAuth adapt automatically."""
    if dpop is None:
        raise typer.BadParameter("There is nothing to change. Use --dpop or --no-dpop.")
    api = sign_in()
    changed = provisioning.set_dpop(api, target_app(api, name).id, dpop)
    report(asdict(changed), describe_app(changed), as_json)


@app.command()
@signed_in
def activate(sign_in: SignIn, name: Named = None, as_json: Json = False) -> None:
    """Let an app get tokens again."""
    api = sign_in()
    found = target_app(api, name)
    if found.status != "ACTIVE":
        provisioning.activate_app(api, found.id)
    _report_app(api, found.id, as_json)


@app.command()
@signed_in
def deactivate(sign_in: SignIn, name: Named = None, yes: Yes = False, as_json: Json = False) -> None:
    """Prevent an app from getting tokens until it is activated again."""
    api = sign_in()
    found = target_app(api, name)
    if found.status == "ACTIVE":
        confirm(f"Deactivate {found.name} ({found.id})? Its services will get no new tokens.", yes)
        provisioning.deactivate_app(api, found.id)
    _report_app(api, found.id, as_json)


@app.command()
@signed_in
def delete(
    sign_in: SignIn,
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="The app, by its name or id.")],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete an app permanently, with its keys, grants and roles. Its key file and okta.yaml stay."""
    api = sign_in()
    found = target_app(api, name)
    confirm(f"Delete {found.name} ({found.id}) permanently?", yes)
    provisioning.delete_app(api, found.id)
    report({**asdict(found), "status": "DELETED"}, [f"deleted  {found.name}  {found.id}"], as_json)


def _report_app(api: ManagementApi, id: str, as_json: bool) -> None:
    found = provisioning.get_app(api, id)
    report(asdict(found), describe_app(found), as_json)


app.command()(grant)
app.command("revoke-grant")(revoke_grant)
app.add_typer(role_app, name="role")
