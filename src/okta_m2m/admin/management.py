"""Calls to Okta's management API: signs in, waits for rate limits, and reads lists page by page.

Invariant: the sign-in is sent only to the org's own origin, and never through a proxy to plain HTTP to localhost. No
``repr``, error or log shows an SSWS token: of a request, an error shows only the method, path and origin. A call that may have
changed something is sent again only after a 429, which means that nothing was done. The size of a response, the pages of a list,
the time for each, and the waits for rate limits are bounded. No body is decompressed.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, Self
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from requests.exceptions import ProxyError, SSLError

from .. import ServiceApp
from .._base.clocks import http_date
from .._base.crash_reports import without_locals
from .._base.tokens import not_picklable
from .._clients.limits import MAX_DRAINED, AnswerBody, check_encoding
from .._clients.private_copy import private_copy
from .._clients.proxies import is_direct_only
from .._core.answers import json_object, rate_limit_pause
from .._core.challenges import challenges
from .._core.politeness import back_off
from .._threads.deadlines import within
from .._urls.origins import origin_of
from ..effects import Response, SendFailed
from ..errors import ConfigurationError, OktaM2MError, quoted
from ..requests import OktaAuth
from ..settings import check_org_url
from .errors import (
    InvalidRequest,
    NotFound,
    NotSignedIn,
    OktaUnreachable,
    PermissionMissing,
    ProvisioningError,
    RateLimitTooLong,
    ScopeMissing,
)

__all__ = ["ApiToken", "ManagementApi", "Pause"]

MAX_ATTEMPTS: Final = 4
"""The maximum number of attempts at a call if the network or the server fails and the call is safe to repeat."""

MAX_PAGES: Final = 1_000
"""The maximum number of pages that are read of a list, which is 100,000 apps."""

MAX_BODY: Final = 8 << 20
"""The maximum number of bytes that are read of a response. A page of 100 apps is much smaller."""

LONGEST_TOKEN_FILE: Final = 10_000
"""The number of characters that are read from a file with an SSWS token. A token is much shorter; a log file that was named
by mistake is not."""

_UNFIT_FOR_A_HEADER = frozenset(chr(code) for code in [*range(0x21), 0x7F])


class ApiToken(AuthBase):
    """An SSWS token. It has the admin rights of the account that created it, and expires after 30 days without use.

    - ``value``: the token, with or without ``SSWS`` before it.

    Raises :class:`~okta_m2m.errors.ConfigurationError` if it cannot be a token. Source: Okta, "API token management".
    """

    __slots__ = ("_value",)

    @without_locals
    def __init__(self, value: str) -> None:
        text = value.strip().removeprefix("SSWS ").strip() if isinstance(value, str) else ""
        if not text or not text.isascii() or _UNFIT_FOR_A_HEADER & set(text):
            raise ConfigurationError(
                "The SSWS token is empty or invalid.",
                remedy="Create one (Admin Console: Security > API > Tokens), and use all of it, on one line.",
            )
        self._value = text

    @classmethod
    @without_locals
    def from_env(cls, name: str = "OKTA_CLIENT_TOKEN", environ: Mapping[str, str] = os.environ) -> ApiToken:
        """Reads the token from an environment variable.

        - ``name``: the variable. Default: the one that Okta's own SDKs read.
        - ``environ``: the environment variables. Default ``os.environ``.

        Raises :class:`~okta_m2m.errors.ConfigurationError` if it is not set, or is not a token.
        """
        if not environ.get(name, "").strip():
            raise ConfigurationError(
                f"{name} is not set.", remedy="Set it to an SSWS token (Admin Console: Security > API > Tokens)."
            )
        return cls(environ[name])

    @classmethod
    @without_locals
    def from_file(cls, path: str | os.PathLike[str]) -> ApiToken:
        """Reads the token from a file that contains nothing else.

        - ``path``: the file. White space around the token is ignored.

        Raises :class:`~okta_m2m.errors.ConfigurationError` if it cannot be read, or is not a token.
        """
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read(LONGEST_TOKEN_FILE)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigurationError(
                f"The file with the SSWS token, {os.fspath(path)}, cannot be read ({reason}).",
                remedy="Check the path, and that this process may read it.",
            ) from None
        return cls(text)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Signs a request, as an auth object of ``requests``."""
        request.headers["Authorization"] = f"SSWS {self._value}"
        return request

    def __repr__(self) -> str:
        return "ApiToken(...)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("An SSWS token", "Read it where it is needed, with ApiToken.from_env or ApiToken.from_file.")


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait that is about to begin, of ``seconds``, for this ``reason``."""

    seconds: float
    reason: str


class ManagementApi:
    """The management API of an org, used with one account.

    - ``org_url``: ``https://acme.okta.com``, or the org's custom domain.
    - ``sign_in``: an :class:`ApiToken`; or a :class:`~okta_m2m.ServiceApp` that has an admin role and the scopes for
      the task (``okta.apps.manage``, ``okta.appGrants.manage``, ``okta.clients.manage``, ``okta.roles.manage``).
    - ``max_wait``: the total time in seconds that one call may wait for rate limits. Default 120.
    - ``timeout``: seconds for one complete response, besides those in which a service app gets its token. Default 30.
    - ``session``: a session whose proxies, CA bundle and adapters are used. Default ``None``: a new one, with the
      settings of the environment. Plain HTTP on this machine is reached without a proxy.
    - ``on_pause``: called with a :class:`Pause` before each wait. Default ``None``.
    - ``sleep``: called with the seconds to wait. Default :func:`time.sleep`.

    Raises :class:`~okta_m2m.errors.ConfigurationError` if ``org_url`` or ``sign_in`` is invalid. The methods raise a
    :class:`~okta_m2m.admin.errors.ProvisioningError`, or a :class:`~okta_m2m.errors.TokenError` if a service app signs
    in and gets no token.
    """

    @without_locals
    def __init__(
        self,
        org_url: str,
        sign_in: ApiToken | ServiceApp,
        *,
        max_wait: float = 120.0,
        timeout: float = 30.0,
        session: requests.Session | None = None,
        on_pause: Callable[[Pause], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.org_url = check_org_url(org_url)
        self._auth = _auth(self.org_url, sign_in)
        self._with_token = isinstance(sign_in, ApiToken)
        self._origin = origin_of(self.org_url)
        self._max_wait = max_wait
        self._timeout = timeout
        self._deadline = timeout + (0.0 if isinstance(sign_in, ApiToken) else sign_in.max_wait)
        self._owned = session is None
        self._session = session or requests.Session()
        if is_direct_only(self.org_url):
            self._session = private_copy(self._session, proxies={}, trust_env=False)
        self._on_pause = on_pause
        self._sleep = sleep
        self._okta_time: float | None = None

    def call(self, method: str, path: str, body: object = None, *, query: Mapping[str, str] | None = None) -> Any:
        """Makes one call, and returns the JSON of the response; ``None`` if it is empty.

        - ``method``: the HTTP method, in upper case.
        - ``path``: the path below the org URL: ``/api/v1/apps``.
        - ``body``: sent as JSON. ``None``, the default, sends no body.
        - ``query``: parameters of the query, not encoded. Default ``None``.
        """
        return _json_of(self._request(method, self.org_url + path, body, query))

    def pages(
        self, path: str, query: Mapping[str, str] | None = None, *, until_empty: bool = False
    ) -> Iterator[Mapping[str, Any]]:
        """Every item of a list. Each page is fetched when it is reached (``Link: rel="next"``, RFC 8288).

        - ``path``: the path of the list, below the org URL.
        - ``query``: parameters for the first page; Okta's links include them for the others. Default ``None``.
        - ``until_empty``: whether an empty page is the last one. The System Log may name a next page for ever. Default
          ``False``.
        """
        url: str | None = self.org_url + path
        seen: set[str] = set()
        while url is not None:
            seen.add(url)
            response = self._request("GET", url, None, query)
            items = items_of(_json_of(response), path.rpartition("/")[2])
            yield from items
            if until_empty and not items:
                return
            url, query = response.links.get("next", {}).get("url"), None
            if url is not None and (origin_of(url) != self._origin or url in seen):
                raise ProvisioningError(
                    f"The next page of Okta's list is at {quoted(url, 200)}, which is on another host or was already read.",
                    remedy="Use Okta's own URL for the org, not that of a proxy that rewrites the host.",
                )
            if url is not None and len(seen) == MAX_PAGES:
                raise ProvisioningError(
                    f"Okta's list at {path} has more than {MAX_PAGES} pages.",
                    remedy="Check the org URL. If the list really is that long, search it with a query.",
                )

    def now(self) -> float:
        """The time at Okta when it sent the latest response, in seconds since the epoch (``Date``, RFC 9110 section 6.6.1).

        If no response has had one, it is this machine's time, which may be wrong.
        """
        return time.time() if self._okta_time is None else self._okta_time

    def pause(self, seconds: float, reason: str) -> None:
        """Reports a wait, and waits.

        - ``seconds``: how long to wait.
        - ``reason``: the reason, as the end of a sentence that begins with ``waiting for 3 s:``.
        """
        if self._on_pause is not None:
            self._on_pause(Pause(seconds, reason))
        self._sleep(seconds)

    def close(self) -> None:
        """Closes the connections, unless the session was passed in."""
        if self._owned:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if not hasattr(self, "_with_token"):
            return "ManagementApi(not made)"  # in a traceback of its own failed creation
        return f"ManagementApi({self.org_url!r}, {'SSWS token' if self._with_token else 'service app'})"

    def _request(self, method: str, url: str, body: object, query: Mapping[str, str] | None) -> requests.Response:
        """The response of a successful call. Waits for rate limits, and retries if that is safe."""
        waited, failures, limited = 0.0, 0, 0
        repeatable = method in ("GET", "HEAD", "PUT", "DELETE")
        while True:
            try:
                send = partial(self._send, method, url, body, query)
                response = within(self._deadline, send, requests.ReadTimeout)
            except OktaM2MError:  # the service app that signs in got no token; this may be a RequestException too
                raise
            except requests.RequestException as error:
                failures += 1
                if not repeatable or failures >= MAX_ATTEMPTS or isinstance(error, requests.exceptions.InvalidURL):
                    raise _no_answer(method, url, error, failures, repeatable) from None
                self.pause(back_off(failures), "no response from Okta")
                continue
            except OSError:  # requests' own error for a CA bundle that it cannot read
                raise ConfigurationError(
                    "The CA bundle cannot be read.",
                    remedy="Correct the path in REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, or that of the session.",
                ) from None
            if response.status_code == 429:  # Okta did nothing, so any call may be sent again
                asked = rate_limit_pause(Response(429, response.headers.items()), time.time())
                limited += 1
                failures += asked is None
                pause = max(asked or 0.0, back_off(limited))  # whatever the server asks for, these waits end
                if waited + pause > self._max_wait or failures >= MAX_ATTEMPTS:
                    raise _refusal(method, url, response, self._with_token, retry_after=pause)
                waited += pause
                self.pause(pause, "Okta's rate limit")
                continue
            if response.status_code >= 500 and repeatable and failures < MAX_ATTEMPTS - 1:
                failures += 1
                self.pause(back_off(failures), f"an error of Okta's server (HTTP {response.status_code})")
                continue
            if not 200 <= response.status_code < 300:
                raise _refusal(method, url, response, self._with_token)
            return response

    def _send(self, method: str, url: str, body: object, query: Mapping[str, str] | None) -> requests.Response:
        json_type = {} if body is None else {"Content-Type": "application/json"}
        response = self._session.request(
            method,
            url,
            params=query,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", **json_type},
            auth=self._auth,
            timeout=self._timeout,
            allow_redirects=False,
            stream=True,
        )
        _read_body(response)
        _redact(response)
        self._okta_time = http_date(response.headers.get("Date")) or self._okta_time
        return response


def _auth(org_url: str, sign_in: ApiToken | ServiceApp) -> AuthBase:
    if isinstance(sign_in, ApiToken):
        return sign_in
    if not isinstance(sign_in, ServiceApp):
        # The value may be the token itself, so only its type is named.
        raise ConfigurationError(
            f"sign_in must be an ApiToken or a ServiceApp, not a {type(sign_in).__name__}.",
            remedy="Create an ApiToken with ApiToken.from_env() or ApiToken.from_file(path).",
        )
    if not sign_in.origins.allow(org_url) or sign_in.token_endpoint != f"{org_url}/oauth2/v1/token":
        raise ConfigurationError(
            "The service app that signs in gets its tokens from another authorization server. The management API accepts "
            f"only those of the org authorization server at {org_url}.",
            remedy="Create it with this org URL and without an authorization server.",
        )
    return OktaAuth(sign_in)


# ── responses ────────────────────────────────────────────────────────────────────────────────────────────────────────

_PERMISSION = (
    "Sign in with an account whose admin role allows it: Application Administrator for apps and their keys; Super "
    "Administrator for grants and roles, and for the keys of an app that has scopes granted."
)
_BY_STATUS: Final[Mapping[int, tuple[type[ProvisioningError], str]]] = {
    403: (PermissionMissing, _PERMISSION),
    404: (NotFound, "Check the id and the org URL. List the apps with: okta-m2m app list"),
    405: (
        InvalidRequest,
        "This org does not support that. Check the org URL, and whether there is a proxy in between.",
    ),
    409: (InvalidRequest, "It already exists."),
}


def _read_body(response: requests.Response) -> None:
    """Reads the body of a response to a request that was sent with ``stream=True`` and asked for no compression.

    Raises :class:`ProvisioningError` if the body is compressed or too large.
    """
    body = AnswerBody()
    try:
        with response:
            check_encoding(response.headers.get("Content-Encoding", "").split(","))
            for chunk in response.iter_content(MAX_DRAINED):
                body.extend(chunk)
                if len(body) > MAX_BODY:
                    raise SendFailed(f"the response has more than {MAX_BODY >> 20} MiB")
    except SendFailed as error:
        raise ProvisioningError(
            f"{_path(response.url)}: {error}.",
            remedy="Check the org URL, and whether a proxy changes the response.",
            status=response.status_code,
        ) from None
    response._content = body.whole()  # where requests keeps a body that it has read itself


@without_locals
def _redact(response: requests.Response) -> None:
    """Removes the credential of the request from the response, whatever the server echoes."""
    credential = str(response.request.headers.get("Authorization", "")).partition(" ")[2]
    if credential:
        response._content = response.content.replace(credential.encode(), b"[redacted]")
        for name, value in response.headers.items():
            response.headers[name] = value.replace(credential, "[redacted]")


def _json_of(response: requests.Response) -> Any:
    """The JSON of a response, ``None`` if it is empty."""
    if not response.content:
        return None
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        raise ProvisioningError(
            f"{_path(response.url)} returned HTTP {response.status_code} with a body that is not JSON.",
            remedy="Check the org URL, and whether there is a proxy or a login page between this machine and Okta.",
            status=response.status_code,
        ) from None


def items_of(document: Any, what: str) -> list[Mapping[str, Any]]:
    """The items of a list. Okta's reference shows keys as an array and, in an example, in ``jwks.keys``: both are
    accepted."""
    if isinstance(document, Mapping):
        document = document.get("jwks", document)
        document = document.get("keys", document) if isinstance(document, Mapping) else document
    if not isinstance(document, list) or not all(isinstance(item, Mapping) for item in document):
        raise ProvisioningError(
            f"Okta's response is not a list of {what}.",
            remedy="Check the org URL, and whether a proxy changes the response.",
        )
    return document


class NotAsDescribed(ProvisioningError):
    """A response that lacks what Okta's API reference promises."""


