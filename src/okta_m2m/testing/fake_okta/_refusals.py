"""Okta's refusals, in Okta's own words and formats: OAuth JSON, the management API's JSON, or a ``WWW-Authenticate`` challenge.

Invariant: status, code and text are those of Okta's servers (release 2026.08.1 of the two tables that Okta publishes), with
``{}`` where Okta fills in a value. Except for the causes of E0000001, every refusal of FakeOkta is worded here.

At the management API an OAuth refusal has an empty body and its reason in ``WWW-Authenticate``, as recorded at Okta (status
400 for proofs). An API behind a custom server responds as RFC 6750 and RFC 9449 say (401).
"""

from __future__ import annotations

import secrets

from ._jws import ALGORITHMS
from ._messages import READING, Answer, ReceivedRequest, json_answer

_ALGS = " ".join(ALGORITHMS)

#: HTTP status and OAuth ``error`` -> Okta's ``internalErrorCode`` -> ``error_description``.
_OAUTH_TEXTS: dict[tuple[int, str], dict[str, str]] = {
    (401, "invalid_client"): {
        "client_assertion_already_used": "The client_assertion token has already been used.",
        "client_assertion_expiration_required": "The client_assertion must contain the 'exp' claim as seconds since epoch.",
        "client_assertion_expired_token": "The client_assertion token is expired.",
        "client_assertion_expires_too_far_in_future": "The client_assertion token has an expiration too far into the future.",
        "client_assertion_invalid_audience": (
            "The audience claim for client_assertion must be the endpoint invoked for the request."
        ),
        "client_assertion_invalid_issuer": "The issuer claim for client_assertion is not a valid client_id.",
        "client_assertion_invalid_jwks": "The client JWKSet is invalid.",
        "client_assertion_invalid_jwt": "The parsing of the client_assertion failed.",
        "client_assertion_invalid_kid": "The client_assertion JWT kid is invalid.",
        "client_assertion_invalid_signature": "The client_assertion signature is invalid.",
        "client_assertion_invalid_signature_algorithm": "The client_assertion JWT signature algorithm is invalid.",
        "client_assertion_invalid_subject": "The subject claim for client_assertion is not a valid client_id.",
        "client_assertion_issued_at_in_future": "The client_assertion token must be issued before the current time.",
        "client_assertion_jwks_not_configured": (
            "The client does not have a JWKSet configured, but the client_assertion requires one."
        ),
        "client_assertion_not_signed_with_signing_key": "The client_assertion JWT needs to be signed using a signing key.",
        "invalid_application_type_client_credentials": (
            "Only clients with 'application_type' of 'service' may use the client_credentials 'grant_type' with "
            "the Org Authorization Server."
        ),
        "invalid_basic_auth_creds": "Found Authentication header but was not valid client credentials.",
        "invalid_client": "Client authentication failed. Either the client or the client credentials are invalid.",
        "invalid_client_id": "Invalid value for 'client_id' parameter.",
        "jwks_uri_error": "Error retrieving the client JWKSet from jwks_uri.",
        "jwks_uri_no_key": "The client JWKSet from jwks_uri must contain at least one key.",
        "missing_client_credentials": "No client credentials found.",
        "unsupported_auth_method_client_creds": (
            "Client Credentials requests to the Org Authorization Server must use the private_key_jwt "
            "token_endpoint_auth_method."
        ),
    },
    (400, "invalid_request"): {
        "access_token_in_query": "The access token cannot be presented in a query string.",
        "client_assertion_type_invalid": "The client_assertion_type is invalid.",
        "client_credentials_in_query": "Client credentials cannot be supplied via query parameters.",
        "dpop_authentication_scheme_required": (
            "The resource request must use the DPoP authentication scheme when using a DPoP bound token."
        ),
        "dpop_proof_required_for_token": "The resource request requires a DPoP proof.",
        "duplicate_oauth_params": "The request contained multiple parameters with the same name.",
        "id_jag_scopes_in_request": "The id-jag request must not include a 'scope' parameter.",
        "invalid_actor_token": "'actor_token' is invalid.",
        "invalid_actor_token_type": "'actor_token_type' is invalid or not supported.",
        "invalid_request": "Invalid request",
        "invalid_requested_token_type": "'requested_token_type' is invalid or not supported.",
        "invalid_subject_token": "'subject_token' is invalid.",
        "invalid_subject_token_act_claim_depth": "The 'subject_token' 'act' claim contains too many nested actors.",
        "invalid_subject_token_authorization_server": (
            "'subject_token' is invalid: the authorization server that issued it is not valid."
        ),
        "invalid_subject_token_client_inactive": (
            "'subject_token' is invalid: the client application referenced in the token is not active."
        ),
        "invalid_subject_token_client_not_registered": (
            "'subject_token' is invalid: the client application is not registered for delegation to this agent."
        ),
        "invalid_subject_token_issuer_not_allowed": (
            "'subject_token' is invalid: the token issuer is not allowed for this exchange."
        ),
        "invalid_subject_token_no_delegation_link": (
            "'subject_token' is invalid: no delegation policy authorizes this token."
        ),
        "invalid_subject_token_session_expired": (
            "'subject_token' is invalid: the session associated with it is no longer active."
        ),
        "invalid_subject_token_type": "'subject_token_type' is invalid or not supported.",
        "invalid_subject_token_user_inactive": "'subject_token' is invalid: the user account is not active.",
        "invalid_subject_token_user_not_assigned": (
            "'subject_token' is invalid: the user is not assigned to the client application."
        ),
        "missing_token_request_parameter": "The required parameter '{}' is missing.",
        "on_behalf_invalid_client_type": "Only service clients may use on-behalf token exchange.",
        "request_missing_token": "The 'token' parameter is required.",
        "token_request_missing_grant_type": "The token request must specify a 'grant_type'. Valid values: [{}]",
    },
    (401, "invalid_request"): {
        "access_token_missing": "The access token is missing.",
        "multiple_client_credentials": (
            "Cannot supply multiple client credentials. Use one of the following: credentials in the "
            "Authorization header, credentials in the post body, or a client_assertion in the post body."
        ),
    },
    (400, "invalid_scope"): {
        "invalid_scope": (
            "The requested scope is invalid, unknown, malformed, or exceeds the scope granted by the resource owner."
        ),
        "missing_scopes": "No scopes were requested.",
        "no_default_scopes": (
            "The authorization server resource does not have any configured default scopes, 'scope' must be provided."
        ),
        "no_matching_scope": "One or more scopes are not configured for the authorization server resource.",
        "openid_not_allowed_client_creds": "Cannot request 'openid' scopes using client credentials.",
        "openid_not_allowed_token_exchange": (
            "Can't request 'openid' scopes using the Token Exchange flow for a service app."
        ),
    },
    (400, "invalid_grant"): {
        "token_exchange_subject_token_expired": (
            "The 'subject_token' either expired or the session associated with it was terminated."
        ),
        "id_jag_client_mismatch": (
            "The 'client_id' in the JWT Bearer Grant must match the 'client_id' used to authenticate the client."
        ),
        "id_jag_expired": "The id-jag is expired.",
        "id_jag_invalid_signature": "The signature of the id-jag is invalid.",
        "id_jag_invalid_subject": "The 'sub' claim in the id-jag is invalid.",
        "id_jag_lacking_scopes": "The id-jag must include at least one scope.",
        "id_jag_replayed": "The id-jag was already used.",
        "id_jag_resource_mismatch": (
            "The 'resource' claim in the id-jag does not match the 'resource' parameter in the request."
        ),
        "id_jag_resource_not_allowed_for_as": (
            "The 'resource' claim in the id-jag is not valid for this authorization server."
        ),
        "id_jag_untrusted_issuer": "The issuer of the id-jag is not a trusted authorization server.",
        "jwt_bearer_grant_invalid_audience": (
            "The audience of the JWT Bearer Grant must match the the issuer of the authorization server."
        ),
    },
    (400, "invalid_target"): {
        "token_exchange_invalid_audience": (
            "Token Exchange requests must include a valid audience of the authorization server."
        ),
        "token_exchange_invalid_resource": "'resource' is invalid or not supported.",
        "too_many_resources": "Too many 'resource' parameters in the request; maximum allowed is {}.",
        "unsupported_resource": "The authorization server has rejected the 'resource' parameter: {}",
    },
    (400, "consent_required"): {
        "no_org_scopes_granted": "You are not allowed any of the requested scopes.",
        "consent_required_token_exchange": (
            "The following scopes require user consent: [{}]. To access protected scopes using the token_exchange password "
            "grant type, please uncheck 'Require consent' in the app settings or set the apps 'consent_method' to 'TRUSTED'."
        ),
    },
    (400, "client_credentials_self_scope_requested"): {
        "client_credentials_self_scope_requested": "The 'client_credentials' grant type may not request .self scopes.",
    },
    (400, "unauthorized_client"): {
        "unauthorized_client": "The client is not authorized to use the provided grant type. Configured grant types: [{}].",
        "org_authorization_server_only_client": "This client cannot use a custom authorization server.",
    },
    (400, "unsupported_grant_type"): {
        "unsupported_grant_type": (
            "The authorization grant type is not supported by the authorization server. Configured grant types: [{}]."
        ),
    },
    (401, "access_denied"): {
        "no_matching_policy": "Policy evaluation failed for this request, please check the policy configurations.",
    },
    (403, "access_denied"): {
        "access_denied": "The resource owner or authorization server denied the request.",
        "associated_server_not_trusted": "The 'subject_token' issuer isn't a trusted authorization server.",
        "disallowed_network_zone": "The request is made from outside the client's permitted network zones.",
    },
    (400, "invalid_dpop_proof"): {
        "dpop_proof_already_used": "The DPoP proof JWT has already been used.",
        "dpop_proof_invalid_ath": "'ath' claim in the DPoP proof does not match the presented access_token.",
        "invalid_access_token_dpop_binding": "The access_token is not bound to the provided DPoP proof.",
        "invalid_dpop_proof": "The DPoP proof JWT is invalid.",
        "invalid_dpop_proof_invalid_htm": "'htm' claim in the DPoP proof JWT is invalid.",
        "invalid_dpop_proof_invalid_htu": "'htu' claim in the DPoP proof JWT is invalid.",
        "invalid_dpop_proof_invalid_iat": "'iat' claim in the DPoP proof JWT is invalid.",
        "invalid_dpop_proof_invalid_jti": "'jti' claim in the DPoP proof JWT is invalid.",
        "invalid_dpop_proof_invalid_jwt": "The DPoP proof JWT cannot be parsed.",
        "invalid_dpop_proof_invalid_signature": "The DPoP proof JWT signature is invalid.",
        "invalid_dpop_proof_invalid_signature_algorithm": "The DPoP proof JWT signature algorithm is invalid.",
        "invalid_dpop_proof_invalid_type": "'typ' must be 'dpop+jwt' in the DPoP proof JWT.",
        "invalid_dpop_proof_jwt_expired": "The DPoP proof JWT is expired.",
        "invalid_dpop_proof_jwt_issued_in_future": "The DPoP proof JWT is issued in the future.",
        "invalid_dpop_proof_jwt_too_old": "The DPoP proof JWT is issued more than five minutes in the past.",
        "invalid_dpop_proof_missing_header": "The DPoP proof JWT header is missing.",
        "invalid_dpop_proof_multiple_headers_not_allowed": "Multiple DPoP proof JWT headers are not allowed.",
    },
    (400, "use_dpop_nonce"): {
        "use_dpop_nonce": "Authorization server requires nonce in DPoP proof.",
    },
    (400, "invalid_client_metadata"): {
        "invalid_client_metadata": "Invalid request",
    },
    (401, "invalid_token"): {
        "invalid_token": "The token is invalid.",
        "access_token_invalid": "The access token is invalid.",
        "access_token_invalid_audience": "The access token provided is not intended for Okta.",
        "access_token_invalid_issuer": "The access token provided has an invalid issuer.",
        "access_token_not_dpop_bound": "The presented access_token is not DPoP bound.",
        "access_token_revoked": "The access token has been revoked.",
        "token_expired": "The token has expired.",
    },
    (403, "insufficient_scope"): {
        "insufficient_scope": "Insufficient scope",
        "access_token_insufficient_scopes": "The access token provided does not contain the required scopes.",
    },
    (500, "server_error"): {
        "server_error": (
            "The authorization server encountered an unexpected condition that prevented it from fulfilling the "
            "request."
        ),
    },
    (400, "temporarily_unavailable"): {
        "temporarily_unavailable": (
            "The authorization server is currently unable to handle the request due to a temporary overloading "
            "or maintenance of the server."
        ),
    },
}

