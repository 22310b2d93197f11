"""The places where settings may be, and their names in Okta's SDKs.

Invariant: a name that looks like a misspelled setting is refused, unless that setting already has a value. Settings of
Okta's SDKs that this package does not use are ignored. Every other unknown name is logged once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .._base.file_modes import warn_of_readers
from .._base.records import PublicRecord
from ..errors import ConfigurationError, quoted
from .okta_yaml import parse_okta_yaml, read_okta_yaml

logger = logging.getLogger("okta_m2m")

PREFIX = "OKTA_CLIENT_"
ORIGINS_VARIABLE = "OKTA_M2M_ORIGINS"

# Each setting, and its names under okta.client. The environment variable is OKTA_CLIENT_ and the same name in upper case. If
# SDKs differ, all spellings are accepted: oktaDomain is .NET's; kid Python's and Java's, privateKeyId Go's, keyId
# Node's; jwk Go's. authorizationServer, origins and privateKeyPassphrase are this package's own: no SDK has such a setting.
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "org_url": ("orgUrl", "oktaDomain"),
    "client_id": ("clientId",),
    "key": ("privateKey", "jwk"),
    "kid": ("kid", "privateKeyId", "keyId"),
    "passphrase": ("privateKeyPassphrase",),
    "scopes": ("scopes",),
    "authorization_server": ("authorizationServer",),
    "origins": ("origins",),
    "dpop": ("dpopEnabled",),
    "mode": ("authorizationMode",),
}
ARGUMENTS = ("org_url", "client_id", "key", "scopes", "authorization_server", "origins", "dpop")

# Settings that Okta's SDKs read and this package does not use. "id" and "secret" stand for OKTA_CLIENT_ID and
# OKTA_CLIENT_SECRET, which much other software uses for its sign-in app.
_UNUSED = (
    "token",
    "id",
    "secret",
    "clientSecret",
    "clientAssertion",
    "encryptionType",
    "connectionTimeout",
    "requestTimeout",
    "maxRetries",
    "rateLimit",
    "rateLimitEnable",
    "rateLimitMaxRetries",
    "rateLimitMaxBackoff",
    "proxy",
    "proxyHost",
    "proxyPort",
    "proxyUsername",
    "proxyPassword",
    "httpsProxy",
    "cache",
    "cacheEnabled",
    "cacheDefaultTtl",
    "cacheDefaultTti",
    "userAgent",
    "userAgentExtra",
    "oauthTokenRenewalOffset",
    "dpopKeyRotationInterval",
    "disableHttpsCheck",
)

# Settings that are secrets themselves.
_SECRETS = ("token", "clientSecret", "clientAssertion", "privateKeyPassphrase", "proxyPassword")

# Plausible wrong names (not misspellings), each with the intended name. Both are folded.
_MISNOMERS = {
    "url": "orgurl",
    "baseurl": "orgurl",
    "domain": "orgurl",
    "privatekeyfile": "privatekey",
    "privatekeypath": "privatekey",
    "privatekeypassword": "privatekeypassphrase",
    "dpop": "dpopenabled",
}


def fold_name(name: str) -> str:
    """A name without case and separators: OKTA_CLIENT_ORG_URL (Python's README) equals OKTA_CLIENT_ORGURL (Go, Node,
    Java)."""
    return name.replace("_", "").replace("-", "").lower()


_SETTING_BY_SPELLING = {spelling: setting for setting, spellings in SPELLINGS.items() for spelling in spellings}
_SETTING_BY_FOLDED_NAME = {fold_name(spelling): setting for spelling, setting in _SETTING_BY_SPELLING.items()}
_UNUSED_FOLDED = frozenset(map(fold_name, _UNUSED))

_logged_names: set[str] = set()


class Source(PublicRecord, hidden=("values", "found")):
    """One place where settings may be. Relative paths in it are relative to ``base``.

    ``values``: what is set there, by the names in that place, without blank values.

    ``found``: the settings among them, once :meth:`read` has found them.

    ``file``: the ``okta.yaml``, by the path under which it was found; ``None`` for arguments and the environment.
    """

    title: str
    base: Path
    values: Mapping[str, object]
    found: dict[str, FoundSetting]
    file: Path | None = None
    in_working_directory: bool = False

    def find(self, spellings: Iterable[str]) -> FoundSetting | None:
        """The first value under one of these names. In environment variables, case and underscores do not matter."""
        if self.file is None:
            folded = set(map(fold_name, spellings))
            names = [name for name in self.values if fold_name(name.removeprefix(PREFIX)) in folded]
        else:
            names = [name for name in self.values if name in spellings]
        return FoundSetting(self.values[names[0]], names[0], self) if names else None

    def read(self, decided: Iterable[str] = ()) -> Source:
        """Fills ``found``, and returns this source. ``decided``: settings whose names here may belong to another program.

        Raises :class:`~okta_m2m.errors.ConfigurationError` for two values of one setting, and for a name that looks like a
        misspelled setting.
        """
        for name, value in self.values.items():
            found = FoundSetting(value, name, self)
            setting = self._setting(name)
            if setting is None:
                _report_unknown(found, decided)
                continue
            before = self.found.setdefault(setting, found)
            if before.value != value:
                raise ConfigurationError(
                    f"{before.where} and {found.where} are two spellings of one setting and have different values.",
                    remedy="Remove one of them.",
                )
        return self

    def _setting(self, name: str) -> str | None:
        if self.title == "argument":
            return name
        if self.file is None:
            if name == ORIGINS_VARIABLE:
                return "origins"
            return _SETTING_BY_FOLDED_NAME.get(fold_name(name.removeprefix(PREFIX)))
        return _SETTING_BY_SPELLING.get(name)


class FoundSetting(PublicRecord, hidden=("value", "source")):
    """A setting as written in one place, unchecked.

    - ``value``: the value there.
    - ``name``: how that place spells the setting.
    - ``source``: the place.
    """

    value: object
    name: str
    source: Source

    @property
    def place(self) -> str:
        """``"argument"``, ``"environment variable OKTA_CLIENT_ORGURL"``, or a file's path."""
        return self.source.title if self.file is not None or self.is_argument else self.where

    @property
    def where(self) -> str:
        """The place and the name: ``"okta.client.orgUrl in /home/me/okta.yaml"``."""
        if self.file is not None:
            return f"okta.client.{self.name} in {self.source.title}"
        return f"{self.source.title} {self.name}"

    @property
    def here(self) -> bool:
        """Whether the place is a file in the working directory, or a symlink there, and that is not the user's home
        directory."""
        return self.source.in_working_directory

    @property
    def file(self) -> Path | None:
        """The ``okta.yaml`` that has the setting, by the path under which it was found; ``None`` for other places."""
        return self.source.file

    @property
    def is_argument(self) -> bool:
        """Whether the setting was passed as an argument."""
        return self.source.title == "argument"


