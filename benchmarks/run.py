"""Runs every row and says what was reached.

    python benchmarks/run.py --quick     under ten minutes; prints the table
    python benchmarks/run.py             prints it too, and writes docs/performance.md with its plots

Exit 1 if a row misses what it must reach. Each row has a script, which runs in a process of its own, no longer than its
bound.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peers import PEERS

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
QUICK = "--quick" in sys.argv
OURS, FLOOR = "okta-m2m", "floor"

BOUNDS = {  # seconds: quick, whole
    "hit_requests": (60, 200),
    "hit_httpx": (60, 200),
    "hit_aiohttp": (60, 200),
    "assertions": (60, 200),
    "proofs": (30, 60),
    "identities": (180, 600),
    "imports": (90, 200),
    "renewal": (150, 400),
    "stampede_threads": (300, 1200),  # of which the slowest peers take most: a minute each
    "stampede_tasks": (120, 900),
    "fleet": (150, 600),
}
OTHERWISE = {peer.name: peer.client_auth for peer in PEERS if peer.client_auth not in ("private_key_jwt", "-")}
"""Who can't do private_key_jwt at Okta, and what it is measured with instead; the table marks them."""
MEASURED = ("requests", "httpx", "aiohttp", "joserfc", "cryptography", "redis", "matplotlib")


@dataclass(frozen=True)
class Row:
    """A line of the table; ``reached`` is None where nothing was measured."""

    what: str
    floor: str
    peers: str
    ours: str
    must: str
    reached: bool | None


def times(value: float) -> str:
    return f"{value:.2f}x" if value < 10 else f"{value:,.0f}x"


def best(entries: dict[str, Any], show: Callable[[Any], str], rank: Callable[[Any], float]) -> str:
    """The peers, the best first."""
    peers = {name: entry for name, entry in entries.items() if name not in (FLOOR, OURS, "raw sign")}
    ranked = sorted(peers.items(), key=lambda item: rank(item[1]))
    return ", ".join(f"{name}{'†' if name in OTHERWISE else ''} {show(entry)}" for name, entry in ranked) or "-"


def hits(found: dict[str, Any]) -> Iterable[Row]:
    for stack, of in found.items():
        must = {"requests": 2.0, "httpx": 1.0, "httpx_async": 1.0, "aiohttp": 1.5}[stack]
        yield Row(
            f"hit, {stack.replace('_', ' ')}",
            f"{of[FLOOR]['us']:.2f} µs",
            best(of, lambda entry: times(entry["x"]), lambda entry: entry["x"]),
            times(of[OURS]["x"]),
            f"≤ {must:.1f}x",
            of[OURS]["x"] <= must,
        )


def assertions(found: dict[str, Any]) -> Iterable[Row]:
    for alg in ("RS256", "ES256"):
        of = found[alg]
        yield Row(
            f"assertion {alg}, over the raw signature",
            f"{of['raw sign']['us']:.0f} µs",
            best(of, lambda entry: f"+{entry['over']:,.1f} µs", lambda entry: entry["over"]),
            f"+{of[OURS]['over']:.1f} µs",
            "≤ +5 µs",
            of[OURS]["over"] <= 5,
        )


def proofs(found: dict[str, Any]) -> Iterable[Row]:
    x = found[OURS]["x"]
    yield Row("DPoP proof ES256", f"{found['raw sign']['us']:.0f} µs", "-", times(x), "≤ 2.0x", x <= 2)


def stampede(kind: str, musts: dict[str, tuple[float, float]], found: dict[str, Any]) -> Iterable[Row]:
    for count, (must, stall) in musts.items():
        of = {name: by[count] for name, by in found.items() if count in by}
        floor, ours = of[FLOOR], of[OURS]
        x, stalled = ours["s"] / floor["s"], ours.get("stall", 0) / floor.get("stall", 1)
        loop = f", stall {times(stalled)}" if stall < math.inf else ""
        yield Row(
            f"cold stampede, {int(count):,} {kind}",
            f"{floor['s'] * 1e3:.0f} ms",
            best(
                of,
                lambda entry, floor=floor: (  # type: ignore[misc]
                    (f"{entry['requests']} requests, " if "requests" in entry else "more than ")
                    + times(entry["s"] / floor["s"])
                ),
                lambda entry: entry["s"],
            ),
            f"{ours['requests']} request, {times(x)}{loop}",
            f"1 request, ≤ {must}x" + (f", stall ≤ {stall}x" if stall < math.inf else ""),
            ours["requests"] == 1 and x <= must and stalled <= stall and not ours["failed"],
        )


def renewal(found: dict[str, Any]) -> Iterable[Row]:
    floor, ours = found[FLOOR], found[OURS]
    added = ours["p99_ms"] - floor["p99_ms"]
    asked = ours["requests"] / ours["ideal"]
    yield Row(
        "renewal under load, p99 added",
        f"{floor['p99_ms']:.3f} ms",
        best(
            found,
            lambda entry: f"{entry['p99_ms'] - floor['p99_ms']:.1f} ms (longest {entry['max_ms']:.0f} ms)",
            lambda entry: entry["p99_ms"],
        ),
        f"{added:.3f} ms (longest {ours['max_ms']:.1f} ms), {ours['expired']} expired, {times(asked)} the ideal requests",
        "≤ 0.5 ms, none expired, ≤ 1.4x the ideal requests",
        added <= 0.5 and not ours["expired"] and asked <= 1.4,
    )


