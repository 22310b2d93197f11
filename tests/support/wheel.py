"""``python tests/support/wheel.py [FOLDER]``: the wheel and the sdist build, install and work, with each extra alone and
with none. They are left in the folder, with a list of the wheel's files.

The wheel is made from the sdist, and installed in a new virtual environment for each extra: on the oldest and the newest Python
of this machine (3.11 and newer) all of them, on those between only no extra and ``all``. In each, what that extra is for is done
against FakeOkta: a token, and a call with it. The sample project in ``docs/examples`` is installed beside the wheel like any
outside package, and its own tests are run.

Invariant: nothing in those environments comes from this source tree. What comes from elsewhere is pinned with hashes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.parser import BytesParser
from pathlib import Path

from uv import find_uv_bin

from okta_m2m import PrivateKey
from okta_m2m.testing import FakeOkta

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "docs" / "examples"
PINS = ROOT / ".ci" / "pins"
OLDEST, NEWEST = 11, 14
NOT_FOR_USERS = {"dev"}
IN_BETWEEN = {"", "all"}
"""The extras that are tried on the Pythons between the oldest and the newest one, too."""

GIVEN = """
import os
from okta_m2m import PrivateKey, ServiceApp

key = PrivateKey.from_pem(os.environ["KEY"])
app = ServiceApp(os.environ["ORG"], client_id=os.environ["CLIENT_ID"], key=key, scopes=["okta.users.read"])
users = f"{app.org_url}/api/v1/users"
"""

#: What each extra is for, done with nothing else installed. "" is the package without any.
CHECKS = {
    "": """
import sys, urllib.request
clients = {"requests", "httpx", "aiohttp", "trio", "yaml", "typer"}
assert not clients & sys.modules.keys()
from okta_m2m.effects import Response
from okta_m2m.runtimes import Threads, run

def send(request, timeout):
    asked = urllib.request.Request(request.url, request.body, dict(request.headers), method=request.method)
    with urllib.request.urlopen(asked, timeout=timeout) as answer:
        return Response(answer.status, answer.headers.items(), answer.read())

headers = run(app.headers("GET", users), Threads(send))
assert urllib.request.urlopen(urllib.request.Request(users, headers=headers), timeout=30).status == 200
assert not clients & sys.modules.keys()
""",
    "requests": """
import requests
from okta_m2m.requests import OktaAuth
with requests.Session() as session:
    session.auth = OktaAuth(app)
    assert session.get(users, timeout=30).status_code == 200
""",
    "niquests": """
import niquests
from okta_m2m.niquests import OktaAuth
with niquests.Session() as session:
    session.auth = OktaAuth(app)
    assert session.get(users, timeout=30).status_code == 200
""",
    "httpx": """
import asyncio, httpx
from okta_m2m.httpx import OktaAuth
with httpx.Client(auth=OktaAuth(app)) as client:
    assert client.get(users).status_code == 200

async def main():
    async with httpx.AsyncClient(auth=OktaAuth(app)) as client:
        assert (await client.get(users)).status_code == 200

asyncio.run(main())
""",
    "httpx2": """
import httpx2
from okta_m2m.httpx2 import OktaAuth
with httpx2.Client(auth=OktaAuth(app)) as client:
    assert client.get(users).status_code == 200
""",
    "trio": """
import httpx, trio
from okta_m2m.httpx import OktaAuth

async def main():
    async with httpx.AsyncClient(auth=OktaAuth(app)) as client:
        assert (await client.get(users)).status_code == 200

trio.run(main)
""",
    "aiohttp": """
import aiohttp, asyncio
from okta_m2m.aiohttp import OktaAuth

async def main():
    async with aiohttp.ClientSession(middlewares=[OktaAuth(app)]) as session:
        async with session.get(users) as response:
            assert response.status == 200

asyncio.run(main())
""",
    "okta": """
import asyncio
from okta.client import Client
from okta_m2m.okta_sdk import sdk_config

os.environ["OKTA_TESTING_TESTINGDISABLEHTTPSCHECK"] = "true"  # the stand-in has plain http
listed, _, error = asyncio.run(Client(sdk_config(app)).list_users())
assert error is None and listed
""",
    "yaml": """
