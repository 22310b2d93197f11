"""The doctor's rows: each is good where all is well, and each is made to fail by what it is there to find."""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from front import front_of
from okta_m2m import ConfigurationError
from okta_m2m.admin.doctor import Check, Client, Doctor, Kind, first_failure
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.testing import App, FakeOkta

ROWS = [
    "configuration",
    "org URL",
    "key",
    "DNS",
    "proxy",
    "TCP",
    "TLS",
    "discovery",
    "clock",
    "token",
    "scopes",
    "rate limit",
    "API call",
]


@pytest.fixture
def okta() -> Iterator[FakeOkta]:
    with FakeOkta() as running:
        yield running


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "SSL_CERT_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def environ(okta: FakeOkta, tmp_path: Path) -> dict[str, str]:
    """The environment of a service app for which all is well."""
    key = new_key("ES256")
    write_key(tmp_path / "key.json", key)
    app = okta.add_app(key, ["okta.users.read"])
    return {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_CLIENTID": app.client_id,
        "OKTA_CLIENT_SCOPES": "okta.users.read",
        "OKTA_CLIENT_PRIVATEKEY": str(tmp_path / "key.json"),
    }


@pytest.fixture
def app(okta: FakeOkta, environ: dict[str, str]) -> App:
    return okta.apps[environ["OKTA_CLIENT_CLIENTID"]]


@pytest.fixture
def rows(environ: dict[str, str]) -> Callable[..., dict[str, Check]]:
    """``rows(**options of Doctor)``: its rows by name, all of them, each once."""

    def examined(**options: Any) -> dict[str, Check]:
        checks = list(Doctor(files=False, environ=environ, max_wait=5, **options).checks())
        assert [check.name for check in checks] == ROWS
        for check in checks:
            assert check.detail
            assert bool(check.remedy) == (check.state in ("warn", "fail")), check
        return {check.name: check for check in checks}

    return examined


def states(rows: dict[str, Check]) -> dict[str, str]:
    return {name: row.state for name, row in rows.items()}


Rows = Callable[..., dict[str, Check]]


@pytest.mark.parametrize("dpop", [False, True], ids=["bearer", "dpop"])
def test_with_correct_settings_no_row_fails_or_warns(okta: FakeOkta, app: App, rows: Rows, dpop: bool) -> None:
    app.dpop_bound = dpop
    found = rows(call="/api/v1/users?limit=1")
    assert {name for name, state in states(found).items() if state != "ok"} == {"TLS"}
    assert found["TLS"].detail == "plain HTTP to localhost"
    assert found["token"].detail.startswith("DPoP" if dpop else "Bearer")
    assert found["configuration"].detail.endswith("OKTA_CLIENT_SCOPES from the environment")
    assert found["configuration"].detail.count("environment") == 1
    assert found["key"].detail.startswith("EC P-256, ES256, kid ")
    assert first_failure(list(found.values())) is None


def test_offline_checks_only_what_needs_no_network(okta: FakeOkta, rows: Rows) -> None:
    found = rows(offline=True, call="/api/v1/users")
    assert [name for name, state in states(found).items() if state == "ok"] == ["configuration", "org URL", "key"]
    assert set(states(found).values()) == {"ok", "skipped"}
    assert okta.requests == []


@pytest.mark.parametrize(
    ("name", "value", "row", "said"),
    [
        ("CLIENTID", "", "configuration", "client id"),
        ("SCOPES", "", "configuration", "scopes"),
        ("CLIENTID", "{clientId}", "configuration", "placeholder"),
        ("ORGURL", "", "org URL", "org URL"),
        ("ORGURL", "https://acme-admin.okta.com", "org URL", "Admin Console"),
        ("PRIVATEKEY", "", "key", "private key"),
        ("PRIVATEKEY", "/nowhere/key.pem", "key", "nowhere"),
    ],
)
def test_an_invalid_setting_fails_its_own_row_and_skips_those_that_need_it(
    environ: dict[str, str], rows: Rows, name: str, value: str, row: str, said: str
) -> None:
    environ[f"OKTA_CLIENT_{name}"] = value
    found = rows(call="/api/v1/users")
    assert [name for name, state in states(found).items() if state == "fail"] == [row]
    assert said in found[row].detail + found[row].remedy
    assert found[row].kind is Kind.CONFIGURATION
    assert found["token"].state == "skipped"
    assert first_failure(list(found.values())) == found[row]


