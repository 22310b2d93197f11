"""``/api/v1/apps/{id}/credentials/jwks``: the public keys of an app.

Invariant: an app that authenticates with a key keeps at least one active key, and at most 50 keys in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .._access import Caller
from .._app import App
from .._jws import MIN_RSA_BITS, PRIVATE_MEMBERS, rsa_bits, thumbprint
from .._messages import Answer, ReceivedRequest, json_answer
from .._org import Org, new_id
from .._refusals import FieldError
from .requests import Collection, link, read_body, timestamp

_MAX_KEYS = 50
_CURVES = {"P-256", "P-384", "P-521"}

_UNIQUE_KIDS = "All keys in the 'jwks' must have a unique `kid`."
_KIDS_WITH_SEVERAL = (
    "Each key should have a unique kid when adding multiple keys. Use the Apps API to update the JWKS to add a kid for the "
    "existing key, or delete the existing key and re-add the key with a kid using the JWKS APIs."
)
_RSA_TOO_SHORT = "RSA key length in the 'jwks' is less than '2,048' bits for the given key."
_TOO_MANY_KEYS = (
    "You can't create a new key. You have reached the maximum number of keys allowed (50). To add another key, you must "
    "first delete an existing one."
)
_DELETE_ACTIVE = "You can't delete an active JSON Web Key. Deactivate the key before deleting it."
_ONLY_ACTIVE = (
    "Can't deactivate the only active JSON Web Key when the value for `token_endpoint_auth_method` is "
    "`private_key_jwt`."
)


def _add_key(org: Org, request: ReceivedRequest, caller: Caller, app: App) -> dict[str, Any]:
    jwk = read_key(read_body(request))
    present = app_keys(org, app)
    check_key_set([jwk], present)
    jwk.pop("id", None)
    app.change_follows(org.settling)
    # An app with its own keys does not fetch any.
    app.jwks_uri = None
    app.jwks = {"keys": [*present, jwk]}
    return app_keys(org, app)[-1]


def _remove_key(org: Org, app: App, jwk: Mapping[str, Any]) -> None:
    if jwk["status"] == "ACTIVE":
        raise FieldError("JsonWebKey", _DELETE_ACTIVE)
    app.change_follows(org.settling)
    app.jwks = {"keys": [other for other in app.jwks["keys"] if other is not jwk]}


def set_key_status(org: Org, request: ReceivedRequest, caller: Caller, app: App, id: str, action: str) -> Answer:
    """``.../lifecycle/activate`` and ``.../lifecycle/deactivate``."""
    jwk = KEYS.find(org, app, id)
    status = "ACTIVE" if action == "activate" else "INACTIVE"
    active = [other for other in app_keys(org, app) if other["status"] == "ACTIVE"]
    if status == "INACTIVE" and active == [jwk] and app.token_endpoint_auth_method == "private_key_jwt":
        raise FieldError("JsonWebKey", _ONLY_ACTIVE)
    if jwk["status"] != status:
        app.change_follows(org.settling)
        jwk["status"] = status
        org.records.mark_updated("key", jwk["id"])
    return json_answer(200, key_document(org, app, jwk))


def read_key(jwk: object) -> dict[str, Any]:
    """The members of a public key that Okta keeps. Raises :class:`FieldError` for a key that Okta does not accept."""
    if not isinstance(jwk, Mapping):
        raise FieldError("JsonWebKey", "The key must be a JSON object.")
    if PRIVATE_MEMBERS & jwk.keys():
        raise FieldError("JsonWebKey", "The key must be a public key.")
    kid, status = jwk.get("kid"), jwk.get("status")
    if kid is not None and not isinstance(kid, str):
        raise FieldError("JsonWebKey", "kid: The field must be a string.")
    if status not in (None, "ACTIVE", "INACTIVE"):
        raise FieldError("JsonWebKey", "status: The field must be ACTIVE or INACTIVE.")
    if jwk.get("use") not in (None, "sig"):
        raise FieldError("JsonWebKey", "use: The field must be sig. FakeOkta supports no other use.")
    try:
        thumbprint(jwk)
    except ValueError:
        raise FieldError(
            "JsonWebKey", "kty: The key must be an RSA or EC key with all members that its type requires."
        ) from None
    if jwk["kty"] == "EC" and jwk["crv"] not in _CURVES:
        raise FieldError("JsonWebKey", "crv: The curve must be P-256, P-384 or P-521.")
    if jwk["kty"] == "RSA" and rsa_bits(jwk) < MIN_RSA_BITS:
        raise FieldError("JsonWebKey", _RSA_TOO_SHORT)
    kept = ("kty", "kid", "alg", "use", "e", "n", "crv", "x", "y", "status", "id")
    return {name: jwk[name] for name in kept if jwk.get(name) is not None}


def check_key_set(new: Sequence[Mapping[str, Any]], present: Sequence[Mapping[str, Any]]) -> None:
    """Raises :class:`FieldError` if the ``new`` keys cannot be added to those that are ``present``."""
    together = [*present, *new]
    if len(together) > _MAX_KEYS:
        raise FieldError("JsonWebKey", _TOO_MANY_KEYS)
    kids = [jwk.get("kid") for jwk in together]
    if len(together) > 1 and None in kids:
        raise FieldError("JsonWebKey", _KIDS_WITH_SEVERAL if present else _UNIQUE_KIDS)
    if len(set(kids)) < len(kids):
        raise FieldError("JsonWebKey", _UNIQUE_KIDS)


def app_keys(org: Org, app: App) -> list[dict[str, Any]]:
    """The app's own list of keys. A key that was not added by this API gets its id here, when it is first looked up."""
    for jwk in app.jwks["keys"]:
        jwk.setdefault("id", new_id("pks"))
        jwk.setdefault("status", "ACTIVE")
        org.records.find("key", jwk["id"])
    return app.jwks["keys"]


def key_document(org: Org, app: App, jwk: Mapping[str, Any], *, links: bool = True) -> dict[str, Any]:
    """A key as the Apps API shows it."""
    record = org.records.find("key", jwk["id"])
    shown = ("id", "kid", "kty", "alg", "use", "e", "n", "crv", "x", "y", "status")
    document = {name: jwk[name] for name in shown if name in jwk}
    document |= {"use": jwk.get("use", "sig"), "kid": jwk.get("kid")}
    document |= {"created": timestamp(record.created), "lastUpdated": timestamp(record.updated)}
    if not links:
        return document
    url = f"{org.url}/api/v1/apps/{quote(app.id)}/credentials/jwks/{jwk['id']}"
    if jwk["status"] == "ACTIVE":
        document["_links"] = {"deactivate": link(f"{url}/lifecycle/deactivate", "POST")}
    else:
        document["_links"] = {"activate": link(f"{url}/lifecycle/activate", "POST"), "delete": link(url, "DELETE")}
    return document


KEYS = Collection("JsonWebKey", app_keys, key_document, add=_add_key, remove=_remove_key)
