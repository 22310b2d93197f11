"""The apps that are made for users and for single resources: what they request, what they share, and what they keep."""

from __future__ import annotations

import gc
import json
import pickle
import sys
import threading
import tracemalloc
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any
from weakref import ref

import pytest

from bench import EPOCH, ORG, Bench, assertion, form, names, proof, raised
from okta_m2m import ConfigurationError, PrivateKey, RateLimited, ServiceApp, TokenRefused
from okta_m2m._core.derived_apps import DerivedApps
from okta_m2m._core.grants import FAR_FUTURE, claims_in, expires_at
from okta_m2m.effects import Response, Send
from okta_m2m.errors import (
    AccessDenied,
    InvalidClient,
    InvalidScope,
    SubjectRefused,
    UnauthorizedClient,
    UnexpectedAnswer,
    WrongType,
)
from okta_m2m.events import KeyPassedOver, TokenFailed
from okta_m2m.stores.file import FileStore
from okta_m2m.testing import Replayed
from signers import Stub

pytestmark = pytest.mark.usefixtures("everything_is_reported")

ORDERS = "api://orders"
ISSUER = f"{ORG}/oauth2/aus1"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
ORG_TOKEN = f"{ORG}/oauth2/v1/token"
SERVER_TOKEN = f"{ORG}/oauth2/default/v1/token"


def custom(**arguments: Any) -> Bench:
    return Bench(authorization_server="default", origins=["https://api.example.com"], **arguments)


def jwt(**claims: Any) -> str:
    """A token with these claims, which is not signed."""
    header, payload = (urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims))
    return f"{header}.{payload}.c2ln"


def user(name: str, **claims: Any) -> str:
    return jwt(**{"sub": name, "scp": ["orders"], "cid": "0oaclient", **claims})


def jag(bench: Bench, value: str = "jag-1", token_type: str = "N_A", **changes: Any) -> Response:
    return bench.token(issued_token_type=ID_JAG, access_token=value, token_type=token_type, expires_in=300, **changes)


def obtain(bench: Bench, app: ServiceApp, *answers: object) -> Replayed[Any]:
    return bench.replay(app.obtain(), *answers)


def sent(replayed: Replayed[Any]) -> list[tuple[str, dict[str, str]]]:
    """The requests: where each went, and its form without the client assertion."""
    requests = []
    for effect in replayed.of(Send):
        assert assertion(effect)["aud"] == effect.request.url
        about_client = {"client_assertion", "client_assertion_type"}
        requests.append(
            (effect.request.url, {name: value for name, value in form(effect).items() if name not in about_client})
        )
    return requests


# ── what is requested ────────────────────────────────────────────────────────────────────────────────────────────────


def test_on_behalf_of_exchanges_the_users_token_at_the_apps_own_server() -> None:
    bench = custom()
    app = bench.app.on_behalf_of(user("ann"), audience=ORDERS, scopes=["orders.read", "orders.write"])
    replayed = obtain(bench, app, bench.token(scope="orders.read orders.write", issued_token_type=ACCESS_TOKEN))
    assert sent(replayed) == [
        (
            SERVER_TOKEN,
            {
                "grant_type": TOKEN_EXCHANGE,
                "subject_token": user("ann"),
                "subject_token_type": ACCESS_TOKEN,
                "audience": ORDERS,
                "scope": "orders.read orders.write",
            },
        )
    ]
    assert replayed.result().value == "token-1"
    assert app.scopes == ("orders.read", "orders.write")
    assert names(obtain(bench, app)) == [], "the token is kept"


