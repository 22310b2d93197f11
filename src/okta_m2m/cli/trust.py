"""Checks which org gets a credential.

Invariant: an org that only a file in the working directory names gets no credential from anywhere else: no SSWS token,
no assertion signed with a key from outside the folder, no token to introspect. The author of that file (a cloned
repository, an unpacked archive) chose the host. On a terminal the command asks first, and shows the host.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from .. import ServiceApp
from ..errors import ConfigurationError
from ..settings import FoundSetting, Settings, check_org_url, find_setting, named_store, read_settings
from .printing import clean
from .terminal import stdin_is_terminal

__all__ = [
    "OrgNotTrusted",
    "app_settings",
    "check_org",
    "check_token",
    "configured_app",
    "is_inside",
    "trusted_settings",
]

_ORG = ("orgUrl", "oktaDomain")


class OrgNotTrusted(ConfigurationError):
    """An org that only the working directory names would get a credential from elsewhere."""


def check_org(url: str, credential: str) -> None:
    """Refuses an org that only the working directory names. On a terminal the user decides.

    - ``url``: the org's URL.
    - ``credential``: what the org would get from outside the working directory; it completes "would get".
    """
    named_elsewhere = find_setting(*_ORG, here=False), find_setting(*_ORG, here=False, environ={})
    if url in map(_url_of, named_elsewhere):  # named by the environment, or by the user's own ~/.okta/okta.yaml
        return
    found = find_setting(*_ORG)
    place = "The working directory" if found is None else found.place
    question = f"Only {place} names the org {url}. Send it {credential}?"
    if stdin_is_terminal() and typer.confirm(clean(question), err=True):
        return
    raise OrgNotTrusted(
        f"Only {place} names the org {url}, so it does not get {credential}.",
        remedy=f"If that is your org, pass --org {url}, set OKTA_CLIENT_ORGURL={url}, or write orgUrl to ~/.okta/okta.yaml.",
    )


def check_token(url: str, token: str, place: str) -> None:
    """Like :func:`check_org`, for a token from the user. The token's own issuer gets it without a question."""
    if _issuer(token) != urlsplit(url)[:2]:
        check_org(url, f"the token of {place}")


def trusted_settings(
    *, folder: Path | None = None, environ: Mapping[str, str] | None = None, **arguments: Any
) -> Settings:
    """The settings of the configured app, whose key may sign for the org that they name.

    - ``folder``: reads the ``okta.yaml`` there, instead of those in the working directory and the home directory.
    - ``environ``: variables to use instead of ``os.environ``. Default ``None``.
    - ``arguments``: as for :func:`okta_m2m.settings.read_settings`.

    Raises :class:`~okta_m2m.errors.ConfigurationError` like that function, and for a key from outside the folder if only
    that folder's ``okta.yaml`` names the org.
    """
    places: dict[str, Any] = {"environ": environ, "directory": folder, "home": folder}
    found = find_setting(*_ORG, **places)
    url = _url_of(found)
    if found is None or url is None or not found.here:
        return read_settings(**places, **arguments)
    # Pass the org as an argument, so that the library does not warn about it: this function decides instead.
    settings = read_settings(**places, **{**arguments, "org_url": url})
    place = _place_of_key(settings)
    if place is None or not is_inside(place, folder or Path()):
        source = settings.sources.get("key", "argument") if place is None else place
        check_org(url, f"an assertion signed with the key of {source}")
    return settings


def app_settings() -> tuple[Settings, Any]:
    """The settings of the configured app, for commands that need no scopes, and its key: the preferred one of several."""
    settings = trusted_settings(scopes=["okta.users.read"])
    key = settings.key
    return settings, key[0] if isinstance(key, list | tuple) else key


def configured_app(**arguments: Any) -> ServiceApp:
    """The configured app, as ``ServiceApp.from_env`` makes it."""
    return ServiceApp(**{"store": named_store(), **trusted_settings(**arguments).arguments()})


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a file is in a folder or below, after symlinks are resolved."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _place_of_key(settings: Settings) -> Path | None:
    """The file that holds the key; ``None`` if it is not in a file."""
    path: Any = getattr(settings.key, "path", None)  # only a key that follows a file has one
    place = settings.sources.get("key", "")
    return Path(path) if path is not None else Path(place) if os.path.isfile(place) else None


def _url_of(found: FoundSetting | None) -> str | None:
    """The org URL; ``None`` if the value is not a URL, which :func:`~okta_m2m.settings.read_settings` reports."""
    try:
        return check_org_url(found.value.strip()) if found is not None and isinstance(found.value, str) else None
    except ConfigurationError:
        return None


def _issuer(token: str) -> tuple[str, str] | None:
    """Scheme and host of the ``iss`` of a JWT, not verified: a forged ``iss`` could only send its author's own token to
    the wrong host."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        scheme, host = urlsplit(str(claims["iss"]))[:2]
    except (IndexError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return scheme, host