@contextmanager
def described_as(what: str) -> Iterator[None]:
    """Raises :class:`NotAsDescribed` if the block does not find in a response what belongs to a ``what``."""
    try:
        yield
    except (KeyError, TypeError, AttributeError):
        raise NotAsDescribed(
            f"Okta's response does not describe the {what} as its API reference does.",
            remedy="Check whether a proxy changes the response.",
        ) from None


def _no_answer(
    method: str, url: str, error: requests.RequestException, attempts: int, repeatable: bool
) -> OktaUnreachable:
    """The error for a call that got no response. ``repeatable``: whether it may be retried automatically."""
    kinds = (requests.Timeout, "it timed out"), (ProxyError, "the proxy failed"), (SSLError, "TLS failed")
    reason = next((words for kind, words in kinds if isinstance(error, kind)), "no response")
    unsure = "" if repeatable else "Okta may have made the change; it is safe to try again. "
    return OktaUnreachable(
        f"{method} {_path(url)} at {origin_of(url)}: {reason} ({quoted(type(error).__name__, 60)}), after "
        f"{attempts} attempt{'s' if attempts > 1 else ''}.",
        remedy=f"{unsure}Check the org URL, the network, proxy and CA settings, and Okta's status page.",
    )


def _refusal(
    method: str, url: str, response: requests.Response, with_token: bool, *, retry_after: float | None = None
) -> ProvisioningError:
    """The error for a response other than 2xx. ``with_token``: whether an SSWS token signs in.

    The code and the reason have one of three formats: that of the management API, that of dynamic registration (RFC
    7591 section 3.2.2), and that of the OAuth filter in front of both (``WWW-Authenticate``, RFC 6750 section 3).
    """
    status = response.status_code
    document = json_object(response.content)
    code, reason, scope = document.get("errorCode"), document.get("errorSummary"), ""
    if code is None:
        code, reason = document.get("error"), document.get("error_description")
    if code is None:
        for challenge in challenges([response.headers.get("WWW-Authenticate", "")]):
            code, reason = challenge.error, challenge.parameters.get("error_description")
            scope = challenge.parameters.get("scope", "")
    causes = _causes(document)
    kind, remedy = _kind_and_remedy(status, code, scope, with_token, retry_after)
    request_id = response.headers.get("X-Okta-Request-Id")
    words = "; ".join(causes) or (quoted(reason) if reason else "")
    words = words if not words or words.endswith((".", "!", "?")) else f"{words}."
    error = kind(
        f"{method} {_path(url)} failed with {quoted(code, 80) if code else 'no code'}: "
        f"{words or 'no reason given.'} "
        f"[HTTP {status}{f', request id {quoted(request_id, 80)}' if request_id else ''}]",
        remedy=remedy,
        status=status,
        error=quoted(code, 80) if code else None,
        error_description=quoted(reason) if reason else None,
        request_id=quoted(request_id, 80) if request_id else None,
        error_id=quoted(document.get("errorId", ""), 80) or None,
        retry_after=retry_after,
    )
    error.causes = causes
    if isinstance(error, ScopeMissing):
        error.scope = quoted(scope, 100)
    return error


