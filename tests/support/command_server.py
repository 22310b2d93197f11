"""Commands of ``okta-m2m`` for tests that run many: each in a process of its own, forked from one that has loaded the packages.

To load typer, rich, requests and cryptography takes longer than what most commands do.

Invariant: a command has its own arguments, environment, working directory and streams, as if Python had just started. A
command with variables that Python reads at its start is given a new Python.
"""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["command_with"]

_READ_AT_START = re.compile(r"PYTHON|LC_|LANG|COVERAGE")

_SERVER = """
import contextlib, gc, io, json, os, runpy, select, signal, socket, sys
import okta_m2m.admin.rotation, okta_m2m.cli.commands, okta_m2m.requests, okta_m2m.testing
import joserfc.jwk, joserfc.jws, ruamel.yaml, rich.table, rich.console

def run(connection):
    plan, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(str(status).encode())
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    arguments, folder, variables = json.loads(plan)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["", *arguments]
    runpy.run_module("okta_m2m.cli", run_name="__main__", alter_sys=True)

sys.argv, path = ["", "key", "show", "nowhere"], sys.argv[1]
with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):  # loads what typer needs for any command
    runpy.run_module("okta_m2m.cli", run_name="__main__", alter_sys=True)
gc.freeze()
listening = socket.socket(socket.AF_UNIX)
listening.bind(path)
listening.listen(16)
print("listening", flush=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for a command
while True:
    if sys.stdin in select.select([listening, sys.stdin], [], [])[0]:  # the tests are over
        sys.exit()
    connection, _ = listening.accept()
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listening.close()
        run(connection)
        break  # a command that has ended without SystemExit
    connection.close()
"""

# Stands for the command with whoever started it: gives it the streams, and ends as it ended.
_CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    socket.send_fds(server, [json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()], [0, 1, 2])
    status = int(server.recv(16))
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def command_with(variables: Iterable[str]) -> list[str]:
    """What starts a command that is given these environment variables beside the usual ones; its arguments follow."""
    if not hasattr(os, "fork") or any(_READ_AT_START.match(name) for name in variables):
        return [sys.executable, "-m", "okta_m2m.cli"]
    return [sys.executable, "-I", "-S", "-c", _CLIENT, _server()]


@cache
def _server() -> str:
    """The socket of this process's server, which is started for the first command."""
    folder = tempfile.TemporaryDirectory(prefix="okta-m2m-")
    path = str(Path(folder.name) / "server")
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )

    def end() -> None:
        server.communicate()
        folder.cleanup()

    atexit.register(end)
    assert server.stdout is not None
    assert server.stdout.readline() == b"listening\n"
    return path
