"""``okta-m2m token`` and ``okta-m2m assertion``: obtain, describe, introspect or revoke a token of the configured app, remove the
shared one, or sign a client assertion.

Invariant: the token itself is written only to a pipe, or with ``--show``. A token to introspect or revoke comes from
stdin, a file or a prompt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.text import Text

from .. import ServiceApp, Token
from ..admin.introspection import client_assertion, endpoint_url, introspect_token, revoke_token
from ..admin.shared_token import clear_shared_token
from ..effects import StoreFailed
from ..errors import TokenUnreachable, quoted
from ..requests import OktaAuth
from .exits import Exit, fail
from .groups import command_group
from .options import STORE_TIMEOUT, Json, RequestedScopes, TokenWait, flag, option, seconds, split_scopes
from .printing import echo, echo_json, note, report
from .secrets import prompt_for, read_secret
from .terminal import Output, stdin_is_terminal, stdout_is_pipe, stdout_is_terminal
from .trust import app_settings, configured_app

_Answer = TypeVar("_Answer")

app = command_group("Tokens of the configured app.")

_BOUND_NOTE = (
    "This token is bound by DPoP: each call with it needs a proof by a key that exists only while this command runs. Make the "
    "call with okta-m2m api, get its headers with okta-m2m headers, or use OktaAuth in your own program."
)
_ON_BEHALF_OF = "Obtain the token for the user whose access token is in this file (- is stdin). Needs --audience."
_ENDPOINTS = ("token", "introspect", "revoke")
_AUDIENCE = "With --on-behalf-of: the audience of the authorization server that issues the token."


@app.command()
def get(
    scope: RequestedScopes = None,
    max_wait: TokenWait = 30.0,
    as_json: Annotated[bool, flag("--json", "Print the description as one JSON document.")] = False,
    show: Annotated[bool, flag("--show", "Also print the token itself.")] = False,
    on_behalf_of: Annotated[Path | None, option("--on-behalf-of", "FILE", _ON_BEHALF_OF)] = None,
    audience: Annotated[str | None, option("--audience", "AUDIENCE", _AUDIENCE)] = None,
) -> None:
    """Obtain a token for the configured app, and describe it.

    The app is configured as for Okta's SDKs: OKTA_CLIENT_* variables, ./okta.yaml, ~/.okta/okta.yaml.

    A pipe gets the token alone: TOKEN=$(okta-m2m token get). Otherwise the token is printed only with --show.
    """
    if (on_behalf_of is None) != (audience is None):
        raise typer.BadParameter("--on-behalf-of and --audience need each other.", param_hint="--on-behalf-of")
    service_app = configured_app(scopes=split_scopes(scope or []), max_wait=max_wait)
    if on_behalf_of is not None and audience is not None:
        service_app = service_app.on_behalf_of(
            read_secret(on_behalf_of, "user's token").strip(),  # not a variable, which a crash report would show
            audience=audience,
            scopes=service_app.scopes,
        )
    token = OktaAuth(service_app).token()
    if as_json:
        echo_json(_document(service_app, token, show))
    elif stdout_is_pipe() or (show and not stdout_is_terminal()):
        echo(token.value)
        if token.dpop_bound:
            note(f"okta-m2m: {_BOUND_NOTE}")
    else:
        _print(_description(service_app, token))
        if show:
            echo()
            echo(token.value)


AccessTokenFile = Annotated[
    Path | None, option("--from", "FILE", "File with the token; by default stdin, or a prompt.")
]


@app.command()
def revoke(token_file: AccessTokenFile = None, as_json: Json = False) -> None:
    """Revoke an access token of the configured app: okta-m2m token revoke < token.txt"""
    _ask_about_token(revoke_token, token_file)
    report({"revoked": True}, ["The token is revoked, if it belonged to this app."], as_json)


@app.command()
def introspect(
    token_file: AccessTokenFile = None,
    as_json: Annotated[bool, flag("--json", "Print Okta's whole response as one JSON document.")] = False,
) -> None:
    """Ask Okta about an access token: okta-m2m token introspect < token.txt"""
    found = _ask_about_token(introspect_token, token_file)
    if as_json:
        echo_json(dict(found.members))
    else:
        _print((name, value if isinstance(value, str) else json.dumps(value)) for name, value in found.members.items())
    if not found.active:
        raise typer.Exit(Exit.FAILED)


@app.command()
def clear(as_json: Json = False) -> None:
    """Remove the token that processes share through a store (OKTA_M2M_STORE).

    Processes that have the token keep using it until they renew it. The next process that needs a token requests one
    from Okta.
    """
    try:
        cleared = clear_shared_token(ServiceApp.from_env(store_timeout=STORE_TIMEOUT))
    except StoreFailed as failed:
        raise TokenUnreachable(
            f"The token store does not work: {quoted(failed)}.", remedy="Check the store, and OKTA_M2M_STORE."
        ) from None
    report({"cleared": cleared}, ["No token is stored for this app any more."] if cleared else [], as_json)
    if not cleared:
        fail(Exit.FAILED, "A process is fetching a token, so nothing was removed.", "Try again in a few seconds.")


def assertion(
    endpoint: Annotated[
        str, option("--endpoint", "|".join(_ENDPOINTS), "The endpoint of the assertion (its aud claim).", _ENDPOINTS)
    ] = "token",
    lifetime: Annotated[
        float, seconds("--lifetime", "How long the assertion is valid. It can be used only once.", max=3540)
    ] = 300.0,
    as_json: Annotated[bool, flag("--json", "Print it with its header and claims, as JSON.")] = False,
) -> None:
    """Sign a client assertion (RFC 7523) for the configured app, and print it. On a terminal, also print its content.

    okta-m2m assertion | curl --data-urlencode client_assertion@- -d grant_type=client_credentials ...
    """
    if endpoint not in _ENDPOINTS:
        raise typer.BadParameter(
            f"{endpoint!r} is not an endpoint. Use token, introspect or revoke.", param_hint="--endpoint"
        )
    settings, key = app_settings()
    url = endpoint_url(settings.org_url, endpoint, settings.authorization_server)  # type: ignore[arg-type]  # checked above
    made = client_assertion(settings.client_id, key, url, lifetime=lifetime)
    parts = {"header": dict(made.header), "claims": dict(made.claims)}
    if as_json:
        echo_json({"client_assertion": made.value, **parts})
    elif stdout_is_terminal():
        echo_json(parts)
        echo()
        echo(made.value)
    else:
        echo(made.value, newline=False)  # curl --data-urlencode would also send a newline


def _ask_about_token(ask: Callable[..., _Answer], token_file: Path | None) -> _Answer:
    """Revokes or introspects a token as the configured app."""
    settings, key = app_settings()
    return ask(
        settings.org_url,
        settings.client_id,
        key,
        _read_token(token_file, settings.org_url),  # not a variable, which a crash report would show
        authorization_server=settings.authorization_server,
    )


def _read_token(file: Path | None, org_url: str) -> str:
    if file is None and stdin_is_terminal():
        return prompt_for(f"Token to send to {org_url}")
    return read_secret(file or Path("-"), "token")


def _document(app: ServiceApp, token: Token, show: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "token_type": token.token_type,
        "dpop_bound": token.dpop_bound,
        "scopes": list(token.scopes),
        "scopes_not_granted": _missing_scopes(app, token),
        "expires_in": token.expires_in,
        "org_url": app.org_url,
        "token_endpoint": app.token_endpoint,
        "client_id": app.client_id,
    }
    if show:
        document["access_token"] = token.value
    return document


def _description(app: ServiceApp, token: Token) -> Iterator[tuple[str, str]]:
    missing = _missing_scopes(app, token)
    yield "type", token.token_type
    yield "scopes", " ".join(token.scopes) or "none"
    if missing:
        yield "not granted", " ".join(missing)
    yield "lifetime", _duration(token.expires_in)
    yield "org", app.org_url
    yield "token endpoint", app.token_endpoint
    yield "client id", app.client_id
    if token.dpop_bound:
        yield "note", _BOUND_NOTE


def _print(rows: Iterable[tuple[str, str]]) -> None:
    output = Output()
    for name, value in rows:
        line = Text(f"{name:<16}", "bold").append(value, "yellow" if name == "not granted" else "not bold")
        output.print(line, soft_wrap=True)


def _missing_scopes(app: ServiceApp, token: Token) -> list[str]:
    return [name for name in app.scopes if name not in token.scopes]


def _duration(seconds: float) -> str:
    whole = round(seconds)
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s")]
    return f"{whole} s" + ("" if whole < 60 else f" ({' '.join(f'{n} {unit}' for n, unit in parts if n)})")
