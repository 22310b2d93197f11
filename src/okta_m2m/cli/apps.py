"""``okta-m2m app``: create a service app, grant it scopes, assign it admin roles, and look at all that.

Invariant: what is there already is shown and left as it is; nothing is made twice unasked.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from .exits import Exit, complain
from .okta_yaml import change_scopes, put, setting_in
from .secrets import KeyFile, Kid, PassphraseFile, configured_key_file, configured_path, load_key, own_kid
from .sign_in import AppName, As, MaxWait, TokenFile, ViaName, checked_via, client_settings, meant_app, signed_in
from .terminal import Output, columns, note

if TYPE_CHECKING:
    from ..admin.management import ManagementApi
    from ..admin.provisioning import App, GrantResult, Role, Via
    from ..keys import PrivateKey

__all__ = ["app"]

app = typer.Typer(help="Create a service app; grant it scopes; assign it admin roles.", no_args_is_help=True)
role = typer.Typer(help="Admin roles of the app: a call needs one, as well as the scope.", no_args_is_help=True)
app.add_typer(role, name="role")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Scopes = Annotated[list[str], typer.Argument(metavar="SCOPE...", help="Scopes of Okta's own API: okta.users.read.")]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Its name; an app that has it already is shown, and not made again.")],
    via: ViaName = "apps",
    key_file: KeyFile = None,
    kid: Kid = None,
    passphrase_file: PassphraseFile = None,
    jwks: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Register the public keys of this JWKS, in place of --key.")
    ] = None,
    jwks_uri: Annotated[str | None, typer.Option(metavar="URL", help="Let Okta fetch the public keys there.")] = None,
    dpop: Annotated[bool, typer.Option("--dpop", help="Let the app require DPoP.")] = False,
    client_id: Annotated[str | None, typer.Option(help="A client id of your choice; only via apps.")] = None,
    twin: Annotated[bool, typer.Option("--twin", help="Make a second app of the same name.")] = False,
    write: Annotated[Path, typer.Option(metavar="FILE", help="Where the app's settings go.")] = Path("okta.yaml"),
    env: Annotated[bool, typer.Option("--env", help="Print the settings as export lines, and write no file.")] = False,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
) -> None:
    """Create a service app that signs in with a key, and write the settings for it to okta.yaml."""
    chosen = checked_via(via)
    key, path, document = _keys_for(key_file, kid, passphrase_file, jwks, jwks_uri)
    with signed_in("okta-m2m app create", token_file, as_, max_wait) as api:
        from ..admin.provisioning import create_app, environment_lines

        if not env:
            _check_room(api, write, name, chosen)
        made = create_app(
            api, name, jwks=document, jwks_uri=jwks_uri, via=chosen, dpop=dpop, client_id=client_id, twin=twin
        )
        (note if env else typer.echo)(
            "\n".join(_described(made.app, "created" if made.created else "is there already"))
        )
        if made.keys_missing:
            complain(
                f"The app has not the key {', '.join(made.keys_missing)}. Register it with: okta-m2m key add --app "
                f"{made.app.id}; or make another app of that name with --twin"
            )
            raise typer.Exit(Exit.FAILED)
        shown = str(path) if path is not None else "PATH-OF-THE-KEY"
        kid_apart = {} if key is None else _kid_apart(None if env else write, key, path, made.app)
        if env:
            for line in environment_lines(api.org_url, made.app.client_id, shown, []):
                if not line.startswith("export OKTA_CLIENT_SCOPES="):
                    typer.echo(line)
            for registered in kid_apart.values():
                typer.echo(f"export OKTA_CLIENT_KID={shlex.quote(registered)}")
            return
        values = {"orgUrl": api.org_url, "authorizationMode": "PrivateKey", "clientId": made.app.client_id}
        if path is not None:
            values["privateKey"] = _from(write, path)
        values |= kid_apart
        put(write, values)
        note(f"{write} has its settings" + ("." if key is not None else "; put privateKey: into it yourself."))


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(metavar="[NAME|ID]", help="Otherwise the configured app.")] = None,
    via: ViaName = "apps",
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """Show an app: its keys, scopes and admin roles."""
    chosen = checked_via(via)
    with signed_in("okta-m2m app show", token_file, as_, max_wait) as api:
        from ..admin.errors import PermissionMissing, ScopeMissing
        from ..admin.provisioning import list_grants, list_roles

        found = meant_app(api, name, chosen)

        def seen(what: Callable[[], Iterable[str]]) -> list[str] | None:
            try:
                return list(what())
            except (PermissionMissing, ScopeMissing):
                return None  # whoever signs in may see the app, and not this

        scopes = seen(lambda: (grant.scope for grant in list_grants(api, found.id)))
        roles = seen(lambda: (_role_name(one) for one in list_roles(api, found.client_id)))
    if as_json:
        typer.echo(json.dumps({**asdict(found), "scopes": scopes, "roles": roles}, indent=2))
        return
    for line in _described(found):
        typer.echo(line)
    for title, values in (("scopes", scopes), ("roles", roles)):
        typer.echo(f"{title:<12}{'may not be seen' if values is None else ' '.join(values) or 'none'}")


@app.command("list")
def list_(
    via: ViaName = "apps",
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """List the org's service apps."""
    chosen = checked_via(via)
    with signed_in("okta-m2m app list", token_file, as_, max_wait) as api:
        from ..admin.provisioning import list_apps

        found = list(list_apps(api, via=chosen))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    rows = [["CLIENT ID", "STATUS", "KEYS", "NAME"]]
    rows += [[one.client_id, one.status, one.jwks_uri or str(len(one.keys)), one.name] for one in found]
    for line in columns(rows):
        typer.echo(line)