@pytest.mark.parametrize("token_type", ["N_A", "Bearer"])
@pytest.mark.parametrize(
    ("subject", "kind"), [(jwt(sub="ann", aud="0oa1"), ID_TOKEN), (user("ann"), ACCESS_TOKEN), ("opaque", ACCESS_TOKEN)]
)
def test_cross_app_access_takes_two_requests(token_type: str, subject: str, kind: str) -> None:
    bench = Bench(dpop=True)
    app = bench.app.cross_app(subject, issuer=ISSUER, scopes=["chat.read"], resource="https://chat.example.com")
    replayed = obtain(
        bench,
        app,
        jag(bench, token_type=token_type, scope="chat.read"),
        bench.token(scope="chat.read", token_type="DPoP"),
    )
    assert sent(replayed) == [
        (
            ORG_TOKEN,
            {
                "grant_type": TOKEN_EXCHANGE,
                "requested_token_type": ID_JAG,
                "subject_token": subject,
                "subject_token_type": kind,
                "audience": ISSUER,
                "resource": "https://chat.example.com",
                "scope": "chat.read",
            },
        ),
        (f"{ISSUER}/v1/token", {"grant_type": JWT_BEARER, "assertion": "jag-1"}),
    ]
    assert [proof(effect)["htu"] for effect in replayed.of(Send)] == [ORG_TOKEN, f"{ISSUER}/v1/token"]
    assert replayed.result().dpop_bound
    event = bench.events[0]
    assert event.attempts == 2


def test_an_id_jag_is_requested_alone() -> None:
    bench = Bench(dpop="required")
    flow = bench.app._derived_apps().id_jag(jwt(sub="ann"), "https://idp.example.com", None, ["chat.read"])
    replayed = bench.replay(flow, jag(bench))
    assert replayed.result() == "jag-1"
    (url, parameters) = sent(replayed)[0]
    assert url == ORG_TOKEN
    assert parameters["audience"] == "https://idp.example.com"
    assert "resource" not in parameters
    assert bench.app.token_state.token is None


def test_what_is_no_id_jag_is_not_used_as_one() -> None:
    bench = Bench()
    app = bench.app.cross_app(jwt(sub="ann"), issuer=ISSUER)
    answers = [bench.token(issued_token_type=ACCESS_TOKEN) for _ in range(6)]
    obtained = obtain(bench, app, *answers)
    assert [url for url, _ in sent(obtained)] == [ORG_TOKEN] * 6
    raised(obtained, UnexpectedAnswer)


def test_a_resource_is_requested_with_the_apps_own_grant() -> None:
    bench = custom(resource="https://api.example.com/one")
    other = bench.app.for_resource("https://api.example.com/two")
    for app, resource in [(bench.app, "https://api.example.com/one"), (other, "https://api.example.com/two")]:
        replayed = obtain(bench, app, bench.token())
        expected = {"grant_type": "client_credentials", "scope": "okta.users.read", "resource": resource}
        assert sent(replayed) == [(SERVER_TOKEN, expected)]
    assert other is bench.app.for_resource("https://api.example.com/two")
    assert bench.app.token_state.token != other.token_state.token


def test_apps_for_different_resources_share_no_stored_token(tmp_path: Any) -> None:
    apps = [
        custom(key=PrivateKey.generate("ES256"), store=FileStore(tmp_path), resource=resource).app
        for resource in (None, "https://api.example.com/one")
    ]
    apps.append(apps[0].for_resource("https://api.example.com/one"))
    fleets = [app.fleet for app in apps]
    identities = [fleet._identity for fleet in fleets if fleet is not None]
    assert identities[0] != identities[1] == identities[2]


def test_a_users_app_has_no_store(tmp_path: Any) -> None:
    app = custom(key=PrivateKey.generate("ES256"), store=FileStore(tmp_path)).app
    assert app.fleet is not None
    assert app.on_behalf_of(user("ann"), audience=ORDERS).fleet is None


# ── which app ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_user_has_an_app_of_their_own() -> None:
    bench = custom()
    made: dict[tuple[Any, ...], ServiceApp] = {}
    for _ in range(2):
        for name in ("ann", "bob"):
            for audience in (ORDERS, "api://stock"):
                for scopes in ((), ("orders.read",)):
                    app = bench.app.on_behalf_of(user(name), audience=audience, scopes=list(scopes))
                    assert made.setdefault((name, audience, scopes), app) is app
            for resource in (None, "https://api.example.com"):
                app = bench.app.cross_app(user(name), issuer=ISSUER, scopes=("orders.read",), resource=resource)
                assert made.setdefault((name, resource), app) is app
    assert len({id(app) for app in made.values()}) == 12
    tokens = [obtain(bench, app, *answers(bench, app)).result().value for app in made.values()]
    assert len(set(tokens)) == 12


