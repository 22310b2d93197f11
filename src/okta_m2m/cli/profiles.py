"""``okta-m2m --org``: chooses the org for a command, by its URL or by the name of a profile.

Invariant: profiles are read only from the home directory. A folder that someone else created cannot add one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigurationError, quoted
from ..settings import check_org_url, parse_okta_yaml, read_okta_yaml
from .exits import failures
from .secrets import existing_file
from .settings_file import lines_below, section_of

_PREFIX: Final = "OKTA_CLIENT_"


def choose_org(name: str) -> None:
    """Makes an org the configured one for this process.

    - ``name``: its URL; or a profile, whose settings replace all ``OKTA_CLIENT_*`` variables.

    Raises :class:`~okta_m2m.errors.ConfigurationError` if there is no such profile.
    """
    if "://" in name or "." in name:
        _remove_variables("orgurl", "oktadomain")
        os.environ[f"{_PREFIX}ORGURL"] = check_org_url(name)
        return
    path = Path.home() / ".okta" / "okta.yaml"
    text = read_okta_yaml(path) or ""
    profiles = section_of(parse_okta_yaml(path, text), "okta", "profiles")
    settings = profiles.get(name)
    if not isinstance(settings, Mapping):
        near = get_close_matches(name, map(str, profiles), n=1)
        known = f"Use one of {', '.join(map(str, profiles))}." if profiles else "Add one, or use the org's URL."
        raise ConfigurationError(
            f"There is no profile {quoted(name, 60)!r} under okta.profiles in {path}.",
            remedy=f"Did you mean {near[0]!r}?" if near else known,
        )
    _remove_variables()
    lines = lines_below(text, "okta", "profiles", name)
    for setting, value in settings.items():
        variable = f"{_PREFIX}{str(setting).upper()}"
        os.environ[variable] = _as_variable(str(setting), value, path.parent)
        failures.places[variable] = f"okta.profiles.{name}.{setting} in {path}, line {lines.get(str(setting))}"


def _remove_variables(*folded: str) -> None:
    """Removes ``OKTA_CLIENT_*`` variables: those of the given names, in any spelling, or all if no name is given."""
    for name in list(os.environ):
        if name.startswith(_PREFIX) and (not folded or name[len(_PREFIX) :].replace("_", "").lower() in folded):
            del os.environ[name]


def _as_variable(setting: str, value: Any, folder: Path) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(map(str, value))
    text = "" if value is None else str(value)
    # A path in a file is relative to that file, here as elsewhere.
    return str(existing_file(folder, text) or text) if setting in ("privateKey", "jwk") else text
