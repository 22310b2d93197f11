"""The picture of a demonstration: the lifetimes of its tokens, the token endpoint's responses, and every client's calls;
and the events in words.

Invariant: the picture shows only what is in the story. No row is wider than the terminal, whatever its width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

from rich.console import Console, Group
from rich.text import Text

from ..terminal import Glyphs, glyphs_for, hanging
from .story import CALLERS, CLIENTS, LIFETIME, Story, Token

LABEL: Final = 15  # columns for a row's name
NARROWEST: Final = 24  # columns of time; with fewer, the figures at the right are omitted
SHOWN_FAILURES: Final = 12
TOKEN_STYLES: Final = ("cyan", "blue")  # for alternate tokens
FIGURES: Final = {"calls": "calls", "failed": "failures", "mean ms": "mean_ms"}  # heading -> name in the totals
CLOSING: Final = (
    "Each client was given OktaAuth(app) and nothing else. Everything ran on this machine, against a stand-in for Okta."
)


def draw(story: Story, console: Console) -> Group:
    """The timeline up to now."""
    glyphs, width = glyphs_for(console), console.width
    figures = {**FIGURES, "bound": "bound_calls"} if story.dpop else FIGURES
    columns = width - LABEL - 1 - sum(len(heading) + 2 for heading in figures)
    if columns < NARROWEST:
        columns, figures = width - LABEL - 1, {}
    chart = _Chart(story, glyphs, columns)
    title = ["okta-m2m demo", *(["DPoP"] if story.dpop else []), f"{len(CLIENTS)} clients", "one service app"]
    rows = [
        *hanging(Text(), f" {glyphs.dot} ".join([*title, f"tokens valid for {LIFETIME:g} s"]), width, "bold"),
        Text(),
        _row("", chart.axis()).append("".join(f"  {heading}" for heading in figures), "dim"),
    ]
    for client in CLIENTS:
        row, totals = _row(client, chart.calls(client)), story.totals(client)
        is_good = {"failed": not totals["failures"], "bound": totals["bound_calls"] == totals["calls"]}
        for heading, name in figures.items():
            style = "" if heading not in is_good else "green" if is_good[heading] else "bold red"
            row.append(f"  {totals[name]:>{len(heading)},}", style)
        rows.append(row)
    tokens = list(story.tokens)
    rows += [_row("API", chart.rejections()), Text()]
    for token, successor in zip_longest(tokens, tokens[1:]):
        rows.append(_row(f"token {token.number}", chart.lifetime(token, successor)))
    rows += [Text()] * (4 - len(tokens))  # so that the rows below rarely move while the story is played
    rows += [_row("token endpoint", chart.answers()), Text(), *_legend(glyphs)]
    for row in rows:
        row.rstrip()
    return Group(*rows)


def summarize(story: Story, width: int) -> Group:
    """The events, in words, and the totals."""
    lines = [Text()]
    for at, what in _narrate(story):
        lines += hanging(Text(f"{at:5.2f} s  ", "dim"), what, width)
    for call in story.failures[:SHOWN_FAILURES]:
        lead, what = f"{call.ended:5.2f} s  ", f"failed: {call.client}: {call.failure}"
        lines += hanging(Text(lead, "dim"), what, width, "bold red")
    lines.append(Text())
    for number, what in _totals(story):
        style = "" if what != "failures" else "bold red" if number else "bold green"
        lines += hanging(Text(f"{number:7,}  ", style or "bold"), what, width, style)
    return Group(*lines, Text(), *hanging(Text(), CLOSING, width, "dim"))


# ── the timeline ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Chart:
    """Rows over the same ``columns`` of time, from the start to the planned end. Other threads add to the story meanwhile."""

    def __init__(self, story: Story, glyphs: Glyphs, columns: int) -> None:
        self._story = story
        self._glyphs = glyphs
        self._columns = columns
        self._calls = Counter((call.client, self._column(call.ended)) for call in list(story.calls))

    def _column(self, at: float) -> int:
        return min(self._columns - 1, int(at / self._story.seconds * self._columns))

    def axis(self) -> Text:
        row, seconds = Text(" " * self._columns), self._story.seconds
        step = next((step for step in (1, 2, 5, 10, 20) if self._columns * step / seconds >= 6), 30)
        for second in range(0, max(1, round(seconds)), step):  # none at the right edge, beside the figures
            _write(row, self._column(second), str(second) if second else "0 s", "dim")
        return row

    def calls(self, client: str) -> Text:
        """The number of a client's calls that ended, and marks for those that failed."""
        levels, most = self._glyphs.levels, max(self._calls.values(), default=1)
        heights = [len(levels) * self._calls[client, column] / most for column in range(self._columns)]
        row = Text("".join(f" {levels}"[math.ceil(height)] for height in heights), "green")
        for call in self._story.failures:
            if call.client == client:
                _overwrite(row, self._column(call.ended), self._glyphs.bad, "bold red")
        return row

    def rejections(self) -> Text:
        """The number of calls that got a 401."""
        row, rejections = Text(" " * self._columns), list(self._story.rejections)
        if rejections:
            _write(row, self._column(rejections[0][0]), f"401 x{len(rejections)}", "yellow")
        return row

    def lifetime(self, token: Token, successor: Token | None) -> Text:
        """A token's lifetime: a solid part while it is in use, then the unused rest."""
        row, glyphs, style = Text(" " * self._columns), self._glyphs, _style(token)
        ends = min(self._story.now(), token.revoked_at or token.obtained_at + LIFETIME)
        use_ends = min(ends, successor.obtained_at) if successor else ends
        first, used, last = map(self._column, (token.obtained_at, use_ends, ends))
        _overwrite(row, first, glyphs.used * (used - first + 1), style)
        _overwrite(row, used + 1, glyphs.spare * (last - used), f"dim {style}")
        if token.revoked_at:
            _overwrite(row, last, glyphs.gone, "bold red")
            _write(row, last + 2, "revoked", "red")
        return row

    def answers(self) -> Text:
        """The token endpoint's responses: a mark for a token, otherwise the status."""
        row = Text(" " * self._columns)
        for token in list(self._story.tokens):
            _overwrite(row, self._column(token.obtained_at), self._glyphs.mark, f"bold {_style(token)}")
        for at, status in list(self._story.answers):
            if status != 200:
                _write(row, max(0, self._column(at) - 3), str(status), "yellow")
        return row


