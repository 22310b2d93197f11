"""``okta-m2m app grant``, ``app revoke-grant`` and ``app role``: the permissions of a service app.

Invariant: the scopes in the app's own ``okta.yaml`` are updated with the grants. A file that cannot be edited is
reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Annotated

import typer

from ..admin import provisioning
from ..admin.provisioning import App, GrantResult, Role
from ..errors import ConfigurationError
from .groups import command_group
from .options import AppName, As, Json, MaxWait, TokenFile, split_scopes
from .printing import echo, echo_json, note
from .settings_file import change_scopes
from .sign_in import configured_client, management_api, target_app
from .terminal import Output, columns

__all__ = ["grant", "revoke_grant", "role_app", "role_name"]

role_app = command_group("Admin roles of the app. A call needs a role as well as a scope.")

Scopes = Annotated[list[str], typer.Argument(metavar="SCOPE...", help="Scopes of Okta's own API: okta.users.read.")]


def grant(
    scopes: Scopes,
    app_name: AppName = None,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """Grant scopes to the app, and add them to its okta.yaml. It keeps the scopes that it has."""
    with management_api(token_file, as_, max_wait) as api:
        app = target_app(api, app_name)
        wanted = split_scopes(scopes)
        with _progress("granting", len(wanted), quiet=as_json) as advance:
            results = provisioning.grant_scopes(api, app.id, wanted, progress=advance)
    _report_app(app)
    _change_configured_scopes(app.client_id, add=wanted)
    if as_json:
        echo_json([asdict(result) for result in results])


def revoke_grant(
    scopes: Scopes,
    app_name: AppName = None,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """Revoke scopes of the app, and remove them from its okta.yaml. Tokens that were already issued keep them until
    they expire."""
    with management_api(token_file, as_, max_wait) as api:
        app = target_app(api, app_name)
        unwanted = split_scopes(scopes)
        with _progress("revoking", len(unwanted), quiet=as_json) as advance:
            results = provisioning.revoke_scopes(api, app.id, unwanted, progress=advance)
    _change_configured_scopes(app.client_id, remove=unwanted)
    if as_json:
        echo_json([asdict(result) for result in results])


@role_app.command("add")
def add_role(
    type_: Annotated[
        str | None,
        typer.Argument(metavar="[TYPE]", help="A standard role, in any case: READ_ONLY_ADMIN, APP_ADMIN, ..."),
    ] = None,
    custom: Annotated[str | None, typer.Option("--role", metavar="ID", help="A custom role (cr0...).")] = None,
    resource_set: Annotated[
        str | None, typer.Option(metavar="ID", help="The resource set of the custom role (iam...).")
    ] = None,
    app_name: AppName = None,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """Assign an admin role to the app: a standard one, or a custom one with a resource set."""
    if (type_ is None) == (custom is None) or (custom is None) != (resource_set is None):
        raise typer.BadParameter(
            "No role was given. Use the type of a standard role, or --role together with --resource-set."
        )
    with management_api(token_file, as_, max_wait) as api:
        app = target_app(api, app_name)
        if type_ is not None:
            result = provisioning.assign_role(api, app.client_id, type_)
        else:
            result = provisioning.assign_custom_role(api, app.client_id, str(custom), str(resource_set))
    _report_app(app)
    if as_json:
        echo_json(asdict(result))
    else:
        echo(f"{'assigned' if result.assigned else 'present':<10}{role_name(result.role)}")


@role_app.command("remove")
def remove_role(
    role: Annotated[str, typer.Argument(metavar="TYPE|ID", help="A standard role, or the id that role list shows.")],
    app_name: AppName = None,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """Unassign an admin role of the app."""
    with management_api(token_file, as_, max_wait) as api:
        client_id = target_app(api, app_name).client_id
        found = provisioning.find_role(api, client_id, role)
        provisioning.unassign_role(api, client_id, found.id)
    if as_json:
        echo_json(asdict(found))
    else:
        echo(f"removed   {role_name(found)}")


@role_app.command("list")
def list_roles(
    app_name: AppName = None,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """List the admin roles of the app."""
    with management_api(token_file, as_, max_wait) as api:
        roles = provisioning.list_roles(api, target_app(api, app_name).client_id)
    if as_json:
        echo_json([asdict(role) for role in roles])
        return
    rows = [["ID", "STATUS", "ROLE", "LABEL"]]
    rows += [[role.id, role.status, role_name(role), role.label] for role in roles]
    for line in columns(rows):
        echo(line)


def role_name(role: Role) -> str:
    """The type of a standard role; the ids of a custom role and its resource set."""
    return f"{role.role}/{role.resource_set}" if role.type == "CUSTOM" else role.type


def _report_app(app: App) -> None:
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


@contextmanager
def _progress(title: str, total: int, *, quiet: bool) -> Iterator[Callable[[GrantResult], None]]:
    """Yields a function that prints a line for each result. On a terminal, there is a progress bar as well."""
    # Imported here because it takes a twentieth of the command's start, and two commands use it.
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    output = Output()
    bar = Progress(TextColumn(title), BarColumn(), MofNCompleteColumn(), console=output, transient=True)
    task = bar.add_task(title, total=total)

    def advance(result: GrantResult) -> None:
        bar.advance(task)
        bar.refresh()
        if not quiet:
            output.print(f"{result.outcome:<10}{result.scope}", soft_wrap=True)

    with bar if output.can_redraw and not quiet else nullcontext():
        yield advance
