"""Checks the arguments of ServiceApp, and how it is attached to a client. Each check returns the value to keep, or
raises ConfigurationError with the remedy.

Invariant: no message shows a possible secret, such as the text of a key that was passed as the wrong argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from .._base.clocks import Clock
from .._base.tokens import SCOPE
from .._urls.origins import origin_of
from ..errors import ConfigurationError, SubjectRefused, WrongType
from ..keys import PrivateKey

if TYPE_CHECKING:
    from ..events import Event
    from ..keys import Signer

ATTACH = {
    "requests": "session.auth = okta_m2m.requests.OktaAuth(app)",
    "httpx": "httpx.Client(auth=okta_m2m.httpx.OktaAuth(app)), or the same for httpx.AsyncClient",
    "httpx2": "httpx2.Client(auth=okta_m2m.httpx2.OktaAuth(app)), or the same for httpx2.AsyncClient",
    "aiohttp": "aiohttp.ClientSession(middlewares=[okta_m2m.aiohttp.OktaAuth(app)])",
    "niquests": (
        "session.auth = okta_m2m.niquests.OktaAuth(app), or for an AsyncSession okta_m2m.niquests.AsyncOktaAuth(app)"
    ),
}
"""For each HTTP library, the line that attaches the app to a client."""

FAPI_ALG: Final = "ES256"
"""The only algorithm that both FAPI 2.0 (PS256, ES256, EdDSA; Security Profile section 5.4) and Okta (RS256/384/512,
ES256/384/512) accept."""
LONGEST_SUBJECT = 16_384
"""Characters. No common server accepts an ``Authorization`` header of this length, in which a user's token arrives."""

_SERVER_ID = r"[A-Za-z0-9._~-]+"


def check_list(values: Iterable[str], name: str) -> list[str]:
    if isinstance(values, str):
        raise ConfigurationError(f"{name} must be a list, not a string.", remedy=f"Write {name}={values.split()!r}.")
    if not isinstance(values, Iterable):
        raise ConfigurationError(f"{name} must be a list, not {kind_of(values)}.", remedy="Pass a list, or omit it.")
    return list(values)


def check_observer(on_event: Callable[[Event], None] | None) -> Callable[[Event], None] | None:
    if on_event is not None and not callable(on_event):
        raise ConfigurationError(
            f"on_event must be a function, not {kind_of(on_event)}.",
            remedy="Pass a function to call with each event.",
        )
    return on_event


def check_clock(clock: Clock) -> Clock:
    if not (callable(getattr(clock, "now", None)) and callable(getattr(clock, "wall", None))):
        raise ConfigurationError(
            f"clock must be a Clock, not {kind_of(clock)}.",
            remedy="Import Clock from okta_m2m.testing, or omit clock.",
        )
    return clock


def check_client_id(client_id: str) -> str:
    if not isinstance(client_id, str) or not client_id or not all("!" <= char <= "~" for char in client_id):
        raise ConfigurationError(
            "The client id is empty, not a string, or contains spaces.",
            remedy="Copy it from the app (Admin Console: Applications > the app > Client ID).",
        )
    if "{" in client_id:
        raise ConfigurationError(
            f"The client id is a placeholder: {client_id!r}.", remedy="Replace it with the app's client id."
        )
    return client_id


def check_scopes(scopes: Iterable[str], authorization_server: str | None) -> tuple[str, ...]:
    given = check_list(scopes, "scopes")
    for scope in given:
        if not isinstance(scope, str) or not re.fullmatch(SCOPE, scope):
            raise ConfigurationError(f"{scope!r} is not a single scope.", remedy="Pass a list with one scope per item.")
    checked = tuple(dict.fromkeys(given))
    if not checked and authorization_server is None:
        raise ConfigurationError(
            "No scopes were given, and the org authorization server has no defaults.",
            remedy='Set the scopes, for example scopes=["okta.users.read"].',
        )
    return checked


def token_path(authorization_server: str | None) -> str:
    """The path of the token endpoint."""
    if authorization_server is None:
        return "/oauth2/v1/token"
    if not isinstance(authorization_server, str) or not re.fullmatch(_SERVER_ID, authorization_server):
        raise ConfigurationError(
            'authorization_server must be an id ("default", "aus1a2b3c"), not a URL.',
            remedy="Use the part of the issuer after /oauth2/.",
        )
    return f"/oauth2/{authorization_server}/v1/token"


