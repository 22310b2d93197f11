"""Judges an API's response to a call: whether the API rejected the token or its proof, and the cure. Then applies the
cure, and sends the call again.

RFC 6750 section 3.1 and RFC 9449 sections 7.1 and 9. Okta rejects an invalid proof with 400 instead of 401, and
its management API may return 401 with an ``errorCode`` and no challenge.

    response                                            cure
    ------------------------------------------------    ------------------------------------------------------------
    400 or 401 use_dpop_nonce, with a nonce             nonce
    400 or 401 invalid_dpop_proof                       proof
    401 invalid_token                                   renew
    401 with Bearer or DPoP, and no error in them       renew
    401 without a challenge, not at the org             renew
    401 without a challenge, at the org                 renew, if the body names E0000011 or no code
    anything else                                       none
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from .._base.clocks import http_date
from .._base.records import Record
from ..effects import Attempt, Discard, Flow, Peek, Response
from ..errors import quoted
from .answers import error_code
from .challenges import challenges

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._base.tokens import Token
    from .engine import Engine

MAX_PEEK: Final = 4096
"""The number of bytes of a 401's body that are read to judge it."""

INVALID_TOKEN: Final = "E0000011"
"""Okta: "Invalid token provided". E0000015 (a feature is off) is also a 401, but a new token does not cure it."""

Cure: TypeAlias = Literal["renew", "nonce", "proof"]
"""The cures that can make the same call succeed: a new token, a proof with the requested nonce, or a new proof."""


class Verdict(Record):
    """``cure``: the cure; ``None`` if there is none. ``error``: the API's OAuth error."""

    cure: Cure | None = None
    error: str | None = None


_NO_CURE: Final = Verdict()


def reach_verdict(response: Response, *, dpop_bound: bool, has_new_nonce: bool, from_org: bool) -> Flow[Verdict]:
    """Judges a response by its status and challenges, and if those are not enough, by the start of its body."""
    if response.status not in (400, 401):
        return _NO_CURE
    found = challenges(response.all("www-authenticate"))
    oauth = [challenge for challenge in found if challenge.scheme in ("bearer", "dpop")]
    codes = [challenge.error for challenge in oauth if challenge.error]
    error = next((quoted(challenge.error, 80) for challenge in found if challenge.error), None)
    if dpop_bound and "use_dpop_nonce" in codes:
        return Verdict("nonce" if has_new_nonce else None, error)
    if dpop_bound and "invalid_dpop_proof" in codes:
        return Verdict("proof", error)
    if response.status != 401:
        return _NO_CURE
    if found:
        return Verdict("renew" if "invalid_token" in codes or (oauth and not codes) else None, error)
    if from_org and error_code((yield from Peek(MAX_PEEK))) not in (None, INVALID_TOKEN):
        return _NO_CURE
    return Verdict("renew")


def judge_response(
    engine: Engine,
    fetch_token: Callable[[str], Flow[Token]],
    sent: Token,
    response: Response,
    *,
    method: str,
    url: str,
    replayable: bool,
) -> Flow[None]:
    """Judges the response to a call that was sent with a token: see :meth:`ServiceApp.judge`.

    ``fetch_token`` obtains a token that is good for an origin.
    """
    state = engine.state
    origin = state.origins.find(url)
    if origin is None or not state.is_ours(sent):
        return
    token, renewed, older_tried, cured = sent, False, False, set[str]()
    from_org = engine.endpoint.url.startswith(f"{origin}/")
    while True:
        has_new_nonce = token.dpop_bound and engine.bindings.nonces.learn(origin, response.get("dpop-nonce"))
        verdict = yield from reach_verdict(
            response, dpop_bound=token.dpop_bound, has_new_nonce=has_new_nonce, from_org=from_org
        )
        nonce = server_time = None
        if verdict.cure is None:
            if renewed and response.status < 500 and response.status not in (400, 401):
                state.accepted(origin)
            break
        if verdict.cure == "renew":
            now = state.now()
            better = yield from _replace(
                engine, fetch_token, token, origin, verdict.error, now, not renewed, replayable
            )
            if better is None:
                break
            # A token that was requested before the rejection may have been revoked together with the rejected one.
            token, renewed, cured = better, older_tried or better.sent_at >= now, set()
            older_tried = True
        else:
            nonce, server_time = _for_next_proof(engine, verdict.cure, response, from_org)
            if verdict.cure in cured or not replayable:
                break
            cured.add(verdict.cure)
            yield from Discard()
        credentials = yield from engine.credentials(method, url, token, nonce, server_time)
        response = yield from Attempt(credentials.headers, token)
    yield from engine.reports.settled()


def _replace(
    engine: Engine,
    fetch_token: Callable[[str], Flow[Token]],
    rejected: Token,
    origin: str,
    error: str | None,
    now: float,
    may_renew: bool,
    replayable: bool,
) -> Flow[Token | None]:
    """Another token for a call whose token an origin rejected ``now``, after its response was discarded. ``None`` if the
    response goes to the caller."""
    state, reports = engine.state, engine.reports
    rejection = state.rejected(rejected, origin, now, may_renew=may_renew)
    again = may_renew and replayable and rejection in ("renew", "renewed")
    if rejection in ("renew", "kept"):  # once for all calls that used the token
        reports.token_rejected(origin, error, again, partial(state.rejecting_calls, origin))
    try:
        if not again:
            return None
        yield from Discard()
        return (yield from fetch_token(origin))
    finally:
        reports.report_rejections()


def _for_next_proof(engine: Engine, cure: Cure, response: Response, from_org: bool) -> tuple[str | None, float | None]:
    """The nonce and the server's time in the response to a rejected proof."""
    if cure == "nonce":
        # Not the last one learned, which may be from the response to another call.
        return response.get("dpop-nonce"), None
    date = None if response.get("age") else response.get("date")  # a response from a cache has an old Date
    if from_org:
        # A process that got its token from a store may not know Okta's time yet.
        engine.endpoint.okta_clock.learn(date)
    return None, http_date(date)
