"""The rows of the picture, each a line of cells over the same columns of time.

Invariant: a row shows only what happened before ``now``, and is exactly as wide as the chart.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from rich.text import Text

from ..terminal import Glyphs
from .story import Story

__all__ = ["TOKEN_STYLES", "Chart"]

TOKEN_STYLES: Final = ("cyan", "blue")  # for alternate tokens
SAME_CAUSE: Final = 0.5  # seconds between two 401s that are shown as one group


class Chart:
    """Columns of time, from the start to the planned end; lists are copied, because other threads append to them.

    - ``columns``: the number of columns.
    - ``now``: seconds since the start; anything that ends later is cut off there.
    - ``lanes``: rows over which tokens are distributed, so that the lifetimes of two tokens do not overlap in one row.
    """

    def __init__(self, story: Story, glyphs: Glyphs, columns: int, now: float, *, lanes: int) -> None:
        self._story = story
        self._glyphs = glyphs
        self._columns = columns
        self._now = now
        self._lanes = lanes
        self._per_column = story.seconds / columns
        self._calls = {client: self._count_calls(client) for client in story.clients}
        self._most_calls = max((max(counts.values(), default=0) for counts in self._calls.values()), default=0)

    def axis(self) -> Text:
        """The axis, in seconds."""
        step = next((step for step in (1, 2, 5, 10, 20) if step / self._per_column >= 6), 30)
        row = _Row(self._columns)
        for second in range(0, int(self._story.seconds) + 1, step):
            column = round(second / self._per_column)
            row.write(column, f"{second} s" if second == 0 else str(second), "dim")
        return row.text()

    def calls(self, client: str) -> Text:
        """The number of a client's calls that got a response, and marks for those that failed."""
        glyphs, row = self._glyphs, _Row(self._columns)
        for column, count in self._calls[client].items():
            level = max(1, round(len(glyphs.levels) * count / self._most_calls)) - 1
            row.put(column, glyphs.levels[level], "green")
        for call in self._story.failures:
            if call.client == client:
                row.put(self._column(call.ended), glyphs.bad, "bold red")
        return row.text()

    def rejections(self) -> Text:
        """The number of calls that got a 401; those with the same cause are counted together."""
        row = _Row(self._columns)
        groups: list[list[float]] = []
        for at in sorted(rejection.at for rejection in list(self._story.rejections)):
            if groups and at - groups[-1][-1] < SAME_CAUSE:
                groups[-1].append(at)
            else:
                groups.append([at])
        for group in groups:
            row.write(self._column(group[0]), f"401 x{len(group)}", "yellow")
        return row.text()

    def tokens(self, lane: int) -> Text:
        """The lifetimes of every ``lanes``-th token: a solid part while in use, then the unused rest."""
        glyphs, story, row = self._glyphs, self._story, _Row(self._columns)
        obtained = list(story.obtained)
        revoked = {revocation.token: revocation.at for revocation in list(story.revocations)}
        for index in range(lane, len(obtained), self._lanes):
            token, number = obtained[index], index + 1
            life_ends = token.at + token.lifetime
            ends = min(revoked.get(number, life_ends), self._now)
            # In use until the next token is obtained.
            use_ends = min(ends, obtained[number].at if number < len(obtained) else ends)
            style = TOKEN_STYLES[index % 2]
            first, last = self._column(token.at), self._column(ends)
            for column in range(first, last + 1):
                in_use = column <= self._column(use_ends)
                row.put(column, glyphs.used if in_use else glyphs.spare, style if in_use else f"dim {style}")
            if number in revoked:
                row.put(last, glyphs.gone, "bold red")
                row.write(last + 2, "revoked", "red")
        return row.text()

    def answers(self) -> Text:
        """The token endpoint's responses: a mark for a token, otherwise the status."""
        glyphs, row = self._glyphs, _Row(self._columns)
        errors = [answer for answer in list(self._story.answers) if answer.status != 200]
        for index, token in enumerate(list(self._story.obtained)):
            row.put(self._column(token.at), glyphs.mark, f"bold {TOKEN_STYLES[index % 2]}")
        for answer in errors:
            text = str(answer.status)
            row.write(self._column(answer.at) - len(text) + 1, text, "yellow", backwards=True)
        return row.text()

    def _column(self, at: float) -> int:
        return min(self._columns - 1, max(0, int(at / self._per_column)))

    def _count_calls(self, client: str) -> Counter[int]:
        """A client's calls by the column in which they ended. Calls that ended after the planned end are omitted."""
        story = self._story
        return Counter(
            self._column(call.ended)
            for call in list(story.calls)
            if call.client == client and call.ended <= story.seconds
        )


class _Row:
    """A line of cells."""

    def __init__(self, columns: int) -> None:
        self._cells = [(" ", "")] * columns

    def put(self, column: int, char: str, style: str) -> None:
        self._cells[column] = (char, style)

    def write(self, column: int, text: str, style: str, *, backwards: bool = False) -> None:
        """Writes the whole text if there is room for it: at the column, or up to 3 columns later (or earlier)."""
        steps = range(0, -4, -1) if backwards else range(4)
        places = [column + step for step in steps] if column >= 0 else range(8)
        for place in places:
            cells = self._cells[max(0, place - 1) : place + len(text)]
            if place >= 0 and place + len(text) <= len(self._cells) and all(char == " " for char, _ in cells):
                for offset, char in enumerate(text):
                    self.put(place + offset, char, style)
                return

    def text(self) -> Text:
        text = Text()
        for char, style in self._cells:
            text.append(char, style)
        return text
