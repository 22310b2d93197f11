"""The commands of docs/recipes/rotate.md rotate a key, and what they publish obtains a token.

``kubectl`` and ``vault`` are stand-ins, because neither a cluster nor Vault's server is here: they accept only the arguments that
the real ones document, and keep the file. The AWS command line and moto's server are real, in an environment of their own:
.ci/rotate_environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import App, FakeOkta
from services import eventually

PAGE = Path(__file__).parents[2] / "docs" / "recipes" / "rotate.md"

pytestmark = [
    pytest.mark.recipe,
    pytest.mark.skipif(os.name != "posix", reason="the commands are for a POSIX shell"),
]

# kubectl create secret generic NAME --from-file=[KEY=]FILE --dry-run=client --output=yaml; kubectl apply --filename=-
KUBECTL = """
import base64, json, pathlib, sys
cluster = pathlib.Path("cluster.json")
match sys.argv[1:]:
    case ["create", "secret", "generic", name, file, "--dry-run=client", "--output=yaml"] if file.startswith("--from-file="):
        key, _, path = file.removeprefix("--from-file=").partition("=")
        data = {key: base64.b64encode(pathlib.Path(path).read_bytes()).decode()}
        # JSON is YAML.
        print(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}))
    case ["apply", "--filename=-"]:
        manifest = sys.stdin.read()
        if not manifest or pathlib.Path("forbidden").exists():
            sys.exit("error: no objects passed to apply")
        cluster.write_text(manifest)
        print("secret/okta-key configured")
    case other:
        sys.exit(f"error: unknown command {other}")
"""

# vault kv put -mount=MOUNT PATH KEY=@FILE
VAULT = """
import json, pathlib, sys
match sys.argv[1:]:
    case ["kv", "put", "-mount=secret", path, pair]:
        name, _, value = pair.partition("=")
        assert value.startswith("@"), "the value would be an argument"
        secret = {"path": path, name: pathlib.Path(value[1:]).read_text()}
        pathlib.Path("vault.json").write_text(json.dumps(secret))
    case other:
        sys.exit(f"unknown command {other}")
"""


@pytest.fixture
def folder(okta: FakeOkta, tmp_path: Path) -> Path:
    """A folder with a service app's key and settings, and a folder ``bin`` that begins the path of programs."""
    write_key(tmp_path / "key.json", new_key("ES256"))
    (tmp_path / "bin").mkdir()
    return tmp_path


@pytest.fixture
def app(okta: FakeOkta, folder: Path) -> App:
    return okta.add_app(PrivateKey.from_file(folder / "key.json"), ["okta.users.read"], label="billing")


