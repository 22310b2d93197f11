"""DPoP proofs as Okta checks them (RFC 9449; okta.com guide "Configure OAuth 2.0 Demonstrating Proof-of-Possession").

Invariant: a proof is used up by every request in which its signature held, whatever is answered, and it is good for one
method, one URL and, at a resource, one token.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from urllib.parse import unquote, urljoin, urlsplit

from ._http_server import ReceivedRequest
from ._jws import ALGORITHMS, NotAJws, ParsedJws, is_number, parse, thumbprint, verified
from ._org import Org
from ._refusals import Refused

__all__ = ["check_proof", "okta_htu", "presented_proof", "same_uri"]

_MAX_AGE = 300
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


def okta_htu(request: ReceivedRequest) -> str:
    """The ``htu`` that Okta expects: the decoded path, in which only ``%``, space, ``"`` and ``#`` are encoded again.

    So a path with ``%40`` needs ``@`` (okta-sdk-python issue 541; okta-sdk-java pull requests 1526 and 1528).
    """
    path = unquote(request.path, errors="replace")
    for plain, encoded in (("%", "%25"), (" ", "%20"), ('"', "%22"), ("#", "%23")):
        path = path.replace(plain, encoded)
    return request.base_url + path


def _same_as_okta(htu: str, request: ReceivedRequest) -> bool:
    scheme, separator, rest = htu.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}{separator}{host.lower()}{slash}{path}" == okta_htu(request)


def same_uri(htu: str, request: ReceivedRequest) -> bool:
    """RFC 9449 section 4.3: equal after syntax-based and scheme-based normalisation (RFC 3986 section 6.2)."""
    return "?" not in htu and "#" not in htu and _normalised(htu) == _normalised(request.base_url + request.path)


def _normalised(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return ""
    scheme = parts.scheme.lower()
    if port is not None and port != _DEFAULT_PORTS.get(scheme):
        host += f":{port}"
    path = re.sub("%[0-9A-Fa-f]{2}", _triplet, parts.path)
    if "/." in path and not path.startswith("//"):
        path = urljoin("/", path)  # takes out the dot segments
    return f"{scheme}://{host}{path or '/'}"


def _triplet(found: re.Match[str]) -> str:
    char = chr(int(found.group()[1:], 16))
    return char if _UNRESERVED.fullmatch(char) else found.group().upper()


def presented_proof(request: ReceivedRequest) -> str | None:
    """The one proof of the request, ``None`` if there is none; two are refused."""
    proofs = request.all("dpop")
    if len(proofs) > 1:
        raise Refused("invalid_dpop_proof_multiple_headers_not_allowed")
    return proofs[0] if proofs and proofs[0] else None


def check_proof(
    org: Org,
    request: ReceivedRequest,
    proof: str,
    *,
    access_token: str | None = None,
    jkt: str | None = None,
    nonce: Callable[[object], None] | None = None,
    same: Callable[[str, ReceivedRequest], bool] = _same_as_okta,
) -> str:
    """Checks a proof; gives the thumbprint of its key.

    ``nonce`` judges the ``nonce`` claim; ``access_token`` and ``jkt`` are given at a resource; ``same`` compares ``htu``.
    """
    try:
        parsed = parse(proof)
    except NotAJws:
        raise Refused("invalid_dpop_proof_invalid_jwt") from None
    found = _proof_key(parsed)
    claims = parsed.claims
    jti = claims.get("jti")
    if not isinstance(jti, str) or not jti:
        raise Refused("invalid_dpop_proof_invalid_jti")
    first_use = org.first_use("proof", jti)
    if claims.get("htm") != request.method:
        raise Refused("invalid_dpop_proof_invalid_htm")
    htu = claims.get("htu")
    if not isinstance(htu, str) or not same(htu, request):
        raise Refused("invalid_dpop_proof_invalid_htu")
    _check_times(claims.get("iat"), claims.get("exp"), org.now())
    if not first_use:
        raise Refused("dpop_proof_already_used")
    if access_token is not None:
        digest = hashlib.sha256(access_token.encode("ascii", "replace")).digest()
        if claims.get("ath") != base64.urlsafe_b64encode(digest).rstrip(b"=").decode():
            raise Refused("dpop_proof_invalid_ath")
        if found != jkt:
            raise Refused("invalid_access_token_dpop_binding")
    if nonce is not None:
        nonce(claims.get("nonce"))
    return found


def _proof_key(parsed: ParsedJws) -> str:
    if parsed.header.get("typ") != "dpop+jwt":
        raise Refused("invalid_dpop_proof_invalid_type")
    if parsed.header.get("alg") not in ALGORITHMS:
        raise Refused("invalid_dpop_proof_invalid_signature_algorithm")
    jwk = parsed.header.get("jwk")
    if not isinstance(jwk, dict) or _PRIVATE & jwk.keys():
        raise Refused("invalid_dpop_proof")
    try:
        if not verified(parsed, jwk):
            raise Refused("invalid_dpop_proof_invalid_signature")
        return thumbprint(jwk)
    except ValueError:
        raise Refused("invalid_dpop_proof") from None


def _check_times(iat: object, exp: object, now: float) -> None:
    if not is_number(iat):
        raise Refused("invalid_dpop_proof_invalid_iat")
    if iat > int(now):
        raise Refused("invalid_dpop_proof_jwt_issued_in_future")
    if now - iat > _MAX_AGE:
        raise Refused("invalid_dpop_proof_jwt_too_old")
    if isinstance(exp, (int, float)) and exp <= now:
        raise Refused("invalid_dpop_proof_jwt_expired")
