"""Kafka with the token of a service app: confluent-kafka and aiokafka."""

from collections.abc import Callable

from aiokafka.abc import AbstractTokenProvider

from okta_m2m import ServiceApp
from okta_m2m.httpx2 import OktaAuth


def oauth_cb(app: ServiceApp) -> Callable[[str], tuple[str, float]]:
    """For confluent-kafka: ``Producer({"oauth_cb": oauth_cb(app), ...})``."""
    auth = OktaAuth(app)

    def current(config: str) -> tuple[str, float]:
        token = auth.token()
        return token.value, token.expires_at

    return current


class TokenProvider(AbstractTokenProvider):
    """For aiokafka: ``sasl_oauth_token_provider=TokenProvider(app)``."""

    def __init__(self, app: ServiceApp) -> None:
        self._auth = OktaAuth(app)

    async def token(self) -> str:
        return (await self._auth.atoken()).value
