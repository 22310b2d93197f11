"""``okta-m2m app``: create, change, show and delete service apps, grant scopes, and assign admin roles.

Invariants: an existing app is shown, not changed. Nothing is created twice unless requested, and nothing is deleted
without confirmation. The scopes in the app's own ``okta.yaml`` are updated with the grants. A file that cannot be edited is
reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from ..admin import provisioning
from ..admin.management import ManagementApi
from ..admin.provisioning import App, GrantResult
from ..errors import ConfigurationError
from ..settings import find_setting
from .create_app import create, describe_app, list_if_allowed
from .groups import command_group
from .options import AppName, Json, Yes, argument, flag, option, split_scopes
from .printing import echo, echo_json, note, report
from .secrets import confirm
from .settings_file import change_scopes
from .sign_in import SignIn, configured_client, signed_in, target_app
from .terminal import columns

app = command_group("Create and delete service apps; grant scopes and assign admin roles.")
app.command()(create)

Named = Annotated[str | None, argument("[NAME|ID]", "By default the configured app.")]
Scopes = Annotated[
    list[str], argument("SCOPE...", "Scopes of Okta's own API: okta.users.read.", sorted(provisioning.KNOWN_SCOPES))
]


@app.command()
@signed_in
def show(sign_in: SignIn, name: Named = None, as_json: Json = False) -> None:
    """Show an app: its keys, scopes and admin roles."""
    api, found = target_app(sign_in, name)
    scopes = list_if_allowed(lambda: (one.scope for one in provisioning.list_grants(api, found.id)))
    roles = list_if_allowed(lambda: (one.name for one in provisioning.list_roles(api, found.client_id)))
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
    rows += [[one.client_id, one.status or "-", one.jwks_uri or str(len(one.keys)), one.name or "-"] for one in found]
    report([asdict(one) for one in found], columns(rows), as_json)


@app.command()
@signed_in
def edit(
    sign_in: SignIn,
    name: Named = None,
    dpop: Annotated[bool | None, flag("--dpop/--no-dpop", "Whether the app requires DPoP.")] = None,
    as_json: Json = False,
) -> None:
    """Change whether an app requires DPoP. Services that use OktaAuth adapt automatically."""
    if dpop is None:
        raise typer.BadParameter("There is nothing to change. Use --dpop or --no-dpop.")
    api, found = target_app(sign_in, name)
    changed = provisioning.set_dpop(api, found.id, dpop)
    report(asdict(changed), describe_app(changed), as_json)


@app.command()
@signed_in
def activate(sign_in: SignIn, name: Named = None, as_json: Json = False) -> None:
    """Let an app get tokens again."""
    api, found = target_app(sign_in, name)
    if found.status != "ACTIVE":
        provisioning.activate_app(api, found.id)
    _report_app(api, found.id, as_json)


@app.command()
@signed_in
def deactivate(sign_in: SignIn, name: Named = None, yes: Yes = False, as_json: Json = False) -> None:
    """Prevent an app from getting tokens until it is activated again."""
    api, found = target_app(sign_in, name)
    if found.status == "ACTIVE":
        confirm(f"Deactivate {found.name} ({found.id})? Its services will get no new tokens.", yes)
        provisioning.deactivate_app(api, found.id)
    _report_app(api, found.id, as_json)


@app.command()
@signed_in
def delete(
    sign_in: SignIn,
    name: Annotated[str, argument("NAME|ID", "The app, by its name or id.")],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete an app permanently, with its keys, grants and roles. Its key file and okta.yaml stay."""
    api, found = target_app(sign_in, name)
    confirm(f"Delete {found.name} ({found.id}) permanently?", yes)
    provisioning.delete_app(api, found.id)
    report({**asdict(found), "status": "DELETED"}, [f"deleted  {found.name}  {found.id}"], as_json)


@app.command()
@signed_in
def grant(sign_in: SignIn, scopes: Scopes, app_name: AppName = None, as_json: Json = False) -> None:
    """Grant scopes to the app, and add them to its okta.yaml. It keeps the scopes that it has."""
    api, found = target_app(sign_in, app_name)
    server = find_setting("authorizationServer")
    change = partial(provisioning.grant_scopes, authorization_server="SERVER" if server is None else str(server.value))
    _change_grants(change, api, found, scopes, as_json, "add")


