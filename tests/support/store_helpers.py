"""What the tests of stores share: how long records live, and programs in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest

LONG = 3600.0
SHORT = 0.05
posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, owners and FIFOs are POSIX's")


def saved(store: Any, key: str, value: bytes = b"value") -> None:
    assert store.claim(key, "one", LONG)
    assert store.save(key, value, LONG, "one")


def script(program: str, *arguments: str, stderr: int | None = None) -> subprocess.Popen[str]:
    """A Python process of its own that runs this."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
