"""Settings come from the place that the documentation says, under each name that Okta's SDKs know."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from okta_m2m._core.service_app import ServiceApp
from okta_m2m.errors import ConfigurationError
from okta_m2m.keys import PrivateKey
from okta_m2m.settings import read_settings
from setting_places import ENV, FULL, ORG, OTHER_PEM, PEM, World, kid_of, okta_yaml, same_key, without

# ── precedence ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_settings_can_come_from_the_environment(world: World) -> None:
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


def test_the_environment_and_directories_of_the_process_are_the_default(
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
def test_each_setting_comes_from_the_strongest_source_that_has_it(world: World, strongest: str) -> None:
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


def test_arguments_need_no_other_source(world: World) -> None:
    key = PrivateKey.from_pem(PEM, kid="k1")
    settings = world.read(
        org_url="https://ACME.okta.com/", client_id="0oa1", key=key, scopes=["a", "b"], authorization_server="default"
    )
    assert settings.key is key
    assert settings.org_url == ORG
    assert settings.scopes == ("a", "b")
    assert set(settings.sources.values()) == {"argument"}


def test_several_keys_can_be_passed_as_an_argument(world: World) -> None:
    keys = [PrivateKey.from_pem(PEM), PrivateKey.from_pem(OTHER_PEM)]
    assert world.read(without("PRIVATEKEY"), key=keys).key is keys


def test_arguments_that_are_no_settings_are_passed_on_unchanged(world: World) -> None:
    settings = world.read(ENV, max_wait=3.0, htu_origins={})
    assert settings.others == {"max_wait": 3.0, "htu_origins": {}}
    arguments = settings.arguments()
    assert arguments["max_wait"] == 3.0
    assert arguments["org_url"] == ORG
    assert "dpop" not in arguments  # not said: the default stays the service app's own
    assert world.read({**ENV, "OKTA_CLIENT_DPOPENABLED": "false"}).arguments()["dpop"] is False
    assert world.read({**ENV, "OKTA_CLIENT_DPOPENABLED": "false"}, dpop="required").arguments()["dpop"] == "required"


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_an_empty_string_counts_as_not_set(world: World, empty: str) -> None:
    world.write(world.local, okta_yaml(clientId="by-file", kid=empty, scopes=[], dpopEnabled=None))
    settings = world.read(without("CLIENTID", OKTA_CLIENT_CLIENTID=empty), client_id=empty)
    assert settings.client_id == "by-file"
    assert kid_of(settings) is None


def test_no_file_is_read_if_files_is_false(world: World) -> None:
    world.write(world.local, "okta: [broken")
    world.write(world.at_home, okta_yaml(clientId="by-file"))
    assert world.read(ENV, files=False).client_id == "0oa1"
    message = world.refused(without("CLIENTID"), files=False)
    assert "yaml" not in message


def test_a_file_is_read_once_if_the_working_directory_is_its_own(world: World, caplog: Any) -> None:
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
def test_every_spelling_of_a_variable_is_read(
    world: World, name: str, field: str, value: str, expected: object
) -> None:
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
def test_every_spelling_in_a_file_is_read(world: World, name: str, field: str, value: object, expected: object) -> None:
    world.write(world.at_home, okta_yaml(**{name: value}))  # a file in the working directory may not lower dpop
    settings = world.read(without(field.replace("_", "").upper()))
    assert getattr(settings, field) == expected
    assert settings.sources[field] == str(world.at_home)


@pytest.mark.parametrize("name", ["KID", "PRIVATEKEYID", "PRIVATE_KEY_ID", "KEYID"])
def test_every_spelling_of_the_key_id_in_the_environment_is_read(world: World, name: str) -> None:
    settings = world.read({**ENV, f"OKTA_CLIENT_{name}": "k1"})
    assert kid_of(settings) == "k1"
    assert settings.sources["kid"] == f"environment variable OKTA_CLIENT_{name}"


@pytest.mark.parametrize("name", ["kid", "privateKeyId", "keyId"])
def test_every_spelling_of_the_key_id_in_a_file_is_read(world: World, name: str) -> None:
    world.write(world.local, okta_yaml(**FULL, **{name: "k1"}))
    assert kid_of(world.read()) == "k1"


def test_a_key_id_may_have_spaces_in_it(world: World) -> None:
    assert kid_of(world.read({**ENV, "OKTA_CLIENT_KID": " the 2nd key "})) == "the 2nd key"


def test_two_spellings_with_different_values_are_refused_and_named(world: World) -> None:
    message = world.refused({**ENV, "OKTA_CLIENT_KID": "k1", "OKTA_CLIENT_KEYID": "k2"})
    assert "OKTA_CLIENT_KID" in message
    assert "OKTA_CLIENT_KEYID" in message
    world.write(world.local, okta_yaml(**FULL, kid="k1", privateKeyId="k2"))
    message = world.refused()
    assert f"okta.client.kid in {world.local}" in message
    assert "okta.client.privateKeyId" in message


def test_two_spellings_with_the_same_value_are_accepted(world: World) -> None:
    settings = world.read({**ENV, "OKTA_CLIENT_KID": "k1", "OKTA_CLIENT_KEYID": "k1", "OKTA_CLIENT_ORG_URL": ORG})
    assert kid_of(settings) == "k1"


def test_the_file_in_oktas_documentation_is_read(world: World, caplog: pytest.LogCaptureFixture) -> None:
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


def test_variables_that_only_oktas_sdks_need_are_ignored(world: World, caplog: pytest.LogCaptureFixture) -> None:
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


def test_an_unknown_variable_is_ignored_if_an_argument_has_the_setting(world: World) -> None:
    environ = without("PRIVATEKEY", OKTA_CLIENT_PRIVATE_KEY_FILE="/elsewhere.pem", OKTA_CLIENT_KIDD="x")
    assert world.read(environ, key=PrivateKey.from_pem(PEM)).client_id == "0oa1"


def test_an_unknown_name_is_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.local, okta_yaml(zebraStripes=1))
    for _ in range(3):
        world.read({**ENV, "OKTA_CLIENT_USER_SHOE_SIZE": "44"})
    warnings = [record.getMessage() for record in caplog.records if record.name == "okta_m2m"]
    assert len(warnings) == 2
    assert any("OKTA_CLIENT_USER_SHOE_SIZE" in text for text in warnings)
    assert any(f"okta.client.zebraStripes in {world.local}" in text for text in warnings)


def test_an_unknown_name_is_logged_in_one_printable_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A variable's name may hold any byte."""
    world.read({**ENV, "OKTA_CLIENT_\udca4\n\x1b[31mWARNING forged": "x"})
    (record,) = [record for record in caplog.records if record.name == "okta_m2m"]
    assert record.getMessage().encode().isascii()
    assert record.getMessage().isprintable()


def test_variables_with_other_prefixes_are_ignored(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.read({**ENV, "OKTA_M2M_STORE": "x", "OKTA_IDX_CLIENTID": "x", "OKTA_CLIENTID": "x", "okta_client_kidd": "x"})
    assert not caplog.records


# ── the service app ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_service_app_is_made_from_its_settings(world: World) -> None:
    world.write(world.local, okta_yaml(scopes=["okta.groups.read"]))
    environ = without("SCOPES", "ORGURL", OKTA_CLIENT_ORGURL="https://Acme.okta.com/")
    app = ServiceApp.from_env(environ=environ, directory=world.directory, home=world.home, client_id="0oa2")
    assert (app.org_url, app.client_id, app.scopes) == (ORG, "0oa2", ("okta.groups.read",))
    assert app.token_endpoint == f"{ORG}/oauth2/v1/token"


def test_a_service_app_from_settings_accepts_its_other_arguments() -> None:
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
