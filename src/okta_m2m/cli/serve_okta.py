"""``okta-m2m demo --serve``: serves the stand-in for Okta to other programs until it is stopped.

Invariant: it listens on this machine only, unless ``--host`` has another address. It overwrites no ``okta.yaml``. At the
end, it removes or renames the one that it wrote, and loses nothing that was added to it.
"""

from __future__ import annotations

import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from ..admin.key_files import write_new_file
from ..errors import ConfigurationError
from ..testing import FakeOkta
from .printing import echo, note
from .trust import trust_own_file

SETTINGS = Path("okta.yaml")
OLD_SETTINGS = Path("okta.yaml.stand-in")
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 (compared with, not bound)


class _ServedOkta(FakeOkta):
    @property
    def url(self) -> str:
        # Clients use this machine's name for a server that listens on every address: a container publishes its port there.
        return f"http://localhost:{self.server.port}" if self.server.host in EVERYWHERE else super().url


def serve(host: str, port: int, *, dpop: bool) -> None:
    """Serves until Ctrl-C, SIGTERM or SIGHUP. Raises :class:`~okta_m2m.errors.ConfigurationError` if the port is not free."""
    try:
        # werkzeug would end the whole process instead of raising.
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        problem = f"Listening on {host}:{port} is not possible ({error.strerror})."
        raise ConfigurationError(problem, remedy="Choose another --port or --host.") from None
    okta = _ServedOkta(dpop="required" if dpop else "optional")
    okta.server.host, okta.server.wanted_port = host, port
    for name in ("SIGTERM", "SIGHUP"):  # SIGHUP: the terminal was closed; Windows has none
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    with suppress(KeyboardInterrupt), okta, ExitStack() as at_end:
        settings = f'okta:\n  client:\n    orgUrl: "{okta.url}"\n    token: "{okta.ssws}"\n'
        at_end.callback(_remove_settings, settings, okta)
        hint = f"./{SETTINGS} has the same settings for commands in this folder."
        try:
            # Written before the lines are printed: a program that reads them may start at once.
            write_new_file(SETTINGS, settings.encode())
            trust_own_file(SETTINGS)
        except ConfigurationError as error:
            hint = f"{error.problem} Set these variables."
        echo(f"export OKTA_CLIENT_ORGURL={okta.url}")
        echo(f"export OKTA_CLIENT_TOKEN={okta.ssws}")
        note(f"{hint} Stop with Ctrl-C.")
        while True:
            time.sleep(0.5)  # without an end, Ctrl-C has no effect on Windows


def _remove_settings(written: str, okta: FakeOkta) -> None:
    """Removes the settings, or renames them if anything was added. A file without this stand-in's URL and token stays."""
    with suppress(OSError, ValueError):
        text = SETTINGS.read_text(encoding="utf-8")
        if text == written:
            SETTINGS.unlink()
        elif okta.url in text and okta.ssws in text:
            SETTINGS.replace(OLD_SETTINGS)
            note(f"./{SETTINGS} was for this stand-in only, and is now ./{OLD_SETTINGS}.")
