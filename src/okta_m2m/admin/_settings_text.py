"""The settings of an app as text, for a shell or for ``okta.yaml``.

Invariant: a key appears only as its path, never as its content.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

__all__ = ["environment_lines", "okta_yaml"]


def environment_lines(org_url: str, client_id: str, key_file: str, scopes: Iterable[str]) -> list[str]:
    """``export`` lines for a shell: the variables that :meth:`okta_m2m.ServiceApp.from_env` and Okta's SDKs read.

    - ``org_url``: ``https://acme.okta.com``.
    - ``client_id``: :attr:`App.client_id`.
    - ``key_file``: the path of the private key.
    - ``scopes``: the scopes to request. If there are none, their variable is empty.
    """
    values = {
        "OKTA_CLIENT_ORGURL": org_url,
        "OKTA_CLIENT_AUTHORIZATIONMODE": "PrivateKey",
        "OKTA_CLIENT_CLIENTID": client_id,
        "OKTA_CLIENT_PRIVATEKEY": key_file,
        "OKTA_CLIENT_SCOPES": ",".join(scopes),
    }
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]


def okta_yaml(org_url: str, client_id: str, key_file: str, scopes: Iterable[str]) -> str:
    """The text of an ``okta.yaml``, which :meth:`okta_m2m.ServiceApp.from_env` and Okta's SDKs read.

    - ``org_url``: ``https://acme.okta.com``.
    - ``client_id``: :attr:`App.client_id`.
    - ``key_file``: the path of the private key, relative to the file or absolute.
    - ``scopes``: the scopes to request.
    """
    values: dict[str, object] = {
        "orgUrl": org_url,
        "authorizationMode": "PrivateKey",
        "clientId": client_id,
        "privateKey": key_file,
        "scopes": list(scopes),
    }
    # JSON is also YAML, and it is unambiguous about strings.
    lines = ["okta:", "  client:", *(f"    {name}: {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"