def argument_source(arguments: dict[str, Any], base: Path) -> Source:
    """Takes the settings out of ``arguments``."""
    taken = {name: arguments.pop(name) for name in ARGUMENTS if name in arguments}
    return Source("argument", base, _without_blanks(taken), {})


def environment_source(environ: Mapping[str, str], base: Path) -> Source:
    """What environment variables set."""
    own = {name: value for name, value in environ.items() if name.startswith(PREFIX) or name == ORIGINS_VARIABLE}
    return Source("environment variable", base, _without_blanks(own), {})


def okta_yaml_source(path: Path, in_working_directory: bool) -> Source:
    """What an ``okta.yaml`` sets under ``okta: client:``; nothing if there is no such file."""
    text = read_okta_yaml(path)
    document = None if text is None else parse_okta_yaml(path, text)
    section = _without_blanks(_section(_section(document, "okta", path), "client", path))
    if any(map(_is_secret, section, section.values())):
        warn_of_readers(path, "secret")
    return Source(str(path), path.parent, section, {}, path, in_working_directory)


def _is_secret(name: str, value: object) -> bool:
    """Whether a setting in a file is a secret itself. A private key may also be the path of its file."""
    if name in SPELLINGS["key"]:
        return not isinstance(value, str) or "-----BEGIN" in value or "{" in value
    return name in _SECRETS


def _without_blanks(values: Mapping[str, object]) -> dict[str, object]:
    """What counts as set: not ``None``, nor a string, list or mapping with nothing in it."""

    def is_blank(value: object) -> bool:
        empty_text = isinstance(value, str) and not value.strip()
        return value is None or empty_text or (isinstance(value, list | dict) and not value)

    return {name: value for name, value in values.items() if not is_blank(value)}


def _section(document: object, name: str, path: Path) -> Mapping[Any, Any]:
    """The mapping called ``name`` in ``document``, empty if there is none. Settings beside it are refused."""
    shape = 'Write "okta:", under it "client:", and under that lines like "orgUrl: https://acme.okta.com".'
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise ConfigurationError(f"{path} contains {describe_kind(document)} instead of settings.", remedy=shape)
    if name not in document:
        from difflib import SequenceMatcher  # heavy; only a mistake needs it

        for other in map(fold_name, map(str, document)):
            is_setting = other in _SETTING_BY_FOLDED_NAME or other == "client"
            if is_setting or SequenceMatcher(None, other, name).ratio() >= 0.8:
                raise ConfigurationError(f'{path} has settings, but not under "{name}:".', remedy=shape)
    section = document.get(name)
    if section is not None and not isinstance(section, Mapping):
        raise ConfigurationError(
            f'In {path}, "{name}:" contains {describe_kind(section)} instead of settings.', remedy=shape
        )
    return section or {}


def _report_unknown(found: FoundSetting, decided: Iterable[str]) -> None:
    name, file = str(found.name), found.file
    folded = fold_name(name.removeprefix(PREFIX) if file is None else name)
    if folded in _UNUSED_FOLDED:
        return
    from difflib import get_close_matches  # heavy; only a mistake needs it

    shown = quoted(name)
    if file is not None:
        # In a damaged file, a line of a private key could be where a name should be.
        what = f"okta.client.{name}" if re.fullmatch(r"[\w.-]{1,40}", name) else "A name under okta.client"
        shown = quoted(f"{what} in {file}")
    near = get_close_matches(folded, [*_SETTING_BY_FOLDED_NAME, *_UNUSED_FOLDED], n=1, cutoff=0.8)
    match = _MISNOMERS.get(folded) or (near[0] if near else "")
    setting = _SETTING_BY_FOLDED_NAME.get(match)
    # If an argument sets a value, a similar variable can only belong to another program.
    if setting is not None and setting not in decided:
        spelling = next(s for s in SPELLINGS[setting] if fold_name(s) == match)
        right = f"okta.client.{spelling}" if file is not None else PREFIX + spelling.upper()
        argument = f", or pass {setting}= if it belongs to another program" if setting in ARGUMENTS else ""
        raise ConfigurationError(f"{shown} is not a setting.", remedy=f"Did you mean {right}? Rename it{argument}.")
    if shown not in _logged_names:
        _logged_names.add(shown)
        logger.warning(
            "%s is not a setting of this package or of Okta's SDKs, and was ignored. Check its spelling.", shown
        )


def describe_kind(value: object) -> str:
    """The kind of a value, in YAML terms."""
    return {
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
    }.get(type(value), f"a {type(value).__name__}")
