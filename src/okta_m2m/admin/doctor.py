"""What stands between this machine and a working call, looked at row by row.

Each row is a :class:`Check`. A row whose ground is gone is ``skipped`` and names no remedy: the first row that failed has
it. Nothing is changed anywhere, but that one token is fetched.

Invariant: no row holds a token, an assertion, a key, or a password of a proxy; and a row that cannot be looked at is never
reported as good.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies, select_proxy

from .._core.challenges import challenges
from .._core.clocks import http_date
from .._core.service_app import ServiceApp
from .._core.tokens import Token
from ..errors import (
    ConfigurationError,
    OktaM2MError,
    RateLimited,
    SigningFailed,
    TokenRefused,
    quoted,
)
from ..keys import Signer
from ..requests import OktaAuth
from ..settings import Settings, read_settings
from .management import public_id

__all__ = ["Check", "Doctor", "Kind", "worst"]

OFF_A_LITTLE: Final = 5.0
"""Seconds by which this machine's clock may be off unnoticed."""

OFF_A_LOT: Final = 300.0
"""Seconds beyond which other software that signs in from here fails: the age at which Okta refuses a DPoP proof."""

LITTLE_HEADROOM: Final = 0.1
"""Part of a rate limit below which what is left is little."""

State = Literal["ok", "warn", "fail", "skipped"]


class Kind(StrEnum):
    """What kind of trouble a row is about; the command has an exit code for each."""

    CONFIGURATION = "configuration"
    UNREACHABLE = "unreachable"
    CLOCK = "clock"
    REFUSED = "refused"
    SCOPE = "scope"
    ROLE = "role"
    RATE_LIMIT = "rate limit"
    SIGNING = "signing"


@dataclass(frozen=True, slots=True)
class Check:
    """One row. ``detail`` is what was found; ``remedy`` what to do about it, empty where there is nothing to be done."""

    name: str
    state: State
    detail: str
    remedy: str = ""
    kind: Kind = Kind.CONFIGURATION


def worst(checks: Iterator[Check] | list[Check]) -> Check | None:
    """The first row that failed, which is the cause of those after it; ``None`` if none did."""
    return next((check for check in checks if check.state == "fail"), None)