@app.command()
def grant(
    scopes: Scopes, app_name: AppName = None, token_file: TokenFile = None, as_: As = None, max_wait: MaxWait = 120
) -> None:
    """Grant scopes to the app, one call each; those that it has stay. An okta.yaml that is the app's asks for them, too."""
    with signed_in("okta-m2m app grant", token_file, as_, max_wait) as api:
        from ..admin.provisioning import grant_scopes

        found = meant_app(api, app_name)
        wanted = _separated(scopes)
        with _Bar("granting", len(wanted)) as bar:
            grant_scopes(api, found.id, wanted, progress=bar.told)
    _ask_for(found.client_id, add=wanted)


@app.command("revoke-grant")
def revoke_grant(
    scopes: Scopes, app_name: AppName = None, token_file: TokenFile = None, as_: As = None, max_wait: MaxWait = 120
) -> None:
    """Take scopes back from the app. Tokens that it has keep theirs until they end."""
    with signed_in("okta-m2m app revoke-grant", token_file, as_, max_wait) as api:
        from ..admin.provisioning import revoke_scopes

        found = meant_app(api, app_name)
        wanted = _separated(scopes)
        with _Bar("revoking", len(wanted)) as bar:
            revoke_scopes(api, found.id, wanted, progress=bar.told)
    _ask_for(found.client_id, remove=wanted)


@role.command("add")
def add_role(
    type_: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="A standard role: READ_ONLY_ADMIN, APP_ADMIN, ...")
    ] = None,
    custom: Annotated[str | None, typer.Option("--role", metavar="ID", help="A custom role (cr0...).")] = None,
    resource_set: Annotated[str | None, typer.Option(metavar="ID", help="Its resource set (iam...).")] = None,
    app_name: AppName = None,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
) -> None:
    """Assign an admin role to the app: a standard one, or a custom one with a resource set."""
    if (type_ is None) == (custom is None) or (custom is None) != (resource_set is None):
        raise typer.BadParameter("Give the type of a standard role, or --role together with --resource-set.")
    with signed_in("okta-m2m app role add", token_file, as_, max_wait) as api:
        from ..admin.provisioning import assign_custom_role, assign_role

        client_id = meant_app(api, app_name).client_id
        if type_ is not None:
            result = assign_role(api, client_id, type_)
        else:
            result = assign_custom_role(api, client_id, str(custom), str(resource_set))
    typer.echo(f"{'assigned' if result.assigned else 'present':<10}{_role_name(result.role)}")


