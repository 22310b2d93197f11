"""The token in use, and every change to it.

Everything that is remembered about an app's one token lives here: the token, the fetch under way, remembered refusals,
rejections by APIs, and which tokens were ours. Nothing in here does I/O, sleeps, or knows HTTP: callers say what
happened, and ask what to do.

Theory of operation
-------------------

What to do is answered by :meth:`TokenState.next_step`, from the first row that fits:

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

What happens is reported by one method each. ``use`` is the token in use, ``suspect`` a rejected token that is kept aside:

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
    rejected             an API rejected the token in use        it is the suspect, if a forced renewal is left
    accepted             an API took a renewed token             its rejection would be one like any other
    close                the app ends                            no token, and none from now on
    after_fork           the token is the parent's to revoke     no token; a fetch may begin

After any other fork the child notices at its next question that no fetch is under way in it, and draws a moment of renewal
of its own.

WARNING: the hit (:class:`Hit`) reads without the mutex. ``fresh_until`` is written last when a token is put into use and
first when one is taken out of use, so that a reader of it never meets an older token than it was written for.
``tests/rules/test_hits.py`` stops after each assignment and looks.

Forced renewals, of tokens that an API rejected, draw on a budget: :data:`FORCED_AT_ONCE`, and one more each
:data:`FORCED_EVERY` seconds. So an API that rejects every token, or every other, costs a bounded number of token requests.

Invariant: at most one fetch is under way, and nobody waits for a fetch while a token works.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ..errors import OktaM2MError, RateLimited, TokenRefused
from .clocks import NEVER
from .flights import ABANDONED, Failure, Flight, Outcome, forks, mutex
from .next_step import CLOSED, Fetch, NextStep, Refused, Use, UseAndRenew, Wait
from .tokens import Token

if TYPE_CHECKING:
    from ..keys import Signer
    from .origins import Origins

__all__ = ["Hit", "Postponed", "Rejection", "TokenState"]

RENEWAL_SHARE: Final = (0.72, 0.82)
"""The part of a token's life after which it is renewed: anywhere in between, so that a fleet does not march in step."""

RENEWAL_SHARE_SHARED: Final = (0.93, 0.95)
"""The same where a token is shared. The first of many processes to find it due renews it for all, so the moment is close
to the lower end, and where all of them can try, it takes less time to be sure that one succeeds. Of an hour 4 minutes are
left, as with most SDKs, and a fleet asks at most 1.1 times for each life of a token. From the earlier moment on each process
only looks whether the store is in order, for without it every process needs a token of its own, and some time for that."""

OVERDUE: Final = 2.0
"""Seconds by which a fetch may be late. Then it is given up: its event loop stands still, or is gone."""

LANDING_GRACE: Final = 0.5
"""Seconds that a caller waits beyond its own deadline for a fetch that ends by then, for its error says more than ours."""

FAILED_GROWTH: Final = 2.0
ABANDONED_GROWTH: Final = 4.0
"""How the pause of a second until a renewal is begun again grows, if it failed and if it was cancelled. A program that has a
new event loop for each job may cancel every one; a token that ends is fetched at once."""

OTHERS_PAUSE: Final = 1.0
"""Seconds until a renewal that another process has begun is looked for in the store."""

LONGEST_PAUSE: Final = 60.0
"""Seconds between renewals while they fail."""

LOOK_SHARE: Final = 0.05
"""The part of a token's life between two such looks."""

LATEST_SHARE: Final = 0.98
"""The part of a token's life by which a process has renewed it that found the store out of order."""

FIRST_REFUSAL: Final = 1.0
LONGEST_REFUSAL: Final = 60.0
"""Seconds for which a refusal is repeated without asking again: doubled from one to the next."""

FORCED_AT_ONCE: Final = 3.0
FORCED_EVERY: Final = 60.0
"""Forced renewals that are made at once, and the seconds after which there is another. A renewed token that no API is known
to have accepted costs two when it is rejected: a wrong audience is not cured by another token."""

MAX_FORMER: Final = 16
"""Tokens that are recognised as ours when they are met again on a request; and as many that an API rejected."""


Postponed: TypeAlias = Literal["others are renewing it", "not due yet", "store has just failed"]
"""Why a token that works is not renewed now. Until it is due, a process only looks whether the store works."""

