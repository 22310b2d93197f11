"""Reading ``WWW-Authenticate``: every challenge of every header, and never an exception."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from okta_m2m._core.challenges import challenges


def read(*values: str) -> list[tuple[str, dict[str, str]]]:
    return [(challenge.scheme, dict(challenge.parameters)) for challenge in challenges(values)]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], []),
        ([""], []),
        (["Bearer"], [("bearer", {})]),
        (["BEARER"], [("bearer", {})]),
        (['Bearer realm="api"'], [("bearer", {"realm": "api"})]),
        (["Bearer error=invalid_token"], [("bearer", {"error": "invalid_token"})]),
        (['Bearer error = "invalid_token"'], [("bearer", {"error": "invalid_token"})]),
        (['Bearer ERROR="invalid_token"'], [("bearer", {"error": "invalid_token"})]),
        (
            ['Bearer realm="a, b=c", error="invalid_token"'],
            [("bearer", {"realm": "a, b=c", "error": "invalid_token"})],
        ),
        (['Bearer realm="a \\"quoted\\" one\\\\"'], [("bearer", {"realm": 'a "quoted" one\\'})]),
        (['Bearer realm=""'], [("bearer", {"realm": ""})]),
        # The first of two counts: a second one is not a way to change what was said.
        (['Bearer error="insufficient_scope", error="invalid_token"'], [("bearer", {"error": "insufficient_scope"})]),
        # Several in one header, and several headers.
        (["Basic, Bearer"], [("basic", {}), ("bearer", {})]),
        (
            ['Basic realm="x", Bearer error="invalid_token", DPoP algs="ES256 RS256", error="use_dpop_nonce"'],
            [
                ("basic", {"realm": "x"}),
                ("bearer", {"error": "invalid_token"}),
                ("dpop", {"algs": "ES256 RS256", "error": "use_dpop_nonce"}),
            ],
        ),
        (['Basic realm="x"', "Bearer"], [("basic", {"realm": "x"}), ("bearer", {})]),
        (["Negotiate YII=, Bearer realm=x"], [("negotiate", {}), ("bearer", {"realm": "x"})]),
        (["Negotiate a87421000492aa874209af8bc028"], [("negotiate", {})]),
        ([", , Bearer realm=x ,, Basic"], [("bearer", {"realm": "x"}), ("basic", {})]),
        (["Bearer realm=x,error=invalid_token"], [("bearer", {"realm": "x", "error": "invalid_token"})]),
        # As Okta says it.
        (
            ['DPoP algs="RS256 ES256", authorization_uri="http://a/oauth2/v1/authorize", realm="http://a", '
             'scope="okta.users.read", error="invalid_token", error_description="The token has expired.", resource="/x"'],
            [
                (
                    "dpop",
                    {
                        "algs": "RS256 ES256",
                        "authorization_uri": "http://a/oauth2/v1/authorize",
                        "realm": "http://a",
                        "scope": "okta.users.read",
                        "error": "invalid_token",
                        "error_description": "The token has expired.",
                        "resource": "/x",
                    },
                )
            ],
        ),
        # What is no challenge ends the reading, and what came before it stays.
        (['Bearer realm="x", "'], [("bearer", {"realm": "x"})]),
        (["(!)"], []),
        (["="], []),
        (['"Bearer"'], []),
    ],
)  # fmt: skip
def test_the_challenges_in_a_header_are_read(values: list[str], found: Any) -> None:
    assert read(*values) == found


def test_a_challenge_has_its_error_code() -> None:
    (challenge,) = challenges(['Bearer error="invalid_token"'])
    assert challenge.error == "invalid_token"
    (challenge,) = challenges(["Bearer"])
    assert challenge.error is None


def test_quoted_text_is_no_challenge() -> None:
    assert read('Basic realm="Bearer error=invalid_token"') == [("basic", {"realm": "Bearer error=invalid_token"})]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is not at issue
@given(st.lists(st.text(max_size=200), max_size=4))
def test_no_header_raises_an_error(values: list[str]) -> None:
    assert all(scheme for scheme, _ in read(*values))


@pytest.mark.parametrize(
    "flood",
    [
        "Bearer " * 10_000,
        'Bearer realm="' + "\\" * 100_000,
        "Bearer " + "a=b," * 50_000,
        "Bearer " + " " * 100_000,
        "," * 100_000,
        'Bearer realm="' + 'x"' * 50_000,
        "A" * 100_000 + "=",
        "Bearer " + "a " * 50_000,
        "Bearer " + "a" * 100_000,
    ],
)
@pytest.mark.timeout(10)
def test_a_very_long_header_is_read_quickly(flood: str) -> None:
    challenges([flood])