def answers(bench: Bench, app: ServiceApp) -> Iterator[Response]:
    if app.token_endpoint != SERVER_TOKEN:
        yield jag(bench)
    yield bench.token()


def test_the_app_used_least_recently_is_dropped_and_continues_to_work() -> None:
    bench = custom(max_subjects=2)
    ann = bench.app.on_behalf_of(user("ann"), audience=ORDERS)
    flow = ann.obtain()
    next(flow)  # its fetch begins
    bob = bench.app.on_behalf_of(user("bob"), audience=ORDERS)
    assert bench.app.on_behalf_of(user("ann"), audience=ORDERS) is ann
    bench.app.on_behalf_of(user("eve"), audience=ORDERS)
    assert bench.app.on_behalf_of(user("ann"), audience=ORDERS) is ann
    assert bench.app.on_behalf_of(user("bob"), audience=ORDERS) is not bob
    assert obtain(bench, bob, bench.token()).result().value == "token-1"
    bench.app.close()
    assert bob.token_state.is_closed, "it is closed with the others"
    flow.close()


def test_a_dropped_app_that_nobody_uses_is_freed() -> None:
    bench = custom(max_subjects=1)
    freed = ref(bench.app.on_behalf_of(user("ann"), audience=ORDERS))
    bench.app.on_behalf_of(user("bob"), audience=ORDERS)
    assert freed() is None, "without the garbage collector"


def test_threads_that_ask_for_the_same_user_at_once_get_the_same_app() -> None:
    app = custom(max_subjects=4).app
    together = threading.Barrier(8)
    got: list[dict[int, set[int]]] = []
    kept: list[ServiceApp] = []

    def caller() -> None:
        mine: dict[int, set[int]] = {}
        together.wait(30)
        for turn in range(200):
            number = turn % 3
            made = app.on_behalf_of(f"user-{number}", audience=ORDERS)
            kept.append(made)
            mine.setdefault(number, set()).add(id(made))
        got.append(mine)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=caller) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(before)
    assert len(got) == 8
    assert {len(set().union(*(mine[number] for mine in got))) for number in range(3)} == {1}


def test_an_app_that_is_closed_by_itself_is_made_again() -> None:
    bench = custom()
    with bench.app.on_behalf_of(user("ann"), audience=ORDERS) as closed:
        pass
    again = bench.app.on_behalf_of(user("ann"), audience=ORDERS)
    assert again is not closed
    assert again is bench.app.on_behalf_of(user("ann"), audience=ORDERS)
    assert not bench.app.token_state.is_closed


def test_closing_the_app_closes_all_apps_that_were_made_from_it() -> None:
    bench = custom()
    apps = [bench.app.on_behalf_of(user(str(number)), audience=ORDERS) for number in range(100)]
    apps.append(bench.app.for_resource("https://api.example.com"))
    obtain(bench, apps[0], bench.token())
    bench.app.close()
    for app in apps:
        assert "is closed" in str(raised(obtain(bench, app), ConfigurationError))
    assert apps[0].token_state.token is None
    with pytest.raises(ConfigurationError, match="is closed"):
        bench.app.on_behalf_of(user("new"), audience=ORDERS)
    closing = bench.app._derived_apps().id_jag(user("new"), ISSUER, None, [])
    raised(bench.replay(closing), ConfigurationError)


def test_an_app_for_a_user_makes_no_other_apps() -> None:
    ann = custom().app.on_behalf_of(user("ann"), audience=ORDERS)
    with pytest.raises(ConfigurationError, match="for one user or one resource"):
        ann.on_behalf_of(user("bob"), audience=ORDERS)


