"""The HTTP clients that okta-m2m serves, each behind one blocking interface, so that one test body serves all.

niquests replaces urllib3 in the whole environment, so it has one of its own (``.ci/niquests_environment``), in which there is no
other client; hence :data:`CLIENTS` are those whose library is there.

Invariant: a client is used as its own documentation says; nothing of the client or of okta-m2m is replaced.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from .interface import MULTIPART_NAME, NOTHING, PATIENCE, Answer, AsyncClient, BlockingClient, Body, Client, Outcome

__all__ = [
    "CLIENTS",
    "MULTIPART_NAME",
    "NOTHING",
    "PATIENCE",
    "Answer",
    "AsyncClient",
    "BlockingClient",
    "Body",
    "Client",
    "Outcome",
]

LIBRARIES = {
    "requests": ["RequestsClient"],
    "httpx": ["HttpxClient", "HttpxAsyncioClient", "HttpxTrioClient"],
    "httpx2": ["Httpx2Client", "Httpx2AsyncioClient", "Httpx2TrioClient"],
    "aiohttp": ["AiohttpClient"],
    "niquests": ["NiquestsClient", "AsyncNiquestsClient"],
    "urllib3": ["DocsUrllib3Client"],
}

CLIENTS: dict[str, type[Client]] = {}
for library, names in LIBRARIES.items():
    if library == "urllib3" and find_spec("niquests") is not None:
        continue  # what has that name there is another library
    if find_spec(library) is not None:
        module = import_module(f"clients.of_{library}")
        for client in (getattr(module, name) for name in names):
            CLIENTS[client.name] = client
