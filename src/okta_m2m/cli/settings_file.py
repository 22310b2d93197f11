"""The ``okta.yaml`` that commands write and edit.

Invariant: everything else in the file stays unchanged, including comments and layout. If that is not certain, the file
is not changed, and the error shows the lines to write. :func:`check_settings_file` checks this before anything is done at
Okta.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from ..admin.key_files import FileVersion, check_replaceable, read_file, replace_file, write_new_file
from ..errors import ConfigurationError
from ..settings import parse_okta_yaml, read_okta_yaml
from .trust import is_trusted, trust_own_file

# ruamel.yaml is imported inside functions: most commands do not need it.

_CLIENT = ("okta", "client")

_Edit = tuple[int, int, str]
"""Where a part of the text begins and ends, and what replaces it."""


def write_settings(path: Path, values: Mapping[str, object]) -> None:
    """Writes settings under ``okta.client``, replacing those with the same names. A new file gets mode 0600.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, with the lines to write, if the file cannot be edited safely.
    """
    _write(path, _read(path), values)


def _write(path: Path, found: tuple[str, FileVersion] | None, values: Mapping[str, object]) -> None:
    """Writes the settings. The user trusts the file afterwards if they did before, or if the org is one of the settings."""
    keeps_trust = "orgUrl" in values or is_trusted(path)
    if found is None:
        write_new_file(path, _block({"okta": {"client": values}}).encode())
    else:
        text, version = found
        edited = _edit(path, text, values)
        if edited is not None:
            replace_file(path, edited.encode(), was=version)  # a symlink remains a symlink
    if keeps_trust:
        trust_own_file(path)


def check_settings_file(path: Path, names: Iterable[str]) -> None:
    """Raises the same errors as :func:`write_settings` for these names, and changes nothing."""
    real = Path(os.path.realpath(path))
    if path.is_symlink() and not real.exists():
        raise ConfigurationError(
            f"{path} is a link to {real}, which does not exist.", remedy="Create that file, or remove the link."
        )
    if not os.access(real.parent, os.W_OK):
        raise ConfigurationError(
            f"{path} cannot be written.", remedy="Check that its folder exists and that you may write to it."
        )
    found = _read(path)
    if found is not None:
        check_replaceable(path)
        _edit(path, found[0], dict.fromkeys(names, "..."))


def read_setting(path: Path, name: str) -> str | None:
    """The value of a name under ``okta.client`` in the file; ``None`` if there is none."""
    text = read_okta_yaml(path)
    found = section_of(parse_okta_yaml(path, text), *_CLIENT).get(name) if text is not None else None
    return None if found is None else str(found)


def change_scopes(path: Path, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> list[str] | None:
    """Adds and removes scopes. Returns the scopes that the file then has; ``None`` if there is nothing to change."""
    found = _read(path)
    present = section_of(parse_okta_yaml(path, found[0]), *_CLIENT).get("scopes") if found is not None else None
    if isinstance(present, str):
        present = re.split(r"[\s,]+", present.strip())
    before = [scope for scope in present if isinstance(scope, str)] if isinstance(present, list) else []
    removed = set(remove)
    after = list(dict.fromkeys([*(scope for scope in before if scope not in removed), *add]))
    if after == before:
        return None
    _write(path, found, {"scopes": after})
    return after


def _read(path: Path) -> tuple[str, FileVersion] | None:
    """The text, and the version of the file that it is from. ``None`` if there is no file."""
    try:
        content = read_file(path)
    except FileNotFoundError:
        return None
    text = read_okta_yaml(path)  # refuses a file that no command would read, such as one that others can write to
    # The version that is written over must be that of this text.
    if text is None or text.encode() != content.data.removeprefix(codecs.BOM_UTF8):
        raise ConfigurationError(f"{path} was changed while it was read.", remedy="Run the command again.")
    return text, content.version


def section_of(document: Any, *names: str) -> Mapping[Any, Any]:
    """The section of a document that these names lead to; empty if there is none."""
    for name in names:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document if isinstance(document, Mapping) else {}


def _edit(path: Path, text: str, values: Mapping[str, object]) -> str | None:
    """The text with these settings; ``None`` if it already has them. Raises if that cannot be done without other changes."""
    document = parse_okta_yaml(path, text)
    changed = {name: value for name, value in values.items() if section_of(document, *_CLIENT).get(name) != value}
    if not changed:
        return None
    windows = "\r\n" in text
    lines = text.replace("\r\n", "\n")
    lines += "" if lines.endswith("\n") or not lines else "\n"
    edited = lines
    for start, end, new in sorted(_edits(lines, changed), reverse=True):
        edited = edited[:start] + new + edited[end:]
    if edited == lines or not _is_faithful(path, lines, edited, document, changed):
        shown = "; ".join(f"{name}: {json.dumps(value)}" for name, value in changed.items())
        raise ConfigurationError(
            f"The layout of {path} does not allow a safe edit.",
            remedy=f"Write these lines under okta.client yourself: {shown}.",
        )
    return edited.replace("\n", "\r\n") if windows else edited


def _edits(text: str, changed: Mapping[str, object]) -> Iterator[_Edit]:
    """The edits that change the settings; none if the text has something else in their place."""
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import MappingNode, ScalarNode

    key, section = None, YAML(typ="safe", pure=True).compose(text)
    new: Mapping[str, Any] = {"okta": {"client": changed}}
    for name in _CLIENT:
        entry = _find(section, name)
        if entry is None:
            break
        (key, section), new = entry, new[name]
    if section is None or (isinstance(section, ScalarNode) and section.value == ""):
        end = len(text) if key is None else _end_of_line(text, key.end_mark.index)
        yield end, end, _block(new, 0 if key is None else key.start_mark.column + 2)
    elif isinstance(section, MappingNode) and not section.value:  # {}
        yield section.start_mark.index, section.end_mark.index, _flow(new)
    elif isinstance(section, MappingNode):
        if section.flow_style and "\n" in text[section.start_mark.index : section.end_mark.index]:
            return
        found = {name: _find(section, name) for name in new}
        for name, entry in found.items():
            if entry is not None:
                yield from _value_edits(text, entry, new[name])
        added = {name: new[name] for name, entry in found.items() if entry is None}
        end = _end(text, section.value[-1])
        if section.flow_style:
            yield end, end, "".join(f", {name}: {_flow(value)}" for name, value in added.items())
        else:
            below = _end_of_line(text, end)
            yield below, below, _block(added, section.value[0][0].start_mark.column)


def _value_edits(text: str, entry: tuple[Any, Any], value: Any) -> Iterator[_Edit]:
    """The edits that change a value. The items of a list that stay keep their layout and their comments."""
    from ruamel.yaml.nodes import ScalarNode, SequenceNode

    key, old = entry
    start, end = old.start_mark.index, _end(text, entry)
    items = old.value if isinstance(old, SequenceNode) and isinstance(value, list) else []
    if not items:
        yield (start, end, _flow(value)) if start < end else (end, end, f" {_flow(value)}")
    elif old.flow_style:
        scalars = [item for item in items if isinstance(item, ScalarNode)]
        sources = {item.value: text[item.start_mark.index : item.end_mark.index] for item in scalars}
        yield start, end, f"[{', '.join(sources.get(one) or _flow(one) for one in value)}]"
    else:
        starts = [item.start_mark.index for item in items]
        lines = [(text.rindex("\n", 0, start) + 1, _end_of_line(text, start)) for start in starts]
        for item, (begin, end) in zip(items, lines, strict=True):
            if item.value not in value:
                yield begin, end, ""
        begin, end = lines[-1]
        dash = text[begin : starts[-1]]  # with its indentation
        present = [item.value for item in items]
        yield end, end, "".join(f"{dash}{_flow(one)}\n" for one in value if one not in present)
        if not value:
            colon = _after_colon(text, key)
            yield colon, colon, " []"


def lines_below(text: str, *sections: str) -> dict[str, int]:
    """The line of each name in a section of a YAML text, which is in these other sections."""
    from ruamel.yaml import YAML

    node = YAML(typ="safe", pure=True).compose(text)
    for section in sections:
        entry = _find(node, section)
        node = None if entry is None else entry[1]
    return {} if node is None else {key.value: key.start_mark.line + 1 for key, _ in node.value}


def _find(section: Any, name: str) -> tuple[Any, Any] | None:
    """The nodes of a name and of its value in a mapping; ``None`` if it is not there."""
    from ruamel.yaml.nodes import MappingNode

    entries = section.value if isinstance(section, MappingNode) else []
    return next((entry for entry in entries if entry[0].value == name), None)


def _end(text: str, entry: tuple[Any, Any]) -> int:
    """Where the value of an entry ends. The parser counts the comments below it too, unlike this function."""
    key, value = entry
    while isinstance(value.value, list) and value.value and not value.flow_style:
        last = value.value[-1]
        key, value = last if isinstance(last, tuple) else (key, last)
    start = value.start_mark.index
    source = text[start : value.end_mark.index].rstrip()
    return int(start + len(source)) if source else _after_colon(text, key)


def _after_colon(text: str, key: Any) -> int:
    # With "? name" there may be no colon. An edit at the start of the text is then found not to be faithful.
    return text.find(":", key.end_mark.index) + 1


def _end_of_line(text: str, position: int) -> int:
    return text.index("\n", position) + 1


def _block(values: Mapping[str, Any], indent: int = 0) -> str:
    """Settings, or sections of settings, one a line."""
    lines = ""
    for name, value in values.items():
        rest = f"\n{_block(value, indent + 2)}" if isinstance(value, Mapping) else f" {_flow(value)}\n"
        lines += f"{' ' * indent}{name}:{rest}"
    return lines


def _flow(value: object) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {_flow(one)}' for name, one in value.items())}}}"
    # YAML has no surrogate pairs, by which JSON escapes emoji; but what is not printable has to be escaped.
    return json.dumps(value, ensure_ascii=not str(value).isprintable())


def _is_faithful(path: Path, before: str, after: str, document: Any, changed: Mapping[str, object]) -> bool:
    """Whether the new text has the intended meaning, and every comment that is on its own line."""
    wanted = deepcopy(document) or {}
    wanted["okta"] = wanted.get("okta") or {}
    wanted["okta"]["client"] = {**(wanted["okta"].get("client") or {}), **changed}
    comments = [
        [line.strip() for line in text.splitlines() if line.lstrip().startswith("#")] for text in (before, after)
    ]
    try:
        return comments[0] == comments[1] and bool(parse_okta_yaml(path, after) == wanted)
    except ConfigurationError:
        return False
