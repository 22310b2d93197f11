"""Errors say what happened, whose words it was, and at the end what to do about it; and never a secret."""

from __future__ import annotations

import ast
import copy
import pickle
import string
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import okta_m2m.errors
from okta_m2m import OktaM2MError, RateLimited, TokenRefused
from okta_m2m.admin import errors as admin_errors
from okta_m2m.errors import (
    AccessDenied,
    ConfigurationError,
    ConsentRequired,
    InvalidClient,
    InvalidDPoPProof,
    InvalidKey,
    InvalidScope,
    UnauthorizedClient,
    WrongType,
    install_command,
    quoted,
    refused,
)

SOURCE = Path(okta_m2m.__file__).parent
ALL = [value for value in vars(okta_m2m.errors).values() if isinstance(value, type) and issubclass(value, OktaM2MError)]
ATTRIBUTES = {
    "remedy": "What to do.",
    "status": 429,
    "error": "E0000047",
    "error_description": "API call exceeded rate limit",
    "request_id": "req-1",
    "retry_after": 12.5,
}


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_the_attributes_that_it_was_given(kind: type[OktaM2MError]) -> None:
    error = kind("What happened.", **ATTRIBUTES)  # type: ignore[arg-type]  # each of its own type
    assert {name: getattr(error, name) for name in ATTRIBUTES} == ATTRIBUTES
    assert str(error) == "What happened. What to do."
    assert error.problem == "What happened."
    plain = kind("What happened.")
    assert str(plain) == plain.problem == "What happened."
    assert all(getattr(plain, name) is None for name in ATTRIBUTES)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("way", ["pickle", "copy", "deepcopy"])
def test_every_error_can_be_pickled_without_loss(kind: type[OktaM2MError], way: str) -> None:
    error = kind("What happened.", **ATTRIBUTES)  # type: ignore[arg-type]  # each of its own type
    if way == "pickle":
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            copied = pickle.loads(pickle.dumps(error, protocol))
    else:
        copied = getattr(copy, way)(error)
    assert type(copied) is kind
    assert str(copied) == str(error)
    assert vars(copied) == vars(error)


@pytest.mark.parametrize("kind", ALL)
def test_an_error_that_is_also_a_librarys_error_keeps_all_attributes(kind: type[OktaM2MError]) -> None:
    error = kind("What happened.", **ATTRIBUTES)  # type: ignore[arg-type]  # each of its own type
    both = error.as_library_error({OktaM2MError: ConnectionError})
    assert isinstance(both, kind)
    assert isinstance(both, ConnectionError)
    for one in (both, both.copy()):
        assert type(one) is type(both)
        assert str(one) == str(error)
        assert vars(one) == vars(error)
    assert vars(pickle.loads(pickle.dumps(both))) == vars(error)


