"""Settings come from the place that the documentation says, and what cannot work is refused by name, with the remedy."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from okta_m2m._core.service_app import ServiceApp
from okta_m2m.errors import ConfigurationError, InvalidKey
from okta_m2m.keys import PrivateKey
from okta_m2m.settings import Settings, check_org_url, read_settings

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no mode bits for a file's writers")

ORG = "https://acme.okta.com"


def pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


PAIR = ec.generate_private_key(ec.SECP256R1())
OTHER_PAIR = ec.generate_private_key(ec.SECP256R1())
PEM, OTHER_PEM = pem(PAIR), pem(OTHER_PAIR)
SECRET_LINES = [line for line in PEM.splitlines() if len(line) > 20 and "-----" not in line]


def private_jwk(**more: str) -> dict[str, str]:
    from joserfc.jwk import ECKey

    return {k: v for k, v in ECKey.import_key(PEM).as_dict(private=True).items() if k != "kid"} | more


def same_key(settings: Settings, pair: ec.EllipticCurvePrivateKey = PAIR) -> bool:
    expected = PrivateKey.from_pem(pem(pair)).public_jwk
    found: Any = settings.key
    return bool(found.public_jwk["x"] == expected["x"] and found.public_jwk["y"] == expected["y"])


def kid_of(settings: Settings) -> str | None:
    key: Any = settings.key  # one key, not several
    return key.kid


ENV = {
    "OKTA_CLIENT_ORGURL": ORG,
    "OKTA_CLIENT_CLIENTID": "0oa1",
    "OKTA_CLIENT_PRIVATEKEY": PEM,
    "OKTA_CLIENT_SCOPES": "okta.users.read",
}


def without(*names: str, **more: str) -> dict[str, str]:
    return {name: value for name, value in ENV.items() if name.removeprefix("OKTA_CLIENT_") not in names} | more


def okta_yaml(**settings: Any) -> str:
    """YAML text; JSON is YAML."""
    return json.dumps({"okta": {"client": settings}}, indent=1)


FULL = {"orgUrl": ORG, "clientId": "0oa1", "privateKey": PEM, "scopes": ["okta.users.read"]}


class World:
    """A working directory and a home directory of the test's own, and what stands in them."""

    def __init__(self, root: Path) -> None:
        self.directory, self.home = root / "work", root / "home"
        self.local, self.dotted = self.directory / "okta.yaml", self.directory / ".okta.yaml"
        self.at_home = self.home / ".okta" / "okta.yaml"
        self.directory.mkdir()
        self.at_home.parent.mkdir(parents=True)

    def write(self, path: Path, text: str | bytes) -> None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(0o600)

    def read(self, environ: Mapping[str, str] | None = None, **arguments: Any) -> Settings:
        return read_settings(environ=environ or {}, directory=self.directory, home=self.home, **arguments)

    def refused(self, environ: Mapping[str, str] | None = None, **arguments: Any) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self.read(environ, **arguments)
        message = str(caught.value)
        # The exceptions behind it count as well: error trackers send them.
        chain: BaseException | None = caught.value
        while chain is not None:
            assert not any(line in str(chain) or line in repr(chain.args) for line in SECRET_LINES)
            chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
        return message


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# ── precedence ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_from_the_environment(world: World) -> None:
    settings = world.read(ENV)
    assert (settings.org_url, settings.client_id, settings.scopes) == (ORG, "0oa1", ("okta.users.read",))
    assert same_key(settings)
    assert settings.authorization_server is None
    assert settings.dpop is None
    assert dict(settings.sources) == {
        "org_url": "environment variable OKTA_CLIENT_ORGURL",
        "client_id": "environment variable OKTA_CLIENT_CLIENTID",
        "key": "environment variable OKTA_CLIENT_PRIVATEKEY",
        "scopes": "environment variable OKTA_CLIENT_SCOPES",
    }


