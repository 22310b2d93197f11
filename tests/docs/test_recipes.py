"""Each file of docs/examples/recipes does what its page says, against FakeOkta.

Needs the extra ``recipes``. A recipe whose package is not installed is skipped; in CI it fails.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import requests
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pytest_httpserver import HTTPServer
from werkzeug import Response

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.errors import ConfigurationError, InvalidClient
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import FakeOkta
from packages import needs

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs" / "examples" / "recipes"
PAGES = ROOT / "docs" / "recipes"
MIGRATIONS = sorted(path.parent for path in (ROOT / "docs" / "examples" / "migrate").glob("*/before.py"))
CLIENT_ID = "0oa1b2c3"
SCOPES = ("okta.users.read", "okta.groups.read", "okta.groups.manage", "okta.logs.read")
YESTERDAY, TOMORROW = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (-1, 1))

pytestmark = [
    pytest.mark.recipe,
    pytest.mark.timeout(300),
    # Of the frameworks, not of ours.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"),
]


@pytest.fixture
def settings(okta: FakeOkta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a recipe: the settings of an app that is registered with ``okta``."""
    key = PrivateKey.generate("ES256", kid="recipe")
    okta.add_app(key, SCOPES, client_id=CLIENT_ID).roles = ["SUPER_ADMIN"]
    found = {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_CLIENTID": CLIENT_ID,
        "OKTA_CLIENT_SCOPES": " ".join(SCOPES),
        "OKTA_CLIENT_AUTHORIZATIONMODE": "PrivateKey",
        "OKTA_CLIENT_PRIVATEKEY": json.dumps(key.private_jwk()),
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def recipe(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """``recipe("flask_app")``: the module of that file, loaded anew."""

    def load(name: str) -> ModuleType:
        specification = spec_from_file_location(name, RECIPES / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        module = module_from_spec(specification)
        monkeypatch.setitem(sys.modules, name, module)
        specification.loader.exec_module(module)
        return module

    return load


Recipe = Callable[[str], ModuleType]


def test_every_file_is_on_a_page_and_has_a_test() -> None:
    pages = "".join(page.read_text("utf-8") for page in PAGES.glob("*.md"))
    plugs = [*(ROOT / "tests" / "plugs").glob("test_*.py")]
    tests = "".join(path.read_text("utf-8") for path in [Path(__file__), *plugs])
    files = [path for path in RECIPES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) > 15
    included = {(PAGES / name).resolve() for name in re.findall(r"^```\{literalinclude\} (\S+)$", pages, re.MULTILINE)}
    assert sorted(str(path) for path in set(files) - included) == []
    assert [path.name for path in files if path.stem not in tests and path.name not in tests] == []


# ── web frameworks ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_fastapi(recipe: Recipe, okta: FakeOkta) -> None:
    needs("fastapi", "starlette")
    module = recipe("fastapi_app")

    async def visit() -> list[dict[str, str]]:
        import httpx

        async with module.lifespan(module.api):
            transport = httpx.ASGITransport(module.api)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as browser:
                answers = await asyncio.gather(*(browser.get("/users/ada@example.com") for _ in range(20)))
                return [answer.raise_for_status().json() for answer in answers]

    assert asyncio.run(visit()) == [{"login": "ada@example.com"}] * 20
    assert okta.tokens_minted == 1


def test_flask(recipe: Recipe, okta: FakeOkta) -> None:
    needs("flask")
    web = recipe("flask_app").create_app()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: web.test_client().get("/users/ada@example.com"), range(20)))
    assert [answer.json for answer in answers] == [{"login": "ada@example.com"}] * 20
    assert okta.tokens_minted == 1


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """A server of its own process, which is given its address by ``HOST`` and ``PORT`` in the command. Its URL, once it
    answers. In the end it is asked to stop, and has to stop without a failure."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    given = [word.replace("HOST", "127.0.0.1").replace("PORT", port) for word in command]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    server = subprocess.Popen([sys.executable, "-m", *given], cwd=RECIPES, env=environment)
    try:
        for _ in range(600):
            try:
                requests.get(f"http://127.0.0.1:{port}/", timeout=10)
                break
            except requests.ConnectionError:
                assert server.poll() is None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        ended = server.wait(60)
    assert ended == 0


@pytest.mark.parametrize(
    ("packages", "command"),
    [
        (["gunicorn", "flask"], ["gunicorn", "-c", "gunicorn.conf.py", "-b", "HOST:PORT", "flask_app:create_app()"]),
        (
            ["uvicorn", "fastapi"],
            ["uvicorn", "--workers", "2", "--host", "HOST", "--port", "PORT", "fastapi_app:api"],
        ),
    ],
    ids=["gunicorn", "uvicorn"],
)
def test_each_worker_of_a_server_obtains_one_token_at_most(
    settings: dict[str, str], okta: FakeOkta, packages: list[str], command: list[str]
) -> None:
    """gunicorn.conf.py with flask_app.py, and uvicorn with fastapi_app.py."""
    needs(*packages)
    if os.name != "posix":
        pytest.skip("gunicorn forks, and Windows has no signal that asks uvicorn to stop")
    with serving(*command) as url:
        for _ in range(30):
            assert requests.get(f"{url}/users/ada", timeout=10).json() == {"login": "ada"}
        assert 1 <= okta.tokens_minted <= 2


def test_django(settings: dict[str, str], okta: FakeOkta, tmp_path: Path) -> None:
    """django_okta.py, in a process of its own: Django is set up once for each process."""
    needs("django")
    program = """
import django
from django.conf import settings
settings.configure(ROOT_URLCONF="django_okta", ALLOWED_HOSTS=["*"], OKTA_M2M={"require_all_scopes": True})
django.setup()
from django.test import Client
for _ in range(3):
    print(Client().get("/users/ada@example.com").json()["login"])
"""
    environment = {**os.environ, "PYTHONPATH": str(RECIPES), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["ada@example.com"] * 3), done.stderr
    assert okta.tokens_minted == 1


# ── jobs and pipelines ───────────────────────────────────────────────────────────────────────────────────────────────


def test_celery(recipe: Recipe, okta: FakeOkta) -> None:
    needs("celery")
    module = recipe("celery_tasks")
    module.celery.conf.update(broker_url="memory://", result_backend="cache+memory://", worker_hijack_root_logger=False)
    from celery.contrib.testing.worker import start_worker

    with start_worker(module.celery, perform_ping_check=False, pool="threads", concurrency=4):
        results = [module.login_of.delay("ada@example.com") for _ in range(8)]
        assert [result.get(timeout=60) for result in results] == ["ada@example.com"] * 8
    assert okta.tokens_minted == 1


def test_celery_waits_as_long_as_the_rate_limit_says(recipe: Recipe, okta: FakeOkta) -> None:
    needs("celery")
    from celery.exceptions import Retry

    from okta_m2m import RateLimited

    module = recipe("celery_tasks")
    module.celery.conf.update(task_always_eager=False)
    error = RateLimited("later", retry_after=77)
    module.requests = SimpleNamespace(get=functools.partial(fail, error), ConnectionError=requests.ConnectionError)
    with pytest.raises(Retry) as caught:
        module.login_of.apply(args=["ada"], throw=True, task_id="1", retries=0).get()
    assert caught.value.when == 77


def fail(error: Exception, *_: object, **__: object) -> None:
    raise error


def test_airflow_calls_the_auth_type_with_or_without_a_login(recipe: Recipe, okta: FakeOkta) -> None:
    """As ``HttpHook._extract_auth`` does; Airflow itself is not installed for this."""
    module = recipe("airflow_okta")
    for auth in (module.okta_auth(), module.okta_auth("login", "password")):
        with requests.Session() as session:
            session.auth = auth
            prepared = session.prepare_request(requests.Request("GET", f"{okta.url}/api/v1/users"))
            session.send(prepared).raise_for_status()
    assert okta.tokens_minted == 1


def test_dlt(recipe: Recipe, okta: FakeOkta) -> None:
    needs("dlt")
    module = recipe("dlt_source")
    assert [user["profile"]["login"] for user in module.okta_users()] == ["ada@example.com"]
    okta.revoke_all()
    assert len(list(module.okta_users())) == 1


def test_a_notebook(settings: dict[str, str], okta: FakeOkta) -> None:
    """notebook.py, cell by cell, and each cell twice."""
    needs("IPython")
    from IPython.core.interactiveshell import InteractiveShell

    cells = re.split(r"^# %%.*$", (RECIPES / "notebook.py").read_text("utf-8"), flags=re.MULTILINE)[1:]
    shell = InteractiveShell()

    async def run() -> None:
        for cell in (*cells, *cells):
            result = await shell.run_cell_async(cell, transformed_cell=shell.transform_cell(cell))
            result.raise_error()
        await shell.user_ns["client"].aclose()

    asyncio.run(run())
    assert shell.user_ns["logins"] == ["ada@example.com"]
    assert okta.tokens_minted == 1


def test_lambda_keeps_its_token_between_invocations(recipe: Recipe, okta: FakeOkta) -> None:
    module = recipe("lambda_handler")
    first = module.handler({"login": "ada@example.com"}, None)
    assert first == module.handler({"login": "ada@example.com"}, None)
    assert first["id"].startswith("00u")
    assert okta.tokens_minted == 1


# ── retries and caches ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["with_stamina", "with_tenacity"])
def test_retry_around_a_call(recipe: Recipe, okta: FakeOkta, name: str) -> None:
    needs("stamina", "tenacity")
    module = recipe("retry_around")
    okta.next(503, times=2, on="/api/v1/users/*")
    assert getattr(module, name)("ada@example.com")["profile"]["login"] == "ada@example.com"
    with pytest.raises(requests.HTTPError, match="404"):
        getattr(module, name)("../nothing")


@pytest.mark.parametrize("name", ["with_stamina", "with_tenacity"])
def test_a_refusal_is_not_retried(recipe: Recipe, okta: FakeOkta, name: str) -> None:
    needs("stamina", "tenacity")
    module = recipe("retry_around")
    okta.apps[CLIENT_ID].deactivate_key("recipe")
    with pytest.raises(InvalidClient):
        getattr(module, name)("ada@example.com")


def test_a_retry_of_urllib3(recipe: Recipe, okta: FakeOkta) -> None:
    needs("stamina", "tenacity")
    module = recipe("retry_around")
    okta.next(503, on="/api/v1/users")
    with module.with_urllib3() as session:
        assert session.get(f"{okta.url}/api/v1/users").status_code == 200


@pytest.fixture
def two_apps(settings: dict[str, str], okta: FakeOkta) -> tuple[ServiceApp, ServiceApp]:
    other = PrivateKey.generate("ES256")
    registered = okta.add_app(other, SCOPES)
    return ServiceApp.from_env(), ServiceApp(okta.url, client_id=registered.client_id, key=other, scopes=SCOPES)


def stored_tokens(okta: FakeOkta) -> list[str]:
    """The files in the working directory that hold a token, which others may read unless their directory is private."""
    values = [token.value.encode() for token in okta.tokens()]
    files = [path for path in Path().rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if any(value in path.read_bytes() for value in values)]


def calls(okta: FakeOkta) -> int:
    return sum(request.path == "/api/v1/users" for request in okta.requests)


def test_a_cache_for_requests(recipe: Recipe, okta: FakeOkta, two_apps: tuple[ServiceApp, ServiceApp]) -> None:
    needs("requests_cache", "hishel", "aiohttp_client_cache", "aiosqlite")
    module = recipe("cache_without_tokens")
    for app in two_apps:
        with module.requests_session(app) as session:
            assert [session.get(f"{okta.url}/api/v1/users").from_cache for _ in range(2)] == [False, True]
    assert stored_tokens(okta) == []


def test_a_cache_for_httpx(recipe: Recipe, okta: FakeOkta, two_apps: tuple[ServiceApp, ServiceApp]) -> None:
    needs("requests_cache", "hishel", "aiohttp_client_cache", "aiosqlite")
    module = recipe("cache_without_tokens")
    for number, app in enumerate(two_apps, 1):
        with module.httpx_client(app) as client:
            for _ in range(2):
                assert client.get(f"{okta.url}/api/v1/users").json()[0]["profile"]["login"] == "ada@example.com"
        assert calls(okta) == number
    assert stored_tokens(okta) == []


def test_a_cache_for_aiohttp(recipe: Recipe, okta: FakeOkta, two_apps: tuple[ServiceApp, ServiceApp]) -> None:
    needs("requests_cache", "hishel", "aiohttp_client_cache", "aiosqlite")
    module = recipe("cache_without_tokens")

    async def visit(app: ServiceApp) -> list[bool]:
        async with module.aiohttp_session(app) as session:
            return [getattr(await session.get(f"{okta.url}/api/v1/users"), "from_cache", False) for _ in range(2)]

    for app in two_apps:
        assert asyncio.run(visit(app)) == [False, True]
    assert stored_tokens(okta) == []


def test_without_the_recipe_the_caches_mix_apps_and_store_tokens(
    settings: dict[str, str], okta: FakeOkta, two_apps: tuple[ServiceApp, ServiceApp]
) -> None:
    """The page warns of it. If this fails, the libraries have become safer, and the page should say so."""
    needs("requests_cache", "hishel", "aiohttp_client_cache", "aiosqlite")
    import hishel
    import hishel.httpx
    import requests_cache
    from aiohttp_client_cache import CachedSession, SQLiteBackend

    import okta_m2m.aiohttp
    import okta_m2m.httpx
    import okta_m2m.requests

    url, (one, other) = f"{okta.url}/api/v1/users", two_apps
    with requests_cache.CachedSession("requests", backend="sqlite", match_headers=["Authorization"]) as session:
        session.get(url, auth=okta_m2m.requests.OktaAuth(one))
        assert session.get(url, auth=okta_m2m.requests.OktaAuth(other)).from_cache  # another app's answer

    before = calls(okta)
    for app in two_apps:
        storage = hishel.SqliteStorage(database_path=Path("hishel.db").resolve())
        with hishel.httpx.CacheClient(auth=okta_m2m.httpx.OktaAuth(app), storage=storage) as client:
            client.get(url).read()

    async def visit(app: ServiceApp) -> None:
        cache = SQLiteBackend("aiohttp")
        async with CachedSession(cache=cache, middlewares=[okta_m2m.aiohttp.OktaAuth(app)]) as session:
            await session.get(url)

    for app in two_apps:
        asyncio.run(visit(app))
    assert calls(okta) == before + 2  # one for each library, not for each app
    found = [Path(path) for path in stored_tokens(okta)]
    assert {path.stem for path in found} == {"hishel", "aiohttp"}
    if os.name == "posix":
        assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o666 & ~current_umask()}


def current_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


# ── not a plain HTTP call ────────────────────────────────────────────────────────────────────────────────────────────


def test_websocket_client(recipe: Recipe, okta: FakeOkta) -> None:
    needs("websockets")
    from websockets.asyncio.server import serve

    module = recipe("websocket_client")

    seen: list[str] = []

    async def visit() -> str:
        async def answer(socket: Any) -> None:
            seen.append(socket.request.headers["Authorization"])
            await socket.send("hello")

        quiet = logging.getLogger("server")  # it would log the token, as the client's does
        quiet.setLevel(logging.INFO)
        async with serve(answer, "127.0.0.1", 0, logger=quiet) as server:
            origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            app = ServiceApp.from_env(origins=[origin])
            return await module.first_message(app, f"{origin}/events")

    assert asyncio.run(visit()) == "hello"
    assert seen == [f"Bearer {okta.tokens()[-1].value}"]


def test_grpc_client(recipe: Recipe, okta: FakeOkta) -> None:
    needs("grpc")
    import grpc

    module = recipe("grpc_client")
    seen: list[str] = []

    def answer(request: bytes, context: Any) -> bytes:
        seen.append(dict(context.invocation_metadata())["authorization"])
        return b"done"

    handler = grpc.method_handlers_generic_handler(
        "orders.Orders", {"Get": grpc.unary_unary_rpc_method_handler(answer)}
    )
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain = b"".join(one.bytes() for one in certificate.cert_chain_pems)
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    identity = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    port = server.add_secure_port("localhost:0", identity)
    server.start()
    tls = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    try:
        allowed = ServiceApp.from_env(origins=[f"https://localhost:{port}"])
        with module.channel(allowed, f"localhost:{port}", tls) as channel:
            assert channel.unary_unary("/orders.Orders/Get")(b"", timeout=60) == b"done"

        async def call() -> bytes:
            async with module.aio_channel(allowed, f"localhost:{port}", tls) as channel:
                return await channel.unary_unary("/orders.Orders/Get")(b"", timeout=60)

        assert asyncio.run(call()) == b"done"
        refused = pytest.raises(grpc.RpcError, match="must not be sent")
        with module.channel(ServiceApp.from_env(), f"localhost:{port}", tls) as channel, refused:
            channel.unary_unary("/orders.Orders/Get")(b"", timeout=60)
    finally:
        server.stop(None).wait()
    assert seen == [f"Bearer {okta.tokens()[-1].value}"] * 2


def test_graphql_client_renews_a_rejected_token(recipe: Recipe, okta: FakeOkta) -> None:
    needs("gql")
    from gql import gql

    okta.protect("/graphql", scope="api:read")
    okta.next(200, body={"data": {"orders": 2}}, on="/graphql")
    app = ServiceApp.from_env(scopes=["api:read"], authorization_server="default", origins=[okta.url])
    client = recipe("graphql_client").connect(app, f"{okta.url}/graphql")
    assert client.execute(gql("{ orders }")) == {"orders": 2}
    okta.next(401, on="/graphql")
    okta.next(200, body={"data": {"orders": 3}}, on="/graphql")
    assert client.execute(gql("{ orders }")) == {"orders": 3}
    assert okta.tokens_minted == 2


@pytest.fixture
def open_loop() -> Iterator[None]:
    """gql's blocking client uses it. Otherwise gql makes one and never closes it, and a later test fails for that."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("open_loop")
def test_graphql_transports_of_the_other_clients_send_the_token(recipe: Recipe, okta: FakeOkta) -> None:
    needs("gql")
    from gql import Client, gql
    from gql.transport.aiohttp import AIOHTTPTransport
    from gql.transport.httpx import HTTPXTransport

    import okta_m2m.aiohttp
    import okta_m2m.httpx2

    url = okta.protect("/graphql", scope="api:read")
    app = ServiceApp.from_env(scopes=["api:read"], authorization_server="default", origins=[okta.url])
    session = {"middlewares": [okta_m2m.aiohttp.OktaAuth(app)]}
    for transport in (
        HTTPXTransport(url, auth=okta_m2m.httpx2.OktaAuth(app)),
        AIOHTTPTransport(url, client_session_args=session, ssl=False),
    ):
        okta.next(200, body={"data": {"orders": 2}}, on="/graphql")
        assert Client(transport=transport).execute(gql("{ orders }")) == {"orders": 2}
        assert okta.requests[-1].header("authorization").startswith(("Bearer ", "DPoP "))


def test_generated_client(recipe: Recipe, okta: FakeOkta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("openapi_python_client")
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Orders", "version": "1"},
        "paths": {
            "/orders": {
                "get": {
                    "operationId": "list_orders",
                    "responses": {"200": {"description": "ok", "content": {"application/json": {"schema": {}}}}},
                }
            }
        },
    }
    (tmp_path / "orders.json").write_text(json.dumps(document), "utf-8")
    (tmp_path / "config.yaml").write_text("post_hooks: []\n", "utf-8")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "orders.json"]
    subprocess.run([*command, "--config", "config.yaml", "--meta", "none", "--output-path", "orders"], check=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    from orders import AuthenticatedClient, Client  # type: ignore[import-not-found]
    from orders.api.default import list_orders  # type: ignore[import-not-found]

    okta.protect("/orders", scope="api:read")
    app = ServiceApp.from_env(scopes=["api:read"], authorization_server="default", origins=[okta.url])
    made = recipe("generated_client")
    for client in (made.authorized(Client, app, okta.url), made.authenticated(AuthenticatedClient, app, okta.url)):
        response = list_orders.sync_detailed(client=client)
        client.get_httpx_client().close()
        assert response.status_code == 200
    for name in [name for name in sys.modules if name.split(".")[0] == "orders"]:
        del sys.modules[name]


def test_openapi_generator_reads_the_current_token_for_each_call(
    recipe: Recipe, okta: FakeOkta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """access_token.py, with a client that the real generator generates."""
    needs("openapi_generator_cli", "pydantic")
    if shutil.which("java") is None:
        pytest.skip("openapi-generator needs Java")
    document = {
        "openapi": "3.0.3",
        "info": {"title": "Orders", "version": "1"},
        "components": {"securitySchemes": {"okta": {"type": "http", "scheme": "bearer"}}},
        "security": [{"okta": []}],
        "paths": {
            "/orders": {
                "get": {
                    "operationId": "list_orders",
                    "responses": {
                        "200": {"description": "", "content": {"application/json": {"schema": {"type": "object"}}}}
                    },
                }
            }
        },
    }
    (tmp_path / "orders.json").write_text(json.dumps(document), "utf-8")
    program = Path(sys.executable).with_name("openapi-generator-cli")
    options = ["-g", "python", "-i", "orders.json", "-o", "client", "--package-name", "orders_client"]
    subprocess.run([program, "generate", *options], check=True, capture_output=True)
    monkeypatch.syspath_prepend(str(tmp_path / "client"))
    import orders_client  # type: ignore[import-not-found]

    okta.protect("/orders", scope="api:read")
    custom = {"scopes": ["api:read"], "authorization_server": "default", "dpop": False}
    configured = recipe("access_token").configured
    with ServiceApp.from_env(**custom, origins=[okta.url]) as app:
        with orders_client.ApiClient(configured(orders_client.Configuration, app, okta.url)) as client:
            orders = orders_client.DefaultApi(client)
            for _ in range(3):
                assert orders.list_orders()["path"] == "/orders"
        assert okta.tokens_minted == 1
    with ServiceApp.from_env(**custom) as elsewhere, pytest.raises(ConfigurationError, match="origins"):
        orders_client.DefaultApi(
            orders_client.ApiClient(configured(orders_client.Configuration, elsewhere, okta.url))
        ).list_orders()
    for name in [name for name in sys.modules if name.split(".")[0] == "orders_client"]:
        del sys.modules[name]


# ── data warehouses ──────────────────────────────────────────────────────────────────────────────────────────────────


def custom_app(okta: FakeOkta, **more: Any) -> ServiceApp:
    return ServiceApp.from_env(scopes=["api:read"], authorization_server="default", dpop=False, **more)


def test_snowflake_waits_for_a_long_statement_and_reads_every_partition(recipe: Recipe, okta: FakeOkta) -> None:
    """snowflake_sql.py. FakeOkta checks the token, and answers as Snowflake documents."""
    module = recipe("snowflake_sql")
    statements = "/api/v2/statements"
    okta.protect(statements, scope="api:read")
    okta.next(202, body={"statementHandle": "h1", "code": "333334"}, on=statements)
    okta.next(202, body={"statementHandle": "h1", "code": "333334"}, on=f"{statements}/h1")
    first = {"statementHandle": "h1", "resultSetMetaData": {"partitionInfo": [{}, {}]}, "data": [["1"], ["2"]]}
    okta.next(200, body=first, on=f"{statements}/h1")
    okta.next(200, body={"data": [["3"]]}, on=f"{statements}/h1")
    with custom_app(okta, origins=[okta.url]) as app, module.open_session(app) as session:
        found = list(module.rows(session, okta.url, "select n from numbers", 0.0, warehouse="small"))
    assert found == [["1"], ["2"], ["3"]]
    asked = [request for request in okta.requests if request.path.startswith(statements)]
    assert [request.target.removeprefix(statements) for request in asked] == ["", "/h1", "/h1", "/h1?partition=1"]
    assert json.loads(asked[0].body) == {"statement": "select n from numbers", "warehouse": "small"}
    assert {request.header("X-Snowflake-Authorization-Token-Type") for request in asked} == {"OAUTH"}
    assert {request.header("Authorization") for request in asked} == {f"Bearer {okta.tokens()[0].value}"}


def test_databricks_gets_each_token_of_okta_once(recipe: Recipe, okta: FakeOkta, httpserver: HTTPServer) -> None:
    """databricks_token.py. The server exchanges and accepts tokens as Databricks documents."""
    module = recipe("databricks_token")
    exchanged: list[str] = []

    def exchange(request: Any) -> Any:
        assert request.form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
        assert request.form["subject_token_type"] == "urn:ietf:params:oauth:token-type:jwt"
        assert (request.form["client_id"], request.form["scope"]) == ("principal", "all-apis")
        exchanged.append(request.form["subject_token"])
        return Response(json.dumps({"access_token": f"of-databricks-{len(exchanged)}", "token_type": "Bearer"}))

    seen: list[str | None] = []

    def answer(request: Any) -> Any:
        seen.append(request.headers.get("Authorization"))
        return Response("{}")

    httpserver.expect_request("/oidc/v1/token", method="POST").respond_with_handler(exchange)
    httpserver.expect_request("/api/2.0/sql/statements", method="POST").respond_with_handler(answer)
    workspace = httpserver.url_for("").rstrip("/")
    okta.token_lifetime = 3600
    with custom_app(okta) as app, requests.Session() as session:
        session.auth = module.DatabricksAuth(app, workspace, "principal")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: session.post(f"{workspace}/api/2.0/sql/statements", json={}), range(8)))
        assert exchanged == [token.value for token in okta.tokens()]
        assert set(seen) == {"Bearer of-databricks-1"}
        other = "/no-workspace"
        httpserver.expect_request(other).respond_with_handler(answer)
        session.get(f"{workspace.replace('localhost', '127.0.0.1')}{other}")
        assert seen[-1] is None


