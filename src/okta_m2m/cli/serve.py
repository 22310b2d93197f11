"""``okta-m2m demo --serve``: a stand-in for Okta that other programs call, until it is stopped.

Invariant: it listens on this machine alone unless told otherwise. The ``okta.yaml`` that it writes is taken away again if
nobody has changed it, and one that is there is never touched.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from ..errors import ConfigurationError
from .exits import needs
from .terminal import note

__all__ = ["serve"]

SETTINGS = Path("okta.yaml")
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 (what is asked for, not what is bound)


def serve(host: str, port: int, *, dpop: bool) -> None:
    """Serves until Ctrl-C, or SIGTERM."""
    with needs("all", "okta-m2m demo --serve"):
        from ..testing import FakeOkta

    class Served(FakeOkta):
        @property
        def url(self) -> str:
            # Who listens everywhere is called by a name: that of this machine, to which a container's port is published.
            return f"http://localhost:{self.server.port}" if host in EVERYWHERE else super().url

    _check_free(host, port)
    okta = Served(dpop="required" if dpop else "optional")
    okta.server.host, okta.server.wanted_port = host, port
    over = threading.Event()
    with suppress(ValueError, AttributeError):  # in a thread, or where there is no such signal
        signal.signal(signal.SIGTERM, lambda *_: over.set())
    with suppress(KeyboardInterrupt):
        okta.start()
        try:
            _announce(okta)
            while not over.wait(0.5):  # without a limit, Windows would not hear Ctrl-C
                pass
        finally:
            _tidy_up(okta)
            okta.stop()


def _check_free(host: str, port: int) -> None:
    # werkzeug, which is asked next, ends the whole process instead of raising.
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ConfigurationError(
            f"{host}:{port} cannot be listened on ({error.strerror}). Choose another --port or --host."
        ) from None


def _settings(okta: Any) -> str:
    return f'okta:\n  client:\n    orgUrl: "{okta.url}"\n    token: "{okta.ssws}"\n'


def _announce(okta: Any) -> None:
    # Written first: whoever reads the lines may begin at once.
    written = _written(_settings(okta))
    typer.echo(f"export OKTA_CLIENT_ORGURL={okta.url}")
    typer.echo(f"export OKTA_CLIENT_TOKEN={okta.ssws}")
    if written:
        note(f"./{SETTINGS} says the same, so commands in this folder need no variables. Ctrl-C ends it.")
    else:
        note(f"./{SETTINGS} is there already and stays as it is, so set these variables. Ctrl-C ends it.")


def _written(text: str) -> bool:
    with suppress(OSError):
        descriptor = os.open(SETTINGS, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return True
    return False


def _tidy_up(okta: Any) -> None:
    with suppress(OSError, ValueError):
        if SETTINGS.read_text(encoding="utf-8") == _settings(okta):
            SETTINGS.unlink()
