"""``okta-m2m demo``: watch one service app supply four clients with a token while things go wrong.

Invariant: nothing leaves this machine, and no setting of this machine is read. ``--serve`` only runs the stand-in for Okta:
see :mod:`~okta_m2m.cli.serve_okta`.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, Final

import typer
from rich.live import Live

from .. import options
from ..exits import Exit, needs
from ..printing import echo_json
from ..terminal import Output

FULL_LENGTH: Final = 6.0
"""Seconds that are enough for everything: renewals, a revocation, and errors of the token endpoint."""


def demo(
    seconds: Annotated[
        float, options.seconds("--seconds", "How long the clients make calls.", min=0.5, max=60)
    ] = FULL_LENGTH,
    dpop: Annotated[bool, options.flag("--dpop", "The org requires DPoP, with a nonce in each proof.")] = False,
    as_json: options.Json = False,
    serve_only: Annotated[bool, options.flag("--serve", "Only serve the stand-in for Okta, until Ctrl-C.")] = False,
    host: Annotated[str, options.option("--host", "ADDRESS", "With --serve: the address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", metavar="PORT", min=0, max=65535, help="With --serve: the port; 0 is any free port."),
    ] = 0,
) -> None:
    """Watch the library at work on this machine: tokens are valid for 3 seconds, and no call fails.

    A stand-in for Okta runs on a loopback port. One service app serves requests, httpx (sync and async) and aiohttp at once.

    Meanwhile the token is renewed, one token is revoked, and the token endpoint returns 503 and 429.
    """
    if serve_only:
        with needs("demo", "okta-m2m demo --serve"):  # imports pytest-httpserver
            from ..serve_okta import serve
        serve(host, port, dpop=dpop)
        return
    with needs("demo", "okta-m2m demo"):  # imports the clients that it shows
        from .picture import draw, summarize
        from .story import Story, play
    story = Story(seconds, dpop)
    if as_json:
        play(story)
        echo_json(story.document())
    else:
        output = Output()
        live = Live(console=output, get_renderable=lambda: draw(story, output), refresh_per_second=5, transient=True)
        with live if output.can_redraw else nullcontext():
            play(story)
        output.print(draw(story, output))
        output.print(summarize(story, output.width))
    if not story.ok:
        raise typer.Exit(Exit.FAILED)
