"""Calls to Okta's management API for whoever provisions: signed in, patient with rate limits, page after page.

Invariant: the sign-in travels to the org's own origin and nowhere else, and an SSWS token is shown by nothing in here:
not by ``repr``, not by an error, not by a log. A call that may have changed something is not sent again, except after a
429, which says that nothing was done.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Self
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase

from .._core.answers import rate_limit_pause
from .._core.challenges import challenges
from .._core.origins import origin_of
from .._core.service_app import ServiceApp
from .._core.token_endpoint import back_off
from .._core.tokens import not_picklable
from ..effects import Response
from ..errors import ConfigurationError, OktaM2MError, quoted
from ..requests import OktaAuth
from ..settings import check_org_url

__all__ = [
    "ApiToken",
    "InvalidRequest",
    "ManagementApi",
    "NotFound",
    "NotSignedIn",
    "OktaUnreachable",
    "Pause",
    "PermissionMissing",
    "ProvisioningError",
    "RateLimitTooLong",
    "ScopeMissing",
]

TRIES: Final = 4
"""How often a call that changes nothing is sent while the network or the server fails."""

_UNFIT_FOR_A_HEADER = frozenset(chr(code) for code in [*range(0x21), 0x7F])


class ProvisioningError(OktaM2MError):
    """Something about the org could not be read or changed; base of the family. ``causes``: Okta's own reasons."""

    causes: tuple[str, ...] = ()


class NotSignedIn(ProvisioningError):
    """401: the SSWS token, or the service app's token, was not accepted."""


class ScopeMissing(ProvisioningError):
    """403 ``insufficient_scope``: the token has not the scope; ``scope`` is what Okta says is needed."""

    scope: str = ""


class PermissionMissing(ProvisioningError):
    """403 E0000006: whoever signs in lacks the admin role for it."""


class NotFound(ProvisioningError):
    """404, or nothing of that name or id."""


class InvalidRequest(ProvisioningError):
    """400: Okta did not take the request; ``causes`` say what was wrong with it."""


class RateLimitTooLong(ProvisioningError):
    """429 with a longer wait than allowed; ``retry_after`` says how long in seconds."""


class OktaUnreachable(ProvisioningError):
    """No usable answer: network, proxy, TLS, an error of the server."""


