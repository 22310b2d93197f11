"""The ``okta.yaml`` that commands write and add to.

Invariant: what is there stays as it is, comments included. A file whose shape does not allow for that is left alone, and
the lines to write are told instead.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..admin.key_files import replace_file, write_new_file
from ..errors import ConfigurationError
from ..settings import parse_okta_yaml as _parsed
from ..settings import read_okta_yaml as _text_of

__all__ = ["change_scopes", "put", "setting_in"]

_CLIENT_LINE = re.compile(r"^( +)client:[ \t]*$", re.MULTILINE)


def put(path: Path, values: Mapping[str, object]) -> None:
    """Puts settings beneath ``okta.client``, in place of those of the same names; a new file gets mode 0600.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, with the lines to write, where that cannot be done safely.
    """
    text = _text_of(path)
    if text is None:
        lines = ["okta:", "  client:", *(f"    {name}: {json.dumps(value)}" for name, value in values.items())]
        write_new_file(path, ("\n".join(lines) + "\n").encode())
        return
    document = _parsed(path, text)
    client = _client(document)
    changed = {name: value for name, value in values.items() if client.get(name) != value}
    if not changed:
        return
    wanted = copy.deepcopy(document)
    new = text if text.endswith("\n") else text + "\n"
    section = _CLIENT_LINE.search(new)
    if section is not None and isinstance(wanted, dict):
        _client(wanted).update(changed)
        following = re.search(r"^( +)\S", new[section.end() + 1 :], re.MULTILINE)
        indent = following[1] if following and len(following[1]) > len(section[1]) else section[1] + "  "
        added = ""
        for name, value in changed.items():
            line = f"{indent}{name}: {json.dumps(value)}"
            before = re.search(rf"^ +{re.escape(name)}:.*$", new, re.MULTILINE) if name in client else None
            if before is None:
                added += f"\n{line}"
            else:
                new = new[: before.start()] + line + _comment(path, before[0]) + new[before.end() :]
        new = new[: section.end()] + added + new[section.end() :]
        try:
            if _parsed(path, new) == wanted:
                replace_file(Path(os.path.realpath(path)), new.encode())  # a symlink stays one
                return
        except ConfigurationError:
            pass  # said below, with what to write
    lines = [f"{name}: {json.dumps(value)}" for name, value in changed.items()]
    raise ConfigurationError(
        f"{path} is not of a shape to which lines can be added safely. Write beneath okta.client: {'; '.join(lines)}"
    )


def _comment(path: Path, line: str) -> str:
    """What a line ends with and YAML passes over."""
    for found in re.finditer(r"[ \t]+#.*$", line):
        try:
            if _parsed(path, line[: found.start()]) == _parsed(path, line):
                return found[0]
        except ConfigurationError:
            pass  # within quotes
    return ""


def setting_in(path: Path, name: str) -> str | None:
    """What a file names already beneath ``okta.client``."""
    text = _text_of(path)
    found = _client(_parsed(path, text)).get(name) if text is not None else None
    return None if found is None else str(found)


def change_scopes(path: Path, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> list[str] | None:
    """Adds to, and takes from, the scopes that an ``okta.yaml`` asks for. What is asked for then; ``None``: no change."""
    text = _text_of(path)
    present = _client(_parsed(path, text)).get("scopes") if text is not None else None
    if isinstance(present, str):
        present = re.split(r"[\s,]+", present.strip())
    before = [scope for scope in present if isinstance(scope, str)] if isinstance(present, list) else []
    gone = set(remove)
    after = list(dict.fromkeys([*(scope for scope in before if scope not in gone), *add]))
    if after == before:
        return None
    put(path, {"scopes": after})
    return after


def _client(document: Any) -> dict[Any, Any]:
    """The settings beneath ``okta.client``; an empty section is filled in place."""
    if not isinstance(document, dict) or not isinstance(document.get("okta"), dict):
        return {}
    section = document["okta"]
    if section.get("client") is None:
        section["client"] = {}
    client = section["client"]
    return client if isinstance(client, dict) else {}
