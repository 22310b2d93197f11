"""The mistakes that people make in their first ten minutes, and what each is told.

    python tests/support/mistakes.py

A row of ``MISTAKES`` is a name, and a function that makes the mistake: it raises, or returns what was printed. To add one,
add a row. ``tests/rules/test_mistakes.py`` judges what each says.

Invariant: no row reaches a network. What a mistake is told is told before anything is sent.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from okta_m2m import OktaM2MError, PrivateKey, ServiceApp
from okta_m2m.stores import store_from_url

ORG = "https://acme.okta.com"
URL = f"{ORG}/api/v1/users"
KEY = PrivateKey.generate("ES256")
SCOPES = ["okta.users.read"]
CLIENTS = ("requests", "httpx", "httpx2", "aiohttp", "niquests")

Mistake = tuple[str, Callable[[], object]]


def app(**changes: Any) -> ServiceApp:
    arguments: dict[str, Any] = {"client_id": "0oa1b2c3", "key": KEY, "scopes": SCOPES, "max_wait": 0.1, **changes}
    return ServiceApp(arguments.pop("org_url", ORG), **arguments)


def ours(client: str) -> Any:
    return importlib.import_module(f"okta_m2m.{client}")


def library(client: str) -> Any:
    return importlib.import_module(client)


def auth(client: str) -> Any:
    return ours(client).OktaAuth(app())


def call(client: str, **given: Any) -> object:
    """One call of the client, with an ``auth`` or ``middlewares``."""
    if client == "aiohttp":
        return asyncio.run(_call_of_aiohttp(**given))
    if client == "niquests-async":
        return asyncio.run(_call_of_async_niquests(**given))
    if client.endswith("-async"):
        return asyncio.run(_call_of_async_httpx(library(client.removesuffix("-async")), **given))
    return library(client).get(URL, timeout=0.1, **given)


async def _call_of_aiohttp(middlewares: Any = (), **given: Any) -> object:
    async with (
        library("aiohttp").ClientSession(middlewares=middlewares) as session,
        session.get(URL, **given) as response,
    ):
        return response.status


async def _call_of_async_httpx(httpx: Any, **given: Any) -> object:
    async with httpx.AsyncClient(timeout=0.1) as client:
        return await client.get(URL, **given)


async def _call_of_async_niquests(**given: Any) -> object:
    async with library("niquests").AsyncSession() as session:
        return await session.get(URL, timeout=0.1, **given)


@contextmanager
def _without(name: str) -> Iterator[None]:
    """As if a library were not installed."""
    before = {module: sys.modules.pop(module) for module in (name, f"okta_m2m.{name}") if module in sys.modules}
    sys.modules[name] = None  # type: ignore[assignment]  # documented: its import fails
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(before)


def _import_without(name: str) -> ModuleType:
    with _without(name):
        return importlib.import_module(f"okta_m2m.{name}")


def _from_file(content: str, **options: Any) -> PrivateKey:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "key.pem")
        path.write_text(content, encoding="utf-8")
        return PrivateKey.from_file(path, **options)


def _import_from_package() -> object:
    from okta_m2m import OktaAuth  # type: ignore[attr-defined]  # the mistake

    return OktaAuth


def _attached(client: str) -> Iterator[Mistake]:
    """What is no auth object of the client, given to it as one."""
    wrong: dict[str, Callable[[], Any]] = {"app": app, "OktaAuth": lambda: ours(client).OktaAuth}
    # Not beside niquests, in whose environment there is no other.
    for other in ("requests", "httpx", "httpx2", "aiohttp") if client != "niquests" else ():
        if other != client:
            wrong[f"okta_m2m.{other}.OktaAuth(app)"] = partial(auth, other)
    for shown, made in wrong.items():
        if client == "aiohttp":
            yield f"aiohttp: middlewares=[{shown}]", lambda made=made: call(client, middlewares=[made()])
        else:
            yield f"{client}: auth={shown}", lambda made=made: call(client, auth=made())
        if client in ("httpx", "httpx2", "niquests"):
            yield f"{client}, async: auth={shown}", lambda made=made: call(f"{client}-async", auth=made())
    if client == "aiohttp":
        yield "aiohttp: middlewares=app", lambda: call(client, middlewares=app())
        yield "aiohttp: middlewares=OktaAuth(app)", lambda: call(client, middlewares=auth(client))
    yield f"{client}: headers=OktaAuth(app)", lambda: call(client, headers=auth(client))
    if client != "niquests":  # which calls app.keys, a tuple, before anything of the app can be asked
        yield f"{client}: headers=app", lambda: call(client, headers=app())


def _made(client: str, kind: str = "OktaAuth") -> Iterator[Mistake]:
    """An auth object made of something else than it takes."""

    def make(*given: Any, **options: Any) -> Any:
        return getattr(ours(client), kind)(*given, **options)

    name = f"{client}: {kind}"
    yield f'{name}("https://acme.okta.com")', lambda: make(ORG)
    yield f"{name}(key)", lambda: make(KEY)
    yield f"{name}((app,))", lambda: make((app(),))
    yield f"{name}(None)", lambda: make(None)
    yield f"{name}(ServiceApp)", lambda: make(ServiceApp)
    yield f"{name}(OktaAuth(app))", lambda: make(auth(client))
    option = "client" if client in ("httpx", "httpx2") else "session"
    yield f"{name}(app, {option})", lambda: make(app(), object())
    yield f"{name}(app, {option}=object())", lambda: make(app(), **{option: object()})
    yield f"{name}(app, send=URL)", lambda: make(app(), send=URL)
    yield f"{name}(app, replaces=True)", lambda: make(app(), replaces=True)
    yield f'a placeholder: {name}(app, replaces="Bearer unused")', lambda: make(app(), replaces="Bearer unused")
    yield f'a placeholder: {name}(app, replaces="")', lambda: make(app(), replaces="")
    if client == "aiohttp" or kind == "AsyncOktaAuth":
        yield f"{name}(app).token()", lambda: make(app()).token()
        yield f"{name}(app).headers(...)", lambda: make(app()).headers("GET", URL)
    if client in ("requests", "niquests") and kind == "OktaAuth":
        yield f"{name}(app).atoken()", lambda: make(app()).atoken()
        yield f"{name}(app).aheaders(...)", lambda: make(app()).aheaders("GET", URL)


def _of_client(client: str) -> Iterator[Mistake]:
    yield from _attached(client)
    yield from _made(client)
    if client == "niquests":
        yield from _made(client, "AsyncOktaAuth")


def _is_here(client: str) -> bool:
    return importlib.util.find_spec(client) is not None


LIBRARY: list[Mistake] = [
    *(mistake for client in CLIENTS if _is_here(client) for mistake in _of_client(client)),
    *((f"import okta_m2m.{client} without {client}", partial(_import_without, client)) for client in CLIENTS),
    ("from okta_m2m import OktaAuth", _import_from_package),
    ("the app of no URL", lambda: app(org_url="")),
    ("the app of a bare host", lambda: app(org_url="acme.okta.com")),
    ("the app of plain HTTP", lambda: app(org_url="http://acme.okta.com")),
    ("the app of the admin console", lambda: app(org_url="https://acme-admin.okta.com")),
    ("the app of an issuer", lambda: app(org_url="https://acme.okta.com/oauth2/default")),
    ("the app of a placeholder", lambda: app(org_url="https://{yourOktaDomain}")),
    ("the app of no client id", lambda: app(client_id="")),
    ("the app of a placeholder as client id", lambda: app(client_id="{clientId}")),
    ("the app with the path of a key", lambda: app(key="key.pem")),
    ("the app with no store", lambda: app(store=object())),
    ("the app with the class of a key", lambda: app(key=PrivateKey)),
    ("the app with no key", lambda: app(key=[])),
    ("the app with scopes in a string", lambda: app(scopes="okta.users.read okta.groups.read")),
    ("the app without scopes", lambda: app(scopes=[])),
    ("the app with a number as scopes", lambda: app(scopes=7)),
    ("the app with two scopes in one", lambda: app(scopes=["okta.users.read okta.groups.read"])),
    ("the app with an issuer as server", lambda: app(authorization_server=f"{ORG}/oauth2/default")),
    ("the app with an origin in a string", lambda: app(origins="https://api.example.com")),
    ("the app with a wildcard", lambda: app(origins=["https://*.example.com"])),
    ("the app with a plain-http origin", lambda: app(origins=["http://api.example.com"])),
    ("the app with dpop=on", lambda: app(dpop="on")),
    ("the app with its own key for DPoP", lambda: app(dpop=KEY)),
    ("the app with a wait of 0", lambda: app(max_wait=0)),
    ("the app with a store's URL", lambda: app(store="redis://localhost:6379/0")),
    ("the app with a list as on_event", lambda: app(on_event=[])),
    ("the app with an assertion of an hour", lambda: app(assertion_lifetime=3600)),
    ("a store of an unknown kind", lambda: store_from_url("memcached://localhost")),
    ("the settings of an empty environment", lambda: ServiceApp.from_env(files=False, environ={})),
    ("a key of a path, given to the class", lambda: PrivateKey(Path("key.pem"))),  # type: ignore[arg-type]  # the mistake
    ("a key of text, given to the class", lambda: PrivateKey("-----BEGIN PRIVATE KEY-----")),  # type: ignore[arg-type]
    ("a key of nothing", lambda: PrivateKey.from_pem("")),
    ("a key of a path", lambda: PrivateKey.from_pem("/etc/okta/key.pem")),
    ("a key of no file", lambda: PrivateKey.from_file("no-such-file.pem")),
    ("a key of a directory", lambda: PrivateKey.from_file(tempfile.gettempdir())),
    ("a key of its public half", lambda: PrivateKey.from_jwk(KEY.jwks()["keys"][0])),
    ("a key of a shared secret", lambda: PrivateKey.from_jwk({"kty": "oct", "k": "c2VjcmV0"})),
    ("a key of a JWK as PEM", lambda: PrivateKey.from_pem(json.dumps(KEY.jwks()["keys"][0]))),
    ("a key of a cut-off file", lambda: _from_file("-----BEGIN PRIVATE KEY-----\nMIIE")),
    (
        "a key of the public key's file",
        lambda: _from_file("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----"),
    ),
    ("a key of an unset variable", lambda: PrivateKey.from_env("NO_SUCH_VARIABLE", environ={})),
    ("a key of Ed25519", lambda: PrivateKey.generate("EdDSA")),
]
"""Those that are made in Python."""

COMMAND: list[Mistake] = importlib.import_module("command_mistakes").COMMAND if _is_here("typer") else []
"""Those that are made with the command ``okta-m2m``."""

MISTAKES: list[Mistake] = [*LIBRARY, *COMMAND]


def outcome(mistake: Callable[[], object]) -> Exception | str:
    """What a mistake raises, or what it prints."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as a coroutine that nobody awaits
            return str(mistake())
    except Exception as error:
        return error


def main() -> None:
    for name, mistake in MISTAKES:
        said = outcome(mistake)
        kind = "" if isinstance(said, str) else f"{type(said).__name__}: "
        print(f"{name}\n{textwrap.indent(textwrap.fill(f'{kind}{said}', 116), '    ')}")
        if isinstance(said, OktaM2MError) and not said.remedy:
            print("    (no remedy)")
    print(f"\n{len(MISTAKES)} mistakes")


if __name__ == "__main__":
    main()