def identities(found: dict[str, Any]) -> Iterable[Row]:
    worst = {name: max(entry["x"].values()) for name, entry in found.items()}
    floor = found[FLOOR]
    slower = floor["us"]["100000"] / floor["us"]["1"]
    yield Row(
        "1 to 100,000 identities, a hit at every size, and bytes each",
        f"{floor['bytes']:,.0f} bytes each, {times(slower)} slower at 100,000",
        best(
            found,
            lambda entry: f"{times(max(entry['x'].values()))}, {entry['over']:+,.0f} bytes",
            lambda entry: max(entry["x"].values()),
        ),
        f"{times(worst[OURS])}, {found[OURS]['over']:+,.0f} bytes",
        "≤ 2x, ≤ +1,024 bytes",
        worst[OURS] <= 2 and found[OURS]["over"] <= 1024,
    )


def imports(found: dict[str, Any]) -> Iterable[Row]:
    for library in ("requests", "httpx", "aiohttp"):
        ours = found[f"{OURS}, {library}"]
        peers = {name.split(",")[0]: entry for name, entry in found.items() if name.endswith(f", {library}")}
        yield Row(
            f"import beside {library}",
            "-",
            best(peers, lambda entry: f"{entry['ms']:,.0f} ms", lambda entry: entry["ms"]),
            f"{ours['ms']:.1f} ms, {ours['MiB']:.1f} MiB",
            "≤ 5 ms, ≤ 2 MiB",
            ours["ms"] <= 5 and ours["MiB"] <= 2,
        )


def fleet(found: dict[str, Any]) -> Iterable[Row]:
    if "skipped" in found:
        yield Row("fleet of 64 processes on one Redis", "-", "none shares", found["skipped"], "1 request", None)
        return
    cold, warm = found["cold"]["64"], found["warm"]
    yield Row(
        "fleet of 64 processes on one Redis, cold",
        "1 request",
        "none shares",
        f"{cold['requests']} request",
        "1 request",
        cold["requests"] == 1,
    )
    yield Row(
        "warm start of a process, over a plain GET",
        f"{warm['get_ms']:.1f} ms",
        "none shares",
        f"+{warm['over_ms']:.1f} ms",
        "≤ +3 ms",
        warm["over_ms"] <= 3 and not warm["requests"],
    )


ROWS: dict[str, Callable[[dict[str, Any]], Iterable[Row]]] = {
    "hit_requests": hits,
    "hit_httpx": hits,
    "hit_aiohttp": hits,
    "assertions": assertions,
    "proofs": proofs,
    "stampede_threads": partial(stampede, "threads", {"1000": (1.1, math.inf)}),
    "stampede_tasks": partial(stampede, "tasks", {"1000": (1.2, 1.5), "10000": (1.6, 1.5)}),
    "renewal": renewal,
    "identities": identities,
    "imports": imports,
    "fleet": fleet,
}


def measured(script: str) -> dict[str, Any] | None:
    began = time.perf_counter()
    print(f"{script} ...", file=sys.stderr, end=" ", flush=True)
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / f"{script}.py"), *(["--quick"] if QUICK else [])],
            stdout=subprocess.PIPE,
            text=True,
            timeout=BOUNDS[script][not QUICK],
            check=True,
        )
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError, ValueError, IndexError) as error:
        print(f"{type(error).__name__}", file=sys.stderr, end=" ")
        return None
    finally:
        print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)


def table(rows: list[Row]) -> str:
    words = {True: "yes", False: "**missed**", None: "not measured"}
    lines = ["| what | floor | peers | okta-m2m | must reach | reached |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row.what} | {row.floor} | {row.peers} | {row.ours} | {row.must} | {words[row.reached]} |" for row in rows
    ]
    instead = ", ".join(f"{name} ({client_auth})" for name, client_auth in OTHERWISE.items())
    return "\n".join([*lines, "", f"† can't do private_key_jwt at Okta, and is measured with what it can: {instead}."])


# ── docs/performance.md ──────────────────────────────────────────────────────────────────────────────────────────────