def _style(token: Token) -> str:
    return TOKEN_STYLES[(token.number - 1) % 2]


def _overwrite(row: Text, column: int, text: str, style: str) -> None:
    row.plain = row.plain[:column] + text + row.plain[column + len(text) :]
    row.stylize(style, column, column + len(text))


def _write(row: Text, column: int, text: str, style: str) -> None:
    """Writes the whole text if there is room for it: at the column, or up to 3 columns later."""
    for place in range(column, min(column + 4, len(row) - len(text) + 1)):
        if row.plain[max(0, place - 1) : place + len(text)].isspace():
            _overwrite(row, place, text, style)
            break


def _row(label: str, chart: Text) -> Text:
    return Text(f"{label:<{LABEL}}").append_text(chart)


def _legend(glyphs: Glyphs) -> Iterator[Text]:
    calls, style = (glyphs.levels[len(glyphs.levels) // 2], "green"), TOKEN_STYLES[0]
    mark, used, spare = (glyphs.mark, f"bold {style}"), (glyphs.used, style), (glyphs.spare, f"dim {style}")
    yield Text.assemble(calls, (" calls answered   ", "dim"), used, (" token in use", "dim"))
    yield Text.assemble(mark, (" token obtained   ", "dim"), spare, (" replaced, no longer needed", "dim"))


# ── in words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _narrate(story: Story) -> Iterator[tuple[float, str]]:
    """A few sentences for each token, in the order in which the tokens were obtained, each with its time in seconds."""
    for before, token in zip([None, *story.tokens], story.tokens, strict=False):
        errors = token.token_endpoint_troubles
        despite = f", although the token endpoint returned {' and '.join(map(str, errors))} first" if errors else ""
        if errors == [400] and token.token_type == "DPoP":
            despite = ", after a 400 that asked for a DPoP nonce"
        if before is None:
            one_request = f"{CALLERS} callers start at once, and one token request serves all of them"
            yield token.asked_for_at, f"{one_request}: token 1 ({token.token_type}){despite}."
        elif before.revoked_at and not token.in_background:
            again = sum(sent_again for _, sent_again in story.rejections)
            yield (
                before.revoked_at,
                (
                    f"Token {before.number} is revoked at Okta. One renewal served all callers{despite}: token {token.number}. "
                    f"Calls that got a 401: {len(story.rejections)}. Sent again: {again}."
                ),
            )
        else:
            spent = (token.asked_for_at - before.asked_for_at) / LIFETIME
            how = "in the background" if token.in_background else "while callers waited"
            yield (
                token.asked_for_at,
                (
                    f"At {100 * spent:.0f} % of its lifetime, token {before.number} is renewed {how}{despite}: "
                    f"token {token.number}. {'No call waited. ' if token.in_background else ''}The slowest call during that "
                    f"time took {1000 * story.slowest(token.asked_for_at, token.obtained_at):.0f} ms."
                ),
            )


def _totals(story: Story) -> Iterator[tuple[int, str]]:
    """Numbers, each with its unit."""
    totals = story.document()
    answers, ahead = totals["token_endpoint_answers"], totals["renewals_in_background"]
    errors = ", ".join(f"{count} returned {status}" for status, count in answers.items() if status != "200")
    yield totals["calls"], f"calls by {CALLERS} callers in {len(CLIENTS)} clients"
    yield totals["failures"], "failures"
    yield totals["tokens_minted"], f"tokens minted, in {sum(answers.values())} token requests ({errors or 'no error'})"
    yield totals["renewals"], f"renewals, {ahead} in the background while the old token still worked"
    yield totals["healed_401s"], "sent again with a new token after a 401"
    if story.dpop:
        yield totals["bound_calls"], "calls bound by DPoP, each with its own proof"
