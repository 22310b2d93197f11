"""How the command ends: its exit codes, which failure gets which, and the one line that tells why.

Invariant: this is the only place that knows the numbers; ``docs/cli.md`` has the same table.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Final, TextIO

from ..admin import errors
from ..errors import (
    ConfigurationError,
    OktaM2MError,
    RateLimited,
    SigningFailed,
    TokenError,
    TokenRefused,
)

__all__ = ["Exit", "ExtraMissing", "complain", "exit_for", "needs", "nobody_reads", "reader_gone", "say", "unwritable"]


class Exit(IntEnum):
    """What the exit code says; a script may rely on it."""

    OK = 0, "done"
    FAILED = (
        1,
        (
            "the command ran to its end, and what it looked at is not in order: in `demo` a call failed, in `app create` an "
            "app of that name is there without this key, in `token introspect` the token is not active, in `cache clear` a "
            "process was fetching a token"
        ),
    )
    USAGE = 2, "an option or a command that does not exist, or a value that does not fit"
    CONFIGURATION = 3, "a setting or a key is missing or cannot work, or a file or the output cannot be written"
    REFUSED = 4, "Okta refused; asking again unchanged would not help"
    RATE_LIMITED = 5, "Okta's rate limit asks for a longer wait than the command may wait; try again later"
    UNREACHABLE = 6, "no usable answer in time: network, proxy, TLS, an error of the server"
    SIGNING = 7, "the key's signer (a KMS, an HSM) gave no signature"
    EXTRA_MISSING = 8, "a package is not installed; the message has the `pip install` line"
    SCOPE_MISSING = 9, "a scope is missing: at the app, or at whoever signs in"
    ROLE_MISSING = 10, "an admin role is missing: at the app, or at whoever signs in"
    NOT_SIGNED_IN = 11, "the SSWS token, or the service app that signs in, was not accepted"
    CLOCK = 12, "this machine's clock is off by more than Okta bears; only from `doctor`"
    BUG = 70, "a fault of this program; please report it"
    INTERRUPTED = 130, "Ctrl-C"
    READER_GONE = 141, "whoever read the output went away (a closed pipe)"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Exit:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


_EXITS: Final[tuple[tuple[type[OktaM2MError], Exit], ...]] = (
    (ConfigurationError, Exit.CONFIGURATION),
    (TokenRefused, Exit.REFUSED),
    (RateLimited, Exit.RATE_LIMITED),
    (SigningFailed, Exit.SIGNING),
    (TokenError, Exit.UNREACHABLE),
)


def exit_for(error: OktaM2MError) -> Exit:
    """The exit code of a failure."""
    code = next((code for kind, code in _EXITS if isinstance(error, kind)), None)
    return _provisioning_exit(error) if code is None else code


def _provisioning_exit(error: OktaM2MError) -> Exit:
    exits: tuple[tuple[type[OktaM2MError], Exit], ...] = (
        (errors.NotSignedIn, Exit.NOT_SIGNED_IN),
        (errors.ScopeMissing, Exit.SCOPE_MISSING),
        (errors.PermissionMissing, Exit.ROLE_MISSING),
        (errors.RateLimitTooLong, Exit.RATE_LIMITED),
        (errors.OktaUnreachable, Exit.UNREACHABLE),
    )
    for kind, code in exits:
        if isinstance(error, kind):
            return code
    if isinstance(error, errors.RotationFailed):
        cause = error.__cause__
        return exit_for(cause) if isinstance(cause, OktaM2MError) else Exit.CONFIGURATION
    return Exit.REFUSED if isinstance(error, errors.ProvisioningError) else Exit.BUG


class ExtraMissing(Exception):
    """A package that an extra brings is not installed; the message has the line that installs it."""


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Makes a failed import in the body say which extra has it. Raises :class:`ExtraMissing`."""
    try:
        yield
    except ModuleNotFoundError as missing:
        module = (missing.name or "").partition(".")[0]
        if module == "okta_m2m":
            raise
        raise ExtraMissing(
            f"{what} needs {module or 'a package'}, which is not installed. Install it: pip install 'okta-m2m[{extra}]'"
        ) from None


def complain(what: object) -> None:
    """One line on stderr for a failure."""
    say(f"okta-m2m: {' '.join(str(what).split())}")


def say(line: str) -> None:
    """A line on stderr, if that takes one: where it does not, the exit code has to do."""
    if sys.stderr is None:  # closed; print would take stdout for it
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        nobody_reads(sys.stderr)


def reader_gone(error: OSError) -> bool:
    """Whether a write failed because nobody reads any more. Windows says EINVAL, with no number of its own for it."""
    return isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == 22)


def unwritable(error: OSError) -> bool:
    """Whether what was written had no room or went to a device that failed: a redirection to a disk that is full."""
    return error.errno in (errno.ENOSPC, errno.EIO, getattr(errno, "EDQUOT", None))


def nobody_reads(stream: TextIO | None = None) -> None:
    """Sends what is still in the buffer of a stream (stdout) nowhere, or Python would complain of it at exit."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, (stream or sys.stdout).fileno())
        os.close(nowhere)
