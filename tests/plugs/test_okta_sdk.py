"""Okta's own SDK calls the org with the app's token: its real client, over https."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import okta as sdk
import pytest
from okta.client import Client

from command import environment, posix_only
from okta_m2m import ConfigurationError, PrivateKey, ServiceApp
from okta_m2m.errors import InvalidClient, WrongType
from okta_m2m.events import AuthorizationKept
from okta_m2m.okta_sdk import PLACEHOLDER, sdk_config
from okta_m2m.testing import FakeOkta
from plugs_support import Tls
from promises import USERS, Events, credentials

pytestmark = pytest.mark.filterwarnings(
    # Of the SDK and of what it uses.
    "ignore::DeprecationWarning",
    "ignore::pydantic.warnings.PydanticDeprecatedSince20",
    "ignore::pydantic.warnings.PydanticDeprecatedSince212",
    "ignore::UserWarning:pydantic",
)

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "okta-sdk" / "list_users.py"
SCOPES = ("okta.users.read", "okta.users.manage", "okta.apps.read")

Service = Callable[..., ServiceApp]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("OKTA_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def service(secure_okta: FakeOkta, new_service: Service, binding: str) -> Service:
    def registered(**arguments: Any) -> ServiceApp:
        return new_service(secure_okta, dpop_bound=binding == "dpop", **{"scopes": SCOPES, **arguments})

    return registered


@asynccontextmanager
async def client_of(app: ServiceApp, tls: Tls, middlewares: Any = (), **more: Any) -> AsyncIterator[Client]:
    """A client of the SDK with a session that trusts the tests' CA."""
    connector = aiohttp.TCPConnector(ssl=tls.client)
    async with aiohttp.ClientSession(connector=connector, middlewares=middlewares) as session:
        client = Client(sdk_config(app, **more))
        client.get_request_executor().set_session(session)
        yield client


async def logins(client: Client) -> list[str]:
    users, _, error = await client.list_users()
    assert error is None
    return [user.profile.login for user in users]


def sent_tokens(okta: FakeOkta) -> list[str]:
    return [value for request in okta.requests for value in credentials(request)]


def test_calls_share_one_token_and_the_placeholder_is_never_sent(
    secure_okta: FakeOkta, service: Service, tls: Tls
) -> None:
    async def main() -> None:
        async with client_of(service(), tls) as client:
            assert await logins(client)
            _, _, error = await client.list_applications()
            assert error is None
            await asyncio.gather(*(logins(client) for _ in range(50)))

    asyncio.run(main())
    assert secure_okta.tokens_minted == 1
    assert [value for value in sent_tokens(secure_okta) if PLACEHOLDER in value] == []


def test_a_revoked_token_costs_no_call(secure_okta: FakeOkta, service: Service, tls: Tls) -> None:
    async def main() -> None:
        async with client_of(service(), tls) as client:
            await logins(client)
            secure_okta.revoke_all()
            assert await logins(client)

    asyncio.run(main())
    assert secure_okta.tokens_minted == 2


def test_an_apis_nonces_are_learnt(secure_okta: FakeOkta, service: Service, tls: Tls, binding: str) -> None:
    secure_okta.resource_nonce = True

    async def main() -> None:
        async with client_of(service(), tls) as client:
            for _ in range(3):
                assert await logins(client)

    asyncio.run(main())
    assert {refusal.error for refusal in secure_okta.refusals} == ({"use_dpop_nonce"} if binding == "dpop" else set())


def test_a_refused_app_raises_our_error(secure_okta: FakeOkta, service: Service, tls: Tls) -> None:
    async def main() -> None:
        async with client_of(service(key=PrivateKey.generate()), tls) as client:
            secure_okta.apps.clear()
            with pytest.raises(InvalidClient):
                await client.list_users()

    asyncio.run(main())


def test_an_error_of_the_api_is_returned_as_before(secure_okta: FakeOkta, service: Service, tls: Tls) -> None:
    async def main() -> None:
        async with client_of(service(), tls) as client:
            secure_okta.next(404, on=USERS)
            users, _, error = await client.list_users()
            assert users is None
            assert error.error_code == "E0000007"

    asyncio.run(main())


