"""Writes ``docs/works-with.md``: with which versions of other packages the tests are run.

    python docs/write_works_with.py

The versions are those of ``.ci/pins``, which ``.ci/run`` installs exactly. So run it after ``.ci/pin``. A test fails if the page
shows anything else.

Invariant: a package is on the page only if a test of this repository runs with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "works-with.md"

PREFACE = """\
# Works with

This page lists the packages that okta-m2m is tested with, and the oldest and the newest version of each. If both columns have the
same version, no other was tested. If the newest version needs a newer Python than 3.11, the other column has the newest version
for 3.11. The packages under *AI services and agents* and *Clouds* are tested in one environment, so they can be installed
together.

"""

END = """
Other versions may work too. Any other client can send the headers that `OktaAuth(app).headers(method, url)` returns, or get
[an adapter](clients/your-own.md).

Next: [the recipes](recipes/index.md).
"""


class Row(NamedTuple):
    """``package``: its name on the package index. ``pins``: the environments that its tests are run in. ``page``: how to use it,
    below ``docs``. ``test``: the file or folder whose tests use it. ``module``: how it is imported, if not by its name."""

    package: str
    pins: tuple[str, ...]
    page: str
    test: str
    module: str = ""


MAIN = ("lowest", "middle", "dev")
PROMISES = "tests/support/clients"
RECIPES = "tests/docs/test_recipes.py"
OTHERS = ("clouds-lowest", "clouds")
NOT_HTTP, CLOUDS, AGENTS = "recipes/not-http.md", "recipes/clouds.md", "recipes/agents.md"

ROWS = {
    "HTTP clients": (
        Row("requests", MAIN, "clients/requests.md", PROMISES),
        Row("httpx", MAIN, "clients/httpx.md", PROMISES),
        Row("httpx2", MAIN, "clients/httpx2.md", PROMISES),
        Row("aiohttp", MAIN, "clients/aiohttp.md", PROMISES),
        Row("niquests", ("niquests-lowest", "niquests"), "clients/niquests.md", PROMISES),
        Row("httpie", MAIN, "clients/httpie.md", "tests/promises"),
        Row("trio", MAIN, "clients/httpx.md", PROMISES),
    ),
    "Okta": (Row("okta", ("okta-lowest", "okta"), "migrate/okta-sdk.md", "tests/plugs/test_okta_sdk.py"),),
    "AI services and agents": (
        Row("openai", OTHERS, CLOUDS, "tests/plugs/test_ai_clients.py"),
        Row("anthropic", OTHERS, CLOUDS, "tests/plugs/test_ai_clients.py"),
        Row("langchain-openai", OTHERS, CLOUDS, "tests/plugs/test_ai_clients.py", "langchain_openai"),
        Row("litellm", OTHERS, CLOUDS, "tests/plugs/test_ai_clients.py"),
        Row("mcp", (*OTHERS, "documentation"), AGENTS, "tests/plugs/test_agents.py"),
        Row("fastmcp", OTHERS, AGENTS, "tests/plugs/test_agents.py"),
        Row("langgraph", OTHERS, AGENTS, "docs/examples/recipes/langgraph_agent.py"),
    ),
    "Clouds": (
        Row("google-auth", OTHERS, CLOUDS, "tests/plugs/test_clouds.py", "google.auth"),
        Row("botocore", OTHERS, CLOUDS, "docs/examples/recipes/clouds/aws.py"),
        Row("azure-identity", OTHERS, CLOUDS, "docs/examples/recipes/clouds/azure.py", "azure.identity"),
        Row(
            "snowflake-connector-python",
            OTHERS,
            CLOUDS,
            "docs/examples/recipes/clouds/snowflake.py",
            "snowflake.connector",
        ),
    ),
    "Around a call": (
        Row("stamina", ("documentation",), "recipes/retries.md", "docs/examples/recipes"),
        Row("tenacity", ("documentation",), "recipes/retries.md", "docs/examples/recipes"),
        Row("requests-cache", ("documentation",), "recipes/caches.md", RECIPES, "requests_cache"),
        Row("hishel", ("documentation",), "recipes/caches.md", RECIPES),
        Row("aiohttp-client-cache", ("documentation",), "recipes/caches.md", RECIPES, "aiohttp_client_cache"),
        Row("redis", MAIN, "sharing.md", "tests/stores"),
    ),
    "Not plain HTTP": (
        Row("websockets", ("documentation",), NOT_HTTP, RECIPES),
        Row("grpcio", ("documentation",), NOT_HTTP, RECIPES, "grpc"),
        Row("confluent-kafka", OTHERS, NOT_HTTP, "tests/plugs/test_kafka.py", "confluent_kafka"),
        Row("aiokafka", OTHERS, NOT_HTTP, "docs/examples/recipes/kafka_clients.py"),
        Row("gql", ("documentation",), NOT_HTTP, RECIPES),
        Row("openapi-python-client", ("documentation",), NOT_HTTP, RECIPES, "openapi_python_client"),
    ),
    "Frameworks and jobs": (
        Row("fastapi", ("documentation",), "recipes/web.md", RECIPES),
        Row("flask", ("documentation",), "recipes/web.md", RECIPES),
        Row("django", ("documentation",), "recipes/web.md", RECIPES),
        Row("celery", ("documentation",), "recipes/jobs.md", RECIPES),
        Row("dlt", ("documentation",), "recipes/jobs.md", RECIPES),
    ),
}
"""By kind, each package of the page."""


def versions(row: Row) -> list[str]:
    """The versions that are pinned for its tests, oldest first. A package may have several for several Pythons."""
    found = set()
    for name in row.pins:
        text = (ROOT / ".ci" / "pins" / f"{name}.txt").read_text("utf-8")
        found.update(re.findall(rf"^{re.escape(row.package)}==([\w.]+)", text, re.MULTILINE))
    return sorted(found, key=lambda version: [int(part) for part in re.findall(r"\d+", version)])


def rendered() -> str:
    lines = ["| For | Package | Oldest | Newest | How |", "|---|---|---|---|---|"]
    for kind, rows in ROWS.items():
        for row in rows:
            tested = versions(row)
            lines.append(f"| {kind} | {row.package} | {tested[0]} | {tested[-1]} | [{_title(row.page)}]({row.page}) |")
    return f"{PREFACE}{chr(10).join(lines)}\n{END}"


def _title(page: str) -> str:
    return (ROOT / "docs" / page).read_text("utf-8").partition("\n")[0].removeprefix("# ")


if __name__ == "__main__":
    PAGE.write_text(rendered(), "utf-8")
