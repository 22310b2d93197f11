"""One class for each thing that can go wrong. Every message ends with a remedy.

Invariant: no error ever holds a token, an assertion, a proof or a key. A server's words pass through :func:`quoted`,
which shortens them and redacts anything that looks like a JWT, before they reach a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

from ._base.addresses import DOCUMENTATION, PACKAGE

__all__ = [
    "AccessDenied",
    "ConfigurationError",
    "ConsentRequired",
    "ErrorMap",
    "InvalidClient",
    "InvalidDPoPProof",
    "InvalidKey",
    "InvalidScope",
    "OktaM2MError",
    "RateLimited",
    "ScopesMissing",
    "SigningFailed",
    "SubjectRefused",
    "TokenError",
    "TokenRefused",
    "TokenUnreachable",
    "UnauthorizedClient",
    "UnexpectedAnswer",
    "WrongType",
    "install_command",
    "policy_remedy",
    "quoted",
    "refused",
]


ErrorMap: TypeAlias = Mapping[type["OktaM2MError"], type[Exception]]
"""Maps each of our error classes to the HTTP library's exception of which its errors are also instances."""


class OktaM2MError(Exception):
    """Base class of every error that this package raises.

    Its message says what happened and then what to do. ``problem`` and ``remedy`` are the two parts.

    - ``problem``: what happened.

    Each other attribute is ``None`` if it is not known, which is the default:

    - ``remedy``: what to do about it.
    - ``status``: HTTP status of the response that caused it.
    - ``error``: OAuth error code (RFC 6749 section 5.2) or Okta's ``errorCode`` (``E0000047``).
    - ``error_description``: the server's own description (``error_description`` or ``errorSummary``), shortened.
    - ``request_id``: Okta's ``X-Okta-Request-Id``; quote it when you write to Okta's support.
    - ``retry_after``: seconds after which another attempt may succeed.
    """

    def __init__(
        self,
        problem: str,
        *,
        remedy: str | None = None,
        status: int | None = None,
        error: str | None = None,
        error_description: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{problem} {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
        self.status = status
        self.error = error
        self.error_description = error_description
        self.request_id = request_id
        self.retry_after = retry_after
        self.add_note(f"See {self.help}")

    @property
    def help(self) -> str:
        """The command that prints what the documentation says about this error, such as ``okta-m2m explain InvalidClient``; a URL
        once the documentation has an address. Tracebacks show it as a note (``__notes__``)."""
        kind = next(base for base in type(self).__mro__ if base.__module__ in _DOCUMENTED)
        has_own_anchor = kind is TokenRefused and self.error in _BY_CODE
        anchor = str(self.error) if has_own_anchor else kind.__name__
        return f"{DOCUMENTATION}/errors.html#{anchor.lower()}" if DOCUMENTATION else f"okta-m2m explain {anchor}"

    def copy(self, *, retry_after: float | None = None) -> Self:
        """The same failure as a new exception, with the same cause. If many callers raised one exception object, it
        would collect all their tracebacks.

        - ``retry_after``: seconds; replaces the original's value. Default ``None``: the original's.
        """
        made: Self = _rebuilt(type(self), str(self), self.__dict__)
        if retry_after is not None:
            made.retry_after = retry_after
        made.__cause__ = self.__cause__
        return made

    _plain: ClassVar[type[OktaM2MError] | None] = None  # the class that as_library_error() combined with a library's

    def as_library_error(self, error_map: ErrorMap) -> OktaM2MError:
        """The same error, as an exception that users of the HTTP library catch: an instance of both classes.

        - ``error_map``: the library's class for each of our classes. The nearest base class in it is used.
        """
        kind = next((error_map[base] for base in type(self).__mro__ if base in error_map), None)
        if kind is None or isinstance(self, kind):
            return self
        made: OktaM2MError = _rebuilt(_both(type(self), kind), str(self), self.__dict__)
        return made

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries (multiprocessing, Celery), where keyword attributes would be lost.
        attributes = {name: value for name, value in self.__dict__.items() if name not in _OF_LIBRARIES}
        return (_rebuilt, (self._plain or type(self), str(self), attributes))


_DOCUMENTED = ("okta_m2m.errors", "okta_m2m.admin.errors")
"""The modules whose classes the errors page describes. Other classes, such as a program's own, are subclasses of these."""

_OF_LIBRARIES = ("request", "_request", "response")
"""Attributes that HTTP libraries give their errors. The caller's request is useless in another process, and often cannot
be pickled."""


def _rebuilt(cls: type[Any], message: str, attributes: dict[str, Any]) -> Any:
    error = cls(message)
    error.__dict__.update(attributes)
    error.__notes__ = list(attributes["__notes__"])  # a note that is added to one error is not in the other
    return error


_pairs: dict[tuple[type[OktaM2MError], type[Exception]], type[OktaM2MError]] = {}


def _both(ours: type[OktaM2MError], theirs: type[Exception]) -> type[OktaM2MError]:
    def __init__(self: OktaM2MError, message: str, **attributes: Any) -> None:
        # Call both explicitly: a built-in base of our class (ValueError) does not call theirs.
        theirs.__init__(self, message)
        ours.__init__(self, message, **attributes)

    if (ours, theirs) not in _pairs:
        namespace = {"__init__": __init__, "__module__": ours.__module__, "__doc__": ours.__doc__, "_plain": ours}
        _pairs[ours, theirs] = type(ours.__name__, (ours, theirs), namespace)
    return _pairs[ours, theirs]


class ConfigurationError(OktaM2MError, ValueError):
    """A setting that cannot work. The error is raised before anything is sent."""


class WrongType(ConfigurationError, TypeError):
    """An object of the wrong type, such as the app instead of its ``OktaAuth``."""


class InvalidKey(ConfigurationError):
    """A key that cannot be read, or that Okta would not accept."""


class TokenError(OktaM2MError):
    """No token could be obtained."""


class TokenRefused(TokenError):
    """The authorization server refused, and repeating the same request would not help. Base class of the refusals by
    OAuth code."""


class InvalidClient(TokenRefused):
    """``invalid_client``: the client id, the key, its ``kid`` or the assertion was not accepted."""


class InvalidScope(TokenRefused):
    """``invalid_scope``: a scope that does not exist at this authorization server, or that a service app may not
    request."""


class ConsentRequired(TokenRefused):
    """``consent_required``: none of the requested scopes is granted to the app."""


class UnauthorizedClient(TokenRefused):
    """``unauthorized_client`` or ``unsupported_grant_type``: the app may not use the client credentials grant."""


class AccessDenied(TokenRefused):
    """``access_denied``: an access policy or a network zone denied the request."""


class InvalidDPoPProof(TokenRefused):
    """``invalid_dpop_proof`` or ``use_dpop_nonce``: the proof was missing or not accepted (RFC 9449)."""


class ScopesMissing(TokenRefused):
    """Okta granted fewer scopes than requested, and ``require_all_scopes`` is set."""


class SubjectRefused(TokenRefused):
    """The authorization server issues no token for this user: their token has expired, was revoked, is not accepted there, or
    its audience, a delegation link or consent is missing. The ``remedy`` says which. Other users are not affected.

    It is also raised for a string that cannot be a user's token, before anything is sent.
    """


class RateLimited(TokenError):
    """429, with a longer wait than ``max_wait`` allows; ``retry_after`` says how long, in seconds."""


class TokenUnreachable(TokenError):
    """The token endpoint returned no usable response in time: network, TLS, 5xx."""


class SigningFailed(TokenError):
    """A signer (KMS, HSM) returned no signature. The signer's own exception is the ``__cause__``."""


class UnexpectedAnswer(TokenError):
    """The token endpoint's response was not an OAuth response: a redirect, a login page, JSON without a token."""


_BY_CODE: dict[str, tuple[type[TokenRefused], str]] = {
    "invalid_client": (
        InvalidClient,
        "Check the client id, that the app is active, and that the public half of this key is registered with it "
        "under the same kid (Admin Console: Applications > the app > Public keys).",
    ),
    "invalid_scope": (
        InvalidScope,
        "Check the spelling of the scopes; okta.* scopes exist only at the org authorization server, and a custom "
        "authorization server has only the scopes defined on it.",
    ),
    "consent_required": (
        ConsentRequired,
        "Grant the scopes to the app (Admin Console: Applications > the app > Okta API Scopes).",
    ),
    "client_credentials_self_scope_requested": (
        InvalidScope,
        "Request the same scope without .self: a service app has no self.",
    ),
    "unauthorized_client": (
        UnauthorizedClient,
        "Allow the client credentials grant for the app, and check that it may use this authorization server.",
    ),
    "unsupported_grant_type": (
        UnauthorizedClient,
        "Allow the client credentials grant for the app and in the authorization server's access policy.",
    ),
    "access_denied": (
        AccessDenied,
        "Check the authorization server's access policies and rules for this client, and the app's network zones.",
    ),
    "invalid_dpop_proof": (
        InvalidDPoPProof,
        "The app requires DPoP: keep dpop at its default, True, and check this machine's clock.",
    ),
    "use_dpop_nonce": (
        InvalidDPoPProof,
        "The server asked for a nonce without sending one, or did not accept the one that it sent. Look for a proxy that "
        "drops the DPoP-Nonce header.",
    ),
    "invalid_request": (
        TokenRefused,
        "Look for a proxy that changes requests. If there is none, contact Okta's support.",
    ),
    "E0000007": (TokenRefused, "Check the org URL, and the id of the custom authorization server if there is one."),
    "E0000015": (
        TokenRefused,
        "The org lacks a feature that this needs (a custom authorization server needs API Access Management).",
    ),
    "E0000022": (TokenRefused, "Check that the org URL is an Okta domain, and the id of the authorization server."),
}

_SIGN_IN_AGAIN = "The user must sign in again. Pass the token that they get then."
_SUBJECT_BY_CODE: dict[str, str] = {
    "invalid_grant": _SIGN_IN_AGAIN,
    "interaction_required": _SIGN_IN_AGAIN,
    "login_required": _SIGN_IN_AGAIN,
    "insufficient_user_authentication": (
        "The user must sign in again, with stronger authentication. Pass the token that they get then."
    ),
    "invalid_target": (
        "Check the audience and the resource: they must be those of the authorization server that issues the token, and the user "
        "must be assigned to the app."
    ),
    "consent_required": (
        "Have the user consent to these scopes, or set the app's consent method to TRUSTED. A token exchange cannot ask the user."
    ),
}
"""What to do about a refusal of a subject: of a user's token, by the codes that do not concern the client."""

_SUBJECT_TOKEN = "'subject_token"
"""Okta gives no code for what is wrong with a subject's token, so match the text: each of these descriptions has it."""

_NOT_ASSIGNED = "User is not assigned to the client application."
_CHECK_SUBJECT = (
    "Pass the access token that the user's client sent, from an authorization server that this one trusts. It may also have "
    "expired or been revoked: then the user must sign in again."
)
_ALLOW_GRANT = (
    "Allow the grant for the app (Admin Console: Applications > the app > General: Token Exchange or JWT Bearer) and in the "
    "authorization server's access policy."
)

_CLOCK_REMEDY = "Set this machine's clock (NTP). The response's Date header, which usually corrects it, did not help."

# Only the description distinguishes these, because Okta's internal error code is not in the response. The texts are from
# Okta's published error list. Only the advice depends on them.
_CLIENT_ID = (
    "Check the client id (Admin Console: Applications > the app > Client ID), and that the org URL belongs to that org."
)
_REGISTER = "Register the public key with the app (Admin Console: Applications > the app > Public keys)."
_BY_DESCRIPTION: dict[str, str] = {
    "The client_assertion JWT kid is invalid.": (
        "Use the kid under which Okta lists the key's public half (PrivateKey.from_file(..., kid=...), or OKTA_CLIENT_KID); "
        "with more than one registered key, a kid is required."
    ),
    "The client_assertion signature is invalid.": (
        "Okta knows this kid, but for another key. Register this key's public half, or use the private key "
        "that belongs to the kid."
    ),
    "The audience claim for client_assertion must be the endpoint invoked for the request.": (
        "Use Okta's own URL for the org, not that of a proxy that rewrites the host, "
        "or set assertion_audience to the token endpoint's URL as Okta sees it."
    ),
    "The issuer claim for client_assertion is not a valid client_id.": _CLIENT_ID,
    "The subject claim for client_assertion is not a valid client_id.": _CLIENT_ID,
    "Invalid value for 'client_id' parameter.": _CLIENT_ID,
    "The client_assertion token is expired.": _CLOCK_REMEDY,
    "The client_assertion token must be issued before the current time.": _CLOCK_REMEDY,
    "The client_assertion token has an expiration too far into the future.": _CLOCK_REMEDY,
    "The DPoP proof JWT is issued in the future.": _CLOCK_REMEDY,
    "The DPoP proof JWT is issued more than five minutes in the past.": _CLOCK_REMEDY,
    "The client does not have a JWKSet configured, but the client_assertion requires one.": _REGISTER,
    "Client Credentials requests to the Org Authorization Server must use the private_key_jwt "
    "token_endpoint_auth_method.": "Set the app's client authentication to Public key / Private key.",
    "'htu' claim in the DPoP proof JWT is invalid.": (
        "Okta sees a different URL than this client. Set the origin that Okta sees in htu_origins."
    ),
    "The authorization server resource does not have any configured default scopes, 'scope' must be provided.": (
        "Set the scopes, because this authorization server has no defaults."
    ),
    "'subject_token' is invalid.": _CHECK_SUBJECT,
    "'subject_token_type' is invalid or not supported.": (
        "Pass an access token: an ID token is accepted only for Cross App Access."
    ),
    "'subject_token' is invalid: no delegation policy authorizes this token.": (
        "Create a delegation link at Okta from the app that the user signed in to, to this one."
    ),
    "'subject_token' is invalid: the client application is not registered for delegation to this agent.": (
        "Register the app that the user signed in to as a delegate of this agent at Okta."
    ),
    "'subject_token' is invalid: the session associated with it is no longer active.": _SIGN_IN_AGAIN,
    "The 'subject_token' issuer isn't a trusted authorization server.": (
        "Add the authorization server that issued the user's token to the trusted servers of this one (Admin Console: Security > "
        "API > the server > Trusted servers)."
    ),
    _NOT_ASSIGNED: "Assign the user, or one of their groups, to the app.",
    "The request is made from outside the client's permitted network zones.": (
        "Call from an address inside the app's network zone, or widen the zone."
    ),
}


def policy_remedy(server: str) -> str:
    """Where an access policy decides about scopes, and no grant does.

    - ``server``: the id of a custom authorization server.
    """
    name = quoted(server, 60)
    return (
        f"The access policies of the authorization server {name} decide about its scopes: Admin Console: Security > API > "
        f"Authorization Servers > {name} > Access Policies."
    )


def refused(
    status: int | None,
    code: str | None,
    description: str | None,
    request_id: str | None,
    note: str = "",
    *,
    server: str = "",
    of_subject: bool = False,
) -> TokenRefused:
    """The refusal for an OAuth error code or Okta ``errorCode``, with its remedy.

    - ``status``: HTTP status of the response; ``None`` if there was none.
    - ``code``: the OAuth error code, or Okta's ``errorCode``.
    - ``description``: the server's own description.
    - ``request_id``: Okta's ``X-Okta-Request-Id``.
    - ``note``: more information about it. Default: nothing.
    - ``server``: the id of the custom authorization server that refused. Default: the org authorization server.
    - ``of_subject``: whether the token was requested for a user, so that the refusal may be a :class:`SubjectRefused`. Default
      ``False``.
    """
    kind, remedy = _BY_CODE.get(
        code or "",
        (TokenRefused, "Look up the code in Okta's documentation, or give the request id to Okta's support."),
    )
    if of_subject:
        if code in _SUBJECT_BY_CODE:
            kind, remedy = SubjectRefused, _SUBJECT_BY_CODE[code]
        elif _SUBJECT_TOKEN in (description or "") or description == _NOT_ASSIGNED:
            kind, remedy = SubjectRefused, _CHECK_SUBJECT
        elif kind is UnauthorizedClient:
            remedy = _ALLOW_GRANT
    remedy = _BY_DESCRIPTION.get(description or "", remedy)
    if server and kind in (AccessDenied, InvalidScope, UnauthorizedClient):
        remedy = f"{remedy} {policy_remedy(server)}"
    said = f": {quoted(description)}" if description else "."
    where = f" [HTTP {status}" + (f", request id {quoted(request_id, 80)}]" if request_id else "]")
    return kind(
        f"Okta refused the token request with {quoted(code, 80) if code else 'no code'}{said}{where} {note}".rstrip(),
        remedy=remedy,
        status=status,
        error=quoted(code, 80) if code else None,
        error_description=quoted(description) if description else None,
        request_id=quoted(request_id, 80) if request_id else None,
    )


def install_command(extra: str) -> str:
    """The command that installs an extra of this package. Until the package is on a package index, it installs from a clone.

    - ``extra``: the extra's name, such as ``redis``.
    """
    return f"pip install '{PACKAGE}[{extra}]'" if PACKAGE else f"pip install '.[{extra}]' in a clone of okta-m2m"


# Patterns stay strings in every module that is imported with the package: ``re`` compiles them on first use and caches
# them. Compiling them at import would take a third of the import time.
_JWT = r"[\w-]{16,}\.[\w-]{16,}(?:\.[\w-]*)*|eyJ[\w-]{5,}|[\w-]{40,}"
_MARKUP = r"<[^>]{0,200}>"


def quoted(words: object, limit: int = 300) -> str:
    """A server's text, made safe to show: one line, no markup, no control characters, nothing that looks like a JWT.

    - ``words``: the text, or an exception.
    - ``limit``: the longest result, in characters. Default 300.
    """
    plain = re.sub(_MARKUP, " ", str(words)[: 40 * limit])
    # Characters that reverse the text direction, or are invisible, could make a server's text look like ours in a log.
    if not plain.isprintable():
        plain = "".join(character if character.isprintable() else " " for character in plain)
    plain = re.sub(_JWT, "[redacted]", " ".join(plain.split()))
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."
