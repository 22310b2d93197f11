"""DPoP proofs as Okta checks them (RFC 9449; Okta's guide "Configure OAuth 2.0 Demonstrating Proof-of-Possession").

Invariant: a request uses up its proof once the proof's signature is verified, even if it then fails. A proof is valid
for one method, one URL and, at a resource, one token.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import unquote, urljoin, urlsplit

from ._jws import ALGORITHMS, PRIVATE_MEMBERS, NotAJws, ParsedJws, hash_of, is_number, parse, thumbprint, verify
from ._messages import ReceivedRequest
from ._org import Org
from ._refusals import Refused
from ._tokens import IssuedToken

_MAX_AGE = 300  # seconds
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")

#: Whether an ``htu`` claim names the URL of a request.
IsHtu: TypeAlias = Callable[[str, ReceivedRequest], bool]


def is_okta_htu(htu: str, request: ReceivedRequest) -> bool:
    """Whether ``htu`` is what Okta expects: the decoded path with only ``%``, space, ``"`` and ``#`` encoded again.

    A path with ``%40`` therefore needs ``@`` (okta-sdk-python issue 541; okta-sdk-java pull requests 1526 and 1528).
    """
    expected = unquote(request.path, errors="replace")
    for plain, encoded in (("%", "%25"), (" ", "%20"), ('"', "%22"), ("#", "%23")):
        expected = expected.replace(plain, encoded)
    scheme, separator, rest = htu.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}{separator}{host.lower()}{slash}{path}" == request.base_url + expected


def is_same_uri(htu: str, request: ReceivedRequest) -> bool:
    """Whether ``htu`` is the request's URL after syntax-based and scheme-based normalization (RFC 9449 section 4.3)."""
    return "?" not in htu and "#" not in htu and _normalize(htu) == _normalize(request.base_url + request.path)


def _normalize(uri: str) -> str:
    """The URI normalized as in RFC 3986 section 6.2; empty if it is not one."""
    try:
        parts = urlsplit(uri)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return ""
    scheme = parts.scheme.lower()
    if port is not None and port != _DEFAULT_PORTS.get(scheme):
        host += f":{port}"
    path = re.sub("%[0-9A-Fa-f]{2}", _normalize_triplet, parts.path)
    if "/." in path and not path.startswith("//"):
        path = urljoin("/", path)  # removes the dot segments
    return f"{scheme}://{host}{path or '/'}"


def _normalize_triplet(found: re.Match[str]) -> str:
    char = chr(int(found.group()[1:], 16))
    return char if _UNRESERVED.fullmatch(char) else found.group().upper()


def find_proof(request: ReceivedRequest) -> str | None:
    """The proof of the request; ``None`` if there is none. Refuses two proofs."""
    proofs = request.all("dpop")
    if len(proofs) > 1:
        raise Refused("invalid_dpop_proof_multiple_headers_not_allowed")
    return proofs[0] if proofs and proofs[0] else None


def check_proof(
    org: Org,
    request: ReceivedRequest,
    proof: str,
    *,
    is_htu: IsHtu = is_okta_htu,
    token: IssuedToken | None = None,
) -> tuple[str, object]:
    """Checks a proof, except its nonce. Returns the thumbprint of its key, and its ``nonce`` claim.

    A resource passes the ``token`` of the request.
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
    if not isinstance(htu, str) or not is_htu(htu, request):
        raise Refused("invalid_dpop_proof_invalid_htu")
    _check_times(claims.get("iat"), claims.get("exp"), org.now())
    if not first_use:
        raise Refused("dpop_proof_already_used")
    if token is not None:
        if claims.get("ath") != hash_of(token.value):
            raise Refused("dpop_proof_invalid_ath")
        if found != token.jkt:
            raise Refused("invalid_access_token_dpop_binding")
    return found, claims.get("nonce")


def _proof_key(parsed: ParsedJws) -> str:
    if parsed.header.get("typ") != "dpop+jwt":
        raise Refused("invalid_dpop_proof_invalid_type")
    if parsed.header.get("alg") not in ALGORITHMS:
        raise Refused("invalid_dpop_proof_invalid_signature_algorithm")
    jwk = parsed.header.get("jwk")
    if not isinstance(jwk, dict) or PRIVATE_MEMBERS & jwk.keys():
        raise Refused("invalid_dpop_proof")
    try:
        if not verify(parsed, jwk):
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