def test_terraform_gets_the_token_that_the_command_prints(settings: dict[str, str], okta: FakeOkta) -> None:
    """As the page's ``$(okta-m2m token get)`` does."""
    command = [sys.executable, "-m", "okta_m2m.cli", "token", "get"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip("\n") == okta.tokens()[-1].value


# ── Okta's own APIs ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_system_log_continues_at_its_bookmark(recipe: Recipe, okta: FakeOkta, tmp_path: Path) -> None:
    module = recipe("system_log")
    app = ServiceApp.from_env()
    bookmark = tmp_path / "bookmark"

    def asked() -> list[str]:
        return [request.target.partition("?")[2] for request in okta.requests if request.path == "/api/v1/logs"]

    with module.open_session(app) as session:
        events = functools.partial(module.new_events, app, session, bookmark, YESTERDAY)
        (event,) = events()
        following = bookmark.read_text("utf-8").partition("?")[2]
        assert event["actor"]["id"] == CLIENT_ID
        assert following.endswith(f"&after={event['uuid']}")
        assert list(events()) == []
        assert asked() == [f"since={YESTERDAY}&limit=1000", following, following]
        other = okta.add_app(label="other")
        okta.mint(other, None, other.scopes, None)
        assert [event["actor"]["id"] for event in events()] == [other.client_id]


def test_system_log_ends_without_a_next_link(recipe: Recipe, okta: FakeOkta, tmp_path: Path) -> None:
    module = recipe("system_log")
    app = ServiceApp.from_env()
    bookmark = tmp_path / "bookmark"
    bookmark.write_text(f"{okta.url}/api/v1/logs?until={TOMORROW}", "utf-8")
    with module.open_session(app) as session:
        assert len(list(module.new_events(app, session, bookmark, YESTERDAY))) == 1


def test_system_log_repeats_a_page_whose_events_were_not_all_read(
    recipe: Recipe, okta: FakeOkta, tmp_path: Path
) -> None:
    module = recipe("system_log")
    app = ServiceApp.from_env()
    bookmark = tmp_path / "bookmark"
    with module.open_session(app) as session:
        events = module.new_events(app, session, bookmark, YESTERDAY)
        next(events)
        events.close()
    assert not bookmark.exists()


def test_org2org(recipe: Recipe, okta: FakeOkta, elsewhere: FakeOkta) -> None:
    module = recipe("org2org")
    key = PrivateKey.generate("ES256")
    registered = elsewhere.add_app(key, ["okta.groups.manage"])
    registered.roles = ["SUPER_ADMIN"]
    target = ServiceApp(elsewhere.url, client_id=registered.client_id, key=key, scopes=["okta.groups.manage"])
    assert module.copy_groups(ServiceApp.from_env(), target) == 1
    assert okta.tokens_minted == elsewhere.tokens_minted == 1
    assert elsewhere.refusals == []


# ── where the key comes from ─────────────────────────────────────────────────────────────────────────────────────────


def test_secret_managers(recipe: Recipe, okta: FakeOkta, settings: dict[str, str]) -> None:
    """With objects that answer as the clients of these services do; the services themselves are not here."""
    module = recipe("secret_managers")
    secret = settings["OKTA_CLIENT_PRIVATEKEY"]
    payload = SimpleNamespace(payload=SimpleNamespace(data=secret.encode()))
    v2 = SimpleNamespace(read_secret_version=lambda path: {"data": {"data": {"key": secret}}})
    keys = [
        module.from_aws(SimpleNamespace(get_secret_value=lambda SecretId: {"SecretString": secret}), "okta"),
        module.from_google(
            SimpleNamespace(access_secret_version=lambda name: payload), "projects/p/secrets/s/versions/1"
        ),
        module.from_azure(SimpleNamespace(get_secret=lambda name: SimpleNamespace(value=secret)), "okta"),
        module.from_vault(SimpleNamespace(secrets=SimpleNamespace(kv=SimpleNamespace(v2=v2))), "okta"),
    ]
    assert {key.kid for key in keys} == {"recipe"}

    now, current = [0.0], [keys[0]]
    followed = module.FollowedKey(lambda: current[0], 300, lambda: now[0])
    new = PrivateKey.generate("ES256", kid="new")
    current[0] = new
    assert followed.snapshot() is keys[0]
    now[0] = 300.0
    assert followed.snapshot() is new
    assert followed.snapshot() is new

    answers: list[PrivateKey | Exception] = [keys[0], OSError("the manager is down")]

    def read() -> PrivateKey:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    auth = OktaAuth(ServiceApp.from_env(key=module.FollowedKey(read, 300, lambda: now[0])))
    assert auth.token().value
    now[0] += 300
    okta.revoke_all()
    requests.get(f"{okta.url}/api/v1/users", auth=auth, timeout=30).raise_for_status()
    assert answers == []
    assert okta.tokens_minted == 2


@pytest.mark.parametrize("variable", ["CREDENTIALS_DIRECTORY", "OKTA_KEY_DIRECTORY"])
def test_report_with_a_mounted_key(
    recipe: Recipe,
    okta: FakeOkta,
    settings: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
) -> None:
    """As systemd and Kubernetes mount it, behind a symbolic link."""
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "okta-key").write_text(settings["OKTA_CLIENT_PRIVATEKEY"], "utf-8")
    (tmp_path / "okta-key").symlink_to(tmp_path / "..data" / "okta-key")
    monkeypatch.delenv("OKTA_CLIENT_PRIVATEKEY")
    monkeypatch.setenv(variable, str(tmp_path))
    recipe("report").main()
    assert capsys.readouterr().out == "1 users\n"