class ApiToken(AuthBase):
    """An SSWS token: it has the admin rights of whoever made it, and dies after 30 days unused.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for what cannot be one.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        text = value.strip().removeprefix("SSWS ").strip() if isinstance(value, str) else ""
        if not text or not text.isascii() or _UNFIT_FOR_A_HEADER & set(text):
            raise ConfigurationError(
                "The SSWS token is empty, or is no token at all. Make one (Admin Console: Security > API > Tokens) "
                "and give "
                "it whole, on one line."
            )
        self._value = text

    @classmethod
    def from_env(cls, name: str = "OKTA_CLIENT_TOKEN", environ: Mapping[str, str] = os.environ) -> ApiToken:
        """From an environment variable; the default is the one that Okta's own SDKs read."""
        if not environ.get(name, "").strip():
            raise ConfigurationError(
                f"{name} is not set. Set it to an SSWS token (Admin Console: Security > API > Tokens)."
            )
        return cls(environ[name])

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> ApiToken:
        """From a file that holds nothing else."""
        try:
            text = Path(path).read_text(encoding="utf-8")[:10_000]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigurationError(
                f"The file of the SSWS token, {os.fspath(path)}, cannot be read ({reason}). Check the path, and that "
                "this "
                "process may read it."
            ) from None
        return cls(text)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"SSWS {self._value}"
        return request

    def __repr__(self) -> str:
        return "ApiToken(...)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("An SSWS token", "Read it where it is needed, with ApiToken.from_env or ApiToken.from_file.")


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait that is about to begin: for how many seconds, and why."""

    seconds: float
    reason: str


class ManagementApi:
    """An org's management API, for one sign-in.

    - ``org_url``: ``https://acme.okta.com``, or the org's custom domain.
    - ``sign_in``: an :class:`ApiToken`, or a :class:`~okta_m2m.ServiceApp` with the scopes and the admin role for what
      is to be done (``okta.apps.manage``, ``okta.appGrants.manage``, ``okta.clients.manage``, ``okta.roles.manage``).
    - ``max_wait``: seconds that one call may wait for a rate limit to pass, in all.
    - ``timeout``: seconds for Okta to accept a connection, and again between two pieces of an answer.
    - ``session``: whose proxies, CA and adapters are used; by default those of the environment.
    - ``on_pause``: told of each wait before it begins. ``sleep`` waits.

    Its methods raise the :class:`ProvisioningError` that fits, and a service app's
    :class:`~okta_m2m.errors.TokenError` where that gets no token.
    """

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
        if isinstance(sign_in, ServiceApp):
            if not sign_in.origins.allow(self.org_url) or sign_in.token_endpoint != f"{self.org_url}/oauth2/v1/token":
                raise ConfigurationError(
                    f"The service app that signs in is not one of {self.org_url} with the org's own authorization "
                    "server, "
                    "and only that server's tokens open the management API. Build it with this org_url and without "
                    "authorization_server."
                )
            self._auth: AuthBase = OktaAuth(sign_in)
        elif isinstance(sign_in, ApiToken):
            self._auth = sign_in
        else:
            # Its value may be the token itself, so only its type is named.
            raise ConfigurationError(
                f"sign_in is a {type(sign_in).__name__}. Give an ApiToken, made with ApiToken.from_env() or "
                "ApiToken.from_file(path), or a ServiceApp."
            )
        self.signs_in_with_token = isinstance(sign_in, ApiToken)
        self._origin = origin_of(self.org_url)
        self._max_wait = max_wait
        self._timeout = timeout
        self._owned = session is None
        self._session = session or requests.Session()
        self._on_pause = on_pause
        self._sleep = sleep

    def call(self, method: str, path: str, body: object = None, *, query: Mapping[str, str] | None = None) -> Any:
        """One call; its JSON answer, ``None`` for an empty one."""
        return _json(self._answered(method, self.org_url + path, body, query))

    def pages(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[Mapping[str, Any]]:
        """Every item of a list, page after page as asked for (``Link: rel="next"``)."""
        url: str | None = self.org_url + path
        seen: set[str] = set()
        while url is not None:
            seen.add(url)
            response = self._answered("GET", url, None, query)
            yield from listed(_json(response), "apps")
            url, query = response.links.get("next", {}).get("url"), None
            if url is not None and (origin_of(url) != self._origin or url in seen):
                raise ProvisioningError(
                    f"Okta's list goes on at {quoted(url, 200)}, which is not where it can go on. Use the org URL "
                    "under "
                    "which Okta itself is reached, not one by way of a proxy that rewrites the host."
                )

    def _answered(self, method: str, url: str, body: object, query: Mapping[str, str] | None) -> requests.Response:
        waited, failures = 0.0, 0
        repeatable = method in ("GET", "HEAD", "PUT", "DELETE")
        while True:
            try:
                response = self._sent(method, url, body, query)
            except requests.RequestException as error:
                failures += 1
                if not repeatable or failures >= TRIES or isinstance(error, requests.exceptions.InvalidURL):
                    raise _no_answer(method, url, error, failures, repeatable) from None
                self.pause(back_off(failures), "no answer from Okta")
                continue
            if response.status_code == 429:  # nothing was done, so whatever it was may be sent again
                pause = rate_limit_pause(_seen(response), time.time())
                failures += pause is None
                pause = back_off(failures) if pause is None else pause
                if waited + pause > self._max_wait or failures >= TRIES:
                    raise _failed(method, url, response, self.signs_in_with_token, retry_after=pause)
                waited += pause
                self.pause(pause, "Okta's rate limit")
                continue
            if response.status_code >= 500 and repeatable and failures < TRIES - 1:
                failures += 1
                self.pause(back_off(failures), f"an error of Okta's server (HTTP {response.status_code})")
                continue
            if not 200 <= response.status_code < 300:
                raise _failed(method, url, response, self.signs_in_with_token)
            return response

    def _sent(self, method: str, url: str, body: object, query: Mapping[str, str] | None) -> requests.Response:
        return self._session.request(
            method,
            url,
            params=query,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/json", **({} if body is None else {"Content-Type": "application/json"})},
            auth=self._auth,
            timeout=self._timeout,
            allow_redirects=False,
        )

    def pause(self, seconds: float, reason: str) -> None:
        """Waits, and says so first."""
        if self._on_pause is not None:
            self._on_pause(Pause(seconds, reason))
        self._sleep(seconds)

    def close(self) -> None:
        """Lets go of the connections, unless the session was passed in."""
        if self._owned:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ManagementApi({self.org_url!r}, {'SSWS token' if self.signs_in_with_token else 'service app'})"


def segment(id: str) -> str:
    """An id as one segment of a path."""
    return quote(id, safe="")


def public_id(id: object) -> str:
    """A ``kid`` or an id on one line, cut short. Not through ``quoted``, which takes a thumbprint for a secret."""
    text = "".join(char if char.isprintable() else " " for char in str(id))
    return text if len(text) <= 100 else text[:97] + "..."


def listed(document: Any, what: str) -> list[Mapping[str, Any]]:
    """The items of a list. Okta's document shows keys as an array and, in an example, within ``jwks.keys``: both are read."""
    if isinstance(document, Mapping):
        document = document.get("jwks", document)
        document = document.get("keys", document) if isinstance(document, Mapping) else document
    if not isinstance(document, list) or not all(isinstance(item, Mapping) for item in document):
        raise ProvisioningError(f"Okta's answer is no list of {what}. Check the org URL, and for a proxy in between.")
    return document


