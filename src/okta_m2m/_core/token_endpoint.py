"""One conversation with the token endpoint (RFC 6749 section 4.4, RFC 7523 section 2.2, RFC 9449 section 5).

What an answer means, and what is done (Okta's documentation and recorded traffic; every attempt signs anew):

    answer                                             what is done
    -----------------------------------------------    ----------------------------------------------------------
    200 with a token                                   it is taken
    400 use_dpop_nonce                                 once again with the nonce that the answer carries
    401 invalid_client, and Date moved our clock       once again on Okta's time (so for invalid_dpop_proof)
    401 "... token has already been used."             once again
    429                                                waits for X-Rate-Limit-Reset - Date + 1 s; RateLimited if that is
                                                       beyond the deadline; a concurrency limit is backed off from
    5xx, 408, temporarily_unavailable, server_error    back-off, until the deadline
    401 "Error retrieving the client JWKSet ..."       back-off, until the deadline
    no answer (time-out, reset, name look-up, TLS)     back-off, until the deadline
    2xx that is no token answer                        back-off, at most twice: cut short, or a login page
    401 invalid_client otherwise                       the next configured key; else a refusal
    any other                                          a refusal, at once

Invariant: a conversation ends by its deadline, and the endpoint is not asked before the time that it named itself.
"""

from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ..effects import Flow, Request, Response, Send, SendFailed, Sleep
from ..errors import (
    InvalidDPoPProof,
    RateLimited,
    ScopesMissing,
    TokenError,
    TokenRefused,
    TokenUnreachable,
    UnexpectedAnswer,
    quoted,
    refused,
)
from .clocks import NEVER, Clock, OktaClock, http_date
from .proofs import ClientAssertions, DPoPProofs, Nonces
from .records import Record
from .tokens import Token

if TYPE_CHECKING:
    from ..keys import Signer

__all__ = ["ASSUMED_LIFETIME", "Obtained", "TokenEndpoint", "back_off", "error_code", "rate_limit_pause"]

logger = logging.getLogger("okta_m2m")

ASSUMED_LIFETIME = 300.0
"""Seconds a token is taken to live if its answer does not say: the shortest life that Okta lets anybody configure."""

LONGEST_LIFETIME = 86_400.0
"""Seconds: the longest life that Okta lets anybody configure (``accessTokenLifetimeMinutes``, 24 hours)."""

CLOCK_TOLERANCE = 3.0
"""Seconds by which ``Date`` must move our clock for a refusal to be put down to it: more than its own coarseness."""

FIRST_PAUSE = (
    0.25  # seconds; doubled from one failure to the next, and jittered, so that a fleet does not knock in step
)
LONGEST_PAUSE = 8.0

# The only two refusals that are told from their kin by text: Okta's answer holds neither its internal error code
# (client_assertion_already_used, jwks_uri_error) nor any other fact that would do.
_ALREADY_USED = "The client_assertion token has already been used."
_JWKS_URI_TROUBLE = "Error retrieving the client JWKSet from jwks_uri."

_PASSING = frozenset({"temporarily_unavailable", "server_error"})


class Obtained(Record):
    """What a conversation ended with: the token, after so many requests and seconds, with the key of that index."""

    token: Token
    attempts: int
    elapsed: float
    key: int