def test_the_process_s_own_environment_and_directories_by_default(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("OKTA_CLIENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(world.directory)
    monkeypatch.setenv("HOME", str(world.home))
    monkeypatch.setenv("USERPROFILE", str(world.home))
    monkeypatch.setenv("OKTA_CLIENT_CLIENTID", "from-environment")
    world.write(world.local, okta_yaml(orgUrl=ORG, privateKey=PEM, clientId="from-file"))
    world.write(world.at_home, okta_yaml(scopes=["okta.groups.read"]))
    settings = read_settings()
    assert settings.client_id == "from-environment"
    assert settings.scopes == ("okta.groups.read",)
    assert os.path.samefile(settings.sources["org_url"], world.local)


@pytest.mark.parametrize("strongest", ["argument", "environment", "local", "dotted", "home"])
def test_each_setting_comes_from_the_strongest_place_that_names_it(world: World, strongest: str) -> None:
    places = ["argument", "environment", "local", "dotted", "home"]
    said = places[places.index(strongest) :]
    files = {"local": world.local, "dotted": world.dotted, "home": world.at_home}
    for place, path in files.items():
        world.write(path, okta_yaml(clientId=f"by-{place}") if place in said else okta_yaml())
    environ = without("CLIENTID") | ({"OKTA_CLIENT_CLIENTID": "by-environment"} if "environment" in said else {})
    settings = world.read(environ, client_id="by-argument" if "argument" in said else None)
    assert settings.client_id == f"by-{strongest}"
    expected = {"argument": "argument", "environment": "environment variable OKTA_CLIENT_CLIENTID"}
    assert settings.sources["client_id"] == expected.get(strongest, str(files.get(strongest)))
    assert settings.sources["org_url"] == "environment variable OKTA_CLIENT_ORGURL"


def test_arguments_need_no_other_place(world: World) -> None:
    key = PrivateKey.from_pem(PEM, kid="k1")
    settings = world.read(
        org_url="https://ACME.okta.com/", client_id="0oa1", key=key, scopes=["a", "b"], authorization_server="default"
    )
    assert settings.key is key
    assert settings.org_url == ORG
    assert settings.scopes == ("a", "b")
    assert set(settings.sources.values()) == {"argument"}


def test_several_keys_as_an_argument_stay_several(world: World) -> None:
    keys = [PrivateKey.from_pem(PEM), PrivateKey.from_pem(OTHER_PEM)]
    assert world.read(without("PRIVATEKEY"), key=keys).key is keys


def test_what_is_no_setting_is_handed_on_untouched(world: World) -> None:
    settings = world.read(ENV, max_wait=3.0, origins=["https://api.example.com"])
    assert settings.others == {"max_wait": 3.0, "origins": ["https://api.example.com"]}
    arguments = settings.arguments()
    assert arguments["max_wait"] == 3.0
    assert arguments["org_url"] == ORG
    assert "dpop" not in arguments  # not said: the default stays the service app's own
    assert world.read({**ENV, "OKTA_CLIENT_DPOPENABLED": "false"}).arguments()["dpop"] is False
    assert world.read({**ENV, "OKTA_CLIENT_DPOPENABLED": "false"}, dpop="required").arguments()["dpop"] == "required"


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_empty_text_counts_as_not_given(world: World, empty: str) -> None:
    world.write(world.local, okta_yaml(clientId="by-file", kid=empty, scopes=[], dpopEnabled=None))
    settings = world.read(without("CLIENTID", OKTA_CLIENT_CLIENTID=empty), client_id=empty)
    assert settings.client_id == "by-file"
    assert kid_of(settings) is None


def test_no_file_is_read_when_files_are_off(world: World) -> None:
    world.write(world.local, "okta: [broken")
    world.write(world.at_home, okta_yaml(clientId="by-file"))
    assert world.read(ENV, files=False).client_id == "0oa1"
    message = world.refused(without("CLIENTID"), files=False)
    assert "yaml" not in message


def test_one_file_is_not_read_as_two_when_started_in_its_directory(world: World, caplog: Any) -> None:
    world.write(world.at_home, okta_yaml(orgUrl=ORG))
    settings = read_settings(environ=without("ORGURL"), directory=world.at_home.parent, home=world.home)
    assert settings.org_url == ORG
    assert not caplog.records


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "field", "value", "expected"),
    [
        ("ORGURL", "org_url", "https://other.okta.com", "https://other.okta.com"),
        ("ORG_URL", "org_url", "https://other.okta.com", "https://other.okta.com"),
        ("OKTADOMAIN", "org_url", "https://other.okta.com", "https://other.okta.com"),
        ("CLIENTID", "client_id", "0oa2", "0oa2"),
        ("CLIENT_ID", "client_id", "0oa2", "0oa2"),
        ("SCOPES", "scopes", "a,b", ("a", "b")),
        ("SCOPES", "scopes", "a b", ("a", "b")),
        ("SCOPES", "scopes", " a,  b ,a,", ("a", "b")),
        ("AUTHORIZATIONSERVER", "authorization_server", "default", "default"),
        ("AUTHORIZATION_SERVER", "authorization_server", "aus1", "aus1"),
        ("DPOPENABLED", "dpop", "true", True),
        ("DPOP_ENABLED", "dpop", "1", True),
        ("DPOPENABLED", "dpop", "False", False),
        ("DPOPENABLED", "dpop", "required", "required"),
    ],
)
def test_every_spelling_of_a_variable(world: World, name: str, field: str, value: str, expected: object) -> None:
    environ = {k: v for k, v in ENV.items() if k not in ("OKTA_CLIENT_" + field.replace("_", "").upper(),)}
    settings = world.read({**environ, f"OKTA_CLIENT_{name}": value})
    assert getattr(settings, field) == expected
    assert settings.sources[field] == f"environment variable OKTA_CLIENT_{name}"


@pytest.mark.parametrize(
    ("name", "field", "value", "expected"),
    [
        ("orgUrl", "org_url", "https://other.okta.com", "https://other.okta.com"),
        ("oktaDomain", "org_url", "https://other.okta.com", "https://other.okta.com"),
        ("clientId", "client_id", "0oa2", "0oa2"),
        ("scopes", "scopes", ["a", "b"], ("a", "b")),
        ("scopes", "scopes", "a, b", ("a", "b")),
        ("scopes", "scopes", "a b", ("a", "b")),
        ("authorizationServer", "authorization_server", "default", "default"),
        ("dpopEnabled", "dpop", True, True),
        ("dpopEnabled", "dpop", False, False),
        ("dpopEnabled", "dpop", "required", "required"),
    ],
)
def test_every_spelling_in_a_file(world: World, name: str, field: str, value: object, expected: object) -> None:
    world.write(world.local, okta_yaml(**{name: value}))
    settings = world.read(without(field.replace("_", "").upper()))
    assert getattr(settings, field) == expected
    assert settings.sources[field] == str(world.local)


@pytest.mark.parametrize("name", ["KID", "PRIVATEKEYID", "PRIVATE_KEY_ID", "KEYID"])
def test_every_spelling_of_the_key_id_in_the_environment(world: World, name: str) -> None:
    settings = world.read({**ENV, f"OKTA_CLIENT_{name}": "k1"})
    assert kid_of(settings) == "k1"
    assert settings.sources["kid"] == f"environment variable OKTA_CLIENT_{name}"


@pytest.mark.parametrize("name", ["kid", "privateKeyId", "keyId"])
def test_every_spelling_of_the_key_id_in_a_file(world: World, name: str) -> None:
    world.write(world.local, okta_yaml(**FULL, **{name: "k1"}))
    assert kid_of(world.read()) == "k1"


def test_a_key_id_may_have_spaces_in_it(world: World) -> None:
    assert kid_of(world.read({**ENV, "OKTA_CLIENT_KID": " the 2nd key "})) == "the 2nd key"


