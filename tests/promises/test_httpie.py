"""HTTPie's real command, with our plugin, against an org."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.testing import FakeOkta
from promises import either_binding

pytest.importorskip("httpie", reason="comes with the extra httpie")

USERS = "/api/v1/users"
Http = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def http(okta: FakeOkta, new_service: Callable[..., ServiceApp], binding: str, tmp_path: Path) -> Http:
    """The command, with the settings of a service app in its environment and a home of its own."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    made = ec.generate_private_key(ec.SECP256R1())
    pem = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    app = new_service(okta, dpop_bound=binding == "dpop", key=PrivateKey.from_pem(pem))
    settings = {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_CLIENTID": app.client_id,
        "OKTA_CLIENT_PRIVATEKEY": pem.decode(),
        "OKTA_CLIENT_SCOPES": "okta.users.read,okta.users.manage",
        "HTTPIE_CONFIG_DIR": str(tmp_path / "httpie"),
        "HOME": str(tmp_path),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OKTA_", "PYTEST_"))}

    def run(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("http")), "--ignore-stdin", "--auth-type=okta-m2m", *arguments]
        environment = {**kept, **settings, **changed}
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_a_call_carries_a_token(okta: FakeOkta, http: Http, binding: str) -> None:
    ran = http("--body", "GET", okta.url + USERS + "/ada@example.com")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["id"]
    (arrived,) = [request for request in okta.requests if request.path.startswith(USERS)]
    assert (arrived.header("authorization") or "").startswith("DPoP " if binding == "dpop" else "Bearer ")


@either_binding
def test_a_redirect_is_followed_and_a_revoked_token_is_renewed(okta: FakeOkta, http: Http) -> None:
    okta.next(401, on=USERS)
    to = f"to=={okta.url}{USERS}"
    ran = http("--check-status", "--follow", "--body", "GET", f"{okta.url}/redirect", to, "status==307")
    assert ran.returncode == 0
    assert "renewing it and retrying once" in ran.stderr
    assert okta.tokens_minted == 2
    posted = http("--check-status", "--body", "POST", okta.url + USERS, "name=Ada")
    assert posted.returncode == 0
    assert json.loads(posted.stdout)["received"]["length"] == len(b'{"name": "Ada"}')


@either_binding
def test_an_error_is_one_line_without_a_traceback(okta: FakeOkta, http: Http) -> None:
    refused = http("GET", okta.url + USERS, OKTA_CLIENT_CLIENTID="0oaNobody")
    assert refused.returncode != 0
    assert "invalid_client" in refused.stderr
    missing = http("GET", okta.url + USERS, OKTA_CLIENT_SCOPES="", OKTA_CLIENT_PRIVATEKEY="")
    assert missing.returncode != 0
    assert "OKTA_CLIENT_PRIVATEKEY" in missing.stderr
    for ran in (refused, missing):
        assert "Traceback" not in ran.stderr


@either_binding
def test_no_token_is_kept_in_a_session_of_httpie(okta: FakeOkta, http: Http, tmp_path: Path) -> None:
    for _ in range(2):
        assert http("--check-status", "--session=mine", "GET", okta.url + USERS).returncode == 0
    (kept,) = (tmp_path / "httpie" / "sessions").rglob("*.json")
    text = kept.read_text()
    assert '"okta-m2m"' in text
    for token in okta.tokens():
        assert token.value not in text