def plots(found: dict[str, Any]) -> list[tuple[str, str]]:
    """One SVG for each way in which things grow: (file, what it shows)."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "okta-m2m"  # the same numbers give the same file
    from matplotlib import pyplot

    folder = DOCS / "performance"
    folder.mkdir(exist_ok=True)
    drawn: list[tuple[str, str]] = []

    def draw(file: str, title: str, across: str, up: str, curves: dict[str, dict[str, float]]) -> None:
        figure, axes = pyplot.subplots(figsize=(7, 4))
        for name, curve in curves.items():
            points = sorted((int(size), value) for size, value in curve.items())
            axes.plot(*zip(*points, strict=True), marker="o", label=name, linewidth=2.5 if name == OURS else 1)
        axes.set(xscale="log", yscale="log", xlabel=across, ylabel=up, title=title)
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend()
        figure.savefig(folder / file, metadata={"Date": None}, bbox_inches="tight")
        pyplot.close(figure)
        drawn.append((f"performance/{file}", title))

    if of := found.get("identities"):
        draw(
            "identities.svg",
            "A hit, by identities in the process",
            "identities",
            "µs",
            {n: e["us"] for n, e in of.items()},
        )
    for kind in ("threads", "tasks"):
        if of := found.get(f"stampede_{kind}"):
            curves = {n: {s: e["s"] * 1e3 for s, e in by.items()} for n, by in of.items() if by}
            draw(f"{kind}.svg", f"A cold stampede, by {kind}", kind, "ms until the last has its token", curves)
    if (of := found.get("fleet")) and "cold" in of:
        draw(
            "processes.svg",
            "A fleet's cold start on one Redis, by processes",
            "processes",
            "ms until the slowest has its token",
            {OURS: {size: entry["slowest_ms"] for size, entry in of["cold"].items()}},
        )
    return drawn


def versions() -> str:
    names = [*MEASURED, "httpx2", *(peer.name for peer in PEERS if peer.name not in MEASURED)]
    known = []
    for name in names:
        try:
            known.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(known)


def bends(found: dict[str, Any]) -> list[str]:
    """What grows first, in words, from the numbers."""
    said = []
    if of := found.get("identities"):
        sizes = of[OURS]["us"]
        said.append(
            f"Identities: a hit takes {sizes['1']:.2f} µs with one and {sizes['100000']:.2f} µs with 100,000; memory grows by "
            f"{of[OURS]['bytes']:,.0f} bytes each, {of[OURS]['over']:,.0f} of them beyond a dict of constant headers."
        )
    for kind, most in (("threads", "1000"), ("tasks", "10000")):
        if (of := found.get(f"stampede_{kind}")) and most in of[OURS]:
            ours, floor = of[OURS][most], of[FLOOR][most]
            what = "interpreter lock" if kind == "threads" else "event loop"
            said.append(
                f"{kind.capitalize()}: {int(most):,} make {ours['requests']} token request; the last has its token after "
                f"{ours['s'] * 1e3:,.0f} ms, and after {floor['s'] * 1e3:,.0f} ms if all only wait. What bends is the "
                f"{what}: {ours['cpu'] * 1e6 / int(most):.0f} µs of CPU each."
            )
    if (of := found.get("fleet")) and "cold" in of:
        cold = of["cold"][max(of["cold"], key=int)]
        said.append(
            f"Processes: {max(of['cold'], key=int)} make {cold['requests']} token request; the slowest has its token after "
            f"{cold['slowest_ms']:,.0f} ms, most of it the start of so many interpreters on {_cores()} cores."
        )
    return said


def _cores() -> int:
    import os

    return os.cpu_count() or 1


def write(rows: list[Row], found: dict[str, Any]) -> None:
    missed = [row.what for row in rows if row.reached is not True]
    notes = "\n".join(f"- {peer.name}: {peer.client_auth}{'; ' + peer.note if peer.note else ''}." for peer in PEERS)
    pictures = "\n\n".join(f"![{title}]({file})" for file, title in plots(found))
    DOCS.joinpath("performance.md").write_text(
        f"""# Performance

Written by `benchmarks/run.py` from what it measured; do not edit.

Measured with {platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()},
{_cores()} cores: {versions()}.

"x" is the ratio to the floor of the same stack: what a constant header costs there, or the raw signature, or callers that
only wait while one of them asks (among threads after a raw signature). Times are CPU time, the least of many interleaved
rounds, of the assertions the lower quartile; those of the stampede, the renewal and the fleet are wall time.

{table(rows)}

{"Missed: " + "; ".join(missed) + "." if missed else "Everything is reached."}

## Who is compared

{notes}

## How cost grows, and what bends first

{chr(10).join("- " + line for line in bends(found))}

{pictures}

## Measure it yourself

```sh
python3 -m venv .bench && .bench/bin/pip install -e '.[all]' -r benchmarks/requirements.txt
.bench/bin/python benchmarks/run.py --quick
```

`python benchmarks/instructions.py` counts the instructions of a hit under callgrind, and compares them with the baseline of
the same Python and architecture in `benchmarks/baselines/`.
""",
        encoding="utf-8",
    )


def main() -> int:
    found: dict[str, Any] = {}
    rows: list[Row] = []
    for script, row in ROWS.items():
        result = measured(script)
        if result is None:
            rows.append(Row(script, "-", "-", "-", "-", None))
            continue
        found[script] = result
        try:
            rows += row(result)
        except KeyError as error:
            rows.append(Row(f"{script}, without {error}", "-", "-", "-", "-", None))
    print(table(rows))
    if not QUICK:
        write(rows, found)
    missed = [row.what for row in rows if row.reached is not True]
    print(f"\nmissed: {'; '.join(missed)}" if missed else "\nall reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
