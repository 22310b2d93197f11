"""The two tables of ``_core/token_state.py``, and a token state on a clock of its own."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from okta_m2m import Token, TokenRefused, TokenUnreachable
from okta_m2m._base.clocks import NEVER
from okta_m2m._core import token_state
from okta_m2m._core.flights import Failure, Flight
from okta_m2m._core.next_step import Fetch, NextStep, Refused, Rejection, Use, UseAndRenew, Wait
from okta_m2m._core.token_state import RENEWAL_LOOK, TokenState
from okta_m2m._urls.origins import Origins

MAX_WAIT = 30.0
KEYS: Any = ("key",)  # they are only compared here
OTHER_KEYS: Any = ("another key",)
ORG = "https://acme.okta.com"
API = "https://api.example.com"
STRANGER = Token("not-ours")
QUESTIONS = {
    "flight_under_way",
    "forced_renewals",
    "has_rejections",
    "is_ours",
    "is_wanted",
    "rejecting_calls",
    "remembered_refusal",
}
"""Methods of ``TokenState`` that report nothing, besides ``next_step``, by which a fetch may begin."""
FROM_STORE = {"adopt_forced"}
"""What a stored token says about other processes is no event of this one."""


def read_table(columns: int) -> list[list[str]]:
    """The rows of the table in the module's docstring that has so many columns."""
    table = re.search(rf"^( {{4}}-+(?: +-+){{{columns - 1}}})\n((?: {{4}}.*\n)+)", token_state.__doc__ or "", re.M)
    assert table is not None
    starts = [ruler.start() for ruler in re.finditer("-+", table[1])]
    rows: list[list[str]] = []
    for line in table[2].splitlines():
        cells = [line[start:end].strip() for start, end in pairwise([*starts, None])]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [f"{begun} {cell}".strip() for begun, cell in zip(rows[-1], cells, strict=True)]
    return rows


ANSWERS = {known: answer.split()[0].strip(",:") for known, answer in read_table(2)}
CLAUSES = [(method, clause) for method, _, change in read_table(3) for clause in change.split("; ")]


class World:
    """A token state, and the clock it reads."""

    def __init__(self, made: type[TokenState] = TokenState) -> None:
        self.time = 1000.0
        self.minted = 0
        origins = Origins(["https://acme.okta.com"])
        self.state = made(lambda: self.time, origins, KEYS, max_wait=MAX_WAIT)

    def mint(self, life: float = 3600.0, token_type: str = "Bearer", sent_at: float | None = None) -> Token:
        self.minted += 1
        return Token(f"token-{self.minted}", token_type, (), life, self.time if sent_at is None else sent_at)

    def obtain(self, **about: Any) -> Token:
        token = self.mint(**about)
        self.state.obtained(token)
        return token

    def ask(self, origin: str = ORG) -> NextStep:
        step = self.state.next_step(self.time, origin)
        if isinstance(step, Fetch | UseAndRenew):
            step.flight.is_running = lambda: True  # as who has this answer does
        return step

    def begin(self, origin: str = ORG) -> Flight:
        step = self.ask(origin=origin)
        assert isinstance(step, Fetch | UseAndRenew)
        return step.flight

    def begin_renewal(self, **about: Any) -> tuple[Token, Flight]:
        token = self.obtain(**about)
        self.time = self.state.fresh_until
        return token, self.begin()

    def refuse(self, keys: Any = KEYS) -> None:
        self.state.refused(TokenRefused("No."), keys, self.time)

    def fail(self, flight: Flight, error: Exception | None = None) -> float | None:
        error = error or TokenUnreachable("No answer.")
        pause = self.state.failed(flight, error, self.time)
        self.state.landed(flight, Failure(error))
        return pause

    def reject(self, token: Token, origin: str = ORG) -> Rejection:
        return self.state.rejected(token, origin, self.time)

    def renew_by_force(self, origin: str = ORG) -> Rejection:
        """An origin rejects the token in use, and has another if it may."""
        token = self.state.token
        assert token is not None
        rejection = self.reject(token, origin)
        if rejection == "renew":
            flight = self.begin(origin)
            self.state.landed(flight, self.obtain())
            self.wait(0.01)
        return rejection

    def end_subject(self) -> None:
        """The token of the user whom the state's tokens are for expires."""
        self.state._renew_until = self.time

    def is_refusal_remembered(self, keys: Any = KEYS) -> bool:
        return self.state.remembered_refusal(keys, self.time) is not None

    def wait(self, seconds: float) -> None:
        self.time += seconds

    def vanish(self) -> None:
        """The thread of the fetch under way ends without a word."""
        flight = self.state.flight_under_way(self.time)
        assert flight is not None
        flight.is_running = lambda: False


def check_consequences(world: World, step: NextStep, before: Flight | None) -> None:
    """What holds of every answer; ``before`` is the flight that was under way when it was asked for."""
    state, now = world.state, world.time
    under_way = state.flight_under_way(now)
    match step:
        case Use(token):
            assert token is state.token
            assert now < state.fresh_until or state.has_rejections()
            assert under_way is before
        case UseAndRenew(token, flight):
            assert token is state.token is flight.renews
            looks = NEVER if state.has_rejections() else min(now + RENEWAL_LOOK, token.usable_until)
            assert state.fresh_until == looks
        case Fetch(flight):
            works = state.token is not None and state.token.usable(now)
            assert flight.renews is (state.token if works else None)
            assert flight.is_forced is works
        case Refused(error):
            assert error.retry_after is not None
            assert 0 < error.retry_after <= 60
        case Wait(flight):
            assert flight is before
    if isinstance(step, Fetch | UseAndRenew):
        assert before is None
        assert under_way is step.flight
        assert step.flight.deadline == now + MAX_WAIT
        assert step.flight.is_renewal is isinstance(step, UseAndRenew)
