"""No local variable of a frame of ours shows a secret where an exception can leave the frame: crash reporters capture those.

Each test provokes an exception as a program meets it, and looks at it with what reporters use (tests/support/crash_reports.py).
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from traceback import TracebackException
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from crash_reports import check_report, frames_of
from okta_m2m import ConfigurationError, InvalidKey, OktaM2MError, PrivateKey, ServiceApp, Token
from okta_m2m._base.crash_reports import Hidden, without_locals
from okta_m2m.admin.errors import RotationFailed
from okta_m2m.admin.introspection import introspect_token, revoke_token
from okta_m2m.admin.key_files import key_text, replace_file, write_key, write_new_file
from okta_m2m.admin.management import ApiToken, ManagementApi
from okta_m2m.admin.rotation import Rotation
from okta_m2m.cli.rotate import rotate
from okta_m2m.cli.secrets import load_key
from okta_m2m.effects import Request, Response, Send
from okta_m2m.errors import WrongType
from okta_m2m.requests import LIBRARY, OktaAuth
from okta_m2m.settings import find_setting, named_store, read_settings
from okta_m2m.stores import store_from_url
from okta_m2m.stores.file import FileStore
from okta_m2m.stores.redis import RedisStore
from okta_m2m.stores.sealing import Seal
from okta_m2m.testing import FakeOkta

PASSPHRASE = "correct horse battery staple"
SSWS = "00Abcdefghijklmnopqrstuvwxyz0123456789_-AB"
SECRET = b"a sealing secret of thirty-two bytes"
ORG = "https://acme.okta.com"
APP = {"client_id": "0oa1b2c3", "scopes": ["okta.users.read"]}


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """One key in all its forms, and in forms that are not good."""
    key = PrivateKey.generate("RS256", kid="kid-1")
    jwk, pem = key.private_jwk(), key_text(key, form="pem").decode()
    encrypted = key._version.native.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode())
    )
    return {
        "jwk": json.dumps(jwk),
        "jwk of another kind": json.dumps({**jwk, "kty": "oct"}),
        "jwk with a damaged number": json.dumps({**jwk, "p": jwk["q"]}),
        "jwk with a number that is none": json.dumps({**jwk, "dq": "!", "d": jwk["d"] + "!"}),
        "jwks without the kid": json.dumps({"keys": [jwk, {**jwk, "kid": "kid-3"}]}),
        "json cut off": json.dumps(jwk)[:-1],
        "pem": pem,
        "pem cut off": pem[: len(pem) // 2],
        "pem damaged": pem.replace(pem.splitlines()[5], pem.splitlines()[6]),
        "pem twice": pem * 2,
        "pem without its first line": pem.partition("\n")[2],
        "encrypted": encrypted.decode(),
    }


def secrets_of(text: str) -> list[str]:
    """Some lines from the middle of a PEM, and the private numbers of a JWK."""
    lines = [line for line in text.splitlines() if len(line) == 64]
    document = json.loads(text) if text.startswith("{") and text.endswith("}") else {}
    entries = document.get("keys", [document])
    return [*lines[3:], *(entry[name][:40] for entry in entries for name in ("d", "p", "q") if name in entry)]


READERS: dict[str, Callable[[str], object]] = {
    "from_pem": lambda text: PrivateKey.from_pem(text, password="wrong " + PASSPHRASE, kid="kid-2"),
    "from_jwk": lambda text: PrivateKey.from_jwk(text, kid="kid-2"),
    "from_jwk of a mapping": lambda text: PrivateKey.from_jwk(json.loads(text), kid="kid-2", alg="ES256"),
    "from_text": lambda text: PrivateKey.from_text(text, password="wrong " + PASSPHRASE, kid="kid-2", alg="ES256"),
    "from_file by text": lambda text: PrivateKey.from_file(text, password="wrong " + PASSPHRASE),
    "from_env": lambda text: PrivateKey.from_env(
        "KEY", environ={"KEY": text}, password="wrong " + PASSPHRASE, kid="kid-2", alg="ES256"
    ),
    "read_settings": lambda text: read_settings(
        files=False,
        environ={
            "OKTA_CLIENT_PRIVATEKEY": text,
            "OKTA_CLIENT_PRIVATEKEYPASSPHRASE": "wrong " + PASSPHRASE,
            "OKTA_CLIENT_CLIENTID": "0oa1b2c3",
            "OKTA_CLIENT_ORGURL": ORG,
            "OKTA_CLIENT_SCOPES": "okta users read ]",
        },
    ),
    "ServiceApp.from_env": lambda text: ServiceApp.from_env(
        files=False,
        environ={
            "OKTA_CLIENT_PRIVATEKEY": text,
            "OKTA_CLIENT_PRIVATEKEYPASSPHRASE": "wrong " + PASSPHRASE,
            "OKTA_CLIENT_CLIENTID": "0oa1b2c3",
            "OKTA_CLIENT_ORGURL": ORG,
            "OKTA_CLIENT_SCOPES": "okta.users.read",
            "OKTA_M2M_STORE": "redis://user:" + PASSPHRASE + "@host:port",
        },
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_key_that_cannot_be_read_is_in_no_report(reader: str, texts: dict[str, str]) -> None:
    refused = 0
    for text in texts.values():
        try:
            READERS[reader](text)
        except Exception as error:
            refused += 1
            check_report(error, *secrets_of(text), PASSPHRASE)
    assert refused >= 5


@pytest.mark.parametrize("kind", ["jwk of another kind", "pem damaged", "encrypted", "json cut off"])
def test_a_key_file_that_cannot_be_read_is_in_no_report(kind: str, texts: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(texts[kind])
    with pytest.raises(InvalidKey) as caught:
        PrivateKey.from_file(path, password="wrong " + PASSPHRASE)
    check_report(caught.value, *secrets_of(texts[kind]), PASSPHRASE)
    os.environ["OKTA_CLIENT_PRIVATEKEY"] = texts[kind]
    try:
        with pytest.raises(InvalidKey) as caught:
            PrivateKey.from_env(password="wrong " + PASSPHRASE)
    finally:
        del os.environ["OKTA_CLIENT_PRIVATEKEY"]
    check_report(caught.value, *secrets_of(texts[kind]), PASSPHRASE)


def test_a_report_that_shows_a_key_object_shows_no_private_number(texts: dict[str, str]) -> None:
    key = PrivateKey.from_pem(texts["pem"])
    with pytest.raises(InvalidKey) as caught:
        PrivateKey(key._version.native, alg="ES256")
    check_report(caught.value)
    assert repr(PrivateKey.__new__(PrivateKey)) == "PrivateKey(not made)"


@pytest.mark.parametrize(
    "kind",
    [OktaAuth, ServiceApp, Token, Send, FileStore, RedisStore, Seal, ManagementApi],
    ids=lambda kind: kind.__name__,
)
def test_an_object_whose_init_failed_has_a_repr(kind: type[Any]) -> None:
    """Its ``__init__`` raised, or was interrupted. Python 3.11 gives up a whole report if one ``repr`` raises."""
    assert repr(kind.__new__(kind)).startswith(kind.__name__)


def test_a_fake_okta_or_app_whose_init_failed_has_a_repr() -> None:
    assert repr(FakeOkta.__new__(FakeOkta)) == "<FakeOkta not running>"
    with pytest.raises(ValueError, match="contains a private key") as refused:
        FakeOkta().add_app(PrivateKey.generate().private_jwk(), [])
    report = TracebackException.from_exception(refused.value, capture_locals=True)
    assert "<App not made>" in [(frame.locals or {}).get("self") for frame in report.stack]


def test_an_auth_object_without_an_app_can_be_in_a_report() -> None:
    with pytest.raises(WrongType) as refused:
        OktaAuth("no app")  # type: ignore[arg-type]
    assert frames_of(refused.value)


def test_without_locals_keeps_the_place_where_an_error_was_raised(texts: dict[str, str]) -> None:
    with pytest.raises(InvalidKey) as caught:
        PrivateKey.from_pem(texts["pem damaged"])
    assert any("load_pem" in place for place, _ in frames_of(caught.value))


# ── settings, secrets and tokens that are given ──────────────────────────────────────────────────────────────────────

GIVEN: dict[str, Callable[[], object]] = {
    "ServiceApp with a secret": lambda: ServiceApp("http://acme.okta.com", key=KEY, seal_with=[SECRET], **APP),
    "ServiceApp with another's key": lambda: ServiceApp(ORG, key=json.dumps(KEY.private_jwk()), **APP),  # type: ignore[arg-type]
    "Seal": lambda: Seal([SECRET, SECRET[:8]]),
    "Seal of one": lambda: Seal(SECRET),  # type: ignore[arg-type]
    "store_from_url": lambda: store_from_url(f"rediss://user:{PASSPHRASE}@host:port/0"),
    "store_from_url of no kind": lambda: store_from_url(f"memcached://user:{PASSPHRASE}@host"),
    "RedisStore": lambda: RedisStore(f"redis://user:{PASSPHRASE}@host/0", prefix="{"),
    "named_store": lambda: named_store({"OKTA_M2M_STORE": f"memcached://user:{PASSPHRASE}@host"}),
    "ApiToken": lambda: ApiToken(SSWS + "\n" + SSWS),
    "ApiToken.from_env": lambda: ApiToken.from_env(environ={"OKTA_CLIENT_TOKEN": SSWS + " " + SSWS}),
    "ManagementApi": lambda: ManagementApi(ORG, SSWS),  # type: ignore[arg-type]
    "read_settings without a key": lambda: read_settings(
        files=False, environ={"OKTA_CLIENT_PRIVATEKEYPASSPHRASE": PASSPHRASE, "OKTA_CLIENT_TOKEN": SSWS}
    ),
    "introspect_token": lambda: introspect_token("http://127.0.0.1:1", "0oa1b2c3", KEY, SSWS),
    "revoke_token": lambda: revoke_token("acme.okta.com", "0oa1b2c3", KEY, SSWS),
}
KEY = PrivateKey.generate("ES256")


@pytest.mark.parametrize("what", GIVEN)
def test_a_refused_argument_is_in_no_report(what: str) -> None:
    with pytest.raises((OktaM2MError, ValueError)) as caught:
        GIVEN[what]()
    check_report(caught.value, PASSPHRASE, SSWS, SECRET.decode(), KEY.private_jwk()["d"])


def test_an_okta_yaml_that_is_refused_is_in_no_report(tmp_path: Path, texts: dict[str, str]) -> None:
    pem = texts["pem"].replace("\n", "\n      ")
    client = (
        f"okta:\n  client:\n    token: {SSWS}\n    privateKeyPassphrase: {PASSPHRASE}\n    privateKey: |\n      {pem}\n"
    )
    for end in ("  - broken", "    orgUrl: http://acme.okta.com\n    clientId: 0oa1\n    scopes: [okta.users.read]\n"):
        (tmp_path / "okta.yaml").write_text(client + end)
        (tmp_path / "okta.yaml").chmod(0o600)
        with pytest.raises(ConfigurationError) as caught:
            read_settings(directory=tmp_path, home=tmp_path, environ={})
        check_report(caught.value, SSWS, PASSPHRASE, *secrets_of(texts["pem"]))
    (tmp_path / "okta.yaml").write_text(client + "  - broken")
    with pytest.raises(ConfigurationError) as caught:
        find_setting("token", directory=tmp_path, home=tmp_path, environ={"OKTA_PRIVATEKEY": SSWS})
    check_report(caught.value, SSWS, PASSPHRASE, *secrets_of(texts["pem"]))


def test_a_key_file_that_cannot_be_written_is_in_no_report(tmp_path: Path, texts: dict[str, str]) -> None:
    key = PrivateKey.from_pem(texts["pem"])
    path = tmp_path / "key.pem"
    path.write_text(texts["encrypted"])
    given: list[Callable[[], object]] = [
        lambda: write_key(path, key, form="pem", password=PASSPHRASE),
        lambda: write_key(tmp_path / "no" / "key.jwk", key),
        lambda: key_text(key, password=PASSPHRASE),
        lambda: write_new_file(path, texts["pem"].encode()),
        lambda: replace_file(tmp_path / "no" / "key.pem", texts["pem"].encode()),
    ]
    for write in given:
        with pytest.raises(ConfigurationError) as caught:
            write()
        check_report(caught.value, PASSPHRASE, *secrets_of(texts["pem"]))


def test_a_passphrase_of_the_command_is_in_no_report(tmp_path: Path, texts: dict[str, str]) -> None:
    (tmp_path / "key.pem").write_text(texts["encrypted"])
    (tmp_path / "passphrase").write_text("wrong " + PASSPHRASE)
    (tmp_path / "passphrase").chmod(0o600)
    with pytest.raises(InvalidKey) as caught:
        load_key(tmp_path / "key.pem", passphrase_file=tmp_path / "passphrase")
    check_report(caught.value, PASSPHRASE, *secrets_of(texts["encrypted"]))


def test_the_passphrase_of_a_key_to_rotate_is_in_no_report(
    tmp_path: Path, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.pem"
    path.write_text(texts["encrypted"])
    with ManagementApi("https://acme.okta.com", ApiToken("another")) as api:
        rotation = Rotation(
            api, "0oa1", path, service=lambda key: ServiceApp(ORG, key=key, **APP), password=f"no {PASSPHRASE}"
        )
        with pytest.raises(RotationFailed, match="cannot be decrypted") as caught:
            rotation.run()
    check_report(caught.value, PASSPHRASE, *secrets_of(texts["encrypted"]))
    (tmp_path / "passphrase").write_text("wrong " + PASSPHRASE)
    (tmp_path / "passphrase").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OKTA_CLIENT_ORGURL", "https://acme.okta.com")
    monkeypatch.setenv("OKTA_CLIENT_CLIENTID", "0oa1b2c3")
    monkeypatch.setenv("OKTA_CLIENT_SCOPES", "okta.users.read")
    with pytest.raises(InvalidKey) as refused:
        rotate(key_file=path, passphrase_file=tmp_path / "passphrase")
    check_report(refused.value, PASSPHRASE, *secrets_of(texts["encrypted"]))


def test_a_file_with_an_ssws_token_is_in_no_report(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SSWS} {SSWS}")
    with pytest.raises(ConfigurationError) as caught:
        ApiToken.from_file(tmp_path / "token")
    check_report(caught.value, SSWS)


# ── the tools themselves ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hidden_value_is_in_no_repr() -> None:
    assert repr(Hidden({"Authorization": SSWS})) == "Hidden()"


def test_a_header_value_is_a_str_that_only_its_repr_hides() -> None:
    value = Token(SSWS).authorization
    plain = f"Bearer {SSWS}"
    assert (value, f"{value}", str(value), json.dumps(value)) == (plain, plain, plain, json.dumps(plain))
    assert (hash(value), value.encode(), {plain: 1}[value]) == (hash(plain), plain.encode(), 1)
    for shown in (value, value[:80], {"Authorization": value}, [(value, 1)]):
        assert SSWS[:16] not in f"{shown!r}"
    for copied in (*(pickle.loads(pickle.dumps(value, protocol)) for protocol in range(6)), deepcopy(value)):
        assert copied == plain
        assert type(copied) is str
    assert Token(SSWS, "DPoP").value == SSWS


def test_the_values_of_all_headers_that_we_set_and_the_form_hide_themselves(
    okta: FakeOkta, new_service: Callable[..., ServiceApp]
) -> None:
    sent: list[Request] = []

    def send(request: Request, timeout: float) -> Response:
        sent.append(request)
        return LIBRARY.send(None, request, timeout)

    auth = OktaAuth(new_service(okta, dpop_bound=True), send=send)
    headers = auth.headers("GET", f"{okta.url}/api/v1/users")
    assert repr(headers) == "{'Authorization': '[hidden]', 'DPoP': '[hidden]'}"
    assert {repr(request.body) for request in sent} == {"b'[hidden]'"}
    assert {repr(request.headers["DPoP"]) for request in sent if "DPoP" in request.headers} == {"'[hidden]'"}
    assert b"client_assertion=" in sent[-1].body


SENTRY = """
import json, requests, sentry_sdk
from sentry_sdk.transport import Transport
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.requests import LIBRARY, OktaAuth
from okta_m2m.testing import FakeOkta

