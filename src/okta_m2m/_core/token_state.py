"""The current token, and every change to it.

All state about an app's token is here: the token, the fetch in progress, remembered refusals, rejections by APIs, and
which tokens were ours. Nothing here does I/O, sleeps, or knows HTTP: callers report what happened, and ask for the next step.

Theory of operation
-------------------

:meth:`TokenState.next_step` says what to do, by the first row that fits:

    what is known                                       answer
    ------------------------------------------------    ----------------------------------------------------------------
    closed                                              Closed
    a token, fresh (before ``fresh_until``)             Use
    a token, usable; no fetch under way                 UseAndRenew: a fetch begins, and the token counts as fresh until
                                                        that fetch is overdue
    a token, usable; a fetch under way                  Use, as above
    no usable token; a fetch under way                  Wait
    no usable token; Okta refused these keys lately     Refused
    no usable token                                     Fetch: a fetch begins

One method reports each event. The token "in use" is the current one; the "suspect" is a rejected token kept for later:

    method               when                                    change
    -----------------    ------------------------------------    -------------------------------------------------------
    next_step            somebody needs a token                  a fetch may begin (see above)
    obtained             a token arrived                         it is in use, unless a later one is; suspect, refusal and
                                                                 failures are forgotten
    refused              Okta refused the keys                   remembered, for a growing time, for these keys
    landed               a fetch ended with a token              who waits for it has that token
    failed               a fetch ended with an error             who waits for it has that error; a suspect is back in use,
                                                                 except after a refusal; the forced renewal counts as none;
                                                                 a token in use stays fresh for a growing pause
    postponed            a renewal is left for later             who waits asks again; a token in use stays fresh until then
    abandoned            a fetch ended without an outcome        who waits asks again; a token in use stays fresh for a
                                                                 growing pause
    rejected             an API rejected the token in use        it is the suspect, if a forced renewal is left; if it has
                                                                 expired, it is not
    accepted             an API took a renewed token             its rejection would be one like any other
    close                the app ends                            no token, and none from now on
    after_fork           the token is the parent's to revoke     no token; a fetch may begin

After any other fork, the child's next call notices that no fetch is in progress there, and chooses the child's own
moment of renewal.

WARNING: a hit, which is a call with a fresh token, reads without the mutex. ``fresh_until`` is written last when a token
is put into use and first when one is taken out of use, so that a reader never sees a token older than the one that
``fresh_until`` belongs to.
``tests/rules/test_hits.py`` stops after each assignment and checks this.

``renewal_times.py`` says when a token is renewed, and ``forced_renewals.py`` limits the renewals of tokens that an API
rejected.

Invariant: at most one fetch is in progress, and no caller waits for a fetch while a token works.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..errors import OktaM2MError, RateLimited, TokenRefused
from . import renewal_times
from .clocks import NEVER
from .flights import ABANDONED, Failure, Flight, Outcome, forks, mutex
from .next_step import CLOSED, Fetch, NextStep, Refused, Rejection, Use, UseAndRenew, Wait
from .tokens import Token

if TYPE_CHECKING:
    from ..keys import Signer
    from .forced_renewals import ForcedRenewals
    from .origins import Origins

__all__ = ["TokenState"]

MAX_FORMER: Final = 16
"""The number of earlier tokens that are recognized as ours on a request."""


class TokenState:
    """The state of one app's token.

    A call with a fresh token reads only this, in this order (see the warning above):

        if state.fresh_until > state.now() and (authorization := state.authorization) and url.startswith(state.prefixes): ...

    - ``fresh_until``: the time until which the current token is sent without calling :meth:`next_step`.
    - ``now``: the steady clock, in seconds.
    - ``authorization``: the ``Authorization`` value of a fresh Bearer token; ``None`` for a bound token, which needs a proof
      for each call.
    - ``prefixes``: the beginnings of all allowed URLs, an origin and a slash each; ``origins`` says the same in full.

    For the others, ``keys`` are the app's keys as they were passed, and ``max_wait`` is the seconds that a fetch may take.
    """

    __slots__ = (
        "_failures",
        "_flight",
        "_forced",
        "_forks",
        "_former",
        "_keys",
        "_refusal",
        "_suspect",
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
        self, now: Callable[[], float], origins: Origins, keys: tuple[Signer, ...], *, max_wait: float
    ) -> None:
        self.authorization: str | None = None
        self.fresh_until = NEVER
        self.now = now
        self.origins = origins
        self.prefixes = origins.prefixes
        self.token: Token | None = None
        self._flight: Flight | None = None
        self._keys = keys
        self._forks = forks()
        self._former: tuple[bytes, ...] = ()
        self._suspect: Token | None = None
        self._refusal: tuple[TokenRefused, float, tuple[Signer, ...], int] | None = None
        """The last refusal: the error, the time until which it is repeated, the keys, and how many there were in a row."""
        self._failures = 0
        self._forced: ForcedRenewals | None = None
        self.is_closed = False
        self.max_wait = max_wait

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────

    def next_step(self, now: float, deadline: float) -> NextStep:
        """The next step of a caller that may wait until ``deadline``, by the first table above."""
        self._give_up_lost(now)
        with mutex():
            if self.is_closed:
                return CLOSED
            if self._forks != forks():
                self._notice_fork()
            token, flight = self.token, self._flight
            if token is not None and token.usable(now):
                if now < self.fresh_until:
                    return Use(token)
                begun = flight is None
                if flight is None:
                    flight = self._flight = Flight(now, self.max_wait, renews=token)
                self._use(token, flight.due)
                return UseAndRenew(token, flight) if begun else Use(token)
            if flight is not None:
                return Wait(flight, flight.patience(now, deadline))
            # Keys that may change (from a file) are not compared here. The fetch compares them, because it reads them again.
            refusal = self.remembered_refusal(self._keys, now)
            if refusal is not None:
                return Refused(refusal)
            flight = self._flight = Flight(now, self.max_wait, renews=None)
            return Fetch(flight, flight.patience(now, deadline))

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
        if not token.usable(now) or (self._forced is not None and self._forced.knows(token.digest)):
            return False
        if used is None or not used.usable(now):
            return True
        return token.value != used.value and token.sent_at > used.sent_at

    def flight_under_way(self, now: float) -> Flight | None:
        """The fetch in progress, if there is one in this process."""
        self._give_up_lost(now)
        with mutex():
            if self._forks != forks():
                self._notice_fork()
            return self._flight

    # ── the fetch ────────────────────────────────────────────────────────────────────────────────────────────────

    def obtained(self, token: Token) -> None:
        """Records a new token, which is the current one from now on, unless a later one is in use."""
        with mutex():
            if self._forced is not None:
                self._forced.is_unproven = False
                if self._suspect is not None:
                    self._forced.replaced_by(token)
            self._refusal, self._suspect, self._failures = None, None, 0
            used = self.token
            # Do not compare expiry times: if an admin has shortened the lifetime of tokens, no new token would ever replace
            # the old one.
            later = used is None or token.sent_at > used.sent_at or not used.usable(self.now())
            if later and not self.is_closed:
                self._use(token)
            else:
                self._remember_former(token)  # its waiters send it

    def refused(self, error: TokenRefused, keys: tuple[Signer, ...], now: float) -> None:
        """Records that Okta refused these keys: the refusal is repeated for a while without a new request."""
        with mutex():
            times = 1 if self._refusal is None else self._refusal[3] + 1
            self._refusal = error.copy(), now + renewal_times.pause_after_refusal(times), keys, times

    def landed(self, flight: Flight, outcome: Outcome) -> None:
        """The fetch ended with this token or failure. Gives it to all waiting callers, once. Call it without the mutex,
        because their callbacks run here."""
        with mutex():
            if self._flight is flight:
                self._flight = None
            if flight.outcome is not None:
                return
            flight.outcome = outcome
        flight.landing.set_result(None)

    def failed(self, flight: Flight, error: Exception, now: float) -> float | None:
        """The fetch failed. Returns the pause in seconds before the next renewal, if the token that the fetch should have
        replaced still works."""
        pause = None
        with mutex():
            suspect = self._suspect
            if suspect is not None and self._forced is not None and self.token is None:
                self._forced.give_back()  # no token was renewed
                if not isinstance(error, TokenRefused):
                    # Perhaps a single misconfigured API rejected the token. For other APIs, it is better than nothing.
                    self._suspect = None
                    self._use(suspect, now + self._next_pause(renewal_times.FAILED_GROWTH))
            if self._renews_token_in_use(flight):
                pause = self._next_pause(renewal_times.FAILED_GROWTH)
                if isinstance(error, RateLimited) and error.retry_after is not None:
                    pause = max(pause, error.retry_after)
                self._stay_fresh_until(now + pause, flight)
        self.landed(flight, Failure(error.copy() if isinstance(error, OktaM2MError) else error))
        return pause

    def postponed(self, flight: Flight, why: renewal_times.Postponed, now: float) -> None:
        """The fetch was postponed: a working token will be renewed later."""
        if flight.renews is not None:
            self._stay_fresh_until(renewal_times.moment_after_postponing(why, flight.renews, now), flight)
        self.landed(flight, ABANDONED)

    def abandoned(self, flight: Flight) -> None:
        """The fetch ended without an outcome: its task was cancelled, or it could not be started."""
        with mutex():
            if flight.outcome is None and self._renews_token_in_use(flight):
                self._stay_fresh_until(self.now() + self._next_pause(renewal_times.ABANDONED_GROWTH), flight)
        self.landed(flight, ABANDONED)

    # ── what APIs say about the token ───────────────────────────────────────────────────────────────────────────────

    def rejected(self, token: Token, now: float, *, may_renew: bool = True) -> Rejection:
        """An API rejected that token. Returns the call's next step. ``rejecting_calls`` counts the calls with that token.

        ``may_renew=False`` for a token that was already renewed in the same call.
        """
        # Only a rejected token needs it: saves 2 % of the import time (benchmarks/imports.py). Not under the mutex.
        from .forced_renewals import ForcedRenewals

        with mutex():
            forced = self._forced
            if forced is None:
                forced = self._forced = ForcedRenewals()
            used, digest = self.token, token.digest
            # A token that expired on its way is replaced anyway, without a forced renewal.
            if used is None or used.value != token.value or not used.usable(now):
                forced.note_again(digest)
                return "renewed"
            if not may_renew or not forced.draw(now):
                return "kept" if forced.note(digest) else "kept again"
            self._use_none()
            self._suspect = used
            forced.note(digest)
            return "renew"

    @property
    def rejecting_calls(self) -> int:
        """The number of calls that reported the last rejected token."""
        return 0 if self._forced is None else self._forced.calls

    def accepted(self) -> None:
        """An API accepted a renewed token."""
        if self._forced is not None:
            self._forced.is_unproven = False

    # ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> Token | None:
        """Closes the state: there is no token from now on. Returns the last one, in use or suspect, for revocation."""
        with mutex():
            last = self.token or self._suspect
            self.is_closed, self._suspect = True, None
            self._use_none()
            return last

    def after_fork(self) -> None:
        """In a forked child, if the parent will revoke the token: the token belongs to the parent."""
        with mutex():
            self._suspect = None
            self._use_none()

    # ── under the mutex ──────────────────────────────────────────────────────────────────────────────────────────

    def _notice_fork(self) -> None:
        """In a forked child: the thread that fetches exists only in the parent."""
        self._forks, self._flight = forks(), None
        if self.token is not None:
            self._use(self.token)  # the child's own random moment, or all children would renew at once

    def _give_up_lost(self, now: float) -> None:
        flight, token = self._flight, self.token
        if flight is None or self._forks != forks():
            return
        if flight.is_overdue(now, is_needed=token is None or not token.usable(now)):
            self.landed(flight, ABANDONED)
        elif flight.is_lost():
            self.abandoned(flight)

    def _use(self, token: Token, fresh_until: float | None = None) -> None:
        """Makes a token the current one. Until ``fresh_until`` it is used without further checks; by default that is
        its moment of renewal."""
        former = self.token
        if former is not None and token.value != former.value:
            self._remember_former(former)
        if fresh_until is None:
            fresh_until = renewal_times.moment_of_renewal(token, self.now())
        self.token = token
        self.authorization = None if token.dpop_bound else token.authorization
        # A signal handler may have closed the app in the meantime: it can enter the mutex, which its own thread holds.
        self.fresh_until = NEVER if self.is_closed else min(fresh_until, token.usable_until)

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

    def _stay_fresh_until(self, moment: float, flight: Flight) -> None:
        """Starts no other renewal until that moment; the flight has ended."""
        with mutex():
            if self.token is not None and self._renews_token_in_use(flight):
                self._use(self.token, moment)

    def _remember_former(self, token: Token) -> None:
        self._former = (*self._former[1 - MAX_FORMER :], token.digest)
