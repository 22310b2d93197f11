"""An access token, how long it is valid, and the credentials of a call that has it.

Invariant: only ``value``, ``authorization`` and ``headers`` show the value: ``repr``, ``str``, ``format``, ``pickle`` and
``copy`` do not.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NoReturn

from .crash_reports import HiddenText
from .records import Record

SCOPE: Final = r"[\x21\x23-\x5b\x5d-\x7e]+"
"""A regular expression for one scope (RFC 6749 section 3.3)."""


def not_picklable(what: str, remedy: str) -> NoReturn:
    """Refuses ``pickle`` and ``deepcopy``: a secret that is pickled ends up in a job queue or a cache file."""
    raise TypeError(f"{what} cannot be pickled or deep-copied, because it holds secrets. {remedy}")


class Token(Record, hidden=("authorization",)):
    """An access token.

    - ``value``: the token itself. It is opaque (Okta: "treat as opaque, format may change").
    - ``token_type``: ``"Bearer"``, or ``"DPoP"`` for a token that is bound to a key (RFC 9449 section 5). Default
      ``"Bearer"``.
    - ``scopes``: the granted scopes, which may be fewer than requested. Default none.
    - ``expires_in``: its lifetime in seconds, counted from ``sent_at``. Default 0.
    - ``sent_at``: when its token request was sent, in seconds on the steady clock of :mod:`okta_m2m._base.clocks`. Counted
      from then, the lifetime ends before Okta's, never after. Default 0.
    - ``expires_at``: when it expires, in seconds since the epoch: by Okta's time if that is known, otherwise by this machine's
      clock. It is for libraries that ask for it, such as Kafka clients; this package uses ``expires_in``. Default 0.
    """

    # The value is kept once, in the form that is sent: a token has about 900 characters, and a process may have many apps.
    authorization: str
    token_type: str
    scopes: tuple[str, ...]
    expires_in: float
    sent_at: float
    expires_at: float

    def __init__(
        self,
        value: str,
        token_type: str = "Bearer",
        scopes: tuple[str, ...] = (),
        expires_in: float = 0.0,
        sent_at: float = 0.0,
        expires_at: float = 0.0,
    ) -> None:
        # The ``Authorization`` header's value: the scheme is the token's own type, never another.
        super().__init__(HiddenText(f"{token_type} {value}"), token_type, scopes, expires_in, sent_at, expires_at)

    @property
    def value(self) -> str:
        """The token itself."""
        return self.authorization.removeprefix(f"{self.token_type} ")

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the value, by which a token is recognized without being kept. A proof's ``ath`` is the same (RFC
        9449 section 4.2)."""
        return sha256(self.value.encode()).digest()

    @classmethod
    def sent(cls, authorization: str) -> Token:
        """The token in an ``Authorization`` header, without its scopes and lifetime.

        - ``authorization``: the header's value.
        """
        token_type, _, value = authorization.partition(" ")
        return cls(value, token_type)

    @property
    def dpop_bound(self) -> bool:
        """Whether a call with it needs a DPoP proof."""
        return self.token_type == "DPoP"

    @property
    def usable_until(self) -> float:
        """The time until which the token is sent, in seconds on the steady clock: 5% of its lifetime or 5 seconds before it
        expires, whichever is less, to leave time for the request."""
        return self.sent_at + self.expires_in - min(5.0, 0.05 * self.expires_in)

    def usable(self, now: float) -> bool:
        """Whether a call that is sent ``now`` (seconds on the steady clock) still arrives before the token expires."""
        return now < self.usable_until

    def expired(self, now: float) -> bool:
        """Whether it has expired by ``now`` (seconds on the steady clock)."""
        return now >= self.sent_at + self.expires_in

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable("A token", "Get one from the service app where it is needed.")


class Credentials(Record, hidden=("proof",)):
    """The credentials of a call (RFC 9110 section 11.4): a token, and a DPoP proof for this one attempt if the token is
    bound."""

    token: Token
    proof: str | None = None

    def __init__(self, token: Token, proof: str | None = None) -> None:
        # Written out: 5,600 of the 72,600 instructions of a bound call of aiohttp without its signature.
        put_token, put_proof = self._setters
        put_token(self, token)
        put_proof(self, proof)

    @property
    def authorization(self) -> str:
        """The ``Authorization`` header's value."""
        return self.token.authorization

    @property
    def headers(self) -> dict[str, str]:
        """The headers to set on the request."""
        headers = {"Authorization": self.token.authorization}
        if self.proof is not None:
            headers["DPoP"] = self.proof
        return headers