def test_kubernetes_and_compose_and_github_actions_name_what_the_report_reads(settings: dict[str, str]) -> None:
    """kubernetes.yaml, compose.yaml, github-actions.yaml, okta-report.service and the Dockerfile."""
    import yaml

    deploy = RECIPES / "deploy"
    job = yaml.safe_load((deploy / "kubernetes.yaml").read_text("utf-8"))
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (volume,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"]
    (mount,) = container["volumeMounts"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["OKTA_KEY_DIRECTORY"] == mount["mountPath"]
    assert mount["name"] == volume["name"]

    compose = yaml.safe_load((deploy / "compose.yaml").read_text("utf-8"))
    unit = (deploy / "okta-report.service").read_text("utf-8")
    workflow = yaml.safe_load((deploy / "github-actions.yaml").read_text("utf-8"))
    (step,) = [step for step in workflow["jobs"]["report"]["steps"] if "env" in step]
    in_unit = dict(
        line.partition("=")[2].split("=", 1) for line in unit.splitlines() if line.startswith("Environment=")
    )
    for given in (environment, compose["services"]["report"]["environment"], in_unit, step["env"]):
        assert {name for name in settings if name != "OKTA_CLIENT_PRIVATEKEY"} <= set(given)
    assert compose["services"]["report"]["secrets"] == ["okta-key"]
    # Compose mounts the key file as it is: mode 0600, of the user who made it, whom the image does not know.
    assert compose["services"]["report"]["user"].startswith("${KEY_OWNER:?")
    assert "LoadCredential=okta-key:" in unit
    assert "COPY report.py" in (deploy / "Dockerfile").read_text("utf-8")
    assert {"OKTA_CLIENT_PRIVATEKEY"} <= set(step["env"])


def test_the_commands_of_the_github_workflow_run(settings: dict[str, str], okta: FakeOkta) -> None:
    """github-actions.yaml; the token is not printed."""
    shutil.copy(RECIPES / "report.py", "report.py")
    command = [sys.executable, "-m", "okta_m2m.cli", "token", "get", "--json"]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    second = subprocess.run([sys.executable, "report.py"], capture_output=True, text=True, check=True)
    assert json.loads(first.stdout)["token_type"] == "Bearer"
    assert second.stdout == "1 users\n"
    printed = first.stdout + second.stdout
    assert not any(token.value in printed for token in okta.tokens())


def test_the_audit_workflow_sees_everything_as_a_service_app_that_can_only_read(
    okta: FakeOkta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """audit.yaml"""
    import yaml

    workflow = yaml.safe_load((RECIPES / "deploy" / "audit.yaml").read_text("utf-8"))
    (step,) = [step for step in workflow["jobs"]["audit"]["steps"] if "env" in step]
    key = PrivateKey.generate("ES256", kid="auditor")
    auditor = okta.add_app(key, step["env"]["OKTA_CLIENT_SCOPES"].split(), label="auditor", dpop_bound=True)
    monkeypatch.chdir(tmp_path)
    for name in step["env"]:
        monkeypatch.setenv(name, step["env"][name])
    monkeypatch.setenv("OKTA_CLIENT_ORGURL", okta.url)
    monkeypatch.setenv("OKTA_CLIENT_CLIENTID", auditor.client_id)
    monkeypatch.setenv("OKTA_CLIENT_PRIVATEKEY", json.dumps(key.private_jwk()))
    words = step["run"].split()
    assert words[0] == "okta-m2m"
    command = [sys.executable, "-m", "okta_m2m.cli", *words[1:]]
    good = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert "not permitted" not in good.stdout
    okta.add_app(label="billing").roles = ["SUPER_ADMIN"]
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "It has the role SUPER_ADMIN." in bad.stdout


# ── before and after ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.name)
def test_old_and_new_code_of_a_migration_page_do_the_same(
    path: Path, okta: FakeOkta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """before.py and after.py, in a process of its own for each page: Okta's SDK sets up logging for its process. Ten calls of
    the new code make one token request."""
    needs("authlib", "requests_oauth2client", "okta")
    made = rsa.generate_private_key(65537, 2048)
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = PrivateKey.from_pem(pem)
    app = okta.add_app(key.with_kid(key.thumbprint()), ["okta.users.read"])
    program = (
        "import importlib, json, sys; name, times, org, client_id = sys.argv[1:]; page = importlib.import_module(name);"
        "client = page.connect(org, client_id, sys.stdin.buffer.read());"
        "print(json.dumps([page.list_users(client, org) for _ in range(int(times))]))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OKTA_TESTING_TESTINGDISABLEHTTPSCHECK": "true",
    }

    def run(page: str, times: int) -> tuple[list[Any], int]:
        """What the calls return, and how many tokens they took."""
        before = okta.tokens_minted
        command = [sys.executable, "-c", program, page, str(times), okta.url, app.client_id]
        done = subprocess.run(command, input=pem, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout), okta.tokens_minted - before

    (old,), _ = run("before", 1)
    assert len(old) == 1
    assert run("after", 10) == ([old] * 10, 1)
    assert okta.refusals == []
