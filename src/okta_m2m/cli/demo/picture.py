"""The picture of a demonstration: the lifetimes of its tokens, the token endpoint's responses, and every client's calls;
and the events in words.

Invariant: the picture shows only what is in the story. No row is wider than the terminal, whatever its width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from typing import Final, TypeAlias

from rich.console import Console, Group
from rich.text import Text

from ..terminal import Glyphs, glyphs_for, hanging
from .story import CALLERS, CLIENTS, LIFETIME, Story

LABEL: Final = 15  # columns for a row's name
SHOWN_FAILURES: Final = 12
CLOSING: Final = (
    "Each client was given OktaAuth(app) and nothing else. Everything ran on this machine, against a stand-in for Okta."
)

Mark: TypeAlias = tuple[int, str, str]  # the column from which a text is written, the text, and its style


def draw(story: Story, console: Console) -> Group:
    """The timeline up to now."""
    glyphs, width = glyphs_for(console), console.width
    title = ["okta-m2m demo", *(["DPoP"] if story.dpop else []), f"{len(CLIENTS)} clients", "one service app"]
    legend = f"{glyphs.levels[4]} calls   {glyphs.mark} token obtained   {glyphs.used} in use   {glyphs.spare} replaced"
    return Group(
        *hanging(Text(), f" {glyphs.skipped} ".join([*title, f"tokens valid for {LIFETIME:g} s"]), width, "bold"),
        Text(),
        *_rows(story, glyphs, width - LABEL - 1),
        Text(),
        *hanging(Text(), legend, width, "dim"),
    )


def summarize(story: Story, width: int) -> Group:
    """The events, in words, and the totals."""
    lines = [Text()]
    for at, what in _narrate(story):
        lines += hanging(Text(f"{at:5.2f} s  ", "dim"), what, width)
    for call in story.failures[:SHOWN_FAILURES]:
        what = f"failed: {call.client}: {call.failure}"
        lines += hanging(Text(f"{call.ended:5.2f} s  ", "dim"), what, width, "bold red")
    lines.append(Text())
    for number, what in _totals(story):
        style = "" if what != "failures" else "bold red" if number else "bold green"
        lines += hanging(Text(f"{number:7,}  ", style or "bold"), what, width, style)
    return Group(*lines, Text(), *hanging(Text(), CLOSING, width, "dim"))


def _rows(story: Story, glyphs: Glyphs, columns: int) -> Iterator[Text]:
    """Rows over the same columns of time, from the start to the planned end. Other threads add to the story meanwhile."""

    def column(at: float) -> int:
        return min(columns - 1, int(at / story.seconds * columns))

    step = next((step for step in (1, 2, 5, 10, 20) if columns * step / story.seconds >= 6), 30)
    seconds = range(0, max(1, round(story.seconds)), step)
    yield _row("", columns, [(column(second), str(second) if second else "0 s", "dim") for second in seconds])

    ended = Counter((call.client, column(call.ended)) for call in list(story.calls))
    levels, most = glyphs.levels, max(ended.values(), default=1)
    for client in CLIENTS:
        failed = {column(call.ended) for call in story.failures if call.client == client}
        heights = (math.ceil(len(levels) * ended[client, at] / most) for at in range(columns))
        bars = [glyphs.fail if at in failed else f" {levels}"[height] for at, height in enumerate(heights)]
        row = Text(f"{client:<{LABEL}}").append("".join(bars), "green")
        row.highlight_words([glyphs.fail], "bold red")
        row.rstrip()
        yield row
    rejections = list(story.rejections)
    yield _row("API", columns, [(column(at), f"401 x{len(rejections)}", "yellow") for at, _ in rejections[:1]])

    yield Text()
    tokens = list(story.tokens)
    for token, successor in zip_longest(tokens, tokens[1:]):
        # Solid while it is in use, then the unused rest of its lifetime.
        ends = min(story.now(), token.revoked_at or token.obtained_at + LIFETIME)
        use_ends = min(ends, successor.obtained_at) if successor else ends
        first, used, last = map(column, (token.obtained_at, use_ends, ends))
        marks = [
            (first, glyphs.used * (used - first + 1), "cyan"),
            (used + 1, glyphs.spare * (last - used), "dim cyan"),
        ]
        if token.revoked_at:
            marks += [(last + 1, glyphs.fail, "bold red"), (last + 3, "revoked", "red")]
        yield _row(f"token {token.number}", columns, marks)
    yield from [Text()] * (4 - len(tokens))  # so that the rows below rarely move while the story is played
    marks = [(column(token.obtained_at), glyphs.mark, "bold cyan") for token in tokens]
    errors = [(at, status) for at, status in list(story.answers) if status != 200]
    marks += [(max(0, column(at) - 4), f" {status}", "yellow") for at, status in errors]
    yield _row("token endpoint", columns, marks)


def _row(name: str, columns: int, marks: list[Mark]) -> Text:
    """Each mark is written if there is room for it: at its column, or up to 3 columns later."""
    row = Text(f"{name:<{LABEL}}{' ' * columns}")
    for column, text, style in marks:
        for place in range(LABEL + column, LABEL + column + 4):
            end = place + len(text)
            if end <= len(row) and row.plain[place:end].isspace():
                row.plain = row.plain[:place] + text + row.plain[end:]
                row.stylize(style, place, end)
                break
    row.rstrip()
    return row


def _narrate(story: Story) -> Iterator[tuple[float, str]]:
    """A few sentences for each token, in the order in which the tokens were obtained, each with its time in seconds."""
    for before, token in zip([None, *story.tokens], story.tokens, strict=False):
        at, errors = token.asked_for_at, token.token_endpoint_troubles
        despite = f", although the token endpoint returned {' and '.join(map(str, errors))} first" if errors else ""
        if errors == [400] and token.token_type == "DPoP":
            despite = ", after a 400 that asked for a DPoP nonce"
        if before is None:
            one_request = f"{CALLERS} callers start at once, and one token request serves all of them"
            what = f"{one_request}: token 1 ({token.token_type}){despite}."
        elif before.revoked_at and not token.in_background:
            at, again = before.revoked_at, sum(sent_again for _, sent_again in story.rejections)
            what = (
                f"Token {before.number} is revoked at Okta. One renewal served all callers{despite}: token {token.number}. "
                f"Calls that got a 401: {len(story.rejections)}. Sent again: {again}."
            )
        else:
            spent = (at - before.asked_for_at) / LIFETIME
            how = f"{'in the background' if token.in_background else 'while callers waited'}{despite}"
            what = f"At {spent:.0%} of its lifetime, token {before.number} is renewed {how}: token {token.number}."
        yield at, what


def _totals(story: Story) -> Iterator[tuple[int, str]]:
    """Numbers, each with its unit."""
    totals = story.document()
    answers, ahead = totals["token_endpoint_answers"], totals["renewals_in_background"]
    errors = ", ".join(f"{count} returned {status}" for status, count in answers.items() if status != "200")
    yield totals["calls"], f"calls by {CALLERS} callers in {len(CLIENTS)} clients"
    yield totals["failures"], "failures"
    yield round(totals["slowest_ms"]), "ms for the slowest call"
    yield totals["tokens_minted"], f"tokens minted, in {sum(answers.values())} token requests ({errors or 'no error'})"
    yield totals["renewals"], f"renewals, {ahead} in the background while the old token still worked"
    yield totals["healed_401s"], "sent again with a new token after a 401"
    if story.dpop:
        yield totals["bound_calls"], "calls bound by DPoP, each with its own proof"
