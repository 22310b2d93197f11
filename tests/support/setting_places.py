"""The places that settings are read from: an environment, a working directory and a home directory of the test's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from okta_m2m.errors import ConfigurationError
from okta_m2m.keys import PrivateKey
from okta_m2m.settings import Settings, read_settings

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
