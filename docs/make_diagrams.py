"""Draws the diagrams of ``docs/images``, and the name of the project in ``docs/_static``: ``python docs/make_diagrams.py``.

Each is one SVG that refers to nothing outside itself. A diagram follows the reader's light or dark. Of the name there are two
files, because the site's button for light and dark changes only the page.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
STATIC = Path(__file__).parent / "_static"

WIDTH = 496
"""Narrow enough for its words to be readable on a phone, where a diagram is scaled to the width of the screen."""

HEAD = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">
  <style>
    svg {{ color: #1f2328; background: #ffffff; font: 14px sans-serif }}
    text {{ fill: currentColor; paint-order: stroke; stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round }}
    .mid {{ text-anchor: middle }} .end {{ text-anchor: end }} .bold {{ font-weight: bold }}
    .ours {{ stroke: #2f81f7; fill: #2f81f7 }} .line {{ stroke: #8b949e; fill: none }} .soft {{ fill: #2f81f7; opacity: 0.25 }}
    .box {{ fill: none; stroke: #8b949e }} .our.box {{ stroke: #2f81f7; stroke-width: 2 }}
    .arrow {{ stroke: currentColor; fill: none }} .tip {{ fill: currentColor }}
    @media (prefers-color-scheme: dark) {{ svg {{ color: #e6edf3; background: #131416 }} text {{ stroke: #131416 }} }}
  </style>
  <marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
    <path class="tip" d="M0 0 8 4 0 8z"/>
  </marker>
"""

Message = tuple[int, int, str]
"""From which lane to which, and the words. A message from a lane to itself is a note."""


def text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'  <text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>\n'


def sequence(title: str, lanes: list[str], messages: list[Message]) -> str:
    """Who sends what to whom, from top to bottom."""
    step, apart, height = 36, WIDTH / len(lanes), 80 + 36 * len(messages)
    at = [apart * (lane + 0.5) for lane in range(len(lanes))]
    drawn = HEAD.format(width=WIDTH, height=height, title=escape(title))
    for x, name in zip(at, lanes, strict=True):
        kind = "our box" if name == "okta-m2m" else "box"
        drawn += f'  <rect class="{kind}" x="{x - 58:g}" y="12" width="116" height="30" rx="6"/>\n' + text(
            x, 32, name, "mid bold"
        )
        drawn += f'  <path class="line" stroke-dasharray="3 4" d="M{x:g} 42V{height - 8}"/>\n'
    for number, (source, target, words) in enumerate(messages):
        y = 76 + step * number
        if source == target:
            drawn += text(at[source], y, words, "mid")
            continue
        direction = 1 if target > source else -1
        start, end = at[source] + 3 * direction, at[target] - 3 * direction
        drawn += f'  <path class="arrow" marker-end="url(#tip)" d="M{start:g} {y}H{end:g}"/>\n'
        drawn += text((at[source] + at[target]) / 2, y - 7, words, "mid")
    return drawn + "</svg>\n"


def token_life() -> str:
    """One token, from its issue to its end."""
    left, right, y = 36, 456, 104

    def at(share: float) -> float:
        return left + (right - left) * share

    drawn = HEAD.format(width=WIDTH, height=206, title="The life of a token")
    for first, last in ((0.72, 0.82), (0.93, 0.95)):
        drawn += f'  <rect class="soft" x="{at(first):g}" y="{y - 22}" width="{at(last) - at(first):g}" height="44"/>\n'
    drawn += f'  <path class="ours" stroke-width="4" d="M{left} {y}H{right}"/>\n'
    for share in (0, 1):
        drawn += f'  <path class="ours" stroke-width="4" d="M{at(share):g} {y - 14}V{y + 14}"/>\n'
    drawn += text(at(0), y - 32, "issued", "mid") + text(at(0.36), y - 12, "every call uses it", "mid")
    drawn += text(at(0.89), y - 32, "renewal: 72 to 82%", "end bold")
    drawn += text(right + 24, y - 72, "with a store: 93 to 95%", "end")
    drawn += f'  <path class="line" d="M{at(0.94):g} {y - 66}V{y - 24}"/>\n'
    drawn += f'  <path class="arrow" marker-end="url(#tip)" d="M{at(0.77):g} {y + 38}H{right}"/>\n'
    drawn += text(at(0.76), y + 43, "a failed renewal is retried, with growing pauses", "end")
    drawn += text(at(0), y + 76, "0", "mid") + text(at(0.36), y + 76, "minutes, with a one-hour token", "mid")
    drawn += text(at(0.77), y + 76, "43 to 49", "mid") + text(right, y + 76, "60", "mid")
    return drawn + text(right, y - 32, "expires", "mid") + "</svg>\n"


