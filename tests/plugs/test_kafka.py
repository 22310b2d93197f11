"""Kafka's clients ask the recipe for a token, with the real packages; there is no broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import confluent_kafka
import pytest

from okta_m2m import ServiceApp
from okta_m2m.errors import TokenError
from okta_m2m.testing import FakeOkta
from services import eventually

RECIPES = Path(__file__).parents[2] / "docs" / "examples" / "recipes"

Service = Callable[..., ServiceApp]


@pytest.fixture
def module() -> ModuleType:
    specification = spec_from_file_location("recipe_kafka_clients", RECIPES / "kafka_clients.py")
    assert specification is not None
    assert specification.loader is not None
    made = module_from_spec(specification)
    specification.loader.exec_module(made)
    return made


@pytest.fixture
def app(okta: FakeOkta, new_service: Service) -> ServiceApp:
    return new_service(okta, authorization_server="default", scopes=["api:read"], dpop=False)


def producer(free_port: int, oauth_cb: Any, errors: list[Any]) -> confluent_kafka.Producer:
    """Of a broker at which nothing listens."""
    return confluent_kafka.Producer(
        {
            "bootstrap.servers": f"127.0.0.1:{free_port}",
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanisms": "OAUTHBEARER",
            "oauth_cb": oauth_cb,
            "error_cb": errors.append,
            "log_level": 0,
        }
    )


def test_confluent_kafka_accepts_the_token_and_its_expiry_and_asks_again_before_it_ends(
    okta: FakeOkta, module: ModuleType, app: ServiceApp, free_port: int
) -> None:
    okta.token_lifetime = 3
    current, given, errors = module.oauth_cb(app), list[tuple[str, float]](), list[Any]()

    def counted(config: str) -> tuple[str, float]:
        given.append(current(config))
        return given[-1]

    client = producer(free_port, counted, errors)

    def has_a_second_token() -> bool:
        client.poll(0.05)
        return len({value for value, _ in given}) >= 2

    eventually(has_a_second_token, "it has asked again")
    assert all(0 < expires - time.time() <= 4 for _, expires in given[-1:])
    assert [error for error in errors if error.code() == confluent_kafka.KafkaError._AUTHENTICATION] == []


@pytest.mark.parametrize("client", ["oauth_cb", "TokenProvider"])
def test_an_app_that_requires_dpop_is_refused_with_the_reason(
    okta: FakeOkta, module: ModuleType, new_service: Service, client: str
) -> None:
    """A broker takes no bound token."""
    app = new_service(okta, dpop_bound=True, authorization_server="default", scopes=["api:read"], dpop=False)
    ask: dict[str, Callable[[], object]] = {
        "oauth_cb": lambda: module.oauth_cb(app)(""),
        "TokenProvider": lambda: asyncio.run(module.TokenProvider(app).token()),
    }
    with pytest.raises(TokenError, match="DPoP"):
        ask[client]()


def test_aiokafkas_provider_returns_the_current_token(okta: FakeOkta, module: ModuleType, app: ServiceApp) -> None:
    async def main() -> list[str]:
        provider = module.TokenProvider(app)
        return list(await asyncio.gather(*(provider.token() for _ in range(5))))

    assert set(asyncio.run(main())) == {okta.tokens()[-1].value}
    assert okta.tokens_minted == 1