def test_a_row_has_the_remedy_of_its_error_even_if_the_problem_has_several_sentences(
    environ: dict[str, str], rows: Rows
) -> None:
    environ["OKTA_CLIENT_PRIVATEKEY"] = '{"kty": "OKP", "crv": "Ed25519", "d": "AQ", "x": "AQ"}'
    key = rows()["key"]
    assert key.detail.endswith("but not EdDSA.")
    assert key.remedy.startswith("Create a key with")


def test_each_of_several_invalid_settings_fails_its_own_row(environ: dict[str, str], rows: Rows) -> None:
    environ |= {"OKTA_CLIENT_ORGURL": "acme", "OKTA_CLIENT_PRIVATEKEY": "x", "OKTA_CLIENT_SCOPES": ""}
    assert [name for name, state in states(rows()).items() if state == "fail"] == ["configuration", "org URL", "key"]


def test_a_weak_key_fails_and_one_without_kid_or_readable_by_others_warns(
    okta: FakeOkta, app: App, environ: dict[str, str], rows: Rows, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak = rsa.generate_private_key(65537, 1024).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "weak.pem").write_bytes(weak)
    environ["OKTA_CLIENT_PRIVATEKEY"] = str(tmp_path / "weak.pem")
    assert (rows()["key"].state, "1024 bits" in rows()["key"].detail) == ("fail", True)
    key = new_key("ES256")
    app.jwks = key
    write_key(tmp_path / "key.pem", key.with_kid(None), form="pem")
    environ["OKTA_CLIENT_PRIVATEKEY"] = str(tmp_path / "key.pem")
    assert (rows()["key"].state, rows()["key"].detail) == ("warn", "EC P-256, ES256, no kid")
    if os.name == "posix":
        (tmp_path / "key.json").chmod(0o644)
        environ["OKTA_CLIENT_PRIVATEKEY"] = str(tmp_path / "key.json")
        assert (rows()["key"].state, "chmod 600" in rows()["key"].remedy) == ("warn", True)


def test_a_host_name_without_an_address_fails_the_name_look_up(environ: dict[str, str], rows: Rows) -> None:
    environ["OKTA_CLIENT_ORGURL"] = "https://acme.invalid"
    found = rows()
    assert (found["DNS"].state, found["DNS"].kind) == ("fail", Kind.UNREACHABLE)
    assert {found[name].state for name in ("proxy", "TCP", "TLS", "discovery", "clock", "token")} == {"skipped"}


