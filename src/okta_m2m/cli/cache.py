"""``okta-m2m cache``: what the processes of the configured app share.

Invariant: a token is never printed, and nothing is asked of Okta.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.text import Text

from .._core.fleet import Fleet, Shared
from .._core.service_app import ServiceApp
from ..effects import Flow, Request, StoreFailed
from ..errors import ConfigurationError, TokenUnreachable, quoted
from ..keys import Signer
from ..runtimes import Threads, run
from .exits import Exit, complain
from .terminal import Output

__all__ = ["app"]

T = TypeVar("T")

app = typer.Typer(help="The token that processes share through a store.", no_args_is_help=True)

TIMEOUT = 5.0  # seconds for each question to the store: there is a person waiting, and not a call


@app.command()
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print the description as one JSON document.")] = False,
) -> None:
    """Say what is stored for the configured app, and until when; never the token.

    The store is the one that OKTA_M2M_STORE names.
    """
    service_app, fleet, keys = _fleet()
    document = _document(service_app, fleet, _asked(fleet.look(keys)))
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    output = Output()
    for name, value in document.items():
        if value is not None:
            output.print(
                Text(f"{name.replace('_', ' '):<16}", "bold").append(_shown(value), "not bold"), soft_wrap=True
            )


@app.command()
def clear() -> None:
    """Remove the configured app's token from the store.

    Processes that have it go on using it until it is due. The next one that needs a token asks Okta.
    """
    _, fleet, keys = _fleet()
    if not _asked(fleet.clear(keys)):
        complain("A process is fetching a token just now, so nothing was removed. Try again in some seconds.")
        raise typer.Exit(Exit.FAILED)
    typer.echo("Nothing is stored for this app any more.")


def _fleet() -> tuple[ServiceApp, Fleet, Sequence[Signer]]:
    service_app = ServiceApp.from_env(store_timeout=TIMEOUT)
    if service_app.fleet is None:
        raise ConfigurationError(
            "There is no store. Set OKTA_M2M_STORE to what the processes use: redis://host:6379/0, rediss://host:6379/0, "
            "unix:///path/of/redis.sock, file: or file:/path/of/directory."
        )
    return service_app, service_app.fleet, service_app.keys


def _asked(flow: Flow[T]) -> T:
    try:
        return run(flow, Threads(_sends_nothing))
    except StoreFailed as failed:
        raise TokenUnreachable(
            f"The token store does not work: {quoted(failed)}. Check the store, and OKTA_M2M_STORE."
        ) from None


def _sends_nothing(request: Request, timeout: float) -> NoReturn:
    raise NotImplementedError("no flow in here asks Okta")


def _document(service_app: ServiceApp, fleet: Fleet, shared: Shared | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "store": repr(fleet.store),
        "org_url": service_app.org_url,
        "client_id": service_app.client_id,
        "stored": shared is not None,
    }
    if shared is None:
        return described
    token, dpop_key = shared
    ends = datetime.fromtimestamp(round(fleet.okta_time_of(token.sent_at + token.expires_in)), UTC)
    left = (ends - datetime.now(UTC)).total_seconds()
    return {
        **described,
        "token_type": token.token_type,
        "scopes": list(token.scopes),
        "expires_at": ends.isoformat().replace("+00:00", "Z"),
        "expires_in": max(0, round(left)),
        "dpop_key": None if dpop_key is None else dpop_key.thumbprint(),
    }


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "nothing, or nothing that this key opens"
    return " ".join(value) if isinstance(value, list) else f"{value} s" if isinstance(value, int) else str(value)
