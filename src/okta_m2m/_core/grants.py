"""What a token request asks for, and how its answer is read: a grant, apart from the endpoint that it is sent to.

    grant               RFC                     parameters, beside a fresh client assertion in each request
    -----------------   ---------------------   -------------------------------------------------------------------------
    ClientCredentials   6749 4.4, 8707          scope, resource
    TokenExchange       8693                    subject_token and its type, audience, scope; for an ID-JAG also
                                                requested_token_type and resource
    JwtBearer           7523 2.1                assertion: an ID-JAG, which a token exchange at another endpoint yields

An ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant) names the user to one authorization server. It is valid for five
minutes and accepted once. ``token_type`` is ``N_A`` or ``Bearer`` in such an answer: only ``issued_token_type`` identifies it.

Invariant: a grant is data. No ``repr`` shows a subject's token, and what is read of it without verification is only a hint.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, ClassVar, Final, TypeAlias

from .._base.crash_reports import HiddenText
from .._base.records import Record
from .._base.tokens import Token
from ..effects import Flow
from .answers import Granted, granted_assertion, granted_token, json_object
from .token_endpoint import TokenEndpoint

_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:"
ACCESS_TOKEN: Final = _TOKEN_TYPE + "access_token"
ID_TOKEN: Final = _TOKEN_TYPE + "id_token"
ID_JAG: Final = _TOKEN_TYPE + "id-jag"

FAR_FUTURE: Final = 1e12
"""Seconds since the epoch, in the year 33658."""

_GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:"


class Grant(Record):
    """What a token request asks for. ``scopes``: those that it requests."""

    scopes: tuple[str, ...]

    has_subject: ClassVar[bool] = False
    """Whether it is for a user, so that a refusal may concern that user alone."""

    is_single_use: ClassVar[bool] = False
    """Whether the server accepts its form once, so that another form may be accepted if one is refused."""

    def form(self, exchange: Exchange) -> Flow[Mapping[str, str]]:
        """The parameters to send. ``exchange`` obtains a token with another grant at another endpoint."""
        raise NotImplementedError

    def granted(self, answer: Mapping[str, Any]) -> Granted | None:
        """The content of a successful response; ``None`` if it is not there."""
        return granted_token(answer)

    def _with_scopes(self, form: dict[str, str]) -> Mapping[str, str]:
        return {**form, "scope": " ".join(self.scopes)} if self.scopes else form


Exchange: TypeAlias = Callable[[TokenEndpoint, Grant], Flow[Token]]


class ClientCredentials(Grant):
    """The app's own token. ``resource``: the one API that it is for (RFC 8707)."""

    resource: str | None = None

    def form(self, exchange: Exchange) -> Flow[Mapping[str, str]]:
        form = self._with_scopes({"grant_type": "client_credentials"})
        return form if self.resource is None else {**form, "resource": self.resource}
        yield


class TokenExchange(Grant, hidden=("subject_token",)):
    """A token for a user, whose own token the app received.

    - ``subject_token``: that token, with its ``subject_type``.
    - ``audience``: whom the new token is for.
    - ``resource``: the one API that it is for.
    - ``requests_jag``: whether to request an ID-JAG. Default: an access token.
    """

    subject_token: str
    subject_type: str
    audience: str
    resource: str | None = None
    requests_jag: bool = False

    has_subject = True

    def form(self, exchange: Exchange) -> Flow[Mapping[str, str]]:
        form = {
            "grant_type": _GRANT_TYPE + "token-exchange",
            "subject_token": self.subject_token,
            "subject_token_type": self.subject_type,
            "audience": self.audience,
        }
        if self.requests_jag:
            form["requested_token_type"] = ID_JAG
        if self.resource is not None:
            form["resource"] = self.resource
        return self._with_scopes(form)
        yield

    def granted(self, answer: Mapping[str, Any]) -> Granted | None:
        """An ID-JAG if one was requested: that is no access token, and is never sent to an API."""
        return granted_assertion(answer, ID_JAG) if self.requests_jag else granted_token(answer)


class JwtBearer(Grant):
    """A token of another authorization server for a user.

    - ``jag``: the token exchange that yields the ID-JAG, at ``jag_endpoint``.

    The scopes are in the ID-JAG. Okta refuses a request that repeats them ("The id-jag request must not include a 'scope'
    parameter").
    """

    jag_endpoint: TokenEndpoint
    jag: TokenExchange

    has_subject = True
    is_single_use = True

    def form(self, exchange: Exchange) -> Flow[Mapping[str, str]]:
        jag = yield from exchange(self.jag_endpoint, self.jag)
        return {"grant_type": _GRANT_TYPE + "jwt-bearer", "assertion": jag.value}


# ── what a subject's token says about itself ─────────────────────────────────────────────────────────────────────────


def claims_in(token: str) -> Mapping[str, Any]:
    """The claims in a JWT, not verified; empty for anything else."""
    _, _, rest = token.partition(".")
    payload, dot, _ = rest.partition(".")
    if not dot:
        return {}
    try:
        return json_object(a2b_base64(payload.replace("-", "+").replace("_", "/") + "=="))
    except ValueError:
        return {}


def expires_at(claims: Mapping[str, Any]) -> float:
    """When the token expires, in seconds since the epoch; infinity if it does not say so."""
    exp = claims.get("exp")
    if not isinstance(exp, int | float) or exp != exp:  # not a number, or NaN, which json accepts
        return inf
    return float(min(max(exp, 0), FAR_FUTURE))


def type_of(claims: Mapping[str, Any]) -> str:
    """Whether it is an access token or an ID token. Okta's access tokens have ``scp`` and ``cid``, and those of RFC 9068
    ``client_id``; an ID token (OpenID Connect Core, section 2) has none of them. A token without claims is an access token."""
    is_id_token = bool(claims) and not claims.keys() & {"scp", "cid", "client_id", "scope"}
    return ID_TOKEN if is_id_token else ACCESS_TOKEN


def hidden(subject_token: str) -> str:
    """A subject's token, as a string that no ``repr`` shows."""
    return HiddenText(subject_token)