import json, pathlib
lines = {"orgUrl": app.org_url, "authorizationMode": "PrivateKey", "clientId": app.client_id,
         "scopes": ["okta.users.read"], "privateKey": os.environ["KEY"]}
pathlib.Path("okta.yaml").write_text(json.dumps({"okta": {"client": lines}}))
assert ServiceApp.from_env(environ={}).client_id == app.client_id
""",
    "cli": """
import subprocess, sys, sysconfig
command = os.path.join(sysconfig.get_path("scripts"), "okta-m2m")
subprocess.run([command, "--help"], check=True, capture_output=True)
explained = subprocess.run([command, "explain", "InvalidClient"], check=True, capture_output=True, text=True)
assert "Do: check at Okta whether the app is active" in " ".join(explained.stdout.split())
""",
    "httpie": """
import subprocess, sysconfig
command = [os.path.join(sysconfig.get_path("scripts"), "http"), "--ignore-stdin", "--check-status", "--auth-type=okta-m2m"]
settings = {"OKTA_CLIENT_ORGURL": app.org_url, "OKTA_CLIENT_CLIENTID": app.client_id,
    "OKTA_CLIENT_PRIVATEKEY": os.environ["KEY"], "OKTA_CLIENT_SCOPES": "okta.users.read", "HTTPIE_CONFIG_DIR": os.getcwd()}
subprocess.run([*command, "GET", users], check=True, capture_output=True, env=os.environ | settings)
""",
    "file": """
import okta_m2m.stores.file
""",
    "redis": """
import okta_m2m.stores.redis
""",
    "testing": """
from okta_m2m.testing import FakeOkta
with FakeOkta() as okta:
    assert okta.add_app().private_jwk
""",
    "demo": """
import subprocess, sysconfig
command = os.path.join(sysconfig.get_path("scripts"), "okta-m2m")
subprocess.run([command, "demo", "--seconds=1"], check=True, capture_output=True)
""",
    "all": """
import importlib, pkgutil, okta_m2m
for module in pkgutil.walk_packages(okta_m2m.__path__, "okta_m2m."):
    if module.name.endswith((".__main__", ".niquests", ".httpx2", ".okta_sdk")):
        continue  # a program; and what cannot be installed beside its like
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as missing:
        # Whoever uses that has pytest.
        assert (missing.name, module.name.startswith("okta_m2m.testing.")) == ("pytest", True), missing
