"""``okta-m2m demo``: watch one service app keep four clients supplied with a token while things go wrong.

Invariant: nothing leaves this machine, and no setting of it is read.
With ``--serve`` the stand-in for Okta alone is there, for others to call: see :mod:`~okta_m2m.cli.serve`.
"""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.live import Live

from .exits import Exit
from .picture import drawing, summary
from .scenario import WHOLE, play
from .serve import serve
from .story import Story
from .terminal import Output, glyphs_for

__all__ = ["demo"]

REDRAWN = 0.2  # seconds


def demo(
    seconds: Annotated[
        float,
        typer.Option(min=0.5, max=60, help=f"How long the clients call. From {WHOLE:g} on, everything has its turn."),
    ] = WHOLE,
    dpop: Annotated[bool, typer.Option("--dpop", help="The org requires DPoP, and nonces in proofs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what happened as one JSON document.")] = False,
    served: Annotated[
        bool,
        typer.Option("--serve", help="Only serve the stand-in for Okta, for other programs to call, until Ctrl-C."),
    ] = False,
    host: Annotated[str, typer.Option(help="With --serve: where to listen; 0.0.0.0 in a container.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve: the port; 0 is any free one.")] = 0,
) -> None:
    """Watch it work, with nothing but this machine: tokens that live 3 seconds, and no call that fails.

    A stand-in for Okta runs on a loopback port; one service app serves requests, httpx (both error_map) and aiohttp at once.

    Meanwhile the token is renewed, one is revoked, and the token endpoint answers 503 and 429.
    """
    if served:
        serve(host, port, dpop=dpop)
    elif as_json:
        story = play(seconds, dpop=dpop, watch=lambda _: None)
        typer.echo(json.dumps(story.document(), indent=2))
        _judge(story)
    else:
        _judge(_shown(seconds, dpop))


def _judge(story: Story) -> None:
    if not story.ok:
        raise typer.Exit(Exit.FAILED)


def _shown(seconds: float, dpop: bool) -> Story:
    output = Output()
    glyphs = glyphs_for(output)
    live = Live(console=output, auto_refresh=False, transient=True) if output.moves else None
    due = 0.0

    def watch(story: Story) -> None:
        nonlocal due
        if live is not None and time.monotonic() >= due:
            live.update(drawing(story, glyphs, output.width, story.now()), refresh=True)
            due = time.monotonic() + REDRAWN

    with live or nullcontext():
        story = play(seconds, dpop=dpop, watch=watch)
    output.print(drawing(story, glyphs, output.width))
    output.print(summary(story, glyphs, output.width))
    return story