sent = []

class Recording(Transport):
    def capture_envelope(self, envelope):
        sent.append(envelope.serialize().decode())

sentry_sdk.init(transport=Recording())
with FakeOkta() as okta:
    key = PrivateKey.generate("ES256")
    client_id = okta.add_app([key], ["okta.users.read"]).client_id
    auth = OktaAuth(ServiceApp(okta.url, client_id=client_id, key=key, scopes=["okta.users.read"]))
    requests.get(okta.url + "/api/v1/users", auth=auth).raise_for_status()
    okta.next(on="/api/v1/users", drop=True, times=9)
    try:
        requests.get(okta.url + "/api/v1/users", auth=auth)
    except requests.ConnectionError as error:
        sentry_sdk.capture_exception(error)
    value = auth.token().value
report = "".join(sent)
assert "[hidden]" in report and "urlopen" in report
assert not any(value[start : start + 16] in report for start in range(100, len(value) - 16))
"""


def test_sentry_with_all_its_defaults_does_not_show_the_token_of_a_call_that_breaks_off() -> None:
    """In a process of its own, because sentry-sdk changes http.client, logging and others for the whole process."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SENTRY_")}
    done = subprocess.run([sys.executable, "-c", SENTRY], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_report_that_shows_a_secret_is_found() -> None:
    """The look itself bites: a frame of ours that holds a secret in a list of a dict."""
    namespace: dict[str, Any] = {"secret": {"a": [SSWS]}}
    code = compile(
        "def leak(held):\n    raise ValueError('oh')\n", str(Path(frames_of.__globals__["PACKAGE"], "x.py")), "exec"
    )
    exec(code, namespace)
    with pytest.raises(ValueError, match="oh") as caught:
        namespace["leak"](namespace["secret"])
    with pytest.raises(AssertionError, match="secret number 0"):
        check_report(caught.value, SSWS)


def test_without_locals_keeps_the_exception_that_the_caller_is_handling() -> None:
    @without_locals
    def refuse(secret: str) -> None:
        raise ValueError

    def failing() -> None:
        here = "the caller's own"
        raise KeyError(here)

    caught = []
    try:
        failing()
    except KeyError:
        with pytest.raises(ValueError) as refused:
            refuse(b64encode(SECRET).decode())
        caught.append(refused.value.__context__)
    (context,) = caught
    assert isinstance(context, KeyError)
    tb = context.__traceback__
    assert tb is not None
    assert tb.tb_next is not None
    assert tb.tb_next.tb_frame.f_locals["here"] == "the caller's own"