def test_an_answer_of_the_sdks_cache_needs_no_call(secure_okta: FakeOkta, service: Service, tls: Tls) -> None:
    async def main() -> None:
        cache = {"enabled": True, "defaultTti": 300, "defaultTtl": 300}
        async with client_of(service(), tls, cache=cache) as client:
            for _ in range(3):
                user, _, error = await client.get_user("ada@example.com")
                assert (user.profile.login, error) == ("ada@example.com", None)

    asyncio.run(main())
    assert secure_okta.api_calls == 1


def test_the_sdk_retries_after_a_rate_limit_as_before(secure_okta: FakeOkta, service: Service, tls: Tls) -> None:
    async def main() -> None:
        async with client_of(service(), tls) as client:
            secure_okta.next(429, on=USERS, reset=0)
            assert await logins(client)

    asyncio.run(main())


def test_middlewares_of_the_users_session_still_run(secure_okta: FakeOkta, service: Service, tls: Tls) -> None:
    seen: list[str] = []

    async def watch(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        seen.append(request.url.path)
        return await handler(request)

    async def main() -> None:
        async with client_of(service(), tls, [watch]) as client:
            await logins(client)

    asyncio.run(main())
    assert seen == [USERS]


def test_aiohttp_still_has_the_private_attribute_that_is_read() -> None:
    """If this fails, look for the new name, or for a public one, and use it in ``okta_m2m.okta_sdk``."""

    async def main() -> bool:
        async with aiohttp.ClientSession() as session:
            return hasattr(session, "_middlewares")

    assert asyncio.run(main()), f"aiohttp {aiohttp.__version__} has no ClientSession._middlewares"


def test_the_callers_own_authorization_is_kept_and_reported(secure_okta: FakeOkta, service: Service, tls: Tls) -> None:
    events = Events()
    own = {"type": "api_key", "in": "header", "key": "Authorization", "value": "SSWS mine"}

    async def main() -> None:
        async with client_of(service(on_event=events), tls) as client:
            _, _, error = await client.list_users(_request_auth=own)
            assert error is not None

    asyncio.run(main())
    assert sent_tokens(secure_okta) == ["SSWS mine"]
    assert [event.origin for event in events.of(AuthorizationKept)] == [secure_okta.url]


@pytest.fixture
def plain_http(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The SDK's own setting for tests: it then accepts an org without TLS."""
    monkeypatch.setenv("OKTA_TESTING_TESTINGDISABLEHTTPSCHECK", "true")
    return


@pytest.mark.parametrize("way", ["async with", "without a session"])
@pytest.mark.usefixtures("plain_http")
def test_the_sdks_own_sessions_carry_the_token(okta: FakeOkta, new_service: Service, way: str) -> None:
    app = new_service(okta)

    async def main() -> None:
        if way == "async with":
            async with Client(sdk_config(app)) as client:
                assert await logins(client)
        else:
            assert await logins(Client(sdk_config(app)))

    asyncio.run(main())
    asyncio.run(main())
    assert okta.tokens_minted == 1


def test_two_apps_in_one_process_keep_their_tokens_apart(secure_okta: FakeOkta, service: Service, tls: Tls) -> None:
    apps = [service(), service()]

    async def main() -> None:
        connector = aiohttp.TCPConnector(ssl=tls.client)
        async with aiohttp.ClientSession(connector=connector) as session:
            clients = [Client(config) for config in [sdk_config(app) for app in apps]]
            for client in clients:
                client.get_request_executor().set_session(session)
            await asyncio.gather(*(logins(client) for client in clients * 2))

    asyncio.run(main())
    assert {token.client_id for token in secure_okta.tokens()} == {app.client_id for app in apps}


def test_a_token_request_uses_the_proxy_of_the_sdk(
    secure_okta: FakeOkta, service: Service, tls: Tls, free_port: int
) -> None:
    """At a port where nothing listens: neither the call nor the token request goes around it."""

    async def main() -> None:
        proxy = {"host": "127.0.0.1", "port": free_port}
        async with client_of(service(max_wait=1.0), tls, proxy=proxy) as client:
            with pytest.raises(aiohttp.ClientError, match="proxy"):
                await client.list_users()

    asyncio.run(main())
    assert secure_okta.requests == []


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_older_sdk_is_refused(monkeypatch: pytest.MonkeyPatch, okta: FakeOkta, new_service: Service) -> None:
    """Its version is imitated here. Installed for real, 2.9.13 and 3.3.0 were refused with this message.

    Without that check, 2.9.13 knows no ``list_users(limit=)``, and 3.1.0 and 3.2.0 cannot read what ``list_applications`` gets.
    3.0.0 and 3.3.0 pass the other tests, but no version before 3.4 is tested in CI.
    """
    monkeypatch.setattr(sdk, "__version__", "3.3.1")
    with pytest.raises(ConfigurationError, match=r"3\.4.*3\.3\.1 is installed.*pip install '\S*\[okta\]'"):
        sdk_config(new_service(okta))


@pytest.mark.parametrize("version", ["3.4.0b1", "4.0rc1", "4"])
def test_a_preview_of_a_newer_sdk_is_accepted(
    monkeypatch: pytest.MonkeyPatch, okta: FakeOkta, new_service: Service, version: str
) -> None:
    monkeypatch.setattr(sdk, "__version__", version)
    assert sdk_config(new_service(okta))["orgUrl"] == okta.url


@pytest.mark.parametrize("name", ["token", "orgUrl", "authorizationMode", "httpClient"])
def test_a_setting_that_is_made_from_the_app_is_refused(okta: FakeOkta, new_service: Service, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"makes {name} from the app. Remove {name}"):
        sdk_config(new_service(okta), **{name: "secret"})


def test_a_token_of_a_custom_authorization_server_is_refused(okta: FakeOkta, new_service: Service) -> None:
    app = new_service(okta, authorization_server="default", scopes=["api:read"], origins=["https://api.acme.example"])
    with pytest.raises(ConfigurationError, match="without authorization_server"):
        sdk_config(app)


def test_anything_else_than_an_app_is_refused() -> None:
    with pytest.raises(WrongType, match=r"Client\(sdk_config\(app\)\)"):
        sdk_config("https://acme.okta.com")  # type: ignore[arg-type]


# ── the example ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_example_lists_the_users(secure_okta: FakeOkta, tls: Tls) -> None:
    key = PrivateKey.generate("ES256", kid="sdk")
    client_id = secure_okta.add_app(key, ["okta.users.read"], dpop_bound=True).client_id
    settings = {
        "OKTA_CLIENT_ORGURL": secure_okta.url,
        "OKTA_CLIENT_CLIENTID": client_id,
        "OKTA_CLIENT_SCOPES": "okta.users.read",
        "OKTA_CLIENT_PRIVATEKEY": json.dumps(key.private_jwk()),
        "SSL_CERT_FILE": str(tls.ca),
    }
    ran = subprocess.run(
        [sys.executable, EXAMPLE],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "@" in ran.stdout


@posix_only
def test_the_example_runs_against_the_stand_in_as_its_page_says(tmp_path: Path) -> None:
    """Pasted into a shell: steps 0 to 3 of docs/setup.md, and then the command of the page."""
    steps = (ROOT / "docs" / "setup.md").read_text("utf-8").partition("\n## 0. ")[2].partition("\n## 4. ")[0]
    page = (ROOT / "docs" / "migrate" / "okta-sdk.md").read_text("utf-8").partition("\nTo run the example")[2]
    run, printed = re.findall(r"^```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[:2]
    (tmp_path / "list_users.py").write_bytes(EXAMPLE.read_bytes())
    commands = re.findall(r"^```sh\n(.*?)^```$", steps, re.MULTILINE | re.DOTALL)
    script = "".join(["set -e\ntrap 'kill $!' EXIT\n", *commands, "echo the end\n", run])
    programs = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(
        ["sh"],
        cwd=tmp_path,
        env={**environment(tmp_path), **programs},
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=110,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.partition("the end\n")[2].startswith(printed)
