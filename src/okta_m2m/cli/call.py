"""``okta-m2m api`` and ``okta-m2m headers``: a call with the configured app's token, and the headers for such a call.

Invariant: the token is sent only to allowed origins, and is printed only to a pipe or with ``--show``. An API's
response cannot control a terminal.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import requests
import typer

from .. import ServiceApp
from ..admin.doctor import check_answer
from ..admin.errors import OktaUnreachable
from ..errors import ConfigurationError, OktaM2MError, quoted
from ..requests import OktaAuth
from .doctor import exit_for_kind
from .exits import complain
from .options import split_scopes
from .printing import echo, echo_bytes, echo_json
from .terminal import stdout_is_pipe, stdout_is_terminal
from .trust import configured_app

__all__ = ["api", "headers"]

Method = Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, PUT, PATCH or DELETE.")]
Target = Annotated[str, typer.Argument(metavar="PATH|URL", help="A path of the org, or the URL of an allowed origin.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="Request this scope instead of the configured ones; can be repeated.",
    ),
]
MaxWait = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=1, max=86_400, help="How long to wait for a token, including rate limits."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print status, headers and body as one JSON document.")]

_CREDENTIALS: Final = ("authorization", "proxy-authorization", "dpop", "cookie")
"""Headers that ``--header`` does not set."""

_FIELD = re.compile(r"(?P<name>[^=\[\]]+)(?P<below>(?:\[[^\]]+\])*)=(?P<value>.*)", re.DOTALL)


def api(
    method: Method,
    target: Target,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--field", "-f", metavar="NAME=VALUE", help="A string field of the JSON body, or of the query with GET."
        ),
    ] = None,
    typed: Annotated[
        list[str] | None,
        typer.Option(
            "--typed-field",
            "-F",
            metavar="NAME=VALUE",
            help="The same, but true, false, null and numbers keep their JSON type.",
        ),
    ] = None,
    body_file: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="File with the body; - is stdin.")
    ] = None,
    more_headers: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME: VALUE", help="A header to send.")
    ] = None,
    paginate: Annotated[bool, typer.Option("--paginate", help="Fetch all pages, and print them as one list.")] = False,
    scope: Scopes = None,
    max_wait: MaxWait = 30.0,
    as_json: AsJson = False,
) -> None:
    """Call an API with the configured app's token: okta-m2m api GET /api/v1/users

    Use -f 'profile[firstName]=Ada' for a field in a nested object.
    """
    service_app, url = _app_and_url(target, scope, max_wait)
    method = method.upper()
    given = _document(fields or [], typed or [])
    if body_file is not None and given:
        raise ConfigurationError("--input and --field cannot be used together.", remedy="Use one of them.")
    request: dict[str, Any] = {"headers": _parse_headers(more_headers or [])}
    if body_file is not None:
        request["data"] = _read_body(body_file)
        request["headers"].setdefault("Content-Type", "application/json")
    elif given and method in ("GET", "HEAD", "DELETE"):
        request["params"] = given
    elif given:
        request["json"] = given
    with requests.Session() as session:
        # For plain http, which is allowed only on this machine, ignore the environment's proxy: it could read the token.
        session.trust_env = urlsplit(url).scheme != "http"
        session.auth = OktaAuth(service_app, session=session)

        def call(url: str, **options: Any) -> requests.Response:
            try:
                return session.request(method, url, timeout=max_wait, allow_redirects=False, **options)
            except requests.RequestException as error:
                raise _no_answer(method, url, error) from None

        response = call(url, **request)
        items = _items(response) if paginate else None
        seen = {url}
        while items is not None and (following := response.links.get("next", {}).get("url")):
            if following in seen or not service_app.origins.allow(following):
                raise ConfigurationError(
                    "The next page is on another host, or was already read.",
                    remedy="Use Okta's own URL for the org.",
                )
            seen.add(following)
            response = call(following, headers=request["headers"])
            more = _items(response)
            if more is None:
                break
            items += more
        else:
            if items is not None:
                _print(response, items, as_json)
                return
    _print(response, None, as_json)
    _exit_unless_good(method, response)


def headers(
    method: Method,
    target: Target,
    scope: Scopes = None,
    max_wait: MaxWait = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the headers as one JSON document.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print them even if stdout is not a pipe.")] = False,
) -> None:
    """Print the headers for one call: okta-m2m headers GET /api/v1/users | curl -H @- URL

    They are Authorization, and DPoP if the token is bound. A DPoP proof is valid for this method and URL, once, for a
    minute.
    """
    if not (show or stdout_is_pipe()):
        raise ConfigurationError("The headers contain a token.", remedy="Read them through a pipe, or add --show.")
    service_app, url = _app_and_url(target, scope, max_wait)
    prepared = requests.Request(method.upper(), url, auth=OktaAuth(service_app)).prepare()
    found = {name: str(prepared.headers[name]) for name in ("Authorization", "DPoP") if name in prepared.headers}
    if as_json:
        echo_json(found)
        return
    for name, value in found.items():
        echo(f"{name}: {value}")


def _app_and_url(target: str, scope: list[str] | None, max_wait: float) -> tuple[ServiceApp, str]:
    """The configured app, and the URL, to which the app's token may be sent."""
    service_app = configured_app(scopes=split_scopes(scope or []), max_wait=max_wait)
    url = service_app.org_url + target if target.startswith("/") else target
    if "://" not in url:
        raise ConfigurationError(
            f"{quoted(target, 100)!r} is neither a path nor a URL.",
            remedy=f"Begin with a slash: /api/v1/{quoted(target, 60)}",
        )
    if not service_app.origins.allow(url):
        raise ConfigurationError(
            "The token may not be sent to that host.",
            remedy=(
                "Use a path of the org. An API behind a custom authorization server is called from code, with "
                "origins=[...]."
            ),
        )
    return service_app, url