# ── what is shared ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_refused_subject_delays_no_other_and_a_rate_limit_holds_for_all() -> None:
    bench = custom()
    ann, bob, eve = (bench.app.on_behalf_of(user(name), audience=ORDERS) for name in ("ann", "bob", "eve"))
    refusal = bench.error(400, "invalid_grant", "Invalid grant")
    raised(obtain(bench, ann, refusal), SubjectRefused)
    again = raised(obtain(bench, ann), SubjectRefused)
    assert 0 < again.retry_after <= 1
    assert bench.slept == []
    assert obtain(bench, bob, bench.token()).result().value == "token-1"
    assert bench.slept == []
    limited = obtain(bench, eve, bench.limited(reset=60))
    assert names(limited) == ["Send"]
    raised(limited, RateLimited)
    for app in (bench.app, bench.app.on_behalf_of(user("new"), audience=ORDERS)):
        limited = obtain(bench, app)
        assert names(limited) == []
        raised(limited, RateLimited)
    assert {event.error for event in bench.events if isinstance(event, TokenFailed)} >= {"invalid_grant"}


def test_the_server_of_cross_app_access_is_shared_by_all_users() -> None:
    bench = Bench()
    ann, bob = (bench.app.cross_app(jwt(sub=name), issuer=ISSUER) for name in ("ann", "bob"))
    raised(obtain(bench, ann, jag(bench), bench.limited(reset=60)), RateLimited)
    assert names(obtain(bench, bob)) == [], "not even an ID-JAG, which could not be used in time"
    assert obtain(bench, bench.app, bench.token()).result().value == "token-2"


def test_the_key_that_okta_accepts_is_tried_first_for_each_user_and_at_both_endpoints() -> None:
    bench = Bench(key=[Stub("old"), Stub("new")])
    ann, bob = (bench.app.cross_app(jwt(sub=name), issuer=ISSUER) for name in ("ann", "bob"))
    refusal = bench.error(401, "invalid_client", "The client_assertion JWT kid is invalid.")
    assert names(obtain(bench, ann, refusal, jag(bench), bench.token())) == ["Send"] * 3
    assert names(obtain(bench, bob, jag(bench), bench.token())) == ["Send"] * 2
    assert sum(isinstance(event, KeyPassedOver) for event in bench.events) == 1


def test_all_users_share_one_dpop_key_and_the_nonces_of_apis() -> None:
    bench = custom(dpop=True)
    ann, bob = (bench.app.on_behalf_of(user(name), audience=ORDERS) for name in ("ann", "bob"))
    for app in (ann, bob):
        assert obtain(bench, app, bench.token(token_type="DPoP")).result().dpop_bound
    keys = {json.dumps(dict(app._engine.bindings.proofs().signer.public_jwk)) for app in (ann, bob, bench.app)}
    assert len(keys) == 1
    ann._engine.bindings.nonces.learn("https://api.example.com", "nonce-1")
    made = bob.ready("GET", "https://api.example.com/orders")
    assert made is not None
    assert made.proof is not None
    assert '"nonce":"nonce-1"' in json.dumps(claims_in(made.proof), separators=(",", ":"))


def test_a_users_key_stays_while_the_app_forgets_its_own() -> None:
    """A Bearer token lets the app forget the DPoP key that it offered. A request of a user may be under way with it."""
    bench = custom(dpop=True)
    ann = bench.app.on_behalf_of(user("ann"), audience=ORDERS)
    offered = ann._engine.bindings.proofs()
    assert not obtain(bench, bench.app, bench.token()).result().dpop_bound
    assert bench.app._engine.bindings.proofs() is not offered
    assert ann._engine.bindings.proofs() is offered


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SUBJECT_INVALID = "'subject_token' is invalid"
REFUSALS: list[tuple[int, str, str, type[TokenRefused], str]] = [
    (
        400,
        "invalid_grant",
        "The 'subject_token' either expired or the session associated with it was terminated.",
        SubjectRefused,
        "sign in again",
    ),
    (400, "invalid_request", f"{SUBJECT_INVALID}.", SubjectRefused, "Pass the access token"),
    (
        400,
        "invalid_request",
        f"{SUBJECT_INVALID}: no delegation policy authorizes this token.",
        SubjectRefused,
        "delegation link",
    ),
    (400, "invalid_request", f"{SUBJECT_INVALID}: the user account is not active.", SubjectRefused, "access token"),
    (
        400,
        "invalid_request",
        "'subject_token_type' is invalid or not supported.",
        SubjectRefused,
        "an ID token is accepted only",
    ),
    (
        400,
        "invalid_target",
        "Token Exchange requests must include a valid audience of the authorization server.",
        SubjectRefused,
        "audience",
    ),
    (400, "consent_required", "The following scopes require user consent: [orders].", SubjectRefused, "TRUSTED"),
    (401, "insufficient_user_authentication", "", SubjectRefused, "stronger authentication"),
    (
        403,
        "access_denied",
        "The 'subject_token' issuer isn't a trusted authorization server.",
        SubjectRefused,
        "trusted servers",
    ),
    (400, "access_denied", "User is not assigned to the client application.", SubjectRefused, "Assign the user"),
    (401, "access_denied", "Policy evaluation failed for this request.", AccessDenied, "access policies"),
    (400, "unauthorized_client", "", UnauthorizedClient, "Token Exchange"),
    (400, "invalid_scope", "", InvalidScope, "spelling"),
    (401, "invalid_client", "", InvalidClient, "client id"),
    (400, "invalid_request", "The client_assertion_type is invalid.", TokenRefused, "proxy"),
]