ONE_CALL = sequence(
    "One call whose token is rejected",
    ["your code", "okta-m2m", "token endpoint", "API"],
    [
        (0, 1, "GET /users"),
        (1, 2, "signed assertion"),
        (2, 1, "token, 1 hour"),
        (1, 3, "GET /users with the token"),
        (3, 1, "401: revoked"),
        (1, 2, "signed assertion"),
        (2, 1, "new token"),
        (1, 3, "GET /users with the new token"),
        (3, 1, "200"),
        (1, 0, "200"),
    ],
)
FLEET = sequence(
    "Two processes that share a token",
    ["process A", "store", "process B", "Okta"],
    [
        (0, 1, "load: nothing"),
        (0, 1, "claim: granted"),
        (2, 1, "claim: taken by A"),
        (0, 3, "token request; A extends the claim while it runs"),
        (3, 0, "access token"),
        (0, 1, "save, release"),
        (2, 1, "load: the token"),
        (2, 2, "no request to Okta"),
    ],
)
AGENTS = sequence(
    "An API that calls another for its caller",
    ["user's app", "your API", "Okta", "other API"],
    [
        (0, 1, "user's token"),
        (1, 1, "verifies it"),
        (1, 1, "on_behalf_of()"),
        (1, 2, "user's token"),
        (2, 1, "new token"),
        (1, 1, "or cross_app()"),
        (1, 2, "user's token"),
        (2, 1, "ID-JAG"),
        (1, 2, "ID-JAG"),
        (2, 1, "new token"),
        (1, 3, "call, with the new token"),
        (3, 1, "200"),
        (1, 0, "200"),
    ],
)


LETTERS = (
    '<circle cx="20" cy="44" r="16"/>'  # o
    '<path d="M50 14V60M71 29 50 47M58 40 72 60"/>'  # k
    '<path d="M86 18V50q0 10 10 10h3M78 30h20"/>'  # t
    '<circle cx="123" cy="44" r="16"/><path d="M139 29V60"/>'  # a
    '<path d="M218 60V29M218 44q0-15 13-15t13 15V60M244 44q0-15 13-15t13 15V60"/>'  # m
    '<path d="M285 28q1-13 14-13t14 12q0 8-11 17L285 60h29"/>'  # 2
    '<path d="M329 60V29M329 44q0-15 13-15t13 15V60M355 44q0-15 13-15t13 15V60"/>'  # m
)
KEY = '<circle cx="166" cy="44" r="8"/><path d="M174 44h28M190 44v8M201 44v8"/>'
"""The hyphen, and the key of the site's icon."""


def wordmark(ink: str, key: str) -> str:
    """The name of the project, drawn without a font."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 4 386 64" role="img" aria-label="okta-m2m">\n'
        '  <g fill="none" stroke-width="7" stroke-linecap="round" stroke-linejoin="round">\n'
        f'    <g stroke="{ink}">{LETTERS}</g>\n    <g stroke="{key}">{KEY}</g>\n  </g>\n</svg>\n'
    )


def main() -> None:
    (STATIC / "wordmark-light.svg").write_text(wordmark("#1f2328", "#1662dd"), "utf-8")
    (STATIC / "wordmark-dark.svg").write_text(wordmark("#e6edf3", "#58a6ff"), "utf-8")
    for name, drawn in (
        ("token-life", token_life()),
        ("one-call", ONE_CALL),
        ("fleet", FLEET),
        ("agents", AGENTS),
    ):
        (IMAGES / f"{name}.svg").write_text(drawn, "utf-8")


if __name__ == "__main__":
    main()