def _json(response: requests.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        raise ProvisioningError(
            f"{_place(response.url)} answered HTTP {response.status_code} with something that is not JSON. Check the "
            "org URL, "
            "and whether a proxy or a login page stands between this machine and Okta.",
            status=response.status_code,
        ) from None


def _place(url: str) -> str:
    return quoted(urlsplit(url).path, 200)


def _seen(response: requests.Response) -> Response:
    return Response(response.status_code, response.headers.items())


def _no_answer(
    method: str, url: str, error: requests.RequestException, tries: int, repeatable: bool
) -> OktaUnreachable:
    kind = "TLS failed" if isinstance(error, requests.exceptions.SSLError) else "no answer came"
    kind = "the proxy failed" if isinstance(error, requests.exceptions.ProxyError) else kind
    kind = "it took too long" if isinstance(error, requests.exceptions.Timeout) else kind
    unsure = "" if repeatable else "Whether it was done is not known; running the same again is safe. "
    return OktaUnreachable(
        f"{method} {_place(url)} at {origin_of(url)}: {kind} ({quoted(type(error).__name__, 60)}), after {tries} "
        f"attempt{'s' if tries > 1 else ''}. {unsure}Check the org URL, the network, proxy and CA settings, and "
        "Okta's status "
        "page."
    )


_PERMISSION = (
    "Sign in as somebody whose admin role allows it: Application Administrator for apps and their keys, Super "
    "Administrator "
    "for grants and roles, and for the keys of an app that has scopes granted."
)


def _failed(
    method: str, url: str, response: requests.Response, with_token: bool, *, retry_after: float | None = None
) -> ProvisioningError:
    """The error for an answer, from the shapes of Okta's management API, its OAuth filter and its registration."""
    status = response.status_code
    try:
        document = response.json()
    except ValueError:
        document = {}
    document = document if isinstance(document, dict) else {}
    code, said = document.get("errorCode"), document.get("errorSummary")
    scope = ""
    if code is None:
        code, said = document.get("error"), document.get("error_description")
    if code is None:
        for challenge in challenges([response.headers.get("WWW-Authenticate", "")]):
            code, said = challenge.error, challenge.parameters.get("error_description")
            scope = challenge.parameters.get("scope", "")
    listed_causes = document.get("errorCauses")
    causes = tuple(
        quoted(cause.get("errorSummary"))
        for cause in (listed_causes if isinstance(listed_causes, list) else [])
        if isinstance(cause, dict) and cause.get("errorSummary")
    )
    kind, remedy = _verdict(status, code, scope, with_token, retry_after)
    request_id = response.headers.get("X-Okta-Request-Id")
    words = "; ".join(causes) or (quoted(said) if said else "")
    words = words if not words or words.endswith((".", "!", "?")) else f"{words}."
    error = kind(
        f"{method} {_place(url)} failed with {quoted(code, 80) if code else 'no code'}: "
        f"{words or 'no reason given.'} [HTTP "
        f"{status}{f', request id {quoted(request_id, 80)}' if request_id else ''}] {remedy}",
        status=status,
        error=quoted(code, 80) if code else None,
        error_description=quoted(said) if said else None,
        request_id=quoted(request_id, 80) if request_id else None,
        retry_after=retry_after,
    )
    error.causes = causes
    if isinstance(error, ScopeMissing):
        error.scope = quoted(scope, 100)
    return error


def _verdict(
    status: int, code: str | None, scope: str, with_token: bool, retry_after: float | None
) -> tuple[type[ProvisioningError], str]:
    if status == 429:
        return RateLimitTooLong, (
            f"Try again in {retry_after or 60:.0f} seconds, or allow a longer wait (max_wait, --max-wait)."
        )
    if code == "E0000015":
        return PermissionMissing, "The org lacks a feature that this needs; ask Okta's support to switch it on."
    if status == 401 and with_token:
        return NotSignedIn, (
            "The SSWS token is wrong, was revoked, or expired (30 days without use). Make a new one (Admin Console: "
            "Security "
            "> API > Tokens), and check that it is of this org."
        )
    if status == 401:
        return (
            NotSignedIn,
            "The service app that signs in has no token that Okta takes here. Check it with: okta-m2m doctor",
        )
    if code == "insufficient_scope":
        return ScopeMissing, (
            f"Grant {quoted(scope, 100) or 'the scope'} to the service app that signs in, and ask for it in its scopes."
        )
    if status == 403:
        return PermissionMissing, _PERMISSION
    if status == 404:
        return NotFound, "Check the id and the org URL; what is found by its name is listed by: okta-m2m app list"
    if status == 409:
        return InvalidRequest, "It is there already."
    if status == 405:
        return InvalidRequest, "This org does not know that operation. Check the org URL, and for a proxy in between."
    if 300 <= status < 400:
        return OktaUnreachable, (
            "That is a redirect, which is not followed with a sign-in in hand. Use the org URL under which Okta "
            "itself is "
            "reached, without -admin."
        )
    if status >= 500:
        return OktaUnreachable, "Try again, and look at Okta's status page."
    if code in ("invalid_dpop_proof", "use_dpop_nonce"):
        return NotSignedIn, "Check this machine's clock, and for a proxy that rewrites the host or drops headers."
    return InvalidRequest, "Change what is named, and try again."