Rotate = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def rotate(okta: FakeOkta, app: App, folder: Path) -> Rotate:
    """``rotate("vault")``: runs the page's command that calls this program, without a grace period."""
    settings = {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_TOKEN": okta.ssws,
        "OKTA_CLIENT_CLIENTID": app.client_id,
        "OKTA_CLIENT_PRIVATEKEY": str(folder / "key.json"),
        "OKTA_CLIENT_SCOPES": "okta.users.read",
        "HOME": str(folder),
    }
    install(folder, "okta-m2m", "import runpy; runpy.run_module('okta_m2m.cli', run_name='__main__')")
    path = os.pathsep.join([str(folder / "bin"), sysconfig.get_path("scripts"), os.environ["PATH"]])

    def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
        (command,) = re.findall(
            rf"^```sh\n(okta-m2m [^`]*\n  {program} [^`]*)^```$", PAGE.read_text("utf-8"), re.MULTILINE
        )
        at_once, changed = re.subn(r"--grace \d+", "--grace 0", command)
        assert changed == 1
        environment = {**os.environ, **settings, "PATH": path, **variables}
        return subprocess.run(
            at_once, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    return run


def install(folder: Path, name: str, program: str) -> None:
    path = folder / "bin" / name
    path.write_text(f"#!{sys.executable}\n{program}", encoding="utf-8")
    path.chmod(0o755)


def age(okta: FakeOkta) -> None:
    """Ninety-one days later."""
    okta.skew(minutes=91 * 24 * 60)


def published_key_works(okta: FakeOkta, app: App, folder: Path, text: str) -> None:
    assert text.encode() == (folder / "key.json").read_bytes()
    (registered,) = app.jwks["keys"]
    key = PrivateKey.from_jwk(text)
    assert registered["kid"] == key.kid
    service = ServiceApp(okta.url, client_id=app.client_id, key=key, scopes=["okta.users.read"], max_wait=20)
    assert OktaAuth(service).token()


def test_a_kubernetes_secret_is_replaced(okta: FakeOkta, app: App, folder: Path, rotate: Rotate) -> None:
    import base64

    install(folder, "kubectl", KUBECTL)
    young = rotate("kubectl")
    assert (young.returncode, young.stdout.startswith("Nothing was done")) == (0, True), young.stderr
    assert not (folder / "cluster.json").exists()
    age(okta)
    (folder / "forbidden").touch()
    old = (folder / "key.json").read_bytes()
    refused = rotate("kubectl")
    assert refused.returncode == 3, refused.stderr
    assert "error: no objects passed to apply" in refused.stderr
    assert (folder / "key.json").read_bytes() == old
    assert [key["status"] for key in app.jwks["keys"]] == ["ACTIVE", "ACTIVE"]
    (folder / "forbidden").unlink()
    done = rotate("kubectl")
    assert done.returncode == 0, done.stderr
    assert "secret/okta-key configured" in done.stderr
    secret = json.loads((folder / "cluster.json").read_text("utf-8"))
    assert secret["metadata"]["name"] == "okta-key"
    published_key_works(okta, app, folder, base64.b64decode(secret["data"]["key.json"]).decode())


def test_a_secret_in_vault_is_replaced(okta: FakeOkta, app: App, folder: Path, rotate: Rotate) -> None:
    install(folder, "vault", VAULT)
    age(okta)
    done = rotate("vault")
    assert done.returncode == 0, done.stderr
    secret = json.loads((folder / "vault.json").read_text("utf-8"))
    assert secret["path"] == "okta/billing"
    published_key_works(okta, app, folder, secret["key"])


@contextmanager
def moto_server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:

            def answers() -> bool:
                try:
                    return requests.get(f"{url}/moto-api/", timeout=1).ok
                except requests.ConnectionError:
                    return False

            eventually(answers, "moto's server")
            yield url
        finally:
            server.send_signal(signal.SIGTERM)


@pytest.mark.skipif(find_spec("moto") is None, reason="has an environment of its own: .ci/rotate_environment")
def test_a_secret_in_aws_secrets_manager_is_replaced(okta: FakeOkta, app: App, folder: Path, rotate: Rotate) -> None:
    age(okta)
    aws = shutil.which("aws", path=sysconfig.get_path("scripts"))
    assert aws is not None
    with moto_server() as url:
        account = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }

        def call(*arguments: str) -> str:
            command = [aws, "secretsmanager", *arguments]
            return subprocess.run(
                command, env={**os.environ, **account}, cwd=folder, capture_output=True, text=True, check=True
            ).stdout

        refused = rotate("aws", **account)  # there is no such secret
        assert refused.returncode == 3
        assert "ResourceNotFoundException" in refused.stderr
        assert [key["status"] for key in app.jwks["keys"]] == ["ACTIVE", "ACTIVE"]
        call("create-secret", "--name", "okta/billing", "--secret-string", "file://key.json")
        done = rotate("aws", **account)
        assert done.returncode == 0, done.stderr
        stored = call("get-secret-value", "--secret-id", "okta/billing", "--query", "SecretString", "--output", "json")
    published_key_works(okta, app, folder, json.loads(stored))
