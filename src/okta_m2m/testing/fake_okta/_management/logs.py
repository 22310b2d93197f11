"""``/api/v1/logs``: the System Log, which has an event for each access token that was issued.

Invariant: a polling request (no ``until``, ascending) has a ``next`` link on every page, even on an empty one; any other
request has one only if there are more events. Events older than 90 days are not returned (Okta, "System Log API").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlencode
from uuid import NAMESPACE_URL, uuid5

from .._access import Caller
from .._messages import Answer, ReceivedRequest, json_answer
from .._org import Org
from .._refusals import FieldError, Refused
from .._tokens import IssuedToken

RETENTION: Final = 90 * 86_400.0  # seconds
_OLDEST_SINCE = 180 * 86_400.0  # seconds
_DEFAULT_SPAN = 7 * 86_400.0  # seconds
_DEFAULT_PAGE = 100
_LARGEST_PAGE = 1000

_Filter: TypeAlias = Callable[[Mapping[str, Any]], bool]
_WORD = re.compile(
    r'\s*(?:(?P<sign>[()])|(?P<join>and|or)\b|(?P<field>[\w.]+)\s+(?P<test>eq|ne|co|sw|ew)\s+"(?P<value>[^"]*)")'
)
_TESTS: dict[str, Callable[[str, str], bool]] = {
    "eq": str.__eq__,
    "ne": str.__ne__,
    "co": str.__contains__,
    "sw": str.startswith,
    "ew": str.endswith,
}


def list_logs(org: Org, request: ReceivedRequest, caller: Caller) -> Answer:
    query = {name: values[0] for name, values in parse_qs(request.query).items()}
    order, until = query.get("sortOrder", "ASCENDING"), query.get("until", "")
    if order not in ("ASCENDING", "DESCENDING"):
        raise FieldError("sortOrder", "sortOrder: The field must be ASCENDING or DESCENDING")
    if "q" in query:
        raise FieldError("q", "q: FakeOkta supports no search for keywords.")
    limit = _read_limit(query.get("limit", str(_DEFAULT_PAGE)))
    now = org.now()
    latest = _read_time("until", until) if until else now
    earliest = _read_time("since", query["since"]) if query.get("since") else latest - _DEFAULT_SPAN
    if now - earliest > _OLDEST_SINCE:
        raise _invalid_query("Invalid parameter: The since parameter is over 180 days prior to the current day.")
    issued = sorted(org.tokens(), key=lambda token: token.issued_at, reverse=order == "DESCENDING")
    found = [_event(org, token) for token in issued if max(earliest, now - RETENTION) <= token.issued_at <= latest]
    if query.get("filter"):
        matches = _read_filter(query["filter"])
        found = [event for event in found if matches(event)]
    begin, after = 0, query.get("after", "0")
    if after != "0":
        begin = next((number + 1 for number, event in enumerate(found) if event["uuid"] == after), -1)
        if begin < 0:
            raise FieldError("after", "after: The cursor is not valid.")
    page = found[begin : begin + limit]
    answer = json_answer(200, page)
    own = f"?{request.query}" if request.query else ""
    answer.headers.append(("link", f'<{org.url}{request.path}{own}>; rel="self"'))
    polls = not until and order == "ASCENDING"
    if polls or begin + limit < len(found):
        cursor = page[-1]["uuid"] if page else after
        following = urlencode({**query, "after": cursor})
        answer.headers.append(("link", f'<{org.url}{request.path}?{following}>; rel="next"'))
    return answer


def _event(org: Org, token: IssuedToken) -> dict[str, Any]:
    """The event for a token, as recorded at Okta, without what it says about the machine and the place of the client."""
    app = org.apps.get(token.client_id)
    kind = f"app.oauth2{'.as' if token.issuer else ''}.token.grant.access_token"
    path = f"/oauth2/{token.issuer}/v1/token" if token.issuer else "/oauth2/v1/token"
    debug = {
        "clientAuthType": "private_key_jwt",
        "grantType": "client_credentials",
        "grantedScopes": ", ".join(token.scopes),
        "requestedScopes": ", ".join(token.scopes),
        "requestUri": path,
        "url": f"{path}?",
    }
    return {
        "actor": {
            "id": token.client_id,
            "type": "PublicClientApp",
            "alternateId": token.client_id,
            "displayName": app.label if app is not None else "unknown",
        },
        "authenticationContext": {"authenticationStep": 0, "externalSessionId": "unknown"},
        "displayMessage": "OAuth2 access token is granted" if token.issuer else "OIDC access token is granted",
        "eventType": kind,
        "outcome": {"result": "SUCCESS"},
        "published": _iso(token.issued_at),
        "severity": "INFO",
        "debugContext": {"debugData": {**debug, **({"authorizationServer": token.issuer} if token.issuer else {})}},
        "legacyEventType": f"{kind}_success",
        "transaction": {"type": "WEB", "id": token.jti, "detail": {}},
        "uuid": str(uuid5(NAMESPACE_URL, token.jti)),
        "version": "0",
        "request": {"ipChain": []},
        "target": [
            {
                "id": token.jti,
                "type": "access_token",
                "displayName": "Access Token",
                "detailEntry": {"expires": _iso(token.expires_at), "subject": token.client_id},
            }
        ],
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read_limit(text: str) -> int:
    limit = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= limit <= _LARGEST_PAGE:
        raise FieldError("limit", f"limit: The field must be between 0 and {_LARGEST_PAGE}")
    return limit


def _read_time(name: str, text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        causes = (
            f"{name}: The date format in your query is not recognized. Please enter dates using ISO8601 string format.",
            f"{name}: must be a valid date-time or empty.",
        )
        raise Refused("E0000001", name, *causes) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _invalid_query(summary: str) -> Refused:
    """400 E0000053 with the summary that Okta's reference shows for the mistake."""
    refused = Refused("E0000053")
    refused.description = summary
    return refused


