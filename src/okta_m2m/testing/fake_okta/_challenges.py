"""Formats a refusal: as OAuth JSON, as the management API's JSON, or as a ``WWW-Authenticate`` challenge.

Invariant: at the management API an OAuth refusal has an empty body and its reason in ``WWW-Authenticate``, as recorded
at Okta (status 400 for proofs). An API behind a custom server responds as RFC 6750 and RFC 9449 say (401).
"""

from __future__ import annotations

import secrets

from ._access import READING
from ._jws import ALGORITHMS
from ._messages import Answer, ReceivedRequest, json_answer
from ._refusals import ApiRefused, Refused

__all__ = ["api_error_answer", "refusal_answer"]

_ALGS = " ".join(ALGORITHMS)


def refusal_answer(
    request: ReceivedRequest, refused: Refused | ApiRefused, *, is_api: bool, protected: tuple[str, str | None] | None
) -> Answer:
    """The response that carries a refusal.

    - ``is_api``: whether the request was to an API, not to an OAuth endpoint.
    - ``protected``: for an API behind a custom server: that server's id, and the scope that is needed. ``refused`` gets the
      status and the error that RFC 6750 and RFC 9449 require there.
    """
    if isinstance(refused, ApiRefused):
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


def api_error_answer(refused: ApiRefused) -> Answer:
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
