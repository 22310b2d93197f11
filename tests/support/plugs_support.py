"""What the tests of other projects' clients have in common."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

NEEDS = {
    "test_agents.py": ["fastmcp"],
    "test_ai_clients.py": ["openai", "langchain_openai", "litellm"],
    "test_clouds.py": ["botocore"],
    "test_kafka.py": ["confluent_kafka", "aiokafka"],
    "test_okta_sdk.py": ["okta"],
}
"""The files whose packages the extra ``dev`` does not have, and packages that each needs."""


@dataclass
class Tls:
    """A CA of the tests, and a server's context with its certificate. ``ca``: the file with the CA's certificate."""

    ca: Path
    server: ssl.SSLContext

    @property
    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)
