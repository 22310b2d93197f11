"""The credentials of a call: the token, and a DPoP proof if the token is bound to a key (RFC 9449).

An app has one DPoP key, which is created when it is first needed. Apps that are derived from it share the key. With a store, the
fleet shares one key, and tokens that are bound to an earlier key keep that key. Nonces of APIs are kept here; those of the token
endpoint are kept with the endpoint.

Invariant: a bound token is never sent without a proof from the key that it is bound to, and each attempt has its own
proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from .._base.tokens import Credentials, Token
from .._threads.landings import mutex
from .._urls.origins import Origins, as_sent, origin_of, path_of
from ..effects import Flow
from ..keys import PrivateKey
from .proofs import DPoPProofs, Nonces, ath_of, okta_path, rfc_path

if TYPE_CHECKING:
    from ..keys import Signer
    from .token_endpoint import TokenEndpoint

MAX_BOUND: Final = 4
"""Bound tokens whose proofs can still be made, for calls that began with an earlier token."""

_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class Bindings:
    """The DPoP keys, proofs and nonces of one app.

    - ``endpoint``: the app's token endpoint. At its origin, ``htu`` has the form that Okta compares, and the clock is
      Okta's.
    - ``origins``: the app's allowed origins.
    - ``key``: the app's configured DPoP key; ``None`` to create one.
    - ``htu_origins``: for an origin that a reverse proxy rewrites, the origin that the server behind it sees.
    - ``parent``: the bindings of the app that this one is derived from, whose key and nonces it shares; ``None`` if there is
      none.
    - ``nonces``: those of APIs.
    """

    __slots__ = (
        "_bound",
        "_configured_key",
        "_endpoint",
        "_htu_origins",
        "_last",
        "_origins",
        "_parent",
        "_proofs",
        "nonces",
    )

    def __init__(
        self,
        endpoint: TokenEndpoint,
        origins: Origins,
        key: Signer | None = None,
        htu_origins: Mapping[str, str] | None = None,
        parent: Bindings | None = None,
    ) -> None:
        self._configured_key = key
        self._endpoint = endpoint
        self._origins = origins
        self._htu_origins = htu_origins or _NOTHING
        self._proofs: DPoPProofs | None = None
        self._bound: Mapping[bytes, DPoPProofs] = _NOTHING  # by the token's digest; replaced as a whole
        self._last: tuple[Token, DPoPProofs, str] | None = None
        """The token that was used last, with its proofs and their ``ath``."""
        self._parent = parent
        self.nonces: Nonces = Nonces() if parent is None else parent.nonces

    def derived(self, endpoint: TokenEndpoint) -> Bindings:
        """The bindings of an app that is derived from this one."""
        return Bindings(endpoint, self._origins, self._configured_key, self._htu_origins, self)

    # ── the key ──────────────────────────────────────────────────────────────────────────────────────────────────

    def proofs(self) -> DPoPProofs:
        """The proofs of the app's one DPoP key."""
        proofs = self._proofs
        if proofs is None:
            made = self._parent.proofs() if self._parent is not None else self._new_proofs()
            with mutex():
                proofs = self._proofs = self._proofs or made
        return proofs

    def _new_proofs(self) -> DPoPProofs:
        return DPoPProofs(self._configured_key or PrivateKey.generate("ES256"), self._htu)

    def adopt(self, key: PrivateKey) -> None:
        """Adopts the fleet's DPoP key, which the first process created. Tokens are bound to it from now on."""
        proofs = self._proofs
        if proofs is None or dict(proofs.signer.public_jwk) != dict(key.public_jwk):
            self._proofs = DPoPProofs(key, self._htu)

    def forget_unused_key(self) -> None:
        """The token is a Bearer token. Forgets the key that was created to offer DPoP, if no token is bound to it: it takes more
        memory than the rest of an app."""
        if self._configured_key is None and not self._bound:
            self._proofs = None

    def key_to_share(self) -> PrivateKey | None:
        """The DPoP key, if it was created here and other processes need it."""
        signer = self._proofs.signer if self._proofs is not None and self._configured_key is None else None
        return signer if isinstance(signer, PrivateKey) else None

    def bind(self, token: Token) -> None:
        """Remembers which key a new token is bound to, before the token is used."""
        proofs, digest = self.proofs(), token.digest
        with mutex():
            if digest not in self._bound:
                kept = list(self._bound.items())[1 - MAX_BOUND :]
                self._bound = {**dict(kept), digest: proofs}

    def forget_all(self) -> None:
        """The app is closed, so no token and no key is kept."""
        self._last, self._proofs, self._bound, self._configured_key = None, None, _NOTHING, None

    # ── one attempt ──────────────────────────────────────────────────────────────────────────────────────────────

    def credentials_now(self, method: str, url: str, token: Token) -> Credentials | None:
        """The credentials for a bound token, if no effect is needed; ``None`` if the proof needs the signer."""
        last = self._last
        if last is None or last[0] is not token:  # hashing a token takes as long as writing the claims of its proof
            digest = token.digest
            proofs = self._bound.get(digest)
            if proofs is None or not proofs.in_memory:
                return None
            last = self._last = token, proofs, ath_of(digest)
        _, proofs, ath = last
        origin = self._origins.find(url)
        if origin is None:
            return None
        now, nonce = self._endpoint.okta_clock.now(), self.nonces.get(origin)
        return Credentials(token, proofs.proof_now(method, self._htu_at(origin, url), now, nonce, ath))

    def credentials(
        self, method: str, url: str, token: Token, nonce: str | None = None, server_time: float | None = None
    ) -> Flow[Credentials]:
        """The credentials for one attempt with a bound token.

        ``nonce``: the nonce in the last response. ``server_time``: the ``Date`` of the API that rejected a proof's
        ``iat``; its clock need not be Okta's.
        """
        digest, origin = token.digest, self._origins.find(url)
        if nonce is None and origin is not None:
            nonce = self.nonces.get(origin)
        now = server_time or self._endpoint.okta_clock.now()
        proofs = self._bound.get(digest) or self._proofs
        if proofs is None:
            raise self._endpoint.closed_error()
        return Credentials(token, (yield from proofs.proof(method, url, now, nonce, digest, self._endpoint.max_wait)))

    def _htu(self, url: str) -> str:
        # The token endpoint of a custom authorization server need not be an allowed origin.
        return self._htu_at(self._origins.find(url) or origin_of(url) or "", url)

    def _htu_at(self, origin: str, url: str) -> str:
        """``htu`` for a URL of that origin."""
        path = path_of(url)
        is_okta = self._endpoint.url.startswith(f"{origin}/")
        return self._htu_origins.get(origin, origin) + (okta_path(path) if is_okta else rfc_path(as_sent(path)))
