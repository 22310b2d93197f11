"""A pytest plugin that watches the whole test run for secrets where anybody might read them.

All loggers are at DEBUG, those of other packages too. The exception is httpcore, which logs each step of a connection: that
takes a tenth of the time of a call, so only a test that asks for it gets it. Kept as *shown* are the text and the arguments
of every log record with its traceback, the text of every error and event of okta-m2m, every warning, and what a test wrote
to standard error. Kept as *secret* are every access token that a ``FakeOkta`` minted, every assertion and proof it received,
and the private members of every key that was made. A test after which a secret has been shown fails.

Invariant: a secret is noticed whole or in part: by any of its sixteen characters that begin at a multiple of sixteen.
"""

from __future__ import annotations

import logging
import re
import threading
import traceback
import warnings
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Generator, Iterator
from functools import wraps
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from okta_m2m import OktaM2MError, PrivateKey
from okta_m2m._core.reports import Reports
from okta_m2m.testing import FakeOkta
from okta_m2m.testing.fake_okta._responder import Responder

WINDOW = 16
_RUN = re.compile(rf"[\w+/=.~-]{{{WINDOW},}}")


class Watch:
    """What is secret, and what was shown since the last look."""

    def __init__(self) -> None:
        self._pieces: dict[str, str] = {}  # a piece of a secret: what it is of
        self._shown: dict[str, str] = {}  # a text: where it was shown
        self._mutex = threading.RLock()

    def secret(self, value: str, what: str) -> None:
        if value.count(".") == 2:
            # The header is no secret, and the claims' beginning is the same in many.
            _header, claims, signature = value.split(".")
            value = claims[64:].ljust(64) + signature
        with self._mutex:
            for start in range(0, len(value) - WINDOW + 1, WINDOW):
                piece = value[start : start + WINDOW]
                if " " not in piece and len(set(piece)) > 4:
                    self._pieces[piece] = what

    def show(self, text: str, where: str) -> None:
        with self._mutex:
            self._shown.setdefault(text, where)

    def look(self) -> list[str]:
        """What was shown since the last look and holds a secret; the secret itself isn't repeated."""
        with self._mutex:
            shown, self._shown = self._shown, {}
        found = []
        for text, where in shown.items():
            leaked = self.secrets_in(text)
            if leaked:
                found.append(f"{' and '.join(leaked)} shown by {where}: {self._blotted(text)}")
        return found

    def secrets_in(self, text: str) -> list[str]:
        """What a text holds of the secrets, by their names."""
        with self._mutex:
            return sorted({self._pieces[piece] for piece in _windows(text) if piece in self._pieces})

    def _blotted(self, text: str) -> str:
        blotted = _RUN.sub(lambda run: "[SECRET]" if self.secrets_in(run.group()) else run.group(), text)
        return blotted if len(blotted) < 500 else blotted[:500] + " ..."


def _windows(text: str) -> Iterator[str]:
    for run in _RUN.finditer(text):
        characters = run.group()
        for start in range(len(characters) - WINDOW + 1):
            yield characters[start : start + WINDOW]


watch = Watch()


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_request(request: Any) -> None:
    for proof in request.all("dpop"):
        watch.secret(proof, "a DPoP proof")
    for sent in request.all("authorization"):
        watch.secret(sent.rpartition(" ")[2], "an Authorization header")
    if (request.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
        for assertion in parse_qs(request.body.decode("latin-1")).get("client_assertion", []):
            watch.secret(assertion, "a client assertion")


def _minimal(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _of_key(native: Any) -> None:
    if isinstance(native, RSAPrivateKey):
        numbers = native.private_numbers()
        members = [_minimal(n) for n in (numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)]
    elif isinstance(native, EllipticCurvePrivateKey):
        value = native.private_numbers().private_value
        members = [value.to_bytes((native.key_size + 7) // 8)]
    else:
        return
    forms = (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)
    encodings = [native.private_bytes(Encoding.DER, form, NoEncryption()) for form in forms]
    for data in members:
        for text in (urlsafe_b64encode(data).decode(), data.hex(), str(int.from_bytes(data))):
            watch.secret(text, "a private key")
        for encoding in encodings:  # as PEM has them, in lines of 64 characters, the public parts left out
            begin = encoding.index(data)
            first, last = -(-begin * 4 // 3 // WINDOW) * WINDOW, (begin + len(data)) * 4 // 3
            first += WINDOW if first * 3 // 4 < begin else 0
            watch.secret(b64encode(encoding).decode()[first:last], "a private key")


def _after(kind: type, name: str, note: Callable[..., None]) -> None:
    """Has ``note`` called after a method, with its result, the object and the method's arguments."""
    method = getattr(kind, name)

    @wraps(method)
    def noting(self: Any, *arguments: Any, **options: Any) -> Any:
        result = method(self, *arguments, **options)
        note(result, self, *arguments)
        return result

    setattr(kind, name, noting)


def _observe() -> None:
    _after(FakeOkta, "mint", lambda token, okta, *_: watch.secret(token.value, "an access token"))
    _after(Responder, "_answer", lambda answer, responder, request: _of_request(request))
    _after(PrivateKey, "__init__", lambda none, key, native: _of_key(native))
    _after(
        OktaM2MError,
        "__init__",
        lambda none, error, *_: watch.show(f"{error!r} {error} {vars(error)}", type(error).__name__),
    )
    # The event itself, also where no one listens.
    _after(
        Reports,
        "_report",
        lambda none, reports, level, message, arguments, event, *_: watch.show(f"{event!r}", type(event).__name__),
    )


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────────


class _Everything(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = f"{record.getMessage()} {record.args!r}"
        except Exception:  # a message that doesn't fit its arguments is its author's affair
            text = f"{record.msg} {record.args!r}"
        if record.exc_info and record.exc_info[1] is not None:
            text += "".join(traceback.format_exception(record.exc_info[1]))
        watch.show(text, f"the logger {record.name}")


_everything = _Everything(logging.DEBUG)


def pytest_configure(config: pytest.Config) -> None:
    _observe()
    for name in ("httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.INFO)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    root = logging.getLogger()
    root.setLevel(logging.DEBUG)
    if _everything not in root.handlers:
        root.addHandler(_everything)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report: pytest.TestReport = yield
    if call.excinfo is not None:
        watch.show(str(report.longrepr), "a failure")
    watch.show(report.capstderr, "standard error")
    return report


def pytest_warning_recorded(warning_message: warnings.WarningMessage) -> None:
    watch.show(str(warning_message.message), "a warning")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    result = yield
    found = watch.look()
    if found:
        pytest.fail("A secret was shown:\n" + "\n".join(found), pytrace=False)
    return result


_late: list[str] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    _late.extend(watch.look())
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist, whose exit status nobody looks at
        session.config.workeroutput["late leaks"] = _late
    if _late:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", None) or {}  # one that crashed left none
    _late.extend(output.get("late leaks", []))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for found in _late:
        terminalreporter.write_line(f"A secret was shown: {found}", red=True)
