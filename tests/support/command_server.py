"""Commands of ``okta-m2m`` for tests that run many: each in a process of its own, forked from one that has loaded the packages.

Loading typer, rich, requests and cryptography, building typer's commands, and freeing all of it at the end takes ten times as
long as what most commands do.

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
import atexit, contextlib, functools, gc, io, os, runpy, select, signal, socket, sys, threading
import typer.main
import okta_m2m.admin.doctor, okta_m2m.admin.provisioning, okta_m2m.admin.rotation, okta_m2m.cli.commands
import okta_m2m.cli.apps, okta_m2m.cli.call, okta_m2m.cli.doctor, okta_m2m.cli.explain, okta_m2m.cli.keys, okta_m2m.cli.tokens
import okta_m2m.requests, okta_m2m.testing
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
    # By lines where they are a terminal, as Python's own.
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    folder, count, *words = plan.split(b"\\0")
    os.chdir(folder)
    sys.argv = ["", *map(os.fsdecode, words[:int(count)])]
    os.environb.clear()
    os.environb.update(word.split(b"=", 1) for word in words[int(count):])
    try:
        runpy.run_module("okta_m2m.cli", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int):
            leave(end.code)
        raise

def leave(status):
    # As Python does, but without freeing what the server has loaded.
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError as error:
        print(f"Exception ignored on flushing stdout: {error!r}", file=sys.stderr)
        status = 120
    sys.stderr.flush()
    os._exit(status)

typer.main.get_command = functools.cache(typer.main.get_command)
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
import _socket, os, sys
arguments = [os.fsencode(argument) for argument in sys.argv[2:]]
variables = [name + b"=" + value for name, value in os.environb.items()]
plan = b"\\0".join([os.getcwdb(), b"%d" % len(arguments), *arguments, *variables])
server = _socket.socket(_socket.AF_UNIX)
server.connect(sys.argv[1])
streams = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
server.sendmsg([plan], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
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
