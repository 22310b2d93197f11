"""Calls to Okta's management API: signs in, waits for rate limits, and reads lists page by page.

Invariant: the sign-in is sent only to the org's own origin, and never through a proxy to plain http on this machine. No
``repr``, error or log shows an SSWS token. A call that may have changed something is sent again only after a 429, which means
that nothing was done. The size of a response, the pages of a list, and the waits for rate limits are bounded.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Self

import requests
from requests.auth import AuthBase

from .. import ServiceApp
from .._base.crash_reports import without_locals
from .._base.tokens import not_picklable
from .._clients.private_copy import private_copy
from .._clients.proxies import is_direct_only
from .._core.answers import rate_limit_pause
from .._core.politeness import back_off
from .._urls.origins import origin_of
from ..effects import Response
from ..errors import ConfigurationError, OktaM2MError, quoted
from ..requests import OktaAuth
from ..settings import check_org_url
from ._answers import items_of, json_of, no_answer, read_body, refusal
from .errors import ProvisioningError

__all__ = ["ApiToken", "ManagementApi", "Pause"]

MAX_ATTEMPTS: Final = 4
"""The maximum number of attempts at a call if the network or the server fails and the call is safe to repeat."""

MAX_PAGES: Final = 1_000
"""The maximum number of pages that are read of a list, which is 100,000 apps."""

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
    - ``timeout``: seconds for Okta to accept a connection, and again between two parts of a response. Default 30.
    - ``session``: a session whose proxies, CA bundle and adapters are used. Default ``None``: a new one, with the
      settings of the environment. Plain http on this machine is reached without a proxy.
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
        self._owned = session is None
        self._session = session or requests.Session()
        if is_direct_only(self.org_url):
            self._session = private_copy(self._session, proxies={}, trust_env=False)
        self._on_pause = on_pause
        self._sleep = sleep

    def call(self, method: str, path: str, body: object = None, *, query: Mapping[str, str] | None = None) -> Any:
        """Makes one call, and returns the JSON of the response; ``None`` if it is empty.

        - ``method``: the HTTP method, in upper case.
        - ``path``: the path below the org URL: ``/api/v1/apps``.
        - ``body``: sent as JSON. ``None``, the default, sends no body.
        - ``query``: parameters of the query, not encoded. Default ``None``.
        """
        return json_of(self._request(method, self.org_url + path, body, query))

    def pages(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[Mapping[str, Any]]:
        """Every item of a list. Each page is fetched when it is reached (``Link: rel="next"``, RFC 8288).

        - ``path``: the path of the list, below the org URL.
        - ``query``: parameters for the first page; Okta's links include them for the others. Default ``None``.
        """
        url: str | None = self.org_url + path
        seen: set[str] = set()
        while url is not None:
            seen.add(url)
            response = self._request("GET", url, None, query)
            yield from items_of(json_of(response), "apps")
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
                response = self._send(method, url, body, query)
            except OktaM2MError:  # the service app that signs in got no token; this may be a RequestException too
                raise
            except requests.RequestException as error:
                failures += 1
                if not repeatable or failures >= MAX_ATTEMPTS or isinstance(error, requests.exceptions.InvalidURL):
                    raise no_answer(method, url, error, failures, repeatable) from None
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
                    raise refusal(method, url, response, self._with_token, retry_after=pause)
                waited += pause
                self.pause(pause, "Okta's rate limit")
                continue
            if response.status_code >= 500 and repeatable and failures < MAX_ATTEMPTS - 1:
                failures += 1
                self.pause(back_off(failures), f"an error of Okta's server (HTTP {response.status_code})")
                continue
            if not 200 <= response.status_code < 300:
                raise refusal(method, url, response, self._with_token)
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
        read_body(response)
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
            remedy="Create it with this org_url and without authorization_server.",
        )
    return OktaAuth(sign_in)
