"""The picture of a demonstration: the lives of its tokens, what the token endpoint said, and every client's calls.

Invariant: it shows what the story holds and adds nothing; no line is wider than the terminal, whatever its width.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from .story import Obtained, Revocation, Story
from .terminal import Glyphs

__all__ = ["drawing", "summary"]

LABEL: Final = 15  # columns for a row's name
WIDEST: Final = 100  # columns of time: more is not more legible
NARROWEST: Final = 24  # columns of time; with fewer, the figures at the right make room
LANES: Final = 6  # rows for tokens; of these lives, only two overlap
STEPS: Final = 12  # entries of what happened
HERD: Final = 0.5  # seconds between two 401s that are put down to one cause
LEAD: Final = 7  # columns for a time or a number before what it says

_FIGURES: Final = (("calls", 7), ("failed", 8), ("mean ms", 9))
_BOUND: Final = ("bound", 7)
_TOKENS: Final = ("cyan", "blue")


def drawing(story: Story, glyphs: Glyphs, width: int, until: float | None = None) -> RenderableType:
    """The timeline, up to ``until`` while it is still being played."""
    now = story.seconds if until is None else min(until, story.seconds)
    figures = [*_FIGURES, *([_BOUND] if story.dpop else [])]
    columns = width - LABEL - 1 - sum(size for _, size in figures)
    if columns < NARROWEST:
        columns, figures = width - LABEL - 1, []
    chart = _Chart(story, glyphs, max(8, min(columns, WIDEST)), now)
    names = [name for name, _ in figures]
    rows: list[Text] = [
        _title(story, glyphs, width),
        Text(),
        _row("", chart.axis(), [(name, "dim") for name in names], figures),
    ]
    for client in story.clients:
        totals = story.of(client)
        cells = {
            "calls": (f"{totals.calls:,}", ""),
            "failed": (f"{totals.failures:,}", "bold red" if totals.failures else "green"),
            "mean ms": (f"{1000 * totals.mean:.1f}", ""),
            "bound": (f"{totals.bound:,}", "green" if totals.bound == totals.calls else "bold red"),
        }
        rows.append(_row(client, chart.calls(client), [cells[name] for name in names], figures))
    rows.append(_row("API", chart.rejections(), [], []))
    rows.append(Text())
    tokens = len(story.obtained)
    for lane in range(min(LANES, max(4, tokens))):
        label = f"token {lane + 1}" if lane < tokens <= LANES else "tokens" if lane == 0 and tokens else ""
        rows.append(_row(label, chart.tokens(lane), [], []))
    rows.append(_row("token endpoint", chart.answers(), [], []))
    rows.append(Text())
    rows += _legend(glyphs, width)
    return Group(*(_unwrapped(row) for row in rows))


def summary(story: Story, glyphs: Glyphs, width: int) -> RenderableType:
    """What happened, in words, and the totals."""
    lines = [Text()]
    steps = _steps(story)
    for at, what in steps[:STEPS]:
        lines += _hanging(f"{at:.2f} s", what, width)
    if len(steps) > STEPS:
        lines += _hanging("", f"and {len(steps) - STEPS} more like these", width)
    for call in story.failures[:STEPS]:
        lines += _hanging(f"{call.ended:.2f} s", f"failed: {call.client}: {call.failure}", width, "bold red")
    lines.append(Text())

    failed, obtained = len(story.failures), len(story.answers)
    totals = [
        (len(story.calls), f"calls by {story.callers} callers in {len(story.clients)} clients", ""),
        (failed, "failures", "bold red" if failed else "bold green"),
        (story.minted, f"tokens minted, in {obtained} token requests{_refused(story)}", ""),
        (story.renewals, f"renewals, {story.renewals_ahead} in the background while the old token served", ""),
        (story.healed, "401s healed: the call was sent once more, with a new token", ""),
    ]
    if story.dpop:
        every = "all of them" if story.bound == len(story.calls) else f"not all {len(story.calls):,}"
        by_client = ", ".join(f"{client} {story.of(client).bound:,}" for client in story.clients)
        totals.append((story.bound, f"calls bound by DPoP, each with its own proof: {every} ({by_client})", ""))
    for number, what, style in totals:
        lines += _hanging(f"{number:,}", what, width, style, lead_style=style or "bold")
    lines.append(Text())
    closing = (
        "Each client was given OktaAuth(app) and nothing else. It all ran on this machine, against a stand-in for Okta."
    )
    lines += [Text(line, "dim") for line in textwrap.wrap(closing, width)]
    return Group(*lines)


def _hanging(lead: str, what: str, width: int, style: str = "", *, lead_style: str = "dim") -> list[Text]:
    """Wrapped beside its lead. Not a table of rich's: those end every line with spaces."""
    lines = []
    for text in textwrap.wrap(what, max(8, width - LEAD - 2)) or [""]:
        lines.append(Text(f"{lead:>{LEAD}}  ", lead_style).append(text, style or "not bold not dim"))
        lead = ""
    return lines


