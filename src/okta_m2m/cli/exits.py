"""The command's exit codes, the code for each failure, and how it is reported on stderr.

Invariant: the numbers are defined here and nowhere else. ``docs/cli.md`` has the same table.
"""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import SimpleNamespace
from typing import Final, NoReturn

from ..admin import errors
from ..errors import (
    ConfigurationError,
    OktaM2MError,
    RateLimited,
    SigningFailed,
    TokenError,
    TokenRefused,
    install_command,
)
from .printing import note


class Exit(IntEnum):
    """The exit codes and their meaning. Scripts may rely on them."""

    OK = 0, "success"
    FAILED = (
        1,
        (
            "the command finished, but found a problem: in `demo`, a call failed; in `app create`, an app with that name "
            "exists, but differs from what was requested; in `audit`, an app has something that a policy does not allow; in "
            "`token introspect`, the token is not active; in `token clear`, a process was fetching a token; or Okta does not "
            "show a requested change"
        ),
    )
    USAGE = 2, "an option or a command does not exist, or a value is invalid"
    CONFIGURATION = 3, "a setting or a key is missing or invalid, or a file or the output cannot be written"
    REFUSED = 4, "Okta refused; the same request would be refused again"
    RATE_LIMITED = 5, "Okta's rate limit requires a longer wait than `--max-wait` allows; try again later"
    UNREACHABLE = 6, "no usable response in time: network, proxy, TLS, or a server error"
    SIGNING = 7, "the key's signer (a KMS, an HSM) returned no signature"
    EXTRA_MISSING = 8, "a package is not installed; the message has the `pip install` line"
    SCOPE_MISSING = 9, "the app, or the account that signs in, lacks a scope"
    ROLE_MISSING = 10, "the app, or the account that signs in, lacks an admin role"
    NOT_SIGNED_IN = 11, "Okta did not accept the SSWS token, or the token of the service app that signs in"
    CLOCK = 12, "this machine's clock is off by more than Okta tolerates; only from `doctor`"
    BUG = 70, "a bug in this program; please report it"
    INTERRUPTED = 130, "Ctrl-C"
    READER_GONE = 141, "the program that reads the output ended (closed pipe)"

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
    (errors.NotSignedIn, Exit.NOT_SIGNED_IN),
    (errors.ScopeMissing, Exit.SCOPE_MISSING),
    (errors.PermissionMissing, Exit.ROLE_MISSING),
    (errors.RateLimitTooLong, Exit.RATE_LIMITED),
    (errors.OktaUnreachable, Exit.UNREACHABLE),
)
"""The first class that an error belongs to decides."""


def exit_for(error: OktaM2MError) -> Exit:
    """The exit code for a failure."""
    for kind, code in _EXITS:
        if isinstance(error, kind):
            return code
    if isinstance(error, errors.RotationFailed | errors.NotConfirmed):
        cause = error.__cause__
        if isinstance(cause, OktaM2MError):
            return exit_for(cause)
        return Exit.FAILED if isinstance(error, errors.NotConfirmed) else Exit.CONFIGURATION
    return Exit.REFUSED if isinstance(error, errors.ProvisioningError) else Exit.BUG


failures = SimpleNamespace(as_json=False, places={})
"""How :func:`fail` reports failures: whether as JSON, and where a profile has the setting of each variable. Set once."""


_FOR_PYTHON: Final = r"\bpass \w+=, |, or pass \w+= if it belongs to another program|\bscopes=, "
"""What the library's messages about settings advise that only a program can do."""


def in_command_words(message: str) -> str:
    """A message about settings, without the advice for programs, and with the places in the profile instead of the variables that
    were made from it."""
    message = message.replace("pass org_url=,", "use --org,").replace("aise max_wait", "aise --max-wait")
    message = re.sub(_FOR_PYTHON, "", message)
    for variable, place in failures.places.items():
        message = re.sub(rf"(environment variable )?\b{re.escape(variable)}\b", place.replace("\\", r"\\"), message)
    return message


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """If an import in the body fails, ends the command with the line that installs the missing package.

    - ``extra``: the extra of this package that installs the missing package.
    - ``what``: the part that needs that package, as the first words of the message.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        module = (missing.name or "").partition(".")[0]
        if module == "okta_m2m":
            raise
        problem = f"{what} needs {module or 'a package'}, which is not installed."
        fail(Exit.EXTRA_MISSING, problem, f"Install it: {install_command(extra)}")


def fail(
    code: Exit, problem: str, remedy: str | None = None, *, see: str | None = None, **details: str | None
) -> NoReturn:
    """Ends the command with a code. Reports the failure on stderr: as one line, or with ``--json`` as a document on one line.

    - ``problem``, ``remedy``: what happened, and what to do about it.
    - ``see``: where the documentation describes it.
    - ``details``: further members of the document: Okta's code for the error, and the ids of the request and of the error.
    """
    if failures.as_json:
        document = {"exit_code": int(code), "message": problem, "remedy": remedy, "help": see, **details}
        note(json.dumps({"error": None, "request_id": None, "error_id": None, **document}))
    else:
        line = " ".join(filter(None, [problem, remedy, see and f"(see {see})"]))
        note(f"okta-m2m: {' '.join(line.split())}")
    sys.exit(code)


def is_closed_pipe(error: OSError) -> bool:
    """Whether a write failed because the reader has exited. Windows reports that as EINVAL."""
    return isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == 22)


def is_device_failure(error: OSError) -> bool:
    """Whether a write failed because the disk or device is full or broken."""
    return error.errno in (errno.ENOSPC, errno.EIO, getattr(errno, "EDQUOT", None))