def _kind_and_remedy(
    status: int, code: str | None, scope: str, with_token: bool, retry_after: float | None
) -> tuple[type[ProvisioningError], str]:
    if status == 429:
        return RateLimitTooLong, (
            f"Try again in {math.ceil(retry_after or 60)} seconds, or allow a longer wait (max_wait, --max-wait)."
        )
    if code == "E0000015":
        return PermissionMissing, "The org lacks a feature that this needs. Ask Okta's support to turn it on."
    if status == 401:
        return NotSignedIn, (
            "The SSWS token is wrong, was revoked, or expired (30 days without use). Create a new one (Admin Console: "
            "Security > API > Tokens), and check that it belongs to this org."
            if with_token
            else "Okta does not accept the token of the service app that signs in. Check it with: okta-m2m doctor"
        )
    if code == "insufficient_scope":
        return ScopeMissing, (
            f"Grant {quoted(scope, 100) or 'the scope'} to the service app that signs in, and add it to the app's scopes."
        )
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:
        return OktaUnreachable, (
            "The response is a redirect, which is not followed with credentials. Use Okta's own URL for the org, "
            "without -admin."
        )
    if status >= 500:
        return OktaUnreachable, "Try again, and look at Okta's status page."
    if code in ("invalid_dpop_proof", "use_dpop_nonce"):
        return NotSignedIn, "Check this machine's clock, and whether a proxy rewrites the host or drops headers."
    return InvalidRequest, "Correct what the message names, and try again."


def _causes(document: Mapping[str, Any]) -> tuple[str, ...]:
    causes = document.get("errorCauses")
    return tuple(
        quoted(cause.get("errorSummary"))
        for cause in (causes if isinstance(causes, list) else [])
        if isinstance(cause, dict) and cause.get("errorSummary")
    )


def _path(url: str) -> str:
    return quoted(urlsplit(url).path, 200)
