"""``okta-m2m app create``: create a service app that signs in with a key, and write its settings.

Invariant: before anything is created, it is certain that the settings can be written and that they overwrite no other app's.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..admin.errors import NotFound
from ..admin.key_files import check_replaceable
from ..errors import ConfigurationError
from .exits import Exit, complain, note
from .options import As, KeyFile, Kid, MaxWait, PassphraseFile, TokenFile, ViaName, parse_via
from .printing import echo
from .secrets import configured_key_file, default_key_file, load_key, signing_kid
from .settings_file import read_setting, write_settings
from .sign_in import management_api

if TYPE_CHECKING:
    from ..admin.management import ManagementApi
    from ..admin.provisioning import App, Created, Via
    from ..keys import PrivateKey

# Modules of ..admin are imported inside functions: they import requests, which --help does not need.

__all__ = ["create", "describe_app"]


class _Keys(NamedTuple):
    """The keys of the new app."""

    private: PrivateKey | None
    file: Path | None
    """Where the private key is; ``None`` where that is not known."""
    jwks: dict[str, Any] | None
    """What to register; ``None`` where Okta fetches it."""


def create(
    name: Annotated[str, typer.Option(help="The app's name. An app that already has it is shown instead.")],
    via: ViaName = "apps",
    key_file: KeyFile = None,
    kid: Kid = None,
    passphrase_file: PassphraseFile = None,
    jwks: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Register the public keys of this JWKS instead of --key.")
    ] = None,
    jwks_uri: Annotated[
        str | None, typer.Option(metavar="URL", help="Let Okta fetch the public keys from this URL.")
    ] = None,
    dpop: Annotated[bool, typer.Option("--dpop", help="Make the app require DPoP.")] = False,
    client_id: Annotated[str | None, typer.Option(help="A client id of your choice; only with --via apps.")] = None,
    twin: Annotated[bool, typer.Option("--twin", help="Create a second app of the same name.")] = False,
    write: Annotated[Path, typer.Option(metavar="FILE", help="The file to write the app's settings to.")] = Path(
        "okta.yaml"
    ),
    env: Annotated[
        bool, typer.Option("--env", help="Print the settings as export lines instead of writing a file.")
    ] = False,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
) -> None:
    """Create a service app that signs in with a key, and write its settings to okta.yaml."""
    endpoint = parse_via(via)
    keys = _load_keys(key_file, kid, passphrase_file, jwks, jwks_uri)
    with management_api("okta-m2m app create", token_file, as_, max_wait) as api:
        from ..admin.provisioning import create_app

        if not env:
            _check_settings_file(api, write, name, endpoint)
        created = create_app(
            api, name, jwks=keys.jwks, jwks_uri=jwks_uri, via=endpoint, dpop=dpop, client_id=client_id, twin=twin
        )
        _report(created, on_stderr=env)
        if env:
            _print_environment(api.org_url, created.app, keys)
        else:
            _write_settings_file(write, api.org_url, created.app, keys)


def describe_app(app: App, outcome: str | None = None) -> list[str]:
    """The lines that show an app. ``outcome``: what was done with it."""
    keys = [key.kid or key.thumbprint for key in app.keys if key.active]
    lines = {
        "app": app.name + (f" ({outcome})" if outcome else ""),
        "client id": app.client_id,
        **({"id": app.id} if app.id != app.client_id else {}),
        "status": app.status,
        "keys": app.jwks_uri or " ".join(keys) or "none",
    }
    if app.dpop is not None:
        lines["DPoP"] = "required" if app.dpop else "not required"
    return [f"{name:<12}{value}" for name, value in lines.items()]


def _load_keys(
    key_file: Path | None, kid: str | None, passphrase_file: Path | None, jwks: Path | None, jwks_uri: str | None
) -> _Keys:
    if sum(given is not None for given in (key_file, jwks, jwks_uri)) > 1:
        raise ConfigurationError("--key, --jwks and --jwks-uri exclude each other.", remedy="Give one of them.")
    if jwks_uri is not None:
        return _Keys(None, None, None)
    if jwks is not None:
        return _Keys(None, None, _read_jwks(jwks))
    key = load_key(key_file, kid=kid, passphrase_file=passphrase_file)
    # A PEM has no kid. Registered with its thumbprint, the key can be converted and rotated later.
    document: dict[str, Any] = {**key.with_kid(key.kid or key.thumbprint()).jwks()}
    return _Keys(key, key_file or default_key_file() or configured_key_file(), document)


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


def _check_settings_file(api: ManagementApi, path: Path, name: str, via: Via) -> None:
    """Refuses a settings file that is for another app, or that cannot be written."""
    from ..admin.provisioning import find_app

    real = Path(os.path.realpath(path))
    if not os.access(real.parent, os.W_OK):
        raise ConfigurationError(
            f"{path} cannot be written, so nothing was created.",
            remedy=(
                "Check that its folder exists and that you may write to it, or print export lines instead (--env)."
            ),
        )
    if real.exists():
        check_replaceable(path)
    present = read_setting(path, "clientId")
    if present is None:
        return
    try:
        if find_app(api, name, via=via).client_id == present:
            return
    except NotFound:
        pass
    raise ConfigurationError(
        f"{path} has the settings of another app ({present}), so nothing was created.",
        remedy="Write another file (--write FOLDER/okta.yaml), or print export lines instead (--env).",
    )


def _report(created: Created, *, on_stderr: bool) -> None:
    """Shows the app. Fails if it lacks a key: then its settings would not work."""
    for line in describe_app(created.app, "created" if created.created else "already exists"):
        (note if on_stderr else echo)(line)
    if created.keys_missing:
        complain(
            f"The app does not have the key {', '.join(created.keys_missing)}. Register it with: okta-m2m key add --app "
            f"{created.app.id}; or create another app of that name with --twin"
        )
        raise typer.Exit(Exit.FAILED)


def _print_environment(org_url: str, app: App, keys: _Keys) -> None:
    from ..admin.provisioning import environment_lines

    path = "PATH-OF-THE-KEY" if keys.file is None else str(keys.file)
    for line in environment_lines(org_url, app.client_id, path, []):
        if not line.startswith("export OKTA_CLIENT_SCOPES="):
            echo(line)
    for kid in _separate_kid(None, keys, app).values():
        echo(f"export OKTA_CLIENT_KID={shlex.quote(kid)}")


def _write_settings_file(path: Path, org_url: str, app: App, keys: _Keys) -> None:
    values = {"orgUrl": org_url, "authorizationMode": "PrivateKey", "clientId": app.client_id}
    if keys.file is not None:
        values["privateKey"] = _relative_to(path, keys.file)
    write_settings(path, values | _separate_kid(path, keys, app))
    note(f"The settings are in {path}." + ("" if keys.private is not None else " Add privateKey: to it yourself."))


def _separate_kid(settings_file: Path | None, keys: _Keys, app: App) -> dict[str, str]:
    """The setting of the ``kid``, if the key file does not have the one under which Okta has the key."""
    key = keys.private
    if key is None:
        return {}
    registered = next((one.kid for one in app.keys if one.thumbprint == key.thumbprint()), None)
    if registered is None:
        return {}
    names = ("kid", "privateKeyId", "keyId")
    present = next((name for name in names if settings_file is not None and read_setting(settings_file, name)), None)
    return {} if present is None and registered == signing_kid(keys.file) else {present or "kid": registered}


def _relative_to(settings_file: Path, key_file: Path) -> str:
    """The key's path as the settings file names it: relative, if the key is in the same folder or below."""
    folder, path = settings_file.absolute().parent, key_file.absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
