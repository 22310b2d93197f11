"""No token, assertion, proof or key is shown by anything; and the plugin that watches the whole run for that does bite."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import okta_m2m.aiohttp
import okta_m2m.httpx
import okta_m2m.requests
from front import Exchange, Front
from leaks import watch
from okta_m2m import OktaM2MError, PrivateKey, ServiceApp, Token
from okta_m2m.admin.errors import ProvisioningError
from okta_m2m.admin.management import ApiToken, ManagementApi
from okta_m2m.effects import Attempt, Flow, Request, Response, Save, Send, Sign, Wait
from okta_m2m.testing import FakeOkta, replay
from promises import in_matrix

SUPPORT = Path(__file__).parents[1] / "support"

PRELUDE = """
import logging
import sys
import warnings
from urllib.parse import parse_qs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from okta_m2m.events import OriginPassedOver
from okta_m2m import OktaM2MError, PrivateKey, ServiceApp, TokenRefused
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import FakeOkta

@pytest.fixture
def okta():
    with FakeOkta() as running:
        yield running

@pytest.fixture
def key():
    return PrivateKey.generate("ES256")

@pytest.fixture
def auth(okta, key):
    app = okta.add_app(key, ["okta.users.read"], dpop_bound=True)
    return OktaAuth(ServiceApp(okta.url, client_id=app.client_id, key=key, scopes=["okta.users.read"]))
"""

CLEAN = """
def test_clean(okta, auth):
    auth.token()
    auth.headers("GET", okta.url + "/api/v1/users")
    logging.getLogger("somebody.else").debug("all is well")
    okta.next("invalid_scope")
    with pytest.raises(TokenRefused):
        OktaAuth(ServiceApp(okta.url, client_id=auth.app.client_id, key=PrivateKey.generate("ES256"),
                            scopes=["okta.users.read"])).token()
"""

PLANTED = """
def test_a_token_in_a_record(auth):
    logging.getLogger("somebody.else").debug("token %s", auth.token().value)

def test_a_token_in_the_arguments_of_a_record(auth):
    logging.getLogger("somebody.else").debug("token %.5s", auth.token().value)

def test_a_part_of_a_token(auth):
    logging.getLogger("somebody.else").debug("it ends with %s", auth.token().value[-60:])

def test_headers(okta, auth):
    logging.getLogger("okta_m2m").debug("sending %s", auth.headers("GET", okta.url + "/api/v1/users")["Authorization"])

def test_an_errors_message(auth):
    with pytest.raises(OktaM2MError):
        raise OktaM2MError(f"This one is not good: {auth.token().value}")

def test_a_traceback(auth):
    try:
        raise ValueError(auth.token().value)
    except ValueError:
        logging.getLogger("somebody.else").exception("oh")

def test_an_assertion(okta, auth):
    auth.token()
    (received,) = parse_qs(okta.requests[-1].body.decode())["client_assertion"]
    logging.getLogger("somebody.else").info(received)

def test_a_proof(okta, auth):
    auth.token()
    logging.getLogger("somebody.else").info(okta.requests[-1].header("dpop"))

@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "RS256"])
def test_a_key(alg):
    logging.getLogger("somebody.else").info(PrivateKey.generate(alg).private_jwk())

@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_pem(kind, form):
    native = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    PrivateKey(native)
    pem = native.private_bytes(Encoding.PEM, getattr(PrivateFormat, form), NoEncryption())
    logging.getLogger("somebody.else").info(pem.decode())

def test_a_number_of_a_key():
    native = ec.generate_private_key(ec.SECP256R1())
    PrivateKey(native)
    logging.getLogger("somebody.else").info(native.private_numbers().private_value)

def test_an_event(auth):
    auth.app._engine.reports.origin_passed_over(auth.token().value)

def test_standard_error(auth):
    print(auth.token().value, file=sys.stderr)

