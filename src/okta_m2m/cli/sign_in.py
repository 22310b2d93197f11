"""Chooses the account that signs in to the management API, the org, and the app.

Invariant: the SSWS token comes from a file, the environment, an ``okta.yaml`` or a prompt, and is sent only to the
configured org. An org that only the working directory names gets none unless the user trusts it (:mod:`okta_m2m.cli.trust`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final

from .. import ServiceApp
from ..admin.management import ApiToken, ManagementApi, Pause
from ..admin.provisioning import App, find_app
from ..errors import ConfigurationError
from ..settings import find_setting, read_settings
from .options import As, MaxWait, TokenFile
from .printing import note
from .secrets import prompt_for, read_secret
from .terminal import stdin_is_terminal
from .trust import configured_app, trusted_settings

_NO_KEY: Final[dict[str, Any]] = {"key": object(), "scopes": ["okta.users.read"]}
"""Arguments in place of the settings that only a service app needs, so that they are not read."""


def configured_client() -> tuple[str, Path | None]:
    """The configured client id, and the ``okta.yaml`` that names it, if one does."""
    if find_setting("clientId") is None:
        raise ConfigurationError(
            "No option and no setting names the app.",
            remedy="Name it with --app, or set OKTA_CLIENT_CLIENTID (okta-m2m app create writes it to okta.yaml).",
        )
    settings = read_settings(org_url="https://any.okta.com", **_NO_KEY)
    return settings.client_id, settings.files.get("client_id")


@contextmanager
def _management_api(token_file: Path | None, as_: str | None, max_wait: float) -> Iterator[ManagementApi]:
    """The management API, with the account that the options of the same names choose."""
    account: ApiToken | ServiceApp
    if as_ is None:
        url = trusted_settings(client_id="any", **_NO_KEY).org_url
        account = _api_token(url, token_file)
    elif token_file is not None:
        raise ConfigurationError("--as and --token-file cannot be used together.", remedy="Remove one of them.")
    else:
        account = configured_app(max_wait=max_wait) if as_ == "self" else _service_app_in(Path(as_), max_wait)
        url = account.org_url
    with ManagementApi(url, account, max_wait=max_wait, on_pause=_report_pause) as api:
        yield api


@contextmanager
def administrator(token_file: Path | None, as_: str | None, max_wait: float) -> Iterator[ManagementApi | None]:
    """The management API, if an option or a setting names an account; ``None`` otherwise, without a prompt. An account that only
    the settings name must also be for an org that gets credentials."""
    is_option = token_file is not None or as_ is not None
    with ExitStack() as signed_out:
        api = None
        with nullcontext() if is_option else suppress(ConfigurationError):
            if is_option or find_setting("token") is not None:
                api = signed_out.enter_context(_management_api(token_file, as_, max_wait))
        yield api


SignIn = Callable[[], ManagementApi]


def signed_in(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that choose the account to a command. Its first argument is a function that signs in, so that a mistake on
    this machine is reported before a token is needed."""

    def run(token_file: TokenFile = None, as_: As = None, max_wait: MaxWait = 120, **options: Any) -> None:
        with ExitStack() as signed_out:
            command(lambda: signed_out.enter_context(_management_api(token_file, as_, max_wait)), **options)

    # typer makes the options from the signature and the annotations.
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    *account, _ = inspect.signature(run, eval_str=True).parameters.values()
    run.__signature__ = inspect.Signature([*own, *account])  # type: ignore[attr-defined]  # PEP 362
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *account)}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def target_app(sign_in: SignIn, name: str | None) -> tuple[ManagementApi, App]:
    """Signs in. Returns the API, and the app that an option names, by default the configured one."""
    api = sign_in()
    return api, find_app(api, configured_client()[0] if name is None else name)


def _report_pause(pause: Pause) -> None:
    note(f"waiting {pause.seconds:.0f} s: {pause.reason}" if pause.seconds >= 1 else f"waiting: {pause.reason}")


def _service_app_in(folder: Path, max_wait: float) -> ServiceApp:
    if not any((folder / name).is_file() for name in ("okta.yaml", ".okta.yaml")):
        raise ConfigurationError(
            f"--as names the folder {folder}, but there is no okta.yaml in it.",
            remedy="Name the folder of the service app that signs in, or write --as self.",
        )
    return ServiceApp(**trusted_settings(folder=folder, environ={}, max_wait=max_wait).arguments())


def _api_token(url: str, token_file: Path | None) -> ApiToken:
    if token_file is not None:
        return ApiToken(read_secret(token_file, "SSWS token"))
    found = find_setting("token")
    if found is not None:
        return ApiToken(str(found.value))
    if not stdin_is_terminal():
        raise ConfigurationError(
            "There is no SSWS token to sign in with.",
            remedy=(
                "Set OKTA_CLIENT_TOKEN (Admin Console: Security > API > Tokens), name a file that holds the "
                "token with --token-file, or sign in as a service app with --as."
            ),
        )
    return ApiToken(prompt_for(f"SSWS token for {url}"))