def _document(strings: list[str], typed: list[str]) -> dict[str, Any]:
    """The JSON object that ``-f`` and ``-F`` describe."""
    document: dict[str, Any] = {}
    for text, is_typed in [*((one, False) for one in strings), *((one, True) for one in typed)]:
        parts = _FIELD.fullmatch(text)
        if parts is None:
            raise typer.BadParameter(f"{quoted(text, 60)!r} has no value. Write NAME=VALUE.", param_hint="--field")
        place = document
        *path, last = [parts["name"], *re.findall(r"\[([^\]]+)\]", parts["below"])]
        for name in path:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise typer.BadParameter(
                    f"{name} has both a value and nested fields. Remove one of the two.", param_hint="--field"
                )
        place[last] = _typed(parts["value"]) if is_typed else parts["value"]
    return document


def _typed(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, bool | int | float) else text


def _parse_headers(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise typer.BadParameter(f"{quoted(line, 60)!r} has no colon. Write NAME: VALUE.", param_hint="--header")
        if name.strip().lower() in _CREDENTIALS:
            raise typer.BadParameter(
                f"{quoted(name.strip(), 60)} is a credential, and other users of this machine can read a command line. "
                "Omit it: the command signs in as the configured app.",
                param_hint="--header",
            )
        found[name.strip()] = value.strip()
    return found


def _read_body(path: Path) -> bytes:
    if str(path) == "-":
        if sys.stdin is None:
            raise ConfigurationError(
                "The body cannot be read from stdin, which is closed.", remedy="Use a file instead."
            )
        return sys.stdin.buffer.read()
    return path.read_bytes()


def _items(response: requests.Response) -> list[Any] | None:
    """The items of a page; ``None`` if the response is not a page."""
    if response.status_code != 200:
        return None
    try:
        document = response.json()
    except ValueError:
        return None
    return document if isinstance(document, list) else None


def _print(response: requests.Response, items: list[Any] | None, as_json: bool) -> None:
    """Prints a response: unchanged to a pipe or a file, but cleaned for a terminal, which it must not control."""
    try:
        document = response.json() if items is None else items
    except ValueError:
        document = None
    if as_json:
        body = response.text if document is None and response.content else document
        echo_json({"status": response.status_code, "headers": dict(response.headers), "body": body})
    elif items is not None or (document is not None and stdout_is_terminal()):
        echo_json(document)
    elif stdout_is_terminal():
        for line in response.text.expandtabs().splitlines():
            echo(line)
    elif response.content:
        echo_bytes(response.content)


def _exit_unless_good(method: str, response: requests.Response) -> None:
    if 200 <= response.status_code < 300:
        return
    row = check_answer("API call", method, str(response.request.path_url).partition("?")[0], response)
    complain(f"{row.detail}. {row.remedy}")
    raise typer.Exit(exit_for_kind(row.kind))


def _no_answer(method: str, url: str, error: requests.RequestException) -> Exception:
    """The error for a call that got no response. This package's own errors are returned unchanged."""
    if isinstance(error, OktaM2MError):
        return error
    return OktaUnreachable(
        f"{method} {quoted(url.partition('?')[0], 200)} got no response ({type(error).__name__}).",
        remedy="Find out why with: okta-m2m doctor",
    )