@pytest.mark.parametrize(("status", "code", "description", "kind", "remedy"), REFUSALS)
def test_a_refusal_says_whether_it_concerns_the_user_and_what_to_do(
    status: int, code: str, description: str, kind: type[TokenRefused], remedy: str
) -> None:
    bench = custom()
    app = bench.app.on_behalf_of(user("ann"), audience=ORDERS)
    error = raised(obtain(bench, app, bench.error(status, code, description)), kind)
    assert error.error == code
    assert remedy in (error.remedy or "")


def test_a_code_of_a_subject_is_none_for_the_apps_own_token() -> None:
    bench = custom()
    raised(obtain(bench, bench.app, bench.error(400, "invalid_grant")), TokenRefused)


def test_a_refused_jag_is_replaced_once() -> None:
    bench = Bench()
    app = bench.app.cross_app(jwt(sub="ann"), issuer=ISSUER)
    refusal = bench.error(400, "invalid_grant", "The id-jag is expired.")
    replayed = obtain(bench, app, jag(bench, "one"), refusal, jag(bench, "two"), bench.token())
    assert [parameters.get("assertion") for _, parameters in sent(replayed)] == [None, "one", None, "two"]
    assert replayed.result().value == "token-3"
    assert bench.slept == []
    bob = bench.app.cross_app(jwt(sub="bob"), issuer=ISSUER)
    replayed = obtain(bench, bob, jag(bench), refusal, jag(bench), refusal)
    assert raised(replayed, SubjectRefused).error == "invalid_grant"


def test_a_jag_is_sent_again_after_a_nonce_or_a_passing_failure() -> None:
    bench = Bench(dpop=True)
    app = bench.app.cross_app(jwt(sub="ann"), issuer=ISSUER)
    nonce = bench.error(400, "use_dpop_nonce", dpop_nonce="n1")
    replayed = obtain(bench, app, jag(bench, "one"), nonce, bench.answer(503), bench.token())
    assert [parameters.get("assertion") for _, parameters in sent(replayed)] == [None, "one", "one", "one"]
    replayed.result()


def test_a_refused_subject_of_the_first_request_ends_both() -> None:
    bench = Bench()
    app = bench.app.cross_app(jwt(sub="ann"), issuer=ISSUER)
    raised(obtain(bench, app, bench.error(400, "invalid_grant", "Invalid grant")), SubjectRefused)


# ── renewal ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", ["on_behalf_of", "cross_app"])
def test_no_token_is_renewed_after_its_subject_has_expired(make: str) -> None:
    bench = custom()
    subject = user("ann", exp=EPOCH + bench.time + 600)
    if make == "on_behalf_of":
        app = bench.app.on_behalf_of(subject, audience=ORDERS)
    else:
        app = bench.app.cross_app(subject, issuer=ISSUER)
    token = obtain(bench, app, *answers(bench, app)).result()
    bench.time += 599
    assert names(obtain(bench, app)) == []
    bench.time += 0.83 * 3600 - 599
    assert names(obtain(bench, app)) == [], "the subject has ended, so nothing is renewed"
    assert app.token_state.fresh_until == token.usable_until
    bench.time = token.usable_until + 1
    refused = obtain(bench, app, bench.error(400, "invalid_grant", "Invalid grant"))
    assert names(refused) == ["Send"], "Okta decides whether it has"
    raised(refused, SubjectRefused)