class Doctor:
    """Looks at the service app of the settings in effect.

    - ``files``, ``environ`` and ``arguments`` as for :func:`~okta_m2m.settings.read_settings`.
    - ``offline``: only what needs no network.
    - ``call``: an API call to try with GET, as a path of the org or as a URL: ``/api/v1/users?limit=1``.
    - ``max_wait``: seconds for the token request; ``timeout``: seconds for each other answer.
    - ``session``: whose proxies, CA and adapters are used; by default those of the environment.
    """

    def __init__(
        self,
        *,
        files: bool = True,
        environ: Mapping[str, str] | None = None,
        arguments: Mapping[str, Any] | None = None,
        offline: bool = False,
        call: str | None = None,
        max_wait: float = 20.0,
        timeout: float = 10.0,
        session: Callable[[], requests.Session] = requests.Session,
    ) -> None:
        self._reading: dict[str, Any] = {"files": files, "environ": environ}
        self._arguments = dict(arguments or {})
        self._offline = offline
        self._call = call
        self._max_wait = max_wait
        self._timeout = timeout
        self._new_session = session
        self._settings: Settings | None = None
        self._app: ServiceApp | None = None
        self._discovered: requests.Response | None = None
        self._token: Token | None = None
        self._headroom: Mapping[str, str] | None = None
        self._limited: RateLimited | None = None

    def checks(self) -> Iterator[Check]:
        """The rows, each as soon as it is known."""
        yield self._configuration()
        yield self._org_url()
        yield self._key()
        with self._new_session() as session:
            yield self._name()
            yield from self._connection(session)
            yield self._clock()
        with _Watching(self._new_session()) as watched:
            yield self._token_request(watched)
            yield self._scopes()
            yield self._rate_limit(watched)
            yield self._api_call(watched)

    # ── without a network ────────────────────────────────────────────────────────────────────────────────────────

    def _configuration(self) -> Check:
        name = "configuration"
        try:
            # The org URL and the key have rows of their own.
            read_settings(**self._reading, **{**self._arguments, "org_url": _SOME_ORG, "key": _SomeSigner()})
        except ConfigurationError as error:
            return _failed(name, error)
        try:
            settings = read_settings(**self._reading, **self._arguments)
        except ConfigurationError:
            return Check(name, "ok", "client id and scopes are there")
        self._settings = settings
        places: dict[str, list[str]] = {}
        for setting, place in settings.sources.items():
            places.setdefault(place, []).append(setting)
        return Check(name, "ok", "; ".join(f"{', '.join(found)} from {place}" for place, found in places.items()))

    def _org_url(self) -> Check:
        name = "org URL"
        try:
            arguments = {**self._arguments, "client_id": "doctor", "key": _SomeSigner(), "scopes": ["okta.users.read"]}
            org_url = read_settings(**self._reading, **arguments).org_url
        except ConfigurationError as error:
            return _failed(name, error)
        return Check(name, "ok", org_url)

    def _key(self) -> Check:
        name = "key"
        try:
            arguments = {**self._arguments, "client_id": "doctor", "org_url": _SOME_ORG, "scopes": ["okta.users.read"]}
            found = read_settings(**self._reading, **arguments)
        except ConfigurationError as error:
            return _failed(name, error)
        keys: Any = found.key if isinstance(found.key, list | tuple) else (found.key,)
        key: Signer = keys[0]
        detail = f"{_strength(key)}, {key.alg}, {'no kid' if key.kid is None else f'kid {public_id(key.kid)}'}"
        detail += f", and {len(keys) - 1} more" if len(keys) > 1 else ""
        if self._settings is not None:
            try:
                self._app = ServiceApp(**{**self._settings.arguments(), "max_wait": self._max_wait})
            except ConfigurationError as error:
                return _failed(name, error)
        path = getattr(key, "path", None) or getattr(key, "_path", None)
        if path is not None and os.name == "posix":
            mode = stat.S_IMODE(os.stat(path).st_mode)
            if mode & 0o077:
                return Check(
                    name,
                    "warn",
                    f"{detail}; others can read {path} (mode {mode:04o})",
                    f"Keep it to yourself: chmod 600 {path}",
                )
        if key.kid is None:
            return Check(
                name, "warn", detail, "It works as long as the app has one key only; with a kid it can be rotated."
            )
        return Check(name, "ok", detail)

    # ── the way to Okta ──────────────────────────────────────────────────────────────────────────────────────────

    def _skipped(self, name: str, kind: Kind = Kind.UNREACHABLE) -> Check:
        return Check(name, "skipped", "offline" if self._offline else "needs what failed above", "", kind)

    def _name(self) -> Check:
        name = "name look-up"
        if self._offline or self._app is None:
            return self._skipped(name)
        proxy = _proxy(self._app.org_url)
        if proxy is not None:
            return Check(name, "skipped", f"left to the proxy {proxy}", "", Kind.UNREACHABLE)
        parts = urlsplit(self._app.org_url)
        host = parts.hostname or ""
        try:
            found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
        except OSError as error:
            return Check(
                name,
                "fail",
                f"{host} has no address here ({quoted(error.strerror or error, 100)})",
                "Check the org URL's spelling, and this machine's DNS; behind a proxy set HTTPS_PROXY.",
                Kind.UNREACHABLE,
            )
        return Check(name, "ok", f"{host} is {found[0][4][0]}", "", Kind.UNREACHABLE)

    def _connection(self, session: requests.Session) -> Iterator[Check]:
        names = ("proxy", "TLS", "discovery")
        app = self._app
        if self._offline or app is None:
            for name in names:
                yield self._skipped(name)
            return
        proxy = _proxy(app.org_url)
        plain = app.org_url.startswith("http://")
        # The issuer of a custom authorization server, or of the org, with its metadata beneath.
        issuer = app.token_endpoint.removesuffix("/v1/token").removesuffix("/oauth2")
        url = f"{issuer}/.well-known/oauth-authorization-server"
        try:
            response = session.get(url, timeout=self._timeout, allow_redirects=False, auth=lambda request: request)
        except requests.exceptions.ProxyError:
            yield _unreachable(
                "proxy", f"{proxy} does not let this through", "Check HTTPS_PROXY and NO_PROXY, and the proxy."
            )
            yield self._skipped("TLS")
            yield self._skipped("discovery")
            return
        except requests.exceptions.SSLError as error:
            yield _proxied(proxy)
            yield _unreachable(
                "TLS",
                f"the certificate of {urlsplit(url).hostname} is not trusted ({quoted(_reason(error), 160)})",
                "If a proxy of yours opens TLS, name its CA in REQUESTS_CA_BUNDLE; else this is not Okta.",
            )
            yield self._skipped("discovery")
            return
        except requests.RequestException as error:
            yield _proxied(proxy)
            yield _unreachable(
                "TLS",
                f"no connection to {urlsplit(url).netloc} ({type(error).__name__})",
                "Check the network, firewall and proxy between this machine and Okta.",
            )
            yield self._skipped("discovery")
            return
        self._discovered = response
        yield _proxied(proxy)
        if plain:
            yield Check("TLS", "skipped", "plain http on this machine", "", Kind.UNREACHABLE)
        else:
            yield Check("TLS", "ok", f"the certificate of {urlsplit(url).hostname} is trusted", "", Kind.UNREACHABLE)
        yield _discovery(app, response)

    def _clock(self) -> Check:
        name = "clock"
        if self._discovered is None:
            return self._skipped(name, Kind.CLOCK)
        told = http_date(self._discovered.headers.get("Date"))
        if told is None:
            return Check(name, "skipped", "Okta's answer names no time", "", Kind.CLOCK)
        # Date is cut to whole seconds: half a second is the best guess at what it left out.
        off = time.time() - told - 0.5
        side = "ahead of" if off > 0 else "behind"
        detail = f"{abs(off):.0f} s {side} Okta"
        remedy = "Set this machine's clock (NTP). okta-m2m goes by Okta's clock itself, but other software does not."
        if abs(off) > OFF_A_LOT:
            return Check(name, "fail", detail, remedy, Kind.CLOCK)
        if abs(off) > OFF_A_LITTLE:
            return Check(name, "warn", detail, remedy, Kind.CLOCK)
        return Check(name, "ok", "as Okta's", "", Kind.CLOCK)

    # ── the token ────────────────────────────────────────────────────────────────────────────────────────────────

    def _token_request(self, session: _Watching) -> Check:
        name = "token"
        if self._offline or self._app is None or self._discovered is None:
            return self._skipped(name, Kind.REFUSED)
        try:
            token = OktaAuth(self._app, session=session.session).token()
        except RateLimited as error:
            self._limited = error
            return Check(name, "fail", *_told(error), Kind.RATE_LIMIT)
        except OktaM2MError as error:
            return _failed(name, error)
        self._token = token
        return Check(name, "ok", f"{token.token_type}, {token.expires_in:.0f} s", "", Kind.REFUSED)

    def _scopes(self) -> Check:
        name = "scopes"
        app, token = self._app, self._token
        if app is None or token is None:
            return self._skipped(name, Kind.SCOPE)
        missing = [scope for scope in app.scopes if scope not in token.scopes]
        if missing:
            return Check(
                name,
                "fail",
                f"granted: {quoted(' '.join(token.scopes)) or 'none'}; left out: {quoted(' '.join(missing))}",
                f"Grant them: okta-m2m app grant {' '.join(missing)} (Admin Console: Applications > the app > Okta "
                "API Scopes)",
                Kind.SCOPE,
            )
        return Check(name, "ok", f"granted: {quoted(' '.join(token.scopes)) or 'none'}", "", Kind.SCOPE)

    def _rate_limit(self, session: _Watching) -> Check:
        name = "rate limit"
        headers = session.token_headers
        if self._offline or headers is None:
            return self._skipped(name, Kind.RATE_LIMIT)
        limit, left = _number(headers.get("x-rate-limit-limit")), _number(headers.get("x-rate-limit-remaining"))
        if limit is None or left is None:
            return Check(name, "skipped", "Okta's answer does not tell", "", Kind.RATE_LIMIT)
        detail = f"{left} of {limit} token requests a minute are left"
        remedy = "Fetch fewer tokens: one ServiceApp per process, and a store where there are many processes."
        if self._limited is not None or left <= 0:
            return Check(name, "fail", detail, remedy, Kind.RATE_LIMIT)
        if left < LITTLE_HEADROOM * limit:
            return Check(name, "warn", detail, remedy, Kind.RATE_LIMIT)
        return Check(name, "ok", detail, "", Kind.RATE_LIMIT)

    def _api_call(self, session: _Watching) -> Check:
        name = "API call"
        app = self._app
        if self._call is None:
            return Check(name, "skipped", "none was asked for (--call /api/v1/users?limit=1)", "", Kind.ROLE)
        if app is None or self._token is None:
            return self._skipped(name, Kind.ROLE)
        url = app.org_url + self._call if self._call.startswith("/") else self._call
        if not app.origins.allow(url):
            return Check(
                name,
                "fail",
                f"the token may not travel to {quoted(urlsplit(url).netloc, 100)}",
                "Give a path of the org, or name that API's origin in origins.",
                Kind.CONFIGURATION,
            )
        try:
            response = session.session.get(url, auth=OktaAuth(app), timeout=self._timeout, allow_redirects=False)
        except requests.RequestException as error:
            return _unreachable(
                name, f"no answer ({type(error).__name__})", "Check the URL, the network and the proxy."
            )
        except OktaM2MError as error:
            return _failed(name, error)
        return _judged(name, urlsplit(url).path, response)