def test_two_spellings_that_disagree_are_refused_by_name(world: World) -> None:
    message = world.refused({**ENV, "OKTA_CLIENT_KID": "k1", "OKTA_CLIENT_KEYID": "k2"})
    assert "OKTA_CLIENT_KID" in message
    assert "OKTA_CLIENT_KEYID" in message
    world.write(world.local, okta_yaml(**FULL, kid="k1", privateKeyId="k2"))
    message = world.refused()
    assert f"okta.client.kid in {world.local}" in message
    assert "okta.client.privateKeyId" in message


def test_two_spellings_that_agree_are_one(world: World) -> None:
    settings = world.read({**ENV, "OKTA_CLIENT_KID": "k1", "OKTA_CLIENT_KEYID": "k1", "OKTA_CLIENT_ORG_URL": ORG})
    assert kid_of(settings) == "k1"


def test_a_file_as_okta_s_documentation_prints_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    indented = "\n".join("      " + line for line in PEM.splitlines())
    world.write(
        world.at_home,
        f"""\
okta:
  client:
    connectionTimeout: 30 # seconds
    orgUrl: "https://acme.okta.com" # usually copied
    authorizationMode: "PrivateKey"
    clientId: "0oa1"
    scopes:
      - okta.users.read
      - okta.groups.read
    privateKey: |
{indented}
    kid: k1
    requestTimeout: 0 # seconds
    rateLimit:
      maxRetries: 4
    oauthTokenRenewalOffset: 5
    proxy:
      port: 8080
      host: proxy.example.com
    cache: {{enabled: true, defaultTtl: 300}}
    dpopEnabled: false
    dpopKeyRotationInterval: 86400
  testing:
    testingDisableHttpsCheck: false
""",
    )
    settings = world.read()
    assert settings.scopes == ("okta.users.read", "okta.groups.read")
    assert settings.dpop is False
    assert kid_of(settings) == "k1"
    assert same_key(settings)
    assert not caplog.records


def test_variables_that_okta_s_sdks_read_and_this_package_does_not_need(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("TOKEN", "CONNECTIONTIMEOUT", "CONNECTION_TIMEOUT", "RATELIMIT_MAXRETRIES", "RATE_LIMIT_MAX_BACKOFF"):
        world.read({**ENV, f"OKTA_CLIENT_{name}": "30"})
    for name in ("PROXY_HOST", "PROXY_PASSWORD", "CACHE_DEFAULT_TTL", "USERAGENT", "DPOPKEYROTATIONINTERVAL", "ID"):
        world.read({**ENV, f"OKTA_CLIENT_{name}": "30"})
    assert not caplog.records


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("ORGULR", "OKTA_CLIENT_ORGURL"),
        ("CLIENTD", "OKTA_CLIENT_CLIENTID"),
        ("SCOPE", "OKTA_CLIENT_SCOPES"),
        ("PRIVATKEY", "OKTA_CLIENT_PRIVATEKEY"),
        ("PRIVATE_KEY_FILE", "OKTA_CLIENT_PRIVATEKEY"),
        ("DPOPENABLE", "OKTA_CLIENT_DPOPENABLED"),
        ("AUTHORISATIONSERVER", "OKTA_CLIENT_AUTHORIZATIONSERVER"),
    ],
)
def test_a_variable_that_looks_like_a_typo_is_refused(world: World, typo: str, meant: str) -> None:
    message = world.refused({**ENV, f"OKTA_CLIENT_{typo}": "value"})
    assert f"OKTA_CLIENT_{typo} is not a setting. Did you mean {meant}?" in message


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("orgURL", "orgUrl"),
        ("org_url", "orgUrl"),
        ("clientID", "clientId"),
        ("scope", "scopes"),
        ("privatekey", "privateKey"),
        ("baseUrl", "orgUrl"),
        ("dpop", "dpopEnabled"),
    ],
)
def test_a_name_in_a_file_that_looks_like_a_typo_is_refused(world: World, typo: str, meant: str) -> None:
    world.write(world.local, okta_yaml(**{typo: "value"}))
    message = world.refused(ENV)
    assert f"okta.client.{typo} in {world.local} is not a setting. Did you mean okta.client.{meant}?" in message


def test_another_program_s_variable_is_no_obstacle_to_a_setting_that_an_argument_brings(world: World) -> None:
    environ = without("PRIVATEKEY", OKTA_CLIENT_PRIVATE_KEY_FILE="/elsewhere.pem", OKTA_CLIENT_KIDD="x")
    assert world.read(environ, key=PrivateKey.from_pem(PEM)).client_id == "0oa1"


def test_a_name_that_resembles_nothing_is_mentioned_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.local, okta_yaml(zebraStripes=1))
    for _ in range(3):
        world.read({**ENV, "OKTA_CLIENT_USER_SHOE_SIZE": "44"})
    warnings = [record.getMessage() for record in caplog.records if record.name == "okta_m2m"]
    assert len(warnings) == 2
    assert any("OKTA_CLIENT_USER_SHOE_SIZE" in text for text in warnings)
    assert any(f"okta.client.zebraStripes in {world.local}" in text for text in warnings)


