"""Finds ``okta.yaml`` files, checks who can write them, and parses them.

Invariant: a file that someone else can write to is never used, because its writer could send this app's assertions to
another host. No error or warning quotes a file's content, which may hold a private key, and neither does an exception in
its context. A document is not larger than its text: each value is in one place.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path

from ..errors import ConfigurationError, install_command

__all__ = ["okta_yaml_paths", "parse_okta_yaml", "read_okta_yaml"]

logger = logging.getLogger("okta_m2m")

MAX_FILE_SIZE = 256 * 1024
"""Size of the largest file that is read, in bytes. An ``okta.yaml`` that contains an RSA key has about 4 KiB."""

MAX_DEPTH = 30
"""The number of levels that an ``okta.yaml`` may have. Settings are on the third."""

_READ_NO_FILE = "or read no file at all, with from_env(files=False)."


def okta_yaml_paths(working_directory: Path, home: str | os.PathLike[str] | None) -> list[tuple[Path, bool]]:
    """The possible paths of an ``okta.yaml``, highest priority first. The flag is ``True`` if a stranger may have put it in
    the working directory: everything in the home directory is the user's own."""
    paths = [working_directory / name for name in ("okta.yaml", ".okta.yaml")]
    try:
        home_directory = Path(os.path.abspath(home)) if home is not None else Path.home()
    except RuntimeError:
        # This user has no home directory, as in a container without an entry in /etc/passwd.
        return [(path, True) for path in paths]
    folder = home_directory / ".okta"
    is_own = _is_same_directory(working_directory, folder) or _is_same_directory(working_directory, home_directory)
    at_home = folder / "okta.yaml"
    # For a process that starts in ~/.okta, both paths are one file.
    return [(path, not is_own) for path in paths if path != at_home] + [(at_home, False)]


def _is_same_directory(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False  # one of them does not exist, or may not be entered


def read_okta_yaml(path: Path) -> str | None:
    """The text of an ``okta.yaml``, or ``None`` if there is no such file.

    - ``path``: the file. On POSIX it must belong to this user or to root, and no one else may have write access.

    Raises :class:`~okta_m2m.errors.ConfigurationError` if it cannot be used.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        # Services often run with a HOME that they cannot enter (systemd's ProtectHome).
        logger.debug("%s was skipped: this process has no permission to enter its directory", path)
        return None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror}).", remedy=f"Remove it, {_READ_NO_FILE}"
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{path} is not a regular file.", remedy=f"Remove it, {_READ_NO_FILE}")
    try:
        with open(path, "rb") as file:
            _check_writers(path, os.fstat(file.fileno()))
            content = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror}).", remedy=f"Make it readable for this process, {_READ_NO_FILE}"
        ) from None
    if len(content) > MAX_FILE_SIZE:
        raise ConfigurationError(
            f"{path} is larger than {MAX_FILE_SIZE // 1024} KiB.", remedy=f"Remove it, {_READ_NO_FILE}"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass  # raised below, outside this handler: this exception holds the bytes, which may include a key
    raise ConfigurationError(f"{path} is not UTF-8 text.", remedy="Save it as UTF-8.")


def _check_writers(path: Path, status: os.stat_result) -> None:
    if sys.platform == "win32":
        return  # Windows, where st_mode does not show who can write
    if status.st_mode & 0o022:
        raise ConfigurationError(
            f"Others can write {path}, so they could send this app's assertions to another host.",
            remedy=f"Run: chmod go-w '{path}'",
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(
            f"{path} belongs to another user (uid {status.st_uid}), who could send this app's assertions to another "
            "host.",
            remedy=f"Run: chown {os.geteuid()} '{path}'",
        )


def parse_okta_yaml(path: Path, text: str) -> object:
    """The document in the text of an ``okta.yaml``.

    - ``path``: the file, to name it in errors.
    - ``text``: plain YAML, without anchors, aliases, merge keys, tags and directives, and without duplicate keys in a
      mapping.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, which names the line, if there is one.
    """
    try:
        from ruamel.yaml import YAML, tokens
        from ruamel.yaml.constructor import DuplicateKeyError
        from ruamel.yaml.error import YAMLError
    except ImportError:
        raise ConfigurationError(
            f"{path} exists, but ruamel.yaml, which reads it, is not installed.",
            remedy=f"Run: {install_command('yaml')}. Or read no file at all, with from_env(files=False).",
        ) from None

    # The library's messages quote the text, and its exceptions hold all of it. So these handlers pass on only a line number,
    # and the error is raised outside them.
    problem, remedy = "", ""
    try:
        # Aliases and merge keys let 1 KB of text become gigabytes of data, and deep nesting takes time by its square. For a
        # repeated anchor or an old version (%YAML 1.1), the library issues warnings that quote the text. So refuse these
        # before anything is composed.
        begin = (
            tokens.BlockMappingStartToken,
            tokens.BlockSequenceStartToken,
            tokens.FlowMappingStartToken,
            tokens.FlowSequenceStartToken,
        )
        end = tokens.BlockEndToken, tokens.FlowMappingEndToken, tokens.FlowSequenceEndToken
        shorthand = tokens.AliasToken, tokens.AnchorToken, tokens.DirectiveToken, tokens.TagToken
        depth = 0
        for token in YAML(typ="safe", pure=True).scan(text):
            depth += isinstance(token, begin) - isinstance(token, end)
            if depth > MAX_DEPTH:
                problem = f"{path}, line {token.start_mark.line + 1}: more than {MAX_DEPTH} levels are not accepted."
                remedy = "Put the settings directly below okta and client."
                break
            is_merge_key = isinstance(token, tokens.ScalarToken) and token.plain and token.value == "<<"
            if is_merge_key or isinstance(token, shorthand):
                problem = (
                    f"{path}, line {token.start_mark.line + 1}: an anchor (&), alias (*), merge key (<<), tag (!) or "
                    "directive (%) is not accepted."
                )
                remedy = "Write each value in full where it is used. Put a string that begins with such a character in quotes."
                break
        else:
            return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        if isinstance(error, DuplicateKeyError):
            # Otherwise it would be unclear which of two org URLs is used.
            where = "" if mark is None else f", the second time on line {mark.line + 1}"
            problem, remedy = f"{path} has the same key twice{where}.", "Remove one of them."
        else:
            line = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
            problem = f"{path}{line}: this is not plain YAML."
            remedy = "Check its indentation, quotes and tabs."
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError):
        # An impossible date, for example, raises Python's own errors.
        problem, remedy = f"{path} contains a value that YAML cannot read.", "Put strings in quotes."
    raise ConfigurationError(problem, remedy=remedy)