@role.command("list")
def list_roles_(
    app_name: AppName = None,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """List the admin roles of the app."""
    with signed_in("okta-m2m app role list", token_file, as_, max_wait) as api:
        from ..admin.provisioning import list_roles

        found = list_roles(api, meant_app(api, app_name).client_id)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    for line in columns(
        [["ID", "STATUS", "ROLE", "LABEL"], *([r.id, r.status, _role_name(r), r.label] for r in found)]
    ):
        typer.echo(line)


def _keys_for(
    key_file: Path | None, kid: str | None, passphrase_file: Path | None, jwks: Path | None, jwks_uri: str | None
) -> tuple[PrivateKey | None, Path | None, dict[str, Any] | None]:
    """The private key, its file, and the JWKS to register."""
    if sum(given is not None for given in (key_file, jwks, jwks_uri)) > 1:
        raise ConfigurationError("--key, --jwks and --jwks-uri are three ways to give the keys. Give one of them.")
    if jwks_uri is not None:
        return None, None, None
    if jwks is not None:
        return None, None, _public_document(jwks)
    key = load_key(key_file, kid=kid, passphrase_file=passphrase_file)
    # A PEM has no kid; registered with its thumbprint, it can be converted and rotated later.
    document: dict[str, Any] = {**key.with_kid(key.kid or key.thumbprint()).jwks()}
    return key, key_file or configured_key_file() or configured_path(), document


def _kid_apart(write: Path | None, key: PrivateKey, path: Path | None, app: App) -> dict[str, str]:
    """The setting of the ``kid``, where the key does not bring along the one under which Okta has it."""
    registered = next((one.kid for one in app.keys if one.thumbprint == key.thumbprint()), None)
    if registered is None:
        return {}
    names = ("kid", "privateKeyId", "keyId")
    present = None if write is None else next((name for name in names if setting_in(write, name)), None)
    return {} if present is None and registered == own_kid(path) else {present or "kid": registered}


def _public_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}). Check the path.") from None
    except (ValueError, RecursionError):
        document = None
    keys = document.get("keys", [document]) if isinstance(document, dict) else None
    if not isinstance(keys, list) or not all(isinstance(jwk, dict) and "kty" in jwk for jwk in keys):
        raise ConfigurationError(f"{path} holds no JWKS. Write one with: okta-m2m key jwks FILE")
    return {"keys": keys}


def _check_room(api: ManagementApi, path: Path, name: str, via: Via) -> None:
    """Refuses, before anything is made, a settings file that is for another app, or that cannot be written."""
    from ..admin.errors import NotFound
    from ..admin.key_files import check_replaceable
    from ..admin.provisioning import find_app

    real = Path(os.path.realpath(path))
    if not os.access(real.parent, os.W_OK):
        raise ConfigurationError(
            f"{path} cannot be written, so nothing was made. Check that its folder is there, and that you may write to it; "
            "or have export lines printed (--env)."
        )
    if real.exists():
        check_replaceable(real)
    present = setting_in(path, "clientId")
    if present is None:
        return
    try:
        if find_app(api, name, via=via).client_id == present:
            return
    except NotFound:
        pass
    raise ConfigurationError(
        f"{path} is for another app already ({present}), so nothing was made. Write another file (--write "
        "FOLDER/okta.yaml), or have export lines printed (--env)."
    )


def _from(settings_file: Path, key_file: Path) -> str:
    """The key's path as a file beside it names it, which is relative to that file."""
    folder, path = settings_file.absolute().parent, key_file.absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _described(found: App, outcome: str | None = None) -> list[str]:
    keys = [key.kid or key.thumbprint for key in found.keys if key.active]
    lines = {
        "app": found.name + (f" ({outcome})" if outcome else ""),
        "client id": found.client_id,
        **({"id": found.id} if found.id != found.client_id else {}),
        "status": found.status,
        "keys": found.jwks_uri or " ".join(keys) or "none",
    }
    if found.dpop is not None:
        lines["DPoP"] = "required" if found.dpop else "not required"
    return [f"{name:<12}{value}" for name, value in lines.items()]


def _role_name(one: Role) -> str:
    return f"{one.role}/{one.resource_set}" if one.type == "CUSTOM" else one.type


def _separated(scopes: list[str]) -> list[str]:
    return [name for text in scopes for name in text.replace(",", " ").split()]


def _ask_for(client_id: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
    """Keeps the scopes of the app's own okta.yaml what is granted; a file that cannot be edited is told of."""
    try:
        configured, path = client_settings()
    except ConfigurationError:
        return
    if configured != client_id or path is None:
        return
    try:
        after = change_scopes(path, add=add, remove=remove)
    except (ConfigurationError, OSError) as error:
        note(f"The scopes in {path} are as before: {error}")
        return
    if after is not None:
        note(f"{path} asks for {' '.join(after) or 'no scopes'}.")


class _Bar:
    """A progress bar on a terminal; elsewhere a line for each scope."""

    def __init__(self, what: str, total: int) -> None:
        self._output = Output()
        self._moves = self._output.moves
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn(what), BarColumn(), MofNCompleteColumn(), console=self._output, transient=True
        )
        self._task = self._progress.add_task(what, total=total)

    def __enter__(self) -> _Bar:
        if self._moves:
            self._progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._moves:
            self._progress.stop()

    def told(self, result: GrantResult) -> None:
        self._progress.advance(self._task)
        if self._moves:
            self._progress.refresh()
        self._output.print(f"{result.outcome:<10}{result.scope}", soft_wrap=True)
