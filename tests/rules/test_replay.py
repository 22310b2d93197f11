"""What :func:`okta_m2m.testing.replay` does with a script that is too long or too short, and that it knows each effect."""

from __future__ import annotations

import pytest

from bench import Bench
from okta_m2m.effects import Attempt, Discard, Peek, Send, Sign, Sleep, Snapshot, Spawn, StartSend, Wait

pytestmark = pytest.mark.usefixtures("everything_is_reported")


def test_a_script_that_is_too_long_is_an_error() -> None:
    bench = Bench()
    with pytest.raises(LookupError, match="left over"):
        bench.obtain(bench.token(), bench.token())


def test_a_script_that_is_too_short_says_where_it_ended_and_closes_the_flow() -> None:
    bench = Bench()
    replayed = bench.obtain()
    assert not replayed.finished
    assert isinstance(replayed.effects[-1], Send)
    with pytest.raises(LookupError, match="Send"):
        replayed.result()
    bench.obtain(bench.token()).result()  # the flight has landed


def test_replay_handles_every_effect() -> None:
    """A new effect needs a thought in ``replay``."""
    import okta_m2m.effects as effects

    known = {Attempt, Discard, Peek, Send, Sign, Sleep, Snapshot, Spawn, StartSend, Wait}
    stores = {effects.Load, effects.Save, effects.Claim, effects.Release}  # scripted like Send
    found = {
        one
        for one in vars(effects).values()
        if isinstance(one, type)
        and issubclass(one, effects.Effect)
        and one not in (effects.Effect, effects.StoreEffect)
    }
    assert found == known | stores
