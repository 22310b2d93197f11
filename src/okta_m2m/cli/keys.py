"""``okta-m2m key``: make keys, look at them, register them, and take them away again.

Invariant: of a private key only its file gets the private part; what is printed is public.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import ConfigurationError
from .rotate import rotate
from .secrets import DEFAULT_KEY, Kid, PassphraseFile, configured_key_file, load_key, own_kid, passphrase
from .sign_in import AppName, As, MaxWait, TokenFile, meant_app, signed_in
from .terminal import columns, note

if TYPE_CHECKING:
    from ..admin.provisioning import AppKey
    from ..keys import PrivateKey

__all__ = ["app"]

app = typer.Typer(help="Make a key, register it, rotate it.", no_args_is_help=True)

KeyName = Annotated[str, typer.Argument(metavar="KID|ID", help="The key, by its kid or by Okta's id for it.")]
File = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help=f"The key file; otherwise the configured key, and then ./{DEFAULT_KEY}."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def new(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the private key goes; never over another file.")] = (
        DEFAULT_KEY
    ),
    alg: Annotated[str, typer.Option(help="RS256, RS384, RS512; ES256, ES384, ES512.")] = "RS256",
    bits: Annotated[int, typer.Option(help="Bits of an RSA key: 2048, 3072, 4096.")] = 2048,
    kid: Annotated[str | None, typer.Option(help="The key's id; otherwise its RFC 7638 thumbprint.")] = None,
    pem: Annotated[bool, typer.Option("--pem", help="Write PEM. It has no kid, so it cannot be rotated.")] = False,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt the PEM; the passphrase is prompted for.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    jwks_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the public JWKS there, too; never over another file.")
    ] = None,
) -> None:
    """Make a key: the private half in a file of mode 0600, the public JWKS printed as Okta takes it."""
    from ..admin.key_files import new_key, write_key, write_new_file

    form: Literal["pem", "jwk"] = "pem" if pem or out.suffix == ".pem" else "jwk"
    secret = None
    if encrypt or passphrase_file is not None:
        if form == "jwk":
            raise ConfigurationError("A JWK file is not encrypted. Add --pem, or leave --encrypt away.")
        secret = passphrase(passphrase_file, new=True)
        if not secret:
            raise ConfigurationError(
                "There is no passphrase. Put it into a file (--passphrase-file), or into OKTA_CLIENT_PRIVATEKEYPASSPHRASE."
            )
    if bits not in (2048, 3072, 4096):
        raise ConfigurationError(f"RSA keys have 2048, 3072 or 4096 bits here, not {bits}. Leave --bits away for 2048.")
    for path in (out, jwks_out):
        if path is not None and path.exists():
            raise ConfigurationError(f"{path} is there already, and is not written over. Name another file.")
    key = new_key(alg, bits=bits, kid=kid)
    write_key(out, key, form=form, password=secret)
    document = json.dumps(key.jwks(), indent=2)
    if jwks_out is not None:
        write_new_file(jwks_out, document.encode() + b"\n")
    typer.echo(document)
    encrypted = ", encrypted" if secret else ""
    note(f"The private key is in {out} ({form.upper()}{encrypted}, mode 0600). Above is its public half.")


@app.command()
def show(file: File = None, kid: Kid = None, passphrase_file: PassphraseFile = None, as_json: Json = False) -> None:
    """Say what a key is: strength, algorithm, kid, thumbprint. Its private part is not shown."""
    key = load_key(file, kid=kid, passphrase_file=passphrase_file)
    found = {
        "kty": key.public_jwk["kty"],
        "strength": _strength(key),
        "alg": key.alg,
        "kid": key.kid,
        "thumbprint": key.thumbprint(),
    }
    if file is not None and os.name == "posix":
        found["mode"] = f"{stat.S_IMODE(file.stat().st_mode):04o}"
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        typer.echo(f"{name:<12}{'none' if value is None else value}")


@app.command()
def jwks(file: File = None, kid: Kid = None, passphrase_file: PassphraseFile = None) -> None:
    """Print the public JWKS of a key, as Okta takes it."""
    key = load_key(file, kid=kid, passphrase_file=passphrase_file)
    typer.echo(json.dumps(key.jwks(), indent=2))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="A PEM or JWK file.")],
    target: Annotated[Path, typer.Argument(metavar="TO", help="The JWK file to write.")] = DEFAULT_KEY,
    kid: Annotated[
        str | None,
        typer.Option(help="The kid under which Okta lists the key; otherwise the file's own, or the thumbprint."),
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write a key as a JWK file that has its kid, as rotation needs it."""
    from ..admin.key_files import write_key

    key = load_key(source, kid=kid, passphrase_file=passphrase_file)
    key = key.with_kid(key.kid or key.thumbprint())
    write_key(target, key)
    typer.echo(f"{target}: {key.alg}, kid {key.kid}")
    note(f"Let every process use {target} (OKTA_CLIENT_PRIVATEKEY), and remove {source} when none uses it any more.")


