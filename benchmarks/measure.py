"""How a time is taken: interleaved, in CPU time of this process, and the least of many rounds.

Invariant: all entries of a row are measured in the same process and in turns, each round in another order, so that what
else the machine does meets them all alike. The least is taken because noise only ever adds. Where a difference is wanted
that is a small part of what is measured, it is that of the lower quartiles: the least is one round's luck, which is as
large as such a difference.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

QUICK = "--quick" in sys.argv


loop = asyncio.new_event_loop()
"""Where coroutine functions are measured, and have been made ready."""


async def _awaited(call: Callable[[], Any], turns: range) -> None:
    for _ in turns:
        await call()


def _called(call: Callable[[], object], turns: range) -> None:
    for _ in turns:
        call()


def run(call: Callable[[], object], times: int) -> None:
    if inspect.iscoroutinefunction(call):
        loop.run_until_complete(_awaited(call, range(times)))
    else:
        _called(call, range(times))


def interleaved(
    entries: Mapping[str, Callable[[], object]], *, calls: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """Microseconds of CPU per call of each entry: (least, lower quartile) of the rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    for call in entries.values():
        run(call, min(calls, 1000))  # what CPython 3.11+ specialises, it has specialised by then
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            gc.collect()  # what the round before has left: some leave more than a machine has
            for name, call in random.sample(list(entries.items()), len(entries)):
                run(call, 1)  # fills the caches, which the one before has filled with its own
                began = time.process_time()
                run(call, calls)
                seconds[name].append((time.process_time() - began) / calls)
    finally:
        gc.enable()
    return {name: (min(taken) * 1e6, statistics.quantiles(taken)[0] * 1e6) for name, taken in seconds.items()}


def report(result: Any) -> None:
    """Hands a script's result to whoever called it: one line of JSON, the last of its output."""
    print(json.dumps(result), flush=True)