class TokenEndpoint:
    """A token endpoint, as one client speaks with it, and what is remembered from one conversation to the next:
    Okta's time, the nonces it gave, and until when it asked to be left alone."""

    __slots__ = (
        "_assertions",
        "_client_id",
        "_clock",
        "_dpop_required",
        "_max_wait",
        "_nonces",
        "_not_before",
        "_require_all_scopes",
        "_scopes",
        "okta_clock",
        "url",
    )

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        scopes: Sequence[str],
        assertions: ClientAssertions,
        clock: Clock,
        max_wait: float,
        dpop_required: bool,
        require_all_scopes: bool,
    ) -> None:
        self.url = url
        self.okta_clock = OktaClock(clock)
        self._assertions = assertions
        self._client_id = client_id
        self._clock = clock
        self._dpop_required = dpop_required
        self._max_wait = max_wait
        self._nonces: Nonces | None = None
        self._not_before = NEVER
        self._require_all_scopes = require_all_scopes
        self._scopes = tuple(scopes)

    @property
    def nonces(self) -> Nonces:
        """Made when the first is learnt or asked for: most apps have Bearer tokens, and a process may have very many apps."""
        nonces = self._nonces
        if nonces is None:
            nonces = self._nonces = Nonces()
        return nonces

    def exchange(
        self,
        keys: Sequence[Signer],
        deadline: float,
        proofs: Callable[[], DPoPProofs] | None,
        tell: Callable[..., None],
    ) -> Flow[Obtained]:
        """Gets a token with the first of ``keys`` that the server takes, before ``deadline`` on the steady clock.

        ``proofs`` makes the DPoP proofs to offer, if any; ``tell`` is told of events by their class's name.
        Raises :class:`RateLimited`, :class:`TokenUnreachable`, :class:`UnexpectedAnswer`, or the
        :class:`TokenRefused` of the refusal.
        """
        began, patience = self._clock.now(), self._max_wait / 2
        attempts = failures = unreadable = key = 0
        cured: set[str] = set()  # what was already answered once, so that no cure is tried for ever
        refusal: TokenRefused | None = None
        trouble: TokenError = TokenUnreachable("The token endpoint was not asked. Allow more time with max_wait.")
        while True:
            yield from self._until_welcome(deadline)
            sent_at = self._clock.now()
            if sent_at >= deadline:
                raise trouble
            attempts += 1
            try:
                response = yield from self._ask(keys[key], min(deadline - sent_at, patience), proofs)
            except (SendFailed, OSError) as failed:  # a send of the caller's own may let either out
                if not failures or deadline - sent_at >= patience:
                    trouble = self._unreachable(f"no answer ({quoted(failed)})", attempts)
                # Else the deadline cut this one short, and what went wrong before says more than that.
            else:
                moved = self.okta_clock.learn(None if response.get("age") else response.get("date"))
                nonce = response.get("dpop-nonce")
                fresh_nonce = nonce is not None and self.nonces.learn(self.url, nonce)
                answer = _document(response)
                if response.status == 429:
                    trouble = self._told_to_wait(response, failures, deadline)
                elif 200 <= response.status < 300:
                    token = self._token(answer, sent_at, proofs is not None, tell)
                    if token is not None:
                        return Obtained(token, attempts, self._clock.now() - began, key)
                    trouble = self._unexpected(response)
                    unreadable += 1
                    if unreadable > 2:
                        raise trouble
                else:
                    code, description = _error(answer)
                    if _passes(response.status, code, description):
                        trouble = self._unreachable(f"HTTP {response.status} {code or ''}".rstrip(), attempts, response)
                    elif code is None:
                        raise self._unexpected(response)
                    elif (cure := _cure(code, description, fresh_nonce, moved)) and cure not in cured:
                        cured.add(cure)
                        continue
                    else:
                        said = refused(
                            response.status,
                            code,
                            description,
                            response.get("x-okta-request-id"),
                            _hint(code, keys, proofs is not None),
                        )
                        if code != "invalid_client":
                            raise said
                        refusal = refusal or said
                        if key + 1 == len(keys):
                            raise refusal
                        logger.warning("okta-m2m: %s Trying the next configured key.", said)
                        key += 1
                        cured.clear()
                        continue
            failures += 1
            if self._clock.now() >= self._not_before:
                pause = back_off(failures)
                if self._clock.now() + pause >= deadline:
                    raise trouble
                yield from Sleep(pause)

    def _ask(self, key: Signer, timeout: float, proofs: Callable[[], DPoPProofs] | None) -> Flow[Response]:
        now = self.okta_clock.now()
        assertion = yield from self._assertions.assertion(key, now)
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        if proofs is not None:
            headers["DPoP"] = yield from proofs().proof("POST", self.url, now, self.nonces.get(self.url))
        form = {
            "grant_type": "client_credentials",
            **({"scope": " ".join(self._scopes)} if self._scopes else {}),
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
        body = urlencode(form).encode("ascii")
        return (yield from Send(Request("POST", self.url, headers, body), timeout))

    # ── the time the endpoint named ──────────────────────────────────────────────────────────────────────────────

    def _until_welcome(self, deadline: float) -> Flow[None]:
        """Waits until the endpoint may be asked again, if that is before the deadline."""
        pause = self._not_before - self._clock.now()
        if pause <= 0:
            return
        if self._clock.now() + pause >= deadline:
            raise self._rate_limited(pause)
        yield from Sleep(pause)

    def _told_to_wait(self, response: Response, failures: int, deadline: float) -> RateLimited:
        """Notes from a 429 when the endpoint may be asked again; raises at once if that is beyond the deadline."""
        pause = rate_limit_pause(response, self.okta_clock.now())
        if pause is None:
            return self._rate_limited(back_off(failures + 1), response)
        self._not_before = self._clock.now() + pause
        limited = self._rate_limited(pause, response)
        if self._not_before >= deadline:
            raise limited
        return limited

    @staticmethod
    def _rate_limited(pause: float, response: Response | None = None) -> RateLimited:
        request_id = None if response is None else response.get("x-okta-request-id")
        return RateLimited(
            f"Okta's token endpoint is rate limited, and asks for another {pause:.1f} seconds, which this call may not "
            "wait. Try again then, fetch fewer tokens (one ServiceApp per process), or allow more time with max_wait.",
            status=429,
            error=None if response is None else _error(_document(response))[0],
            request_id=None if request_id is None else quoted(request_id, 80),
            retry_after=pause,
        )

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _unreachable(self, what: str, attempts: int, response: Response | None = None) -> TokenUnreachable:
        request_id = None if response is None else response.get("x-okta-request-id")
        return TokenUnreachable(
            f"No token from {self.url} within the time allowed: {what}, after {attempts} "
            f"attempt{'s' if attempts > 1 else ''}. Check the network, proxy and TLS settings, and Okta's status page; "
            "max_wait sets the time allowed.",
            status=None if response is None else response.status,
            error=None if response is None else _error(_document(response))[0],
            request_id=None if request_id is None else quoted(request_id, 80),
        )

    def _unexpected(self, response: Response) -> UnexpectedAnswer:
        kind = quoted(response.get("content-type") or "no content type", 60)
        if 300 <= response.status < 400:
            what = "a redirect, which is never followed with an assertion in hand"
        elif 200 <= response.status < 300:
            what = "an answer without a token"
        else:
            what = "an answer that is not from OAuth"
        request_id = response.get("x-okta-request-id")
        return UnexpectedAnswer(
            f"{self.url} gave {what} (HTTP {response.status}, {kind}). Check the org URL, and whether a proxy or a login "
            "page stands between this machine and Okta.",
            status=response.status,
            request_id=None if request_id is None else quoted(request_id, 80),
        )

    def _token(
        self, answer: Mapping[str, Any], sent_at: float, proof_sent: bool, tell: Callable[..., None]
    ) -> Token | None:
        """The token of a 2xx answer; ``None`` if it holds none."""
        value, kind = answer.get("access_token"), answer.get("token_type")
        # Only what a header can hold (RFC 6750 section 2.1 b64token, taken widely): never a line break, never a space.
        if not isinstance(value, str) or not value or not all("!" <= char <= "~" for char in value):
            return None
        bound = {"bearer": False, "dpop": True}.get(kind.lower() if isinstance(kind, str) else "")
        if bound is None:
            return None
        if bound and not proof_sent:
            raise InvalidDPoPProof(
                "Okta answered with a DPoP-bound token although no proof was sent, so it cannot be used. "
                "Leave dpop at its default, True."
            )
        if not bound and self._dpop_required:
            raise InvalidDPoPProof(
                'Okta answered with a Bearer token, and dpop="required" does not take one. Switch on "Require '
                'Demonstrating Proof of Possession" for the app, or leave dpop at its default, True.'
            )
        scope = answer.get("scope")
        # RFC 6749 section 5.1: an answer that does not name the scope granted what was asked for.
        scopes = tuple(scope.split()) if isinstance(scope, str) else self._scopes
        if scopes == self._scopes:
            scopes = self._scopes  # kept once, for all who have this token's scopes
        self._compare(scopes, tell)
        return Token(value, "DPoP" if bound else "Bearer", scopes, self._lifetime(answer.get("expires_in")), sent_at)

    def _compare(self, granted: tuple[str, ...], tell: Callable[..., None]) -> None:
        missing = tuple(scope for scope in self._scopes if scope not in granted)
        if not missing:
            return
        names = quoted(" ".join(missing))
        remedy = "Grant them to the app (Admin Console: Applications > the app > Okta API Scopes), or ask for fewer."
        if self._require_all_scopes:
            raise ScopesMissing(
                f"Okta left out these scopes without an error: {names}. {remedy}", status=200, error="scopes_missing"
            )
        logger.warning("okta-m2m: Okta left out these scopes of client %s: %s. %s", self._client_id, names, remedy)
        tell("ScopesReduced", granted, missing)

    @staticmethod
    def _lifetime(told: object) -> float:
        """``expires_in`` in seconds; text is taken where it is a number, and what makes no sense is bounded, aloud."""
        seconds = math.nan
        if isinstance(told, int | float | str) and not isinstance(told, bool):
            try:
                seconds = float(told)
            except (ValueError, OverflowError):
                seconds = math.nan
        if 0 < seconds <= LONGEST_LIFETIME:
            return seconds
        assumed = LONGEST_LIFETIME if seconds > LONGEST_LIFETIME else ASSUMED_LIFETIME
        logger.warning("okta-m2m: the token answer's expires_in is missing or makes no sense; taken as %d s", assumed)
        return assumed


def _hint(code: str, keys: Sequence[Signer], proof_sent: bool) -> str:
    if code == "invalid_dpop_proof" and not proof_sent:
        return "No proof was sent, because dpop is False. "
    if code == "invalid_client" and len(keys) > 1:
        return f"None of the {len(keys)} configured keys was accepted; this is what was said of the first. "
    return ""


def _document(response: Response) -> Mapping[str, Any]:
    """The answer's JSON object; an empty one for HTML, for nothing, and for anything else."""
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _error(answer: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Code and description, from OAuth's shape (RFC 6749 section 5.2) or that of Okta's API (``errorCode``)."""
    code = answer.get("error") or answer.get("errorCode")
    description = answer.get("error_description") or answer.get("errorSummary")
    return (
        code if isinstance(code, str) else None,
        description if isinstance(description, str) else None,
    )


def _passes(status: int, code: str | None, description: str | None) -> bool:
    """Whether the trouble is the server's own and likely to pass. ``temporarily_unavailable`` is a 400 at Okta."""
    return status >= 500 or status == 408 or code in _PASSING or description == _JWKS_URI_TROUBLE


def _cure(code: str, description: str | None, fresh_nonce: bool, moved: float) -> str | None:
    """What a new attempt would do differently; ``None`` where it would only say the same again."""
    if code == "use_dpop_nonce":
        return "nonce" if fresh_nonce else None
    if code in ("invalid_client", "invalid_dpop_proof") and abs(moved) > CLOCK_TOLERANCE:
        return "clock"
    if description == _ALREADY_USED:
        return "used"
    return None


def rate_limit_pause(response: Response, okta_now: float) -> float | None:
    """Seconds that a 429 asks to wait; ``None`` where it does not say, or where its limit is one of concurrency.

    Reset - ``Date`` + 1, both Okta's own, so that this machine's clock does not come into it (Okta: rate limits, best
    practices; all of Okta's SDKs). Of several ``X-Rate-Limit-Reset`` the earliest counts. Okta sends no
    ``Retry-After``, but what stands in front of it may.
    """
    date = http_date(response.get("date"))
    now = okta_now if date is None else date
    after = (response.get("retry-after") or "").strip()
    if after.isdecimal() and len(after) < 10:
        return float(after)
    if (moment := http_date(after)) is not None:
        return max(moment - now, 0.0) + 1
    if any(limit.strip() == "0" for limit in response.all("x-rate-limit-limit")):
        return None
    resets = [text.strip() for value in response.all("x-rate-limit-reset") for text in value.split(",")]
    moments = [int(text) for text in resets if text.isdecimal() and len(text) < 12]
    return max(min(moments) - now, 0.0) + 1 if moments else None


def back_off(failures: int) -> float:
    """Seconds of pause after so many failures in a row: doubling, and anywhere in the upper half of that."""
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load; nothing secret hangs on it)


def error_code(body: bytes) -> str | None:
    """The error code in the start of a JSON body, of either shape; ``None`` if there is none to be read."""
    return _error(_document(Response(0, (), body)))[0]
