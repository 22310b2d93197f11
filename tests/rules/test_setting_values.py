"""A setting whose value cannot work is refused by name, with the remedy."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from okta_m2m.errors import ConfigurationError
from okta_m2m.keys import PrivateKey
from okta_m2m.settings import check_org_url
from setting_places import ENV, FULL, ORG, PEM, World, okta_yaml, without

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
def test_an_org_url_is_normalized(given: str, expected: str) -> None:
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
def test_an_invalid_org_url_is_refused_with_the_remedy(given: Any, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_org_url(given)
    assert any(part in str(caught.value) for part in remedy.split("|"))


@pytest.mark.parametrize("url", ["https://user:hunter2@acme.okta.com", "user:hunter2@acme.okta.com", "ftp://hunter2@x"])
def test_a_password_in_an_org_url_is_refused_and_not_in_the_message(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_org_url(url)
    assert "hunter2" not in str(caught.value)
    assert "password" in str(caught.value)


def test_the_message_names_the_source_of_an_invalid_org_url(world: World) -> None:
    bad = "https://acme-admin.okta.com"
    assert world.refused(without("ORGURL", OKTA_CLIENT_ORG_URL=bad)).startswith(
        "environment variable OKTA_CLIENT_ORG_URL: "
    )
    assert world.refused(ENV, org_url=bad).startswith("argument org_url: ")
    world.write(world.dotted, okta_yaml(oktaDomain=bad))
    assert world.refused(without("ORGURL")).startswith(f"okta.client.oktaDomain in {world.dotted}: ")


def test_an_unused_org_url_is_not_checked(world: World) -> None:
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
def test_an_invalid_value_is_refused_and_the_message_names_the_setting(
    world: World, name: str, value: str, part: str
) -> None:
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
def test_a_value_of_another_type_in_a_file_is_refused_with_the_hint_to_quote_it(
    world: World, line: str, part: str
) -> None:
    name = line.partition(":")[0]
    rest = {key: value for key, value in FULL.items() if key != name}
    # A block of YAML beside JSON's would be two documents, so all of it is lines.
    lines = [f"    {key}: {json.dumps(value)}" for key, value in rest.items()]
    world.write(world.local, "\n".join(["okta:", "  client:", f"    {line}", *lines]))
    message = world.refused()
    assert f"okta.client.{name} in {world.local}" in message
    assert part in message


def test_one_message_names_all_missing_settings_and_their_possible_sources(world: World) -> None:
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
def test_the_message_names_only_missing_settings(world: World, name: str) -> None:
    message = world.refused(without(name))
    assert re.findall(r"OKTA_CLIENT_(\w+)", message) == [name]


def test_scopes_may_be_omitted_at_a_custom_authorization_server_only(world: World) -> None:
    settings = world.read(without("SCOPES", OKTA_CLIENT_AUTHORIZATIONSERVER="default"))
    assert settings.scopes == ()
    assert "OKTA_CLIENT_SCOPES" in world.refused(without("SCOPES"))


@pytest.mark.parametrize("mode", ["PrivateKey", "privatekey", "PRIVATE_KEY", "JWK"])
def test_the_authorization_mode_private_key_is_accepted(world: World, mode: str) -> None:
    assert world.read({**ENV, "OKTA_CLIENT_AUTHORIZATIONMODE": mode}).client_id == "0oa1"


@pytest.mark.parametrize("mode", ["SSWS", "Bearer", "JWT", "Basic"])
def test_another_authorization_mode_is_refused_and_the_message_names_it(world: World, mode: str) -> None:
    message = world.refused({**ENV, "OKTA_CLIENT_AUTHORIZATIONMODE": mode})
    assert "OKTA_CLIENT_AUTHORIZATIONMODE" in message
    assert "Write PrivateKey" in message
    world.write(world.at_home, okta_yaml(orgUrl=ORG, token="t", authorizationMode=mode))
    assert f"okta.client.authorizationMode in {world.at_home}" in world.refused()


def test_an_authorization_mode_from_a_weaker_source_than_the_key_is_ignored(world: World) -> None:
    world.write(world.at_home, okta_yaml(authorizationMode="SSWS", token="t"))
    assert world.read(ENV).client_id == "0oa1"
    arguments = {"key": PrivateKey.from_pem(PEM)}
    assert world.read({**ENV, "OKTA_CLIENT_AUTHORIZATIONMODE": "SSWS"}, **arguments).client_id == "0oa1"
