"""Adapters, ``admin`` and ``cli`` use public names only: nothing that begins with an underscore and is not their own. Adapters
and ``admin`` may also use the names in :data:`SUPPORTED`, which are inside the package and kept stable for them.

What counts is each attribute that is read or set, ``getattr`` with a constant name, and each name that is imported. Attributes
of ``self``, of ``cls`` and of a class of the same module are a module's own. What a third-party library offers no public way
to is listed here with the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import okta_m2m

PACKAGE = Path(okta_m2m.__file__).parent
ROOMS = (
    *("requests.py", "httpx.py", "httpx2.py", "aiohttp.py", "niquests.py", "httpie.py", "okta_sdk.py", "federation.py"),
    *("_clients", "admin", "cli"),
)

THIRD_PARTY = {
    "_conns": "aiohttp: the idle connections of a connector, to close them before the loop of a token request ends",
    "_content": "requests, niquests: whether the body was read already; .content would read it",
    "_content_consumed": "requests, niquests: whether the caller has taken the body as a stream",
    "_continue": "aiohttp: the future of 'Expect: 100-continue', which a request that is sent again needs anew",
    "_default_proxy": "aiohttp: the session's proxy, which the token request uses too",
    "_default_proxy_auth": "aiohttp: its credentials",
    "_fp": "urllib3: the response of http.client, from which the socket of a body that stalls is reached",
    "_get_running_loop": "asyncio: the running loop, if any, without an exception",
    "_list": "httpx: the header fields; the methods of Headers cost more than the whole hit",
    "_local_addr_infos": "aiohttp: the local address of a connector, from which the token request is sent too",
    "_loop": "aiohttp: the event loop of a session that a function returned; its public name is deprecated",
    "_middlewares": "aiohttp: those of a session, which the middlewares of a request would replace",
    "_netloc": "yarl: compares the authority without building the URL's string",
    "_pool": "httpx: the transport's pool, which is a proxy's where it takes one",
    "_parts": "aiohttp: the parts of a multipart body, each of which may be one that cannot be sent again",
    "_request": "httpx: the request of an error, whose property raises where there is none",
    "_scheme": "yarl: compares the scheme without building the URL's string",
    "_set_running_loop": "asyncio: lets a loop run inside of another where no thread can be started",
    "_sock": "http.client: the socket of a response",
    "_ssl": "aiohttp: a connector's TLS settings, which the token request uses too if they verify servers",
    "_ssl_context": "httpx: the SSL context of a pool, to see whether it verifies servers",
    "_store": "requests: the fields of a CaseInsensitiveDict; its methods cost more than the whole hit",
    "_stream": "httpx: the file of a request with content=file",
    "_transport_for_url": "httpx: the transport that a client takes to a URL, by way of a proxy or not",
    "_timer": "aiohttp: the one object that all redirect hops of a call share",
    "_uri_reference": "httpx: the parts of a URL without building its string",
    "_value": "aiohttp: the file of a payload, to see whether it can be rewound",
    "_value_": "enum: the documented way to set a member's value in __new__",
}

SUPPORTED = {
    "_base.clocks.NEVER": "a moment that has always passed",
    "_base.clocks.OktaClock": "Okta's time, for assertions outside of any app",
    "_base.clocks.SYSTEM_CLOCK": "this machine's clocks",
    "_base.clocks.http_date": "reads a Date header",
    "_base.crash_reports.Hidden": "a value that crash reporters do not show",
    "_base.crash_reports.without_locals": "a function whose local variables crash reporters do not show",
    "_base.file_modes.readers_warning": "the warning for a file with a secret that everyone can read",
    "_base.tokens.Credentials": "what a call sends",
    "_base.tokens.Token": "public as okta_m2m.Token, which an adapter cannot import",
    "_base.tokens.not_picklable": "the refusal of pickle",
    "_clients.limits.AnswerBody": "a body that is read with a bound",
    "_clients.limits.MAX_DRAINED": "how much of a body is read to keep its connection",
    "_clients.limits.check_encoding": "refuses a body that could decode to any size",
    "_clients.private_copy.private_copy": "a copy of the caller's session for one request",
    "_clients.proxies.is_direct_only": "whether a URL must not be reached through a proxy",
    "_core.answers.json_object": "reads a JSON object, with bounds",
    "_core.answers.rate_limit_pause": "when a rate limit ends",
    "_core.challenges.challenges": "reads WWW-Authenticate",
    "_core.conversation.DIAGNOSIS": "the end of a remedy, which the doctor omits",
    "_core.fleet.Fleet": "an app's side of its store",
    "_core.proofs.ClientAssertions": "makes client assertions",
    "_core.revocation.ask_about_token": "the request to revoke or introspect a token",
    "_core.service_app.ServiceApp": "public as okta_m2m.ServiceApp, which an adapter cannot import",
    "_core.politeness.back_off": "the pause after failures",
    "_core.verdict.MAX_PEEK": "how much of a response is looked at",
    "_threads.deadlines.BODY_TIMEOUT": "the deadline of what is read of a rejected response",
    "_threads.deadlines.Start": "reads the start of a body by a deadline",
    "_threads.deadlines.within": "the deadline of a complete response",
    "_threads.workers.keep": "keeps a connection for the next job of a thread",
    "_threads.workers.take_kept": "takes what was kept",
    "_urls.org_url.custom_server": "the custom authorization server of a token endpoint",
    "_urls.origins.is_loopback": "whether a host is this machine",
    "_urls.origins.origin_of": "the origin of a URL",
    "settings._arguments.ATTACH": "the line that attaches an app to each client",
    "settings._arguments.attached_wrongly": "the error for an app that is attached itself",
    "settings._arguments.kind_of": "names the type of an argument in an error",
}
"""What adapters and ``admin`` take from inside the package: the whole list."""

OTHER_INSTANCES = {("_clients/requests_flows.py", "before._before")}
"""Attributes of another instance of the module's own class."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def files() -> Iterator[Path]:
    for room in ROOMS:
        path = PACKAGE / room
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def private_attributes(tree: ast.Module) -> Iterator[ast.Attribute]:
    """Attributes with an underscore of objects that are not the module's own; ``getattr`` as if it were written plainly."""
    own = {"self", "cls"} | {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            name = node.args[1]
            if (
                node.func.id in ("getattr", "setattr", "hasattr", "delattr")
                and isinstance(name, ast.Constant)
                and isinstance(name.value, str)
            ):
                node = ast.Attribute(node.args[0], name.value)
        if (
            isinstance(node, ast.Attribute)
            and is_private(node.attr)
            and not (isinstance(node.value, ast.Name) and node.value.id in own)
        ):
            yield node


def imported_names(path: Path, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What the module imports from this package: the module, and the name."""
    package = ["okta_m2m", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            origin = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*origin, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def private_imports(path: Path, tree: ast.Module) -> Iterator[str]:
    room = path.relative_to(PACKAGE).parts[0]
    for module, name in imported_names(path, tree):
        if not (module == "okta_m2m" or module.startswith("okta_m2m.")):
            continue
        inside = module.removeprefix("okta_m2m").removeprefix(".")
        own = "_clients" if room.endswith(".py") else room
        if any(map(is_private, inside.split("."))) and inside.partition(".")[0] != own:
            if room == "cli" or f"{inside}.{name}" not in SUPPORTED:
                yield f"{module}.{name}"
        elif is_private(name):
            source = PACKAGE.joinpath(*module.split(".")[1:])
            is_module = (source / name).is_dir() or (source / f"{name}.py").exists()
            if room == "cli" or not is_module:
                yield f"{module}.{name}"


def crossings() -> set[tuple[str, str]]:
    """Every place at which a file goes beyond what is public: the file, and what it uses."""
    found = set()
    for path in files():
        file, tree = path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        found |= {(file, ast.unparse(node)) for node in private_attributes(tree) if node.attr not in THIRD_PARTY}
        found |= {(file, imported) for imported in private_imports(path, tree)}
    return found - OTHER_INSTANCES


def test_packages_outside_the_core_use_public_names_only() -> None:
    assert sorted(crossings()) == []


def test_every_listed_attribute_of_a_library_is_used() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files()]
    used = {node.attr for tree in trees for node in private_attributes(tree)}
    assert sorted(THIRD_PARTY.keys() - used) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("app._now()", ["app._now"]),
        ("self.app._now()", ["self.app._now"]),
        ("getattr(key, '_path', None)", ["key._path"]),
        ("setattr(key, '_path', None)", ["key._path"]),
        ("app._fleet = None", ["app._fleet"]),
        ("self._now(), cls._now(), app.now(), app.__dict__", []),
        ("class Own: ...\nOwn._default", []),
    ],
)
def test_the_check_finds_private_attributes(source: str, found: list[str]) -> None:
    assert [ast.unparse(node) for node in private_attributes(ast.parse(source))] == found


def test_each_supported_name_is_used() -> None:
    used = {
        f"{module}.{name}".removeprefix("okta_m2m.")
        for path in files()
        for module, name in imported_names(path, ast.parse(path.read_text(encoding="utf-8")))
    }
    assert sorted(SUPPORTED.keys() - used) == []
