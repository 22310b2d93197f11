"""Settings from arguments, the environment and ``okta.yaml``, under the names that Okta's own SDKs read.

Invariant: each setting comes from the highest-priority place that has it. An error about a value names its
place. No message, log record or ``repr`` shows a private key or a passphrase.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast

from .._base.crash_reports import without_locals
from .._base.records import PublicRecord
from .._base.tokens import SCOPE
from .._urls.org_url import check_org_url, find_placeholder
from .._urls.origins import Origins
from ..errors import ConfigurationError, quoted
from ..keys import PrivateKey
from ..stores import store_from_url
from ._sources import (
    ARGUMENTS,
    ORIGINS_VARIABLE,
    PREFIX,
    SPELLINGS,
    FoundSetting,
    Source,
    argument_source,
    describe_kind,
    environment_source,
    fold_name,
    okta_yaml_source,
)
from .okta_yaml import okta_yaml_paths, parse_okta_yaml, read_okta_yaml

if TYPE_CHECKING:
    from ..keys import Signer
    from ..stores import Store

__all__ = [
    "FoundSetting",
    "Settings",
    "check_org_url",
    "find_setting",
    "named_store",
    "parse_okta_yaml",
    "read_okta_yaml",
    "read_settings",
]

logger = logging.getLogger("okta_m2m")

_DECIDED_WITH_THE_KEY = frozenset({"kid", "passphrase", "mode"})

# Variables that other software reads for the same setting. The error for a missing setting mentions them if they are
# set.
_SIMILAR_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "org_url": ("OKTA_ORG_URL", "OKTA_DOMAIN", "OKTA_ORG_NAME"),
    "client_id": ("OKTA_CLIENT_ID", "OKTA_API_CLIENT_ID"),
    "key": ("OKTA_PRIVATE_KEY", "OKTA_API_PRIVATE_KEY"),
    "scopes": ("OKTA_SCOPES", "OKTA_API_SCOPES"),
}
_TITLES = {"org_url": "org URL", "client_id": "client id", "key": "private key", "scopes": "list of scopes"}
_OTHER_MODES = {
    "ssws": "asks for an API token of a user (SSWS), but this package signs with a private key",
    "bearer": "asks for a ready-made access token (Bearer), but this package signs with a private key",
    "jwt": "asks for a ready-made assertion (JWT), which works only once",
}

_UNPRINTABLE_OR_SPACE = r"[\x00-\x20\x7f]"
_UNPRINTABLE = r"[\x00-\x1f\x7f]"
_KEY_SUFFIXES = (".pem", ".key", ".json", ".jwk", ".jwks", ".p8", ".pk8", ".der")


class Settings(PublicRecord, hidden=("key", "others", "files")):
    """The settings of a service app, and the place of each.

    - ``org_url``: ``https://`` and the org's host, as :func:`check_org_url` returns it.
    - ``client_id``: the service app's client id.
    - ``key``: the signer of the client assertions, or several, the preferred one first.
    - ``scopes``: the scopes to request. Empty only with an ``authorization_server``.
    - ``authorization_server``: the id of a custom authorization server; ``None`` for the org's.
    - ``dpop``: as for ``ServiceApp``; ``None`` if it is not set.
    - ``origins``: the origins that the token may be sent to, besides those of ``ServiceApp`` itself.
    - ``sources``: the place of each setting: ``"argument"``, ``"environment variable OKTA_CLIENT_ORGURL"``, or a file's
      path.
    - ``others``: arguments that are not settings, unchanged.
    - ``files``: the ``okta.yaml`` of each setting that is in one, by the path under which it was found.
    """

    org_url: str
    client_id: str
    key: Signer | Sequence[Signer]
    scopes: tuple[str, ...]
    authorization_server: str | None
    dpop: bool | Literal["required"] | Signer | None
    origins: Iterable[str]
    sources: Mapping[str, str]
    others: Mapping[str, Any] = MappingProxyType({})
    files: Mapping[str, Path] = MappingProxyType({})

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments for ``ServiceApp``, omitting those that are not set."""
        arguments = {**self.others, **{name: getattr(self, name) for name in ARGUMENTS}}
        if self.dpop is None:
            del arguments["dpop"]
        return arguments


