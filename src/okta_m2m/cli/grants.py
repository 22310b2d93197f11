"""``okta-m2m app grant``, ``app revoke-grant`` and ``app role``: the permissions of a service app.

Invariant: the scopes in the app's own ``okta.yaml`` are updated with the grants. A file that cannot be edited is
reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

import typer

from ..admin import provisioning
from ..admin.provisioning import App, GrantResult, Role
from ..errors import ConfigurationError
from .groups import command_group
from .options import AppName, Json, split_scopes
from .printing import echo, echo_json, note, report
from .settings_file import change_scopes
from .sign_in import SignIn, configured_client, signed_in, target_app
from .terminal import columns

__all__ = ["grant", "revoke_grant", "role_app", "role_name"]

role_app = command_group("Admin roles of the app. A call needs a role as well as a scope.")

Scopes = Annotated[list[str], typer.Argument(metavar="SCOPE...", help="Scopes of Okta's own API: okta.users.read.")]


@signed_in
def grant(sign_in: SignIn, scopes: Scopes, app_name: AppName = None, as_json: Json = False) -> None:
    """Grant scopes to the app, and add them to its okta.yaml. It keeps the scopes that it has."""
    api = sign_in()
    app, wanted = target_app(api, app_name), split_scopes(scopes)
    results = provisioning.grant_scopes(api, app.id, wanted, progress=None if as_json else _echo_result)
    _note_app(app)
    _change_configured_scopes(app.client_id, add=wanted)
    if as_json:
        echo_json([asdict(result) for result in results])


@signed_in
def revoke_grant(sign_in: SignIn, scopes: Scopes, app_name: AppName = None, as_json: Json = False) -> None:
    """Revoke scopes of the app, and remove them from its okta.yaml. Tokens that were already issued keep them until
    they expire."""
    api = sign_in()
    app, unwanted = target_app(api, app_name), split_scopes(scopes)
    results = provisioning.revoke_scopes(api, app.id, unwanted, progress=None if as_json else _echo_result)
    _change_configured_scopes(app.client_id, remove=unwanted)
    if as_json:
        echo_json([asdict(result) for result in results])


@role_app.command("add")
@signed_in
def add_role(
    sign_in: SignIn,
    type_: Annotated[
        str | None,
        typer.Argument(metavar="[TYPE]", help="A standard role, in any case: READ_ONLY_ADMIN, APP_ADMIN, ..."),
    ] = None,
    custom: Annotated[str | None, typer.Option("--role", metavar="ID", help="A custom role (cr0...).")] = None,
    resource_set: Annotated[
        str | None, typer.Option(metavar="ID", help="The resource set of the custom role (iam...).")
    ] = None,
    app_name: AppName = None,
    as_json: Json = False,
) -> None:
    """Assign an admin role to the app: a standard one, or a custom one with a resource set."""
    if (type_ is None) == (custom is None) or (custom is None) != (resource_set is None):
        raise typer.BadParameter(
            "No role was given. Use the type of a standard role, or --role together with --resource-set."
        )
    api = sign_in()
    app = target_app(api, app_name)
    if type_ is not None:
        result = provisioning.assign_role(api, app.client_id, type_)
    else:
        result = provisioning.assign_custom_role(api, app.client_id, str(custom), str(resource_set))
    _note_app(app)
    outcome = "assigned" if result.assigned else "present"
    report(asdict(result), [f"{outcome:<10}{role_name(result.role)}"], as_json)


@role_app.command("remove")
@signed_in
def remove_role(
    sign_in: SignIn,
    role: Annotated[str, typer.Argument(metavar="TYPE|ID", help="A standard role, or the id that role list shows.")],
    app_name: AppName = None,
    as_json: Json = False,
) -> None:
    """Unassign an admin role of the app."""
    api = sign_in()
    client_id = target_app(api, app_name).client_id
    found = provisioning.find_role(api, client_id, role)
    provisioning.unassign_role(api, client_id, found.id)
    report({**asdict(found), "status": "REMOVED"}, [f"removed   {role_name(found)}"], as_json)


@role_app.command("list")
@signed_in
def list_roles(sign_in: SignIn, app_name: AppName = None, as_json: Json = False) -> None:
    """List the admin roles of the app."""
    api = sign_in()
    roles = provisioning.list_roles(api, target_app(api, app_name).client_id)
    rows = [["ID", "STATUS", "ROLE", "LABEL"]]
    rows += [[role.id, role.status, role_name(role), role.label] for role in roles]
    report([asdict(role) for role in roles], columns(rows), as_json)


def role_name(role: Role) -> str:
    """The type of a standard role; the ids of a custom role and its resource set."""
    return f"{role.role}/{role.resource_set}" if role.type == "CUSTOM" else role.type


def _note_app(app: App) -> None:
    """Names the app: its client id may be from a file that somebody else wrote."""
    note(f"The app is {app.name} ({app.client_id}).")


def _change_configured_scopes(client_id: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
    """Changes the scopes in the ``okta.yaml`` that names this app, if one does."""
    try:
        configured, path = configured_client()
    except ConfigurationError:
        return
    if configured != client_id:
        return
    if path is None:
        changes = [f"add {scope}" for scope in add] + [f"remove {scope}" for scope in remove]
        note(f"The app is configured by variables. Change OKTA_CLIENT_SCOPES: {', '.join(changes)}.")
        return
    try:
        scopes = change_scopes(path, add=add, remove=remove)
    except (ConfigurationError, OSError) as error:
        note(f"The scopes in {path} were not changed: {error}")
        return
    if scopes is not None:
        note(f"The scopes in {path} are now: {' '.join(scopes) or 'none'}.")


def _echo_result(result: GrantResult) -> None:
    echo(f"{result.outcome:<10}{result.scope}")
