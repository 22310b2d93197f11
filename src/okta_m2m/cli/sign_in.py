"""Chooses the account that signs in to the management API, the org, and the app.

Invariant: the SSWS token comes from a file, the environment, an ``okta.yaml`` or a prompt, and is sent only to the
configured org. An org that only the working directory names gets no token from elsewhere (:mod:`okta_m2m.cli.trust`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from .. import ServiceApp
from ..admin.management import ApiToken, ManagementApi, Pause
from ..admin.provisioning import App, Via, find_app
from ..errors import ConfigurationError
from ..settings import find_setting, read_settings
from .printing import note
from .secrets import prompt_for, read_secret
from .terminal import stdin_is_terminal
from .trust import check_org, check_ssws_token, configured_app, is_in_folder, trusted_settings

__all__ = ["configured_client", "management_api", "target_app"]


_PLACEHOLDERS: Final[dict[str, Any]] = {
    "org_url": "https://any.okta.com",
    "client_id": "any",
    "key": object(),
    "scopes": ["okta.users.read"],
}
"""Arguments in place of the settings that are not needed, so that they are not read."""


def configured_client() -> tuple[str, Path | None]:
    """The configured client id, and the ``okta.yaml`` that names it, if one does."""
    if find_setting("clientId") is None:
        raise ConfigurationError(
            "No option and no setting names the app.",
            remedy="Name it with --app, or set OKTA_CLIENT_CLIENTID (okta-m2m app create writes it to okta.yaml).",
        )
    settings = read_settings(**{**_PLACEHOLDERS, "client_id": None})
    return settings.client_id, settings.files.get("client_id")


@contextmanager
def management_api(token_file: Path | None, as_: str | None, max_wait: float) -> Iterator[ManagementApi]:
    """The management API, with the account that the options name.

    ``token_file``, ``as_``, ``max_wait``: the options of the same names.
    """
    account: ApiToken | ServiceApp
    if as_ is None:
        url = _org_url()
        account = _api_token(url, token_file)
    elif token_file is not None:
        raise ConfigurationError("--as and --token-file cannot be used together.", remedy="Remove one of them.")
    else:
        account = configured_app(max_wait=max_wait) if as_ == "self" else _service_app_in(Path(as_), max_wait)
        url = account.org_url
    with ManagementApi(url, account, max_wait=max_wait, on_pause=_report_pause) as api:
        yield api


def target_app(api: ManagementApi, name: str | None, via: Via = "apps") -> App:
    """The app that an option names, by default the configured one."""
    return find_app(api, configured_client()[0] if name is None else name, via=via)


def _org_url() -> str:
    """The configured org URL, even if other settings are missing."""
    found = find_setting("orgUrl", "oktaDomain")
    # The org is passed as an argument, because no key is at stake here. _api_token checks which place names the org.
    return read_settings(**{**_PLACEHOLDERS, "org_url": None if found is None else found.value}).org_url


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
        token = ApiToken(read_secret(token_file, "SSWS token"))
        if not is_in_folder(token_file):
            check_org(url, f"the SSWS token of {'stdin' if str(token_file) == '-' else token_file}")
        return token
    found = find_setting("token")
    if found is not None:
        check_ssws_token(url, found)
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
