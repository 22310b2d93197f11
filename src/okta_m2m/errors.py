"""What can go wrong, one class each; every message ends with what to do about it.

Invariant: nothing in here ever holds a token, an assertion, a proof or a key. Text that came from a server passes
through :func:`quoted`, which cuts it short and blots out whatever looks like a JWT, before it reaches a message.
"""

from __future__ import annotations

import re
from typing import Self

__all__ = [
    "AccessDenied",
    "ConfigurationError",
    "ConsentRequired",
    "InvalidClient",
    "InvalidDPoPProof",
    "InvalidKey",
    "InvalidScope",
    "OktaM2MError",
    "RateLimited",
    "ScopesMissing",
    "TokenError",
    "TokenRefused",
    "TokenUnreachable",
    "UnauthorizedClient",
    "UnexpectedAnswer",
]


class OktaM2MError(Exception):
    """Base of every error that this package raises on its own account.

    Attributes, each ``None`` where it is not known:

    - ``status``: HTTP status of the answer that caused it.
    - ``error``: OAuth error code (RFC 6749 section 5.2) or Okta's ``errorCode`` (``E0000047``).
    - ``error_description``: the server's own words (``error_description`` or ``errorSummary``), cut short.
    - ``request_id``: Okta's ``X-Okta-Request-Id``; name it when you write to Okta's support.
    - ``retry_after``: seconds after which another try makes sense.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        error: str | None = None,
        error_description: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.error_description = error_description
        self.request_id = request_id
        self.retry_after = retry_after

    def again(self, *, retry_after: float | None = None) -> Self:
        """The same failure as a new exception: one that many callers share is never one object in many tracebacks."""
        return type(self)(
            str(self),
            status=self.status,
            error=self.error,
            error_description=self.error_description,
            request_id=self.request_id,
            retry_after=self.retry_after if retry_after is None else retry_after,
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries (multiprocessing, Celery); keyword attributes would be lost.
        return (_rebuilt, (type(self), str(self), dict(self.__dict__)))


def _rebuilt(cls: type[OktaM2MError], message: str, attributes: dict[str, object]) -> OktaM2MError:
    error = cls(message)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(OktaM2MError, ValueError):
    """A setting that cannot work: found before anything was sent."""


class InvalidKey(ConfigurationError):
    """A key that cannot be read, or that Okta would not take."""


class TokenError(OktaM2MError):
    """No token could be had."""


class TokenRefused(TokenError):
    """The authorization server said no, and asking again unchanged would not help. Base of the refusals by OAuth code."""


class InvalidClient(TokenRefused):
    """``invalid_client``: the client id, the key, its ``kid`` or the assertion was not accepted."""


class InvalidScope(TokenRefused):
    """``invalid_scope``: a scope that does not exist there, or that this grant may not ask for."""


class ConsentRequired(TokenRefused):
    """``consent_required``: none of the scopes is granted to the app."""


class UnauthorizedClient(TokenRefused):
    """``unauthorized_client`` or ``unsupported_grant_type``: the app may not use client credentials there."""


class AccessDenied(TokenRefused):
    """``access_denied``: an access policy or a network zone stood in the way."""


class InvalidDPoPProof(TokenRefused):
    """``invalid_dpop_proof`` or ``use_dpop_nonce``: the proof was missing or not accepted (RFC 9449)."""


class ScopesMissing(TokenRefused):
    """Okta granted fewer scopes than were asked for, and ``require_all_scopes`` is set."""


class RateLimited(TokenError):
    """429, with a longer wait than ``max_wait`` allows; ``retry_after`` says how long in seconds."""


class TokenUnreachable(TokenError):
    """The token endpoint gave no usable answer in time: network, TLS, 5xx."""


class UnexpectedAnswer(TokenError):
    """The token endpoint's answer was not an OAuth answer: a redirect, a login page, JSON without a token."""


_JWT = re.compile(r"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*|eyJ[A-Za-z0-9_-]{5,}")
_MARKUP = re.compile(r"<[^>]{0,200}>")
_UNPRINTABLE = re.compile(r"[^ -~\u00a0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd]+|\s+")


def quoted(text: object, limit: int = 300) -> str:
    """A server's words, made safe to show: one line, no markup, no control characters, nothing that looks like a JWT."""
    plain = _MARKUP.sub(" ", str(text)[: 40 * limit])
    plain = _JWT.sub("[redacted]", _UNPRINTABLE.sub(" ", plain)).strip()
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."