# ── filters: SCIM expressions (RFC 7644 section 3.4.2.2) with and, or, parentheses, and comparisons of strings ───────


def _read_filter(text: str) -> _Filter:
    words: list[re.Match[str]] = []
    end = 0
    while text[end:].strip():
        word = _WORD.match(text, end)
        if word is None:
            raise _invalid_query(f"Invalid filter '{text}': FakeOkta cannot read it from position {end}.")
        words.append(word)
        end = word.end()
    words.reverse()
    found = _read_any(words, text)
    if words:
        raise _invalid_query(f"Invalid filter '{text}'.")
    return found


def _read_any(words: list[re.Match[str]], text: str) -> _Filter:
    choices = [_read_all(words, text)]
    while words and words[-1]["join"] == "or":
        words.pop()
        choices.append(_read_all(words, text))
    return lambda event: any(choice(event) for choice in choices)


def _read_all(words: list[re.Match[str]], text: str) -> _Filter:
    parts = [_read_one(words, text)]
    while words and words[-1]["join"] == "and":
        words.pop()
        parts.append(_read_one(words, text))
    return lambda event: all(part(event) for part in parts)


def _read_one(words: list[re.Match[str]], text: str) -> _Filter:
    word = words.pop() if words else None
    if word is not None and word["sign"] == "(":
        inner = _read_any(words, text)
        if words and words.pop()["sign"] == ")":
            return inner
    if word is None or word["field"] is None:
        raise _invalid_query(f"Invalid filter '{text}'.")
    names, test, value = word["field"].split("."), _TESTS[word["test"]], word["value"]
    if names[0] not in ("actor", "client", "debugContext", "eventType", "outcome", "severity", "target", "transaction"):
        raise _invalid_query(f"field is not valid: {word['field']}")
    return lambda event: any(test(found, value) for found in _values(event, names))


def _values(found: Any, names: list[str]) -> list[str]:
    """The strings at a path; those of every item, if a list is on the way."""
    if isinstance(found, list):
        return [value for item in found for value in _values(item, names)]
    if not names:
        return [found] if isinstance(found, str) else []
    return _values(found.get(names[0]), names[1:]) if isinstance(found, dict) else []
