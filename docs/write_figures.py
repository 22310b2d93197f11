"""Writes the figures of ``docs/performance.md`` into the other pages that show them.

    python docs/write_figures.py

``benchmarks/run.py`` does this too, after it has written that page. A test fails if a page shows anything else.

Invariant: the table in ``docs/performance.md`` is the only place where a measured figure is written down.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "docs" / "performance.md"
OURS, FLOOR = "okta-m2m", "floor"

LINES = {
    "README.md": (
        "| Token requests made by 1,000 threads without a token "
        "| {requests[okta-m2m]} | {requests[Authlib]} | {requests[requests-oauth2client]} | asyncio only |",
        "| Slowest call while 2-second tokens are renewed "
        "| {renewal[okta-m2m]} | {renewal[Authlib]} | {renewal[requests-oauth2client]} | not measured |",
        "| CPU time of a call with a DPoP token, compared with the same call without auth "
        "| {bound[okta-m2m]} | no DPoP | {bound[requests-oauth2client]} | not measured |",
        "| CPU time from the program's start to its first answer (without a library: {start[floor]}) "
        "| {start[okta-m2m]} | {start[Authlib]} | {start[requests-oauth2client]} | not measured |",
    ),
    "docs/migrate/authlib.md": (
        "| 1,000 threads without a token: {requests[Authlib]} token requests "
        "| {requests[okta-m2m]} token request; [performance](../performance.md) |",
    ),
    "docs/migrate/requests-oauth2client.md": (
        "| 1,000 threads without a token: {requests[requests-oauth2client]} token requests "
        "| {requests[okta-m2m]} token request; [performance](../performance.md) |",
    ),
}
"""By page, each line that shows figures. What comes before the first figure is found in the page."""


def read_figures() -> dict[str, dict[str, str]]:
    """For each kind of figure, what was measured of each library; and the floor, if that is shown."""
    page = MEASURED.read_text("utf-8")
    return {
        "requests": _row(page, "1,000 threads at once without a token", r"(?:at least )?(\d+) requests?"),
        "renewal": _row(page, "time that renewals add", r"[\d.,]+ ms, slowest ([\d.,]+ ms)"),
        "bound": _row(page, r"a whole call with a bound token \(DPoP, ES256\), requests", r"([\d.]+x)"),
        "start": _row(page, "start to first answer, CPU time, requests", r"([\d.,]+ ms)"),
    }


def _row(page: str, name: str, figure: str) -> dict[str, str]:
    ((floor, peers, ours),) = re.findall(rf"^\| {name}[^|]* \| ([^|]*) \| ([^|]*) \| ([^|]*) \|", page, re.MULTILINE)
    found = dict(re.findall(rf"([A-Za-z][\w-]*)†? {figure}", peers))
    return found | {what: (re.findall(figure, text) or [""])[0] for what, text in ((FLOOR, floor), (OURS, ours))}


def with_figures(page: str, text: str) -> str:
    """The text of a page with the figures of ``docs/performance.md``."""
    figures = read_figures()
    for line in LINES[page]:
        before = re.escape(line.partition("{")[0])
        text, replaced = re.subn(rf"^{before}.*$", line.format(**figures), text, flags=re.MULTILINE)
        if replaced != 1:
            raise ValueError(f"{page} has {replaced} lines that begin with {line.partition('{')[0]!r}")
    return text


def main() -> None:
    for page in LINES:
        path = ROOT / page
        path.write_text(with_figures(page, path.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
