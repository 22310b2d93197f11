"""Settings from arguments, the environment and ``okta.yaml``, under the names that Okta's own SDKs read.

Invariant: each setting comes whole from the strongest place that names it, and a value that cannot work is refused
together with the place it came from; the text of a private key or of a passphrase is in no message, log or ``repr``.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from ._core.origins import is_loopback, origin_of
from .errors import ConfigurationError
from .keys import PrivateKey

if TYPE_CHECKING:
    from .keys import Signer
    from .stores import Store

__all__ = ["Named", "Settings", "check_org_url", "named", "named_store", "read_settings"]

logger = logging.getLogger("okta_m2m")

_PREFIX = "OKTA_CLIENT_"

# Each setting and its keys under okta.client; the environment variable is OKTA_CLIENT_ and the same in upper case. Where
# SDKs differ, each one's spelling is taken: oktaDomain is .NET's; kid Python's and Java's, privateKeyId Go's, keyId
# Node's; jwk Go's. authorizationServer and privateKeyPassphrase are this package's own: no SDK has the notion.
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "org_url": ("orgUrl", "oktaDomain"),
    "client_id": ("clientId",),
    "key": ("privateKey", "jwk"),
    "kid": ("kid", "privateKeyId", "keyId"),
    "passphrase": ("privateKeyPassphrase",),
    "scopes": ("scopes",),
    "authorization_server": ("authorizationServer",),
    "dpop": ("dpopEnabled",),
    "mode": ("authorizationMode",),
}
_ARGUMENTS = ("org_url", "client_id", "key", "scopes", "authorization_server", "dpop")
_BESIDE_THE_KEY = frozenset({"kid", "passphrase", "mode"})  # settled as soon as an argument brings the key

# What Okta's SDKs read and this package has no use for. "id" and "secret" are here for OKTA_CLIENT_ID and
# OKTA_CLIENT_SECRET, by which much other software knows its sign-in app.
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

# Not slips of the pen, but names that somebody would try: folded, to the folded name that is meant.
_MISNOMERS = {
    "url": "orgurl",
    "baseurl": "orgurl",
    "domain": "orgurl",
    "privatekeyfile": "privatekey",
    "privatekeypath": "privatekey",
    "privatekeypassword": "privatekeypassphrase",
    "dpop": "dpopenabled",
}

# Variables that other software reads for the same thing: whoever set one of them and not ours is told so.
_NEIGHBOURS: Mapping[str, tuple[str, ...]] = {
    "org_url": ("OKTA_ORG_URL", "OKTA_DOMAIN", "OKTA_ORG_NAME"),
    "client_id": ("OKTA_CLIENT_ID", "OKTA_API_CLIENT_ID"),
    "key": ("OKTA_PRIVATE_KEY", "OKTA_API_PRIVATE_KEY"),
    "scopes": ("OKTA_SCOPES", "OKTA_API_SCOPES"),
}
_TITLES = {"org_url": "org URL", "client_id": "client id", "key": "private key", "scopes": "list of scopes"}

# Okta's own domains: only there does "-admin" mean the admin console (a custom domain may well end in it).
_OKTA_DOMAINS = (
    ".okta.com",
    ".oktapreview.com",
    ".okta-emea.com",
    ".okta-gov.com",
    ".okta.mil",
    ".okta-miltest.com",
    ".trex-govcloud.com",
)

_FILE_LIMIT = 256 * 1024  # bytes; an okta.yaml with an RSA key in it is about 4 KiB
_PLACEHOLDER = re.compile(r"\$?\{+[^{}]*\}+|<[^<>]*>|\$\([^()]*\)|%\w+%")
_YOUR_DOMAIN = re.compile(r"your-?_?okta-?_?domain", re.IGNORECASE)
_UNFIT = re.compile(r"[\x00-\x20\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3
_CUSTOM_SERVER = re.compile(r"oauth2/(?!v1(?:/|$))([A-Za-z0-9_-]+)(?:/|$)")
_KEY_SUFFIXES = (".pem", ".key", ".json", ".jwk", ".jwks", ".p8", ".pk8", ".der")

_told: set[str] = set()


def _fold(name: str) -> str:
    # OKTA_CLIENT_ORG_URL (Python's README) and OKTA_CLIENT_ORGURL (Go, Node, Java) are one variable: underscores do
    # not count.
    return name.replace("_", "").replace("-", "").lower()


_SETTING_OF = {_fold(spelling): setting for setting, spellings in _SPELLINGS.items() for spelling in spellings}
_UNUSED_FOLDED = frozenset(map(_fold, _UNUSED))


@dataclass(frozen=True, slots=True)
class Settings:
    """What a service app needs to know, and where each piece came from.

    - ``org_url``: ``https://`` and the org's host, as :func:`check_org_url` writes it.
    - ``key``: the signer of the client assertions, or several, the preferred one first.
    - ``authorization_server``: the id of a custom authorization server; ``None`` for the org's own.
    - ``dpop``: what was said about it; ``None`` if nothing was.
    - ``sources``: setting to place: ``"argument"``, ``"environment variable OKTA_CLIENT_ORGURL"``, or a file's path.
    - ``others``: arguments that are no settings, handed on as they came.
    """

    org_url: str
    client_id: str
    key: Signer | Sequence[Signer] = field(repr=False)
    scopes: tuple[str, ...]
    authorization_server: str | None
    dpop: bool | Literal["required"] | Signer | None
    sources: Mapping[str, str]
    others: Mapping[str, Any] = field(repr=False, default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of ``ServiceApp`` that these settings stand for; what was not said is left out."""
        said: dict[str, Any] = {
            "org_url": self.org_url,
            "client_id": self.client_id,
            "key": self.key,
            "scopes": self.scopes,
            "authorization_server": self.authorization_server,
        }
        if self.dpop is not None:
            said["dpop"] = self.dpop
        return {**self.others, **said}


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """One place that may name settings. ``base`` is what a relative path in it is relative to."""

    title: str
    base: Path
    is_file: bool = False
    in_working_directory: bool = False
    found: dict[str, _Found] = field(default_factory=dict, repr=False)

    def add(self, setting: str, name: str, value: object) -> None:
        found = _Found(value, name, self)
        before = self.found.setdefault(setting, found)
        if before.value != value:
            raise ConfigurationError(
                f"{before.where} and {found.where} are two spellings of one setting and have different values. "
                f"Remove one of them."
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A value, and how it was spelled where."""

    value: object = field(repr=False)
    name: str
    source: _Source = field(repr=False)

    @property
    def place(self) -> str:
        return f"{self.source.title} {self.name}" if self.source.title.startswith("environment") else self.source.title

    @property
    def where(self) -> str:
        if self.source.is_file:
            return f"okta.client.{self.name} in {self.source.title}"
        return f"{self.source.title} {self.name}"


def read_settings(
    *,
    files: bool = True,
    environ: Mapping[str, str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
    **arguments: Any,
) -> Settings:
    """The settings of a service app, each from the strongest place that names it.

    Argument, then environment (``OKTA_CLIENT_*``), then ``okta.yaml`` and ``.okta.yaml`` in the working directory, then
    ``.okta/okta.yaml`` in the home directory: the order that Okta's SDKs document. Empty text, an empty list, ``null``
    and an argument of ``None`` count as not given.

    ``files=False`` reads no ``okta.yaml``; a private key that is given as a path is read all the same. ``environ``,
    ``directory`` and ``home`` stand in for the process's own. Of ``arguments``, ``org_url``, ``client_id``, ``key``,
    ``scopes``, ``authorization_server`` and ``dpop`` are settings; all others come back in ``Settings.others``.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for what is missing, contradictory or cannot work, and
    :class:`~okta_m2m.errors.InvalidKey` for the key.
    """
    working_directory = _working_directory(directory)
    given = _Source("argument", working_directory)
    for name in _ARGUMENTS:
        value = arguments.pop(name, None)
        if not _blank(value):
            given.add(name, name, value)
    settled = set(given.found) | (_BESIDE_THE_KEY if "key" in given.found else set())

    environ = os.environ if environ is None else environ
    sources = [given, _environment(environ, working_directory, settled)]
    paths = _paths(working_directory, home) if files else []
    for path, in_working_directory in paths:
        source = _okta_yaml(path, in_working_directory, settled)
        if source is not None:
            sources.append(source)

    found = {setting: next((s.found[setting] for s in sources if setting in s.found), None) for setting in _SPELLINGS}
    _check_mode(found["mode"], found["key"], sources)
    org_url, client_id, key = found["org_url"], found["client_id"], found["key"]
    scopes, server, dpop = found["scopes"], found["authorization_server"], found["dpop"]
    # At a custom authorization server the app may have default scopes; the org's own grants nothing unasked.
    if org_url is None or client_id is None or key is None or (scopes is None and server is None):
        raise _incomplete(found, environ, [path for path, _ in paths])

    checked_url = _org_url(org_url)
    kid, passphrase = (_beside(key, sources, setting) for setting in ("kid", "passphrase"))
    signer, key_path = _key(key, kid, passphrase)
    _say_whose_org(org_url, key, key_path, working_directory)
    used = {**found, "kid": kid, "passphrase": passphrase, "mode": None}
    return Settings(
        org_url=checked_url,
        client_id=_plain(client_id),
        key=signer,
        scopes=() if scopes is None else _scopes(scopes),
        authorization_server=None if server is None else _plain(server),
        dpop=None if dpop is None else _dpop(dpop),
        sources=MappingProxyType({setting: one.place for setting, one in used.items() if one is not None}),
        others=MappingProxyType(arguments),
    )


def named_store(environ: Mapping[str, str] | None = None) -> Store | None:
    """The shared store that ``OKTA_M2M_STORE`` names, if it does. Raises :class:`~okta_m2m.errors.ConfigurationError`,
    which does not show the URL: there may be a password in it."""
    url = (os.environ if environ is None else environ).get("OKTA_M2M_STORE", "").strip()
    if not url:
        return None
    from .stores import store_from_url

    try:
        return store_from_url(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"environment variable OKTA_M2M_STORE: {error}") from None


def check_org_url(url: str) -> str:
    """An org's URL in its one right form: ``https://acme.okta.com``, lower case, no slash, no default port.

    Refuses what Okta's SDKs refuse (plain http, placeholders, the admin console's host, ``.com.com``; see the Python
    SDK's ``config_validator.py``) and whatever is not scheme, host and port: the client assertion's ``aud`` is built on
    this URL and Okta compares it character by character. Plain http is taken for a loopback host only.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, with the URL that was probably meant where that is plain.
    """
    example = 'Write it as "https://acme.okta.com", with your org\'s host.'
    if not isinstance(url, str):
        raise ConfigurationError(f"The org URL is {_kind(url)}, not text. {example}")
    text = url.strip()
    if not text:
        raise ConfigurationError(f"The org URL is empty. {example}")
    scheme, separator, rest = text.partition("://")
    if "@" in re.split(r"[/?#\\]", rest if separator else text, maxsplit=1)[0]:
        # What stands before an "@" may be a password, so this message does not repeat the URL.
        raise ConfigurationError(f"The org URL has a user name or password before its host. {example}")
    placeholder = _PLACEHOLDER.search(text) or _YOUR_DOMAIN.search(text)
    if placeholder:
        raise ConfigurationError(f"The org URL still has the placeholder {placeholder.group()!r} in it. {example}")
    if not separator:
        if origin_of(f"https://{text}") is not None:
            raise ConfigurationError(f'The org URL has no scheme. Write "{_meant(f"https://{text}")}".')
        raise ConfigurationError(f"The org URL has no scheme. {example}")
    if "://" in rest:
        raise ConfigurationError(f'The org URL has "://" in it twice. {example}')
    if scheme.lower() not in ("https", "http"):
        raise ConfigurationError(f"The org URL does not begin with https://. {example}")
    origin = origin_of(text)
    if origin is None:
        raise ConfigurationError(f"The org URL is not a URL that every client would read alike. {example}")

    meant = _meant(text)
    host = urlsplit(origin).hostname or ""
    if urlsplit(meant).hostname != host:
        what = "the host of the admin console" if "-admin." in host else 'a host that ends in ".com.com"'
        raise ConfigurationError(f'The org URL "{origin}" has {what}. Write "{meant}".')
    if origin.startswith("http://") and not is_loopback(host):
        raise ConfigurationError(f'The org URL "{origin}" is plain http, which Okta does not speak. Write "{meant}".')
    if "?" in text or "#" in text:
        raise ConfigurationError(f'The org URL has a query or a fragment after its host. Write "{origin}".')
    path = urlsplit(text).path.strip("/")
    if path:
        custom = _CUSTOM_SERVER.match(path)
        server = f' and authorization_server="{custom.group(1)}" (OKTA_CLIENT_AUTHORIZATIONSERVER)' if custom else ""
        raise ConfigurationError(f'The org URL has a path after its host. Write "{origin}"{server}.')
    return origin


def _meant(url: str) -> str:
    """The org URL behind a slip that can be told: https, without ``-admin`` at Okta's domains, without ``.com.com``."""
    parts = urlsplit(origin_of(url) or url)
    host = parts.hostname or ""
    right = re.sub(r"(\.com){2,}$", ".com", host)
    if right.endswith(_OKTA_DOMAINS):
        label, dot, domain = right.partition(".")
        right = label.removesuffix("-admin") + dot + domain
    scheme = "http" if parts.scheme == "http" and is_loopback(host) else "https"
    netloc = parts.netloc.replace(host, right, 1)
    if parts.scheme != scheme:
        netloc = netloc.removesuffix(f":{parts.port}")
    return f"{scheme}://{netloc}"


# ── places ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _working_directory(directory: str | os.PathLike[str] | None) -> Path:
    try:
        return Path(os.path.abspath(directory or os.curdir))
    except FileNotFoundError:
        return Path(os.curdir)  # deleted beneath a running process (an old release): no file is found there


def _environment(environ: Mapping[str, str], base: Path, settled: Iterable[str]) -> _Source:
    source = _Source("environment variable", base)
    for name, value in environ.items():
        if not name.startswith(_PREFIX) or _blank(value):
            continue
        setting = _SETTING_OF.get(_fold(name[len(_PREFIX) :]))
        if setting is not None:
            source.add(setting, name, value)
        else:
            _unknown(name, name[len(_PREFIX) :], source, settled)
    return source


def _paths(working_directory: Path, home: str | os.PathLike[str] | None) -> list[tuple[Path, bool]]:
    """Where an ``okta.yaml`` may be, strongest first, and whether that is the working directory."""
    paths = [(working_directory / name, True) for name in ("okta.yaml", ".okta.yaml")]
    try:
        # A home directory is nobody's who has none (a container's user without an entry): then there is no file there.
        at_home = Path(os.path.abspath(home)) if home is not None else Path.home()
    except RuntimeError:
        return paths
    path = at_home / ".okta" / "okta.yaml"
    # A process started in ~/.okta has one file, not two: the user's own, not whatever lies in the working directory.
    return [(p, here) for p, here in paths if p != path] + [(path, False)]


def _okta_yaml(path: Path, in_working_directory: bool, settled: Iterable[str]) -> _Source | None:
    text = _text_of(path)
    if text is None:
        return None
    source = _Source(str(path), path.parent, is_file=True, in_working_directory=in_working_directory)
    client = _section(_section(_parsed(path, text), "okta", path), "client", path)
    names = {spelling: setting for setting, spellings in _SPELLINGS.items() for spelling in spellings}
    for name, value in client.items():
        if _blank(value):
            continue
        setting = names.get(name)
        if setting is not None:
            source.add(setting, name, value)
        else:
            # In a file that lost its shape, a line of a key could stand where a name belongs.
            shown = f"okta.client.{name}" if re.fullmatch(r"[\w.-]{1,40}", str(name)) else "A name beneath okta.client"
            _unknown(f"{shown} in {path}", str(name), source, settled)
    return source


def _section(document: object, name: str, path: Path) -> Mapping[Any, Any]:
    """The mapping called ``name`` in ``document``, empty if there is none; settings that lie beside it are refused."""
    shape = 'Write "okta:", beneath it "client:", and beneath that lines like "orgUrl: https://acme.okta.com".'
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise ConfigurationError(f"{path} holds {_kind(document)} where names and values belong. {shape}")
    if name not in document:
        for other in map(_fold, map(str, document)):
            if other in _SETTING_OF or other == "client" or difflib.SequenceMatcher(None, other, name).ratio() >= 0.8:
                raise ConfigurationError(f'{path} has settings, but not beneath "{name}:". {shape}')
    section = document.get(name)
    if section is not None and not isinstance(section, Mapping):
        raise ConfigurationError(f'In {path}, "{name}:" holds {_kind(section)}, not names and values. {shape}')
    return section or {}


def _text_of(path: Path) -> str | None:
    """The file's text; ``None`` if there is none. On POSIX, a file that somebody else can write is refused."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        # Services often run with a HOME that they may not enter (systemd's ProtectHome): nothing to be read there.
        logger.debug("%s was passed over: its directory may not be entered", path)
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}). {_WITHOUT}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{path} is not a regular file. {_WITHOUT}")
    try:
        with open(path, "rb") as file:
            _check_owner(path, os.fstat(file.fileno()))
            data = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror}). Make it readable for this process, or read no file at all with "
            f"from_env(files=False)."
        ) from None
    if len(data) > _FILE_LIMIT:
        raise ConfigurationError(f"{path} is larger than {_FILE_LIMIT // 1024} KiB. {_WITHOUT}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass  # raised below, outside of the handler: that exception carries the bytes, which may hold a key
    raise ConfigurationError(f"{path} is not UTF-8 text. Save it as UTF-8.")


_WITHOUT = "Remove it, or read no file at all with from_env(files=False)."


def _check_owner(path: Path, status: os.stat_result) -> None:
    if sys.platform == "win32":
        return  # Windows keeps no such mode bits; st_mode there says nothing about who may write
    if status.st_mode & 0o022:
        raise ConfigurationError(
            f"{path} can be written by others, who could send this app's assertions elsewhere. Run: chmod go-w '{path}'"
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(
            f"{path} belongs to another user (uid {status.st_uid}), who could send this app's assertions elsewhere. "
            f"Run: chown {os.geteuid()} '{path}'"
        )


def _parsed(path: Path, text: str) -> object:
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(
            f"{path} exists, and PyYAML, which reads it, is not installed. Run: pip install 'okta-m2m[yaml]' (or read no "
            f"file with from_env(files=False))."
        ) from None

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    # PyYAML would let the last one win, so that one of two org URLs is used and nobody sees which.
                    raise _Repeated(key.start_mark.line + 1)
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            return cast("dict[Any, Any]", super().construct_mapping(node, deep))

    # PyYAML's own messages quote the text, and its exceptions hold all of it: only a line number leaves the handlers.
    problem = ""
    try:
        loader = Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except _Repeated as repeated:
        problem = f"{path} names the same key twice, the second time in line {repeated.line}. Remove one of them."
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = f"{path}{line}: this is not plain YAML. Put it right there (indentation, quotes, tabs, tags)."
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError):
        # A date that is none, a number with a wrong tag, ten thousand brackets: PyYAML lets Python's own errors through.
        problem = f"{path} has a value in it that YAML cannot read. Put text values in quotes."
    raise ConfigurationError(problem)


class _Repeated(Exception):
    def __init__(self, line: int) -> None:
        self.line = line


def _unknown(shown: str, name: str, source: _Source, settled: Iterable[str]) -> None:
    """Refuses a name that looks like a slip of the pen, passes over what SDKs know, mentions everything else once."""
    folded = _fold(name)
    if folded in _UNUSED_FOLDED:
        return
    near = difflib.get_close_matches(folded, [*_SETTING_OF, *_UNUSED_FOLDED], n=1, cutoff=0.8)
    match = _MISNOMERS.get(folded) or (near[0] if near else "")
    setting = _SETTING_OF.get(match)
    # What an argument has settled cannot be meant by the variable of some other program: no reason to stop.
    if setting is not None and setting not in settled:
        spelling = next(s for s in _SPELLINGS[setting] if _fold(s) == match)
        right = f"okta.client.{spelling}" if source.is_file else _PREFIX + spelling.upper()
        argument = f", or pass {setting}= if it is none of ours" if setting in _ARGUMENTS else ""
        raise ConfigurationError(f"{shown} is not a setting. Did you mean {right}? Rename it{argument}.")
    if shown not in _told:
        _told.add(shown)
        logger.warning(
            "%s is no setting of this package or of Okta's SDKs. It has no effect: check its spelling.", shown
        )


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _blank(value: object) -> bool:
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, list | dict) and not value)
    )


def _kind(value: object) -> str:
    return {
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
    }.get(type(value), f"a {type(value).__name__}")


def _text(found: _Found) -> str:
    if not isinstance(found.value, str):
        raise ConfigurationError(f"{found.where} is {_kind(found.value)}, not text. Put the value in quotes.")
    text = found.value.strip()
    if text[0] in "\"'" and text[-1] == text[0]:
        # What an --env-file of Docker makes of NAME="value".
        raise ConfigurationError(f"{found.where} has quotation marks as part of its value. Remove them.")
    return text


def _plain(found: _Found, unfit: re.Pattern[str] = _UNFIT) -> str:
    text = _text(found)
    placeholder = _PLACEHOLDER.search(text)
    if placeholder:
        raise ConfigurationError(
            f"{found.where} is still the placeholder {placeholder.group()!r}. Put the value there."
        )
    if unfit.search(text):
        raise ConfigurationError(f"{found.where} has white space or control characters in it. Remove them.")
    return text


def _org_url(found: _Found) -> str:
    try:
        return check_org_url(found.value if found.source.title == "argument" else _text(found))  # type: ignore[arg-type]  # check_org_url refuses what is no text
    except ConfigurationError as error:
        raise _placed(found, error) from None


def _placed(found: _Found, error: ConfigurationError) -> ConfigurationError:
    return error if found.where in str(error) else type(error)(f"{found.where}: {error}")


def _scopes(found: _Found) -> tuple[str, ...]:
    """In order, each once; of text, commas (Python, Go) and white space (Node) both part them."""
    value = _text(found) if isinstance(found.value, str) else found.value
    if isinstance(value, Mapping):
        raise ConfigurationError(f"{found.where} is a mapping, not a list. Write it as [okta.users.read, ...].")
    items = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    scopes: dict[str, None] = {}
    for item in items:
        if not isinstance(item, str):
            raise ConfigurationError(
                f"{found.where} has {_kind(item)} where a scope belongs. Put each scope in quotes."
            )
        placeholder = _PLACEHOLDER.search(item)
        if placeholder:
            raise ConfigurationError(
                f"{found.where} still has the placeholder {placeholder.group()!r}. Put scopes there."
            )
        scopes.update(dict.fromkeys(filter(None, re.split(r"[\s,]+", item))))
    for scope in scopes:
        if not _SCOPE.fullmatch(scope) or scope[0] in "[(" or scope[-1] in ")]":
            raise ConfigurationError(
                f"{found.where} has characters in it that no scope has. Write plain names with commas or spaces between "
                f"them: okta.users.read, okta.groups.read"
            )
    return tuple(scopes)


def _dpop(found: _Found) -> bool | Literal["required"] | Signer:
    value = found.value
    if found.source.title == "argument" or isinstance(value, bool):
        return cast("bool | Literal['required'] | Signer", value)
    word = _text(found).lower()
    if word == "required":
        return "required"
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ConfigurationError(f'{found.where} is none of true, false and "required". Write one of them.')


def _check_mode(mode: _Found | None, key: _Found | None, sources: Sequence[_Source]) -> None:
    """Only private_key_jwt is spoken here. A mode that is said in a weaker place than the key is about another key."""
    if mode is None or (key is not None and sources.index(key.source) < sources.index(mode.source)):
        return
    word = _fold(_text(mode))
    if word in ("privatekey", "jwk"):  # jwk: Go's word for a private key that is given as a JWK
        return
    remedy = (
        "Write PrivateKey, with clientId, privateKey and scopes of an API service app; or remove it from there, where "
        "another program needs it, and set the four of them elsewhere."
    )
    if word in ("ssws", "bearer"):
        kind = "an API token of a user (SSWS)" if word == "ssws" else "a ready-made access token (Bearer)"
        raise ConfigurationError(f"{mode.where} asks for {kind}; this package signs with a private key. {remedy}")
    if word == "jwt":
        raise ConfigurationError(f"{mode.where} asks for a ready-made assertion (JWT), which works only once. {remedy}")
    raise ConfigurationError(f"{mode.where} is not a mode that Okta's SDKs know. {remedy}")


def _incomplete(
    found: Mapping[str, _Found | None], environ: Mapping[str, str], paths: Sequence[Path]
) -> ConfigurationError:
    """Everything that is missing, with every place where it can be said."""
    lines = []
    for setting in ("org_url", "client_id", "key", "scopes"):
        if found[setting] is not None or (setting == "scopes" and found["authorization_server"] is not None):
            continue
        spelling = _SPELLINGS[setting][0]
        line = f"No {_TITLES[setting]}: pass {setting}=, set {_PREFIX}{spelling.upper()}"
        if paths:
            line += f", or write okta.client.{spelling}"
        neighbour = next((name for name in _NEIGHBOURS[setting] if environ.get(name)), None)
        lines.append(line + (f" ({neighbour} is set, and is not read)." if neighbour else "."))
    where = f" The file is {paths[0]} or {paths[-1]}." if paths else ""
    return ConfigurationError(f"{' '.join(lines)}{where}")


def _beside(key: _Found, sources: Sequence[_Source], setting: str) -> _Found | None:
    """The ``kid`` or passphrase that goes with the key.

    One from a weaker place than the key counts only if no weaker place has a key of its own, which it would belong to.
    """
    if key.source.title == "argument":
        return None  # a signer that was handed over knows its own
    rank = sources.index(key.source)
    reach = sources if sum("key" in source.found for source in sources) == 1 else sources[: rank + 1]
    return next((source.found[setting] for source in reach if setting in source.found), None)


def _key(found: _Found, kid: _Found | None, passphrase: _Found | None) -> tuple[Signer | Sequence[Signer], Path | None]:
    """The signer, and the file that it was read from if the setting named one."""
    value = found.value
    if found.source.title == "argument":
        return cast("Signer | Sequence[Signer]", value), None
    key_id = None if kid is None else _plain(kid, unfit=_CONTROL)  # a kid is any text (RFC 7517 section 4.5)
    password: str | None = None
    if passphrase is not None:
        if not isinstance(passphrase.value, str):
            raise ConfigurationError(f"{passphrase.where} is {_kind(passphrase.value)}, not text. Put it in quotes.")
        password = passphrase.value
    try:
        if isinstance(value, Mapping):
            return PrivateKey.from_jwk(dict(value), kid=key_id), None
        if isinstance(value, str) and "-----BEGIN" in value:
            return PrivateKey.from_pem(value, password=password, kid=key_id), None
        text = _text(found)
        if text.startswith("{") and '"' in text:
            return PrivateKey.from_jwk(text, kid=key_id), None
        path = _key_path(found, text)
        return PrivateKey.from_file(path, password=password, kid=key_id), path
    except ConfigurationError as error:
        raise _placed(found, error) from None


def _key_path(found: _Found, text: str) -> Path:
    # A path in a file is relative to that file, so that it means the same wherever the process is started; a path in
    # the environment is relative to the working directory, as every shell has it.
    if len(text) < 100 and _PLACEHOLDER.fullmatch(text):
        raise ConfigurationError(f"{found.where} is still the placeholder {text!r}. Put the key, or its path, there.")
    path = os.path.join(found.source.base, os.path.expanduser(text))
    if os.path.isfile(path):
        return Path(path)
    if len(text) <= 260 and text.lower().endswith(_KEY_SUFFIXES):
        raise ConfigurationError(f"There is no key file {path}. Correct the path, or put the key itself there.")
    # It could be a key that lost its first line, so it is not shown.
    raise ConfigurationError(
        "The value is neither PEM text (-----BEGIN ...), nor a JWK ({...}), nor the path of a file that exists. Put one "
        "of them there."
    )


def _say_whose_org(org_url: _Found, key: _Found, key_path: Path | None, working_directory: Path) -> None:
    """A folder from elsewhere that holds an ``okta.yaml`` could have the user's own key sign for another host."""
    if not org_url.source.in_working_directory:
        return
    if key.source.in_working_directory and (
        key_path is None or Path(os.path.realpath(key_path)).is_relative_to(os.path.realpath(working_directory))
    ):
        return
    logger.warning(
        "The org URL comes from %s in the working directory, and the private key from elsewhere (%s). If that file is not "
        "yours, your key signs for a host of another's choosing: set OKTA_CLIENT_ORGURL, or read no file with "
        "from_env(files=False).",
        org_url.place,
        key.place if key_path is None else f"{key_path}, named by {key.place}",
    )


# ── for the command ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Named:
    """A value as the strongest place names it, unchecked. ``here``: that place is a file in the working directory."""

    value: object = field(repr=False)
    place: str
    here: bool = False


def named(
    *spellings: str,
    environ: Mapping[str, str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Named | None:
    """What the environment, or else the strongest ``okta.yaml``, says under one of these names of Okta's SDKs, also where
    it is of no use to a service app (``token``); ``None`` if nothing does.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for an ``okta.yaml`` that cannot be read.
    """
    folded = set(map(_fold, spellings))
    for name, value in (os.environ if environ is None else environ).items():
        if name.startswith(_PREFIX) and _fold(name[len(_PREFIX) :]) in folded and not _blank(value):
            return Named(value, f"environment variable {name}")
    for path, here in _paths(_working_directory(directory), home):
        text = _text_of(path)
        if text is None:
            continue
        client = _section(_section(_parsed(path, text), "okta", path), "client", path)
        for name, value in client.items():
            if name in spellings and not _blank(value):
                return Named(value, str(path), here)
    return None
