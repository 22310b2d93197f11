"""The floors of the package, from the ground up: a module imports only from its own floor or a lower one."""

from __future__ import annotations

FLOORS = [
    {"_base"},
    {"errors", "events"},
    {"_urls"},
    {"_threads"},
    {"keys"},
    {"effects", "stores"},
    {"settings"},
    {"_core"},
    {"runtimes"},
    {"_clients"},
    {"requests", "httpx", "httpx2", "aiohttp", "niquests"},
    {"admin", "httpie", "okta_sdk", "federation"},
    {"cli"},
]
"""Each folder, or module at the top, by its name below ``okta_m2m``. Two on one floor may import each other."""

LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def place(module: str) -> str:
    """The name in :data:`FLOORS` that stands for a module; the empty string if there is none."""
    name = module.partition(".")[0]
    return name if name in LEVEL else ""
