"""The two kinds of JWT that are signed: client assertions (RFC 7523 section 3) and DPoP proofs (RFC 9449 section 4.2).

Invariant: each is made for one HTTP attempt and never sent twice. Okta accepts each ``jti`` once. A request uses up an
assertion's even if Okta refuses the request, and every call uses up its proof's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from random import SystemRandom
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlencode

from .._base.crash_reports import HiddenBytes, HiddenText
from ..effects import Flow, Request, Sign, Snapshot
from ..errors import ConfigurationError, OktaM2MError, SigningFailed, quoted
from ..keys import PrivateKey
from ..keys._key_algorithms import base64url

if TYPE_CHECKING:
    from ..keys import Signer

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523 section 2.2."""

FORM_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
    }
)
"""The headers of each request with an assertion. The response is small, and we do not decompress it."""

CLOCK_TOLERANCE = 3.0
"""Blame clock skew for a refusal only if ``Date`` moved our clock by more seconds than this; it has a resolution of 1 s."""

BACKDATED = 5
"""Seconds by which ``iat`` is backdated. Okta refuses any ``iat`` in its future and documents no leeway. 5 seconds
cover the resolution of the ``Date`` header, and are far from the 5 minutes after which a proof is too old."""

SIGNING_TIMEOUT = 30.0
"""Seconds for a signature that no call waits for, because no ``max_wait`` limits it."""

MAX_LIFETIME = 3600
"""Okta refuses an ``exp`` more than one hour ahead (guide "Build a JWT for client authentication")."""


_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps() makes an encoder for each call


def _segment(document: Mapping[str, Any]) -> bytes:
    return base64url(_encode(document).encode()).encode()


_chance = SystemRandom()


def _jti() -> str:
    """128 random bits, in hexadecimal. RFC 9449 section 4.2 requires 96 bits or a UUID, and to Okta a ``jti`` is "a
    case-sensitive string" (guide "Build a JWT for client authentication"), for which Okta's own okta-auth-js uses
    hexadecimal digits. Adding a UUID's dashes would be a large part of an assertion's cost apart from its signature."""
    return _chance.randbytes(16).hex()


def snapshot(key: Signer, timeout: float) -> Flow[Signer]:
    """The version of a key to sign with, within ``timeout`` seconds. A key that follows a file is read again; a key in
    memory is its own snapshot.

    Raises :class:`~okta_m2m.errors.SigningFailed` if that fails, or if the file is on a drive that does not respond.
    """
    if not hasattr(key, "snapshot") or type(key) is PrivateKey:
        return key
    try:
        return (yield from Snapshot(key, max(0.0, timeout)))
    except TimeoutError as error:
        raise SigningFailed(
            f"The key {type(key).__name__} was not read: {quoted(error)}.",
            remedy="Check the drive that its file is on.",
        ) from error
    except OktaM2MError:
        raise
    except Exception as error:
        raise _signer_failed(key, error) from error


def _sign(effect: Sign) -> Flow[str]:
    try:
        signature: bytes = yield effect  # not "yield from", which creates another generator
    except OktaM2MError:
        raise
    except Exception as error:
        raise _signer_failed(effect.signer, error) from error
    return _join(effect.message, signature)


def _signer_failed(signer: Signer, error: Exception) -> SigningFailed:
    return SigningFailed(
        f"The signer {type(signer).__name__} failed with {type(error).__name__}: {quoted(error)}.",
        remedy="Check access to the key: network, permissions, and the quota of the KMS or HSM.",
    )


def _join(message: bytes, signature: bytes) -> str:
    return HiddenText(f"{message.decode()}.{base64url(signature)}")


