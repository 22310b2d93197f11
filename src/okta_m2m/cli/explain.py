"""``okta-m2m explain``: what the page on errors says about one error.

Invariant: the wheel has a copy of ``docs/errors.md`` beside this module. A checkout has none, so the page itself is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from rich.text import Text

from ..errors import ConfigurationError
from .options import Json, argument
from .printing import report
from .terminal import Output, hanging

IN_WHEEL: Final = Path(__file__).with_name("errors.md")
IN_CHECKOUT: Final = Path(__file__).parents[3] / "docs" / "errors.md"


def explain(
    code: Annotated[str, argument("CODE", "Its class or code: InvalidClient, invalid_client, E0000006.")],
    as_json: Json = False,
) -> None:
    """Print what an error means, and what to do about it."""
    page = IN_WHEEL if IN_WHEEL.exists() else IN_CHECKOUT
    paragraphs = list(find_paragraphs(page.read_text("utf-8"), code.lower()))
    if not paragraphs:
        remedy = 'Write its class or code, as the message has it: "okta-m2m explain InvalidClient".'
        raise ConfigurationError(f"{code} is not an error that okta-m2m knows.", remedy=remedy)
    width = Output().width
    lines = (line.plain for paragraph in paragraphs for line in hanging(Text(), paragraph, width))
    report({"code": code, "paragraphs": paragraphs}, lines, as_json)


def find_paragraphs(page: str, code: str) -> Iterator[str]:
    """The section of a class or a code (in lower case), and the table rows that begin with it: a paragraph for each column."""
    for section in re.split(r"^#+ ", page, flags=re.MULTILINE):
        heading, *blocks = section.strip().split("\n\n")
        texts = [block for block in blocks if not block.startswith("|")]
        if heading.lower() == f"`{code}`" or any(f'<a id="{code}"></a>' in text for text in texts):
            yield from map(_plain, [heading, *texts])
        for columns, _, *rows in (block.splitlines() for block in blocks if block.startswith("|")):
            for row in rows:
                cells = [_plain(cell) for cell in row.strip("| ").split(" | ")]
                if f"`{code}`" in cells[0].lower():
                    yield from map("{}: {}".format, columns.strip("| ").split(" | "), cells)


def _plain(text: str) -> str:
    """Markdown without anchors, emphasis and the targets of links, in one line."""
    text = re.sub(r'<a id="[^"]*"></a>|\*+', "", text)
    return " ".join(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).split())
