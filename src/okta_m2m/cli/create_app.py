"""``okta-m2m app create``: create a service app that signs in with a key, and write its settings.

Invariant: before anything is created, the command checks that the settings can be written and do not overwrite those
of another app.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast, get_args

import typer

from ..admin.errors import NotFound, PermissionMissing, ScopeMissing
from ..admin.key_files import write_kid
from ..admin.management import ManagementApi
from ..admin.provisioning import App, Created, Via, create_app, find_app, list_grants
from ..errors import ConfigurationError
from ..keys import PrivateKey
from .exits import Exit, fail
from .options import Json, KeyFile, Kid, PassphraseFile, flag, option
from .printing import echo, echo_json, note
from .secrets import configured_key_file, default_key_file, load_key, signing_kid, with_kid
from .settings_file import check_settings_file, read_setting, write_settings
from .sign_in import SignIn, signed_in

_WRITTEN = ("orgUrl", "authorizationMode", "clientId", "privateKey", "kid")


class _Keys(NamedTuple):
    """The keys of the new app."""

    private: PrivateKey | None
    file: Path | None
    """The file of the private key; ``None`` if it is not known."""
    jwks: dict[str, Any] | None
    """The keys to register; ``None`` if Okta fetches them."""


@signed_in
def create(
    sign_in: SignIn,
    name: Annotated[
        str, option("--name", "NAME", "The app's name. If an app already has this name, it is shown instead.")
    ],
    via: Annotated[
        str, option("--via", "apps|clients", "Use /api/v1/apps, or /oauth2/v1/clients.", get_args(Via))
    ] = "apps",
    key_file: KeyFile = None,
    kid: Kid = None,
    passphrase_file: PassphraseFile = None,
    jwks: Annotated[
        Path | None, option("--jwks", "FILE", "Register the public keys of this JWKS instead of --key.")
    ] = None,
    jwks_uri: Annotated[
        str | None, option("--jwks-uri", "URL", "Let Okta fetch the public keys from this URL.")
    ] = None,
    dpop: Annotated[bool, flag("--dpop", "Make the app require DPoP.")] = False,
    client_id: Annotated[
        str | None, option("--client-id", "ID", "A client id of your choice; only with --via apps.")
    ] = None,
    twin: Annotated[bool, flag("--twin", "Create a second app with the same name.")] = False,
    write: Annotated[Path, option("--write", "FILE", "The file to write the app's settings to.")] = Path("okta.yaml"),
    env: Annotated[bool, flag("--env", "Print the settings as export lines instead of writing a file.")] = False,
    as_json: Json = False,
) -> None:
    """Create a service app that signs in with a key, and write its settings to okta.yaml."""
    endpoint = _parse_via(via)
    keys = _load_keys(key_file, kid, passphrase_file, jwks, jwks_uri)
    api = sign_in()
    if not env:
        _check_settings_file(api, write, None if twin else name)
    created = create_app(
        api, name, jwks=keys.jwks, jwks_uri=jwks_uri, via=endpoint, dpop=dpop, client_id=client_id, twin=twin
    )
    scopes = list_if_allowed(
        lambda: [grant.scope for grant in list_grants(api, created.app.id) if grant.status == "ACTIVE"]
    )
    if keys.file is not None:
        _name_key(keys.file, _registered_kid(keys, created.app))
    settings_file = None if env or created.keys_missing else write  # without the keys, the settings would not work
    variables = _variables(_settings(api.org_url, created.app, keys, None), scopes)
    if as_json:
        file = None if settings_file is None else str(settings_file)
        echo_json({**asdict(created), "settings_file": file, "environment": variables})
    else:
        for line in describe_app(created.app, "created" if created.created else "already exists"):
            (note if env else echo)(line)
    if settings_file is not None:
        values: dict[str, object] = {**_settings(api.org_url, created.app, keys, settings_file)}
        former = read_setting(settings_file, "clientId")
        if former not in (None, created.app.client_id):  # the scopes were granted to an app that is deleted
            values |= {"scopes": scopes or []} if read_setting(settings_file, "scopes") is not None else {}
            note(f"The app {former}, whose settings were in {write}, is deleted. They are replaced.")
        write_settings(settings_file, values)
        note(f"The settings are in {write}." + ("" if keys.private is not None else " Add privateKey: to it yourself."))
    elif not as_json and not created.keys_missing:
        _print_variables(variables)
    _exit_if_different(created, key_file)


def describe_app(app: App, outcome: str | None = None) -> list[str]:
    """The lines that show an app. ``outcome``: the change that was made to it."""
    keys = [key.kid or key.thumbprint for key in app.keys if key.active]
    lines = {
        "app": (app.name or "-") + (f" ({outcome})" if outcome else ""),
        "client id": app.client_id,
        **({"id": app.id} if app.id != app.client_id else {}),
        "status": app.status or "not permitted to see",
        "keys": app.jwks_uri or " ".join(keys) or "none",
    }
    if app.dpop is not None:
        lines["DPoP"] = "required" if app.dpop else "not required"
    return [f"{name:<12}{value}" for name, value in lines.items()]


def list_if_allowed(names: Callable[[], Iterable[str]]) -> list[str] | None:
    """The names; ``None`` if the account that signs in may not see them, although it may see the app."""
    try:
        return list(names())
    except (PermissionMissing, ScopeMissing):
        return None


def _parse_via(via: str) -> Via:
    if via not in get_args(Via):
        raise typer.BadParameter(f"{via!r} is not an endpoint. Use apps or clients.", param_hint="--via")
    return cast("Via", via)


def _load_keys(
    key_file: Path | None, kid: str | None, passphrase_file: Path | None, jwks: Path | None, jwks_uri: str | None
) -> _Keys:
    if sum(given is not None for given in (key_file, jwks, jwks_uri)) > 1:
        raise ConfigurationError("--key, --jwks and --jwks-uri cannot be used together.", remedy="Use one of them.")
    if jwks_uri is not None:
        return _Keys(None, None, None)
    if jwks is not None:
        return _Keys(None, None, _read_jwks(jwks))
    key = load_key(key_file, kid=kid, passphrase_file=passphrase_file)
    return _Keys(key, key_file or default_key_file() or configured_key_file(), {**with_kid(key).jwks()})


def _read_jwks(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}).", remedy="Check the path.") from None
    except (ValueError, RecursionError):
        document = None
    keys = document.get("keys", [document]) if isinstance(document, dict) else None
    if not isinstance(keys, list) or not all(isinstance(jwk, dict) and "kty" in jwk for jwk in keys):
        raise ConfigurationError(f"{path} is not a JWKS.", remedy="Write one with: okta-m2m key jwks FILE")
    return {"keys": keys}


def _check_settings_file(api: ManagementApi, path: Path, name: str | None) -> None:
    """Refuses a settings file that cannot be written, or that is for another app than that with this name, if it has one."""
    try:
        check_settings_file(path, _WRITTEN)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"Nothing was created. {error.problem}", remedy=f"{error.remedy} Or print export lines instead (--env)."
        ) from None
    present = read_setting(path, "clientId")
    if present is None:
        return
    try:
        is_free = find_app(api, present).name == name
    except NotFound:
        is_free = read_setting(path, "orgUrl") == api.org_url  # the app is deleted
    if is_free:
        return
    raise ConfigurationError(
        f"{path} has the settings of another app ({present}), so nothing was created.",
        remedy=(
            "Move it elsewhere if nothing uses that app any more, write another file (--write FOLDER/okta.yaml), or print export "
            "lines instead (--env)."
        ),
    )


def _exit_if_different(created: Created, key_file: Path | None) -> None:
    """If the app differs from the request, says how to correct that and ends the command with 1. ``key_file``: ``--key``."""
    app = created.app
    remedies = {
        "dpop": f"It does not require DPoP. Turn it on with: okta-m2m app edit {app.id} --dpop",
        "status": f"It is {app.status}, so it gets no tokens. Activate it with: okta-m2m app activate {app.id}",
        "jwks_uri": "Its keys are registered at Okta, or are fetched from another URL. Change that in the Admin Console "
        "(Applications > the app > Public keys), or create another app with that name, with --twin",
        "client_id": f"Its client id is {app.client_id}, and cannot be changed. Create another app with that name, with --twin",
    }
    problems = [remedies[difference.setting] for difference in created.differences]
    if created.keys_missing:
        add = shlex.join(["okta-m2m", "key", "add", *([str(key_file)] if key_file else []), "--app", app.id])
        problems.append(
            f"It does not have the key {', '.join(created.keys_missing)}. Register it with: {add}; or create another app "
            "with that name, with --twin"
        )
    if problems:
        how = "was created" if created.created else "already exists"
        fail(Exit.FAILED, f"The app {how}, but differs from what was requested.", ". ".join(problems))


def _settings(org_url: str, app: App, keys: _Keys, file: Path | None) -> dict[str, str]:
    """The settings under the names of Okta's SDKs. ``file``: the ``okta.yaml`` that they are for; ``None`` for variables."""
    values = {"orgUrl": org_url, "authorizationMode": "PrivateKey", "clientId": app.client_id}
    if keys.file is not None:
        values["privateKey"] = str(keys.file) if file is None else _relative_to(file, keys.file)
    return values | _separate_kid(file, keys, app)


