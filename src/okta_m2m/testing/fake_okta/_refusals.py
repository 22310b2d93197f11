"""Okta's refusals, in Okta's own words.

Invariant: status, code and text are those of Okta's servers (release 2026.08.1 of the two tables that Okta publishes), with
``{}`` where Okta fills in a value. Except for the causes of E0000001, every refusal of FakeOkta is worded here.
"""

from __future__ import annotations

__all__ = ["API_ERRORS", "OAUTH_ERRORS", "ApiRefused", "Refused"]

_INVALID_CLIENT = (401, "invalid_client")
_INVALID_REQUEST = (400, "invalid_request")
_INVALID_SCOPE = (400, "invalid_scope")
_INVALID_PROOF = (400, "invalid_dpop_proof")
_INVALID_TOKEN = (401, "invalid_token")

#: Okta's ``internalErrorCode`` -> (HTTP status, OAuth ``error``, ``error_description``).
OAUTH_ERRORS: dict[str, tuple[int, str, str]] = {
    "client_assertion_already_used": (*_INVALID_CLIENT, "The client_assertion token has already been used."),
    "client_assertion_expiration_required": (
        *_INVALID_CLIENT,
        "The client_assertion must contain the 'exp' claim as seconds since epoch.",
    ),
    "client_assertion_expired_token": (*_INVALID_CLIENT, "The client_assertion token is expired."),
    "client_assertion_expires_too_far_in_future": (
        *_INVALID_CLIENT,
        "The client_assertion token has an expiration too far into the future.",
    ),
    "client_assertion_invalid_audience": (
        *_INVALID_CLIENT,
        "The audience claim for client_assertion must be the endpoint invoked for the request.",
    ),
    "client_assertion_invalid_issuer": (
        *_INVALID_CLIENT,
        "The issuer claim for client_assertion is not a valid client_id.",
    ),
    "client_assertion_invalid_jwks": (*_INVALID_CLIENT, "The client JWKSet is invalid."),
    "client_assertion_invalid_jwt": (*_INVALID_CLIENT, "The parsing of the client_assertion failed."),
    "client_assertion_invalid_kid": (*_INVALID_CLIENT, "The client_assertion JWT kid is invalid."),
    "client_assertion_invalid_signature": (*_INVALID_CLIENT, "The client_assertion signature is invalid."),
    "client_assertion_invalid_signature_algorithm": (
        *_INVALID_CLIENT,
        "The client_assertion JWT signature algorithm is invalid.",
    ),
    "client_assertion_invalid_subject": (
        *_INVALID_CLIENT,
        "The subject claim for client_assertion is not a valid client_id.",
    ),
    "client_assertion_issued_at_in_future": (
        *_INVALID_CLIENT,
        "The client_assertion token must be issued before the current time.",
    ),
    "client_assertion_jwks_not_configured": (
        *_INVALID_CLIENT,
        "The client does not have a JWKSet configured, but the client_assertion requires one.",
    ),
    "client_assertion_not_signed_with_signing_key": (
        *_INVALID_CLIENT,
        "The client_assertion JWT needs to be signed using a signing key.",
    ),
    "invalid_application_type_client_credentials": (
        *_INVALID_CLIENT,
        "Only clients with 'application_type' of 'service' may use the client_credentials 'grant_type' with the Org "
        "Authorization Server.",
    ),
    "invalid_basic_auth_creds": (
        *_INVALID_CLIENT,
        "Found Authentication header but was not valid client credentials.",
    ),
    "invalid_client": (
        *_INVALID_CLIENT,
        "Client authentication failed. Either the client or the client credentials are invalid.",
    ),
    "invalid_client_id": (*_INVALID_CLIENT, "Invalid value for 'client_id' parameter."),
    "jwks_uri_error": (*_INVALID_CLIENT, "Error retrieving the client JWKSet from jwks_uri."),
    "missing_client_credentials": (*_INVALID_CLIENT, "No client credentials found."),
    "unsupported_auth_method_client_creds": (
        *_INVALID_CLIENT,
        "Client Credentials requests to the Org Authorization Server must use the private_key_jwt "
        "token_endpoint_auth_method.",
    ),
    "access_token_in_query": (*_INVALID_REQUEST, "The access token cannot be presented in a query string."),
    "client_assertion_type_invalid": (*_INVALID_REQUEST, "The client_assertion_type is invalid."),
    "client_credentials_in_query": (
        *_INVALID_REQUEST,
        "Client credentials cannot be supplied via query parameters.",
    ),
    "dpop_authentication_scheme_required": (
        *_INVALID_REQUEST,
        "The resource request must use the DPoP authentication scheme when using a DPoP bound token.",
    ),
    "dpop_proof_required_for_token": (*_INVALID_REQUEST, "The resource request requires a DPoP proof."),
    "duplicate_oauth_params": (
        *_INVALID_REQUEST,
        "The request contained multiple parameters with the same name.",
    ),
    "invalid_request": (*_INVALID_REQUEST, "Invalid request"),
    "request_missing_token": (*_INVALID_REQUEST, "The 'token' parameter is required."),
    "token_request_missing_grant_type": (
        *_INVALID_REQUEST,
        "The token request must specify a 'grant_type'. Valid values: [{}]",
    ),
    "access_token_missing": (401, "invalid_request", "The access token is missing."),
    "multiple_client_credentials": (
        401,
        "invalid_request",
        "Cannot supply multiple client credentials. Use one of the following: credentials in the Authorization "
        "header, credentials in the post body, or a client_assertion in the post body.",
    ),
    "invalid_scope": (
        *_INVALID_SCOPE,
        "The requested scope is invalid, unknown, malformed, or exceeds the scope granted by the resource owner.",
    ),
    "missing_scopes": (*_INVALID_SCOPE, "No scopes were requested."),
    "no_default_scopes": (
        *_INVALID_SCOPE,
        "The authorization server resource does not have any configured default scopes, 'scope' must be provided.",
    ),
    "no_matching_scope": (
        *_INVALID_SCOPE,
        "One or more scopes are not configured for the authorization server resource.",
    ),
    "openid_not_allowed_client_creds": (
        *_INVALID_SCOPE,
        "Cannot request 'openid' scopes using client credentials.",
    ),
    "no_org_scopes_granted": (400, "consent_required", "You are not allowed any of the requested scopes."),
    "client_credentials_self_scope_requested": (
        400,
        "client_credentials_self_scope_requested",
        "The 'client_credentials' grant type may not request .self scopes.",
    ),
    "unauthorized_client": (
        400,
        "unauthorized_client",
        "The client is not authorized to use the provided grant type. Configured grant types: [{}].",
    ),
    "org_authorization_server_only_client": (
        400,
        "unauthorized_client",
        "This client cannot use a custom authorization server.",
    ),
    "unsupported_grant_type": (
        400,
        "unsupported_grant_type",
        "The authorization grant type is not supported by the authorization server. Configured grant types: [{}].",
    ),
    "no_matching_policy": (
        401,
        "access_denied",
        "Policy evaluation failed for this request, please check the policy configurations.",
    ),
    "access_denied": (403, "access_denied", "The resource owner or authorization server denied the request."),
    "disallowed_network_zone": (
        403,
        "access_denied",
        "The request is made from outside the client's permitted network zones.",
    ),
    "dpop_proof_already_used": (*_INVALID_PROOF, "The DPoP proof JWT has already been used."),
    "dpop_proof_invalid_ath": (
        *_INVALID_PROOF,
        "'ath' claim in the DPoP proof does not match the presented access_token.",
    ),
    "invalid_access_token_dpop_binding": (
        *_INVALID_PROOF,
        "The access_token is not bound to the provided DPoP proof.",
    ),
    "invalid_dpop_proof": (*_INVALID_PROOF, "The DPoP proof JWT is invalid."),
    "invalid_dpop_proof_invalid_htm": (*_INVALID_PROOF, "'htm' claim in the DPoP proof JWT is invalid."),
    "invalid_dpop_proof_invalid_htu": (*_INVALID_PROOF, "'htu' claim in the DPoP proof JWT is invalid."),
    "invalid_dpop_proof_invalid_iat": (*_INVALID_PROOF, "'iat' claim in the DPoP proof JWT is invalid."),
    "invalid_dpop_proof_invalid_jti": (*_INVALID_PROOF, "'jti' claim in the DPoP proof JWT is invalid."),
    "invalid_dpop_proof_invalid_jwt": (*_INVALID_PROOF, "The DPoP proof JWT cannot be parsed."),
    "invalid_dpop_proof_invalid_signature": (*_INVALID_PROOF, "The DPoP proof JWT signature is invalid."),
    "invalid_dpop_proof_invalid_signature_algorithm": (
        *_INVALID_PROOF,
        "The DPoP proof JWT signature algorithm is invalid.",
    ),
    "invalid_dpop_proof_invalid_type": (*_INVALID_PROOF, "'typ' must be 'dpop+jwt' in the DPoP proof JWT."),
    "invalid_dpop_proof_jwt_expired": (*_INVALID_PROOF, "The DPoP proof JWT is expired."),
    "invalid_dpop_proof_jwt_issued_in_future": (*_INVALID_PROOF, "The DPoP proof JWT is issued in the future."),
    "invalid_dpop_proof_jwt_too_old": (
        *_INVALID_PROOF,
        "The DPoP proof JWT is issued more than five minutes in the past.",
    ),
    "invalid_dpop_proof_missing_header": (*_INVALID_PROOF, "The DPoP proof JWT header is missing."),
    "invalid_dpop_proof_multiple_headers_not_allowed": (
        *_INVALID_PROOF,
        "Multiple DPoP proof JWT headers are not allowed.",
    ),
    "use_dpop_nonce": (400, "use_dpop_nonce", "Authorization server requires nonce in DPoP proof."),
    "invalid_client_metadata": (400, "invalid_client_metadata", "Invalid request"),
    "jwks_uri_no_key": (*_INVALID_CLIENT, "The client JWKSet from jwks_uri must contain at least one key."),
    "invalid_token": (*_INVALID_TOKEN, "The token is invalid."),
    "access_token_invalid": (*_INVALID_TOKEN, "The access token is invalid."),
    "access_token_invalid_audience": (*_INVALID_TOKEN, "The access token provided is not intended for Okta."),
    "access_token_invalid_issuer": (*_INVALID_TOKEN, "The access token provided has an invalid issuer."),
    "access_token_not_dpop_bound": (*_INVALID_TOKEN, "The presented access_token is not DPoP bound."),
    "access_token_revoked": (*_INVALID_TOKEN, "The access token has been revoked."),
    "token_expired": (*_INVALID_TOKEN, "The token has expired."),
    "insufficient_scope": (403, "insufficient_scope", "Insufficient scope"),
    "access_token_insufficient_scopes": (
        403,
        "insufficient_scope",
        "The access token provided does not contain the required scopes.",
    ),
    "server_error": (
        500,
        "server_error",
        "The authorization server encountered an unexpected condition that prevented it from fulfilling the request.",
    ),
    "temporarily_unavailable": (
        400,
        "temporarily_unavailable",
        "The authorization server is currently unable to handle the request due to a temporary overloading or "
        "maintenance of the server.",
    ),
}

