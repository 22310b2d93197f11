"""The plot of the demonstration: an org on a loopback port, four clients with one service app, and the faults.

Invariant: earlier events, not the clock, trigger the faults, so that the same happens on a slow machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Final

from ... import PrivateKey, ServiceApp
from ...events import Event, TokenObtained, TokenRejected
from ...testing import FakeOkta, ReceivedRequest
from ..debug import without_log
from .callers import CALLERS, CLIENTS, TIMEOUT, Callers
from .story import FULL_LENGTH, Answer, Obtained, Rejection, Revocation, Story

__all__ = ["play"]

LIFETIME: Final = 3.0  # lifetime of a token in seconds
API_DELAY: Final = 0.03  # seconds that an API call takes, so that some calls are always in progress
OVERTIME: Final = 5.0  # extra seconds on a slow machine for the remaining events


def play(seconds: float, *, dpop: bool, watch: Callable[[Story], None]) -> Story:
    """Plays the demonstration, and returns its story.

    - ``seconds``: how long the clients make calls.
    - ``dpop``: whether the org requires DPoP.
    - ``watch``: called about 20 times a second with the story so far.
    """
    story = Story(tuple(CLIENTS), seconds, LIFETIME, CALLERS, dpop)

    def record_answer(request: ReceivedRequest, status: int) -> None:
        if request.path.endswith("/v1/token"):
            story.answers.append(Answer(story.now(), status))

    key = PrivateKey.generate("ES256")
    okta = FakeOkta(token_lifetime=LIFETIME, dpop="required" if dpop else "optional", on_answer=record_answer)
    with without_log(), _without_proxy(), okta:
        okta.next(on="/api/v1/*", times=1_000_000, delay=API_DELAY)
        registered = okta.add_app(key, scopes=["okta.users.read"])
        plot = _Plot(story, okta)
        app = ServiceApp(
            okta.url,
            client_id=registered.client_id,
            key=key,
            scopes=["okta.users.read"],
            max_wait=TIMEOUT,
            on_event=plot.on_event,
        )
        callers = Callers(story)
        try:
            callers.start(app, f"{okta.url}/api/v1/users")
            while story.now() < seconds or (plot.unfinished and story.now() < seconds + OVERTIME):
                plot.revoke_when_due()
                watch(story)
                time.sleep(0.05)
                if story.now() > seconds + 0.1:
                    story.seconds = story.now()  # on a slow machine, the picture covers the whole run
        finally:
            callers.stop()
        story.minted = okta.tokens_minted
    return story


class _Plot:
    """The faults: a 503 or a 429 at each renewal, in turn, and one token revoked in the middle."""

    def __init__(self, story: Story, okta: FakeOkta) -> None:
        self._story = story
        self._okta = okta
        self._faults = cycle([503, 429])
        self._revoke_at: float | None = story.seconds / 2

    def on_event(self, event: Event) -> None:
        """Records the service app's own events, and prepares the next fault."""
        now = self._story.now()
        if isinstance(event, TokenRejected):
            self._story.rejections.append(Rejection(now, event.renewing))
        if isinstance(event, TokenObtained):
            self._story.obtained.append(
                Obtained(now - event.elapsed, now, event.token_type, event.expires_in, event.background)
            )
            if self._revoke_at is None or now + LIFETIME / 2 < self._revoke_at:
                # For a concurrency limit, Okta gives no time to wait, so the renewal succeeds while the token is still valid.
                self._okta.next(next(self._faults), concurrency=True)

    @property
    def unfinished(self) -> bool:
        """Whether an event that belongs to a run of this length has not happened yet."""
        story = self._story
        if story.seconds < FULL_LENGTH:
            return not story.rejections
        statuses = [answer.status for answer in story.answers]
        return not story.rejections or not {503, 429, 200} <= set(statuses) or statuses[-1] != 200

    def revoke_when_due(self) -> None:
        """Revokes the token in use in the first half of its lifetime, when no renewal runs."""
        now, tokens = self._story.now(), self._okta.tokens()
        if self._revoke_at is None or now < self._revoke_at:
            return
        if not tokens or len(tokens) != len(self._story.obtained):  # a new token is on its way
            return
        if now - self._story.obtained[-1].at < LIFETIME / 2:
            self._revoke_at = None
            self._okta.revoke(tokens[-1].value)
            self._story.revocations.append(Revocation(self._story.now(), len(tokens)))


@contextmanager
def _without_proxy() -> Iterator[None]:
    """Bypasses a proxy that the environment names, because the server is in this process."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    os.environ.update(dict.fromkeys(before, "127.0.0.1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
