"""Answers every request to FakeOkta: records it, applies scripted faults, and completes the response with Okta's
headers.

Invariant: each fault goes to exactly the scripted number of matching requests, in order, no matter how many threads send
requests at once. A request that a scripted fault answers also uses up its assertion and its proof, so that no test can rely
on sending either twice.
"""

from __future__ import annotations

import copy
import math
import secrets
import threading
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl

from ._endpoints import Endpoint, find_endpoint
from ._faults import HTML, Fault, change_headers, change_token, named_refusal
from ._jws import NotAJws, parse
from ._messages import Answer, ReceivedRequest
from ._org import Org
from ._refusals import Refused, api_error_answer, not_found, refusal_answer

__all__ = ["Refusal", "Responder"]

_MAX_RECORDED = 20_000
_RATE_LIMIT = 150
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
    """An org that responds to requests. ``on_answer`` is called with each request and the status of its response."""

    def __init__(
        self,
        *,
        token_lifetime: float,
        dpop: Literal["optional", "required"],
        on_answer: Callable[[ReceivedRequest, int], object] | None,
    ) -> None:
        super().__init__(token_lifetime=token_lifetime, dpop=dpop)
        #: Set when the server stops, which ends every delay.
        self._stopping = threading.Event()
        self._on_answer = on_answer
        self._token_requests = 0
        self._api_calls = 0
        self._faults: list[Fault] = []
        self._requests: deque[ReceivedRequest] = deque(maxlen=_MAX_RECORDED)
        self._refusals: deque[Refusal] = deque(maxlen=_MAX_RECORDED)

    def _answer(self, request: ReceivedRequest) -> Answer | None:
        """The response; ``None`` for an unknown path."""
        endpoint = find_endpoint(self, request.path)
        with self._mutex:
            self._requests.append(request)
            self._token_requests += endpoint.is_token
            self._api_calls += endpoint.is_api
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
                    change_token(answer, fault.token)
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
        if fault.drop:
            return Answer(0, drop=True)
        if fault.body is not None:
            return Answer(fault.status or 200, [("Content-Type", fault.content_type)], fault.body)
        status = fault.status or 200
        usual = _USUAL_ERRORS.get(status, (None, None))[endpoint.is_api]
        if fault.refusal is not None:
            refusal = copy.copy(fault.refusal)
        elif usual is not None:
            refusal = named_refusal(usual)
        else:
            return Answer(status, [("Content-Type", "text/html; charset=utf-8")], HTML if status >= 400 else b"")
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
        answer.headers = headers if fault is None else change_headers(headers, fault.headers)


def _use_up_credentials(org: Org, request: ReceivedRequest) -> None:
    used = [("proof", proof) for proof in request.all("dpop")]
    if (request.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
        form = parse_qsl(request.body.decode("latin-1"))
        used += [("assertion", value) for name, value in form if name == "client_assertion"]
    for kind, token in used:
        try:
            claims = parse(token).claims
        except NotAJws:
            continue
        if isinstance(claims.get("jti"), str):
            org.first_use(f"assertion {claims.get('iss')}" if kind == "assertion" else kind, claims["jti"])