#: ``errorCode`` of the management API -> (HTTP status, ``errorSummary``).
API_ERRORS: dict[str, tuple[int, str]] = {
    "E0000001": (400, "Api validation failed: {}"),
    "E0000003": (400, "The request body was not well-formed."),
    "E0000004": (401, "Authentication failed"),
    "E0000005": (403, "Invalid session"),
    "E0000006": (403, "You do not have permission to perform the requested action"),
    "E0000007": (404, "Not found: {}"),
    "E0000009": (500, "Internal Server Error"),
    "E0000010": (503, "Service is in read only mode"),
    "E0000011": (401, "Invalid token provided"),
    "E0000015": (401, "You do not have permission to access the feature you are requesting"),
    "E0000021": (400, "Bad request.  Accept and/or Content-Type headers likely do not match supported values."),
    "E0000022": (405, "The endpoint does not support the provided HTTP method"),
    "E0000047": (429, "API call exceeded rate limit due to too many requests."),
    "E0000056": (403, "Delete application forbidden."),
    "E0000090": (409, "The role specified is already assigned to the user."),
}


class Refused(Exception):
    """A refusal in OAuth's format. ``code`` is Okta's ``internalErrorCode``, a key of :data:`OAUTH_ERRORS`."""

    def __init__(self, code: str, filled: str = "", *, nonce: str | None = None, scope: str | None = None) -> None:
        status, error, description = OAUTH_ERRORS[code]
        super().__init__(code)
        self.code = code
        self.status = status
        self.error = error
        self.description = description.format(filled)
        self.nonce = nonce  # sent as ``dpop-nonce``
        self.scope = scope  # the scope that the challenge names


class ApiRefused(Exception):
    """A refusal in the management API's format. ``code`` is a key of :data:`API_ERRORS`; ``causes`` are ``errorCauses``."""

    def __init__(self, code: str, filled: str = "", *causes: str) -> None:
        status, summary = API_ERRORS[code]
        super().__init__(code)
        self.status = status
        self.error = code
        self.description = summary.format(filled)
        self.causes = causes
