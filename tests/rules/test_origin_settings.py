"""The origins of own APIs, and the scopes, come only from settings that are about this app."""

from __future__ import annotations

import pytest

from okta_m2m import ServiceApp
from setting_places import ENV, FULL, World, okta_yaml, without

HTTP = "http://localhost:8080"
API = "https://api.acme.com"


@pytest.mark.parametrize(
    "environ",
    [
        {"OKTA_M2M_ORIGINS": API},
        {"OKTA_M2M_ORIGINS": f"{API}, {HTTP}"},
        {"OKTA_M2M_ORIGINS": f"{HTTP} {API}"},
        {"OKTA_CLIENT_ORIGINS": API},
    ],
)
def test_a_variable_names_the_origins_of_own_apis(world: World, environ: dict[str, str]) -> None:
    settings = world.read({**ENV, **environ})
    app = ServiceApp(**settings.arguments())
    assert app.origins.allow(f"{API}/orders")
    assert app.origins.allow(f"{HTTP}/orders") == (HTTP in next(iter(environ.values())))
    assert not app.origins.allow("https://evil.example/orders")
    assert settings.sources["origins"] == f"environment variable {next(iter(environ))}"


def test_a_file_names_the_origins_of_own_apis(world: World) -> None:
    world.write(world.at_home, okta_yaml(**FULL, origins=[API]))
    assert ServiceApp(**world.read().arguments()).origins.allow(f"{API}/orders")
    world.write(world.at_home, okta_yaml(**FULL, origins=API))
    assert world.read().origins == (API,)


def test_an_argument_comes_before_the_variable(world: World) -> None:
    settings = world.read({**ENV, "OKTA_M2M_ORIGINS": API}, origins=[HTTP])
    assert list(settings.origins) == [HTTP]


def test_a_file_of_a_stranger_names_no_origins(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.write(world.local, okta_yaml(origins=["https://evil.example"]))
    assert world.read(ENV).origins == ()
    assert "okta.client.origins" in caplog.text
    assert "Set OKTA_M2M_ORIGINS, or pass origins= in the code." in caplog.text
    world.write(world.at_home, okta_yaml(origins=[API]))
    assert world.read(ENV).origins == (API,)


def test_a_file_with_its_own_key_names_origins(world: World) -> None:
    world.write(world.local, okta_yaml(**FULL, origins=[API]))
    assert world.read().origins == (API,)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("https://*.acme.com", "environment variable OKTA_M2M_ORIGINS"),
        ("http://api.acme.com", "OKTA_M2M_ORIGINS"),
        ("https://api.acme.com/orders", "OKTA_M2M_ORIGINS"),
        ('"https://api.acme.com"', "quotation marks"),
    ],
)
def test_an_origin_that_is_not_valid_is_an_error_that_names_the_place(world: World, value: str, said: str) -> None:
    assert said in world.refused({**ENV, "OKTA_M2M_ORIGINS": value})


def test_origins_in_a_file_are_a_list(world: World) -> None:
    for value in ({"api": API}, [7], 7):
        world.write(world.at_home, okta_yaml(origins=value))
        assert "okta.client.origins" in world.refused(ENV)


# ── the scopes of a file belong to its client id ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("given", ["argument", "variable"])
def test_the_scopes_of_a_file_are_not_requested_for_another_app(world: World, given: str) -> None:
    world.write(world.local, okta_yaml(**FULL))
    environ = {"OKTA_CLIENT_CLIENTID": "0oaother"} if given == "variable" else {}
    arguments = {"client_id": "0oaother"} if given == "argument" else {}
    said = world.refused(environ, **arguments)
    assert f"okta.client.scopes in {world.local} belongs to 0oa1, the client id there" in said
    assert "another app, 0oaother" in said
    assert "OKTA_CLIENT_SCOPES" in said


def test_scopes_for_the_other_app_or_the_same_client_id_are_accepted(world: World) -> None:
    world.write(world.local, okta_yaml(**FULL))
    assert world.read({"OKTA_CLIENT_CLIENTID": "0oa1"}).scopes == ("okta.users.read",)
    environ = {"OKTA_CLIENT_CLIENTID": "0oaother", "OKTA_CLIENT_SCOPES": "okta.logs.read"}
    assert world.read(environ).scopes == ("okta.logs.read",)


def test_scopes_of_a_file_without_a_client_id_are_for_every_app(world: World) -> None:
    world.write(world.at_home, okta_yaml(scopes=["okta.logs.read"]))
    assert world.read(without("SCOPES")).scopes == ("okta.logs.read",)