""",
}


def run(command: Sequence[str | Path], cwd: Path, **environment: str) -> str:
    """The command's output; ends with it and all that it said if it fails."""
    # Neither this source tree nor this interpreter's settings.
    kept = {name: value for name, value in os.environ.items() if not re.match("PYTHON|VIRTUAL_ENV|PYTEST", name)}
    ended = subprocess.run(
        command,
        cwd=cwd,
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{ended.stdout}\nfailed with {ended.returncode}")
    return ended.stdout


def pythons() -> dict[str, Path]:
    """Version -> interpreter, of each Python that this package is for and that runs here."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found: dict[str, Path] = {}
    for minor in range(OLDEST, NEWEST + 1):
        here = sys.executable if sys.version_info[:2] == (3, minor) else shutil.which(f"python3.{minor}")
        candidates = [Path(here)] if here else []
        candidates += sorted(pyenv.glob(f"3.{minor}.*/bin/python"), reverse=True)
        for candidate in candidates:
            told = subprocess.run(
                [candidate, "-c", "import sys, venv; print('%d.%d.%d' % sys.version_info[:3])"],
                capture_output=True,
                text=True,
                check=False,
            )
            if told.returncode == 0 and told.stdout.startswith(f"3.{minor}."):
                found[told.stdout.strip()] = candidate
                break
    return found


def new_environment(python: Path, folder: Path, wheels: Mapping[str, Path]) -> Path:
    """The interpreter of a new virtual environment with these wheels, by requirement: the name, with or without an extra."""
    inside = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run([find_uv_bin(), "venv", "--quiet", "--python", python, folder], folder.parent)
    requirements = folder / "wheels.txt"
    requirements.write_text("".join(map(pinned_wheel, wheels, wheels.values())), "utf-8")
    pins = [argument for name in ("dev", "niquests", "okta") for argument in ("--constraint", PINS / f"{name}.txt")]
    install = [
        find_uv_bin(),
        "pip",
        "install",
        "--quiet",
        "--python",
        inside,
        "--require-hashes",
        "--only-binary",
        ":all:",
    ]
    run([*install, *pins, "-r", requirements], folder.parent)
    return inside


def pinned_wheel(requirement: str, wheel: Path) -> str:
    """The line of a requirements file."""
    return f"{requirement} @ {wheel.as_uri()} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def build(source: Path, folder: Path) -> Path:
    """The wheel of a project, made from its sdist. Both are then in the folder."""
    pins = ["--require-hashes", "--build-constraint", PINS / "build.txt"]
    run([find_uv_bin(), "build", "--quiet", "--python", sys.executable, *pins, "--out-dir", folder, source], folder)
    (wheel,) = folder.glob("*.whl")
    assert len(list(folder.glob("*.tar.gz"))) == 1
    return wheel


def extras_of(wheel: Path) -> list[str]:
    """The extras of our wheel. Writes beside it what it holds: each file with its hash and its size."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        extras = BytesParser().parsebytes(archive.read(metadata)).get_all("Provides-Extra", [])
        record = archive.read(metadata.replace("METADATA", "RECORD"))
    assert "okta_m2m/py.typed" in names
    strays = [name for name in names if not re.match(r"okta_m2m(-[^/]*\.dist-info)?/|pytest_okta_m2m\.py$", name)]
    assert not strays, f"the wheel holds more than the package: {strays}"
    wheel.with_name("wheel-files.csv").write_bytes(record)
    return extras


def main() -> None:
    began = time.monotonic()
    found = pythons()
    key = PrivateKey.generate("ES256")
    with tempfile.TemporaryDirectory() as name, FakeOkta() as okta, ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = Path(name).resolve()
        artifacts = Path(*sys.argv[1:]).resolve() if sys.argv[1:] else folder / "dist"
        artifacts.mkdir(parents=True, exist_ok=True)
        wheel = build(ROOT, artifacts)
        extras = ["", *(extra for extra in extras_of(wheel) if extra not in NOT_FOR_USERS)]
        unknown = set(extras) - CHECKS.keys()
        assert not unknown, f"say in CHECKS what {unknown} is for"
        given = {
            "ORG": okta.url,
            "CLIENT_ID": okta.add_app(key).client_id,
            "KEY": pem(key),
        }

        def check(version: str, extra: str) -> str:
            home = folder / f"{version}-{extra or 'none'}"
            home.mkdir()
            inside = new_environment(found[version], home / "venv", {f"okta-m2m[{extra}]": wheel})
            run([inside, "-W", "error", "-c", GIVEN + CHECKS[extra]], home, **given)
            if extra != "all":
                run([inside, ROOT / ".ci" / "extras_alone.py", extra or "none"], home)
            shutil.rmtree(home)
            return f"Python {version}, {extra or 'no extra'}"

        def sample(version: str, source: Path) -> str:
            home = folder / f"{version}-{source.name}"
            shutil.copytree(source, home, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            (home / "dist").mkdir()
            wheels = {"okta-m2m[testing]": wheel, f"{source.name}[test]": build(home, home / "dist")}
            inside = new_environment(found[version], home / "venv", wheels)
            run([inside, "-m", "pytest", "-q", "-p", "no:cacheprovider"], home)
            return f"Python {version}, {source.name}"

        between = list(found)[1:-1]
        samples = sorted(path.parent for path in SAMPLES.glob("*/pyproject.toml"))
        assert samples
        work = [pool.submit(sample, version, source) for version in found for source in samples]
        work += [
            pool.submit(check, version, extra)
            for version in found
            for extra in extras
            if extra in IN_BETWEEN or version not in between
        ]
        try:
            for done in work:
                print(f"{done.result()}: works", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
    print(f"{wheel.name}: {len(work)} environments in {time.monotonic() - began:.0f} s")


def pem(key: PrivateKey) -> str:
    """The private key as PEM, by other code than the package's own."""
    from joserfc.jwk import ECKey

    return ECKey.import_key(key.private_jwk()).as_pem(private=True).decode("ascii")


if __name__ == "__main__":
    main()
