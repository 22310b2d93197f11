"""Judges an API's response to a call: whether the API rejected the token or its proof, and the cure.

RFC 6750 section 3.1 and RFC 9449 sections 7.1 and 9. Okta rejects an invalid proof with 400 instead of 401, and
its management API may return 401 with an ``errorCode`` and no challenge.

    response                                            cure
    ------------------------------------------------    ------------------------------------------------------------
    400 or 401 use_dpop_nonce, with a new nonce         nonce
    400 or 401 invalid_dpop_proof                       proof
    401 invalid_token, or a challenge without error     renew
    401 without a challenge, not at the org             renew
    401 without a challenge, at the org                 renew, if the body names E0000011 or no code
    anything else                                       none
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from ..effects import Flow, Peek, Response
from ..errors import quoted
from .answers import error_code
from .challenges import challenges
from .records import Record

__all__ = ["Cure", "Verdict", "reach_verdict"]

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
