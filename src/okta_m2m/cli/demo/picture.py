"""The picture of a demonstration: the lifetimes of its tokens, the token endpoint's responses, and every client's calls.

Invariant: the picture shows only what is in the story. No line is wider than the terminal, whatever its width.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from ..terminal import Glyphs
from .chart import TOKEN_STYLES, Chart
from .narration import narrate
from .story import Story

__all__ = ["draw", "summarize"]

LABEL: Final = 15  # columns for a row's name
WIDEST: Final = 100  # columns of time; more would not be easier to read
NARROWEST: Final = 24  # columns of time; with fewer, the figures at the right are omitted
LANES: Final = 6  # rows for tokens
STEPS: Final = 12  # entries in the list of events
LEAD: Final = 7  # columns for a time or a number before its text

_FIGURES: Final = (("calls", 7), ("failed", 8), ("mean ms", 9))
_BOUND: Final = ("bound", 7)
_CLOSING: Final = (
    "Each client was given OktaAuth(app) and nothing else. Everything ran on this machine, against a stand-in for Okta."
)


def draw(story: Story, glyphs: Glyphs, width: int, until: float | None = None) -> RenderableType:
    """The timeline; up to ``until`` (seconds) while the story is still being played."""
    now = story.seconds if until is None else min(until, story.seconds)
    figures = [*_FIGURES, *([_BOUND] if story.dpop else [])]
    columns = width - LABEL - 1 - sum(size for _, size in figures)
    if columns < NARROWEST:
        columns, figures = width - LABEL - 1, []
    chart = Chart(story, glyphs, max(8, min(columns, WIDEST)), now, lanes=LANES)
    rows = [
        _title(story, glyphs, width),
        Text(),
        _row("", chart.axis(), [(name, "dim") for name, _ in figures], figures),
    ]
    for client in story.clients:
        cells = _cells(story, client)
        rows.append(_row(client, chart.calls(client), [cells[name] for name, _ in figures], figures))
    rows += [_row("API", chart.rejections()), Text()]
    tokens = len(story.obtained)
    for lane in range(min(LANES, max(4, tokens))):
        label = f"token {lane + 1}" if lane < tokens <= LANES else "tokens" if lane == 0 and tokens else ""
        rows.append(_row(label, chart.tokens(lane)))
    rows += [_row("token endpoint", chart.answers()), Text(), *_legend(glyphs, width)]
    return Group(*(_unwrapped(row) for row in rows))


def summarize(story: Story, glyphs: Glyphs, width: int) -> RenderableType:
    """The events, in words, and the totals."""
    lines = [Text()]
    steps = narrate(story)
    for at, what in steps[:STEPS]:
        lines += _hanging(f"{at:.2f} s", what, width)
    if len(steps) > STEPS:
        lines += _hanging("", f"and {len(steps) - STEPS} more like these", width)
    for call in story.failures[:STEPS]:
        lines += _hanging(f"{call.ended:.2f} s", f"failed: {call.client}: {call.failure}", width, "bold red")
    lines.append(Text())
    for number, what, style in _totals(story):
        lines += _hanging(f"{number:,}", what, width, style, lead_style=style or "bold")
    lines.append(Text())
    lines += [Text(line, "dim") for line in textwrap.wrap(_CLOSING, width)]
    return Group(*lines)


def _cells(story: Story, client: str) -> dict[str, tuple[str, str]]:
    """The figures of a client, each with its style."""
    totals = story.totals(client)
    return {
        "calls": (f"{totals.calls:,}", ""),
        "failed": (f"{totals.failures:,}", "bold red" if totals.failures else "green"),
        "mean ms": (f"{1000 * totals.mean:.1f}", ""),
        "bound": (f"{totals.bound:,}", "green" if totals.bound == totals.calls else "bold red"),
    }


def _totals(story: Story) -> list[tuple[int, str, str]]:
    """Numbers, each with its unit and its style."""
    failed, requests = len(story.failures), len(story.answers)
    totals = [
        (len(story.calls), f"calls by {story.callers} callers in {len(story.clients)} clients", ""),
        (failed, "failures", "bold red" if failed else "bold green"),
        (story.minted, f"tokens minted, in {requests} token requests{_error_answers(story)}", ""),
        (story.renewals, f"renewals, {story.renewals_ahead} in the background while the old token still worked", ""),
        (story.healed, f"{'call' if story.healed == 1 else 'calls'} sent again with a new token after a 401", ""),
    ]
    if story.dpop:
        share = "all of them" if story.bound == len(story.calls) else f"of {len(story.calls):,}"
        by_client = ", ".join(f"{client} {story.totals(client).bound:,}" for client in story.clients)
        totals.append((story.bound, f"calls bound by DPoP, each with its own proof: {share} ({by_client})", ""))
    return totals


def _error_answers(story: Story) -> str:
    counts = Counter(answer.status for answer in story.answers if answer.status != 200)
    listed = ", ".join(f"{count} returned {status}" for status, count in sorted(counts.items()))
    return f" ({listed})" if listed else ""


def _hanging(lead: str, what: str, width: int, style: str = "", *, lead_style: str = "dim") -> list[Text]:
    """Text wrapped beside its lead. Not a rich table: that ends every line with spaces."""
    lines = []
    for text in textwrap.wrap(what, max(8, width - LEAD - 2)) or [""]:
        lines.append(Text().append(f"{lead:>{LEAD}}  ", lead_style).append(text, style))
        lead = ""
    return lines


def _title(story: Story, glyphs: Glyphs, width: int) -> Text:
    title = "okta-m2m demo"
    parts = [f"{len(story.clients)} clients", "one service app", f"tokens valid for {story.lifetime:g} s"]
    for part in [*(["DPoP"] if story.dpop else []), *parts]:
        longer = f"{title} {glyphs.dot} {part}"
        title = longer if len(longer) <= width else title
    return Text(title, "bold")


def _legend(glyphs: Glyphs, width: int) -> list[Text]:
    lines = [Text()]
    for glyph, style, meaning in (
        (glyphs.levels[len(glyphs.levels) // 2], "green", "calls answered"),
        (glyphs.used, TOKEN_STYLES[0], "token in use"),
        (glyphs.spare, f"dim {TOKEN_STYLES[0]}", "replaced, no longer needed"),
        (glyphs.mark, f"bold {TOKEN_STYLES[0]}", "token obtained"),
    ):
        if lines[-1] and len(lines[-1]) + len(meaning) + 2 > width:
            lines.append(Text())
        lines[-1].append(glyph, style).append(f" {meaning}   ", "dim")
    return lines


def _row(
    label: str, chart: Text, cells: list[tuple[str, str]] | None = None, figures: list[tuple[str, int]] | None = None
) -> Text:
    row = Text(f"{label[: LABEL - 1]:<{LABEL}}")
    row.append_text(chart)
    for (text, style), (_, size) in zip(cells or [], figures or [], strict=True):
        row.append(f"{text:>{size}}", style)
    return row


def _unwrapped(row: Text) -> Text:
    row.rstrip()
    row.no_wrap, row.overflow = True, "crop"
    return row
