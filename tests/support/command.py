"""Runs the command ``okta-m2m`` as a user would: in a process of its own, in a folder and an environment of its own."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from command_server import command_with
from okta_m2m.cli.commands import app
from okta_m2m.cli.exits import Exit

COMMAND = [sys.executable, "-m", "okta_m2m.cli"]

Run = Callable[..., subprocess.CompletedProcess[str]]

posix_only = pytest.mark.skipif(
    os.name != "posix", reason="pseudo-terminals, signals and closed pipes are tested on POSIX only"
)

_NOT_INHERITED = re.compile(
    r"OKTA_.*|.*_PROXY|(FORCE|NO)_COLOR|COLUMNS|LINES|TERM|TTY_.*|PYTHON(IOENCODING|UTF8|UNBUFFERED)", re.IGNORECASE
)


def environment(home: Path, **variables: str) -> dict[str, str]:
    """This process's environment without the variables that would change what the command does."""
    inherited = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.fullmatch(name)}
    return {**inherited, "HOME": str(home), "USERPROFILE": str(home), "PYTHONIOENCODING": "utf-8", **variables}


def run_command(
    home: Path,
    *arguments: str,
    stdin: str | None = None,
    stdout: Any = subprocess.PIPE,
    command: list[str] | None = None,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Runs the command in ``home``. ``stdout``: a file instead of a pipe; ``command``: another program instead."""
    return subprocess.run(
        [*(command or command_with(variables)), *arguments],
        cwd=home,
        env=environment(home, **variables),
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=90,
        check=False,
        **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
    )


_built = cache(get_command)


def subcommands(group: Any) -> dict[str, Any]:
    """The commands of a group by name; empty for a command."""
    names = group.list_commands(None) if hasattr(group, "commands") else []
    return {name: group.get_command(None, name) for name in names}


def run_here(*arguments: str, width: int | None = None) -> Result:
    """Runs the command in this process. typer builds its commands once for all, which takes longer than to run one."""
    with patch("typer.testing._get_command", _built):
        return CliRunner().invoke(app, arguments, terminal_width=width)


def run_without_reader(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the command with a closed pipe as stdout."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return run_command(home, *arguments, stdout=writing, **variables)
    finally:
        os.close(writing)


def run_on_terminal(
    home: Path, *arguments: str, interrupted: str = "", typed: str = "", **variables: str
) -> SimpleNamespace:
    """Runs the command on a pseudo-terminal of 100 columns.

    ``interrupted``: sends SIGINT as soon as this is shown, and each second until the command ends. Python notices a signal that
    arrives just before it reads only after the read, or at the next signal. ``typed``: the answer to the first prompt;
    ``"\\x04"`` is Ctrl-D.
    """
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    env = environment(home, **{"TERM": "xterm-256color", **variables})
    command = COMMAND if interrupted else command_with(variables)
    with subprocess.Popen(
        [*command, *arguments], cwd=home, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        output, is_interrupted = b"", False
        try:
            while True:
                if is_interrupted and not select.select([ours], [], [], 1.0)[0]:
                    process.send_signal(signal.SIGINT)
                    continue
                if not (chunk := os.read(ours, 65536)):
                    break
                output += chunk
                if typed and output.endswith(b": "):  # before this space, the prompt discards what is typed
                    os.write(ours, (typed if typed == "\x04" else f"{typed}\n").encode())
                    typed = ""
                if interrupted and interrupted.encode() in output:
                    process.send_signal(signal.SIGINT)
                    interrupted, is_interrupted = "", True
        except OSError:
            pass  # EIO is how Linux says that the other end is closed
        finally:
            os.close(ours)
    return SimpleNamespace(returncode=process.returncode, output=output.decode("utf-8"))


def assert_one_line(stderr: str) -> None:
    """Asserts that a failure was reported in one clear line."""
    assert stderr.startswith("okta-m2m: ")
    assert stderr.count("\n") == 1
    assert "Traceback" not in stderr


def done(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == Exit.OK, ran.stderr
    return ran.stdout


def into_full(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command with its output on a device that has no room."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "wb") as full:
        return run_command(home, *arguments, stdout=full, **variables)


def service_gets_a_token(run: Run, **variables: str) -> None:
    done(run("app", "grant", "okta.users.read", **variables))
    assert done(run("token", "get", admin_signed_in=False, OKTA_CLIENT_SCOPES="okta.users.read", **variables))
