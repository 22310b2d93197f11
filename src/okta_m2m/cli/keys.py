"""``okta-m2m key``: create, show, register and remove keys.

Invariant: the private part of a key is written only to its file. Only the public part is printed.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from ..admin.key_files import new_key, read_kid, write_key, write_new_file
from ..admin.provisioning import AppKey, activate_key, add_key, deactivate_key, delete_key, find_key, list_keys
from ..errors import ConfigurationError
from ..keys import PrivateKey
from ..settings import find_setting
from .groups import command_group
from .options import ALGORITHMS, DEFAULT_KEY, AppName, Json, Kid, PassphraseFile, Yes, argument, flag, option
from .printing import echo_json, note, report
from .rotate import rotate
from .secrets import (
    configured_key_file,
    confirm,
    default_key_file,
    is_encrypted,
    load_key,
    read_passphrase,
    signing_kid,
    with_kid,
)
from .sign_in import SignIn, signed_in, target_app
from .terminal import columns

app = command_group("Create, register and rotate keys.")

KeyName = Annotated[str, argument("KID|ID", "The key's kid, or Okta's id for it.")]
File = Annotated[
    Path | None, argument("[FILE]", f"The key file; by default the configured one, or else ./{DEFAULT_KEY}.")
]


@app.command()
def new(
    out: Annotated[
        Path, option("--out", "FILE", "The file to write the private key to. It must not exist.")
    ] = DEFAULT_KEY,
    alg: Annotated[str, option("--alg", "ALG", f"{', '.join(ALGORITHMS)}.", ALGORITHMS)] = "RS256",
    bits: Annotated[int | None, option("--bits", "BITS", "Bits of an RSA key: 2048 (by default), 3072, 4096.")] = None,
    kid: Annotated[str | None, option("--kid", "KID", "The key's id; by default its RFC 7638 thumbprint.")] = None,
    pem: Annotated[bool, flag("--pem", "Write PEM, with the kid in a line above it.")] = False,
    encrypt: Annotated[bool, flag("--encrypt", "Encrypt the PEM, by default with a passphrase from a prompt.")] = False,
    passphrase_file: PassphraseFile = None,
    jwks_out: Annotated[
        Path | None, option("--jwks-out", "FILE", "Also write the public JWKS to this file. It must not exist.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a key: write the private half to a file that only you can read, and print the public JWKS for Okta."""
    form: Literal["pem", "jwk"] = "pem" if pem or out.suffix == ".pem" else "jwk"
    secret = None
    if encrypt or passphrase_file is not None:
        if form == "jwk":
            raise ConfigurationError(
                "A JWK file cannot be encrypted.", remedy="Add --pem, or omit --encrypt and --passphrase-file."
            )
        secret = read_passphrase(passphrase_file, out, new=True)
    alg = alg.upper()
    if bits is not None and alg.startswith("ES"):
        raise ConfigurationError(f"--bits is only for RSA keys. {alg} has a fixed size.", remedy="Omit --bits.")
    if bits not in (None, 2048, 3072, 4096):
        raise ConfigurationError(f"--bits must be 2048, 3072 or 4096, not {bits}.", remedy="Omit it for 2048.")
    if str(out) == "-":
        raise ConfigurationError(
            "The private key is written only to a file, never to stdout.", remedy="Set the file with --out."
        )
    if jwks_out is not None and jwks_out.exists():  # before the private key is written
        raise ConfigurationError(
            f"{jwks_out} already exists and will not be overwritten.", remedy="Choose another file."
        )
    key = new_key(alg, bits=bits or 2048, kid=kid)
    write_key(out, key, form=form, password=secret)
    if jwks_out is not None:
        write_new_file(jwks_out, json.dumps(key.jwks(), indent=2).encode() + b"\n")
    if as_json:
        echo_json({"file": str(out), "form": form, "encrypted": bool(secret), **_describe(key), "jwks": key.jwks()})
        return
    echo_json(key.jwks())
    details = [form.upper(), *(["encrypted"] if secret else []), *(["mode 0600"] if os.name == "posix" else [])]
    note(f"The private key is in {out} ({', '.join(details)}). Its public half is printed above.")


@app.command()
def show(file: File = None, kid: Kid = None, passphrase_file: PassphraseFile = None, as_json: Json = False) -> None:
    """Show a key: strength, algorithm, kid, thumbprint. The private part is not shown."""
    found = _describe(load_key(file, kid=kid, passphrase_file=passphrase_file))
    if file is not None and os.name == "posix":
        found["mode"] = f"{stat.S_IMODE(file.stat().st_mode):04o}"
    report(found, (f"{name:<12}{'none' if value is None else value}" for name, value in found.items()), as_json)


@app.command()
def jwks(file: File = None, kid: Kid = None, passphrase_file: PassphraseFile = None, as_json: Json = False) -> None:
    """Print the public JWKS of a key, for Okta. If the key has no kid, its thumbprint is used."""
    # The same JWKS as app create and key add register.
    echo_json(with_kid(load_key(file, kid=kid, passphrase_file=passphrase_file)).jwks())