@pytest.mark.parametrize("exp", [None, True, "soon", float("nan"), {}, 10**400, 1e300])
def test_a_subject_that_says_nothing_about_its_end_is_renewed(exp: Any) -> None:
    bench = custom()
    app = bench.app.on_behalf_of(user("ann", exp=exp) if exp is not None else "opaque", audience=ORDERS)
    if exp is True:
        return  # True is 1, which is long ago: a hint, and no error
    obtain(bench, app, bench.token()).result()
    bench.time += 0.83 * 3600
    assert names(obtain(bench, app)) == ["Spawn"]


def test_a_token_that_nobody_uses_is_not_renewed() -> None:
    """A renewal begins with a call, so a user who has left costs no request."""
    bench = custom()
    apps = [bench.app.on_behalf_of(user(name), audience=ORDERS) for name in ("ann", "bob")]
    for app in apps:
        obtain(bench, app, bench.token()).result()
    bench.time += 0.83 * 3600
    assert names(obtain(bench, apps[0])) == ["Spawn"]
    assert len(bench.spawned) == 1


def test_after_a_refused_renewal_the_token_is_used_until_it_expires() -> None:
    bench = custom()
    app = bench.app.on_behalf_of(user("ann"), audience=ORDERS)
    token = obtain(bench, app, bench.token()).result()
    bench.time += 0.83 * 3600
    obtain(bench, app)
    (renewal,) = bench.spawned
    bench.replay(renewal.flow, bench.error(400, "invalid_grant", "Invalid grant"))
    bench.time = token.usable_until - 1
    assert names(obtain(bench, app)) == []
    assert len(bench.spawned) == 1, "no other renewal"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        "a.b",
        "a.b.c",
        "a.%%%.c",
        "a.e30.c",
        "a..c",
        "a.W10.c",
        "a.\u00e9.c",
        "." * 100,
        "a." + "W1" * 4000 + ".c",
    ],
)
def test_any_string_can_be_read_for_claims(token: str) -> None:
    assert claims_in(token) == {}


@pytest.mark.parametrize(("exp", "at"), [(5, 5.0), (-1, 0.0), (1e300, FAR_FUTURE), (10**400, FAR_FUTURE)])
def test_an_expiry_is_bounded(exp: Any, at: float) -> None:
    assert expires_at({"exp": exp}) == at


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────

BAD: list[tuple[Callable[[ServiceApp], object], type[Exception], str]] = [
    (lambda app: app.on_behalf_of("", audience=ORDERS), SubjectRefused, "is empty"),
    (lambda app: app.on_behalf_of("Bearer secret-token", audience=ORDERS), SubjectRefused, "without the word Bearer"),
    (lambda app: app.on_behalf_of("\ud800secret-token", audience=ORDERS), SubjectRefused, "characters"),
    (lambda app: app.on_behalf_of("x" * 20_000, audience=ORDERS), SubjectRefused, "20000 characters"),
    (lambda app: app.on_behalf_of(b"secret-token", audience=ORDERS), WrongType, "type bytes"),  # type: ignore[arg-type]
    (lambda app: app.on_behalf_of(None, audience=ORDERS), WrongType, "NoneType"),  # type: ignore[arg-type]
    (lambda app: app.on_behalf_of("secret-token", audience=""), ConfigurationError, "audience is empty"),
    (lambda app: app.on_behalf_of("secret-token", audience=["a"]), ConfigurationError, "audience"),  # type: ignore[arg-type]
    (lambda app: app.on_behalf_of("secret-token", audience=ORDERS, scopes="a b"), ConfigurationError, "not a string"),
    (lambda app: app.on_behalf_of("secret-token", audience=ORDERS, scopes=3), ConfigurationError, "must be a list"),  # type: ignore[arg-type]
    (lambda app: app.on_behalf_of("secret-token", audience=ORDERS, scopes=["a b"]), ConfigurationError, "single scope"),
    (lambda app: app.on_behalf_of("secret-token", audience=ORDERS, scopes=[[]]), ConfigurationError, "single scope"),  # type: ignore[list-item]
    (lambda app: app.cross_app("", issuer=ISSUER), SubjectRefused, "is empty"),
    (lambda app: app.cross_app("secret-token", issuer=ORG), ConfigurationError, "custom authorization server"),
    (lambda app: app.cross_app("secret-token", issuer=f"{ISSUER}/"), ConfigurationError, "id_jag"),
    (lambda app: app.cross_app("secret-token", issuer="https://evil.example/oauth2/a"), ConfigurationError, "this org"),
    (lambda app: app.cross_app("secret-token", issuer=None), ConfigurationError, "this org"),  # type: ignore[arg-type]
    (lambda app: app.cross_app("secret-token", issuer=ISSUER, resource="chat"), ConfigurationError, "absolute URL"),
    (lambda app: app.for_resource("https://api.example.com/#x"), ConfigurationError, "without a fragment"),
    (lambda app: app.for_resource(5), ConfigurationError, "absolute URL"),  # type: ignore[arg-type]
    (lambda app: app.id_jag("secret-token", audience=ISSUER), ConfigurationError, "okta_m2m.httpx.OktaAuth"),
]