class _Watching:
    """A session that remembers what the token endpoint's last answer said of its rate limit."""

    def __init__(self, session: requests.Session) -> None:
        self.session = session
        self.token_headers: Mapping[str, str] | None = None
        send = session.send

        def watched(request: requests.PreparedRequest, **settings: Any) -> requests.Response:
            response = send(request, **settings)
            if (request.url or "").endswith("/v1/token"):
                self.token_headers = response.headers
            return response

        session.send = watched  # type: ignore[method-assign]  # the same signature, spelled shorter

    def __enter__(self) -> _Watching:
        return self

    def __exit__(self, *failure: object) -> None:
        self.session.close()


_SOME_ORG: Final = "https://doctor.okta.com"


class _SomeSigner:
    """Stands in for a key while the other settings are looked at."""

    alg = "ES256"
    kid = None
    public_jwk: Mapping[str, str] = {}

    def sign(self, message: bytes, /) -> bytes:
        raise AssertionError("nothing is signed with it")


def _told(error: OktaM2MError) -> tuple[str, str]:
    """What happened and what to do: an error's message ends with its remedy, and begins with what Okta said."""
    text = " ".join(str(error).split())
    head, bracket, rest = text.partition("] ")
    if bracket and rest:
        return head + "]", rest
    head, stop, rest = text.partition(". ")
    if stop and rest:
        return f"{head}.", rest
    head, colon, rest = text.partition(": ")
    return (head, rest[:1].upper() + rest[1:]) if colon and rest else (text, "Look into the configuration page.")