@app.command()
def convert(
    source: Annotated[Path, argument("FROM", "A PEM or JWK file.")],
    target: Annotated[Path, argument("TO", "The JWK file to write.")] = DEFAULT_KEY,
    kid: Annotated[
        str | None,
        option("--kid", "KID", "The kid under which Okta lists the key; by default the file's own, or the thumbprint."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Write a key as a JWK file with its kid."""
    key = with_kid(load_key(source, kid=kid, passphrase_file=passphrase_file))
    write_key(target, key)
    report({"file": str(target), **_describe(key)}, [f"{target}: {key.alg}, kid {key.kid}"], as_json)
    note(f"Make every process use {target} (OKTA_CLIENT_PRIVATEKEY). Remove {source} when no process uses it any more.")


@app.command()
@signed_in
def add(
    sign_in: SignIn,
    file: File = None,
    app_name: AppName = None,
    kid: Kid = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Register the public half of a key with the app. Registered keys stay."""
    key = with_kid(load_key(file, kid=kid, passphrase_file=passphrase_file))
    api, owner = target_app(sign_in, app_name)
    added = add_key(api, owner.id, key.jwks()["keys"][0])
    _report_key(added, as_json)
    if added.kid is not None and added.kid != signing_kid(file or default_key_file()):
        note(
            f"The key file does not have this kid. Set OKTA_CLIENT_KID to {added.kid} (kid: in okta.yaml) where the key is "
            "used, or write a file that has it: okta-m2m key convert"
        )


@app.command("list")
@signed_in
def list_(sign_in: SignIn, app_name: AppName = None, as_json: Json = False) -> None:
    """List the keys that are registered with the app, and mark the one that this folder uses."""
    api, owner = target_app(sign_in, app_name)
    keys = list_keys(api, owner.id)
    is_own = _own_key()
    rows = [["ID", "STATUS", "ALG", "CREATED", "KID"]]
    for key in keys:
        kid = (key.kid or "-") + is_own(key) * "  (in use here)"
        rows.append([key.id, key.status, key.alg or "-", (key.created or "-")[:10], kid])
    report([{**asdict(key), "in_use_here": is_own(key)} for key in keys], columns(rows), as_json)


@app.command()
@signed_in
def activate(sign_in: SignIn, key: KeyName, app_name: AppName = None, as_json: Json = False) -> None:
    """Activate a key that was deactivated."""
    api, owner = target_app(sign_in, app_name)
    _report_key(activate_key(api, owner.id, key), as_json)


@app.command()
@signed_in
def deactivate(
    sign_in: SignIn, key: KeyName, app_name: AppName = None, yes: Yes = False, as_json: Json = False
) -> None:
    """Deactivate a key: Okta no longer accepts it. It can be activated again."""
    api, owner = target_app(sign_in, app_name)
    found = find_key(api, owner.id, key)
    if found.active:
        _confirm_own("Deactivate", found, yes)
    _report_key(deactivate_key(api, owner.id, found.id), as_json)


@app.command()
@signed_in
def delete(sign_in: SignIn, key: KeyName, app_name: AppName = None, yes: Yes = False, as_json: Json = False) -> None:
    """Delete an inactive key."""
    api, owner = target_app(sign_in, app_name)
    found = find_key(api, owner.id, key)
    _confirm_own("Delete", found, yes)
    delete_key(api, owner.id, found.id)
    report({**asdict(found), "status": "DELETED"}, [f"deleted  {key}"], as_json)


app.command()(rotate)


def _own_key() -> Callable[[AppKey], bool]:
    """Whether a registered key is the one that the settings in this folder name. Asks for no passphrase: a key that is encrypted
    is recognized by its ``kid``."""
    kid, own = None, None
    with suppress(ConfigurationError, OSError):
        path = default_key_file() or configured_key_file()
        setting = find_setting("kid", "privateKeyId", "keyId")
        kid = str(setting.value) if setting is not None else None if path is None else read_kid(path)
        if path is None or not is_encrypted(path):
            own = load_key(None).thumbprint()
    return lambda key: key.thumbprint == own or (own is None and kid is not None and key.kid == kid)


def _confirm_own(deed: str, key: AppKey, yes: bool) -> None:
    """Asks before the key is lost that this folder uses. Nothing is asked about another key."""
    if _own_key()(key):
        confirm(
            f"{deed} the key {key.kid or key.id}? It is in use here: without it, its services get no new tokens.", yes
        )


def _report_key(key: AppKey, as_json: bool) -> None:
    report(asdict(key), [f"{key.status.lower()}  {key.id}  {key.alg or '-'}  kid {key.kid}"], as_json)


def _describe(key: PrivateKey) -> dict[str, str | None]:
    jwk = key.public_jwk
    return {
        "kty": jwk["kty"],
        "strength": f"{len(jwk['n']) * 6 // 8 * 8} bits" if jwk["kty"] == "RSA" else jwk["crv"],
        "alg": key.alg,
        "kid": key.kid,
        "thumbprint": key.thumbprint(),
    }
