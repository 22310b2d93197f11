"""The current token, and every change to it.

All state about an app's token is here: the token, the fetch in progress, remembered refusals, rejections by APIs, and
which tokens were ours. Nothing here does I/O, sleeps, or knows HTTP: callers report what happened, and ask for the next step.

Theory of operation
-------------------

:meth:`TokenState.next_step` says what to do, by the first row that fits. A token is *good* for a caller if it has not
expired, and the origin that the caller calls has not rejected it:

    what is known                                       answer
    ------------------------------------------------    ----------------------------------------------------------------
    closed                                              Closed
    a good token, fresh                                 Use
    a good token, but its subject has expired           Use, until the token expires
    a good token, no fetch under way                    UseAndRenew: a fetch begins
    a good token, a fetch under way                     Use
    no good token, a fetch under way                    Wait
    no good token, Okta refused these keys lately       Refused
    no good token                                       Fetch: a fetch begins

One method reports each event:

    method               when                                    change
    -----------------    ------------------------------------    -------------------------------------------------------
    next_step            someone needs a token                   a fetch may begin (see above)
    begin                a fetch has had its turn                its time begins
    obtained             a token arrived                         it is in use, unless a later one is; rejections, refusal
                                                                 and failures are forgotten
    refused              Okta refused the keys                   remembered, for a growing time, for these keys
    landed               a fetch ended with a token              who waits for it has that token
    failed               a fetch ended with an error             who waits for it will have that error; a token in use stays
                                                                 fresh for a growing pause; a rejection that it was for is
                                                                 forgotten, and does not count; a token in use stays fresh
                                                                 until it expires, if its subject was refused
    postponed            a renewal is left for later             who waits asks again; a token in use stays fresh until then
    abandoned            a fetch ended without an outcome        who waits asks again; a token in use stays fresh for a
                                                                 growing pause
    rejected             an origin rejected the token in use     the token is not good for that origin, if it may force a
                                                                 renewal; all others keep using it
    accepted             an origin took a renewed token          it may force another renewal at once
    unanswered           no one saw an origin's response         the token is renewed in the background, if the origin has
                                                                 forced none within an hour
    close                the app ends                            no token, and none from now on
    after_fork           the token is the parent's to revoke     no token; a fetch may begin

After any other fork, the child's next call notices that no fetch is in progress there, and chooses the child's own
moment of renewal.

WARNING: a hit, which is a call with a fresh token, reads without the mutex. ``fresh_until`` is written last when a token
is put into use and first when one is taken out of use, so that a reader never sees a token older than the one that
``fresh_until`` belongs to. While an origin waits for a better token there are no hits: each call asks for its next step.
``tests/rules/test_hits.py`` stops after each assignment and checks this.

``renewal_times.py`` says when a token is renewed, and ``forced_renewals.py`` how often an origin may force that.

Invariant: at most one fetch is in progress, and no caller waits for a fetch while a token is good for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from .._base.clocks import NEVER
from .._base.tokens import Token
from .._threads.landings import forks, mutex
from ..errors import RateLimited, SubjectRefused, TokenRefused
from . import renewal_times
from .flights import ABANDONED, Flight, Outcome
from .forced_renewals import MAX_ORIGINS, ForcedByOrigin, ForcedRenewals
from .next_step import CLOSED, Fetch, NextStep, Refused, Rejection, Use, UseAndRenew, Wait

if TYPE_CHECKING:
    from .._urls.origins import Origins
    from ..keys import Signer

MAX_FORMER: Final = 16
"""The number of earlier tokens that are recognized as ours on a request."""

RENEWAL_LOOK: Final = 30.0
"""Seconds between looks at a renewal in progress: after a fork, it is in progress only in the parent."""

_NO_REJECTIONS: Final[Mapping[str, bytes]] = MappingProxyType({})


class TokenState:
    """The state of one app's token.

    A call with a fresh token reads only this, in this order (see the warning above):

        if state.fresh_until > state.now() and (authorization := state.authorization) and url.startswith(state.prefixes): ...

    - ``fresh_until``: the time until which the current token is sent without calling :meth:`next_step`.
    - ``now``: the steady clock, in seconds.
    - ``authorization``: the ``Authorization`` value of a fresh Bearer token; ``None`` for a bound token, which needs a proof
      for each call.
    - ``prefixes``: the beginnings of all allowed URLs, an origin and a slash each; ``origins`` says the same in full.

    For the others, ``keys`` are the app's keys as they were passed, ``max_wait`` is the seconds that a fetch may take, and from
    ``renew_until`` on, no token is renewed: the subject that it is for has ended.
    """

    __slots__ = (
        "_failures",
        "_flight",
        "_forced",
        "_forks",
        "_former",
        "_keys",
        "_refusal",
        "_rejected_by",
        "_renew_at",
        "_renew_until",
        "authorization",
        "fresh_until",
        "is_closed",
        "max_wait",
        "now",
        "origins",
        "prefixes",
        "token",
    )

    def __init__(
        self,
        now: Callable[[], float],
        origins: Origins,
        keys: tuple[Signer, ...],
        *,
        max_wait: float,
        renew_until: float = inf,
    ) -> None:
        self.authorization: str | None = None
        self.fresh_until = NEVER
        self.now = now
        self.origins = origins
        self.prefixes = origins.prefixes
        self.token: Token | None = None
        self._renew_at = NEVER
        self._renew_until = renew_until
        self._flight: Flight | None = None
        self._keys = keys
        self._forks = forks()
        self._former: tuple[bytes, ...] = ()
        self._rejected_by: Mapping[str, bytes] = _NO_REJECTIONS
        """The origins that wait for a better token, each with the digest of the one that it rejected."""
        self._forced: dict[str, ForcedRenewals] = {}
        self._refusal: tuple[TokenRefused, float, tuple[Signer, ...], int] | None = None
        """The last refusal: the error, the time until which it is repeated, the keys, and how many there were in a row."""
        self._failures = 0
        self.is_closed = False
        self.max_wait = max_wait

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────

    def next_step(self, now: float, origin: str = "") -> NextStep:
        """The next step of a caller, by the first table above. ``origin``: the origin that it will call; empty if it did not
        say."""
        self._give_up_lost(now)
        with mutex():
            if self.is_closed:
                return CLOSED
            if self._forks != forks():
                self._notice_fork()
            token, flight = self.token, self._flight
            is_usable = token is not None and token.usable(now)
            if token is not None and is_usable and self._rejected_by.get(origin) != token.digest:
                if now < self._renew_at:
                    return Use(token)
                if flight is None and now >= self._renew_until:
                    self._use(token, token.usable_until)
                    return Use(token)
                begun = flight is None
                if flight is None:
                    flight = self._flight = Flight(now, self.max_wait, renews=token)
                self._use(token, now + RENEWAL_LOOK)
                return UseAndRenew(token, flight) if begun else Use(token)
            if flight is not None:
                return Wait(flight)
            # Keys that may change (from a file) are not compared here. The fetch compares them, because it reads them again.
            refusal = self.remembered_refusal(self._keys, now)
            if refusal is not None:
                return Refused(refusal)
            flight = self._flight = Flight(now, self.max_wait, token if is_usable else None, is_forced=is_usable)
            return Fetch(flight)

    def remembered_refusal(self, keys: tuple[Signer, ...], now: float) -> TokenRefused | None:
        """Okta's refusal of exactly these keys, if it is too recent for a new request."""
        refusal = self._refusal
        if refusal is None:
            return None
        error, until, refused, _ = refusal
        return error.copy(retry_after=until - now) if refused == keys and now < until else None

    def is_ours(self, token: Token) -> bool:
        """Whether a token is this app's current one, or was some renewals ago."""
        used = self.token
        return (used is not None and token.value == used.value) or token.digest in self._former

    def is_wanted(self, token: Token, now: float) -> bool:
        """Whether a token from a store is acceptable: not expired, not rejected, and later than ours."""
        used = self.token
        if not token.usable(now) or token.digest in self._rejected_by.values():
            return False
        if used is None or not used.usable(now):
            return True
        return token.value != used.value and token.sent_at > used.sent_at

    def has_rejections(self) -> bool:
        """Whether an origin waits for a better token, so that a caller must say which one it calls."""
        return bool(self._rejected_by)

    def flight_under_way(self, now: float) -> Flight | None:
        """The fetch in progress, if there is one in this process."""
        self._give_up_lost(now)
        with mutex():
            if self._forks != forks():
                self._notice_fork()
            return self._flight

    # ── the fetch ────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, flight: Flight, now: float) -> bool:
        """The fetch has had its turn. ``False`` if it was given up before."""
        with mutex():
            if flight.outcome is not None:
                return False
            flight.begin(now, self.max_wait)
            return True

    def obtained(self, token: Token, *, is_shared: bool = False) -> None:
        """Records a new token, which is the current one from now on, unless a later one is in use.

        ``is_shared``: whether another process fetched it, so that no forced renewal was made here.
        """
        with mutex():
            used = self.token
            # Do not compare expiry times: if an admin has shortened the lifetime of tokens, no new token would ever replace
            # the old one. A coarse clock may give the same time to a token, its rejection and the request for another.
            later = used is None or token.sent_at > used.sent_at or not used.usable(self.now())
            if used is not None and token.sent_at == used.sent_at and used.digest in self._rejected_by.values():
                later = True
            for origin in self._rejected_by:
                self._forced[origin].give_back(NEVER if is_shared else token.sent_at)
            self._rejected_by = _NO_REJECTIONS
            self._refusal, self._failures = None, 0
            if later and not self.is_closed:
                self._use(token)
            else:
                self._remember_former(token)  # its waiters send it
                if used is not None:
                    self._use(used, self._renew_at)

    def refused(self, error: TokenRefused, keys: tuple[Signer, ...], now: float) -> None:
        """Records that Okta refused these keys: the refusal is repeated for a while without a new request."""
        with mutex():
            times = 1 if self._refusal is None else self._refusal[3] + 1
            self._refusal = error.copy(), now + renewal_times.pause_after_refusal(times), keys, times

    def landed(self, flight: Flight, outcome: Outcome) -> None:
        """The fetch ended with this token or failure. Gives it to all waiting callers, once. Call it without the mutex,
        because their callbacks run here."""
        with mutex():
            is_first = self._end(flight, outcome)
        if is_first:
            flight.landing.land()

    def failed(self, flight: Flight, error: Exception, now: float) -> float | None:
        """The fetch failed; :meth:`landed` follows. Returns the pause in seconds before the next renewal, if the token that
        the fetch should have replaced still works."""
        with mutex():
            if flight.is_forced:
                for origin in self._rejected_by:
                    self._forced[origin].give_back(NEVER)
                self._rejected_by = _NO_REJECTIONS
            if not self._renews_token_in_use(flight):
                return None
            if isinstance(error, SubjectRefused) and self.token is not None:
                self._use(self.token, self.token.usable_until)  # only the user can change that
                return None
            pause = self._next_pause(renewal_times.FAILED_GROWTH)
            if isinstance(error, RateLimited) and error.retry_after is not None:
                pause = max(pause, error.retry_after)
            self._stay_fresh_until(now + pause, flight)
            return None if flight.is_forced else pause

    def postponed(self, flight: Flight, why: renewal_times.Postponed, now: float) -> None:
        """The fetch was postponed: a working token will be renewed later."""
        if flight.renews is not None:
            self._stay_fresh_until(renewal_times.moment_after_postponing(why, flight.renews, now), flight)
        self.landed(flight, ABANDONED)

    def abandoned(self, flight: Flight, *, unless_begun: bool = False) -> None:
        """The fetch ended without an outcome: it could not be started, or its thread has ended.

        ``unless_begun``: whether it may just be beginning in its thread, and then continues.
        """
        with mutex():
            if unless_begun and not flight.is_in_line:
                return
            if flight.outcome is None and self._renews_token_in_use(flight):
                self._stay_fresh_until(self.now() + self._next_pause(renewal_times.ABANDONED_GROWTH), flight)
            is_first = self._end(flight, ABANDONED)
        if is_first:
            flight.landing.land()

    # ── what APIs say about the token ───────────────────────────────────────────────────────────────────────────────

    def rejected(self, token: Token, origin: str, now: float, *, may_renew: bool = True) -> Rejection:
        """An origin rejected that token. Returns the call's next step. :meth:`rejecting_calls` counts the calls with it.

        ``may_renew=False`` for a token that was already renewed in the same call.
        """
        with mutex():
            forced, digest, used = self._forced_by(origin), token.digest, self.token
            # A token that expired on its way is replaced anyway, without a forced renewal.
            is_current = used is not None and used.value == token.value and used.usable(now)
            if not is_current or self._rejected_by.get(origin) == digest:
                forced.note_again(digest)
                return "renewed"
            if not may_renew or not forced.may_force(now):
                return "kept" if forced.note(digest) else "kept again"
            forced.force(now)
            forced.note(digest)
            self.fresh_until = NEVER  # from now on, each call says which origin it calls
            self._rejected_by = {**self._rejected_by, origin: digest}
            return "renew"

    def rejecting_calls(self, origin: str) -> int:
        """The number of calls that reported the last token that this origin rejected."""
        return self._forced[origin].calls if origin in self._forced else 0

    def accepted(self, origin: str) -> None:
        """An origin accepted a renewed token."""
        with mutex():
            if origin in self._forced:
                self._forced[origin].accepted()

    def unanswered(self, token: Token, origin: str, now: float) -> None:
        """No one saw an origin's response to a call with that token: a hook or a retry hid it. It may have been a 401, so
        the next call renews the token in the background."""
        with mutex():
            used, forced = self.token, self._forced_by(origin)
            if used is None or used.value != token.value or self._flight is not None or now >= self._renew_at:
                return
            # Perhaps there was no response at all. Leave the other forced renewals for rejections that were seen.
            if not forced.recent(now):
                forced.force(now)
                self._use(used, now)

    def forced_renewals(self, now: float) -> ForcedByOrigin:
        """The renewals that each origin forced without accepting their tokens, for :meth:`adopt_forced` of another process."""
        with mutex():
            recent = {origin: forced.recent(now) for origin, forced in self._forced.items()}
            return {origin: renewals for origin, renewals in recent.items() if renewals}

    def adopt_forced(self, renewals: ForcedByOrigin) -> None:
        """Adopts what a stored token says about renewals that other processes were forced to."""
        with mutex():
            for origin, of_origin in renewals.items():
                self._forced_by(origin).adopt(of_origin)

    # ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> Token | None:
        """Closes the state: there is no token from now on. Returns the last one, for revocation."""
        with mutex():
            last = self.token
            self.is_closed, self._rejected_by = True, _NO_REJECTIONS
            self._use_none()
            return last

    def after_fork(self) -> None:
        """In a forked child, if the parent will revoke the token: the token belongs to the parent."""
        with mutex():
            self._rejected_by = _NO_REJECTIONS
            self._use_none()

    # ── these enter the mutex ────────────────────────────────────────────────────────────────────────────────────────

    def _give_up_lost(self, now: float) -> None:
        flight = self._flight
        if flight is not None and self._forks == forks():
            may_begin = flight.is_running is None  # read first: its starter may be setting it
            if flight.is_lost(now):
                self.abandoned(flight, unless_begun=may_begin)

    def _stay_fresh_until(self, moment: float, flight: Flight) -> None:
        """Starts no other renewal until that moment; the flight has ended."""
        with mutex():
            if self.token is not None and self._renews_token_in_use(flight):
                # A forced renewal may have ended long before the token's own moment of renewal.
                self._use(self.token, max(moment, self._renew_at) if flight.is_forced else moment)

    # ── called under the mutex ───────────────────────────────────────────────────────────────────────────────────────

    def _notice_fork(self) -> None:
        """In a forked child: the thread that fetches exists only in the parent."""
        self._forks, self._flight = forks(), None
        if self.token is not None:
            self._use(self.token)  # the child's own random moment, or all children would renew at once

    def _end(self, flight: Flight, outcome: Outcome) -> bool:
        """Ends a flight. Returns whether it had not ended before: then land it, without the mutex."""
        is_first = flight.outcome is None
        if is_first:
            # Before it is no longer under way: a signal handler may raise in between, and an ended flight never begins.
            flight.outcome = outcome
        if self._flight is flight:
            self._flight = None
        return is_first

    def _forced_by(self, origin: str) -> ForcedRenewals:
        if origin not in self._forced:
            kept = list(self._forced.items())[1 - MAX_ORIGINS :]
            self._forced = {**dict(kept), origin: ForcedRenewals()}
        return self._forced[origin]

    def _use(self, token: Token, renew_at: float | None = None) -> None:
        """Makes a token the current one. It is renewed at ``renew_at``; by default at its moment of renewal. Until then,
        calls use it without further checks, unless an origin has rejected it."""
        former = self.token
        if former is not None and token.value != former.value:
            self._remember_former(former)
        if renew_at is None:
            renew_at = renewal_times.moment_of_renewal(token, self.now())
        self._renew_at = renew_at
        self.token = token
        self.authorization = None if token.dpop_bound else token.authorization
        # A signal handler may have closed the app in the meantime: it can enter the mutex, which its own thread holds.
        is_hit = not self.is_closed and not self._rejected_by
        self.fresh_until = min(renew_at, token.usable_until) if is_hit else NEVER

    def _next_pause(self, growth: float) -> float:
        """Seconds until the next renewal, after one more failure."""
        self._failures += 1
        return renewal_times.pause_after(self._failures, growth)

    def _use_none(self) -> None:
        if self.token is not None:
            self._remember_former(self.token)
        self.fresh_until, self.authorization, self.token = NEVER, None, None

    def _renews_token_in_use(self, flight: Flight) -> bool:
        """Whether the token that a flight should replace is still the current one and works."""
        return self.token is not None and self.token is flight.renews and self.token.usable(self.now())

    def _remember_former(self, token: Token) -> None:
        self._former = (*self._former[1 - MAX_FORMER :], token.digest)
