"""A CA bundle is loaded once for all token requests of a library, and again only if another one is to be used."""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path

import pytest
import trustme

from okta_m2m._clients.ssl_contexts import shared_context


def make() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


def test_token_requests_share_an_ssl_context(bundle: Path) -> None:
    assert shared_context(make) is shared_context(make)


def test_another_bundle_in_the_environment_is_used(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shared_context(make)
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    second = shared_context(make)
    assert second.get_ca_certs() != first.get_ca_certs()


def test_a_bundle_that_was_missing_is_used_once_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "later.pem"))
    with pytest.raises(FileNotFoundError):
        shared_context(make)
    trustme.CA().cert_pem.write_to_path(tmp_path / "later.pem")
    assert len(shared_context(make).get_ca_certs()) == 1


def test_a_connection_does_not_change_the_context_that_another_thread_reads(bundle: Path) -> None:
    shared = shared_context(make)
    sent = ssl.MemoryBIO()
    shared.set_alpn_protocols(["another"])  # as httpcore and urllib3 do for each connection
    client = shared.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="acme.okta.com")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert b"http/1.1" in sent.read()


def test_a_bundle_that_is_named_is_loaded_again_once_its_file_has_changed(bundle: Path) -> None:
    def empty() -> ssl.SSLContext:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    first = shared_context(empty, str(bundle))
    assert shared_context(empty, str(bundle)) is first
    trustme.CA().cert_pem.write_to_path(bundle, append=True)
    assert len(shared_context(empty, str(bundle)).get_ca_certs()) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_child_makes_its_own(bundle: Path) -> None:
    before = shared_context(make)
    child = os.fork()
    if child == 0:
        os._exit(0 if shared_context(make) is not before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