def signed_request(url: str, form: Mapping[str, str], assertion: str, proof: str | None = None) -> Request:
    """The request that sends a form with an assertion, and a proof if there is one."""
    whole = {**form, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    headers = FORM_HEADERS if proof is None else {**FORM_HEADERS, "DPoP": proof}
    return Request("POST", url, headers, HiddenBytes(urlencode(whole), "ascii"))


class ClientAssertions:
    """Makes client assertions for one client at one endpoint.

    - ``audience``: the ``aud`` claim. Okta requires exactly the absolute URL of the request, as a plain string.
    - ``lifetime``: seconds from now to ``exp``, more than 0 and less than Okta's limit of one hour.
    - ``claims``: claims to add, or to replace ours with; ``None`` removes one of ours.
    - ``alg``: the only algorithm to sign with, also if a key file changes; ``None`` for any.

    Raises :class:`~okta_m2m.errors.ConfigurationError` for an invalid lifetime, or claims that are not JSON.
    """

    __slots__ = ("_alg", "_audience", "_claims", "_client_id", "lifetime")

    def __init__(
        self,
        client_id: str,
        audience: str,
        *,
        lifetime: float = 300,
        claims: Mapping[str, Any] | None = None,
        alg: str | None = None,
    ) -> None:
        if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not 0 < lifetime < MAX_LIFETIME:
            raise ConfigurationError(
                f"The assertion lifetime is {lifetime!r} seconds, but Okta accepts only more than 0 and less than "
                "one hour.",
                remedy="Keep the default, 300.",
            )
        if not isinstance(audience, str) or not audience:
            raise ConfigurationError(
                f"The assertion's audience is {audience!r}, but Okta accepts only the token endpoint's URL, as a "
                "string.",
                remedy="Omit assertion_audience, or set it to that URL.",
            )
        try:
            written = json.dumps([client_id, audience, {**(claims or {})}])
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"The assertion claims cannot be written as JSON ({error}).",
                remedy="Use only strings, numbers, lists and mappings.",
            ) from None
        self._client_id = client_id
        self._audience = audience
        # Make a copy, because the caller may change a list or a mapping later.
        self._claims: dict[str, Any] = json.loads(written)[2]
        self._alg = alg
        self.lifetime = lifetime

    def to(self, audience: str) -> ClientAssertions:
        """The same client's assertions for another endpoint."""
        return ClientAssertions(self._client_id, audience, lifetime=self.lifetime, claims=self._claims, alg=self._alg)

    def assertion(self, signer: Signer, now: float, timeout: float = SIGNING_TIMEOUT) -> Flow[str]:
        """A fresh assertion; ``now`` is Okta's time; ``timeout`` limits the signature, in seconds. The flow is resumed
        with the signature, so the key may be anywhere.

        Raises :class:`~okta_m2m.errors.SigningFailed` if the signer returns none, or uses another algorithm than ``alg``.
        """
        if self._alg not in (None, signer.alg):
            raise SigningFailed(
                f"The key file was replaced by a key for another algorithm than {self._alg}, which the app's profile requires.",
                remedy=f"Put a key for {self._alg} there.",
            )
        own = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": self._audience,
            "iat": int(now) - BACKDATED,
            "exp": int(now + self.lifetime),
            "jti": _jti(),
        }
        chosen = {name: value for name, value in {**own, **self._claims}.items() if value is not None}
        header = {"alg": signer.alg} if signer.kid is None else {"alg": signer.alg, "kid": signer.kid}
        return _sign(Sign(signer, _segment(header) + b"." + _segment(chosen), timeout))