def test_a_name_is_mentioned_in_one_line_that_every_log_can_take(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A variable's name may hold any byte."""
    world.read({**ENV, "OKTA_CLIENT_\udca4\n\x1b[31mWARNING forged": "x"})
    (record,) = [record for record in caplog.records if record.name == "okta_m2m"]
    assert record.getMessage().encode().isascii()
    assert record.getMessage().isprintable()


def test_variables_with_other_prefixes_are_none_of_ours(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.read({**ENV, "OKTA_M2M_STORE": "x", "OKTA_IDX_CLIENTID": "x", "OKTA_CLIENTID": "x", "okta_client_kidd": "x"})
    assert not caplog.records


# ── the org URL ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://acme.okta.com", ORG),
        ("https://acme.okta.com/", ORG),
        ("https://acme.okta.com//", ORG),
        (" HTTPS://Acme.Okta.com:443/ \n", ORG),
        ("https://login-admin.example.com", "https://login-admin.example.com"),
        ("https://id.example.com:8443", "https://id.example.com:8443"),
        ("https://acme.com.company", "https://acme.com.company"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_an_org_url_has_one_form(given: str, expected: str) -> None:
    assert check_org_url(given) == expected
    assert check_org_url(expected) == expected


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("https://acme-admin.okta.com", 'Write "https://acme.okta.com".'),
        ("https://acme-admin.okta.com/admin/dashboard", 'Write "https://acme.okta.com".'),
        ("https://ACME-admin.oktapreview.com", 'Write "https://acme.oktapreview.com".'),
        ("https://acme-admin.okta-emea.com", 'Write "https://acme.okta-emea.com".'),
        ("https://acme-admin.okta-gov.com:8443", 'Write "https://acme.okta-gov.com:8443".'),
        ("https://acme-admin.okta.mil", 'Write "https://acme.okta.mil".'),
        ("http://acme-admin.okta.com", 'Write "https://acme.okta.com".'),
        ("https://acme.okta.com.com", 'Write "https://acme.okta.com".'),
        ("https://acme-admin.okta.com.com", 'Write "https://acme.okta.com".'),
        ("http://acme.okta.com", 'Write "https://acme.okta.com".'),
        ("http://acme.okta.com:8080", 'Write "https://acme.okta.com".'),
        ("http://localhost.evil.example", 'Write "https://localhost.evil.example".'),
        ("acme.okta.com", 'Write "https://acme.okta.com".'),
        ("acme-admin.okta.com", 'Write "https://acme.okta.com".'),
        ("https://acme.okta.com/oauth2/default", 'Write "https://acme.okta.com" and authorization_server="default"'),
        ("https://acme.okta.com/oauth2/aus1/v1/token", 'and authorization_server="aus1"'),
        ("https://acme.okta.com/oauth2/v1/token", 'Write "https://acme.okta.com".'),
        ("https://acme.okta.com/api/v1", 'Write "https://acme.okta.com".'),
        ("https://acme.okta.com?x=1", 'Write "https://acme.okta.com".'),
        ("https://acme.okta.com/#", 'Write "https://acme.okta.com".'),
        ("https://{yourOktaDomain}", "placeholder '{yourOktaDomain}'"),
        ("https://{{yourOktaDomain}}", "placeholder '{{yourOktaDomain}}'"),
        ("https://${OKTA_DOMAIN}", "placeholder '${OKTA_DOMAIN}'"),
        ("https://<your-domain>.okta.com", "placeholder '<your-domain>'"),
        ("https://yourOktaDomain.okta.com", "placeholder 'yourOktaDomain'"),
        ("${OKTA_URL}", "placeholder"),
        ("https://https://acme.okta.com", "twice"),
        ("ftp://acme.okta.com", "does not begin with https://"),
        ("https://acme.okta.com\\@evil.example", "user name or password|same way"),
        ("https://acme okta.com", "same way"),
        ("https://acme.okta.com:port", "same way"),
        ("https://", "same way"),
        ("", "empty"),
        ("not a host", "no scheme"),
        (None, "not a string"),
        (b"https://acme.okta.com", "not a string"),
    ],
)
def test_an_org_url_that_cannot_work_is_refused_with_the_remedy(given: Any, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_org_url(given)
    assert any(part in str(caught.value) for part in remedy.split("|"))


@pytest.mark.parametrize("url", ["https://user:hunter2@acme.okta.com", "user:hunter2@acme.okta.com", "ftp://hunter2@x"])
def test_a_password_in_an_org_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_org_url(url)
    assert "hunter2" not in str(caught.value)
    assert "password" in str(caught.value)


def test_a_refused_org_url_says_where_it_came_from(world: World) -> None:
    bad = "https://acme-admin.okta.com"
    assert world.refused(without("ORGURL", OKTA_CLIENT_ORG_URL=bad)).startswith(
        "environment variable OKTA_CLIENT_ORG_URL: "
    )
    assert world.refused(ENV, org_url=bad).startswith("argument org_url: ")
    world.write(world.dotted, okta_yaml(oktaDomain=bad))
    assert world.refused(without("ORGURL")).startswith(f"okta.client.oktaDomain in {world.dotted}: ")


def test_an_org_url_that_is_not_used_is_not_judged(world: World) -> None:
    world.write(world.at_home, okta_yaml(orgUrl="https://{yourOktaDomain}"))
    assert world.read(ENV).org_url == ORG


# ── other values ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("CLIENTID", "{clientId}", "placeholder '{clientId}'"),
        ("CLIENTID", "${CLIENT_ID}", "placeholder"),
        ("CLIENTID", "0oa1 0oa2", "white space"),
        ("CLIENTID", '"0oa1"', "quotation marks"),
        ("KID", "<kid>", "placeholder"),
        ("SCOPES", "okta.{resource}.read", "placeholder"),
        ("SCOPES", '["okta.users.read"]', "scope"),
        ("SCOPES", "'okta.users.read'", "quotation marks"),
        ("SCOPES", "[okta.users.read, okta.groups.read]", "no scope has"),
        ("AUTHORIZATIONSERVER", "{authServerId}", "placeholder"),
        ("DPOPENABLED", "maybe", "true, false"),
        ("PRIVATEKEY", "{privateKey}", "placeholder"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(world: World, name: str, value: str, part: str) -> None:
    message = world.refused({**ENV, f"OKTA_CLIENT_{name}": value})
    assert f"OKTA_CLIENT_{name}" in message
    assert part in message


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("clientId: 123", "a number, not a string"),
        ("kid: 0123", "a number, not a string"),
        ("orgUrl: true", "true or false, not a string"),
        ("clientId: [a]", "a list, not a string"),
        ("scopes: [1, a]", "a number where a scope belongs"),
        ("scopes: {okta.users.read: true}", "a mapping, not a list"),
        ("scopes: 7", "a number where a scope belongs"),
        ("dpopEnabled: 7", "not a string"),
    ],
)
def test_a_value_of_another_kind_in_a_file_is_to_be_quoted(world: World, line: str, part: str) -> None:
    name = line.partition(":")[0]
    rest = {key: value for key, value in FULL.items() if key != name}
    # A block of YAML beside JSON's would be two documents, so all of it is lines.
    lines = [f"    {key}: {json.dumps(value)}" for key, value in rest.items()]
    world.write(world.local, "\n".join(["okta:", "  client:", f"    {line}", *lines]))
    message = world.refused()
    assert f"okta.client.{name} in {world.local}" in message
    assert part in message


def test_everything_that_is_missing_is_said_at_once_with_every_place(world: World) -> None:
    message = world.refused({"OKTA_CLIENT_ID": "0oa1", "OKTA_ORG_URL": ORG})
    for part in (
        "org_url=",
        "OKTA_CLIENT_ORGURL",
        "okta.client.orgUrl",
        "client_id=",
        "OKTA_CLIENT_CLIENTID",
        "okta.client.clientId",
        "key=",
        "OKTA_CLIENT_PRIVATEKEY",
        "okta.client.privateKey",
        "scopes=",
        "OKTA_CLIENT_SCOPES",
        "okta.client.scopes",
        str(world.local),
        str(world.at_home),
        "OKTA_CLIENT_ID is set, but is not read",
        "OKTA_ORG_URL is set, but is not read",
    ):
        assert part in message


@pytest.mark.parametrize("name", ["ORGURL", "CLIENTID", "PRIVATEKEY", "SCOPES"])
def test_only_what_is_missing_is_said(world: World, name: str) -> None:
    message = world.refused(without(name))
    assert re.findall(r"OKTA_CLIENT_(\w+)", message) == [name]


def test_scopes_may_be_left_out_at_a_custom_authorization_server_only(world: World) -> None:
    settings = world.read(without("SCOPES", OKTA_CLIENT_AUTHORIZATIONSERVER="default"))
    assert settings.scopes == ()
    assert "OKTA_CLIENT_SCOPES" in world.refused(without("SCOPES"))


@pytest.mark.parametrize("mode", ["PrivateKey", "privatekey", "PRIVATE_KEY", "JWK"])
def test_the_mode_of_a_private_key(world: World, mode: str) -> None:
    assert world.read({**ENV, "OKTA_CLIENT_AUTHORIZATIONMODE": mode}).client_id == "0oa1"


@pytest.mark.parametrize("mode", ["SSWS", "Bearer", "JWT", "Basic"])
def test_another_mode_is_refused_by_name(world: World, mode: str) -> None:
    message = world.refused({**ENV, "OKTA_CLIENT_AUTHORIZATIONMODE": mode})
    assert "OKTA_CLIENT_AUTHORIZATIONMODE" in message
    assert "Write PrivateKey" in message
    world.write(world.at_home, okta_yaml(orgUrl=ORG, token="t", authorizationMode=mode))
    assert f"okta.client.authorizationMode in {world.at_home}" in world.refused()


def test_a_mode_in_a_weaker_place_than_the_key_is_about_another_key(world: World) -> None:
    world.write(world.at_home, okta_yaml(authorizationMode="SSWS", token="t"))
    assert world.read(ENV).client_id == "0oa1"
    arguments = {"key": PrivateKey.from_pem(PEM)}
    assert world.read({**ENV, "OKTA_CLIENT_AUTHORIZATIONMODE": "SSWS"}, **arguments).client_id == "0oa1"


# ── the private key ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_as_pem_text_with_literal_newlines(world: World) -> None:
    assert same_key(world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=PEM.strip().replace("\n", "\\n"))))


