"""Answers every request to FakeOkta: records it, applies scripted faults, and completes the response with Okta's
headers.

Invariant: each fault goes to exactly the scripted number of matching requests, in order, no matter how many threads send
requests at once. By name alone, only an error that Okta is known to send can be scripted. A request that a scripted fault
answers also uses up its assertion and its proof, so that no test can rely on sending either twice.
"""

from __future__ import annotations

import copy
import json
import math
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qsl

from ._endpoints import Endpoint, find_endpoint
from ._jws import NotAJws, parse
from ._messages import Answer, ReceivedRequest
from ._org import Org
from ._refusals import ERRORS, Refused, api_error_answer, not_found, refusal_answer

_MAX_RECORDED = 20_000
_RATE_LIMIT = 150
_HTML = b"<!DOCTYPE html><html><head><title>Okta</title></head><body><h1>Something went wrong</h1></body></html>"
#: Scripted status -> the error at an OAuth endpoint, and at an API, if the script names none. Otherwise, the body is HTML.
_USUAL_ERRORS = {
    400: ("invalid_request", None),
    401: ("invalid_client", "access_token_invalid"),
    403: ("access_denied", "access_token_insufficient_scopes"),
    404: ("E0000007", "E0000007"),
    429: ("E0000047", "E0000047"),
    500: ("server_error", "E0000009"),
    503: ("E0000010", "E0000010"),
}

HeaderChanges: TypeAlias = "Mapping[str, str | None] | Sequence[tuple[str, str]]"


@dataclass(slots=True)
class Fault:
    """One scripted fault. Without ``answer``, ``status`` and ``refusal`` the request gets its ordinary response."""

    on: str
    left: int
    delay: float
    answer: Answer | None
    status: int | None
    refusal: Refused | None
    #: Seconds from now on the org's clock, for the ``x-rate-limit-reset`` of a 429.
    reset: float
    concurrency: bool
    headers: HeaderChanges
    token: Mapping[str, Any] = field(repr=False)

    @property
    def replaces_answer(self) -> bool:
        return self.answer is not None or self.status is not None or self.refusal is not None

    def matches(self, path: str, is_token_request: bool) -> bool:
        return is_token_request if self.on == "token" else fnmatchcase(path, self.on)


class Refusal(NamedTuple):
    """A request that FakeOkta refused as invalid. A scripted fault is not recorded as a refusal.

    - ``status``: the HTTP status of the response.
    - ``error``: the OAuth ``error``, or the ``errorCode`` of the management API.
    - ``error_description``: the ``error_description``, or the ``errorSummary`` of the management API.
    - ``path``: the path of the request.
    """

    status: int
    error: str
    error_description: str
    path: str


class Responder(Org):
    """An org that responds to requests."""

    #: Called with each request and the status of its response.
    _on_answer: Callable[[ReceivedRequest, int], object] | None

    def __init__(self) -> None:
        super().__init__()
        self.token_requests = 0
        self.api_calls = 0
        #: Set when the server stops, which ends every delay.
        self._stopping = threading.Event()
        self._faults: list[Fault] = []
        self._requests: deque[ReceivedRequest] = deque(maxlen=_MAX_RECORDED)
        self._refusals: deque[Refusal] = deque(maxlen=_MAX_RECORDED)

    def _answer(self, request: ReceivedRequest) -> Answer | None:
        """The response; ``None`` for an unknown path."""
        endpoint = find_endpoint(self, request.path)
        with self._mutex:
            self._requests.append(request)
            self.token_requests += endpoint.is_token
            self.api_calls += endpoint.is_api
        if endpoint.is_token and self.token_delay:
            self._stopping.wait(self.token_delay)
        fault = self._take_fault(request.path, endpoint.is_token)
        if fault is not None and fault.delay:
            self._stopping.wait(fault.delay)
        try:
            if fault is not None and fault.replaces_answer:
                _use_up_credentials(self, request)
                answer = self._scripted_answer(endpoint, request, fault)
            elif endpoint.answer is None:
                return None
            else:
                answer = endpoint.answer(self, request)
                if fault is not None and fault.token and endpoint.is_token:
                    _change_token(answer, fault.token)
        except Refused as refused:
            answer = refusal_answer(request, refused, is_api=endpoint.is_api, protected=endpoint.protected)
            self._record(refused, request.path)
        self._complete(answer, fault)
        if self._on_answer is not None:
            self._on_answer(request, answer.status)
        return answer

    def _not_found(self, path: str) -> Answer:
        """The response for an unknown path that has no pytest-httpserver handler either."""
        refused = not_found(path, "Resource")
        self._record(refused, path)
        answer = api_error_answer(refused)
        self._complete(answer, None)
        return answer

    def _take_fault(self, path: str, is_token_request: bool) -> Fault | None:
        """The first fault for a request to ``path``, used once; ``None`` if there is none."""
        with self._mutex:
            for fault in self._faults:
                if fault.matches(path, is_token_request):
                    fault.left -= 1
                    if fault.left <= 0:
                        self._faults.remove(fault)
                    return fault
        return None

    def _record(self, refused: Refused, path: str) -> None:
        with self._mutex:
            self._refusals.append(Refusal(refused.status, refused.error, refused.description, path))

    def _scripted_answer(self, endpoint: Endpoint, request: ReceivedRequest, fault: Fault) -> Answer:
        if fault.answer is not None:
            return copy.copy(fault.answer)
        status = fault.status or 200
        usual = _USUAL_ERRORS.get(status, (None, None))[endpoint.is_api]
        if fault.refusal is not None:
            refusal = copy.copy(fault.refusal)
        elif usual is not None:
            refusal = named_refusal(usual)
        else:
            return Answer(status, [("Content-Type", "text/html; charset=utf-8")], _HTML if status >= 400 else b"")
        if refusal.error == "use_dpop_nonce":
            pool = self.resource_nonces if endpoint.is_api else self.nonces
            refusal.nonce = pool.current(self.now())
        answer = refusal_answer(request, refusal, is_api=endpoint.is_api, protected=endpoint.protected)
        answer.status = fault.status or answer.status
        if fault.refusal is None and status == 429:
            answer.headers += self._rate_limit(0 if fault.concurrency else _RATE_LIMIT, 0, fault.reset)
        return answer

    def _rate_limit(self, limit: int, remaining: int, reset: float) -> list[tuple[str, str]]:
        return [
            ("x-rate-limit-limit", str(limit)),
            ("x-rate-limit-remaining", str(remaining)),
            ("x-rate-limit-reset", str(math.floor(self.now()) + math.ceil(reset))),
        ]

    def _complete(self, answer: Answer, fault: Fault | None) -> None:
        """Adds the headers of every Okta response, and the scripted ones."""
        if answer.drop:
            return
        headers = [("Date", formatdate(self.now(), usegmt=True)), *answer.headers]
        headers.append(("x-okta-request-id", secrets.token_hex(16)))
        if not any(name == "x-rate-limit-limit" for name, _ in headers):
            headers += self._rate_limit(_RATE_LIMIT, _RATE_LIMIT - 1, 60)
        answer.headers = headers if fault is None else _change_headers(headers, fault.headers)


