"""``okta-m2m cache``: the token that the processes of the configured app share through a store.

Invariant: a token is never printed, and no request is sent to Okta.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from .. import ServiceApp
from ..admin.shared_token import SharedToken, clear_shared_token, find_shared_token, store_of
from ..effects import StoreFailed
from ..errors import TokenUnreachable, quoted
from .exits import Exit, complain
from .groups import command_group
from .options import Json
from .printing import echo, echo_json
from .terminal import Output, titled

__all__ = ["app"]

app = command_group("The token that processes share through a store.")

TIMEOUT = 5.0  # seconds for each operation of the store; longer than for a call, because a person is waiting


@app.command()
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print the description as one JSON document.")] = False,
) -> None:
    """Show what is stored for the configured app, and until when. The token is not shown.

    OKTA_M2M_STORE names the store.
    """
    service_app = _configured_app()
    with _working_store():
        document = _document(service_app, find_shared_token(service_app))
    if as_json:
        echo_json(document)
        return
    output = Output()
    for name, value in document.items():
        if value is not None:
            output.print(titled(name.replace("_", " "), _format(value)), soft_wrap=True)


@app.command()
def clear(as_json: Json = False) -> None:
    """Remove the configured app's token from the store.

    Processes that have the token keep using it until they renew it. The next process that needs a token requests one
    from Okta.
    """
    with _working_store():
        removed = clear_shared_token(_configured_app())
    if as_json:
        echo_json({"cleared": removed})
    if not removed:
        complain("A process is fetching a token, so nothing was removed. Try again in a few seconds.")
        raise typer.Exit(Exit.FAILED)
    if not as_json:
        echo("No token is stored for this app any more.")


def _configured_app() -> ServiceApp:
    return ServiceApp.from_env(store_timeout=TIMEOUT)


@contextmanager
def _working_store() -> Iterator[None]:
    try:
        yield
    except StoreFailed as failed:
        raise TokenUnreachable(
            f"The token store does not work: {quoted(failed)}.", remedy="Check the store, and OKTA_M2M_STORE."
        ) from None


def _document(service_app: ServiceApp, shared: SharedToken | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "store": repr(store_of(service_app)),
        "org_url": service_app.org_url,
        "client_id": service_app.client_id,
        "stored": shared is not None,
    }
    if shared is None:
        return described
    ends = datetime.fromtimestamp(round(shared.expires_at), UTC)
    left = (ends - datetime.now(UTC)).total_seconds()
    return {
        **described,
        "token_type": shared.token_type,
        "scopes": list(shared.scopes),
        "expires_at": ends.isoformat().replace("+00:00", "Z"),
        "expires_in": max(0, round(left)),
        "dpop_key": shared.dpop_key,
    }


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "nothing, or nothing that this key can decrypt"
    return " ".join(value) if isinstance(value, list) else f"{value} s" if isinstance(value, int) else str(value)
