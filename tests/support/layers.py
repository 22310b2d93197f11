"""The layers of the package, lowest first: a module imports only from its own layer or a lower one.

A name is a module below ``okta_m2m``; a folder's name stands for all that is in it.
"""

from __future__ import annotations

LAYERS = [
    # facts: plain data, and reading and writing it
    {
        "errors",
        "events",
        "keys",
        "_core.addresses",
        "_core.challenges",
        "_core.clocks",
        "_core.crash_reports",
        "_core.flights",
        "_core.forced_renewals",
        "_core.next_step",
        "_core.key_algorithms",
        "_core.key_formats",
        "_core.okta_yaml",
        "_core.org_url",
        "_core.origins",
        "_core.records",
        "_core.renewal_times",
        "_core.setting_sources",
        "_core.notifiers",
        "_core.tokens",
        "_core.waiting",
        "_core.workers",
    },
    # vocabulary
    {"effects"},
    # what is said: to Okta and to APIs, and in their answers; and what is remembered
    {
        "_core.answers",
        "_core.arguments",
        "_core.proofs",
        "_core.reports",
        "_core.token_state",
    },
    # conversations: with Okta's endpoints, and with a store that processes share
    {"_core.bindings", "_core.conversation", "_core.fleet", "_core.token_endpoint", "stores"},
    # the service app
    {"settings", "_core.fetching", "_core.revocation", "_core.service_app", "_core.verdict"},
    # runtimes
    {"runtimes"},
    # adapters, one HTTP library each, and what they share
    {"_clients", "requests", "httpx", "httpx2", "aiohttp", "niquests"},
    # what a program's own code doesn't import at run time
    {"admin", "httpie"},
    # the command
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def place(module: str) -> str:
    """The name in :data:`LAYERS` that stands for a module; the empty string if there is none."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in LEVEL), "")