@pytest.mark.parametrize(("call", "kind", "words"), BAD, ids=[words for *_, words in BAD])
def test_bad_input_is_one_clear_error(call: Callable[[ServiceApp], object], kind: type[Exception], words: str) -> None:
    bench = custom()
    with pytest.raises(kind, match=words) as caught:
        call(bench.app)
    assert "secret-token" not in str(caught.value)
    frame = caught.value.__traceback__
    while frame is not None:
        if "okta_m2m" in frame.tb_frame.f_code.co_filename:
            assert "secret-token" not in repr(frame.tb_frame.f_locals)
        frame = frame.tb_next
    assert bench.app._derived is None or not bench.app._derived._apps


def test_on_behalf_of_needs_a_custom_authorization_server() -> None:
    with pytest.raises(ConfigurationError, match="needs a custom authorization server"):
        Bench().app.on_behalf_of(user("ann"), audience=ORDERS)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "many"])
def test_the_number_of_subjects_must_be_a_count(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_subjects"):
        custom(max_subjects=limit)


# ── secrets and memory ───────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_that_can_be_shown_has_the_subject() -> None:
    bench = custom()
    subject = user("ann")
    app = bench.app.on_behalf_of(subject, audience=ORDERS)
    exchange = app._engine.grant
    bearer = bench.app.cross_app(subject, issuer=ISSUER)._engine.grant
    error = raised(obtain(bench, app, bench.error(400, "invalid_request", f"{subject} is bad")), TokenRefused)
    shown = [app, exchange, bearer, vars(error), bench.events, [*bench.app._derived_apps()._apps]]
    assert not any(subject in repr(one) or subject.split(".")[1] in repr(one) for one in shown)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(app)


def held(number: int) -> int:
    """The bytes that so many apps of users take, which have no token yet."""
    app = custom().app
    app.on_behalf_of("first", audience=ORDERS)
    gc.collect()
    tracemalloc.start()
    for index in range(number):
        app.on_behalf_of(f"{index:01000d}", audience=ORDERS)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(app._derived, DerivedApps)
    return size


def test_a_users_app_takes_two_kilobytes_and_their_token() -> None:
    assert held(200) / 200 < 2000 + 1050


@pytest.mark.matrix
@pytest.mark.timeout(900)
def test_a_million_users_take_no_more_memory_than_those_that_are_kept() -> None:
    app = custom(max_subjects=1000).app
    sizes = []
    for turn in range(10):
        for number in range(100_000):
            app.on_behalf_of(f"user-{turn}-{number}", audience=ORDERS)
        gc.collect()
        sizes.append(len(gc.get_objects()))
    assert len(app._derived_apps()._apps) == 1000
    assert len(app._derived_apps()._dropped) == 0
    assert max(sizes[1:]) - min(sizes[1:]) < 1000