def test_a_key_as_a_jwk_in_the_environment(world: World) -> None:
    settings = world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=json.dumps(private_jwk(kid="in-jwk"))))
    assert same_key(settings)
    assert kid_of(settings) == "in-jwk"
    assert same_key(world.read(without("PRIVATEKEY", OKTA_CLIENT_JWK=json.dumps(private_jwk()))))


@pytest.mark.parametrize("as_text", [True, False])
def test_a_key_as_a_jwk_in_a_file(world: World, as_text: bool) -> None:
    jwk = private_jwk(kid="in-jwk")
    world.write(world.local, okta_yaml(**{**FULL, "privateKey": json.dumps(jwk) if as_text else jwk}))
    settings = world.read()
    assert same_key(settings)
    assert kid_of(settings) == "in-jwk"


def test_a_path_in_the_environment_is_relative_to_the_working_directory(world: World) -> None:
    world.write(world.directory / "key.pem", PEM)
    assert same_key(world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY="key.pem")))
    absolute = str(world.directory / "key.pem")
    assert same_key(world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=absolute)))


def test_a_path_in_a_file_is_relative_to_that_file(world: World) -> None:
    world.write(world.at_home.parent / "key.pem", PEM)
    world.write(world.directory / "key.pem", OTHER_PEM)
    world.write(world.at_home, okta_yaml(**{**FULL, "privateKey": "key.pem"}))
    assert same_key(world.read())


def test_a_path_is_followed_with_files_off(world: World) -> None:
    world.write(world.directory / "key.pem", PEM)
    assert same_key(world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY="key.pem"), files=False))


def test_a_path_that_leads_nowhere_is_shown(world: World) -> None:
    message = world.refused(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY="nowhere/key.pem"))
    assert "OKTA_CLIENT_PRIVATEKEY" in message
    assert os.path.join(str(world.directory), "nowhere/key.pem") in message


