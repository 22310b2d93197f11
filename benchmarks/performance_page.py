"""Writes docs/performance.md and its plots from the results of the scripts, and its figures into the other pages."""

from __future__ import annotations

import math
import os
import platform
import re
import runpy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peers import FLOOR, OURS, PEERS
from stampede import DELAY, SECONDS

DOCS = Path(__file__).parent.parent / "docs"
CORES = os.cpu_count() or 1
THREADS, TASKS = "stampede_threads.py requests", "stampede_tasks.py httpx_async"
MEASURED_WITH = ("requests", "httpx", "httpx2", "aiohttp", "joserfc", "cryptography", "redis")

PAGE = """# Performance

This page shows what okta-m2m costs, compared with other libraries. `benchmarks/run.py` generates it from its measurements: do not
edit it by hand.

{pictures}

## Figures

Measured with {python} on {system}, {cores} cores: {versions}.

All libraries take turns, each in as many samples as the others; of callers at once, in as many as begin in {seconds:.0f} seconds.
A figure is the median; in brackets are the values that a tenth of the samples is below and above. "x" is the ratio to the floor,
which is the cost of the same work without an auth library:

- **First call of a program**: each round trip takes 30 ms. The floor is the same call by hand, with the same HTTP library and an
  assertion made with cryptography, on one connection for the token request and the call. Wall time from the loaded key on, so no
  import is in it. *Lent*: the auth object was given the session or client, and sends the token request on its connection.
  Otherwise the token request has a connection of its own, which takes two round trips more.
- **Start to first answer**: the same programs, CPU time from the interpreter's start to the answer, imports and key included.
- **A whole call with a bound token**: the floor is the same call over a local socket with two constant headers and the signature
  that each proof needs, made with the same key. Each call is to the next of 1,000 URLs. CPU time of the caller's process.
- **Many callers at once**: the time that as many callers, started and released in the same way, need to set a constant header, or
  the token endpoint's delay ({delay} ms) if that is longer. Wall time. A stall is the longest time in which the event loop ran
  nothing else. httpx-auth and google-auth block the loop during the token request: they need not wake a task, but nothing
  else runs.
- **Renewals**: the same loop with a constant header. Wall time, in the auth object only. Tokens of two seconds show what a
  renewal costs callers; tokens of an hour are renewed once an hour, so hardly any call meets a renewal.
- **Memory**: a dict of constant headers, with an auth object for each. It holds the token of 908 characters once, so the figure
  is what an app takes beyond its token. Growth of a process's resident memory, with apps that have the default settings and
  have fetched their token.
- **A call that finds a fresh token** (a *hit*): a constant header, set by an auth object of the same HTTP library. CPU time, the
  minimum of many rounds.

{table}

## The compared libraries

{peers}

## How cost grows, and what limits it

{growth}

## Measure it yourself

```sh
python3 -m venv .bench && .bench/bin/pip install -e '.[all]' -r benchmarks/requirements.txt
.bench/bin/python benchmarks/run.py --quick
```

You can also run one script to measure only its rows, for example `.bench/bin/python benchmarks/hits.py requests --quick`.

`python benchmarks/instructions.py` counts the instructions of a hit under callgrind and compares them with the baseline of
the same Python and architecture in `benchmarks/baselines/`.
"""


OURS_COLOR, OTHERS_COLOR = "#2f81f7", "#8b949e"
LEADER = {"arrowstyle": "-", "color": OTHERS_COLOR, "alpha": 0.5, "linewidth": 0.8, "shrinkB": 5}
# Replaced in the file by the color of text, which follows the reader's light or dark.
TEXT = "#010203"
STYLE = """<style>
   svg { color: #1f2328; background: #ffffff }
   @media (prefers-color-scheme: dark) { svg { color: #e6edf3; background: #131416 } }
  </style>"""


def with_unit(value: float, unit: str) -> str:
    """A round value as a reader would write it: ``0.2 µs``, ``50 ms``, ``2 s``."""
    if unit == "ms" and value >= 1000:
        value, unit = value / 1000, "s"
    return f"{value:,g} {unit}".rstrip()


def round_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten from ``low`` to ``high``; the powers alone where that would be many."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    factors = (1, 2, 5) if high / low < 150 else (1,)
    return [factor * power for power in powers for factor in factors if low <= factor * power <= high]


def apart(positions: list[float], gap: float) -> list[float]:
    """The same positions, in ascending order, moved up where two are closer than ``gap``."""
    moved: list[float] = []
    for position in positions:
        moved.append(max(position, moved[-1] + gap) if moved else position)
    return moved


