"""``okta-m2m api`` and ``okta-m2m headers``: a call with the configured app's token, and the headers for such a call.

Invariant: the token is sent only to allowed origins, and is printed only to a pipe or with ``--show``. An API's
response cannot control a terminal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import requests
import typer

from .. import ServiceApp
from ..admin.doctor import check_answer, url_to_call
from ..admin.errors import OktaUnreachable
from ..errors import ConfigurationError, OktaM2MError, quoted
from ..requests import OktaAuth
from .doctor import EXITS
from .exits import fail
from .options import RequestedScopes, TokenWait, argument, flag, option, split_scopes
from .printing import echo, echo_bytes, echo_json, report
from .secrets import read_bytes
from .terminal import stdout_is_pipe, stdout_is_terminal
from .trust import configured_app

Method = Annotated[str, argument("METHOD", "GET, POST, PUT, PATCH or DELETE.")]
Target = Annotated[str, argument("PATH|URL", "A path of the org, or the URL of an allowed origin.")]

_CREDENTIALS: Final = ("authorization", "proxy-authorization", "dpop", "cookie")
"""Headers that ``--header`` does not set."""

_FIELD = re.compile(r"(?P<name>[^=\[\]]+)(?P<below>(?:\[[^\]]+\])*)=(?P<value>.*)", re.DOTALL)


def api(
    method: Method,
    target: Target,
    fields: Annotated[
        list[str] | None,
        option("--field -f", "NAME=VALUE", "A string field of the JSON body, or of the query with GET."),
    ] = None,
    typed: Annotated[
        list[str] | None,
        option("--typed-field -F", "NAME=VALUE", "The same, but true, false, null and numbers keep their JSON type."),
    ] = None,
    body_file: Annotated[Path | None, option("--input", "FILE", "File with the body; - is stdin.")] = None,
    more_headers: Annotated[list[str] | None, option("--header -H", "NAME: VALUE", "A header to send.")] = None,
    paginate: Annotated[bool, flag("--paginate", "Fetch all pages, and print them as one list.")] = False,
    scope: RequestedScopes = None,
    max_wait: TokenWait = 30.0,
    as_json: Annotated[bool, flag("--json", "Print status, headers and body as one JSON document.")] = False,
) -> None:
    """Call an API with the configured app's token: okta-m2m api GET /api/v1/users

    Use -f 'profile[firstName]=Ada' for a field in a nested object.
    """
    service_app, url = _app_and_url(target, scope, max_wait)
    method = method.upper()
    header_fields = _parse_headers(more_headers or [])
    body = _body(method, _document(fields or [], typed or []), body_file, header_fields)
    with requests.Session() as session:
        # For plain HTTP, which is allowed only on this machine, ignore the environment's proxy: it could read the token.
        session.trust_env = urlsplit(url).scheme != "http"
        session.auth = OktaAuth(service_app, session=session)
        send = partial(_send, session, method, timeout=max_wait, headers=header_fields)
        response, items = send(url, **body), None
        if paginate:
            response, items = _read_pages(response, url, send, service_app.origins.allow)
    _print(response, items, as_json)
    if items is None and not 200 <= response.status_code < 300:
        row = check_answer("API call", method, str(response.request.path_url).partition("?")[0], response)
        fail(EXITS[row.kind], f"{row.detail}.", row.remedy)


def headers(
    method: Method,
    target: Target,
    scope: RequestedScopes = None,
    max_wait: TokenWait = 30.0,
    as_json: Annotated[bool, flag("--json", "Print the headers as one JSON document.")] = False,
    show: Annotated[bool, flag("--show", "Print them even if stdout is not a pipe.")] = False,
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
    report(found, (f"{name}: {value}" for name, value in found.items()), as_json)


def _app_and_url(target: str, scope: list[str] | None, max_wait: float) -> tuple[ServiceApp, str]:
    """The configured app, and the URL, to which the app's token may be sent."""
    service_app = configured_app(scopes=split_scopes(scope or []), max_wait=max_wait)
    return service_app, url_to_call(service_app, target)


def _body(method: str, document: dict[str, Any], file: Path | None, header_fields: dict[str, str]) -> dict[str, Any]:
    """The argument of ``Session.request`` for the body or the query, if there is one. A file adds its type to
    ``header_fields``."""
    if file is not None and document:
        raise ConfigurationError("--input and --field cannot be used together.", remedy="Use one of them.")
    if file is not None:
        header_fields.setdefault("Content-Type", "application/json")
        return {"data": read_bytes(file, "body")}
    return {"params" if method in ("GET", "HEAD", "DELETE") else "json": document} if document else {}


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


def _send(session: requests.Session, method: str, url: str, **options: Any) -> requests.Response:
    """Sends one request. A redirect is not followed."""
    try:
        return session.request(method, url, allow_redirects=False, **options)
    except OktaM2MError:  # OktaAuth's own, which are also a RequestException
        raise
    except requests.RequestException as error:
        raise OktaUnreachable(
            f"{method} {quoted(url.partition('?')[0], 200)} got no response ({type(error).__name__}).",
            remedy="Find out why with: okta-m2m doctor",
        ) from None


def _read_pages(
    response: requests.Response, url: str, send: Callable[[str], requests.Response], is_allowed: Callable[[str], bool]
) -> tuple[requests.Response, list[Any] | None]:
    """The items of all pages, beside the last response; ``None`` if that response is not a page. ``response``: the first
    page, which is from ``url``."""
    items: list[Any] = []
    seen = {url}
    while response.status_code == 200 and isinstance(page := _json_of(response), list):
        items += page
        following = response.links.get("next", {}).get("url")
        if not following:
            return response, items
        if following in seen or not is_allowed(following):
            raise ConfigurationError(
                "The next page is on another host, or was already read.", remedy="Use Okta's own URL for the org."
            )
        seen.add(following)
        response = send(following)
    return response, None


def _json_of(response: requests.Response) -> Any:
    """The JSON document of a response; ``None`` if it has none."""
    try:
        return response.json()
    except ValueError:
        return None


def _print(response: requests.Response, items: list[Any] | None, as_json: bool) -> None:
    """Prints a response: unchanged to a pipe or a file, but cleaned for a terminal, which it must not control."""
    document = _json_of(response) if items is None else items
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