def _use_up_credentials(org: Org, request: ReceivedRequest) -> None:
    used = [("proof", proof) for proof in request.all("dpop")]
    if (request.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
        form = parse_qsl(request.body.decode("latin-1"))
        used += [("assertion", value) for name, value in form if name == "client_assertion"]
        used += [("id-jag", value) for name, value in form if name == "assertion"]
    for kind, token in used:
        try:
            claims = parse(token).claims
        except NotAJws:
            continue
        if isinstance(claims.get("jti"), str):
            org.first_use(f"assertion {claims.get('iss')}" if kind == "assertion" else kind, claims["jti"])


def named_refusal(name: str, description: str | None = None, status: int | None = None) -> Refused:
    """The refusal with this ``internalErrorCode``, OAuth ``error``, or ``errorCode`` of the management API."""
    code = name if name in ERRORS else next((code for code, row in ERRORS.items() if row[1] == name), None)
    if code is not None:
        refused = Refused(code)
    elif description is not None:
        refused = Refused("invalid_request")
        refused.error = name
    else:
        raise ValueError(
            f"{name!r} is not an error that Okta is known to send. To send it anyway, pass description= too."
        )
    refused.status = status or refused.status
    refused.description = description or refused.description
    return refused


def answer_with(body: object, status: int, *, html: bool, garbage: bool) -> Answer | None:
    """A response with a scripted body; ``None`` if no body is scripted."""
    content_type = "application/json"
    if html:
        content_type, content = "text/html; charset=utf-8", _HTML
    elif garbage:
        content = b'{"token_type": "Bear\xff'
    elif body is None:
        return None
    elif isinstance(body, bytes):
        content_type, content = "application/octet-stream", body
    elif isinstance(body, str):
        content_type, content = "text/plain; charset=utf-8", body.encode()
    else:
        content = json.dumps(body).encode()
    return Answer(status, [("Content-Type", content_type)], content)


def _change_token(answer: Answer, changes: Mapping[str, Any]) -> None:
    """Changes members of a token response; ``None`` removes one."""
    content = {**json.loads(answer.body), **changes}
    answer.body = json.dumps({name: value for name, value in content.items() if value is not None}).encode()


def _change_headers(headers: list[tuple[str, str]], changes: HeaderChanges) -> list[tuple[str, str]]:
    """``headers`` with those in ``changes`` added or replaced; ``None`` removes one."""
    pairs: Iterable[tuple[str, str | None]] = changes.items() if isinstance(changes, Mapping) else changes
    pairs = list(pairs)
    replaced = {name.lower() for name, _ in pairs}
    kept = [(name, value) for name, value in headers if name.lower() not in replaced]
    return kept + [(name, value) for name, value in pairs if value is not None]