def _variables(settings: dict[str, str], scopes: list[str] | None) -> dict[str, str]:
    """The settings as environment variables. Without scopes, their variable is omitted."""
    values = {**settings, "privateKey": settings.get("privateKey", "PATH-OF-THE-KEY")}
    if scopes:
        values["scopes"] = ",".join(scopes)
    return {f"OKTA_CLIENT_{name.upper()}": value for name, value in values.items()}


def _print_variables(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        echo(f"export {name}={shlex.quote(value)}")
    if "OKTA_CLIENT_SCOPES" not in variables:
        note("The app has no scopes yet. Grant some with okta-m2m app grant, and set OKTA_CLIENT_SCOPES to them.")


def _registered_kid(keys: _Keys, app: App) -> str | None:
    """The ``kid`` under which Okta lists the key; ``None`` if it does not list it with one."""
    key = keys.private
    return next((one.kid for one in app.keys if key is not None and one.thumbprint == key.thumbprint()), None)


def _name_key(file: Path, kid: str | None) -> None:
    """Writes the ``kid`` into a key file that has none. In the settings, it would prevent a rotation."""
    if kid is None or signing_kid(file) is not None:
        return
    try:
        if write_kid(file, kid):
            note(f"The kid {kid} was written into {file}. Other programs ignore it.")
    except (ConfigurationError, OSError) as error:
        note(f"The kid is a setting, because it could not be written into the key file: {error}")


def _separate_kid(settings_file: Path | None, keys: _Keys, app: App) -> dict[str, str]:
    """The setting for the ``kid``, if the key file does not have the ``kid`` under which Okta lists the key."""
    registered = _registered_kid(keys, app)
    if registered is None:
        return {}
    names = ("kid", "privateKeyId", "keyId")
    present = next((name for name in names if settings_file is not None and read_setting(settings_file, name)), None)
    return {} if present is None and registered == signing_kid(keys.file) else {present or "kid": registered}


def _relative_to(settings_file: Path, key_file: Path) -> str:
    """The key's path for the settings file: relative, if the key is in the same folder or below."""
    folder, path = settings_file.absolute().parent, key_file.absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
