"""Other projects' clients with the token of a service app: each real, against FakeOkta over a socket.

Some of their packages are in no extra of ``dev``. The files that need them are collected only where they are installed: each
has an environment of its own, which ``.ci/run`` makes. Such a file that is named where its packages are missing is an error.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import trustme

from okta_m2m.testing import FakeOkta
from plugs_support import NEEDS, Tls
from services import free_port as a_free_port

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise, litellm downloads prices when it is imported
collect_ignore = [file for file, packages in NEEDS.items() if not all(find_spec(package) for package in packages)]


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(server)
    return Tls(path, server)


@pytest.fixture
def secure_okta(tls: Tls) -> Iterator[FakeOkta]:
    """An org at ``https://``, as other projects' clients require."""
    with FakeOkta(ssl_context=tls.server) as running:
        yield running


@pytest.fixture
def free_port() -> int:
    """A port at which nothing listens."""
    return a_free_port()