#: Okta's ``internalErrorCode`` -> (HTTP status, OAuth ``error``, ``error_description``).
OAUTH_ERRORS = {
    code: (status, error, text) for (status, error), texts in _OAUTH_TEXTS.items() for code, text in texts.items()
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
    "E0000053": (400, "Invalid SCIM filter."),
    "E0000056": (403, "Delete application forbidden."),
    "E0000090": (409, "The role specified is already assigned to the user."),
}


#: The code of either table -> (HTTP status, ``error`` or ``errorCode``, text).
ERRORS = OAUTH_ERRORS | {code: (status, code, text) for code, (status, text) in API_ERRORS.items()}


class Refused(Exception):
    """A refusal. ``code`` is a key of :data:`OAUTH_ERRORS` or of :data:`API_ERRORS`, which decides its format.

    ``filled`` replaces the ``{}`` of the text. ``causes`` are the ``errorCauses`` of the management API.
    """

    def __init__(
        self, code: str, filled: str = "", *causes: str, nonce: str | None = None, scope: str | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status, self.error, description = ERRORS[code]
        self.description = description.format(filled)
        self.causes = causes
        self.nonce = nonce  # sent as ``dpop-nonce``
        self.scope = scope  # the scope that the challenge names


class FieldError(Refused):
    """An error in a field or parameter of a request to the management API: 400 E0000001 with its cause."""

    def __init__(self, field: str, cause: str) -> None:
        super().__init__("E0000001", field, cause)


def not_found(id: str, kind: str) -> Refused:
    """404 E0000007."""
    return Refused("E0000007", f"Resource not found: {id} ({kind})")


def refusal_answer(
    request: ReceivedRequest, refused: Refused, *, is_api: bool, protected: tuple[str, str | None] | None
) -> Answer:
    """The response that carries a refusal.

    - ``is_api``: whether the request was to an API, not to an OAuth endpoint.
    - ``protected``: for an API behind a custom server: that server's id, and the scope that is needed. ``refused`` gets the
      status and the error that RFC 6750 and RFC 9449 require there.
    """
    if refused.code in API_ERRORS:
        return api_error_answer(refused)
    if is_api and refused.error != "invalid_client_metadata":
        challenge = (
            _okta_challenge(request, refused) if protected is None else _rfc_challenge(request, refused, protected[1])
        )
        answer = Answer(refused.status, [("WWW-Authenticate", challenge)])
    else:
        answer = json_answer(refused.status, {"error": refused.error, "error_description": refused.description})
    if refused.nonce:
        answer.headers.append(("dpop-nonce", refused.nonce))
    return answer


def api_error_answer(refused: Refused) -> Answer:
    """A refusal as the management API's JSON."""
    content = {
        "errorCode": refused.error,
        "errorSummary": refused.description,
        "errorLink": refused.error,
        "errorId": f"oae{secrets.token_urlsafe(16)}",
        "errorCauses": [{"errorSummary": cause} for cause in refused.causes],
    }
    return json_answer(refused.status, content)


def _rfc_challenge(request: ReceivedRequest, refused: Refused, scope: str | None) -> str:
    if refused.code == "access_token_missing":
        # RFC 6750 section 3.1: no error code for a request without a token.
        return f'Bearer, DPoP algs="{_ALGS}"'
    if refused.code in ("dpop_proof_required_for_token", "dpop_authentication_scheme_required"):
        # RFC 9449 section 7.2: a bound token without its proof or its scheme is an invalid token.
        refused.status, refused.error = 401, "invalid_token"
    elif refused.error in ("invalid_dpop_proof", "use_dpop_nonce"):
        # RFC 9449 section 7.1: 401, unlike Okta's 400.
        refused.status = 401
    is_dpop = "dpop" in refused.code or _has_dpop_scheme(request)
    parts = [f'error="{refused.error}"', f'error_description="{refused.description}"']
    parts += [f'algs="{_ALGS}"'] if is_dpop else []
    parts += [f'scope="{scope}"'] if scope is not None else []
    return f"{'DPoP' if is_dpop else 'Bearer'} {', '.join(parts)}"


def _okta_challenge(request: ReceivedRequest, refused: Refused) -> str:
    """The ``WWW-Authenticate`` of a refusal, with Okta's members in Okta's order."""
    # Recorded: Okta writes http:// here even over https.
    host = f"http://{request.header('host')}"
    segments = request.path.split("/")
    kind = "read" if request.method in READING else "manage"
    scope = f"okta.{segments[3]}.{kind}" if request.path.startswith("/api/v1/") and segments[3] else ""
    scope = refused.scope or scope
    is_dpop = refused.error in ("invalid_dpop_proof", "use_dpop_nonce") or _has_dpop_scheme(request)
    parts = [f'algs="{_ALGS}"'] if is_dpop else []
    parts += [f'authorization_uri="{host}/oauth2/v1/authorize"', f'realm="{host}"', f'scope="{scope}"']
    parts += [f'error="{refused.error}"', f'error_description="{refused.description}"', f'resource="{request.path}"']
    return f"{'DPoP' if is_dpop else 'Bearer'} {', '.join(parts)}"


def _has_dpop_scheme(request: ReceivedRequest) -> bool:
    return (request.header("authorization") or "").lower().startswith("dpop ")
