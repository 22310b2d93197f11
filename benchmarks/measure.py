"""How time is measured: interleaved, as CPU time of this process.

Invariant: all entries of a row are measured in the same process and in turns. Each round has another order, so that other
load on the machine affects all of them alike. Of a hit the least counts, because noise only adds; of all else the median.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from statistics import median, quantiles
from typing import Any

QUICK = "--quick" in sys.argv
ARGUMENTS = [argument for argument in sys.argv[1:] if not argument.startswith("--")]

Call = Callable[[Any], Any]
"""What is timed: a function or a coroutine function of one argument."""

loop = asyncio.new_event_loop()
"""Where coroutine functions are timed and whatever they need is prepared."""


async def _await_calls(call: Call, arguments: Iterable[Any]) -> None:
    for argument in arguments:
        await call(argument)


def run_calls(call: Call, arguments: Iterable[Any]) -> float:
    """Calls ``call`` with each argument; returns the CPU seconds that took."""
    began = time.process_time()
    if inspect.iscoroutinefunction(call):
        loop.run_until_complete(_await_calls(call, arguments))
    else:
        for argument in arguments:
            call(argument)
    return time.process_time() - began


def interleave(entries: Mapping[str, tuple[Call, Any]], *, calls: int, rounds: int) -> dict[str, float]:
    """The least of the rounds, for each entry: microseconds of CPU time for each call."""
    least = dict.fromkeys(entries, float("inf"))
    for call, argument in entries.values():
        run_calls(call, repeat(argument, min(calls, 1000)))  # CPython 3.11+ has specialised the code by then
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            gc.collect()  # some peers leave so much garbage that the machine would run out of memory
            for name, (call, argument) in random.sample(list(entries.items()), len(entries)):
                run_calls(call, [argument])  # the entry before has filled the processor's caches with its own data
                least[name] = min(least[name], run_calls(call, repeat(argument, calls)) / calls)
    finally:
        gc.enable()
    return {name: seconds * 1e6 for name, seconds in least.items()}


def spread(values: list[float]) -> dict[str, float]:
    """The median, and what a tenth of the values is below and above."""
    tenths = quantiles(values if len(values) > 1 else values * 2, n=10, method="inclusive")
    return {"median": median(values), "low": tenths[0], "high": tenths[-1]}


def report(result: Any) -> None:
    """Prints a script's result for its caller: one line of JSON, the last of the output."""
    print(json.dumps(result), flush=True)


def run_python(*arguments: object, seconds: float, stdin: str = "") -> Any:
    """Runs Python with these arguments in a process of its own; returns what it reported. It keeps the bytecode of what it
    imports, as a program does that is started again.

    Raises ``subprocess.TimeoutExpired`` after ``seconds``, and ``subprocess.CalledProcessError`` if it fails.
    """
    done = subprocess.run(
        [sys.executable, *map(str, arguments), *(["--quick"] if QUICK else [])],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def explain_failure(what: str, error: subprocess.SubprocessError) -> None:
    """Prints why a process failed, with the end of its output, to standard error."""
    print(f"{what}: {str(getattr(error, 'stderr', None) or error)[-300:]}", file=sys.stderr)