@without_locals
def read_settings(
    *,
    files: bool = True,
    environ: Mapping[str, str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
    **arguments: Any,
) -> Settings:
    """The settings of a service app, each from the highest-priority place that has it.

    The order is the same as in Okta's SDKs: arguments, the environment (``OKTA_CLIENT_*``, ``OKTA_M2M_ORIGINS``),
    ``okta.yaml`` and ``.okta.yaml`` in the working directory, ``.okta/okta.yaml`` in the home directory.
    An empty string, an empty list, ``null`` and an argument of ``None`` count as not set.

    - ``files``: whether to read ``okta.yaml``. Default ``True``. A private key file is always read.
    - ``environ``, ``directory``, ``home``: used instead of the process's environment, working directory and home
      directory. Default ``None``.
    - ``arguments``: ``org_url``, ``client_id``, ``key``, ``scopes``, ``authorization_server``, ``origins`` and ``dpop``
      are settings. All others are returned in ``Settings.others``.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for settings that are missing, contradictory or invalid, and
    :class:`~okta_m2m.errors.InvalidKey` for the key.
    """
    working_directory = _working_directory(directory)
    given = argument_source(arguments, working_directory).read()
    decided = set(given.found) | (_DECIDED_WITH_THE_KEY if "key" in given.found else set())

    environ = os.environ if environ is None else environ
    in_environment = environment_source(environ, working_directory).read(decided)
    paths = okta_yaml_paths(working_directory, home) if files else []
    sources = [given, in_environment, *(okta_yaml_source(path, here).read(decided) for path, here in paths)]

    found = {setting: next((s.found[setting] for s in sources if setting in s.found), None) for setting in SPELLINGS}
    _check_mode(found["mode"], found["key"], sources)
    org_url, client_id, key = found["org_url"], found["client_id"], found["key"]
    scopes, server = found["scopes"], found["authorization_server"]
    # A custom authorization server may have default scopes. The org authorization server grants only requested scopes.
    if org_url is None or client_id is None or key is None or (scopes is None and server is None):
        raise _missing_settings(found, environ, [path for path, _ in paths])

    checked_url = _org_url(org_url)
    kid, passphrase = (_find_beside_key(key, sources, setting) for setting in ("kid", "passphrase"))
    signer, key_path = _signer(key, kid, passphrase)
    _warn_of_strange_org(org_url, key, key_path, working_directory)
    is_key_here = _is_key_here(key, key_path, working_directory)
    dpop = _trustworthy("dpop", sources, is_key_here, lambda found: _dpop(found) == "required")
    origins = _trustworthy("origins", sources, is_key_here, lambda found: False)
    scopes = _trustworthy("scopes", sources, is_key_here, lambda found: _is_narrower(found, sources, client_id))
    _check_scopes_are_own(scopes, client_id)
    in_use = {**found, "scopes": scopes, "dpop": dpop, "origins": origins}
    in_use.update(kid=kid, passphrase=passphrase, mode=None)
    used = {setting: one for setting, one in in_use.items() if one is not None}
    return Settings(
        org_url=checked_url,
        client_id=_word(client_id),
        key=signer,
        scopes=() if scopes is None else _scopes(scopes),
        authorization_server=None if server is None else _word(server),
        dpop=None if dpop is None else _dpop(dpop),
        origins=() if origins is None else _origins(origins),
        sources=MappingProxyType({setting: one.place for setting, one in used.items()}),
        others=MappingProxyType(arguments),
        files=MappingProxyType({setting: one.file for setting, one in used.items() if one.file is not None}),
    )


@without_locals
def find_setting(
    *spellings: str,
    environ: Mapping[str, str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
    here: bool = True,
) -> FoundSetting | None:
    """One value from the highest-priority place that has it, unchecked; ``None`` if it is not set.

    It looks in the environment, and then in each ``okta.yaml``. It also finds settings that a service app does not use,
    such as ``token``.

    - ``spellings``: the setting's names in Okta's SDKs, such as ``"orgUrl", "oktaDomain"``.
    - ``environ``, ``directory``, ``home``: as for :func:`read_settings`.
    - ``here``: ``False`` skips the working directory's files, which a stranger may have written, unless that is the home
      directory. Default ``True``.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for an ``okta.yaml`` that cannot be used.
    """
    working_directory = _working_directory(directory)
    paths = [(path, is_here) for path, is_here in okta_yaml_paths(working_directory, home) if here or not is_here]
    in_environment = environment_source(os.environ if environ is None else environ, working_directory)
    sources = chain([in_environment], (okta_yaml_source(path, is_here) for path, is_here in paths))
    return next(filter(None, (source.find(spellings) for source in sources)), None)


@without_locals
def named_store(environ: Mapping[str, str] | None = None) -> Store | None:
    """The shared store that ``OKTA_M2M_STORE`` names; ``None`` if it is not set.

    - ``environ``: variables to use instead of ``os.environ``. Default ``None``.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, which does not show the URL, because it may contain a password.
    """
    url = (os.environ if environ is None else environ).get("OKTA_M2M_STORE", "").strip()
    if not url:
        return None
    try:
        return store_from_url(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"environment variable OKTA_M2M_STORE: {error.problem}", remedy=error.remedy) from None


def _working_directory(directory: str | os.PathLike[str] | None) -> Path:
    try:
        return Path(os.path.abspath(directory or os.curdir))
    except FileNotFoundError:
        return Path(os.curdir)  # the directory was deleted, as an old release may be: there is no file


def _missing_settings(
    found: Mapping[str, FoundSetting | None], environ: Mapping[str, str], paths: Sequence[Path]
) -> ConfigurationError:
    """The error that names all missing settings, and where to set them."""
    titles, lines = [], []
    for setting in ("org_url", "client_id", "key", "scopes"):
        if found[setting] is not None or (setting == "scopes" and found["authorization_server"] is not None):
            continue
        spelling = SPELLINGS[setting][0]
        titles.append(f"no {_TITLES[setting]}")
        variable = f"{PREFIX}{spelling.upper()}"
        line = f"For the {_TITLES[setting]}, pass {setting}="
        line += f", set {variable}, or write okta.client.{spelling}" if paths else f" or set {variable}"
        similar = next((name for name in _SIMILAR_VARIABLES[setting] if environ.get(name)), None)
        lines.append(line + (f" ({similar} is set, but is not read)." if similar else "."))
    if paths:
        lines.append(f"The file is {paths[0]} or {paths[-1]}.")
    *others, last = titles
    problem = f"There is {', '.join(others)} and {last}." if others else f"There is {last}."
    return ConfigurationError(problem, remedy=" ".join(lines))


def _check_mode(mode: FoundSetting | None, key: FoundSetting | None, sources: Sequence[Source]) -> None:
    """Refuses all modes except private_key_jwt. A mode from a place with lower priority than the key belongs to
    another key."""
    if mode is None or (key is not None and sources.index(key.source) < sources.index(mode.source)):
        return
    word = fold_name(_string(mode))
    if word in ("privatekey", "jwk"):  # jwk: the Go SDK's name for a private key in JWK form
        return
    problem = _OTHER_MODES.get(word, "is not a mode that Okta's SDKs know")
    raise ConfigurationError(
        f"{mode.where} {problem}.",
        remedy=(
            "Write PrivateKey, and set clientId, privateKey and scopes of an API service app. If another program needs that "
            "mode, leave it there, and set all of these where they have priority."
        ),
    )


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _unchanged_string(found: FoundSetting) -> str:
    if not isinstance(found.value, str):
        raise ConfigurationError(
            f"{found.where} is {describe_kind(found.value)}, not a string.", remedy="Put the value in quotes."
        )
    return found.value


def _string(found: FoundSetting) -> str:
    text = _unchanged_string(found).strip()
    if text[0] in "\"'" and text[-1] == text[0]:
        # Docker keeps the quotes of NAME="value" in an --env-file.
        raise ConfigurationError(f"{found.where} has quotation marks as part of its value.", remedy="Remove them.")
    return text


def _word(found: FoundSetting, unfit: str = _UNPRINTABLE_OR_SPACE) -> str:
    text = _string(found)
    placeholder = find_placeholder(text)
    if placeholder:
        raise ConfigurationError(
            f"{found.where} is still the placeholder {placeholder!r}.", remedy="Write the value instead."
        )
    if re.search(unfit, text):
        raise ConfigurationError(f"{found.where} contains white space or control characters.", remedy="Remove them.")
    return text


def _org_url(found: FoundSetting) -> str:
    try:
        return check_org_url(cast("str", found.value) if found.is_argument else _string(found))
    except ConfigurationError as error:
        raise _with_place(found, error) from None


def _with_place(found: FoundSetting, error: ConfigurationError) -> ConfigurationError:
    return error if found.where in str(error) else type(error)(f"{found.where}: {error.problem}", remedy=error.remedy)


def _scopes(found: FoundSetting) -> tuple[str, ...]:
    """The scopes in order, without duplicates. In a string, commas (Python, Go) or white space (Node) separate them."""
    value = _string(found) if isinstance(found.value, str) else found.value
    if isinstance(value, Mapping):
        raise ConfigurationError(
            f"{found.where} is a mapping, not a list.", remedy="Write it as [okta.users.read, ...]."
        )
    items = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    scopes: dict[str, None] = {}
    for item in items:
        if not isinstance(item, str):
            raise ConfigurationError(
                f"{found.where} has {describe_kind(item)} where a scope belongs.", remedy="Put each scope in quotes."
            )
        placeholder = find_placeholder(item)
        if placeholder:
            raise ConfigurationError(
                f"{found.where} still contains the placeholder {placeholder!r}.", remedy="Write scopes instead."
            )
        scopes.update(dict.fromkeys(filter(None, re.split(r"[\s,]+", item))))
    for scope in scopes:
        if not re.fullmatch(SCOPE, scope) or scope[0] in "[(" or scope[-1] in ")]":
            raise ConfigurationError(
                f"{found.where} contains characters that no scope has.",
                remedy="Write plain names with commas or spaces between them: okta.users.read, okta.groups.read",
            )
    return tuple(scopes)


def _origins(found: FoundSetting) -> Iterable[str]:
    """The origins. In a string, commas or white space separate them, as in the scopes."""
    if found.is_argument:
        return cast("Iterable[str]", found.value)
    items = re.split(r"[\s,]+", _string(found)) if isinstance(found.value, str) else found.value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ConfigurationError(f"{found.where} is not a list of strings.", remedy="Write it as [https://HOST, ...].")
    try:
        Origins(items)
    except ConfigurationError as error:
        raise _with_place(found, error) from None
    return tuple(items)


def _check_scopes_are_own(scopes: FoundSetting | None, client_id: FoundSetting) -> None:
    """Refuses scopes from a file that is about another app: Okta would refuse them, or this app would be granted them."""
    if scopes is None or scopes.file is None:
        return
    beside = scopes.source.found.get("client_id", client_id)
    if beside.value != client_id.value:
        raise ConfigurationError(
            f"{scopes.where} belongs to {quoted(beside.value, 60)}, the client id there, but {client_id.where} names "
            f"another app, {quoted(client_id.value, 60)}.",
            remedy="Set the scopes of that app in the same place (scopes=, OKTA_CLIENT_SCOPES), or use the file's client id.",
        )


def _trustworthy(
    setting: str, sources: Sequence[Source], is_key_here: bool, is_harmless: Callable[[FoundSetting], bool]
) -> FoundSetting | None:
    """The setting with the highest priority that may be used. In the working directory, a stranger's file may not weaken an app,
    unless the key is there too."""
    for found in (source.found[setting] for source in sources if setting in source.found):
        if not found.here or is_key_here or is_harmless(found):
            return found
        logger.warning(
            "%s was ignored: a file in the working directory may not weaken an app whose private key comes from elsewhere. "
            "Set %s, or pass %s= in the code.",
            found.where,
            {"dpop": "OKTA_CLIENT_DPOPENABLED", "scopes": "OKTA_CLIENT_SCOPES"}.get(setting, ORIGINS_VARIABLE),
            setting,
        )
    return None


def _is_narrower(scopes: FoundSetting, sources: Sequence[Source], client_id: FoundSetting) -> bool:
    """Whether scopes request no more than the place outside of the working directory that sets them for the same app, if any."""
    for source in sources:
        other = source.found.get("scopes")
        is_about_app = source.found.get("client_id", client_id).value == client_id.value
        if other is not None and not other.here and is_about_app:
            return set(_scopes(scopes)) <= set(_scopes(other))
    return True


def _dpop(found: FoundSetting) -> bool | Literal["required"] | Signer:
    value = found.value
    if found.is_argument or isinstance(value, bool):
        return cast("bool | Literal['required'] | Signer", value)
    word = _string(found).lower()
    if word == "required":
        return "required"
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ConfigurationError(f'{found.where} must be true, false or "required".', remedy="Write one of them.")


# ── the private key ──────────────────────────────────────────────────────────────────────────────────────────────────


def _find_beside_key(key: FoundSetting, sources: Sequence[Source], setting: str) -> FoundSetting | None:
    """The ``kid`` or passphrase that belongs to the key.

    A setting from a place with lower priority than the key counts only if no other place has a key to which it could belong.
    """
    if key.is_argument:
        return None  # a signer object has its own
    rank = sources.index(key.source)
    reach = sources if sum("key" in source.found for source in sources) == 1 else sources[: rank + 1]
    return next((source.found[setting] for source in reach if setting in source.found), None)


def _signer(
    found: FoundSetting, kid: FoundSetting | None, passphrase: FoundSetting | None
) -> tuple[Signer | Sequence[Signer], Path | None]:
    """The signer, and the file from which it was read, if the setting names a file."""
    value = found.value
    if found.is_argument:
        return cast("Signer | Sequence[Signer]", value), None
    key_id = None if kid is None else _word(kid, unfit=_UNPRINTABLE)  # a kid may be any string (RFC 7517 section 4.5)
    password = None if passphrase is None else _unchanged_string(passphrase)
    try:
        if isinstance(value, Mapping):
            return PrivateKey.from_jwk(dict(value), kid=key_id), None
        if isinstance(value, str) and "-----BEGIN" in value:
            return PrivateKey.from_pem(value, password=password, kid=key_id), None
        text = _string(found)
        if text.startswith("{") and '"' in text:
            return PrivateKey.from_jwk(text, kid=key_id), None
        path = _key_path(found, text)
        return PrivateKey.from_file(path, password=password, kid=key_id), path
    except ConfigurationError as error:
        raise _with_place(found, error) from None


def _key_path(found: FoundSetting, text: str) -> Path:
    # A path in a file is relative to that file, so that it means the same wherever the process starts. A path in the
    # environment is relative to the working directory, as in every shell.
    if len(text) < 100 and find_placeholder(text) == text:
        raise ConfigurationError(
            f"{found.where} is still the placeholder {text!r}.", remedy="Write the key, or its path, instead."
        )
    # No path contains a NUL, for which expanduser raises a ValueError.
    path = text if "\0" in text else os.path.join(found.source.base, os.path.expanduser(text))
    if os.path.isfile(path):
        return Path(path)
    if len(text) <= 260 and text.lower().endswith(_KEY_SUFFIXES):
        raise ConfigurationError(
            f"The key file {path} does not exist.", remedy="Correct the path, or write the key itself."
        )
    # The value could be a key that lost its first line, so it is not shown.
    raise ConfigurationError(
        "The value is not a key, and not the path of a file that exists.",
        remedy="Write PEM text (-----BEGIN ...), a JWK ({...}) or the path of the key file.",
    )


def _is_key_here(key: FoundSetting, key_path: Path | None, working_directory: Path) -> bool:
    """Whether the key is in the working directory. A symlink there may lead to the user's own ``okta.yaml``, or to their key."""
    holder = key.file if key_path is None else key_path
    return (
        key.here
        and holder is not None
        and Path(os.path.realpath(holder)).is_relative_to(os.path.realpath(working_directory))
    )


def _warn_of_strange_org(
    org_url: FoundSetting, key: FoundSetting, key_path: Path | None, working_directory: Path
) -> None:
    """Warns, because an ``okta.yaml`` in a stranger's folder could make the user's own key sign for another host."""
    if not org_url.here or _is_key_here(key, key_path, working_directory):
        return
    holder = key.file if key_path is None else key_path
    real = None if holder is None else os.path.realpath(holder)
    place = key.place if key_path is None else f"{key_path}, named by {key.place}"
    if real is not None and real != str(holder):
        place += f", a symlink to {real}" if key_path is None else f"; the file is {real}"
    logger.warning(
        "The org URL comes from %s in the working directory, but the private key comes from elsewhere (%s). If that file "
        "is not yours, your key signs for a host that someone else chose. Set OKTA_CLIENT_ORGURL, or read no file at all, "
        "with from_env(files=False).",
        org_url.place,
        place,
    )