@pytest.mark.parametrize(
    "mangled",
    [
        "".join(SECRET_LINES),
        SECRET_LINES[0],
        PEM.replace("BEGIN", "BEGGIN"),
        PEM.replace(SECRET_LINES[0], SECRET_LINES[0][:-7]),
        '{"kty": "EC", "d": "' + SECRET_LINES[0],
    ],
    # Not the keys, which are secret, and others each time.
    ids=["without lines", "first line", "misspelt", "cut", "cut JWK"],
)
def test_a_mangled_key_is_refused_by_place_and_never_shown(world: World, mangled: str) -> None:
    message = world.refused(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=mangled))
    assert "OKTA_CLIENT_PRIVATEKEY" in message
    assert SECRET_LINES[0][:20] not in message
    world.write(world.local, okta_yaml(**{**FULL, "privateKey": mangled}))
    message = world.refused()
    assert f"okta.client.privateKey in {world.local}" in message
    assert SECRET_LINES[0][:20] not in message


def test_a_key_that_okta_would_not_take_is_an_invalid_key(world: World) -> None:
    public = (
        PAIR.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    with pytest.raises(InvalidKey, match="OKTA_CLIENT_PRIVATEKEY"):
        world.read(without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=public))


def test_an_encrypted_key_with_its_passphrase(world: World) -> None:
    locked = pem(PAIR, b"correct horse")
    environ = without("PRIVATEKEY", OKTA_CLIENT_PRIVATEKEY=locked)
    assert same_key(world.read({**environ, "OKTA_CLIENT_PRIVATEKEYPASSPHRASE": "correct horse"}))
    message = world.refused({**environ, "OKTA_CLIENT_PRIVATEKEYPASSPHRASE": "wrong-staple"})
    assert "wrong-staple" not in message
    world.write(world.directory / "key.pem", locked)
    world.write(world.local, okta_yaml(**{**FULL, "privateKey": "key.pem", "privateKeyPassphrase": "correct horse"}))
    assert same_key(world.read())


def test_a_key_id_goes_with_the_key_beside_it(world: World) -> None:
    world.write(world.at_home, okta_yaml(privateKey=OTHER_PEM, kid="of-the-other-key"))
    assert kid_of(world.read(ENV)) is None
    world.write(world.at_home, okta_yaml(kid="of-the-only-key"))
    assert kid_of(world.read(ENV)) == "of-the-only-key"
    world.write(world.at_home, okta_yaml(privateKey=PEM, kid="weaker"))
    settings = world.read(without("PRIVATEKEY", OKTA_CLIENT_KID="stronger"))
    assert kid_of(settings) == "stronger"


def test_a_signer_that_is_handed_over_keeps_its_own_key_id(world: World) -> None:
    settings = world.read({**ENV, "OKTA_CLIENT_KID": "k1"}, key=PrivateKey.from_pem(PEM, kid="own"))
    assert kid_of(settings) == "own"
    assert "kid" not in settings.sources


