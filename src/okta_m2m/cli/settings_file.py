"""The ``okta.yaml`` that commands write and edit.

Invariant: everything else in the file stays unchanged, including comments and layout. If that is not certain, the file
is not changed, and the error shows the lines to write. :func:`check_settings_file` checks this before anything is done at
Okta.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

from ..admin.key_files import FileVersion, check_replaceable, read_file, replace_file, write_new_file
from ..errors import ConfigurationError
from ..settings import parse_okta_yaml, read_okta_yaml

# ruamel.yaml is imported inside functions: most commands do not need it.

__all__ = ["change_scopes", "check_settings_file", "read_setting", "write_settings"]

_LAYOUTS: Final = ((2, 4, 2), (2, 2, 0), (4, 6, 4), (4, 4, 2), (4, 2, 0))
"""Common indentations: of mappings, of list items, and of the dash within list items."""


def write_settings(path: Path, values: Mapping[str, object]) -> None:
    """Writes settings under ``okta.client``, replacing those with the same names. A new file gets mode 0600.

    Raises :class:`~okta_m2m.errors.ConfigurationError`, with the lines to write, if the file cannot be edited safely.
    """
    _write(path, _read(path), values)


def _write(path: Path, found: tuple[str, FileVersion] | None, values: Mapping[str, object]) -> None:
    if found is None:
        write_new_file(path, _new_section(values).encode())
        return
    text, version = found
    edited = _edit(path, text, values)
    if edited is not None:
        replace_file(path, edited.encode(), was=version)  # a symlink remains a symlink


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
    found = _client(parse_okta_yaml(path, text)).get(name) if text is not None else None
    return None if found is None else str(found)


def change_scopes(path: Path, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> list[str] | None:
    """Adds and removes scopes. Returns the scopes that the file then has; ``None`` if there is nothing to change."""
    found = _read(path)
    present = _client(parse_okta_yaml(path, found[0])).get("scopes") if found is not None else None
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


def _new_section(values: Mapping[str, object]) -> str:
    lines = ["okta:", "  client:", *(f"    {name}: {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _client(document: Any) -> Mapping[Any, Any]:
    """The settings under ``okta.client``; empty if there are none."""
    for name in ("okta", "client"):
        document = document.get(name) if isinstance(document, Mapping) else None
    return document if isinstance(document, Mapping) else {}


def _edit(path: Path, text: str, values: Mapping[str, object]) -> str | None:
    """The text with these settings; ``None`` if it already has them. Raises if that cannot be done without other changes."""
    document = parse_okta_yaml(path, text)
    changed = {name: value for name, value in values.items() if _client(document).get(name) != value}
    if not changed:
        return None
    windows = "\r\n" in text
    lines = text.replace("\r\n", "\n")
    lines += "" if lines.endswith("\n") or not lines else "\n"
    edited = lines + _new_section(changed) if document is None else _round_trip(lines, changed)
    if edited is None or not _is_faithful(path, lines, edited, document, changed):
        shown = "; ".join(f"{name}: {json.dumps(value)}" for name, value in changed.items())
        raise ConfigurationError(
            f"The layout of {path} does not allow a safe edit.",
            remedy=f"Write these lines under okta.client yourself: {shown}.",
        )
    return edited.replace("\n", "\r\n") if windows else edited


def _round_trip(text: str, changed: Mapping[str, object]) -> str | None:
    """The text with changed settings. Other lines stay unchanged, even if ruamel.yaml would indent them
    differently; ``None`` if ruamel.yaml's lines do not match those of the text."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    best: tuple[int, list[str], list[str]] | None = None
    for mapping, sequence, offset in _LAYOUTS:
        yaml = YAML()
        yaml.preserve_quotes = True
        yaml.width = 1_000_000  # do not wrap lines
        yaml.explicit_start = text.startswith("---")
        yaml.indent(mapping=mapping, sequence=sequence, offset=offset)
        try:
            document = yaml.load(text)
            before = _dump(yaml, document)
            if not _change(document, changed):
                return None
            after = _dump(yaml, document)
        except YAMLError:
            return None
        same = sum(one == other for one, other in zip(before, text.splitlines(), strict=False))
        if len(before) == len(text.splitlines()) and (best is None or same > best[0]):
            best = same, before, after
    if best is None:
        return None
    _, before, after = best
    original, result = text.splitlines(), list[str]()
    for kind, first, last, start, end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        result += original[first:last] if kind == "equal" else after[start:end]
    return "\n".join(result) + "\n"


def _dump(yaml: Any, document: Any) -> list[str]:
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue().splitlines()


def _change(document: Any, changed: Mapping[str, object]) -> bool:
    """Changes the settings in a document of ruamel.yaml; ``False`` if it has something else in their place."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    section = document
    for name in ("okta", "client"):
        if not isinstance(section, CommentedMap):
            return False
        if section.get(name) is None:
            section[name] = CommentedMap()
        section = section[name]
    if not isinstance(section, CommentedMap):
        return False
    below = _lift_comment_below(section)
    for name, value in changed.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            if isinstance(section.get(name), CommentedSeq):
                _change_items(section[name], value)
            else:
                section[name] = CommentedSeq(map(DoubleQuotedScalarString, value))
                section[name].fa.set_flow_style()
        else:
            section[name] = DoubleQuotedScalarString(str(value))
    _put_comment_below(section, below)
    return True


def _change_items(items: Any, wanted: Sequence[str]) -> None:
    """Changes a ruamel.yaml list to these strings. Strings that stay keep their comments."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    for position in reversed(range(len(items))):
        if items[position] not in wanted:
            del items[position]
    items.extend(DoubleQuotedScalarString(value) for value in wanted if value not in items)


def _last_entry(collection: Any) -> tuple[Any, Any, int]:
    """The collection with a section's last entry, the entry's name, and where ruamel.yaml keeps the comment after it."""
    name, slot = (list(collection)[-1], 2) if isinstance(collection, Mapping) else (len(collection) - 1, 0)
    value = collection[name]
    if hasattr(value, "fa") and len(value) and not value.fa.flow_style():
        return _last_entry(value)
    return collection, name, slot


def _lift_comment_below(section: Any) -> str:
    """Removes the text after the last entry of a section, which ruamel.yaml treats as a comment about that entry."""
    if not section:
        return ""
    collection, name, slot = _last_entry(section)
    tokens = collection.ca.items.get(name)
    if tokens is None or tokens[slot] is None:
        return ""
    same_line, _, below = tokens[slot].value.partition("\n")
    tokens[slot].value = same_line + "\n"
    if not same_line:
        del collection.ca.items[name]
    return str(below)


def _put_comment_below(section: Any, below: str) -> None:
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    if not below:
        return
    collection, name, slot = _last_entry(section)
    tokens = collection.ca.items.setdefault(name, [None] * 4)
    same_line = "" if tokens[slot] is None else tokens[slot].value.rstrip("\n")
    tokens[slot] = CommentToken(f"{same_line}\n{below}", CommentMark(0), None)


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
