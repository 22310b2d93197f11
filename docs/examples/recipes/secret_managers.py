"""Reads the private key from a secret manager: one function for each, for ``ServiceApp(key=...)``.

Pass the client of the manager's library. The secret is the JWK or PEM that ``okta-m2m key new`` writes.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from okta_m2m import PrivateKey

logger = logging.getLogger(__name__)


def parsed(secret: str) -> PrivateKey:
    return PrivateKey.from_env(environ={"OKTA_CLIENT_PRIVATEKEY": secret})  # PEM or JWK


def from_aws(client: Any, secret_id: str) -> PrivateKey:
    """``client = boto3.client("secretsmanager")``."""
    return parsed(client.get_secret_value(SecretId=secret_id)["SecretString"])


def from_google(client: Any, name: str) -> PrivateKey:
    """``SecretManagerServiceClient()``, and a name like ``"projects/P/secrets/S/versions/latest"``."""
    return parsed(client.access_secret_version(name=name).payload.data.decode())


def from_azure(client: Any, name: str) -> PrivateKey:
    """``client = SecretClient(vault_url, DefaultAzureCredential())``."""
    return parsed(client.get_secret(name).value)


def from_vault(client: Any, path: str) -> PrivateKey:
    """``client = hvac.Client()``; version 2 of the KV secrets engine."""
    return parsed(client.secrets.kv.v2.read_secret_version(path=path)["data"]["data"]["key"])


class FollowedKey:
    """A key that is read again from its manager from time to time, so a rotation needs no restart."""

    def __init__(
        self,
        read: Callable[[], PrivateKey],
        every: float = 300,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._every, self._clock = read, every, clock
        self._key: PrivateKey = read()
        self._read_at: float = clock()

    @property
    def alg(self) -> str:
        return self._key.alg

    @property
    def kid(self) -> str | None:
        return self._key.kid

    @property
    def public_jwk(self) -> Any:
        return self._key.public_jwk

    def sign(self, message: bytes, /) -> bytes:
        return self._key.sign(message)

    def snapshot(self) -> PrivateKey:
        """Called before each fetch, never on an event loop. The same key must be the same object."""
        if self._clock() - self._read_at >= self._every:
            self._read_at = self._clock()
            try:
                found = self._read()
            except Exception as error:  # noqa: BLE001  # each manager raises its own
                logger.warning(
                    "The key cannot be read again (%s). Keeping the current key.", type(error).__name__
                )
            else:
                if (found.kid, found.thumbprint()) != (self._key.kid, self._key.thumbprint()):
                    self._key = found
        return self._key