@app.command("revoke-grant")
@signed_in
def revoke_grant(sign_in: SignIn, scopes: Scopes, app_name: AppName = None, as_json: Json = False) -> None:
    """Revoke scopes of the app, and remove them from its okta.yaml. Tokens that were already issued keep them until
    they expire."""
    api, found = target_app(sign_in, app_name)
    _change_grants(provisioning.revoke_scopes, api, found, scopes, as_json, "remove")


def _change_grants(
    change: Callable[..., object], api: ManagementApi, app: App, scopes: list[str], as_json: bool, way: str
) -> None:
    """Changes grants and the configured scopes, and reports what was changed, even if one of the scopes fails."""
    done: list[GrantResult] = []

    def report_one(result: GrantResult) -> None:
        done.append(result)
        if not as_json:
            echo(f"{result.outcome:<10}{result.scope}")

    try:
        change(api, app.id, split_scopes(scopes), progress=report_one)
    finally:
        if done:
            _note_app(app)
            _change_configured_scopes(app.client_id, way, [result.scope for result in done])
            if as_json:
                echo_json([asdict(result) for result in done])


role_app = command_group("Admin roles of the app. A call needs a role as well as a scope.")
app.add_typer(role_app, name="role")

_ROLE_HELP = "A standard role, in any case: READ_ONLY_ADMIN, APP_ADMIN, ..."


@role_app.command("add")
@signed_in
def add_role(
    sign_in: SignIn,
    type_: Annotated[str | None, argument("[TYPE]", _ROLE_HELP, provisioning.STANDARD_ROLES)] = None,
    custom: Annotated[str | None, option("--role", "ID", "A custom role (cr0...).")] = None,
    resource_set: Annotated[
        str | None, option("--resource-set", "ID", "The resource set of the custom role (iam...).")
    ] = None,
    app_name: AppName = None,
    as_json: Json = False,
) -> None:
    """Assign an admin role to the app: a standard one, or a custom one with a resource set."""
    if (type_ is None) == (custom is None) or (custom is None) != (resource_set is None):
        raise typer.BadParameter(
            "No role was given. Use the type of a standard role, or --role together with --resource-set."
        )
    api, found = target_app(sign_in, app_name)
    if type_ is not None:
        result = provisioning.assign_role(api, found.client_id, type_)
    else:
        result = provisioning.assign_custom_role(api, found.client_id, str(custom), str(resource_set))
    _note_app(found)
    outcome = "assigned" if result.assigned else "present"
    report(asdict(result), [f"{outcome:<10}{result.role.name}"], as_json)


@role_app.command("remove")
@signed_in
def remove_role(
    sign_in: SignIn,
    role: Annotated[str, argument("TYPE|ID", "A standard role, or the id that role list shows.")],
    app_name: AppName = None,
    as_json: Json = False,
) -> None:
    """Unassign an admin role of the app."""
    api, found = target_app(sign_in, app_name)
    removed = provisioning.find_role(api, found.client_id, role)
    provisioning.unassign_role(api, found.client_id, removed.id)
    report({**asdict(removed), "status": "REMOVED"}, [f"removed   {removed.name}"], as_json)


@role_app.command("list")
@signed_in
def list_roles(sign_in: SignIn, app_name: AppName = None, as_json: Json = False) -> None:
    """List the admin roles of the app."""
    api, found = target_app(sign_in, app_name)
    roles = provisioning.list_roles(api, found.client_id)
    rows = [["ID", "STATUS", "ROLE", "LABEL"]]
    rows += [[role.id, role.status, role.name, role.label] for role in roles]
    report([asdict(role) for role in roles], columns(rows), as_json)


def _note_app(app: App) -> None:
    """Names the app: its client id may be from a file that someone else wrote."""
    note(f"The app is {app.name} ({app.client_id}).")


def _change_configured_scopes(client_id: str, way: str, changed: list[str]) -> None:
    """Changes the scopes in the ``okta.yaml`` that names this app, if one does."""
    try:
        configured, path = configured_client()
    except ConfigurationError:
        return
    if configured != client_id:
        return
    if path is None:
        changes = ", ".join(f"{way} {scope}" for scope in changed)
        note(f"The app is configured by variables. Change OKTA_CLIENT_SCOPES: {changes}.")
        return
    try:
        scopes = change_scopes(path, **{way: changed})
    except (ConfigurationError, OSError) as error:
        note(f"The scopes in {path} were not changed: {error}")
        return
    if scopes is not None:
        note(f"The scopes in {path} are now: {' '.join(scopes) or 'none'}.")


def _report_app(api: ManagementApi, id: str, as_json: bool) -> None:
    found = provisioning.get_app(api, id)
    report(asdict(found), describe_app(found), as_json)
