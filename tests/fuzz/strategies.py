"""Valid inputs for the targets of ``targets.py``, with some of their values replaced by others that a parser must survive.

Random text is hardly ever JSON, a date or YAML, so a parser rejects it in its first line. These inputs reach the later ones.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from targets import KEY, RECORD

__all__ = ["VALID"]

BIG = 10**400  # more than a float holds
SPECIAL = st.sampled_from([0, -1, 86_401, BIG, -BIG, 1e-320, float("nan"), float("inf"), float("-inf")])
NUMBERS = st.one_of(st.integers(), st.integers(-10, 100_000), st.floats(), SPECIAL)
WORDS = st.text(max_size=12)
SCALARS = st.one_of(
    NUMBERS, NUMBERS.map(str), WORDS, st.booleans(), st.none(), st.sampled_from(["²", "1_0", " 7 ", "1e999", "NaN", ""])
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)
DEEP = st.sampled_from(["[", '{"a":']).map(lambda bracket: bracket * 2000)


def changed(whole: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The object, with up to two members changed, and some omitted."""

    @st.composite
    def change(draw: st.DrawFn) -> dict[str, Any]:
        made = dict(whole)
        for name in draw(st.lists(st.sampled_from(list(whole)), max_size=2)):
            made[name] = draw(SPECIAL | SCALARS | ANYTHING)
        for name in draw(st.sets(st.sampled_from(list(whole)), max_size=1)):
            if draw(st.integers(0, 3)) == 0:
                del made[name]
        return made

    return change()


TOKEN = st.fixed_dictionaries(
    {
        "access_token": st.sampled_from(["eyJ.a.b", "a", "two words", "é", "a\nb"]) | ANYTHING,
        "token_type": st.sampled_from(["Bearer", "bearer", "DPoP", "dpop", "MAC"]) | ANYTHING,
        "expires_in": NUMBERS | NUMBERS.map(str) | ANYTHING,
    },
    optional={"scope": st.just("okta.users.read") | ANYTHING},
)
ERROR = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["error", "errorCode", "error_description", "errorSummary"], WORDS | ANYTHING)
)
JSON = (TOKEN | ERROR).map(json.dumps)

DAYS = st.sampled_from(["Sun, ", "Sunday, ", "Sun ", "", ", ", "Sun,, "])
MONTHS = st.sampled_from(["Jan", "Feb", "Nov", "nov", "13", "Nov,"])
ZONES = st.sampled_from([" GMT", " -0000", " +9999", " UTC", "", " +0100", " -99999999999"])


@st.composite
def dates(draw: st.DrawFn) -> str:
    day, year = draw(st.integers(0, 32)), draw(st.sampled_from([1, 94, 1969, 1994, 2026, 9999, 10_000]))
    clock = ":".join(f"{draw(st.integers(0, 61)):02}" for _ in range(draw(st.sampled_from([3, 3, 3, 2, 1]))))
    return f"{draw(DAYS)}{day:02} {draw(MONTHS)} {year} {clock}{draw(ZONES)}"


WHOLE_NUMBERS = st.integers(0, 2_000_000_000).map(str) | SCALARS.map(str)
RATE_LIMITS = st.tuples(
    dates(),
    WHOLE_NUMBERS | dates() | st.just(""),
    st.lists(WHOLE_NUMBERS, max_size=3).map(", ".join),
    st.sampled_from(["600", "0", " 0 ", "", "-1"]),
).map(lambda lines: "\n".join(line.replace("\n", " ") for line in lines))

NAMES = st.sampled_from(["realm", "error", "ERROR", "algs", "scope", "error_description"])
VALUES = st.sampled_from(["invalid_token", '"invalid_token"', '"a\\"b"', '"use_dpop_nonce"', '"RS256 ES256"', '"', ""])
PARAMETERS = st.lists(st.tuples(NAMES, st.sampled_from(["=", " = "]), VALUES).map("".join), max_size=3).map(", ".join)
CHALLENGES = st.lists(
    st.tuples(st.sampled_from(["Bearer ", "DPoP ", "Basic ", "Negotiate YTpi== ", "Bearer"]), PARAMETERS).map("".join),
    max_size=3,
).map(", ".join)