def test_an_unreachable_proxy_fails_its_row_without_its_password(
    environ: dict[str, str], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{closed.getsockname()[1]}")
        environ["OKTA_CLIENT_ORGURL"] = "https://acme.invalid"
        found = rows()
    assert (found["proxy"].state, found["proxy"].kind) == ("fail", Kind.UNREACHABLE)
    assert found["DNS"].state == "skipped"
    assert not any("secret" in f"{row}" for row in found.values())


@pytest.mark.parametrize("password", ["secret/more", "secret#more", "secret?more", "sec[ret", "12345/secret"])
def test_a_proxy_whose_password_is_not_encoded_fails_without_showing_it(
    environ: dict[str, str], rows: Rows, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{password}@127.0.0.1:9")
    environ["OKTA_CLIENT_ORGURL"] = "https://acme.invalid"
    found = rows()
    assert found["proxy"].state == "fail"
    assert "percent-encode" in found["proxy"].remedy
    assert found["DNS"].state == "skipped"
    assert not any(part in f"{row}" for row in found.values() for part in ("secret", "more", "sec[", "12345"))


def test_a_refused_connection_fails_the_tcp_row(okta: FakeOkta, rows: Rows) -> None:
    okta.stop()
    found = rows()
    assert (found["TCP"].state, found["TCP"].kind) == ("fail", Kind.UNREACHABLE)
    assert found["TCP"].detail == "127.0.0.1 refused the connection"
    assert (found["DNS"].state, found["proxy"].state) == ("ok", "ok")
    assert {found[name].state for name in ("TLS", "discovery", "clock", "token")} == {"skipped"}


@pytest.fixture
def private_ca(tmp_path: Path, environ: dict[str, str]) -> Iterator[Path]:
    """The CA of an org whose certificate no public CA has signed."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    with FakeOkta(ssl_context=context) as secure:
        environ["OKTA_CLIENT_ORGURL"] = secure.url
        yield tmp_path / "ca.pem"


CA_VARIABLES = {
    "requests": "REQUESTS_CA_BUNDLE",
    "niquests": "REQUESTS_CA_BUNDLE",
    "httpx": "SSL_CERT_FILE",
    "httpx2": "SSL_CERT_FILE",
    "aiohttp": "SSL_CERT_FILE",
}


@pytest.mark.parametrize(("client", "variable"), CA_VARIABLES.items())
def test_the_ca_bundle_of_the_chosen_client_is_checked(
    private_ca: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch, client: Any, variable: str
) -> None:
    found = rows(client=client)["TLS"]
    assert (found.state, variable in found.remedy) == ("fail", True)
    other = "SSL_CERT_FILE" if variable == "REQUESTS_CA_BUNDLE" else "REQUESTS_CA_BUNDLE"
    monkeypatch.setenv(other, str(private_ca))
    found = rows(client=client)["TLS"]
    assert (found.state, f"{other} is set, but {client} does not read it" in found.remedy) == ("fail", True)
    monkeypatch.setenv(variable, str(private_ca))
    found = rows(client=client)
    assert (found["TLS"].state, found["discovery"].state) == ("ok", "ok")
    # The app is not registered there, so that the token request gets through and is refused.
    assert (found["token"].state, found["token"].kind) == ("fail", Kind.REFUSED)


@pytest.mark.parametrize("client", ["requests", "httpx"])
def test_a_missing_or_invalid_ca_bundle_fails_the_tls_row(
    private_ca: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client: Any
) -> None:
    variable = CA_VARIABLES[client]
    monkeypatch.setenv(variable, str(tmp_path / "nowhere.pem"))
    found = rows(client=client)["TLS"]
    assert (found.state, found.detail) == ("fail", f"{variable}={tmp_path / 'nowhere.pem'} does not exist")
    (tmp_path / "empty.pem").write_text("no certificate")
    monkeypatch.setenv(variable, str(tmp_path / "empty.pem"))
    found = rows(client=client)["TLS"]
    assert (found.state, variable in found.remedy) == ("fail", True)


def test_a_proxy_is_checked_only_for_a_client_that_reads_it(
    private_ca: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(private_ca))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "")
        found = rows(client="httpx")
        assert (found["proxy"].state, "refused the connection" in found["proxy"].detail) == ("fail", True)
        assert found["proxy"].detail.startswith("http://127.0.0.1:")
        assert rows(client="aiohttp")["discovery"].state == "ok"


@pytest.mark.parametrize("where", ["environment", "session"])
@pytest.mark.parametrize("client", ["requests", "httpx"])
def test_a_token_for_an_org_on_this_machine_passes_no_proxy(
    okta: FakeOkta, rows: Rows, client: Client, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with front_of(okta.server.port) as front:
        if where == "environment":
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, front.url)

        def session() -> requests.Session:
            made = requests.Session()
            made.proxies = {"http": front.url} if where == "session" else {}
            return made

        assert session().get(f"{okta.url}/api/v1/users", timeout=10).status_code == 401
        assert len(front.proxied) == 1
        found = rows(client=client, session=session, call="/api/v1/users")
        assert len(front.proxied) == 1
    assert (found["API call"].state, found["proxy"].detail) == ("ok", "none")


def test_an_unknown_client_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="aiohttp"):
        Doctor(client="curl")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "detail", "remedy"),
    [
        ("users", "neither a path nor a URL", "slash: /api/v1/users"),
        ("oauth2/v1/clients", "neither a path nor a URL", "slash: /oauth2/v1/clients"),
        ("https:///api/v1/users", "may not be sent to that URL", "OKTA_M2M_ORIGINS"),
        ("https://[/api/v1/users", "may not be sent to that URL", "OKTA_M2M_ORIGINS"),
    ],
)
def test_a_call_that_is_neither_path_nor_url_fails_its_row(
    okta: FakeOkta, rows: Rows, call: str, detail: str, remedy: str
) -> None:
    found = rows(call=call)["API call"]
    assert (found.state, found.kind) == ("fail", Kind.CONFIGURATION)
    assert detail in found.detail
    assert remedy in found.remedy


def test_an_untrusted_certificate_fails_the_tls_row(environ: dict[str, str], rows: Rows, tmp_path: Path) -> None:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")

    class Trusting(requests.Session):
        def __init__(self) -> None:
            super().__init__()
            self.verify = str(tmp_path / "ca.pem")

    with FakeOkta(ssl_context=context) as secure:
        environ["OKTA_CLIENT_ORGURL"] = secure.url
        found = rows()
        assert (found["TLS"].state, found["TLS"].kind) == ("fail", Kind.UNREACHABLE)
        assert "REQUESTS_CA_BUNDLE" in found["TLS"].remedy
        assert found["discovery"].state == "skipped"
        found = rows(session=Trusting)
        assert (found["TLS"].state, found["discovery"].state) == ("ok", "ok")


def test_a_port_that_does_not_speak_tls_is_not_blamed_on_a_certificate(
    environ: dict[str, str], okta: FakeOkta, rows: Rows
) -> None:
    environ["OKTA_CLIENT_ORGURL"] = okta.url.replace("http:", "https:")
    found = rows()["TLS"]
    assert (found.state, found.kind) == ("fail", Kind.UNREACHABLE)
    assert found.detail.startswith("TLS failed: ")  # the reason depends on the version of OpenSSL
    assert "the port in the org URL" in found.remedy
    assert "BUNDLE" not in found.detail + found.remedy


def test_a_certificate_for_another_host_is_not_blamed_on_the_ca_bundle(
    environ: dict[str, str], rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("acme.example").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with FakeOkta(ssl_context=context) as secure:
        environ["OKTA_CLIENT_ORGURL"] = secure.url
        found = rows()["TLS"]
    assert (found.state, "certificate is not valid for '127.0.0.1'" in found.detail) == ("fail", True)
    assert "the host name in the org URL" in found.remedy
    assert "BUNDLE" not in found.detail + found.remedy


@pytest.mark.parametrize("how", ["unregistered", "inactive"])
def test_the_remedy_for_a_key_that_okta_does_not_list_as_active_is_to_register_or_activate_it(
    app: App, rows: Rows, how: str
) -> None:
    listed = app.jwks["keys"][0]["kid"]
    app.add_key(new_key("ES256"))
    if how == "inactive":
        app.deactivate_key(listed)
    else:
        app.jwks = new_key("ES256")
    found = rows()["token"]
    assert (found.state, found.kind) == ("fail", Kind.REFUSED)
    assert "okta-m2m key add, okta-m2m key activate" in found.remedy


def test_the_remedy_for_an_inactive_app_names_that_cause(app: App, rows: Rows) -> None:
    app.status = "INACTIVE"
    found = rows()["token"]
    assert (found.state, "that the app is active" in found.remedy) == ("fail", True)


@pytest.mark.parametrize(
    ("fault", "said"),
    [({"what": 404}, "HTTP 404"), ({"html": True}, "HTTP 200"), ({"body": {"issuer": "x"}}, "HTTP 200")],
)
def test_a_server_without_metadata_fails_the_discovery_row(
    okta: FakeOkta, rows: Rows, fault: dict[str, Any], said: str
) -> None:
    okta.next(fault.pop("what", None), on="/.well-known/*", **fault)
    found = rows()["discovery"]
    assert (found.state, found.detail.startswith(said)) == ("fail", True)


def test_an_authorization_server_that_is_too_slow_fails_the_discovery_row(okta: FakeOkta, rows: Rows) -> None:
    okta.next(on="/.well-known/*", delay=1.5)
    found = rows(timeout=0.3)
    assert (found["TLS"].state, found["discovery"].state) == ("skipped", "fail")
    # Either timeout may end first.
    assert found["discovery"].detail in ("the response timed out", "no complete response within 0.3 s")


def test_metadata_with_another_token_endpoint_warns(okta: FakeOkta, rows: Rows) -> None:
    okta.next(on="/.well-known/*", body={"token_endpoint": "https://id.acme.example/oauth2/v1/token"})
    assert rows()["discovery"].state == "warn"


def test_a_custom_authorization_server_is_checked(environ: dict[str, str], okta: FakeOkta, rows: Rows) -> None:
    environ |= {"OKTA_CLIENT_SCOPES": "api:read", "OKTA_CLIENT_AUTHORIZATIONSERVER": "default"}
    found = rows(call="/api/v1/users")
    assert f"issuer {okta.url}/oauth2/default" in found["discovery"].detail
    assert found["token"].state == "ok"
    assert "may not be sent" in found["API call"].detail
    environ["OKTA_CLIENT_AUTHORIZATIONSERVER"] = "nothing"
    assert rows()["discovery"].state == "fail"


@pytest.mark.parametrize(("minutes", "state"), [(0, "ok"), (1, "warn"), (-1, "warn"), (10, "fail"), (-10, "fail")])
def test_a_wrong_clock_is_reported_although_the_token_is_obtained(
    okta: FakeOkta, rows: Rows, minutes: int, state: str
) -> None:
    okta.skew(minutes=minutes)
    found = rows()
    assert (found["clock"].state, found["clock"].kind) == (state, Kind.CLOCK)
    assert found["token"].state == "ok"
    if minutes:
        assert ("behind" if minutes > 0 else "ahead") in found["clock"].detail


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("client_assertion_invalid_kid", Kind.REFUSED, "kid is invalid"),
        ("no_org_scopes_granted", Kind.REFUSED, "Grant the scopes"),
        ("access_denied", Kind.REFUSED, "network zones"),
    ],
)
def test_a_refused_token_request_fails_the_token_row(
    okta: FakeOkta, rows: Rows, fault: str, kind: Kind, said: str
) -> None:
    okta.next(fault, times=9)
    found = rows(call="/api/v1/users")
    assert (found["token"].state, found["token"].kind) == ("fail", kind)
    assert said in found["token"].detail + found["token"].remedy
    assert (found["scopes"].state, found["API call"].state) == ("skipped", "skipped")


def test_a_refused_token_of_the_api_call_is_reported_as_that_refusal(okta: FakeOkta, app: App, rows: Rows) -> None:
    """The API rejects the token, and Okta refuses another one."""
    okta.next("access_token_invalid", on="/api/v1/users")
    okta.next()  # the doctor's own token request
    okta.next("client_assertion_invalid_kid", times=9)
    found = rows(call="/api/v1/users")["API call"]
    assert (found.state, found.kind) == ("fail", Kind.REFUSED)
    assert "kid is invalid" in found.detail


def test_a_token_endpoint_without_a_response_fails_the_token_row(environ: dict[str, str], okta: FakeOkta) -> None:
    okta.next(503, times=99)
    checks = list(Doctor(files=False, environ=environ, max_wait=1).checks())
    found = next(check for check in checks if check.name == "token")
    assert (found.state, found.kind) == ("fail", Kind.UNREACHABLE)


def test_scopes_that_okta_did_not_grant_fail_their_row(environ: dict[str, str], rows: Rows) -> None:
    environ["OKTA_CLIENT_SCOPES"] = "okta.users.read,okta.groups.read"
    found = rows()["scopes"]
    assert (found.state, found.kind) == ("fail", Kind.SCOPE)
    assert found.detail == "granted: okta.users.read; not granted: okta.groups.read"
    assert "okta-m2m app grant okta.groups.read" in found.remedy


def test_a_rate_limit_that_is_used_up_fails_and_one_that_nearly_is_warns(okta: FakeOkta, rows: Rows) -> None:
    okta.next(429, reset=600)
    found = rows()
    assert (found["token"].state, found["token"].kind) == ("fail", Kind.RATE_LIMIT)
    assert (found["rate limit"].state, found["rate limit"].kind) == ("fail", Kind.RATE_LIMIT)
    few = {"x-rate-limit-limit": "150", "x-rate-limit-remaining": "5", "x-rate-limit-reset": "1"}
    okta.next(headers=few)
    assert (rows()["rate limit"].state, rows()["rate limit"].state) == ("warn", "ok")
    okta.next(headers={"x-rate-limit-limit": None, "x-rate-limit-remaining": None})
    assert rows()["rate limit"].state == "skipped"


def test_an_api_call_distinguishes_a_missing_scope_from_a_missing_role(okta: FakeOkta, app: App, rows: Rows) -> None:
    without_scope = rows(call="/api/v1/groups")["API call"]
    assert (without_scope.state, without_scope.kind) == ("fail", Kind.SCOPE)
    assert "okta-m2m app grant okta.groups.read" in without_scope.remedy
    app.roles = []
    without_role = rows(call="/api/v1/users")["API call"]
    assert (without_role.state, without_role.kind) == ("fail", Kind.ROLE)
    assert "okta-m2m app role add" in without_role.remedy


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"what": 404}, Kind.REFUSED),
        ({"what": 429}, Kind.RATE_LIMIT),
        ({"what": 500}, Kind.UNREACHABLE),
        ({"drop": True}, Kind.UNREACHABLE),
        ({"what": "E0000015"}, Kind.REFUSED),
        ({"what": "access_token_invalid", "times": 2}, Kind.REFUSED),
        ({"what": 418}, Kind.REFUSED),
        ({"html": True, "status": 403}, Kind.ROLE),
    ],
)
def test_an_api_call_that_fails_has_a_remedy(okta: FakeOkta, rows: Rows, fault: dict[str, Any], kind: Kind) -> None:
    okta.next(fault.pop("what", None), on="/api/v1/users", **fault)
    found = rows(call="/api/v1/users")["API call"]
    assert (found.state, found.kind) == ("fail", kind)


@pytest.mark.parametrize("path", ["/.well-known/oauth-authorization-server", "/api/v1/users"])
def test_a_huge_response_uses_little_memory(okta: FakeOkta, environ: dict[str, str], rows: Rows, path: str) -> None:
    body = gzip.compress(gzip.compress(bytes(64 << 20)))
    with front_of(okta.server.port) as front:
        environ["OKTA_CLIENT_ORGURL"] = front.url
        front.pages[path] = lambda exchange: exchange.answer(403, body, content_encoding="gzip, gzip")
        tracemalloc.start()
        try:
            found = rows(call="/api/v1/users")["API call" if path.startswith("/api") else "discovery"]
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()
    said = "HTTP 403" if path.startswith("/api") else "compressed"
    assert (found.state, said in found.detail) == ("fail", True)


def test_an_error_that_is_its_own_cause_is_reported(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(*arguments: object, **options: object) -> requests.Response:
        error = requests.exceptions.SSLError("the hand-shake broke off")
        raise error from error

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    found = [check for check in rows().values() if "hand-shake" in check.detail]
    assert [(check.name, check.state) for check in found] == [("discovery", "fail")]


def test_credentials_of_a_netrc_are_not_sent(
    okta: FakeOkta, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login ada password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert rows(call="/api/v1/users")["API call"].state == "ok"
    assert any("well-known" in request.path for request in okta.requests)
    assert not [value for request in okta.requests for _, value in request.headers if value.startswith("Basic ")]


def test_no_row_shows_a_secret(okta: FakeOkta, rows: Rows, environ: dict[str, str]) -> None:
    found = rows(call="/api/v1/users")
    text = repr(list(found.values()))
    for token in okta.tokens():
        assert token.value not in text
    environ["OKTA_CLIENT_PRIVATEKEY"] = Path(environ["OKTA_CLIENT_PRIVATEKEY"]).read_text()[:-20]
    text = repr(list(rows().values()))
    assert '"d"' not in text
