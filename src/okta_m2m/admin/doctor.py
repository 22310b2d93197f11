"""Finds out why a call does not work, row by row.

Each row is a :class:`Check`. A row that depends on a failed row is ``skipped`` and has no remedy: the remedy is in the
first row that failed. One token is fetched; nothing is changed.

Invariant: no row holds a token, an assertion, a key, or the password of a proxy. A row that could not be checked is
never reported as passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import requests

from .. import ServiceApp, Token
from .._base.file_modes import readers_warning
from .._core.verdict import MAX_PEEK
from .._threads.deadlines import within
from .._urls.org_url import custom_server
from .._urls.origins import origin_of
from ..errors import (
    ConfigurationError,
    OktaM2MError,
    RateLimited,
    policy_remedy,
    quoted,
)
from ..keys import Signer
from ..requests import LIBRARY, OktaAuth
from ..settings import Settings, read_settings
from ._changes import shown_id
from ._doctor_connection import Client, check_client, check_connection, client_bundle, client_session
from ._doctor_registration import REGISTRATION_ROWS, check_registration
from ._doctor_rows import (
    CONNECTION_ROWS,
    NOT_POSSIBLE,
    Check,
    Kind,
    State,
    check_answer,
    error_row,
    row,
)
from .management import ManagementApi

__all__ = [
    "Check",
    "Client",
    "Doctor",
    "Kind",
    "State",
    "check_answer",
    "check_client",
    "first_failure",
    "url_to_call",
]

LOW_RATE_LIMIT: Final = 0.1
"""If less than this share of a rate limit is left, that is a warning."""


def first_failure(checks: Iterable[Check]) -> Check | None:
    """The first row that failed, which causes the later failures; ``None`` if none failed.

    - ``checks``: the rows, in the order of :meth:`Doctor.checks`.
    """
    return next((check for check in checks if check.state == "fail"), None)


class Doctor:
    """Checks a service app.

    - ``app``: the app. Default ``None``: one with the current settings.
    - ``files``: whether to read ``okta.yaml``. Default ``True``.
    - ``environ``: variables to use instead of ``os.environ``. Default ``None``.
    - ``offline``: makes only the checks that need no network. Default ``False``.
    - ``call``: an API call to try with GET: a path at the org (``/api/v1/users?limit=1``), or a URL. Default ``None``.
    - ``max_wait``: seconds that the token request may take. Default 20.
    - ``timeout``: seconds for each other response. Default 10.
    - ``client``: the HTTP client whose CA bundle and proxy are checked. Default ``"requests"``. Clients differ in what
      they read from the environment; the client itself need not be installed.
    - ``session``: creates the sessions whose proxies, CA bundle and adapters are used. Default ``requests.Session``,
      with the settings of the environment.
    - ``api``: signed in as an administrator of the app's org: then Okta is asked whether the app is active, its key is
      registered, its scopes are granted, and a role is assigned. Default ``None``: not asked.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for any other ``client``.
    """

    def __init__(
        self,
        app: ServiceApp | None = None,
        *,
        files: bool = True,
        environ: Mapping[str, str] | None = None,
        offline: bool = False,
        call: str | None = None,
        max_wait: float = 20.0,
        timeout: float = 10.0,
        client: Client = "requests",
        session: Callable[[], requests.Session] = requests.Session,
        api: ManagementApi | None = None,
    ) -> None:
        self._read_settings = partial(read_settings, files=files, environ=environ)
        self._offline = offline
        self._call = call
        self._max_wait = max_wait
        self._timeout = timeout
        self._client: Client = check_client(client)
        self._new_session = session
        self._api = api
        self._settings: Settings | None = None
        self._app = app
        self._connected = False
        self._token: Token | None = None
        self._token_headers: Mapping[str, str] | None = None  # of the last response, which contain the rate limit
        self._rate_limited = False

    def checks(self) -> Iterator[Check]:
        """The rows, each as soon as it is known. Raises no errors: the rows report all failures."""
        if self._app is None:
            yield from self._check_settings()
        else:
            yield row("configuration", "ok", f"client id {shown_id(self._app.client_id)}, made by the program")
            yield row("org URL", "ok", self._app.org_url)
            yield _key_row(self._app.keys[0])
        yield from self._check_connection()
        yield from self._check_registration()
        with self._session() as session:
            yield self._check_token_request(session)
        yield self._check_scopes()
        yield self._check_rate_limit()
        yield self._check_api_call()

    def _check_settings(self) -> Iterator[Check]:
        reported: set[str] = set()
        for check in (self._check_configuration, self._check_org_url, self._check_key):
            found = check()
            # An okta.yaml that cannot be read makes all three fail.
            yield row(found.name, "skipped", NOT_POSSIBLE) if found.detail in reported else found
            if found.state == "fail":
                reported.add(found.detail)

    # ── without a network ────────────────────────────────────────────────────────────────────────────────────────

    def _check_configuration(self) -> Check:
        name = "configuration"
        try:
            self._read_settings(org_url=_PLACEHOLDER_ORG, key=_NO_KEY)
        except ConfigurationError as error:
            return error_row(name, error)
        try:
            settings = self._read_settings()
        except ConfigurationError:  # the org URL or the key is wrong
            return row(name, "ok", "client id and scopes are set")
        self._settings = settings
        places: dict[str, list[str]] = {}
        for setting, place in settings.sources.items():
            kind, _, variable = place.rpartition(" ")
            environment = kind == "environment variable"
            places.setdefault("the environment" if environment else place, []).append(
                variable if environment else setting
            )
        return row(name, "ok", "; ".join(f"{', '.join(found)} from {place}" for place, found in places.items()))

    def _check_org_url(self) -> Check:
        name = "org URL"
        try:
            settings = self._read_settings(client_id="doctor", key=_NO_KEY, scopes=["okta.users.read"])
        except ConfigurationError as error:
            return error_row(name, error)
        return row(name, "ok", settings.org_url)

    def _check_key(self) -> Check:
        name = "key"
        try:
            settings = self._read_settings(client_id="doctor", org_url=_PLACEHOLDER_ORG, scopes=["okta.users.read"])
            if self._settings is not None:
                # The service app itself refuses more than the settings do. This row reports that too, but only
                # if the key can be read.
                self._app = ServiceApp(**{**self._settings.arguments(), "max_wait": self._max_wait})
        except ConfigurationError as error:
            return error_row(name, error)
        return _key_row(cast("Signer", settings.key), settings.files.get("key"))  # only an argument could be several

    # ── the way to Okta ──────────────────────────────────────────────────────────────────────────────────────────

    def _skipped_row(self, name: str) -> Check:
        return row(name, "skipped", "offline" if self._offline else NOT_POSSIBLE)

    def _session(self) -> requests.Session:
        url = _PLACEHOLDER_ORG if self._app is None else self._app.org_url
        return client_session(self._client, self._new_session, url)

    def _check_connection(self) -> Iterator[Check]:
        if self._offline or self._app is None:
            yield from map(self._skipped_row, CONNECTION_ROWS)
            return
        with self._session() as session:
            bundle = client_bundle(self._client)
            self._connected = yield from check_connection(session, bundle, self._app, self._timeout)

    def _check_registration(self) -> Iterator[Check]:
        if self._api is None or self._app is None or self._api.org_url != self._app.org_url:
            return
        if self._connected:
            yield from check_registration(self._api, self._app)
        else:
            yield from map(self._skipped_row, REGISTRATION_ROWS)

    # ── the token ────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_token_request(self, session: requests.Session) -> Check:
        name = "token"
        if self._app is None or not self._connected:
            return self._skipped_row(name)
        send = session.send

        def remember_headers(request: requests.PreparedRequest, **settings: Any) -> requests.Response:
            response = send(request, **settings)
            self._token_headers = response.headers
            return response

        session.send = remember_headers  # type: ignore[method-assign]  # the same signature in a shorter form
        try:
            token = OktaAuth(self._app, session=session).token()
        except OktaM2MError as error:
            self._rate_limited = isinstance(error, RateLimited)
            if error.error_description != "The client_assertion JWT kid is invalid.":
                return error_row(name, error)
            remedy = (
                "Okta lists no active key of this app with this kid (okta-m2m key list). Register the key, or activate it: "
                "okta-m2m key add, okta-m2m key activate. If it is listed with another kid, use that one."
            )
            return row(name, "fail", error.problem, remedy)
        self._token = token
        return row(name, "ok", f"{token.token_type}, {token.expires_in:.0f} s")

    def _check_scopes(self) -> Check:
        name = "scopes"
        if self._app is None or self._token is None:
            return self._skipped_row(name)
        granted = f"granted: {quoted(' '.join(self._token.scopes)) or 'none'}"
        missing = " ".join(scope for scope in self._app.scopes if scope not in self._token.scopes)
        if missing:
            server = custom_server(self._app.token_endpoint)
            remedy = (
                policy_remedy(server)
                if server
                else (
                    f"Grant them: okta-m2m app grant {missing} (Admin Console: Applications > the app > Okta API Scopes)"
                )
            )
            return row(name, "fail", f"{granted}; not granted: {quoted(missing)}", remedy)
        return row(name, "ok", granted)

    def _check_rate_limit(self) -> Check:
        name = "rate limit"
        headers = self._token_headers
        if headers is None:
            return self._skipped_row(name)
        limit, left = _number(headers.get("x-rate-limit-limit")), _number(headers.get("x-rate-limit-remaining"))
        if limit is None or left is None:
            return row(name, "skipped", "Okta's response does not say")
        state: State = "warn" if left < LOW_RATE_LIMIT * limit else "ok"
        if self._rate_limited or left <= 0:
            state = "fail"
        remedy = "Fetch fewer tokens: one ServiceApp per process, and a shared store for many processes."
        detail = f"{left} of {limit} token requests a minute are left"
        return row(name, state, detail, "" if state == "ok" else remedy)

    def _check_api_call(self) -> Check:
        name = "API call"
        app = self._app
        if self._call is None:
            return row(name, "skipped", "not requested (--call /api/v1/users?limit=1)")
        if app is None or self._token is None:
            return self._skipped_row(name)
        try:
            url = url_to_call(app, self._call)
        except ConfigurationError as error:
            return error_row(name, error)
        with client_session(self._client, self._new_session, url) as session:  # its host may need another proxy
            try:
                call = partial(session.get, url, auth=OktaAuth(app), timeout=self._timeout, stream=True)
                seconds = self._timeout + self._max_wait  # a token that is rejected is renewed
                response = within(seconds, partial(call, allow_redirects=False), requests.ReadTimeout)
            except OktaM2MError as error:  # before RequestException, because it may be one too
                return error_row(name, error)
            except requests.RequestException as error:
                remedy = "Check the URL, the network and the proxy."
                return row(name, "fail", f"no response ({type(error).__name__})", remedy, Kind.UNREACHABLE)
            with response:
                response._content = LIBRARY.peek(response, MAX_PEEK)  # the error code is at the beginning
        return check_answer(name, "GET", urlsplit(url).path, response)


def url_to_call(app: ServiceApp, target: str) -> str:
    """The URL of an API call.

    - ``app``: the app that makes the call.
    - ``target``: a path at the app's org (``/api/v1/users``), or a URL.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for a URL that may not get the app's token, and for anything else.
    """
    url = app.org_url + target if target.startswith("/") else target
    if "://" not in url:
        path = target if target.startswith(("api/", "oauth2/")) else f"api/v1/{target}"
        raise ConfigurationError(
            f"{quoted(target, 100)!r} is neither a path nor a URL.", remedy=f"Begin with a slash: /{quoted(path, 80)}"
        )
    if not app.origins.allow(url):
        host = origin_of(url) or "that URL"
        server = custom_server(app.token_endpoint)
        remedy = "To call your own API, set OKTA_M2M_ORIGINS (origins: in okta.yaml) to its origin: https://HOST."
        if server and host == origin_of(app.org_url):
            remedy = (
                f"Okta's own API accepts no token of the authorization server {server}. Use the URL of your own API."
            )
        elif not server:
            remedy = f"Use a path of the org. {remedy}"
        raise ConfigurationError(f"The token may not be sent to {host}.", remedy=remedy)
    return url


_PLACEHOLDER_ORG: Final = "https://doctor.okta.com"
_NO_KEY: Final = object()  # in place of a key while the other settings are checked


def _key_row(key: Signer, okta_yaml: Path | None = None) -> Check:
    name = "key"
    detail = f"{_strength(key)}, {key.alg}, {'no kid' if key.kid is None else f'kid {shown_id(key.kid)}'}"
    path = getattr(key, "path", None) or okta_yaml  # only a key that follows a file has one
    warning = None if path is None else readers_warning(path, "private key")
    if warning is not None:
        return row(name, "warn", f"{detail}; every user of this machine can read it", warning)
    if key.kid is None:
        remedy = "It works while the app has only one key. A rotation needs the kid in the file: okta-m2m key rotate -h"
        return row(name, "warn", detail, remedy)
    return row(name, "ok", detail)


def _strength(key: Signer) -> str:
    jwk = key.public_jwk
    if jwk.get("kty") == "RSA":
        return f"RSA {len(jwk['n']) * 6 // 8 * 8} bits"
    return f"EC {jwk.get('crv', '')}".strip()


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