def _refused(story: Story) -> str:
    counts = Counter(answer.status for answer in story.answers if answer.status != 200)
    said = ", ".join(f"{count} answered {status}" for status, count in sorted(counts.items()))
    return f" ({said})" if said else ""


def _title(story: Story, glyphs: Glyphs, width: int) -> Text:
    title = "okta-m2m demo"
    parts = [f"{len(story.clients)} clients", "one service app", f"tokens that live {story.lifetime:g} s"]
    for part in [*(["DPoP"] if story.dpop else []), *parts]:
        longer = f"{title} {glyphs.dot} {part}"
        title = longer if len(longer) <= width else title
    return Text(title, "bold")


def _legend(glyphs: Glyphs, width: int) -> list[Text]:
    lines = [Text()]
    for glyph, style, meaning in (
        (glyphs.levels[len(glyphs.levels) // 2], "green", "calls answered"),
        (glyphs.used, _TOKENS[0], "token in use"),
        (glyphs.spare, f"dim {_TOKENS[0]}", "replaced, no longer needed"),
        (glyphs.mark, f"bold {_TOKENS[0]}", "token obtained"),
    ):
        if lines[-1] and len(lines[-1]) + len(meaning) + 2 > width:
            lines.append(Text())
        lines[-1].append(glyph, style).append(f" {meaning}   ", "dim")
    return lines


def _row(label: str, chart: Text, cells: list[tuple[str, str]], figures: list[tuple[str, int]]) -> Text:
    row = Text(f"{label[: LABEL - 1]:<{LABEL}}")
    row.append_text(chart)
    for (text, style), (_, size) in zip(cells, figures, strict=False):
        row.append(f"{text:>{size}}", style)
    return row


def _unwrapped(row: Text) -> Text:
    row.rstrip()
    row.no_wrap, row.overflow = True, "crop"
    return row


class _Chart:
    """Columns of time, from the start to the plan's end."""

    def __init__(self, story: Story, glyphs: Glyphs, columns: int, now: float) -> None:
        self._story = story
        self._glyphs = glyphs
        self._columns = columns
        self._now = now
        self._per_column = story.seconds / columns
        self._columns_of = {client: self._counts(client) for client in story.clients}
        self._loudest = max((max(counts.values(), default=0) for counts in self._columns_of.values()), default=0)

    def _column(self, at: float) -> int:
        return min(self._columns - 1, max(0, int(at / self._per_column)))

    def _counts(self, client: str) -> Counter[int]:
        """A client's calls by the column in which they ended; those that ended after the plan's end are left out."""
        story = self._story
        return Counter(
            self._column(call.ended)
            for call in list(story.calls)
            if call.client == client and call.ended <= story.seconds
        )

    def axis(self) -> Text:
        step = next((step for step in (1, 2, 5, 10, 20) if step / self._per_column >= 6), 30)
        row = _Row(self._columns)
        for second in range(0, int(self._story.seconds) + 1, step):
            column = round(second / self._per_column)
            row.write(column, f"{second} s" if second == 0 else str(second), "dim")
        return row.text()

    def calls(self, client: str) -> Text:
        glyphs, row = self._glyphs, _Row(self._columns)
        for column, count in self._columns_of[client].items():
            level = max(1, round(len(glyphs.levels) * count / self._loudest)) - 1
            row.put(column, glyphs.levels[level], "green")
        for call in self._story.failures:
            if call.client == client:
                row.put(self._column(call.ended), glyphs.bad, "bold red")
        return row.text()

    def rejections(self) -> Text:
        row = _Row(self._columns)
        herds: list[list[float]] = []
        for at in sorted(rejection.at for rejection in list(self._story.rejections)):
            if herds and at - herds[-1][-1] < HERD:
                herds[-1].append(at)
            else:
                herds.append([at])
        for herd in herds:
            row.write(self._column(herd[0]), f"401 x{len(herd)}", "yellow")
        return row.text()

    def tokens(self, lane: int) -> Text:
        glyphs, story, row = self._glyphs, self._story, _Row(self._columns)
        obtained = list(story.obtained)
        revoked = {revocation.token: revocation.at for revocation in list(story.revocations)}
        for index in range(lane, len(obtained), LANES):
            token, number = obtained[index], index + 1
            life_ends = token.at + token.lifetime
            ends = min(revoked.get(number, life_ends), self._now)
            # In use until the next one is there; what is left of its life after that is not needed.
            left = min(ends, obtained[number].at if number < len(obtained) else ends)
            style = _TOKENS[index % 2]
            first, last = self._column(token.at), self._column(ends)
            for column in range(first, last + 1):
                in_use = column <= self._column(left)
                row.put(column, glyphs.used if in_use else glyphs.spare, style if in_use else f"dim {style}")
            if number in revoked:
                row.put(last, glyphs.gone, "bold red")
                row.write(last + 2, "revoked", "red")
        return row.text()

    def answers(self) -> Text:
        glyphs, row = self._glyphs, _Row(self._columns)
        troubles = [answer for answer in list(self._story.answers) if answer.status != 200]
        for index, token in enumerate(list(self._story.obtained)):
            row.put(self._column(token.at), glyphs.mark, f"bold {_TOKENS[index % 2]}")
        for answer in troubles:
            text = str(answer.status)
            row.write(self._column(answer.at) - len(text) + 1, text, "yellow", backwards=True)
        return row.text()


class _Row:
    """A line of cells."""

    def __init__(self, columns: int) -> None:
        self._cells = [(" ", "")] * columns

    def put(self, column: int, char: str, style: str) -> None:
        if 0 <= column < len(self._cells):
            self._cells[column] = (char, style)

    def write(self, column: int, text: str, style: str, *, backwards: bool = False) -> None:
        """Writes where there is room for it whole: there, or a little before (``backwards``) or behind."""
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


def _steps(story: Story) -> list[tuple[float, str]]:
    steps: list[tuple[float, str]] = []
    before: Obtained | None = None
    for number, token in enumerate(story.obtained, 1):
        revocation = next((one for one in story.revocations if one.token == number - 1), None)
        if before is None:
            steps.append((token.began, _first(story, token)))
        elif revocation is not None and not token.background:
            steps.append((revocation.at, _revoked(story, revocation, token)))
        else:
            steps.append((token.began, _renewed(story, number, before, token)))
        before = token
    return steps


def _answered_first(story: Story, token: Obtained) -> str:
    troubles = story.troubles(token)
    if not troubles:
        return ""
    if troubles == [400] and token.token_type == "DPoP":
        return ", after a 400 that asked for a DPoP nonce"
    return f", although the token endpoint answered {' and '.join(map(str, troubles))} first"


def _first(story: Story, token: Obtained) -> str:
    return (
        f"{story.callers} callers come at once, and one of them fetches for all: "
        f"token 1 ({token.token_type}){_answered_first(story, token)}."
    )


def _renewed(story: Story, number: int, before: Obtained, token: Obtained) -> str:
    spent = round(100 * (token.began - before.began) / before.lifetime)
    slowest = f"the slowest call meanwhile took {1000 * story.slowest(token.began, token.at):.0f} ms"
    if token.background:
        how, waited = "renewed in the background", f"Nobody waited: {slowest}"
    else:
        how, waited = "renewed while callers waited", slowest.capitalize()
    return f"Token {number - 1} is {spent} % spent: {how}{_answered_first(story, token)}. That is token {number}. {waited}."


def _revoked(story: Story, revocation: Revocation, token: Obtained) -> str:
    hit = [one for one in story.rejections if revocation.at <= one.at]
    healed = sum(one.healed for one in hit)
    return (
        f"Token {revocation.token} is revoked at Okta. {_calls(len(hit))} got a 401, and one renewal served all of them"
        f"{_answered_first(story, token)}: token {revocation.token + 1}. {_calls(healed)} sent once more."
    )


def _calls(count: int) -> str:
    return f"{count} call" if count == 1 else f"{count} calls"
