"""What is sent to the management API, and what is understood of its answers, is what Okta's own documents describe.

Invariant: a whole way from nothing to a rotated key is walked, through either endpoint, and every request and every answer
on it is held against the OpenAPI document that Okta publishes for its path.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from test_fake_management import published, translated, without_circles

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m._core.key_files import new_key, write_key
from okta_m2m.admin.provisioning import (
    ApiToken,
    ManagementApi,
    Via,
    activate_app,
    assign_custom_role,
    assign_role,
    create_app,
    deactivate_app,
    find_app,
    grant_scopes,
    list_apps,
    list_roles,
    revoke_scopes,
    set_dpop,
    unassign_role,
)
from okta_m2m.admin.rotation import Rotation
from okta_m2m.testing import FakeOkta

# The document names 200 for what Okta was recorded to answer with 201.
LISTED_OTHERWISE = {("/oauth2/v1/clients/{clientId}/roles", "post", "201"): "200"}


class Documents:
    """Okta's OpenAPI documents."""

    def __init__(self) -> None:
        self._documents = [published("management.yaml"), published("oauth.yaml")]

    def find(self, method: str, path: str) -> tuple[dict[str, Any], str]:
        for document in self._documents:
            # A path without a parameter is meant before one with.
            for template in sorted(document["paths"], key=lambda one: one.count("{")):
                pattern = re.sub(r"\\{[^/]+?\\}", "[^/]+", re.escape(template))
                if re.fullmatch(pattern, path) and method.lower() in document["paths"][template]:
                    return document, template
        raise AssertionError(f"Okta's documents do not have {method} {path}")

    def check(self, response: requests.Response) -> str:
        method, path = str(response.request.method), urlsplit(str(response.request.url)).path
        document, template = self.find(method, path)
        operation = document["paths"][template][method.lower()]
        if response.request.body:
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            self._fits(document, body, json.loads(response.request.body), f"sent to {method} {template}")
        status = str(response.status_code)
        answer = operation["responses"][LISTED_OTHERWISE.get((template, method.lower(), status), status)]
        while "$ref" in answer:
            answer = _resolved(document, answer["$ref"])
        if response.content and "application/json" in answer.get("content", {}):
            schema = answer["content"]["application/json"]["schema"]
            self._fits(document, schema, response.json(), f"answered by {method} {template}")
        return f"{method} {template}"

    def _fits(self, document: dict[str, Any], schema: dict[str, Any], value: object, what: str) -> None:
        import jsonschema

        whole = {"components": {"schemas": _schemas(self, document["info"]["title"])}, **translated(schema)}
        fault = jsonschema.exceptions.best_match(jsonschema.Draft4Validator(whole).iter_errors(value))
        assert fault is None, (what, [(leaf.message[:200], list(leaf.absolute_path)) for leaf in _leaves(fault)])

    def titled(self, title: str) -> dict[str, Any]:
        return next(document for document in self._documents if document["info"]["title"] == title)


@cache
def _schemas(documents: Documents, title: str) -> dict[str, Any]:
    return without_circles(translated(documents.titled(title)["components"]["schemas"]))


def _resolved(document: dict[str, Any], ref: str) -> Any:
    found: Any = document
    for part in ref.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _leaves(fault: Any) -> list[Any]:
    return [leaf for inner in fault.context for leaf in _leaves(inner)] if fault.context else [fault]


@pytest.fixture(scope="module")
def documents() -> Documents:
    pytest.importorskip("jsonschema")
    return Documents()


@pytest.mark.parametrize("via", ["apps", "clients"])
def test_the_way_from_nothing_to_a_rotated_key_is_that_of_oktas_documents(
    okta: FakeOkta, documents: Documents, via: Via, tmp_path: Path
) -> None:
    exchanged: list[requests.Response] = []
    write_key(tmp_path / "key.json", new_key("ES256"))
    key = PrivateKey.from_file(tmp_path / "key.json")
    with requests.Session() as session:
        session.hooks["response"].append(lambda response, **_: exchanged.append(response))
        api = ManagementApi(okta.url, ApiToken(okta.ssws), session=session)
        app = create_app(api, "billing", jwks=key.jwks(), via=via, dpop=True).app
        assert not create_app(api, "billing", jwks=key.jwks(), via=via).created
        assert find_app(api, app.id, via=via).client_id == app.client_id
        assert list(list_apps(api, via=via))
        set_dpop(api, app.id, False)
        grant_scopes(api, app.id, ["okta.users.read", "okta.groups.read"])
        revoke_scopes(api, app.id, ["okta.groups.read"])
        standard = assign_role(api, app.client_id, "READ_ONLY_ADMIN").role
        assign_custom_role(api, app.client_id, "cr04cxy6yzSCtNciD0g7", "iam4cxy6z7hhaZCSk0g7")
        unassign_role(api, app.client_id, standard.id)
        assert [role.type for role in list_roles(api, app.client_id)] == ["CUSTOM"]

        def service(signer: Any) -> ServiceApp:
            return ServiceApp(okta.url, client_id=app.client_id, key=signer, scopes=["okta.users.read"])

        Rotation(api, app.id, tmp_path / "key.json", service=service, grace=0).run()
        deactivate_app(api, app.id)
        activate_app(api, app.id)
    seen = {documents.check(response) for response in exchanged}
    keys = "/api/v1/apps/{appId}/credentials/jwks"
    assert {
        "POST /api/v1/apps" if via == "apps" else "POST /oauth2/v1/clients",
        "POST /api/v1/apps/{appId}/grants",
        "POST /oauth2/v1/clients/{clientId}/roles",
        f"POST {keys}",
        f"DELETE {keys}/{{keyId}}",
    } <= seen
