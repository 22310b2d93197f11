"""okta.yaml is edited in whatever shape it is, and what else is in it stays as it is, to the byte."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from okta_m2m.cli import settings_file
from okta_m2m.cli.settings_file import change_scopes, check_settings_file, read_setting, write_settings
from okta_m2m.errors import ConfigurationError

VALUES = {"orgUrl": "https://acme.okta.com", "clientId": "0oa1", "privateKey": "key.json"}

SHAPES = {
    "empty": "",
    "blank lines": "\n\n",
    "comments only": "# ours\n\n# until we have an app\n",
    "a document marker": "---\n",
    "other sections": "# ours\ntesting:\n  testDisableHttpsCheck: true  # why\nother: [1, 2]\n# the end\n",
    "only testing": "okta:\n  testing:\n    testDisableHttpsCheck: false\n",
    "an empty section": "okta:\n  client:\n",
    "an empty section with a comment": "okta:\n  client: # the service app\n",
    "nothing under okta": "okta: # all of it\ntesting: 1\n",
    "CRLF": "# ours\r\nokta:\r\n  client:\r\n    orgUrl: https://old.okta.com # old\r\n    scopes: [a, b]\r\n",
    "a comment at client": "okta:\n  client:   # the service app\n    # by the platform team\n    orgUrl: https://old.okta.com\n",
    "quoted names": '"okta":\n  "client":\n    "orgUrl": "https://old.okta.com"\n    \'clientId\': \'0oa0\'\n',
    "flow style": "okta: {client: {orgUrl: 'https://old.okta.com', scopes: [a, b]}}\n",
    "JSON": '{"okta": {"client": {"orgUrl": "https://old.okta.com", "scopes": ["a"]}}}\n',
    "four spaces": "okta:\n    client:\n        scopes:\n            - a\n            - b # b\n        orgUrl: 'https://old.okta.com'\n",
    "lists at the level of their name": "okta:\n  client:\n    scopes:\n    - a\n    - b\n    orgUrl: https://old.okta.com\n",
    "aligned values": "okta:\n  client:\n    orgUrl:   https://old.okta.com\n    clientId: 0oa0\n    scopes:   [ a, b ]\n",
    "mixed indentation": "other:\n    x:\n          y: 1\nokta:\n  client:\n    orgUrl: https://old.okta.com\n",
    "no newline at the end": "okta:\n  client:\n    orgUrl: https://old.okta.com",
    "a comment before the next section": (
        "okta:\n  client:\n    orgUrl: https://old.okta.com  # old\n\n# about testing\ntesting:\n  x: 1\n"
    ),
    "a key in the file": (
        "okta:\n  client:\n    privateKey: |\n      -----BEGIN PRIVATE KEY-----\n      abc\n      -----END PRIVATE KEY-----\n"
        "    scopes: a b\n"
    ),
    "empty mappings": "okta: {}\n",
    "an empty value at the end": "okta:\n  client:\n    orgUrl: https://old.okta.com\n    kid: # none\n# the end\n",
    "emoji": "# 🚀\nokta:\n  client:\n    orgUrl: https://old.okta.com # 🚀\n    scopes: [a]\n",
    "a value of two lines": "okta:\n  client:\n    clientId: 0oa0\n    scopes: [a,\n      b]\n",
    "a BOM": "\ufeffokta:\n  client:\n    orgUrl: https://old.okta.com\n",
}


def save(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "okta.yaml"
    path.write_bytes(text.encode())
    path.chmod(0o600)
    return path


def parsed(path: Path) -> Any:
    return yaml.safe_load(path.read_bytes().decode("utf-8-sig"))


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in SHAPES.items()])
def test_settings_are_written_into_every_ordinary_layout_and_nothing_else_changes(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, text)
    before = parsed(path) or {}
    check_settings_file(path, VALUES)
    assert path.read_bytes() == text.encode(), "checking changes nothing"
    write_settings(path, VALUES)
    after = parsed(path)
    client = ((before.get("okta") or {}).get("client")) or {}
    assert after["okta"]["client"] == {**client, **VALUES}
    assert {**after, "okta": 0} == {**before, "okta": 0}
    assert {**after["okta"], "client": 0} == {**(before.get("okta") or {}), "client": 0}
    written = path.read_bytes().decode("utf-8-sig")
    if "\n" in text.strip() or "#" in text:
        # Line by line: only those of the settings differ, and of these only their values.
        removed = [line[2:] for line in difflib.ndiff(text.splitlines(), written.splitlines()) if line[:2] == "- "]
        allowed = ("orgUrl", "clientId", "privateKey", "-----", "abc", "okta: {", "{", "\ufeff")
        for line in removed:
            assert line.strip(" \"'").startswith(allowed), (line, written)
        for comment in (line for line in text.splitlines() if "#" in line):
            assert comment[comment.index("#") :] in written
    assert ("\r\n" in text) == ("\r\n" in written)
    assert "\r\n" not in text or "\n" not in written.replace("\r\n", "")
    again = path.read_bytes()
    write_settings(path, VALUES)
    assert path.read_bytes() == again
    assert read_setting(path, "clientId") == "0oa1"


def test_a_comment_about_the_next_section_stays_there(tmp_path: Path) -> None:
    path = save(tmp_path, SHAPES["a comment before the next section"])
    write_settings(path, VALUES)
    assert path.read_text().endswith("\n\n# about testing\ntesting:\n  x: 1\n")
    rest = "\n# about testing\ntesting: 1\n"
    for scopes in ("\n      - a\n      - b # b\n", "\n      - a\n      - b\n", " [a, b] # both\n", " [a, b]\n"):
        path = save(tmp_path, f"okta:\n  client:\n    scopes:{scopes}{rest}")
        assert change_scopes(path, add=["c"]) == ["a", "b", "c"]
        assert change_scopes(path, remove=["b", "c"]) == ["a"]
        assert path.read_text().endswith(rest), path.read_text()
        assert ("# both" in path.read_text()) == ("# both" in scopes)
        write_settings(path, VALUES)
        assert path.read_text().endswith(f'privateKey: "key.json"\n{rest}')


def test_scopes_follow_and_keep_the_lists_style_and_its_comments(tmp_path: Path) -> None:
    path = save(
        tmp_path, "okta:\n  client:\n    scopes:\n      - a # first\n      - b # second\n      - c\n    kid: x\n"
    )
    assert change_scopes(path, add=["d"], remove=["b"]) == ["a", "c", "d"]
    assert path.read_text() == (
        'okta:\n  client:\n    scopes:\n      - a # first\n      - c\n      - "d"\n    kid: x\n'
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (" [a, [b], {c: d}]", ' [a, "e"]'),
        ("  # none yet", ' ["a", "e"]  # none yet'),
        ("\n    -   a # first\n    # why\n    -   b", '\n    -   a # first\n    # why\n    -   "e"'),
        ("\n      - b", '\n      - "a"\n      - "e"'),
    ],
    ids=["nested lists", "none", "wide indentation", "all replaced"],
)
def test_a_list_of_scopes_keeps_its_layout(tmp_path: Path, before: str, after: str) -> None:
    text = "okta:\n  client:\n    scopes:{}\n    kid: x\n# the end\n"
    path = save(tmp_path, text.format(before))
    assert change_scopes(path, add=["a", "e"], remove=["b"]) == ["a", "e"]
    assert path.read_text("utf-8") == text.format(after)


def test_a_list_without_scopes_is_written_as_an_empty_one(tmp_path: Path) -> None:
    path = save(tmp_path, "okta:\n  client:\n    scopes: # few\n      - a # first\n      - b\n    kid: x\n")
    assert change_scopes(path, remove=["a", "b"]) == []
    assert path.read_text("utf-8") == "okta:\n  client:\n    scopes: [] # few\n    kid: x\n"


REFUSED = {
    "a merged anchor": "all: &all\n  connectionTimeout: 30\nokta:\n  client:\n    <<: *all\n    orgUrl: https://old.okta.com\n",
    "an anchor that is used elsewhere": "okta:\n  client: &main\n    orgUrl: &url https://old.okta.com\nagain: *url\n",
    "an alias": "main: &main\n  orgUrl: https://old.okta.com\nokta:\n  client: *main\n",
    "a list": "- okta\n",
    "text": "okta: client\n",
    "a repeated name": "okta:\n  client:\n    orgUrl: a\n    orgUrl: b\n",
    "two documents": "okta: {}\n---\nokta: {}\n",
    "a multi-line flow mapping": "okta: {\n  client: {\n    orgUrl: a } }\n",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in REFUSED.items()])
def test_a_file_that_cannot_be_edited_safely_is_refused_before_anything_is_done(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        check_settings_file(path, VALUES)
    assert str(path) in str(caught.value)
    with pytest.raises(ConfigurationError):
        write_settings(path, VALUES)
    assert path.read_bytes() == text.encode()


def test_a_settings_file_that_changes_during_the_edit_is_not_overwritten(tmp_path: Path) -> None:
    path = save(tmp_path, SHAPES["CRLF"])

    class Slow(dict[str, object]):
        def items(self) -> Any:
            path.write_text("okta: {client: {clientId: another}}\n", encoding="utf-8")
            return super().items()

    with pytest.raises(ConfigurationError, match="was changed by another process"):
        write_settings(path, Slow(VALUES))
    assert path.read_text("utf-8") == "okta: {client: {clientId: another}}\n"


@pytest.mark.parametrize(
    "action",
    [
        lambda path: write_settings(path, VALUES),
        lambda path: check_settings_file(path, VALUES),
        lambda path: change_scopes(path, add=["okta.users.read"]),
    ],
    ids=["write", "check", "scopes"],
)
def test_the_text_of_another_file_is_never_written_into_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[Path], object]
) -> None:
    """Another process puts another file there between two looks, with a secret of its own."""
    path = save(tmp_path, "okta: {}\n")
    secret, aside = tmp_path / "secret", tmp_path / "aside"
    secret.write_text("okta:\n  client:\n    token: 00S3cret\n    scopes: [of.root]\n", encoding="utf-8")
    secret.chmod(0o600)
    read = settings_file.read_okta_yaml

    def swapped(name: Path) -> str | None:
        path.rename(aside)
        secret.rename(path)
        try:
            return read(name)
        finally:
            path.rename(secret)
            aside.rename(path)

    monkeypatch.setattr(settings_file, "read_okta_yaml", swapped)
    with pytest.raises(ConfigurationError, match=r"was changed while it was read\. Run the command again\."):
        action(path)
    assert path.read_text("utf-8") == "okta: {}\n"


@pytest.mark.skipif(os.name != "posix", reason="links need a right on Windows")
def test_a_broken_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "okta.yaml").symlink_to(tmp_path / "elsewhere" / "settings.yaml")
    with pytest.raises(ConfigurationError, match=r"is a link to .*settings.yaml, which does not exist"):
        check_settings_file(tmp_path / "okta.yaml", VALUES)
