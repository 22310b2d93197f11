"""Who signs in to the management API, and which org and app are meant.

Invariant: the SSWS token comes from a file, the environment, an ``okta.yaml`` or a prompt. It goes to the org of the
settings in effect; where a file of the working directory names that org and something else the token, that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .._core.service_app import ServiceApp
from ..errors import ConfigurationError
from ..settings import find_setting as named
from ..settings import read_settings
from .exits import needs
from .secrets import asked, secret_file
from .terminal import note, stdin_is_terminal

if TYPE_CHECKING:
    from ..admin.management import ApiToken, ManagementApi, Pause
    from ..admin.provisioning import App, Via

__all__ = [
    "AppName",
    "As",
    "MaxWait",
    "TokenFile",
    "ViaName",
    "checked_via",
    "client_settings",
    "configured_org",
    "meant_app",
    "org_url",
    "signed_in",
]

TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File with the SSWS token to sign in with (- is stdin); otherwise OKTA_CLIENT_TOKEN, okta.yaml, or a prompt.",
    ),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="self|FOLDER",
        help="Sign in as a service app instead: the configured one (self), or the one of the okta.yaml in a folder.",
    ),
]
MaxWait = Annotated[float, typer.Option(min=1, max=86_400, help="Seconds that one call may wait for a rate limit.")]
AppName = Annotated[
    str | None,
    typer.Option("--app", metavar="NAME|ID", help="The app, by its name or id; otherwise the configured client id."),
]
ViaName = Annotated[str, typer.Option(metavar="apps|clients", help="/api/v1/apps, or /oauth2/v1/clients.")]


class StandIn:
    """Stands in for a key where only other settings are asked for."""

    alg = "ES256"
    kid = None
    public_jwk: Mapping[str, str] = {}

    def sign(self, message: bytes, /) -> bytes:
        raise AssertionError("nothing is signed with it")


_OTHERS: Final[dict[str, Any]] = {"client_id": "any", "scopes": ["okta.users.read"]}


def org_url() -> str:
    """The org of the settings in effect, whatever else they lack."""
    # The place that names the org is looked at in signed_in: what is at stake there is the SSWS token, not a key.
    return read_settings(org_url=configured_org(), key=StandIn(), **_OTHERS).org_url


def configured_org() -> Any:
    """The org of the settings in effect as it stands there, unchecked."""
    found = named("orgUrl", "oktaDomain")
    return None if found is None else found.value


def client_settings() -> tuple[str, Path | None]:
    """The configured client id, and the ``okta.yaml`` that names it, if one does."""
    found = named("clientId")
    if found is None:
        raise ConfigurationError(
            "No app is named. Name it with --app, or set OKTA_CLIENT_CLIENTID; okta-m2m app create writes it to okta.yaml."
        )
    settings = read_settings(org_url="https://any.okta.com", key=StandIn(), scopes=_OTHERS["scopes"])
    path = Path(settings.sources["client_id"])
    return settings.client_id, path if path.is_file() else None


@contextmanager
def signed_in(what: str, token_file: Path | None, as_: str | None, max_wait: float) -> Iterator[ManagementApi]:
    """The management API, for whoever the options name."""
    with needs("cli", what):
        from ..admin.management import ManagementApi
    who: ApiToken | ServiceApp
    if as_ is None:
        url = org_url()
        who = _api_token(url, token_file)
    elif token_file is not None:
        raise ConfigurationError("--as and --token-file are two ways to sign in. Give one of them.")
    else:
        who = ServiceApp.from_env(max_wait=max_wait) if as_ == "self" else _app_of(Path(as_), max_wait)
        url = who.org_url
    with ManagementApi(url, who, max_wait=max_wait, on_pause=_say) as api:
        yield api


def _say(pause: Pause) -> None:
    note(f"waiting {pause.seconds:.0f} s: {pause.reason}" if pause.seconds >= 1 else f"waiting: {pause.reason}")


def _app_of(folder: Path, max_wait: float) -> ServiceApp:
    if not any((folder / name).is_file() for name in ("okta.yaml", ".okta.yaml")):
        raise ConfigurationError(
            f"There is no okta.yaml in {folder}. Name the folder with that of the app that signs in."
        )
    settings = read_settings(environ={}, directory=folder, home=folder)
    return ServiceApp(**{**settings.arguments(), "max_wait": max_wait})


def _api_token(url: str, token_file: Path | None) -> ApiToken:
    from ..admin.management import ApiToken

    org = named("orgUrl", "oktaDomain")
    if token_file is not None:
        token = ApiToken(secret_file(token_file, "SSWS token"))
        if org is not None and org.here:
            note(f"The SSWS token of {token_file} goes to {url}, which {org.place} names.")
        return token
    found = named("token")
    if found is not None:
        if org is not None and org.here and not found.here:
            note(f"The SSWS token of the {found.place} goes to {url}, which {org.place} names.")
        return ApiToken(str(found.value))
    if not stdin_is_terminal():
        raise ConfigurationError(
            "There is nothing to sign in with. Set OKTA_CLIENT_TOKEN to an SSWS token (Admin Console: Security > API > "
            "Tokens), name a file that holds one with --token-file, or sign in as a service app with --as."
        )
    return ApiToken(asked(f"SSWS token for {url}"))


def meant_app(api: ManagementApi, name: str | None, via: Via = "apps") -> App:
    """The app that the option names, or else the configured one."""
    from ..admin.provisioning import find_app

    return find_app(api, client_settings()[0] if name is None else name, via=via)


def checked_via(via: str) -> Via:
    """The endpoint of ``--via``."""
    if via == "clients":
        return "clients"
    if via == "apps":
        return "apps"
    raise typer.BadParameter("it is apps or clients", param_hint="--via")