@pytest.mark.parametrize("kind", ALL)
def test_a_copy_of_an_error_is_another_object(kind: type[OktaM2MError]) -> None:
    error = kind("What happened.", **ATTRIBUTES)  # type: ignore[arg-type]  # each of its own type
    again = error.copy()
    assert again is not error
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert error.copy(retry_after=3.0).retry_after == 3.0


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (InvalidClient("What happened."), "InvalidClient"),
        (refused(401, "invalid_client", None, None), "InvalidClient"),
        (refused(404, "E0000007", None, None), "E0000007"),
        (refused(400, "invalid_request", None, None), "invalid_request"),
        (refused(400, "something_new", None, None), "TokenRefused"),
        (admin_errors.NotFound("What happened."), "NotFound"),
        (InvalidKey("What happened."), "InvalidKey"),
        (ConfigurationError("What happened."), "ConfigurationError"),
        (WrongType("What happened."), "WrongType"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_traceback_ends_with_the_command_that_explains_the_error(error: OktaM2MError, name: str) -> None:
    assert error.help == f"okta-m2m explain {name}"
    both = error.as_library_error({OktaM2MError: ConnectionError})
    for one in (error, error.copy(), both, both.copy().copy(), pickle.loads(pickle.dumps(both)), copy.copy(error)):
        assert traceback.format_exception(one)[-1] == f"See okta-m2m explain {name}\n"
        assert one.__notes__ == [f"See okta-m2m explain {name}"]


def test_a_note_added_to_an_error_is_not_in_its_copies() -> None:
    error = InvalidClient("What happened.")
    copies = [error.copy(), error.as_library_error({OktaM2MError: ConnectionError}), copy.copy(error)]
    error.add_note("Mine.")
    assert [len(one.__notes__) for one in copies] == [1, 1, 1]
    assert error.copy().__notes__ == error.__notes__


REFUSALS = [
    (
        "invalid_client",
        None,
        InvalidClient,
        "under the same kid (Admin Console: Applications > the app > Public keys).",
    ),
    ("invalid_client", "The client_assertion JWT kid is invalid.", InvalidClient, "a kid is required."),
    ("invalid_client", "The client_assertion signature is invalid.", InvalidClient, "that belongs to the kid."),
    ("invalid_client", "The client_assertion token is expired.", InvalidClient, "did not help."),
    (
        "invalid_client",
        "The audience claim for client_assertion must be the endpoint invoked for the request.",
        InvalidClient,
        "as Okta sees it.",
    ),
    ("invalid_scope", None, InvalidScope, "only the scopes defined on it."),
    ("consent_required", None, ConsentRequired, "Okta API Scopes)."),
    ("unauthorized_client", None, UnauthorizedClient, "may use this authorization server."),
    ("unsupported_grant_type", None, UnauthorizedClient, "access policy."),
    ("access_denied", None, AccessDenied, "network zones."),
    ("invalid_dpop_proof", None, InvalidDPoPProof, "check this machine's clock."),
    ("use_dpop_nonce", None, InvalidDPoPProof, "DPoP-Nonce header."),
    ("E0000015", None, TokenRefused, "API Access Management)."),
    ("something_new", None, TokenRefused, "request id to Okta's support."),
    (None, None, TokenRefused, "request id to Okta's support."),
]


@pytest.mark.parametrize(("code", "description", "kind", "remedy"), REFUSALS)
def test_a_refusal_ends_with_its_remedy(
    code: str | None, description: str | None, kind: type[TokenRefused], remedy: str
) -> None:
    error = refused(401, code, description, "req-1")
    assert type(error) is kind
    assert str(error) == f"{error.problem} {error.remedy}"
    assert str(error.remedy).endswith(remedy)
    assert "HTTP 401" in error.problem
    assert "req-1" in error.problem
    assert (error.status, error.error, error.error_description, error.request_id) == (401, code, description, "req-1")


def test_a_rate_limit_is_no_token_refusal() -> None:
    assert not issubclass(RateLimited, TokenRefused)


JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzZWNyZXQtc3ViamVjdCJ9.c2lnbmF0dXJlLXRoYXQtbm9ib2R5LW1heS1zZWU"


@pytest.mark.parametrize(
    "text",
    [
        JWT,
        f"Not you: {JWT}.",
        f'{{"token": "{JWT}"}}',
        f"Bearer {JWT}",
        JWT[:60],
        JWT.rpartition(".")[0],
        JWT.partition(".")[2],
        f"<b>{JWT}</b>",
        f"a\nb {JWT}",
        "x" * 280 + JWT,
        "00" + "aB3-_" * 10,
    ],
)
def test_text_that_looks_like_a_jwt_is_replaced(text: str) -> None:
    shown = quoted(text)
    for secret in ("c2VjcmV0", "eyJzdWIi", "c2lnbmF0dXJl", "aB3-_aB3-_aB3"):
        assert secret not in shown


def test_ordinary_text_of_a_server_is_quoted_unchanged() -> None:
    for words in (
        "The client_assertion JWT kid is invalid.",
        "'htu' claim in the DPoP proof JWT is invalid.",
        "One or more scopes are not configured for the authorization server resource.",
        "Zugriff für Jürgen verweigert",
        "E0000011",
        "req-1",
    ):
        assert quoted(words) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb\tc", "a b c"),
        ("a\x00\x1b[31mb", "a [31mb"),
        ("<html><body>Sorry</body></html>", "Sorry"),
        ("  spaced  ", "spaced"),
        *((f"a{mark}b", "a b") for mark in "\u061c\u200b\u202e\u2066\ufeff\ud800\U000e0041"),  # invisible
        ("a  b\u2003c", "a b c"),
        ("", ""),
        (None, "None"),
        (17, "17"),
    ],
)
def test_quoted_text_is_one_printable_line(text: object, shown: str) -> None:
    assert quoted(text) == shown


def test_long_text_is_shortened() -> None:
    shown = quoted("word " * 1000)
    assert len(shown) <= 300
    assert shown.endswith("...")
    assert len(quoted("word " * 1000, 80)) <= 80


@given(st.text(max_size=500), st.integers(min_value=10, max_value=300))
def test_any_text_can_be_quoted(text: str, limit: int) -> None:
    shown = quoted(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_", min_size=43, max_size=600), st.text(max_size=50))
def test_quoted_text_contains_no_long_secret(secret: str, around: str) -> None:
    assert secret not in quoted(f"{around}{secret}{around}", 2000)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["<" * 100_000, "a." * 100_000, "\x00" * 100_000, "eyJ" * 100_000, " " * 100_000])
def test_a_very_long_text_is_quoted_quickly(text: str) -> None:
    assert len(quoted(text)) <= 300


KINDS = {kind.__name__ for kind in [*ALL, *vars(admin_errors).values()] if isinstance(kind, type)}


def test_every_error_is_raised_with_its_remedy() -> None:
    """So that whoever shows problem and remedy apart has both."""
    without = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")) in KINDS
        and "remedy" not in {keyword.arg for keyword in node.keywords}
    ]
    assert not without


def test_nothing_says_to_install_by_a_name_that_is_not_ours_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone else could take the name on the package index."""
    assert install_command("redis") == "pip install '.[redis]' in a clone of okta-m2m"
    monkeypatch.setattr(okta_m2m.errors, "PACKAGE", "okta-m2m")
    assert install_command("redis") == "pip install 'okta-m2m[redis]'"
    written = [path for path in SOURCE.rglob("*.py") if "pip install 'okta-m2m" in path.read_text("utf-8")]
    assert written == [], "use install_command"
