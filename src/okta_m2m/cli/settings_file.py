"""The ``okta.yaml`` that commands write and edit.

Invariant: everything else in the file stays as it is, comments included. If that is not certain, the file is not changed, and
the error has the lines to write.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..admin.key_files import replace_file, write_new_file
from ..errors import ConfigurationError
from ..settings import parse_okta_yaml, read_okta_yaml

__all__ = ["change_scopes", "read_setting", "write_settings"]

_CLIENT_LINE = re.compile(r"^( +)client:[ \t]*$", re.MULTILINE)


def write_settings(path: Path, values: Mapping[str, object]) -> None:
    """Writes settings under ``okta.client``, in place of those with the same names. A new file gets mode 0600.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, with the lines to write, if the file cannot be edited safely.
    """
    text = read_okta_yaml(path)
    if text is None:
        lines = ["okta:", "  client:", *(f"    {name}: {json.dumps(value)}" for name, value in values.items())]
        write_new_file(path, ("\n".join(lines) + "\n").encode())
        return
    document = parse_okta_yaml(path, text)
    client = _client(document)
    changed = {name: value for name, value in values.items() if client.get(name) != value}
    if not changed:
        return
    edited = _edit(path, text, changed, present=client)
    wanted = copy.deepcopy(document)
    _client(wanted).update(changed)
    if edited is None or not _parses_as(path, edited, wanted):
        lines = [f"{name}: {json.dumps(value)}" for name, value in changed.items()]
        raise ConfigurationError(
            f"The layout of {path} does not allow a safe edit.",
            remedy=f"Write these lines under okta.client: {'; '.join(lines)}",
        )
    replace_file(path, edited.encode())  # a symlink stays one


def read_setting(path: Path, name: str) -> str | None:
    """What the file has under ``okta.client`` for a name; ``None`` if nothing."""
    text = read_okta_yaml(path)
    found = _client(parse_okta_yaml(path, text)).get(name) if text is not None else None
    return None if found is None else str(found)


def change_scopes(path: Path, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> list[str] | None:
    """Adds and removes scopes. Returns the scopes that the file then has; ``None`` if there is nothing to change."""
    text = read_okta_yaml(path)
    present = _client(parse_okta_yaml(path, text)).get("scopes") if text is not None else None
    if isinstance(present, str):
        present = re.split(r"[\s,]+", present.strip())
    before = [scope for scope in present if isinstance(scope, str)] if isinstance(present, list) else []
    removed = set(remove)
    after = list(dict.fromkeys([*(scope for scope in before if scope not in removed), *add]))
    if after == before:
        return None
    write_settings(path, {"scopes": after})
    return after


def _edit(path: Path, text: str, changed: Mapping[str, object], *, present: Mapping[Any, Any]) -> str | None:
    """The text with changed lines replaced and new ones inserted; ``None`` if there is no line ``client:``.

    This only guesses at the file's structure. The caller parses the result and compares.
    """
    text = text if text.endswith("\n") else text + "\n"
    section = _CLIENT_LINE.search(text)
    if section is None:
        return None
    following = re.search(r"^( +)\S", text[section.end() + 1 :], re.MULTILINE)
    indent = following[1] if following and len(following[1]) > len(section[1]) else section[1] + "  "
    added = ""
    for name, value in changed.items():
        line = f"{indent}{name}: {json.dumps(value)}"
        before = re.search(rf"^ +{re.escape(name)}:.*$", text, re.MULTILINE) if name in present else None
        if before is None:
            added += f"\n{line}"
        else:
            text = text[: before.start()] + line + _comment_of(path, before[0]) + text[before.end() :]
    return text[: section.end()] + added + text[section.end() :]


def _comment_of(path: Path, line: str) -> str:
    """The comment at the end of a line, with the spaces before it."""
    for found in re.finditer(r"[ \t]+#.*$", line):
        try:
            if parse_okta_yaml(path, line[: found.start()]) == parse_okta_yaml(path, line):
                return found[0]
        except ConfigurationError:
            pass  # this "#" is inside quotes
    return ""


def _parses_as(path: Path, text: str, document: object) -> bool:
    try:
        return parse_okta_yaml(path, text) == document
    except ConfigurationError:
        return False


def _client(document: Any) -> dict[Any, Any]:
    """The settings under ``okta.client``. An empty section becomes a mapping in place."""
    if not isinstance(document, dict) or not isinstance(document.get("okta"), dict):
        return {}
    section = document["okta"]
    if section.get("client") is None:
        section["client"] = {}
    client = section["client"]
    return client if isinstance(client, dict) else {}
