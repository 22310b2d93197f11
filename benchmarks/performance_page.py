"""Writes docs/performance.md and its plots from the results of the scripts."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peers import FLOOR, OURS, PEERS
from stampede import DELAY

DOCS = Path(__file__).parent.parent / "docs"
CORES = os.cpu_count() or 1
MEASURED_WITH = ("requests", "httpx", "httpx2", "aiohttp", "joserfc", "cryptography", "redis")

PAGE = """# Performance

Written by `benchmarks/run.py` from what it measured; do not edit.

Measured with {python} on {system}, {cores} cores: {versions}.

"x" is the ratio to the floor, which is what the same work costs without an auth library:

- **A call**: a constant header, set by an auth object of the same HTTP library. With DPoP, two constant headers and one raw
  signature. CPU time; the least of many interleaved rounds.
- **Many callers at once**: the token endpoint's delay ({delay} ms), plus the time in which as many callers, started and
  released in the same way, set a constant header. Wall time. A stall is the longest time in which the event loop ran nothing
  else.
- **Renewals**: the same loop with a constant header. Wall time, in the auth object alone.
- **Memory**: a dict of constant headers, with an auth object for each. Growth of the process's resident memory, for apps
  that have fetched their token.
- **Imports**: milliseconds of CPU time beyond the HTTP library, which is imported before. "With a loaded key" does not count
  the import of cryptography and joserfc, nor the parsing of the key. The start of a program counts everything; its floor is
  cryptography, imported and parsing the same key.

{table}

## Who is compared

{peers}

## How cost grows, and what limits it

{growth}

{pictures}

## Measure it yourself

```sh
python3 -m venv .bench && .bench/bin/pip install -e '.[all]' -r benchmarks/requirements.txt
.bench/bin/python benchmarks/run.py --quick
```

Each script measures its rows alone, for example `.bench/bin/python benchmarks/hits.py requests --quick`.

`python benchmarks/instructions.py` counts the instructions of a hit under callgrind and compares them with the baseline of
the same Python and architecture in `benchmarks/baselines/`.
"""


def draw_plots(found: dict[str, Any]) -> list[tuple[str, str]]:
    """One SVG for each way to grow: (file, title)."""
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
            axes.plot(*zip(*points, strict=True), marker="o", label=name, linewidth=2.5 if name == OURS.name else 1)
        axes.set(xscale="log", yscale="log", xlabel=across, ylabel=up, title=title)
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend()
        figure.savefig(folder / file, metadata={"Date": None}, bbox_inches="tight")
        pyplot.close(figure)
        drawn.append((f"performance/{file}", title))

    if entries := found.get("identities.py requests"):
        curves = {name: entry["us"] for name, entry in entries.items()}
        draw("identities.svg", "A hit, by apps in the process", "apps", "µs", curves)
    for kind in ("threads", "tasks"):
        if entries := found.get(f"stampede_{kind}.py"):
            curves = {
                name: {size: entry["s"] * 1e3 for size, entry in sizes.items()}
                for name, sizes in entries.items()
                if sizes
            }
            draw(f"{kind}.svg", f"No token yet, by {kind}", kind, "ms until the last has its token", curves)
    if (entries := found.get("fleet.py")) and "cold" in entries:
        curves = {OURS.name: {size: entry["slowest_ms"] for size, entry in entries["cold"].items()}}
        up = "ms until the slowest has its token"
        draw("processes.svg", "No token yet and one Redis, by processes", "processes", up, curves)
    return drawn


def describe_growth(found: dict[str, Any]) -> list[str]:
    """What grows first, in words, from the numbers."""
    lines = []
    for stack in ("requests", "httpx", "aiohttp"):
        if entries := found.get(f"identities.py {stack}"):
            ours = entries[OURS.name]
            lines.append(
                f"Apps with {stack}: a hit takes {ours['us']['1']:.2f} µs with one app and {ours['us']['100000']:.2f} µs "
                f"with 100,000. Each app takes {ours['bytes']:,.0f} bytes, {ours['over']:,.0f} of them beyond a dict of "
                "constant headers."
            )
    for kind, most, limit in (("threads", "1000", "interpreter lock"), ("tasks", "10000", "event loop")):
        if (entries := found.get(f"stampede_{kind}.py")) and most in entries[OURS.name]:
            ours, floor = entries[OURS.name][most], entries[FLOOR.name][most]
            lines.append(
                f"{kind.capitalize()}: {int(most):,} make {ours['requests']} token request. The last has its token after "
                f"{ours['s'] * 1e3:,.0f} ms; the floor is {floor['s'] * 1e3:,.0f} ms. The limit is the {limit}: "
                f"{ours['cpu'] * 1e6 / int(most):.0f} µs of CPU time each."
            )
    if (entries := found.get("fleet.py")) and "cold" in entries:
        most = max(entries["cold"], key=int)
        cold = entries["cold"][most]
        lines.append(
            f"Processes: {most} make {cold['requests']} token request. The slowest has its token after "
            f"{cold['slowest_ms']:,.0f} ms, most of which is the start of so many interpreters on {CORES} cores."
        )
    return lines


def list_versions() -> str:
    known = []
    for name in dict.fromkeys([*MEASURED_WITH, *(peer.name for peer in PEERS)]):
        try:
            known.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(known)


def write_page(table: str, found: dict[str, Any]) -> None:
    page = PAGE.format(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.machine()}",
        cores=CORES,
        versions=list_versions(),
        delay=round(DELAY * 1e3),
        table=table,
        peers="\n".join(f"- {peer.name}: {peer.client_auth}{'; ' + peer.note if peer.note else ''}." for peer in PEERS),
        growth="\n".join(f"- {line}" for line in describe_growth(found)),
        pictures="\n\n".join(f"![{title}]({file})" for file, title in draw_plots(found)),
    )
    (DOCS / "performance.md").write_text(page, encoding="utf-8")