def _failed(name: str, error: OktaM2MError) -> Check:
    kind = Kind.UNREACHABLE
    for family, found in (
        (ConfigurationError, Kind.CONFIGURATION),
        (TokenRefused, Kind.REFUSED),
        (RateLimited, Kind.RATE_LIMIT),
        (SigningFailed, Kind.SIGNING),
    ):
        if isinstance(error, family):
            kind = found
            break
    return Check(name, "fail", *_told(error), kind)


def _unreachable(name: str, detail: str, remedy: str) -> Check:
    return Check(name, "fail", detail, remedy, Kind.UNREACHABLE)


def _proxied(proxy: str | None) -> Check:
    if proxy is None:
        return Check("proxy", "ok", "none", "", Kind.UNREACHABLE)
    return Check("proxy", "ok", proxy, "", Kind.UNREACHABLE)


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL, without the password that it may hold."""
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def _reason(error: BaseException) -> str:
    for _ in range(20):  # an exception may be its own cause
        came_of = error.__cause__ or error.__context__
        if came_of is None:
            break
        error = came_of
    return str(error)


def _discovery(app: ServiceApp, response: requests.Response) -> Check:
    name = "discovery"
    try:
        document = response.json()
    except ValueError:
        document = None
    if response.status_code != 200 or not isinstance(document, dict) or "token_endpoint" not in document:
        return _unreachable(
            name,
            f"HTTP {response.status_code} in place of an authorization server's metadata",
            "Check the org URL, the id of the custom authorization server if there is one, and for a login page in "
            "between.",
        )
    endpoint = document["token_endpoint"]
    if endpoint != app.token_endpoint:
        return Check(
            name,
            "warn",
            f"Okta calls its token endpoint {quoted(endpoint, 150)}, and {app.token_endpoint} is used",
            "Use the org URL under which Okta knows itself, if the token request is refused.",
            Kind.CONFIGURATION,
        )
    return Check(name, "ok", f"issuer {quoted(document.get('issuer'), 150)}", "", Kind.UNREACHABLE)


def _judged(name: str, path: str, response: requests.Response) -> Check:
    status, path = response.status_code, quoted(path, 100)
    if 200 <= status < 300:
        return Check(name, "ok", f"GET {path}: HTTP {status}", "", Kind.ROLE)
    try:
        document = response.json()
    except ValueError:
        document = {}
    code = document.get("errorCode") if isinstance(document, dict) else None
    challenge = next(
        (found for found in challenges([response.headers.get("WWW-Authenticate", "")]) if found.error is not None), None
    )
    said = challenge.error if challenge is not None and code is None else code
    detail = f"GET {path}: HTTP {status}{f' {quoted(said, 60)}' if said else ''}"
    if challenge is not None and challenge.error == "insufficient_scope":
        scope = quoted(challenge.parameters.get("scope", ""), 100)
        return Check(
            name,
            "fail",
            f"{detail}: the scope is missing",
            f"Grant it (okta-m2m app grant {scope}), and ask for it in the scopes.",
            Kind.SCOPE,
        )
    if code == "E0000006" or (status == 403 and challenge is None):
        return Check(
            name,
            "fail",
            f"{detail}: the scope will do, an admin role is missing",
            "Assign one that allows this: okta-m2m app role add (Admin Console: Applications > the app > Admin roles)",
            Kind.ROLE,
        )
    if code == "E0000015":
        return Check(
            name, "fail", f"{detail}: the org lacks the feature", "Ask Okta's support to switch it on.", Kind.REFUSED
        )
    if status == 404:
        return Check(name, "fail", detail, "Check the path: nothing is there.", Kind.CONFIGURATION)
    if status == 429:
        return Check(name, "fail", detail, "The API's rate limit is spent; try again in a minute.", Kind.RATE_LIMIT)
    if status >= 500:
        return _unreachable(name, detail, "Try again, and look at the API's status page.")
    if status in (400, 401):
        return Check(
            name,
            "fail",
            f"{detail}: the token is not taken",
            "Check that the API takes tokens of this authorization server, and for a proxy that rewrites hosts or "
            "headers.",
            Kind.REFUSED,
        )
    return Check(name, "fail", detail, "Check the path and what the API wants.", Kind.REFUSED)


def _strength(key: Signer) -> str:
    jwk = key.public_jwk
    if jwk.get("kty") == "RSA":
        return f"RSA {len(jwk['n']) * 6 // 8 * 8} bits"
    return f"EC {jwk.get('crv', '')}".strip()


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
