"""The mistakes that people make with the command ``okta-m2m``, and what each is told.

A row of ``COMMAND`` is a name, and a function that makes the mistake and returns the last line that the command printed.
``mistakes.py`` prints them and ``tests/rules/test_mistakes.py`` judges them, with those that are made in Python.

Invariant: no row reaches a network. What a mistake is told is told before anything is sent.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import chdir
from functools import partial
from pathlib import Path
from unittest.mock import patch

from command import run_here
from okta_m2m.admin.key_files import new_key, write_key

Mistake = tuple[str, Callable[[], object]]

ORG = {"OKTA_CLIENT_ORGURL": "https://acme.okta.com"}
ADMIN = {**ORG, "OKTA_CLIENT_TOKEN": "00token"}
SETTINGS = {**ORG, "OKTA_CLIENT_CLIENTID": "0oa1b2c3", "OKTA_CLIENT_SCOPES": "okta.users.read"}
SERVICE = {**SETTINGS, "OKTA_CLIENT_PRIVATEKEY": "okta-m2m-key.json"}
_YAML = "okta:\n  client:\n    clientId: 0oa0\n"


def run(*arguments: str, variables: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> str:
    """The last line that the command prints, in a folder that has a key and these files, with these variables only."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        write_key("okta-m2m-key.json", new_key("ES256"))
        write_key("service.pem", new_key("ES256"), form="pem")
        for name, text in (files or {}).items():
            Path(name).write_text(text, encoding="utf-8")
            Path(name).chmod(0o600)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OKTA_")}
        with patch.dict(os.environ, {**kept, "HOME": folder, "USERPROFILE": folder, **(variables or {})}, clear=True):
            result = run_here(*arguments, width=500)
    if result.exit_code == 0:
        raise AssertionError(f"nothing went wrong: {result.output}")
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("okta-m2m: ").removeprefix("Error: ").removeprefix("Invalid value: ")


def row(name: str, *arguments: str, **options: Mapping[str, str]) -> Mistake:
    return name, partial(run, *arguments, **options)


COMMAND: list[Mistake] = [
    row("command: apps instead of app", "apps", "list"),
    row("command: app new instead of app create", "app", "creat"),
    row("command: no org", "app", "list"),
    row(
        "command: an org that only the folder names",
        "app",
        "list",
        variables={"OKTA_CLIENT_TOKEN": "00token"},
        files={"okta.yaml": "okta:\n  client:\n    orgUrl: https://acme.okta.com\n"},
    ),
    row("command: no SSWS token", "app", "list", variables=ORG),
    row("command: an SSWS token in two lines", "app", "list", variables={**ORG, "OKTA_CLIENT_TOKEN": "00a 00b"}),
    row("command: a token file that does not exist", "app", "list", "--token-file", "gone", variables=ORG),
    row("command: --as with --token-file", "app", "list", "--as", "self", "--token-file", "x", variables=ORG),
    row("command: --as a folder without okta.yaml", "app", "list", "--as", "nowhere", variables=ORG),
    row("command: --via users", "app", "create", "--name", "x", "--via", "users", variables=ADMIN),
    row(
        "command: the admin console's URL",
        "app",
        "list",
        variables={**ADMIN, "OKTA_CLIENT_ORGURL": "https://a-admin.okta.com"},
    ),
    row("command: a profile that does not exist", "--org", "staging", "app", "list"),
    row("command: key new over an existing key", "key", "new"),
    row("command: key new to stdout", "key", "new", "--out", "-"),
    row("command: --bits with an EC key", "key", "new", "--out", "x.json", "--alg", "ES256", "--bits", "4096"),
    row("command: --bits 1024", "key", "new", "--out", "x.json", "--bits", "1024"),
    row("command: EdDSA", "key", "new", "--out", "x.json", "--alg", "EdDSA"),
    row("command: a JWK to encrypt", "key", "new", "--out", "x.json", "--encrypt"),
    row("command: a key file that does not exist", "key", "show", "gone.pem"),
    row("command: a key file that is none", "key", "show", "notes.txt", files={"notes.txt": "hello"}),
    row("command: key add without an app", "key", "add", variables=ADMIN),
    row(
        "command: two kinds of keys",
        "app",
        "create",
        "--name",
        "x",
        "--jwks",
        "a",
        "--jwks-uri",
        "https://a",
        variables=ADMIN,
    ),
    row(
        "command: a JWKS that is none",
        "app",
        "create",
        "--name",
        "x",
        "--jwks",
        "a",
        variables=ADMIN,
        files={"a": "{}"},
    ),
    row("command: an http JWKS", "app", "create", "--name", "x", "--jwks-uri", "http://a", "--env", variables=ADMIN),
    row("command: no name", "app", "create", "--name", " ", "--env", variables=ADMIN),
    row(
        "command: an okta.yaml that cannot be edited",
        "app",
        "create",
        "--name",
        "x",
        variables=ADMIN,
        files={"okta.yaml": "okta: {\n  client: {\n    a: b } }\n"},
    ),
    row(
        "command: settings for a folder that does not exist",
        "app",
        "create",
        "--name",
        "x",
        "--write",
        "no/okta.yaml",
        variables=ADMIN,
    ),
    row("command: role add without a role", "app", "role", "add", variables=ADMIN),
    row("command: edit without a change", "app", "edit", variables=ADMIN),
    row("command: api without a slash", "api", "GET", "users", variables=SERVICE),
    row("command: api to another host", "api", "GET", "https://evil.example/", variables=SERVICE),
    row("command: a field without a value", "api", "POST", "/api/v1/users", "-f", "name", variables=SERVICE),
    row("command: a field and a body", "api", "POST", "/api/v1/users", "-f", "a=b", "--input", "x", variables=SERVICE),
    row("command: a header without a colon", "api", "GET", "/api/v1/users", "-H", "Accept", variables=SERVICE),
    row("command: token get without settings", "token", "get"),
    row("command: an SSWS mode", "token", "get", variables={**SERVICE, "OKTA_CLIENT_AUTHORIZATIONMODE": "SSWS"}),
    row(
        "command: a misspelled variable",
        "token",
        "get",
        variables={**SERVICE, "OKTA_CLIENT_ORGULR": "https://a.okta.com"},
    ),
    row("command: assertion for a page", "assertion", "--endpoint", "login", variables=SERVICE),
    row("command: doctor for curl", "doctor", "--client", "curl", variables=SERVICE),
    row("command: token clear without a store", "token", "clear", variables=SERVICE),
]
