"""Describes in words what happened to each token of a demonstration.

Invariant: there are one or two sentences for each token, in the order in which the tokens were obtained.
"""

from __future__ import annotations

from .story import Obtained, Revocation, Story

__all__ = ["narrate"]


def narrate(story: Story) -> list[tuple[float, str]]:
    """The events, each with its time in seconds since the start."""
    steps: list[tuple[float, str]] = []
    before: Obtained | None = None
    for number, token in enumerate(story.obtained, 1):
        revocation = next((one for one in story.revocations if one.token == number - 1), None)
        if before is None:
            steps.append((token.began, _describe_first(story, token)))
        elif revocation is not None and not token.background:
            steps.append((revocation.at, _describe_revocation(story, revocation, token)))
        else:
            steps.append((token.began, _describe_renewal(story, number, before, token)))
        before = token
    return steps


def _describe_first(story: Story, token: Obtained) -> str:
    return (
        f"{story.callers} callers start at once, and one token request serves all of them: "
        f"token 1 ({token.token_type}){_despite(story, token)}."
    )


def _describe_renewal(story: Story, number: int, before: Obtained, token: Obtained) -> str:
    spent = round(100 * (token.began - before.began) / before.lifetime)
    slowest = f"the slowest call during that time took {1000 * story.slowest(token.began, token.at):.0f} ms"
    if token.background:
        how, waited = "renewed in the background", f"No call waited: {slowest}"
    else:
        how, waited = "renewed while callers waited", slowest.capitalize()
    return (
        f"At {spent} % of its lifetime, token {number - 1} is {how}{_despite(story, token)}: token {number}. {waited}."
    )


def _describe_revocation(story: Story, revocation: Revocation, token: Obtained) -> str:
    rejections = [one for one in story.rejections if revocation.at <= one.at]
    healed = sum(one.healed for one in rejections)
    return (
        f"Token {revocation.token} is revoked at Okta. {_count_calls(len(rejections))} got a 401, and one renewal served "
        f"{'it' if len(rejections) == 1 else 'all of them'}{_despite(story, token)}: token {revocation.token + 1}. "
        f"{_count_calls(healed)} "
        f"{'was' if healed == 1 else 'were'} sent again."
    )


def _despite(story: Story, token: Obtained) -> str:
    """The errors that the token endpoint returned before the token."""
    errors = story.errors_before(token)
    if not errors:
        return ""
    if errors == [400] and token.token_type == "DPoP":
        return ", after a 400 that asked for a DPoP nonce"
    return f", although the token endpoint returned {' and '.join(map(str, errors))} first"


def _count_calls(count: int) -> str:
    return f"{count} call" if count == 1 else f"{count} calls"
