"""``okta-m2m assertion``: a signed client assertion, for use with curl.

Invariant: only the assertion is written to a pipe.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ..admin.introspection import client_assertion, endpoint_url
from .printing import echo, echo_json
from .terminal import stdout_is_terminal
from .trust import app_settings

__all__ = ["assertion"]


def assertion(
    endpoint: Annotated[
        str,
        typer.Option(metavar="token|introspect|revoke", help="The endpoint that the assertion is for (its aud claim)."),
    ] = "token",
    lifetime: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=1, max=3540, help="How long the assertion is valid. It can be used only once."
        ),
    ] = 300.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print it with its header and claims, as JSON.")] = False,
) -> None:
    """Sign a client assertion (RFC 7523) for the configured app, and print it. On a terminal, also print its content.

    okta-m2m assertion | curl --data-urlencode client_assertion@- -d grant_type=client_credentials ...
    """
    if endpoint not in ("token", "introspect", "revoke"):
        raise typer.BadParameter(
            f"{endpoint!r} is not an endpoint. Use token, introspect or revoke.", param_hint="--endpoint"
        )
    settings, key = app_settings()
    url = endpoint_url(settings.org_url, endpoint, settings.authorization_server)  # type: ignore[arg-type]  # checked above
    made = client_assertion(settings.client_id, key, url, lifetime=lifetime)
    if as_json:
        document = {"client_assertion": made.value, "header": dict(made.header), "claims": dict(made.claims)}
        echo_json(document)
    elif stdout_is_terminal():
        echo_json({"header": dict(made.header), "claims": dict(made.claims)})
        echo()
        echo(made.value)
    else:
        echo(made.value, newline=False)  # curl --data-urlencode would also send a newline
