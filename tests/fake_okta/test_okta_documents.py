"""Provisioning sends, and FakeOkta answers, what Okta's published documents describe.

Invariant: an app is provisioned from nothing to a rotated key, and every request and answer on the way is checked against
the OpenAPI document that Okta publishes for its path. FakeOkta's errors and scopes are those that Okta publishes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from okta_documents import Documents, load_document, okta_documents_folder
from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.admin.key_files import new_key, write_key
from okta_m2m.admin.management import ApiToken, ManagementApi
from okta_m2m.admin.provisioning import (
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
from okta_m2m.testing.fake_okta._refusals import API_ERRORS, OAUTH_ERRORS


@pytest.fixture(scope="module")
def documents() -> Documents:
    return Documents()


@pytest.mark.parametrize("via", ["apps", "clients"])
def test_provisioning_up_to_a_rotated_key_matches_oktas_published_documents(
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
        assert find_app(api, app.id).client_id == app.client_id
        assert list(list_apps(api))
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


def test_every_refusal_has_oktas_own_text() -> None:
    folder = okta_documents_folder()

    def rows(name: str) -> list[dict[str, Any]]:
        document = json.loads((folder / name).read_text())
        return next(value for value in document.values() if isinstance(value, list))

    # Okta's table has `en` where the server fills in a value.
    published = {
        row["internalErrorCode"]: (
            row["statusCode"],
            row["errorCode"],
            re.sub(r"\ben\b", "{}", row["errorDescription"]),
        )
        for row in rows("okta-oauth2-error-codes.json")
    }
    for code, row in OAUTH_ERRORS.items():
        assert row == published[code]
    summaries = {
        row["errorCode"]: (row["statusCode"], row["errorSummary"].replace("{0}", "{}"))
        for row in rows("okta-api-error-codes.json")
    }
    for code, api_row in API_ERRORS.items():
        assert api_row == summaries[code]


def test_the_scopes_are_those_that_okta_publishes(okta: FakeOkta) -> None:
    listed = load_document("management.yaml")["components"]["securitySchemes"]["oauth2"]["flows"]["authorizationCode"]
    # The other document also has the scopes of OpenID Connect.
    schemes = load_document("oauth.yaml")["components"]["securitySchemes"]
    others = {
        scope
        for scheme in schemes.values()
        for flow in scheme.get("flows", {}).values()
        for scope in flow["scopes"]
        if scope.startswith("okta.")
    }
    assert len(listed["scopes"]) == 109
    assert okta.scopes == set(listed["scopes"]) | others
