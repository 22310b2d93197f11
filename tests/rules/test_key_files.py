"""A key file that changes while a service runs: the new key is used, and an unreadable one is a warning."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from key_material import (
    PASSWORD,
    assert_nothing_private,
    ec_key,
    encrypted,
    jwk,
    pem,
    public_jwk,
    public_pem,
    rsa_key,
    same,
    verified,
)
from okta_m2m.keys import PrivateKey


def test_an_unchanged_file_gives_the_same_snapshot(path: Path) -> None:
    key = PrivateKey.from_file(path, kid="k")
    first = key.snapshot()
    assert key.snapshot() is first
    os.utime(path)
    assert key.snapshot() is first
    assert first.snapshot() is first
    assert first is not key
    assert (first.kid, first.alg, first.public_jwk) == (key.kid, key.alg, key.public_jwk)


def test_a_changed_file_gives_a_new_snapshot_and_leaves_old_ones_as_they_were(path: Path) -> None:
    key = PrivateKey.from_file(path, kid="k")
    old = key.snapshot()
    path.write_text(json.dumps(jwk(rsa_key(), alg="RS384", kid="ignored")))
    assert same(key, ec_key()), "only snapshot looks at the file"
    new = key.snapshot()
    for after in (new, key):
        assert same(after, rsa_key())
        assert (after.alg, after.kid) == ("RS384", "k")
        assert after.jwks()["keys"][0]["n"] == public_jwk(rsa_key())["n"]
        assert after.thumbprint() == PrivateKey(rsa_key()).thumbprint()
    assert key.snapshot() is new
    assert same(old, ec_key())
    assert old.alg == "ES256"


def test_a_jwk_file_brings_its_own_new_kid(path: Path) -> None:
    path.write_text(json.dumps(jwk(ec_key(), kid="one")))
    key = PrivateKey.from_file(path)
    assert key.kid == "one"
    path.write_text(json.dumps(jwk(ec_key(which=1), kid="two")))
    assert (key.snapshot().kid, key.kid) == ("two", "two")


def test_a_new_key_is_seen_even_if_size_and_times_are_the_same(path: Path) -> None:
    key = PrivateKey.from_file(path)
    about = path.stat()
    path.write_text(pem(ec_key(which=1)))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert path.stat().st_size == about.st_size
    assert same(key.snapshot(), ec_key(which=1))


def test_a_replaced_file_is_seen(path: Path) -> None:
    key = PrivateKey.from_file(path)
    path.with_suffix(".new").write_text(pem(ec_key(which=1)))
    os.replace(path.with_suffix(".new"), path)
    assert same(key.snapshot(), ec_key(which=1))


def test_a_swapped_symlink_is_seen(tmp_path: Path) -> None:
    # As Kubernetes mounts a secret: key.pem -> ..data/key.pem, ..data -> a directory per version.
    for n in (0, 1):
        (tmp_path / f"v{n}").mkdir()
        (tmp_path / f"v{n}" / "key.pem").write_text(pem(ec_key(which=n)))
    try:
        (tmp_path / "..data").symlink_to("v0", target_is_directory=True)
        (tmp_path / "key.pem").symlink_to(Path("..data") / "key.pem")
    except OSError:
        pytest.skip("this user may not make symlinks")
    key = PrivateKey.from_file(tmp_path / "key.pem")
    (tmp_path / "..new").symlink_to("v1", target_is_directory=True)
    os.replace(tmp_path / "..new", tmp_path / "..data")
    assert same(key.snapshot(), ec_key(which=1))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text(pem(ec_key(which=1))[:100]),
        lambda path: path.write_text(""),
        lambda path: path.write_text(encrypted(ec_key(which=1)).replace("A", "B")),
        lambda path: path.write_text(public_pem(ec_key(which=1))),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["half", "empty", "undecryptable", "public", "nested", "gone", "directory"],
)
def test_an_unreadable_file_keeps_the_last_good_key(spoil: Callable[[Path], object], path: Path) -> None:
    key = PrivateKey.from_file(path, password=PASSWORD)
    good = key.snapshot()
    assert key.trouble is None
    spoil(path)
    for _ in range(3):
        assert key.snapshot() is key.latest is good
    assert same(key, ec_key())
    assert key.trouble is not None
    assert_nothing_private(key.trouble)


def test_a_valid_file_is_used_again_after_a_failure(path: Path) -> None:
    key = PrivateKey.from_file(path)
    good, text = key.snapshot(), path.read_text()
    path.unlink()
    assert key.snapshot() is good
    path.write_text(text)
    assert [key.snapshot(), key.snapshot()] == [good, good]
    assert key.trouble is None
    path.write_text(text[:50])
    assert key.snapshot() is good
    path.write_text(pem(ec_key(which=1)))
    assert same(key.snapshot(), ec_key(which=1))
    assert key.latest is key.snapshot()
    assert key.trouble is None


def test_the_password_and_the_kid_are_used_for_every_reading(path: Path) -> None:
    path.write_text(encrypted(ec_key()))
    key = PrivateKey.from_file(path, password=PASSWORD, kid="b")
    path.write_text(encrypted(ec_key(which=1)))
    assert same(key.snapshot(), ec_key(which=1))
    path.write_text(json.dumps({"keys": [jwk(ec_key(), kid="a"), jwk(rsa_key(), kid="b")]}))
    assert same(key.snapshot(), rsa_key())
    assert key.kid == "b"


def test_a_key_file_named_in_the_environment_is_read_again_when_it_changes(path: Path) -> None:
    key = PrivateKey.from_env(environ={"OKTA_CLIENT_PRIVATEKEY": str(path)})
    path.write_text(pem(ec_key(which=1)))
    assert same(key.snapshot(), ec_key(which=1))


def test_threads_may_sign_and_take_snapshots_while_the_file_changes(path: Path) -> None:
    key = PrivateKey.from_file(path)
    texts = [pem(ec_key(which=n)) for n in (0, 1)]
    known = {PrivateKey(ec_key(which=n)).thumbprint() for n in (0, 1)}
    publics = {PrivateKey(ec_key(which=n)).thumbprint(): public_jwk(ec_key(which=n)) for n in (0, 1)}
    over = threading.Event()

    def look() -> int:
        looks = 0
        while not over.is_set() or not looks:
            version = key.snapshot()
            assert version.thumbprint() in known
            assert verified(version, publics[version.thumbprint()])
            looks += 1
        return looks

    with ThreadPoolExecutor(8) as pool:
        looking = [pool.submit(look) for _ in range(8)]
        for n in range(40):
            path.write_text(texts[n % 2])  # not atomic: half-written files are seen too
        path.write_text(texts[1])
        over.set()
        assert all(future.result() for future in looking)
    last = key.snapshot()
    assert same(last, ec_key(which=1))
    assert key.snapshot() is last