@pytest.fixture
def late():
    texts = []
    yield texts
    logging.getLogger("somebody.else").info(texts[0])

def test_a_fixture_that_ends(auth, late):
    late.append(auth.token().value)

def test_zz_a_warning_which_pytest_reports_when_the_test_is_over(auth):
    warnings.warn(auth.token().value)
"""


def run_with_the_plugin(tmp_path: Path, tests: str, *options: str) -> dict[str, str]:
    """The outcome of each test: ``passed``, ``failed``, or ``error`` where it failed when it had ended."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(PRELUDE + tests)
    path = os.pathsep.join([str(SUPPORT), str(Path(okta_m2m.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-vv", "-p", "leaks", "-p", "no:cacheprovider", "-rA", *options, "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    summary = re.findall(r"^(PASSED|FAILED|ERROR) test_it\.py::(\S+)", ran.stdout, re.MULTILINE)
    outcomes: dict[str, str] = {}
    for outcome, name in summary:
        outcomes[name] = "error" if "error" in (outcome.lower(), outcomes.get(name)) else outcome.lower()
    outcomes["the run"] = "error" if re.search("^A secret was shown: .* by a warning", ran.stdout, re.MULTILINE) else ""
    assert ran.returncode == 1, ran.stdout
    return outcomes


@pytest.mark.parametrize("workers", in_matrix("0", "1"))
def test_a_planted_leak_fails_its_test_and_no_other(tmp_path: Path, workers: str) -> None:
    outcomes = run_with_the_plugin(tmp_path, CLEAN + PLANTED, "-n", workers)
    assert outcomes.pop("test_clean") == "passed"
    assert outcomes.pop("test_zz_a_warning_which_pytest_reports_when_the_test_is_over") == "passed"
    assert outcomes == dict.fromkeys(outcomes, "error")
    assert len(outcomes) == 21


# ── what the run itself may not come across ──────────────────────────────────────────────────────────────────────────

VALUE = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0LXBheWxvYWQtdGhhdC1ub2JvZHktbWF5LXNlZQ.c2lnbmF0dXJlLXRoYXQtbm9ib2R5LW1heS1zZWU"


def iter_of_one() -> Flow[Token]:
    return (yield from Wait(Future(), 1.0))  # type: ignore[return-value]  # answered with a token by the script


@pytest.mark.parametrize(
    "thing",
    [
        Token(VALUE),
        [Token(VALUE)],
        Request("POST", "https://acme.okta.com/oauth2/v1/token", {"DPoP": VALUE}, VALUE.encode()),
        Response(200, [("X-Token", VALUE)], VALUE.encode()),
        Send(Request("POST", "https://acme.okta.com/", {"DPoP": VALUE}, VALUE.encode()), 1.0),
        Sign(None, VALUE.encode(), 1.0),  # type: ignore[arg-type]  # only its repr matters
        Attempt({"Authorization": VALUE}, Token(VALUE)),
        Save(None, 1.0, "key", VALUE.encode(), 1.0, "owner"),  # type: ignore[arg-type]  # only its repr matters
        replay(iter_of_one(), Token(VALUE)),
    ],
    ids=lambda thing: type(thing).__name__,
)
@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>5}".format, "%s".__mod__, "%r".__mod__])
def test_no_text_form_of_an_object_contains_a_secret(thing: object, show: Callable[[object], str]) -> None:
    shown = show((thing,)) if show in ("%s".__mod__, "%r".__mod__) else show(thing)
    assert "c2VjcmV0" not in shown
    assert "c2lnbmF0" not in shown


def shown_everywhere(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))


def test_an_error_contains_no_secret_whatever_the_server_responds(
    okta: FakeOkta, new_service: Callable[..., ServiceApp]
) -> None:
    app = new_service(okta, max_wait=2.0, dpop_bound=True)
    auth = okta_m2m.requests.OktaAuth(app)
    token = auth.token()
    watch.secret(token.value, "an access token")
    sent = okta.requests[-1]
    for echoed in (token.value, sent.header("dpop") or "", sent.body.decode(), token.value[:90]):
        for fault in (
            {"error": "invalid_scope", "description": f"Not you: {echoed}"},
            {"error": "invalid_client", "description": echoed},
            {"body": {"error": echoed, "error_description": echoed}, "status": 400},
            {"body": f"<html>{echoed}</html>", "status": 403, "headers": {"Content-Type": echoed[:200]}},
            {"body": {"errorCode": echoed, "errorSummary": [echoed]}, "status": 401},
            {"body": {"error": echoed}, "status": 500, "headers": {"Retry-After": "99"}},
            {"body": {"error": echoed}, "status": 429, "headers": {"Retry-After": "99"}},
        ):
            okta.next(**fault)  # type: ignore[arg-type]  # each is a set of its options
            fresh = okta_m2m.requests.OktaAuth(new_service(okta, max_wait=2.0))
            with pytest.raises(OktaM2MError) as raised:
                fresh.token()
            watch.show(shown_everywhere(raised.value), "an error")
            shown = shown_everywhere(raised.value)
            for secret in (token.value, sent.header("dpop"), sent.body.decode()):
                assert secret is not None
                assert secret[-40:] not in shown
                assert secret[200:240] not in shown


@pytest.mark.parametrize("module", [okta_m2m.requests, okta_m2m.httpx, okta_m2m.aiohttp])
def test_no_object_that_holds_a_secret_can_be_copied_or_pickled(
    okta: FakeOkta, new_service: Callable[..., ServiceApp], module: Any
) -> None:
    app = new_service(okta)
    auth = module.OktaAuth(app)
    token = okta_m2m.requests.OktaAuth(app).token()
    for thing in (app, auth, token, PrivateKey.generate("ES256")):
        for copied in (pickle.dumps, copy.deepcopy, copy.copy):
            if (copied is not pickle.dumps and thing is auth) or (copied is copy.copy and thing is not token):
                continue  # a copy of an object shares its secrets and shows none
            with pytest.raises(TypeError) as raised:
                copied(thing)
            watch.show(str(raised.value), "a refusal to pickle")


def test_the_repr_of_apps_auth_objects_and_keys_contains_no_secret(
    okta: FakeOkta, new_service: Callable[..., ServiceApp], rsa_key: PrivateKey
) -> None:
    app = new_service(okta, key=rsa_key, dpop_bound=True)
    auths = [module.OktaAuth(app) for module in (okta_m2m.requests, okta_m2m.httpx, okta_m2m.aiohttp)]
    token = auths[0].token()
    for thing in (app, *auths, token, rsa_key, rsa_key.public_jwk, app.ready("GET", okta.url + "/")):
        shown = f"{thing!r} {thing} {[thing]} {thing!s:>3}"
        if thing is not None and type(thing).__name__ == "Ready":
            continue  # it is what is sent
        watch.show(shown, type(thing).__name__)
        assert token.value[-40:] not in shown


@pytest.mark.parametrize("length", [42, 12])  # a short one looks like a word
@pytest.mark.parametrize("place", ["body", "header"])
def test_a_credential_that_the_org_echoes_is_not_shown(okta: FakeOkta, front: Front, place: str, length: int) -> None:
    credential = "00aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789-_ab"[:length]
    summary = {"errorCode": "E0000003", "errorSummary": f"you sent {credential}"}

    def echo(exchange: Exchange) -> None:
        body = json.dumps(summary).encode() if place == "body" else b""
        exchange.answer(400, body, www_authenticate=f'Bearer error="x", error_description="{credential}"')

    front.pages["/api/v1/apps"] = echo
    with pytest.raises(ProvisioningError) as failed:
        ManagementApi(front.url, ApiToken(credential)).call("GET", "/api/v1/apps")
    assert credential not in str(failed.value)
    assert "[redacted]" in str(failed.value)
