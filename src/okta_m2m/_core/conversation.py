"""One conversation with the token endpoint (RFC 6749 section 4.4, RFC 7523 section 2.2, RFC 9449 section 5).

How each response is handled (by Okta's documentation and recorded traffic; every attempt signs again):

    response                                           action
    -----------------------------------------------    ----------------------------------------------------------
    200 with a token                                   the token is returned
    400 use_dpop_nonce                                 another attempt, with the nonce in the response
    401 invalid_client, and Date moved our clock       another attempt, on Okta's time (also for invalid_dpop_proof)
    401 "... token has already been used."             another attempt
    one of these three for the second time             back-off, until the deadline
    429                                                waits for X-Rate-Limit-Reset - Date + 1 s, and up to 30 s more;
                                                       RateLimited if that is beyond the deadline; back-off for a
                                                       concurrency limit
    5xx with Retry-After                               waits for that, in the same way
    5xx, 408, temporarily_unavailable, server_error    back-off, until the deadline
    401 "Error retrieving the client JWKSet ..."       back-off, until the deadline
    none within 5 s                                    a second request beside it; the first response counts
    no response (timeout, reset, DNS resolution)       back-off, until the deadline
    no response, permanently (untrusted TLS)           TokenUnreachable, at once
    2xx without a token                                back-off, a few times: cut short, or a login page
    401 invalid_client otherwise                       the next configured key, or else a refusal
    400 invalid_grant, for an ID-JAG                   another attempt, once, with another ID-JAG
    any other error of an OAuth server                 a refusal, at once
    anything else (a redirect, a page)                 UnexpectedAnswer, at once

A slow endpoint is not a dead one: the first request stays open until the deadline, or while the token that it renews lives.
A hung connection costs five seconds, because then a second request goes out beside it; after that, no third one before one of
the two has ended.

Invariant: a conversation ends by its deadline, or as long as nothing was heard, when the token that it renews does. No request
is sent before the time that the endpoint gave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .._base.crash_reports import Hidden
from .._base.records import Record
from .._base.tokens import Token
from .._threads.landings import LOOK, Landing
from .._urls.org_url import custom_server
from ..effects import Flow, Response, Send, SendFailed, Sending, Sleep, Stage, StartSend, Wait
from ..errors import (
    InvalidDPoPProof,
    RateLimited,
    ScopesMissing,
    SigningFailed,
    TokenError,
    TokenRefused,
    TokenUnreachable,
    UnexpectedAnswer,
    quoted,
    refused,
)
from .answers import (
    error_code,
    error_of,
    json_object,
    lifetime,
    rate_limit_pause,
    request_id,
    retry_after,
)
from .flights import Flight
from .grants import SECRETS, Grant
from .politeness import LONGEST_BELIEVED
from .proofs import CLOCK_TOLERANCE, DPoPProofs, signed_request
from .token_endpoint import TokenEndpoint

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..keys import Signer
    from .reports import Reports

PATIENCE: Final = 5.0
"""Seconds without a response after which a second request goes out beside the first."""

SILENCE: Final = 0.8
"""The share of its time after which a request that fails has failed for lack of a response."""

MAX_UNREADABLE: Final = 5
"""The number of 2xx responses without a token that one conversation tolerates."""

# Okta gives no code for these two, so match the text.
_ALREADY_USED = "The client_assertion token has already been used."
_JWKS_URI_TROUBLE = "Error retrieving the client JWKSet from jwks_uri."

_REMEDIES: Final[Mapping[Stage | None, str]] = {
    "name": "Check the org URL for a typo, and this machine's DNS.",
    "tcp": "Check that the network and firewalls let this machine reach that host, and whether it needs a proxy.",
    "tls": "Check the CA bundle that this client uses, and whether a proxy on the way decrypts TLS with its own certificate.",
    "proxy": "Check the proxy's address and password (HTTPS_PROXY), and that it allows connections to that host.",
    "http": "Check the network, its proxies, and Okta's status page.",
}

_MORE_TIME: Final = " To allow more time, raise max_wait."

DIAGNOSIS: Final = 'Run "okta-m2m doctor" for a diagnosis.'
"""The end of a remedy, which the doctor itself omits."""

_CLOCK_CODES = frozenset({"invalid_client", "invalid_dpop_proof"})
"""The refusals that a wrong clock may cause."""

_PASSING = frozenset({"temporarily_unavailable", "server_error"})


class Obtained(Record):
    """The result of a conversation: the token, the duration in seconds, and the index of the key."""

    token: Token
    elapsed: float
    key: int


class _Attempt(Record):
    """One token request under way, which was signed with the key of that index.

    - ``form``: the grant's parameters that it has.
    - ``sent_at``, ``until``: when it was sent, and when it is given up, on the steady clock.
    """

    sending: Sending
    key: int
    form: Hidden[Mapping[str, str]]
    sent_at: float
    until: float

    @property
    def has_ended(self) -> bool:
        return self.sending.response.done()

    def was_silence(self, now: float) -> bool:
        """Whether it failed because its time was over, or nearly: an HTTP library gives up a little earlier."""
        return now - self.sent_at >= SILENCE * (self.until - self.sent_at)


def _send_here(effect: Send) -> Flow[Sending]:
    from concurrent.futures import Future  # heavy

    response: Future[Response] = Future()
    try:
        response.set_result((yield from effect))
    except Exception as failure:  # noqa: BLE001 (read from the future)
        response.set_exception(failure)
    return Sending(response)


def counted(attempts: int) -> str:
    return f"{attempts} attempt{'' if attempts == 1 else 's'}"


class Conversation:
    """One series of attempts, and its state.

    - ``endpoint``, ``grant``: where to ask, and what for.
    - ``keys``: the app's keys. The first that the server accepts is used.
    - ``flight``: the fetch that this conversation is for, with its deadline and the token that it renews.
    - ``proofs``: makes the DPoP proofs to send, if any.
    """

    def __init__(
        self,
        endpoint: TokenEndpoint,
        grant: Grant,
        keys: Sequence[Signer],
        flight: Flight,
        proofs: Callable[[], DPoPProofs] | None,
        reports: Reports,
    ) -> None:
        self._endpoint = endpoint
        self._grant = grant
        self._form: Hidden[Mapping[str, str]] | None = None
        self._has_another_form = False
        self._politeness = endpoint.politeness
        self._keys = keys
        self._flight = flight
        self._deadline = flight.deadline
        self._patient_until = self._deadline
        # No caller waits for a renewal, so it may take as long as its token lives.
        if flight.is_renewal and flight.renews is not None:
            self._patient_until = max(self._deadline, flight.renews.usable_until)
        self._open: list[_Attempt] = []  # at most two, the oldest first
        self._any_ended: Landing | None = None
        self._may_ask_beside = True
        self._was_heard = False  # whether a request has ended
        self._is_silent = True  # whether none has ended otherwise than for lack of a response
        self._proofs = proofs
        self._reports = reports
        self._now = endpoint.clock.now
        self._began = self._now()
        self._unreadable = 0
        self._key = 0
        self._tried_fixes: set[str] = set()  # since the last pause, so that none is repeated without one
        self._first_refusal: Callable[..., TokenRefused] | None = None
        self._last_error: TokenError = self._politeness.last_error or TokenUnreachable(
            "No request was sent to the token endpoint.", remedy="Raise max_wait."
        )

    def run(self) -> Flow[Obtained]:
        """Obtains a token. Raises :class:`RateLimited`, :class:`TokenUnreachable`, :class:`UnexpectedAnswer`, or a
        :class:`TokenRefused`."""
        try:
            return (yield from self._run())
        finally:
            for attempt in self._open:
                attempt.sending.give_up()

    def _run(self) -> Flow[Obtained]:
        while True:
            ended = next((attempt for attempt in self._open if attempt.has_ended), None)
            if ended is None:
                now = self._now()  # once: a pause that ends between two readings is over
                yield from self._ask() if self._may_ask(now) else self._wait(now)
                continue
            self._open.remove(ended)
            try:
                response = ended.sending.response.result()
            except (SendFailed, OSError) as failed:  # the caller's own send may raise either
                self._note_failure(ended, failed)
                if isinstance(failed, SendFailed) and failed.permanent:
                    raise self._politeness.failed(self._last_error, self._now(), lasting=True) from None
            else:
                token = self._read(response, ended)
                if isinstance(token, Token):
                    self._politeness.answered()
                    return Obtained(token, self._now() - self._began, ended.key)
                if token == "at once":
                    continue
            self._politeness.failed(self._last_error, self._now())
            self._tried_fixes.clear()  # after the pause, the endpoint may need the same again
            if self._politeness.not_before < self._deadline:
                self._reports.retrying(
                    self._last_error, self._flight.attempts, self._politeness.not_before - self._now()
                )

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _latest(self) -> float:
        """The time until which requests are sent. As long as nothing was heard, a renewal may take as long as its token
        lives."""
        return self._patient_until if self._is_silent else self._deadline

    def _may_ask(self, now: float) -> bool:
        """Whether a request may be sent now: the first, another after one has ended, or a second beside a slow one."""
        if now < self._politeness.not_before or now >= self._latest():
            return False
        return not self._open or (len(self._open) == 1 and self._may_ask_beside and now >= self._moment_beside())

    def _moment_beside(self) -> float:
        return self._open[0].sent_at + PATIENCE

    def _ask(self) -> Flow[None]:
        try:
            if self._form is None:
                self._form = Hidden((yield from self._grant.form(self._exchange)))
            form = self._form
            assertion, proof = yield from self._sign()
        except SigningFailed:
            if not self._open:
                raise
            self._may_ask_beside = False  # the request that is open may still be answered
            return
        if any(attempt.has_ended for attempt in self._open):
            return  # answered meanwhile
        sent_at = self._now()
        # The first request of a renewal stays open as long as the token lives; those beside it do not, since each may be hung.
        until = min(self._patient_until, sent_at + self._endpoint.max_wait) if self._open else self._latest()
        request = Hidden(signed_request(self._endpoint.url, form.value, assertion, proof))
        timeout = max(0.0, until - sent_at)
        self._flight.attempts += 1
        sending = yield from StartSend(request.value, timeout)
        if sending is None:  # no thread can be started any more
            sending = yield from _send_here(Send(request.value, timeout))
        self._open.append(_Attempt(sending, self._key, form, sent_at, until))
        self._any_ended = None

    def _exchange(self, endpoint: TokenEndpoint, grant: Grant) -> Flow[Token]:
        """A token that the form of this grant needs, from another endpoint, within the same time."""
        keys = self._keys[self._key :]
        inner = Conversation(endpoint, grant, keys, self._flight, self._proofs, self._reports)
        obtained = yield from inner.run()
        self._key += obtained.key
        return obtained.token

    def _sign(self) -> Flow[tuple[str, str | None]]:
        """An assertion, and a proof if one is sent. A signer may use all the time that is left: a slow KMS is not a hung
        connection."""
        endpoint, now = self._endpoint, self._endpoint.okta_clock.now()
        assertion = yield from endpoint.assertions.assertion(self._keys[self._key], now, self._time_left())
        if self._proofs is None:
            return assertion, None
        nonce = endpoint.nonces.get(endpoint.url)
        return assertion, (yield from self._proofs().proof("POST", endpoint.url, now, nonce, timeout=self._time_left()))

    def _time_left(self) -> float:
        return max(0.0, self._latest() - self._now())

    def _wait(self, now: float) -> Flow[None]:
        """Waits until a request ends, or until another may be sent. Raises the last failure if neither will happen in time.
        If the endpoint gave a time, it raises at once, and the error has that time."""
        moment = self._politeness.not_before
        if self._open and now < self._latest():
            until = [now + LOOK, self._latest()]  # a machine may be suspended, so look at the clock now and then
            if len(self._open) == 1 and self._may_ask_beside:
                until.append(max(moment, self._moment_beside()))
            yield from Wait(self._next_end(), min(until) - now)
            return
        if self._open and not self._was_heard:
            waited = now - self._open[0].sent_at
            self._last_error = self._unanswered_because(SendFailed(f"no response within {waited:.3g} s", stage="http"))
            raise self._politeness.failed(self._last_error, self._now())
        if now < moment:
            if self._politeness.is_lasting:
                raise self._last_error.copy()
            if moment < self._deadline:
                yield from Sleep(moment - now)
                return
            if self._last_error.retry_after is not None:
                asked_until = self._politeness.server_asked_until
                raise self._last_error.copy(retry_after=(asked_until if asked_until > now else moment) - now)
            if now < self._deadline:
                yield from Sleep(self._deadline - now)
        raise self._last_error.copy()

    def _next_end(self) -> Landing:
        """Done when one of the open requests ends."""
        if self._any_ended is None or self._any_ended.done():
            ended = self._any_ended = Landing()
            for attempt in self._open:
                attempt.sending.response.add_done_callback(lambda _: ended.land())
        return self._any_ended

    def _note_failure(self, ended: _Attempt, failure: Exception) -> None:
        now = self._now()
        is_cut_short = now >= self._deadline and now - ended.sent_at < PATIENCE
        if not (is_cut_short and self._was_heard):  # then the failure before it is more informative
            self._last_error = self._unanswered_because(failure)
        if not ended.was_silence(now):
            self._is_silent = False
        self._was_heard = True

    # ── responses ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, response: Response, attempt: _Attempt) -> Token | str | None:
        """The token; ``"at once"`` if another attempt would differ; ``None`` after a failure that may be temporary."""
        endpoint, sent_at = self._endpoint, attempt.sent_at
        self._was_heard, self._is_silent = True, False
        shown = response.without(attempt.form.value.get(name, "") for name in SECRETS)
        date = None if response.get("age") else response.get("date")
        moved = endpoint.okta_clock.learn(date, took=self._now() - sent_at)
        if abs(moved) > CLOCK_TOLERANCE:
            self._reports.clock_corrected(moved)
        nonce = response.get("dpop-nonce")
        has_new_nonce = nonce is not None and endpoint.nonces.learn(endpoint.url, nonce)
        if response.status == 429:
            pause = rate_limit_pause(response, endpoint.okta_clock.now())
            if pause is not None:
                self._politeness.asked_to_wait(pause, self._now(), self._patient_until)
            self._last_error = _rate_limited(shown, pause)
            return None
        if 200 <= response.status < 300:
            token = self._read_token(response, sent_at)
            if token is None:
                self._last_error = self._unexpected(shown)
                self._unreadable += 1
                if self._unreadable > MAX_UNREADABLE:
                    raise self._politeness.failed(self._last_error, self._now(), lasting=True)
            return token
        code, description = error_of(json_object(shown.body))
        if response.status >= 500 or response.status == 408 or code in _PASSING or description == _JWKS_URI_TROUBLE:
            # A server error, probably temporary. temporarily_unavailable is a 400 at Okta.
            pause = retry_after(response, endpoint.okta_clock.now())
            if pause is not None:
                self._politeness.asked_to_wait(pause, self._now(), self._patient_until)
            self._last_error = self._in_trouble(shown, f" {code or ''}".rstrip(), pause)
            return None
        if code is None:
            raise self._politeness.failed(self._unexpected(shown), self._now(), lasting=True)
        if code in _CLOCK_CODES:
            moved += endpoint.okta_clock.learn(date)
        cure = _cure(code, description, has_new_nonce, moved)
        if cure in self._tried_fixes:
            # The nonces, or Okta's clock, change faster than we can use them, or the servers disagree.
            self._last_error = self._in_trouble(shown, f" {code}, repeatedly")
            return None
        if cure is not None:
            self._tried_fixes.add(cure)
            return "at once"
        self._politeness.answered()
        if code == "invalid_grant" and self._may_form_another(attempt):
            return "at once"
        refusal = partial(
            refused,
            response.status,
            code,
            description,
            shown.get("x-okta-request-id"),
            server=custom_server(self._endpoint.url),
            of_subject=self._grant.has_subject,
        )
        if code != "invalid_client":
            no_proof = code == "invalid_dpop_proof" and self._proofs is None
            raise refusal(note="No proof was sent, because dpop is False. " if no_proof else "")
        self._next_key(refusal, attempt)
        return "at once"

    def _may_form_another(self, attempt: _Attempt) -> bool:
        """Whether an attempt with another form may succeed, after the server refused the form of this one."""
        if not self._grant.is_single_use:
            return False
        if attempt.form is self._form:
            if self._has_another_form:
                return False
            self._form, self._has_another_form = None, True
        return True

    def _next_key(self, refusal: Callable[..., TokenRefused], attempt: _Attempt) -> None:
        """Continues with the next configured key. If there is none, raises the refusal of the first key."""
        if attempt.key != self._key:
            return  # an earlier response has passed over that key
        self._first_refusal = self._first_refusal or refusal
        count = len(self._keys)
        if self._key + 1 == count:
            note = f"None of the {count} configured keys was accepted; this is Okta's response to the first. "
            raise self._first_refusal(note=note if count > 1 else "")
        self._reports.key_passed_over(self._keys[self._key].kid, refusal())
        self._key += 1
        self._tried_fixes.clear()

    def _read_token(self, response: Response, sent_at: float) -> Token | None:
        """The token of a 2xx response; ``None`` if it has none."""
        endpoint, answer = self._endpoint, Hidden(json_object(response.body))
        granted = self._grant.granted(answer.value)
        if granted is None:
            return None
        if granted.dpop_bound and self._proofs is None:
            raise InvalidDPoPProof(
                "Okta returned a DPoP-bound token although no proof was sent, so it cannot be used.",
                remedy="Keep dpop at its default, True.",
            )
        if granted.token_type == "Bearer" and endpoint.dpop_required:
            raise InvalidDPoPProof(
                'Okta returned a Bearer token, and dpop="required" does not accept one.',
                remedy='Turn on "Require Demonstrating Proof of Possession" for the app, or keep dpop at its default, True.',
            )
        scope = answer.value.get("scope")
        # RFC 6749 section 5.1: a response that names no scope granted what was requested.
        requested = self._grant.scopes
        scopes = tuple(scope.split()) if isinstance(scope, str) else requested
        if scopes == requested:
            scopes = requested  # one object for all the tokens that have these scopes
        self._compare_scopes(scopes)
        expires_in, is_assumed = lifetime(answer.value.get("expires_in"))
        if is_assumed:
            self._reports.lifetime_assumed(expires_in)
        expires_at = endpoint.okta_clock.at(sent_at + expires_in)
        return Token(granted.value, granted.token_type, scopes, expires_in, sent_at, expires_at)

    def _compare_scopes(self, granted: tuple[str, ...]) -> None:
        missing = tuple(scope for scope in self._grant.scopes if scope not in granted)
        if not missing:
            return
        names = quoted(" ".join(missing))
        remedy = "Grant them to the app (Admin Console: Applications > the app > Okta API Scopes), or request fewer."
        if self._endpoint.require_all_scopes:
            raise ScopesMissing(
                f"Okta did not grant these scopes, and returned no error: {names}.",
                remedy=remedy,
                status=200,
                error="scopes_missing",
            )
        self._reports.scopes_reduced(granted, missing, remedy)

    def _unanswered_because(self, failed: Exception) -> TokenUnreachable:
        stage = failed.stage if isinstance(failed, SendFailed) else None
        remedy = _REMEDIES.get(stage, _REMEDIES["http"])
        if not (isinstance(failed, SendFailed) and failed.permanent):  # more time does not heal that
            remedy += _MORE_TIME
        return self._unreachable(quoted(failed) or "no response", remedy)

    def _in_trouble(self, response: Response, what: str, retry_after: float | None = None) -> TokenUnreachable:
        return self._unreachable(
            f"it returned HTTP {response.status}{what}",
            f"Check Okta's status page, and whether there is a proxy between this machine and Okta.{_MORE_TIME}",
            status=response.status,
            error=error_code(response.body),
            request_id=request_id(response),
            retry_after=retry_after,
        )

    def _unreachable(self, what: str, remedy: str, **details: Any) -> TokenUnreachable:
        return TokenUnreachable(
            f"No token from {self._endpoint.url}: {what}, after {counted(self._flight.attempts)}.",
            remedy=f"{remedy} {DIAGNOSIS}",
            **details,
        )

    def _unexpected(self, response: Response) -> UnexpectedAnswer:
        content_type = quoted(response.get("content-type") or "no content type", 60)
        if 300 <= response.status < 400:
            what = "a redirect, which a token request never follows"
        elif 200 <= response.status < 300:
            what = "a response without a token"
        else:
            what = "a response that is not from an OAuth server"
        return UnexpectedAnswer(
            f"{self._endpoint.url} returned {what} (HTTP {response.status}, {content_type}).",
            remedy="Check the org URL, and whether there is a proxy or a login page between this machine and Okta.",
            status=response.status,
            request_id=request_id(response),
        )


def _cure(code: str, description: str | None, has_new_nonce: bool, moved: float) -> str | None:
    """The difference that a new attempt would make; ``None`` if there is none."""
    if code == "use_dpop_nonce":
        return "nonce" if has_new_nonce else None
    if code in _CLOCK_CODES and abs(moved) > CLOCK_TOLERANCE:
        return "clock"
    if description == _ALREADY_USED:
        return "used"
    return None


def _rate_limited(response: Response, pause: float | None) -> RateLimited:
    asked = "" if pause is None else f", and asked to wait {pause:.1f} seconds"
    if pause is not None and pause > LONGEST_BELIEVED:
        asked, pause = f"{asked}, of which {LONGEST_BELIEVED:.0f} are believed", LONGEST_BELIEVED
    return RateLimited(
        f"Okta's token endpoint is rate limited{asked}.",
        remedy="Try again after that, fetch fewer tokens (one ServiceApp per process), or raise max_wait.",
        status=429,
        error=error_code(response.body),
        request_id=request_id(response),
        retry_after=pause or 0.0,  # replaced by what is left of our own pause, unless that has passed: _wait
    )
