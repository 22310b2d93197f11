"""A client that openapi-generator generated, with tokens of a custom authorization server."""

from typing import Any

from okta_m2m import ServiceApp
from okta_m2m.requests import OktaAuth


def configured(configuration_class: Any, app: ServiceApp, host: str) -> Any:
    """A ``Configuration`` with a property ``access_token``, which the client reads for each call.

    ``configuration_class`` is the generated ``Configuration``. ``app`` has the origin of ``host`` among
    its ``origins``, and ``dpop=False``.
    """
    auth = OktaAuth(app)

    class OktaConfiguration(configuration_class):
        @property
        def access_token(self) -> str:
            return auth.headers("GET", self.host)["Authorization"].removeprefix("Bearer ")

        @access_token.setter
        def access_token(self, value: object) -> None:
            """The constructor sets ``None`` here."""

    return OktaConfiguration(host=host)