@app.command()
def add(
    file: File = None,
    app_name: AppName = None,
    kid: Kid = None,
    passphrase_file: PassphraseFile = None,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
) -> None:
    """Register a key's public half with the app, beside those that are there."""
    key = load_key(file, kid=kid, passphrase_file=passphrase_file)
    with signed_in("okta-m2m key add", token_file, as_, max_wait) as api:
        from ..admin.provisioning import add_key

        key = key.with_kid(key.kid or key.thumbprint())
        added = add_key(api, meant_app(api, app_name).id, key.jwks()["keys"][0])
    _print_key(added)
    if added.kid is not None and added.kid != own_kid(file or configured_key_file()):
        note(
            f"The key itself does not say that kid. Whoever signs with it sets OKTA_CLIENT_KID to {added.kid} (kid: in "
            "okta.yaml), or uses a file that says it: okta-m2m key convert"
        )


@app.command("list")
def list_(
    app_name: AppName = None,
    token_file: TokenFile = None,
    as_: As = None,
    max_wait: MaxWait = 120,
    as_json: Json = False,
) -> None:
    """List the public keys that are registered with the app."""
    with signed_in("okta-m2m key list", token_file, as_, max_wait) as api:
        from ..admin.provisioning import list_keys

        keys = list_keys(api, meant_app(api, app_name).id)
    if as_json:
        typer.echo(json.dumps([asdict(key) for key in keys], indent=2))
        return
    rows = [["ID", "STATUS", "ALG", "CREATED", "KID"]]
    rows += [[key.id, key.status, key.alg or "-", (key.created or "-")[:10], key.kid or "-"] for key in keys]
    for line in columns(rows):
        typer.echo(line)


@app.command()
def activate(
    key: KeyName, app_name: AppName = None, token_file: TokenFile = None, as_: As = None, max_wait: MaxWait = 120
) -> None:
    """Make a key count again."""
    with signed_in("okta-m2m key activate", token_file, as_, max_wait) as api:
        from ..admin.provisioning import activate_key

        _print_key(activate_key(api, meant_app(api, app_name).id, key))


@app.command()
def deactivate(
    key: KeyName, app_name: AppName = None, token_file: TokenFile = None, as_: As = None, max_wait: MaxWait = 120
) -> None:
    """Make a key count no more; it can be activated again."""
    with signed_in("okta-m2m key deactivate", token_file, as_, max_wait) as api:
        from ..admin.provisioning import deactivate_key

        _print_key(deactivate_key(api, meant_app(api, app_name).id, key))


@app.command()
def delete(
    key: KeyName, app_name: AppName = None, token_file: TokenFile = None, as_: As = None, max_wait: MaxWait = 120
) -> None:
    """Remove an inactive key for good."""
    with signed_in("okta-m2m key delete", token_file, as_, max_wait) as api:
        from ..admin.provisioning import delete_key

        delete_key(api, meant_app(api, app_name).id, key)
    typer.echo(f"deleted  {key}")


app.command()(rotate)


def _print_key(key: AppKey) -> None:
    typer.echo(f"{key.status.lower()}  {key.id}  {key.alg or '-'}  kid {key.kid}")


def _strength(key: PrivateKey) -> str:
    jwk = key.public_jwk
    return f"{len(jwk['n']) * 6 // 8 * 8} bits" if jwk["kty"] == "RSA" else jwk["crv"]
