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

__all__ = ["api_error_answer", "apply_rfcs", "refusal_answer"]

_ALGS = " ".join(ALGORITHMS)


class _Challenged(Refused):
    """A refusal whose challenge is already written."""

    def __init__(self, refused: Refused, status: int, error: str, challenge: str) -> None:
        super().__init__(refused.code, nonce=refused.nonce, scope=refused.scope)
        self.status, self.error, self.description = status, error, refused.description
        self.challenge = challenge


def refusal_answer(request: ReceivedRequest, refused: Refused | ApiRefused, *, is_api: bool) -> Answer:
    """The response that carries a refusal. ``is_api``: whether the request was to an API, not to an OAuth endpoint."""
    if isinstance(refused, ApiRefused):
        return api_error_answer(refused)
    nonce = [("dpop-nonce", refused.nonce)] if refused.nonce else []
    if is_api and refused.error != "invalid_client_metadata":
        return Answer(refused.status, [("WWW-Authenticate", _okta_challenge(request, refused)), *nonce])
    content = {"error": refused.error, "error_description": refused.description}
    return json_answer(refused.status, content, *nonce)


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


def apply_rfcs(request: ReceivedRequest, refused: Refused, scope: str | None) -> Refused:
    """Okta's refusal in the form of RFC 6750 and RFC 9449, for an API that needs ``scope``."""
    if isinstance(refused, _Challenged):
        return refused
    status, error = refused.status, refused.error
    if refused.code == "access_token_missing":
        # RFC 6750 section 3.1: no error code for a request without a token.
        return _Challenged(refused, status, error, f'Bearer, DPoP algs="{_ALGS}"')
    if refused.code in ("dpop_proof_required_for_token", "dpop_authentication_scheme_required"):
        # RFC 9449 section 7.2: a bound token without its proof or its scheme is an invalid token.
        status, error = 401, "invalid_token"
    elif error in ("invalid_dpop_proof", "use_dpop_nonce"):
        # RFC 9449 section 7.1: 401, unlike Okta's 400.
        status = 401
    is_dpop = "dpop" in refused.code or _has_dpop_scheme(request)
    parts = [f'error="{error}"', f'error_description="{refused.description}"']
    parts += [f'algs="{_ALGS}"'] if is_dpop else []
    parts += [f'scope="{scope}"'] if scope is not None else []
    return _Challenged(refused, status, error, f"{'DPoP' if is_dpop else 'Bearer'} {', '.join(parts)}")


def _okta_challenge(request: ReceivedRequest, refused: Refused) -> str:
    """The ``WWW-Authenticate`` of a refusal, with Okta's members in Okta's order."""
    if isinstance(refused, _Challenged):
        return refused.challenge
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
