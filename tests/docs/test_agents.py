"""Each file of docs/examples/agents does what its page says, against FakeOkta, and mcp's client accepts an ID-JAG of ours.

The tests marked ``recipe`` need the extra ``recipes``.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from joserfc.errors import JoseError

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.testing import App, FakeOkta, User
from okta_m2m.testing.fake_okta._tokens import signing_key
from packages import needs
from plain_caller import key_for, signed

ROOT = Path(__file__).parents[2]
AGENTS = ROOT / "docs" / "examples" / "agents"
CLIENT_ID = "0oaorders"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
MCP = "http://127.0.0.1:8000/mcp"

frameworks = [
    pytest.mark.recipe,
    pytest.mark.timeout(300),
    # Of the frameworks, not of ours.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"),
]


@pytest.fixture
def settings(okta: FakeOkta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The orders API, whose tokens the stock API's server trusts, and its environment."""
    key = PrivateKey.generate("ES256", kid="orders")
    okta.add_authorization_server("orders", scopes=["orders:read"], audience="api://orders", resources=[MCP])
    okta.add_authorization_server("stock", scopes=["stock:read"], audience="api://stock", trusted_servers=["orders"])
    okta.add_app(key, client_id=CLIENT_ID, grant_types=[TOKEN_EXCHANGE])
    okta.protect("/stock", server="stock", scope="stock:read")
    for name, value in {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_CLIENTID": CLIENT_ID,
        "OKTA_CLIENT_SCOPES": "stock:read",
        "OKTA_CLIENT_AUTHORIZATIONSERVER": "stock",
        "OKTA_CLIENT_AUTHORIZATIONMODE": "PrivateKey",
        "OKTA_CLIENT_PRIVATEKEY": json.dumps(key.private_jwk()),
        "STOCK_API": okta.url,
        "ORDERS_ISSUER": okta.issuer_url("orders"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """``example("fastapi_orders")``: the module of that file, loaded again."""
    monkeypatch.syspath_prepend(str(AGENTS))

    def load(name: str) -> ModuleType:
        specification = spec_from_file_location(name, AGENTS / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        module = module_from_spec(specification)
        monkeypatch.setitem(sys.modules, name, module)
        specification.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("incoming", None)


Example = Callable[[str], ModuleType]


@pytest.fixture
def website(okta: FakeOkta) -> App:
    return okta.add_app()


@pytest.fixture
def users(okta: FakeOkta) -> list[User]:
    return [okta.add_user(f"user{number}@example.com") for number in range(10)]


def sign_in(user: User, website: App, **more: Any) -> str:
    return user.access_token(website, server="orders", scopes=["orders:read"], **more)


def test_every_file_is_on_a_page_and_has_a_test() -> None:
    tests = Path(__file__).read_text("utf-8")
    pages = [ROOT / "docs" / "agents.md", ROOT / "docs" / "recipes" / "on-behalf.md"]
    included = {
        (page.parent / name).resolve()
        for page in pages
        for name in re.findall(r"^```\{literalinclude\} (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    }
    files = set(AGENTS.glob("*.py"))
    assert files == included
    assert [path.name for path in files if path.stem not in tests] == []


# ── incoming.py ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_incoming_is_short() -> None:
    lines = (AGENTS / "incoming.py").read_text("utf-8").splitlines()
    assert len([line for line in lines if line]) <= 25


def test_incoming_accepts_only_a_live_token_for_this_api(
    settings: None, example: Example, okta: FakeOkta, website: App, users: list[User]
) -> None:
    incoming = example("incoming").Incoming(okta.issuer_url("orders"), "api://orders")
    ada = users[0]
    token = sign_in(ada, website)
    assert incoming.verify(token)["sub"] == ada.login

    header, _, signature = token.split(".")
    _, other_payload, _ = sign_in(users[1], website).split(".")
    claims, oktas_key = dict(incoming.verify(token)), signing_key()
    header_of_okta = {"alg": "RS256", "kid": oktas_key.kid}
    assert incoming.verify(signed(header_of_okta, claims, oktas_key)) == claims
    forged = signed(header_of_okta, claims, key_for("RS256"))
    endless = signed(header_of_okta, {name: claims[name] for name in claims if name != "exp"}, oktas_key)
    for refused in (
        sign_in(ada, website, resource=MCP),
        ada.access_token(website),
        ada.access_token(website, resource="api://orders"),  # the issuer is another server
        ada.id_token(website),
        ada.id_token(website, server="orders"),
        f"{header}.{other_payload}.{signature}",
        forged,
        endless,
        "",
        "nonsense",
        "é.é.é",
        "x" * 20_000,
    ):
        with pytest.raises((JoseError, ValueError)):
            incoming.verify(refused)
    okta.authorization_servers["orders"].token_lifetime = 1
    okta.skew(minutes=-1)
    with pytest.raises(JoseError, match="expired"):
        incoming.verify(sign_in(ada, website))


def test_incoming_fetches_oktas_keys_at_most_once_a_minute(
    settings: None,
    example: Example,
    okta: FakeOkta,
    website: App,
    users: list[User],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = example("incoming")
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    incoming = module.Incoming(okta.issuer_url("orders"), "api://orders")
    unknown = signed({"alg": "RS256", "kid": "unknown"}, {}, key_for("RS256"))

    def fetches_of(token: str, after: float) -> int:
        now[0] += after
        before = len(okta.requests)
        try:
            incoming.verify(token)
        except JoseError:
            assert token == unknown
        return len(okta.requests) - before

    token = sign_in(users[0], website)
    assert [fetches_of(token, 0), fetches_of(token, 3600), fetches_of(token, 1)] == [1, 0, 1]
    assert [fetches_of(unknown, 0), fetches_of(unknown, 61), fetches_of(unknown, 59)] == [0, 1, 0]


# ── serve.py ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_serve_calls_another_api_for_its_callers_and_ends_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, str(AGENTS / "serve.py")], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Ada: 200, the stock API saw ada@example.com, who called through 0oaorders",
        "Bob: 200, the stock API saw bob@example.com, who called through 0oaorders",
        "Ada again: 200, the stock API saw ada@example.com, who called through 0oaorders",
        "Ada, with a token for another API: 401, not a token for this API; nothing was sent to Okta",
        "Cat, signed out before the first call: 401, Okta refused the caller's token; the caller must sign in again",
        "3 token requests for 5 calls",
    ]


# ── web frameworks and mcp ───────────────────────────────────────────────────────────────────────────────────────────


class TestFrameworks:
    pytestmark = frameworks

    def test_fastapi(self, settings: None, example: Example, okta: FakeOkta, website: App, users: list[User]) -> None:
        needs("fastapi", "starlette")
        module = example("fastapi_orders")
        import httpx

        async def visit() -> list[httpx.Response]:
            async with module.lifespan(module.api):
                transport = httpx.ASGITransport(module.api)
                async with httpx.AsyncClient(transport=transport, base_url="http://service") as browser:
                    tokens = [sign_in(user, website) for user in users] * 3
                    ended = okta.add_user("cat@example.com")
                    tokens += [sign_in(ended, website), users[0].access_token(website)]
                    ended.end_session()
                    return await asyncio.gather(
                        *(browser.get("/orders", headers={"Authorization": f"Bearer {token}"}) for token in tokens)
                    )

        *answers, ended, foreign = asyncio.run(visit())
        assert [answer.json() for answer in answers] == [{"stock for": user.login} for user in users] * 3
        assert okta.tokens_minted == 2 * len(users) + 2  # the users' own, and those on their behalf
        assert [ended.status_code, foreign.status_code] == [401, 401]
        assert ended.headers["www-authenticate"] == 'Bearer error="invalid_token"'

    def test_django(self, settings: None, okta: FakeOkta, website: App, users: list[User]) -> None:
        """django_orders.py, in a process of its own: Django is set up once for each process."""
        needs("django")
        program = """
import sys
import django
from django.conf import settings
settings.configure(ROOT_URLCONF="django_orders", ALLOWED_HOSTS=["*"])
django.setup()
from django.test import Client
for token in sys.stdin.read().split():
    print(Client().get("/orders", headers={"Authorization": f"Bearer {token}"}).json())
"""
        ended = okta.add_user("cat@example.com")
        tokens = [*(sign_in(user, website) for user in users), sign_in(ended, website), "nonsense"]
        ended.end_session()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(AGENTS), *sys.path]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", program],
            input="\n".join(tokens),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        expected = [{"stock for": user.login} for user in users] + [{"error": "Sign in again."}] * 2
        assert done.stdout.splitlines() == [str(answer) for answer in expected]

    def test_mcp(self, settings: None, example: Example, okta: FakeOkta, website: App, users: list[User]) -> None:
        needs("mcp", "httpx2")
        module = example("mcp_orders")
        import httpx2
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client

        ended = okta.add_user("cat@example.com")

        async def use(token: str) -> Any:
            headers = {"Authorization": f"Bearer {token}"}
            transport = httpx2.ASGITransport(module.api)
            async with (
                httpx2.AsyncClient(transport=transport, headers=headers) as http,
                Client(streamable_http_client(MCP, http_client=http)) as client,
            ):
                return await client.call_tool("stock", {})

        async def agents() -> list[Any]:
            tokens = [sign_in(user, website, resource=MCP) for user in [*users, ended]]
            ended.end_session()
            async with module.api.router.lifespan_context(module.api):
                return await asyncio.gather(*map(use, tokens))

        *answers, refused = asyncio.run(agents())
        assert [answer.structured_content for answer in answers] == [{"stock for": user.login} for user in users]
        assert refused.is_error
        assert "sign in again" in refused.content[0].text

    def test_an_id_jag_of_ours_satisfies_mcps_client_and_authlibs_server(
        self, settings: None, okta: FakeOkta, users: list[User]
    ) -> None:
        """app.id_jag_async() is the ``assertion_provider`` of mcp; a server made with Authlib issues the token for it."""
        needs("mcp", "httpx2", "authlib", "flask")
        import httpx2
        from mcp.client.auth.extensions.identity_assertion import IdentityAssertionOAuthProvider

        from id_jag_server import id_jag_server
        from okta_m2m.httpx2 import OktaAuth

        class Storage:
            async def get_tokens(self) -> None: ...
            async def set_tokens(self, tokens: Any) -> None: ...

        async def call(app: ServiceApp, issuer: str, id_token: str) -> Any:
            async def assertion(audience: str, resource: str) -> str:
                return await app.id_jag_async(id_token, audience=audience, resource=resource, scopes=["tools:read"])

            provider = IdentityAssertionOAuthProvider(
                f"{issuer}/mcp", Storage(), CLIENT_ID, "the secret there", issuer, assertion
            )
            async with httpx2.AsyncClient(auth=provider) as client:
                return (await client.get(f"{issuer}/mcp")).raise_for_status().json()

        with (
            id_jag_server(okta.url, CLIENT_ID, "the secret there") as (issuer, issued),
            ServiceApp.from_env(authorization_server="stock") as app,
        ):
            okta.apps[CLIENT_ID].resource_connections = {issuer: [f"{issuer}/mcp"]}
            OktaAuth(app)
            for user in users[:2]:
                found = asyncio.run(call(app, issuer, user.id_token(okta.apps[CLIENT_ID])))
                assert found == {"user": user.id}
            assert [one["scope"] for one in issued] == ["tools:read"] * 2
            assert {one["claims"]["resource"] for one in issued} == {f"{issuer}/mcp"}
        assert okta.refusals == []