def check_resource(resource: str | None) -> str | None:
    """An absolute URI without a fragment (RFC 8707 section 2)."""
    if resource is None or (isinstance(resource, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[!\"$-~]+", resource)):
        return resource
    raise ConfigurationError(
        "resource must be an absolute URL without a fragment.", remedy='Write it as "https://api.example.com/orders".'
    )


def check_audience(audience: str) -> str:
    if not isinstance(audience, str) or not audience or not all("!" <= char <= "~" for char in audience):
        raise ConfigurationError(
            "The audience is empty, not a string, or contains spaces.",
            remedy='Write that of the authorization server, for example audience="api://orders".',
        )
    return audience


def check_issuer(issuer: str, org_url: str) -> str:
    """The id of the custom authorization server with that issuer, which must be one of the org."""
    prefix = f"{org_url}/oauth2/"
    server = issuer.removeprefix(prefix) if isinstance(issuer, str) and issuer.startswith(prefix) else ""
    if not re.fullmatch(_SERVER_ID, server):
        raise ConfigurationError(
            "issuer is not that of a custom authorization server of this org.",
            remedy=f'Write it as "{prefix}default". For the server of another org, use id_jag().',
        )
    return server


def check_subject(subject_token: str) -> str:
    """A user's token. The error is one that an API can answer with 401, because the string comes from its caller."""
    if not isinstance(subject_token, str):
        raise WrongType(
            f"The subject's token must be a string, not {kind_of(subject_token)}.",
            remedy="Pass the token without the word Bearer before it.",
        )
    if not subject_token or not all("!" <= char <= "~" for char in subject_token):
        raise SubjectRefused(
            "The subject's token is empty, or contains characters that no token has.",
            remedy="Pass the token without the word Bearer before it.",
        )
    if len(subject_token) > LONGEST_SUBJECT:
        raise SubjectRefused(
            f"The subject's token has {len(subject_token)} characters, which is more than {LONGEST_SUBJECT}.",
            remedy="Have the authorization server put fewer claims into it, such as groups.",
        )
    return subject_token


def check_count(count: int, name: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigurationError(f"{name} cannot be {count!r}.", remedy="Use a whole number, at least 1.")
    return count


def check_seconds(seconds: float, name: str, longest: float, shown: str) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= longest:
        raise ConfigurationError(
            f"{name} cannot be {seconds!r}.", remedy=f"Use a number of seconds, more than 0 and at most {shown}."
        )
    return float(seconds)


def check_keys(key: Signer | Sequence[Signer]) -> tuple[Signer, ...]:
    keys: tuple[Any, ...] = tuple(key) if isinstance(key, list | tuple) else (key,)
    if not keys:
        raise ConfigurationError("key is an empty list.", remedy="Pass at least one key.")
    for one in keys:
        if isinstance(one, type) or not (hasattr(one, "sign") and hasattr(one, "alg")):
            raise ConfigurationError(
                f"key must be a signer, not {kind_of(one)}.",
                remedy='Use PrivateKey.from_file("key.pem"), PrivateKey.from_pem(text) or PrivateKey.from_jwk(jwk).',
            )
        _check_sign(one)
    return keys


def _check_sign(signer: Any) -> None:
    from inspect import iscoroutinefunction  # a third of the package's import time

    if iscoroutinefunction(signer.sign):
        raise ConfigurationError(
            f"{type(signer).__name__}.sign is a coroutine function, which a thread cannot call.",
            remedy="Write it as a plain function that blocks. It runs in a thread, so it never blocks an event loop.",
        )


def check_dpop(dpop: bool | Literal["required"] | Signer, keys: tuple[Signer, ...]) -> Signer | None:
    """The DPoP key that was passed, if any."""
    if isinstance(dpop, bool) or dpop == "required":
        return None
    if isinstance(dpop, str) or not (hasattr(dpop, "sign") and hasattr(dpop, "public_jwk")):
        raise ConfigurationError(
            f'dpop must be True, False, "required" or a signer, not {kind_of(dpop)}.',
            remedy="Omit it for the default, True.",
        )
    if any(dict(dpop.public_jwk) == dict(key.public_jwk) for key in keys):
        raise ConfigurationError(
            "The DPoP key is the client's own key, which Okta's guide forbids.",
            remedy="Keep dpop=True, or use another key.",
        )
    _check_sign(dpop)
    # Keep this version: tokens are bound to it, so a changed key file must not change it.
    return dpop.snapshot() if isinstance(dpop, PrivateKey) else dpop


def check_profile(
    profile: str | None,
    urls: Iterable[str],
    keys: tuple[Signer, ...],
    dpop: bool | Literal["required"] | Signer,
    dpop_key: Signer | None,
) -> Literal["fapi"] | None:
    """``urls``: the org and the allowed origins."""
    if profile is None:
        return None
    if profile != "fapi":
        # It may be a secret that was passed as the wrong argument.
        raise ConfigurationError('profile must be "fapi" or None.', remedy='Write profile="fapi", or omit it.')
    if dpop is False:
        raise ConfigurationError(
            "The profile fapi requires DPoP, but dpop is False.",
            remedy="Remove dpop, or dpopEnabled from the settings, or omit the profile.",
        )
    if any(url.startswith("http://") for url in urls):
        raise ConfigurationError(
            "The profile fapi allows no plain http, not even to this machine.",
            remedy="Use https:// for the org and for each origin.",
        )
    for name, signers in (("key", keys), ("dpop", () if dpop_key is None else (dpop_key,))):
        for signer in signers:
            if signer.alg != FAPI_ALG:
                raise ConfigurationError(
                    f"The profile fapi requires {FAPI_ALG}, but a signer in {name} uses another algorithm.",
                    remedy="Use an EC key with the curve P-256: okta-m2m key new --alg ES256.",
                )
    return "fapi"


def check_htu_origins(origins: Mapping[str, str]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for ours, theirs in origins.items() if isinstance(origins, Mapping) else [("", "")]:
        one, other = (origin_of(text) if isinstance(text, str) else None for text in (ours, theirs))
        if one is None or other is None:
            raise ConfigurationError(
                "htu_origins must map origins to origins.",
                remedy='Write {"https://proxy.example": "https://acme.okta.com"}.',
            )
        checked[one] = other
    return checked


def check_revoke_on_close(revoke_on_close: bool, store: object | None) -> bool:
    if revoke_on_close and store is not None:
        raise ConfigurationError(
            "revoke_on_close would revoke the token of every process that shares the store.",
            remedy="Remove revoke_on_close or store.",
        )
    return revoke_on_close


def kind_of(given: object) -> str:
    """The type of a value, in words. The value is not shown, because it may be a secret."""
    return f"the class {given.__qualname__}" if isinstance(given, type) else f"an object of type {type(given).__name__}"


def attached_wrongly(given: str, request: object, library: str = "") -> WrongType:
    """The error for an object that was passed to an HTTP library instead of an auth object.

    - ``given``: the kind of object that was passed.
    - ``request``: the object that the library passed to it, which identifies the library.
    - ``library``: the library's name, if it is known. Default empty.
    """
    library = library or type(request).__module__.partition(".")[0]
    if library in ATTACH:
        return WrongType(f"{library} was given {given}.", remedy=f"Write: {ATTACH[library]}")
    return WrongType(
        f"A client was given {given}.",
        remedy=f"Write for requests: {ATTACH['requests']}; for httpx: {ATTACH['httpx']}; for aiohttp: {ATTACH['aiohttp']}",
    )


class NotAnAuthObject:
    """Base class of ServiceApp, whose methods an HTTP library calls if it was given the app instead of its OktaAuth."""

    __slots__ = ()

    if not TYPE_CHECKING:  # a type checker knows that this is not an auth object

        def __call__(self, request: object = None, handler: object = None) -> NoReturn:
            """Called by an HTTP client if it was given the app itself."""
            raise attached_wrongly("the service app instead of its OktaAuth", request)

        def __len__(self) -> NoReturn:
            """Called by aiohttp if it was given the app as its list of middlewares."""
            raise attached_wrongly("the service app instead of a list with its OktaAuth", None, "aiohttp")

        def __iter__(self) -> NoReturn:
            """Called by a client if it was given the app as its headers."""
            raise attached_wrongly("the service app instead of its OktaAuth", None)

        items = __iter__

        def __bool__(self) -> bool:
            return True