JWK = dict(KEY.private_jwk())
JWK_MEMBERS = st.sampled_from(["use", "key_ops", "kid", "alg", "kty", "crv", "d", "x", "y", "n", "e", "p", "q"])
JWK_VALUES = st.one_of(
    ANYTHING,
    st.sampled_from(
        ["sig", "enc", "RSA", "EC", "OKP", "oct", "P-256", "P-384", "AQAB", "A" * 43, "A" * 342, "A" * 5000, "!"]
    ),
    st.just(["sign"]),
)


@st.composite
def jwks(draw: st.DrawFn) -> dict[str, Any]:
    made = {**JWK, **draw(st.dictionaries(JWK_MEMBERS, JWK_VALUES, max_size=2))}
    if draw(st.integers(0, 9)) == 0:
        made |= {"kty": "RSA", "n": "A" * 4 + "_" * 340, "e": "AQAB"}
    for name in draw(st.sets(st.sampled_from(list(JWK)), max_size=1)):
        made[name] = draw(st.sampled_from(["A" * 43, "_" * 43, "AQAB", JWK[name]]))
    for name in draw(st.sets(st.sampled_from(list(JWK)), max_size=1)):
        if draw(st.booleans()):
            del made[name]
    return made


NO_KID = {name: value for name, value in JWK.items() if name != "kid"}
KINDS = st.sampled_from(
    [
        {**JWK, "kty": "OKP"},
        {**JWK, "kty": "oct"},
        {name: value for name, value in JWK.items() if name != "d"},
        {**JWK, "d": "A" * 5000},
        {**JWK, "d": "A" * 43},
        {**JWK, "d": "!"},
        {**JWK, "x": 1},
        {**JWK, "use": "enc"},
        {**JWK, "key_ops": ["verify"]},
        {"keys": [NO_KID]},
        [JWK],
    ]
)
KEYS = st.one_of(
    jwks().map(json.dumps),
    KINDS.map(json.dumps),
    KINDS.map(json.dumps),
    st.fixed_dictionaries({"keys": st.lists(jwks() | st.just({"kid": "kid-1"}), max_size=3) | ANYTHING}).map(
        json.dumps
    ),
    DEEP,
)

RENEWALS = st.dictionaries(WORDS, NUMBERS | ANYTHING, max_size=2)
RECORDS = st.builds(
    lambda record, more: json.dumps({**record, **more}),
    changed(RECORD),
    st.fixed_dictionaries(
        {},
        optional={
            "dpop_key": jwks() | ANYTHING,
            "dpop_nonce": ANYTHING,
            "sent_at": SPECIAL,
            "forced": st.dictionaries(st.just("https://acme.okta.com") | WORDS, RENEWALS | ANYTHING, max_size=2)
            | ANYTHING,
        },
    ),
)

ODD_YAML = ["2001-99-99", "2001-01-01", "0x", "0x1F", "1e5", ".inf", "~", "yes", "*a", "&a x", "!!int x", "|\n  x", "'"]
YAML_SCALARS = st.sampled_from(ODD_YAML) | st.sampled_from(["https://acme.okta.com", "0oa1"]) | SCALARS.map(json.dumps)
YAML = st.recursive(
    YAML_SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.dictionaries(st.sampled_from(["okta", "client", "orgUrl", "<<", "? a"]), inner, max_size=3).map(
            lambda members: "{" + ", ".join(f"{name}: {value}" for name, value in members.items()) + "}"
        ),
    ),
    max_leaves=8,
)
LINES = st.lists(
    st.tuples(st.sampled_from(["orgUrl", "clientId", "scopes", "kid"]), YAML_SCALARS | YAML),
    max_size=3,
)
DOCUMENTS = st.one_of(
    LINES.map(lambda lines: "okta:\n  client:\n" + "".join(f"    {name}: {value}\n" for name, value in lines)),
    YAML,
    st.integers(1, 200).map(lambda depth: "[" * depth + "]" * depth),
)

VALID: dict[str, st.SearchStrategy[str]] = {
    "www-authenticate": st.lists(CHALLENGES, max_size=2).map("\n".join),
    "dates-and-rate-limits": RATE_LIMITS,
    "token-answers": JSON | DEEP,
    "keys": KEYS,
    "okta-yaml": DOCUMENTS,
    "sealed-records": RECORDS,
}