def draw_plots(found: dict[str, Any]) -> list[tuple[str, str]]:
    """One SVG for each way to grow: (file, title). Ours has one color in all of them, and each line has its name at its end."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "okta-m2m", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 13}
    )
    from matplotlib import pyplot

    folder = DOCS / "performance"
    folder.mkdir(exist_ok=True)
    drawn: list[tuple[str, str]] = []

    def draw(file: str, title: str, across: str, up: str, unit: str, curves: dict[str, dict[str, float]]) -> None:
        figure, axes = pyplot.subplots(figsize=(5.2, 4.4))
        points = {name: sorted((int(size), value) for size, value in curve.items()) for name, curve in curves.items()}
        for name, line in points.items():
            ours = name == OURS.name
            axes.plot(
                *zip(*line, strict=True),
                marker="o",
                markersize=5 if ours else 3,
                color=OURS_COLOR if ours else OTHERS_COLOR,
                linestyle=":" if name == FLOOR.name else "-",
                linewidth=2.8 if ours else 1.3,
                zorder=3 if ours else 2,
            )
        sizes = sorted({size for line in points.values() for size, _ in line})
        values = [value for line in points.values() for _, value in line]
        low, high = min(values) / 1.25, max(values) * 1.25
        axes.set(xscale="log", yscale="log", xlim=(sizes[0] / 1.2, sizes[-1] * 1.2), ylim=(low, high))
        axes.set_xlabel(across, color=TEXT)
        axes.set_title(f"{title}\n", loc="left", color=TEXT, fontsize=15, fontweight="bold")
        axes.text(0, 1.02, up, transform=axes.transAxes, color=TEXT)
        ticks = round_ticks(low, high)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], color=TEXT)
        axes.set_yticks(ticks, [with_unit(tick, unit) for tick in ticks], color=TEXT)
        axes.minorticks_off()
        axes.tick_params(color=OTHERS_COLOR, length=0)
        axes.grid(visible=True, axis="y", color=OTHERS_COLOR, alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(OTHERS_COLOR)
        # Each name is in the margin, at the height of its line's end; names that would overlap move up. A thin line leads
        # to the end of a line that is shorter than the others.
        ends = sorted((math.log(line[-1][1] / low) / math.log(high / low), name) for name, line in points.items())
        for height, (_, name) in zip(apart([end for end, _ in ends], 0.07), ends, strict=True):
            ours = name == OURS.name
            words = "no auth at all" if name == FLOOR.name else name
            color, weight = (OURS_COLOR, "bold") if ours else (TEXT, "normal")
            end = points[name][-1]
            axes.annotate(
                words,
                end,
                (1.015, height),
                textcoords="axes fraction",
                va="center",
                color=color,
                fontweight=weight,
                arrowprops=LEADER if end[0] < sizes[-1] else None,
            )
        figure.savefig(folder / file, metadata={"Date": None}, bbox_inches="tight", transparent=True)
        pyplot.close(figure)
        text = (folder / file).read_text("utf-8").replace(TEXT, "currentColor")
        text = re.sub(r"(<svg [^>]*>)", rf"\1\n  {STYLE}", text, count=1)
        (folder / file).write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", "utf-8")
        drawn.append((f"performance/{file}", title))

    if entries := found.get("identities.py requests"):
        curves = {name: entry["us"] for name, entry in entries.items()}
        up = "CPU time of one call, with a fresh token"
        draw("identities.svg", "Cost of adding the header", "service apps in the process", up, "µs", curves)
    for kind, script in (("threads", THREADS), ("tasks", TASKS)):
        if entries := found.get(script):
            curves = {
                name: {size: entry["s"] * 1e3 for size, entry in sizes.items()}
                for name, sizes in entries.items()
                if sizes
            }
            title = f"Many {kind} start at once, no token yet"
            draw(f"{kind}.svg", title, kind, "time until the last one has its token", "ms", curves)
    # A quick run has one size, of which there is no line to draw.
    if (entries := found.get("fleet.py")) and len(entries.get("cold", ())) > 1:
        curves = {OURS.name: {size: entry["slowest_ms"] for size, entry in entries["cold"].items()}}
        title = "Many processes start at once and share a token"
        draw("processes.svg", title, "processes", "time until the last one has its token", "ms", curves)
    return drawn


def describe_growth(found: dict[str, Any]) -> list[str]:
    """What grows first, in words, from the numbers."""
    lines = []
    for stack in ("requests", "httpx", "aiohttp"):
        if entries := found.get(f"identities.py {stack}"):
            ours = entries[OURS.name]
            lines.append(
                f"Apps with {stack}: a hit takes {ours['us']['1']:.2f} µs with one app and {ours['us']['1000']:.2f} µs "
                f"with 1,000. Each app takes {ours['bytes']:,.0f} bytes, {ours['over']['median']:,.0f} of them beyond a dict of "
                "constant headers."
            )
    for script, kind, most, limit in (
        (THREADS, "threads", "1000", "interpreter lock"),
        (TASKS, "tasks", "10000", "event loop"),
    ):
        if (entries := found.get(script)) and most in entries[OURS.name]:
            ours, floor = entries[OURS.name][most], entries[FLOOR.name][most]
            lines.append(
                f"{kind.capitalize()}: {int(most):,} make {ours['requests']} token request. The last has its token after "
                f"{ours['s'] * 1e3:,.0f} ms; the floor is {max(DELAY, floor['s']) * 1e3:,.0f} ms. The limit is the {limit}: "
                f"{ours['cpu'] * 1e6 / int(most):.0f} µs of CPU time each."
            )
    # A quick run has one size, of which there is no line to draw.
    if (entries := found.get("fleet.py")) and len(entries.get("cold", ())) > 1:
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
        seconds=SECONDS,
        table=table,
        peers="\n".join(f"- {peer.name}: {peer.client_auth}{'; ' + peer.note if peer.note else ''}." for peer in PEERS),
        growth="\n".join(f"- {line}" for line in describe_growth(found)),
        pictures="\n\n".join(f"![{title}]({file})" for file, title in draw_plots(found)),
    )
    (DOCS / "performance.md").write_text(page, encoding="utf-8")
    runpy.run_path(str(DOCS / "write_figures.py"), run_name="__main__")
