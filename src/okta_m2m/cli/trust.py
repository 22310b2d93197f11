"""Decides whether the org gets a credential, and ``okta-m2m trust``, which lets the user decide.

Invariant: an org that only an ``okta.yaml`` in the working directory names gets no credential, wherever that is from, unless
the user has trusted this file as it is now. The author of the file (a cloned repository, an unpacked archive, a pull request)
chose the host, and could lead to a credential with a path or a symlink too.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from .. import ServiceApp
from ..admin.key_files import replace_file
from ..errors import ConfigurationError, quoted
from ..settings import FoundSetting, Settings, check_org_url, find_setting, named_store, read_okta_yaml, read_settings
from .options import Json, argument
from .printing import note, report

_ORG = ("orgUrl", "oktaDomain")


class OrgNotTrusted(ConfigurationError):
    """An org that only the working directory names would get a credential."""


def trust(
    folder: Annotated[Path, argument("FOLDER", "The folder with the okta.yaml.")],
    as_json: Json = False,
) -> None:
    """Let the org that the okta.yaml in a folder names get credentials, until that file changes."""
    found = find_setting(*_ORG, environ={}, directory=folder, home=folder)
    if found is None or found.file is None:
        raise ConfigurationError(f"No okta.yaml in {folder} names an org.", remedy="Use the folder that has it.")
    url = check_org_url(str(found.value).strip())
    _trust_file(found.file)
    line = f"{url} gets credentials in {folder}, until {found.file} changes."
    report({"org_url": url, "file": str(found.file)}, [line], as_json)


def check_org(*, folder: Path | None = None, environ: Mapping[str, str] | None = None) -> str | None:
    """Refuses an org that only the working directory names, unless the user trusts the file. Returns the URL if that file
    names it, and ``None`` if the org is named somewhere else or nowhere.

    - ``folder``: checks this folder instead, in which every ``okta.yaml`` counts as the folder's.
    - ``environ``: variables to use instead of ``os.environ``. Default ``None``.

    Raises :class:`OrgNotTrusted`.
    """
    found = find_setting(*_ORG, environ=environ, directory=folder, home=folder)
    url = _url_of(found)
    # A folder that the user names is not their home directory, although its .okta/okta.yaml is read as if it were.
    if found is None or found.file is None or url is None or not (found.here or folder is not None):
        return None
    # The environment, or the user's own ~/.okta/okta.yaml
    named_by_user = find_setting(*_ORG, here=False), find_setting(*_ORG, here=False, environ={})
    if url not in map(_url_of, named_by_user) and not is_trusted(found.file):
        shown = "." if folder is None else f"'{quoted(folder)}'"
        raise OrgNotTrusted(
            f"Only {found.place} names the org {url}, so it gets no credential.",
            remedy=f"If that is your org, run: okta-m2m trust {shown} (again after each change of the file). Or pass "
            f"--org {url}, or set OKTA_CLIENT_ORGURL={url}.",
        )
    return url


def is_trusted(file: Path) -> bool:
    """Whether the user trusts an ``okta.yaml`` as it is now."""
    with suppress(ConfigurationError):  # no home directory, or a damaged record
        return _trusted_files().get(_place(file)) == _digest(file)
    return False


def trust_own_file(file: Path) -> None:
    """Trusts an ``okta.yaml`` that the command has written. If that cannot be recorded, the user is notified."""
    try:
        _trust_file(file)
    except (ConfigurationError, OSError) as error:
        note(f"{file} could not be recorded as trusted: {error}")


def trusted_settings(
    *, folder: Path | None = None, environ: Mapping[str, str] | None = None, **arguments: Any
) -> Settings:
    """The settings of the configured app, whose key may sign for the org that they name.

    - ``folder``: reads the ``okta.yaml`` there, instead of those in the working directory and the home directory.
    - ``environ``: variables to use instead of ``os.environ``. Default ``None``.
    - ``arguments``: as for :func:`okta_m2m.settings.read_settings`.

    Raises :class:`~okta_m2m.errors.ConfigurationError` like that function, and :class:`OrgNotTrusted`.
    """
    url = check_org(folder=folder, environ=environ)
    # Pass the org as an argument, so that the library does not warn about a key that is elsewhere: the user has decided.
    return read_settings(environ=environ, directory=folder, home=folder, **{**arguments, "org_url": url})


def app_settings() -> tuple[Settings, Any]:
    """The settings of the configured app, for commands that need no scopes, and its key."""
    settings = trusted_settings(scopes=["okta.users.read"])
    return settings, settings.key


def configured_app(**arguments: Any) -> ServiceApp:
    """The configured app, as ``ServiceApp.from_env`` makes it."""
    return ServiceApp(**{"store": named_store(), **trusted_settings(**arguments).arguments()})


def _trust_file(file: Path) -> None:
    trusted = {**_trusted_files(), _place(file): _digest(file)}
    record = _record()
    record.parent.mkdir(mode=0o700, exist_ok=True)
    replace_file(record, json.dumps(trusted, indent=2).encode() + b"\n")


def _record() -> Path:
    try:
        return Path.home() / ".okta" / "trusted.json"
    except RuntimeError:
        raise ConfigurationError(
            "This user has no home directory, in which trusted folders are recorded.", remedy="Set OKTA_CLIENT_ORGURL."
        ) from None


def _trusted_files() -> Mapping[str, str]:
    """The trusted files, by their place, each with the digest of its text."""
    record = _record()
    try:
        text = read_okta_yaml(record)  # refuses a file that others can write to
        return {} if text is None else dict(json.loads(text))
    except (ValueError, TypeError):
        raise ConfigurationError(f"{record} is damaged.", remedy="Remove it, and trust your folders again.") from None


def _place(file: Path) -> str:
    """The folder after symlinks are resolved, and the file's name in it: a symlink in a stranger's folder may lead to a file
    that is trusted elsewhere."""
    return str(Path(os.path.realpath(file.parent), file.name))


def _digest(file: Path) -> str:
    return hashlib.sha256((read_okta_yaml(file) or "").encode()).hexdigest()


def _url_of(found: FoundSetting | None) -> str | None:
    """The org URL; ``None`` if the value is not a URL, which :func:`~okta_m2m.settings.read_settings` reports."""
    try:
        return check_org_url(found.value.strip()) if found is not None and isinstance(found.value, str) else None
    except ConfigurationError:
        return None