class DPoPProofs:
    """Makes DPoP proofs with one key. The header, which holds the public key, is encoded once."""

    __slots__ = ("_header", "htu", "in_memory", "signer")

    def __init__(self, signer: Signer, htu: Callable[[str], str]) -> None:
        self.signer = signer
        self.htu = htu
        self.in_memory: bool = getattr(signer, "in_memory", False)
        self._header = _segment({"typ": "dpop+jwt", "alg": signer.alg, "jwk": dict(signer.public_jwk)}) + b"."

    def message(self, method: str, htu: str, now: float, nonce: str | None, ath: str | None) -> bytes:
        """The content to sign: ``htm``, ``htu``, ``iat``, a fresh ``jti``, and ``nonce`` and ``ath`` if there are any."""
        # Written out: encoding a mapping takes longer than the rest of this function, and each call waits for it.
        claims = f'"htm":{_encode(method.upper())},"htu":{_encode(htu)},"iat":{int(now) - BACKDATED},"jti":"{_jti()}"'
        if nonce is not None:
            claims += f',"nonce":{_encode(nonce)}'
        if ath is not None:
            claims += f',"ath":"{ath}"'
        return self._header + base64url(b"{" + claims.encode("ascii") + b"}").encode()

    def proof(
        self,
        method: str,
        url: str,
        now: float,
        nonce: str | None,
        digest: bytes | None = None,
        timeout: float = SIGNING_TIMEOUT,
    ) -> Flow[str]:
        """A fresh proof for one attempt; ``now`` is Okta's time; ``timeout`` limits the signature, in seconds. With the
        ``digest`` of a token, the proof is for a resource server and has ``ath``.

        Raises :class:`~okta_m2m.errors.SigningFailed` if the signer returns no signature.
        """
        ath = None if digest is None else ath_of(digest)
        return _sign(Sign(self.signer, self.message(method, self.htu(url), now, nonce, ath), timeout))

    def proof_now(self, method: str, htu: str, now: float, nonce: str | None, ath: str) -> str:
        """:meth:`proof` without a flow, for a signer that is in memory, and for a caller that knows the claims ``htu`` and
        ``ath``."""
        message = self.message(method, htu, now, nonce, ath)
        signature = self.signer.sign(message)
        assert isinstance(signature, bytes)  # noqa: S101 (what in_memory promises; for the type checker)
        return _join(message, signature)


def ath_of(digest: bytes) -> str:
    """The claim ``ath`` for the ``digest`` of a token (RFC 9449 section 4.2)."""
    return base64url(digest)


_KEPT_BY_OKTA = {"%": "%25", " ": "%20", '"': "%22", "#": "%23"}
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPE = r"%([0-9A-Fa-f]{2})"


def okta_path(path: str) -> str:
    """The path in ``htu`` as Okta compares it at its own origin: decoded, with only ``%``, space, ``"`` and ``#`` encoded again.

    Okta compares it with the decoded request URI. A proof with ``/api/v1/users/a%40b`` gets a 400: "'htu' claim in the
    DPoP proof JWT is invalid." (okta-sdk-python#541, okta-sdk-nodejs#521; the encoding is that of okta-sdk-java,
    pull requests 1526 and 1528). The ``htu`` has no query and no fragment (RFC 9449 section 4.2).
    """
    if "%" in path:
        path = unquote_to_bytes(path).decode("utf-8", "replace")
    for plain, encoded in _KEPT_BY_OKTA.items():
        path = path.replace(plain, encoded)
    return path or "/"


def rfc_path(path: str) -> str:
    """The path in ``htu`` as servers compare it (RFC 9449 section 4.3): as sent, normalized by syntax and scheme (RFC 3986
    sections 6.2.2 and 6.2.3): ``%40`` stays, ``%7e`` becomes ``~``."""

    def normal(escape: re.Match[str]) -> str:
        byte = int(escape.group(1), 16)
        return chr(byte) if byte in _UNRESERVED else escape.group(0).upper()

    path = re.sub(_ESCAPE, normal, path)
    path = re.sub(r"[^\x00-\x7f]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), path)
    return _without_dots(path) or "/"


def _without_dots(path: str) -> str:
    """An absolute path without dot segments (RFC 3986 section 5.2.4)."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


class Nonces:
    """The newest DPoP nonce from each server (RFC 9449 sections 8 and 9). It learns only from servers that a token may be sent
    to, so it grows no further than their list.

    A server is the origin of an API, or the URL of a token endpoint. One instance per kind of server: a nonce from an
    authorization server is not for a resource server, even if both have the same origin.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def learn(self, server: str, nonce: str | None) -> bool:
        """Keeps the value of a ``DPoP-Nonce`` header; returns whether it was valid (RFC 9449 section 8.1:
        ``1*NQCHAR``)."""
        if nonce is None or not re.fullmatch(_NONCE, nonce):
            return False
        self._known[server] = nonce
        return True

    def get(self, server: str) -> str | None:
        """The nonce for the next proof for that server."""
        return self._known.get(server)


_NONCE = r"[\x21\x23-\x5b\x5d-\x7e]{1,1024}"