Rejection: TypeAlias = Literal["renew", "renewed", "kept", "kept again"]
"""What a call does whose token an API rejected.

- ``renew``: it takes a new token; it is the first to report this one.
- ``renewed``: it takes the token in use, or the one that is being fetched.
- ``kept``: it keeps its answer, as no forced renewal is left; it is the first to report this token.
- ``kept again``: it keeps its answer.
"""


class Hit:
    """What a call with a fresh token reads, and all that it reads. Adapters may read it directly:

        if hit.fresh_until > hit.now() and (authorization := hit.authorization) and url.startswith(hit.prefixes): ...

    In that order: see the warning above.
    """

    __slots__ = ("authorization", "fresh_until", "now", "origins", "prefixes")

    authorization: str | None
    """The ``Authorization`` value of a fresh Bearer token; ``None`` for a bound token, which needs a proof for each call."""
    fresh_until: float
    """On the clock ``now``: until then the token in use is sent without asking :meth:`TokenState.next_step`."""
    now: Callable[[], float]
    """The steady clock, in seconds."""
    prefixes: tuple[str, ...]
    """What an allowed URL begins with, its origin's closing slash included."""
    origins: Origins
    """Where the token may travel."""


class TokenState(Hit):
    """The state of one app's token.

    - ``keys``: the app's keys as they were given.
    - ``max_wait``: seconds that a fetch may take.
    """

    __slots__ = (
        "_budget",
        "_budget_at",
        "_failures",
        "_flight",
        "_forced_cost",
        "_forks",
        "_former",
        "_keys",
        "_refusal",
        "_refusals",
        "_rejects",
        "_suspect",
        "_unproven",
        "is_closed",
        "max_wait",
        "rejecting_calls",
        "token",
    )

    def __init__(
        self,
        now: Callable[[], float],
        origins: Origins,
        keys: tuple[Signer, ...],
        *,
        max_wait: float,
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
        self._rejects: tuple[bytes, ...] = ()
        self._suspect: Token | None = None
        self._refusal: tuple[TokenRefused, float, tuple[Signer, ...]] | None = None
        self._refusals = 0
        self._failures = 0
        self._budget, self._budget_at = FORCED_AT_ONCE, NEVER
        self._forced_cost = 0
        self._unproven = False
        self.rejecting_calls = 0
        self.is_closed = False
        self.max_wait = max_wait

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────

    def next_step(self, now: float, deadline: float) -> NextStep:
        """What a caller that may wait until ``deadline`` does, by the first table above."""
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
                    flight = self._begin_flight(now, renews=token)
                self._use(token, flight.due)
                return UseAndRenew(token, flight) if begun else Use(token)
            if flight is not None:
                return Wait(flight, _patience(flight, now, deadline))
            refusal = self._refusal
            # Keys that may change (a file's) are not compared here, but by the fetch, which reads them again.
            if refusal is not None and now < refusal[1] and refusal[2] == self._keys:
                return Refused(refusal[0].copy(retry_after=refusal[1] - now))
            flight = self._begin_flight(now, renews=None)
            return Fetch(flight, _patience(flight, now, deadline))

    def remembered_refusal(self, keys: tuple[Signer, ...], now: float) -> TokenRefused | None:
        """Okta's refusal of exactly these keys, if it is too recent to ask again."""
        refusal = self._refusal
        if refusal is None or refusal[2] != keys or now >= refusal[1]:
            return None
        return refusal[0].copy(retry_after=refusal[1] - now)

    def is_ours(self, token: Token) -> bool:
        """Whether it was this app's, now or some renewals ago."""
        used = self.token
        return (used is not None and token.value == used.value) or token.digest in self._former

    def is_wanted(self, token: Token, now: float) -> bool:
        """Whether a token found in a store is worth having: alive, not one we saw rejected, later than ours."""
        used = self.token
        if not token.usable(now) or token.digest in self._rejects:
            return False
        if used is None or not used.usable(now):
            return True
        return token.value != used.value and token.sent_at > used.sent_at

    @property
    def lateness(self) -> float:
        """Seconds by which a fetch may be late in what it does next, before whoever needs a token gives it up: enough for a
        loop that is busy, and so few that they have time for another."""
        return max(OVERDUE, self.max_wait / 3)

    @staticmethod
    def is_due_for_all(token: Token, now: float) -> bool:
        """Whether it is time to renew a token that processes share. Before that, only a process without its store does."""
        return now >= token.sent_at + RENEWAL_SHARE_SHARED[0] * token.expires_in

    # ── the fetch ────────────────────────────────────────────────────────────────────────────────────────────────

    def obtained(self, token: Token) -> None:
        """A new token: it is in use from now on, unless a later one is."""
        with mutex():
            self._unproven = self._suspect is not None
            self._refusal, self._refusals, self._failures, self._suspect = None, 0, 0, None
            used = self.token
            # Not the one that lives longer: where an admin has shortened the life of tokens, none would ever replace it.
            later = used is None or token.sent_at > used.sent_at or not used.usable(self.now())
            if later and not self.is_closed:
                self._use(token)
            else:
                self._remember_former(token)  # those who wait for it send it

    def refused(self, error: TokenRefused, keys: tuple[Signer, ...], now: float) -> None:
        """Okta refused these keys: that is repeated for a while without asking."""
        with mutex():
            pause = min(LONGEST_REFUSAL, FIRST_REFUSAL * 2.0 ** min(self._refusals, 10))
            self._refusals += 1
            self._refusal = error.copy(), now + pause, keys

    def landed(self, flight: Flight, token: Token) -> None:
        """The fetch ended with this token, for everybody who waits for it."""
        self._land(flight, token)

    def failed(self, flight: Flight, error: Exception, now: float) -> float | None:
        """The fetch failed. Returns the pause in seconds before the next renewal, if the token that it was to replace works."""
        pause = None
        with mutex():
            suspect = self._suspect
            if suspect is not None and self.token is None:
                self._budget += self._forced_cost  # no token was renewed
                self._forced_cost = 0
                if not isinstance(error, TokenRefused):
                    # One wrongly configured API may have rejected it; for the others it is better than nothing.
                    self._suspect = None
                    self._use(suspect, now + self._next_pause(FAILED_GROWTH))
            if self._renews_token_in_use(flight):
                pause = self._next_pause(FAILED_GROWTH)
                if isinstance(error, RateLimited) and error.retry_after is not None:
                    pause = max(pause, error.retry_after)
                self._stay_fresh_until(now + pause, flight)
        self._land(flight, Failure(error.copy() if isinstance(error, OktaM2MError) else error))
        return pause

    def postponed(self, flight: Flight, why: Postponed, now: float) -> None:
        """A token that works is renewed later."""
        token, moment = flight.renews, now + OTHERS_PAUSE
        if token is not None and why == "store has just failed":
            moment = self._moment_of(token, 0.0, LATEST_SHARE)
        elif token is not None and why == "not due yet":
            moment = now + LOOK_SHARE * token.expires_in
            if self.is_due_for_all(token, moment):
                moment = self._moment_of(token, *RENEWAL_SHARE_SHARED)
        self._stay_fresh_until(moment, flight)
        self._land(flight, ABANDONED)

    def abandoned(self, flight: Flight) -> None:
        """The fetch ended without an outcome: its task was cancelled, or it could not be started."""
        with mutex():
            if flight.outcome is None and self._renews_token_in_use(flight):
                self._stay_fresh_until(self.now() + self._next_pause(ABANDONED_GROWTH), flight)
        self._land(flight, ABANDONED)

    # ── what APIs say of the token ───────────────────────────────────────────────────────────────────────────────

    def rejected(self, token: Token, now: float, *, may_renew: bool = True) -> Rejection:
        """An API rejected that token: what the call that had it does. ``rejecting_calls`` counts the calls that had it.

        ``may_renew=False`` for a token that has itself been renewed in the same call.
        """
        with mutex():
            used, digest = self.token, token.digest
            if used is None or used.value != token.value:
                if digest in self._rejects[-1:]:
                    self.rejecting_calls += 1
                return "renewed"
            cost = 2 if self._unproven else 1
            self._budget = min(FORCED_AT_ONCE, self._budget + (now - self._budget_at) / FORCED_EVERY)
            self._budget_at = now
            if self._budget < cost or not may_renew:
                is_news = digest not in self._rejects
                self._remember_reject(digest)
                self.rejecting_calls = 1
                return "kept" if is_news else "kept again"
            self._budget -= cost
            self._forced_cost = cost
            self.rejecting_calls = 1
            self._use_none()
            self._suspect = used
            self._remember_reject(digest)
            return "renew"

    def accepted(self) -> None:
        """An API took a renewed token."""
        self._unproven = False

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> Token | None:
        """No token from now on. Answers with the one that there was, in use or suspect, for revocation."""
        with mutex():
            last = self.token or self._suspect
            self.is_closed, self._suspect = True, None
            self._use_none()
            return last

    def after_fork(self) -> None:
        """In a forked child of a process that will have the token revoked: it is the parent's."""
        with mutex():
            self._suspect = None
            self._use_none()

    # ── under the mutex ──────────────────────────────────────────────────────────────────────────────────────────

    def flight_under_way(self, now: float) -> Flight | None:
        """The fetch under way, if there is one in this process."""
        self._give_up_lost(now)
        with mutex():
            if self._forks != forks():
                self._notice_fork()
            return self._flight

    def _notice_fork(self) -> None:
        """In a forked child: the thread that fetches stayed behind in the parent."""
        self._forks, self._flight = forks(), None
        if self.token is not None:
            self._use(self.token)  # a moment of its own, or all the children would renew at once

    def _give_up_lost(self, now: float) -> None:
        flight, token = self._flight, self.token
        if flight is None or self._forks != forks():
            return
        if flight.is_overdue(now, is_needed=token is None or not token.usable(now)):
            self._land(flight, ABANDONED)
        elif flight.is_lost():
            self.abandoned(flight)

    def _begin_flight(self, now: float, renews: Token | None) -> Flight:
        deadline = now + self.max_wait
        self._flight = Flight(deadline, deadline + OVERDUE, now + self.lateness, renews)
        return self._flight

    def _use(self, token: Token, fresh_until: float | None = None) -> None:
        """Puts a token into use. Until ``fresh_until`` nobody looks again; by default that is its moment of renewal."""
        former = self.token
        if former is not None and token.value != former.value:
            self._remember_former(former)
        if fresh_until is None:
            fresh_until = self._moment_of(token, *RENEWAL_SHARE)
        self.token = token
        self.authorization = None if token.dpop_bound else token.authorization
        # A signal handler may have closed the app just now: it may enter the mutex that its own thread holds.
        self.fresh_until = NEVER if self.is_closed else min(fresh_until, token.usable_until)

    def _moment_of(self, token: Token, first: float, last: float) -> float:
        """A moment of this process's own, after so much of the token's life, and not before now."""
        first = min(max(first, (self.now() - token.sent_at) / token.expires_in), last)
        return token.sent_at + random.uniform(first, last) * token.expires_in  # noqa: S311 (spreads load)

    def _next_pause(self, growth: float) -> float:
        """Seconds until a renewal is begun again, after one more that came to nothing."""
        self._failures += 1
        longest = min(LONGEST_PAUSE, growth ** min(self._failures - 1, 10))
        return longest * random.uniform(0.75, 1.0)  # noqa: S311 (spreads load)

    def _use_none(self) -> None:
        if self.token is not None:
            self._remember_former(self.token)
        self.fresh_until, self.authorization, self.token = NEVER, None, None

    def _renews_token_in_use(self, flight: Flight) -> bool:
        """Whether the token that a flight was to replace is still in use and works."""
        return self.token is not None and self.token is flight.renews and self.token.usable(self.now())

    def _stay_fresh_until(self, moment: float, flight: Flight) -> None:
        """Begins no other renewal until then, in place of the flight that ended."""
        with mutex():
            if self.token is not None and self._renews_token_in_use(flight):
                self._use(self.token, moment)

    def _remember_reject(self, digest: bytes) -> None:
        if digest not in self._rejects:
            self._rejects = (*self._rejects[1 - MAX_FORMER :], digest)

    def _remember_former(self, token: Token) -> None:
        self._former = (*self._former[1 - MAX_FORMER :], token.digest)

    def _land(self, flight: Flight, outcome: Outcome) -> None:
        """A flight lands once. Not under the mutex: waiters' callbacks run in here."""
        with mutex():
            if self._flight is flight:
                self._flight = None
            if flight.outcome is not None:
                return
            flight.outcome = outcome
        flight.landing.set_result(None)


def _patience(flight: Flight, now: float, deadline: float) -> float:
    """Seconds that a caller waits for a fetch: to its own deadline, or a moment longer if the fetch ends by then."""
    until = deadline + LANDING_GRACE if flight.deadline <= deadline else deadline
    return max(0.0, min(until, flight.expected) - now)