def test_no_secret_is_shown(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        world.write(world.local, okta_yaml(**FULL, kid="k1"))
        settings = world.read({"OKTA_CLIENT_PRIVATEKEYPASSPHRASE": "correct horse"}, api_token="hush")
    shown = repr(settings) + str(settings) + caplog.text
    assert "hush" not in shown
    assert "correct horse" not in shown
    assert not any(line in shown for line in SECRET_LINES)
    assert ORG in repr(settings)


# ── whose org ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["okta.yaml", ".okta.yaml"])
@pytest.mark.parametrize("place", ["argument", "environment", "home", "path"])
def test_an_org_from_the_working_directory_beside_a_key_from_elsewhere_is_said_aloud(
    world: World, caplog: pytest.LogCaptureFixture, place: str, name: str
) -> None:
    file = world.directory / name
    key_path = world.at_home.parent / "key.pem"
    world.write(key_path, PEM)
    local: dict[str, Any] = {"orgUrl": "https://evil.example"}
    arguments: dict[str, Any] = {}
    environ = without("ORGURL", "PRIVATEKEY")
    if place == "argument":
        arguments["key"] = PrivateKey.from_pem(PEM)
    elif place == "environment":
        environ["OKTA_CLIENT_PRIVATEKEY"] = PEM
    elif place == "home":
        world.write(world.at_home, okta_yaml(privateKey=PEM))
    else:
        local["privateKey"] = str(key_path)  # a file from a stranger can guess where its reader keeps a key
    world.write(file, okta_yaml(**local))
    world.read(environ, **arguments)
    (record,) = [r for r in caplog.records if r.name == "okta_m2m" and r.levelno == logging.WARNING]
    named = {
        "argument": "argument",
        "environment": "environment variable OKTA_CLIENT_PRIVATEKEY",
        "home": str(world.at_home),
        "path": str(key_path),
    }
    assert str(file) in record.getMessage()
    assert named[place] in record.getMessage()


@posix_only
def test_a_link_in_the_working_directory_to_a_key_elsewhere_is_a_key_from_elsewhere(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write(world.home / "key.pem", PEM)
    (world.directory / "key.pem").symlink_to(world.home / "key.pem")
    world.write(world.local, okta_yaml(**{**FULL, "privateKey": "key.pem"}))
    world.read()
    assert "from elsewhere" in caplog.text


@posix_only
def test_a_link_in_the_working_directory_to_an_okta_yaml_elsewhere_holds_a_key_from_elsewhere(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write(world.at_home, okta_yaml(privateKey=PEM))
    world.write(world.local, okta_yaml(orgUrl="https://evil.example", clientId="0oa1", scopes=["okta.users.read"]))
    world.dotted.symlink_to(world.at_home)
    world.read()
    assert f"from elsewhere ({world.dotted}, a symlink to {os.path.realpath(world.at_home)})" in caplog.text


def test_a_file_in_the_home_directory_is_the_users_own(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.local, okta_yaml(orgUrl=ORG))
    for home, warned in [(world.directory, False), (world.home, True)]:
        caplog.clear()
        read_settings(environ=without("ORGURL"), directory=world.directory, home=home)
        assert ("comes from elsewhere" in caplog.text) == warned


def test_each_setting_says_which_file_holds_it(world: World) -> None:
    world.write(world.local, okta_yaml(clientId="0oa1"))
    world.write(world.at_home, okta_yaml(scopes=["okta.users.read"]))
    settings = world.read(without("CLIENTID", "SCOPES"))
    assert dict(settings.files) == {"client_id": world.local, "scopes": world.at_home}


def test_an_org_and_a_key_from_one_place_are_nothing_to_mention(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.local, okta_yaml(**FULL))
    world.read()
    world.write(world.directory / "key.pem", PEM)
    world.write(world.local, okta_yaml(**{**FULL, "privateKey": "key.pem"}))
    world.read()
    world.write(world.local, okta_yaml(privateKey=PEM))
    world.read(without("PRIVATEKEY"))  # the key from here, the org from the environment: whoever set that, chose
    world.write(world.local, okta_yaml())
    world.write(world.at_home, okta_yaml(**FULL))
    world.read()
    assert not caplog.records


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@posix_only
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(world: World, mode: int) -> None:
    for path in (world.local, world.dotted, world.at_home):
        world.write(path, okta_yaml())
        path.chmod(mode)
        message = world.refused(ENV)
        assert str(path) in message
        assert f"chmod go-w '{path}'" in message
        path.chmod(0o644)  # others may read: it is the key file that must not be readable, not this
        world.read(ENV)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """A user whom file modes bind: root passes them by."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_world() -> Iterator[World]:
    """Like ``world``, in a directory that other users may enter."""
    import ruamel.yaml  # noqa: F401 -- loaded while its files can surely be read

    root = Path(tempfile.mkdtemp())
    try:
        root.chmod(0o755)
        yield World(root)
    finally:
        shutil.rmtree(root)


@posix_only
def test_a_file_of_another_user_is_refused(open_world: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    open_world.write(open_world.local, okta_yaml())
    os.chown(open_world.local, 4711, -1)
    message = open_world.refused(ENV)
    assert str(open_world.local) in message
    assert "uid 4711" in message
    assert "chown" in message


@posix_only
def test_a_file_of_root_is_good_for_everybody(open_world: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of root's")
    open_world.write(open_world.local, okta_yaml(clientId="of-root"))
    open_world.local.chmod(0o644)
    with unprivileged():
        assert open_world.read(without("CLIENTID")).client_id == "of-root"


@posix_only
def test_a_file_that_cannot_be_read_is_refused(open_world: World) -> None:
    open_world.write(open_world.local, okta_yaml())
    open_world.local.chmod(0o000)
    with unprivileged():
        message = open_world.refused(ENV)
    assert str(open_world.local) in message
    assert "readable" in message


@posix_only
def test_a_home_directory_that_may_not_be_entered_holds_no_file(open_world: World) -> None:
    open_world.home.chmod(0o000)
    try:
        with unprivileged():
            assert open_world.read(ENV).client_id == "0oa1"
    finally:
        open_world.home.chmod(0o700)


def test_a_directory_of_that_name_is_refused(world: World) -> None:
    world.local.mkdir()
    message = world.refused(ENV)
    assert f"{world.local} is not a regular file" in message


@posix_only
def test_a_pipe_of_that_name_is_refused_without_waiting_for_a_writer(world: World) -> None:
    os.mkfifo(world.local)
    assert "not a regular file" in world.refused(ENV)


def test_a_huge_file_is_refused(world: World) -> None:
    world.write(world.local, b"#" * (256 * 1024 + 1))
    assert f"{world.local} is larger than 256 KiB" in world.refused(ENV)


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "---\n", "okta:\n", "okta:\n  client:\n", "{}", "\ufeffokta: {}"]
)
def test_a_file_with_nothing_in_it_is_no_harm(world: World, text: str) -> None:
    world.write(world.local, text)
    assert world.read(ENV).client_id == "0oa1"


def test_sections_of_other_sdks_are_no_harm(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.local, json.dumps({"okta": {"idx": {"issuer": "x", "clientId": "y"}}, "spring": {"port": 1}}))
    assert world.read(ENV).client_id == "0oa1"
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("okta:\n  client:\n    orgUrl: 'https://acme.okta.com\n    kid: SECRET\n", "line"),
        ("okta:\n  client:\n\tkid: SECRET\n", "line 3"),
        ("okta:\n  client:\n    kid: !SECRET x\n", "line 3"),
        ("okta:\n  client:\n    kid: *SECRET\n", "line 3"),
        ("okta:\n  client:\n    privateKey: !!python/object/apply:os.system ['SECRET']\n", "line 3"),
        ("okta: {}\n---\nokta: SECRET\n", "line"),
        ("okta:\n  client:\n    kid: !!int SECRET\n", "line 3"),
        ("okta:\n  client:\n    kid: 2026-99-99\n    x: SECRET\n", "value"),
        ("okta:\n  client:\n    kid: \x01SECRET\n", ""),
        ("[" * 20_000, "line 1: more than 30 levels"),
        ("\n".join(f"{' ' * depth}SECRET:" for depth in range(300)), "line 31: more than 30 levels"),
    ],
)
def test_a_file_that_is_not_plain_yaml_is_refused_by_line_and_not_quoted(world: World, text: str, line: str) -> None:
    world.write(world.local, text)
    with pytest.raises(ConfigurationError) as caught:
        world.read(ENV)
    assert str(world.local) in str(caught.value)
    assert line in str(caught.value)
    assert "SECRET" not in str(caught.value)
    # The YAML library's exceptions hold the text they failed on.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "text",
    [
        "okta:\n  client:\n    token: &a SECRET\n    kid: &a SECRET\n",
        "okta:\n  client:\n    <<: {kid: SECRET}\n",
        "%YAML 1.1\n---\nokta: {client: {connectionTimeout: 1e5, kid: SECRET}}\n",
        "a0: &a0 [SECRET]\n"
        + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 99))
        + "okta: {client: {orgUrl: *a98, oktaDomain: *a97}}\n",
        "m0: &m0 {a: 1}\n" + "".join(f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}]}}\n" for i in range(1, 99)),
        f"s: &s {'x' * 100_000}\nokta:\n  client:\n    ? [{'*s,' * 30_000}]\n    : SECRET\n",
    ],
    ids=["anchor twice", "merge key", "directive", "nested aliases", "nested merge keys", "a name of aliases"],
)
def test_what_could_grow_or_warn_is_refused_with_a_remedy(
    world: World, text: str, recwarn: pytest.WarningsRecorder
) -> None:
    world.write(world.local, text)
    with pytest.raises(
        ConfigurationError, match=r"line \d+: an anchor .* is not accepted\. Write each value in full"
    ) as caught:
        world.read(ENV)
    assert str(world.local) in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert not recwarn.list, "a warning of the YAML library quotes the file"


def test_a_quoted_string_may_begin_with_any_character(world: World) -> None:
    world.write(world.local, "okta:\n  client:\n    kid: '*&!%'\n    userAgent: '<<'\n    # &a *a !t <<: %\n")
    assert world.read(ENV).client_id == "0oa1"


def test_text_that_is_not_utf_8_is_refused_and_not_quoted(world: World) -> None:
    world.write(world.local, "okta: {client: {clientId: SECRET-ü}}".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="UTF-8") as caught:
        world.read(ENV)
    assert caught.value.__context__ is None


def test_the_same_key_twice_is_refused_by_line(world: World) -> None:
    world.write(world.local, "okta:\n  client:\n    orgUrl: https://a.okta.com\n    orgUrl: https://b.okta.com\n")
    message = world.refused(ENV)
    assert str(world.local) in message
    assert "line 4" in message


@pytest.mark.parametrize("text", ["just text", "- a\n- list", "okta: text", "okta: [a]", "okta: {client: [a]}", "7"])
def test_a_file_of_another_shape_is_refused(world: World, text: str) -> None:
    world.write(world.local, text)
    message = world.refused(ENV)
    assert str(world.local) in message
    assert 'Write "okta:"' in message


@pytest.mark.parametrize(
    "text",
    [
        "client: {orgUrl: x}",
        "orgUrl: x",
        "okta: {orgUrl: x}",
        "Okta: {client: {}}",
        "okta: {Client: {}}",
        "okta: {clients: {}}",
    ],
)
def test_settings_at_the_wrong_depth_are_refused(world: World, text: str) -> None:
    world.write(world.local, text)
    message = world.refused(ENV)
    assert f"{world.local} has settings, but not under" in message


def test_a_line_of_a_key_where_a_name_belongs_is_not_shown(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.local, json.dumps({"okta": {"client": {SECRET_LINES[0]: "x"}}}))
    world.read(ENV)
    assert str(world.local) in caplog.text
    assert SECRET_LINES[0] not in caplog.text


def test_without_ruamel_yaml_a_file_that_is_there_is_an_error_with_the_pip_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    assert world.read(ENV).client_id == "0oa1"  # nothing to read, nothing to miss
    world.write(world.local, okta_yaml())
    message = world.refused(ENV)
    assert str(world.local) in message
    assert "pip install 'okta-m2m[yaml]'" in message
    assert world.read(ENV, files=False).client_id == "0oa1"


def test_importing_the_module_loads_neither_yaml_nor_cryptography() -> None:
    code = "import okta_m2m.settings, sys; print(sorted({'ruamel', 'cryptography', 'joserfc'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@posix_only
def test_a_working_directory_that_was_deleted_holds_no_file() -> None:
    code = (
        "import os, tempfile, okta_m2m.settings as s\n"
        "d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)\n"
        "try: s.read_settings(environ={}, home='/nonexistent')\n"
        "except s.ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no org URL" in done.stdout


# ── the service app ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_service_app_is_made_from_its_settings(world: World) -> None:
    world.write(world.local, okta_yaml(scopes=["okta.groups.read"]))
    environ = without("SCOPES", "ORGURL", OKTA_CLIENT_ORGURL="https://Acme.okta.com/")
    app = ServiceApp.from_env(environ=environ, directory=world.directory, home=world.home, client_id="0oa2")
    assert (app.org_url, app.client_id, app.scopes) == (ORG, "0oa2", ("okta.groups.read",))
    assert app.token_endpoint == f"{ORG}/oauth2/v1/token"


def test_a_service_app_takes_its_other_arguments_beside_its_settings() -> None:
    environ = {**ENV, "OKTA_CLIENT_AUTHORIZATIONSERVER": "default"}
    app = ServiceApp.from_env(files=False, environ=environ, origins=["https://api.example.com"], max_wait=7)
    assert app.token_endpoint == f"{ORG}/oauth2/default/v1/token"
    assert app.max_wait == 7
    assert app.origins.allow("https://api.example.com/orders")
    with pytest.raises(TypeError, match="client_ids"):
        ServiceApp.from_env(files=False, environ=ENV, client_ids="0oa1")


def test_a_service_app_refuses_an_org_url_as_its_settings_do() -> None:
    with pytest.raises(ConfigurationError, match=re.escape('Write "https://acme.okta.com"')):
        ServiceApp("https://acme-admin.okta.com", client_id="0oa1", key=PrivateKey.from_pem(PEM), scopes=["a"])
    with pytest.raises(ConfigurationError, match="OKTA_CLIENT_CLIENTID"):
        ServiceApp.from_env(files=False, environ={})
