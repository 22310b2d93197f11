"""What the policy decides, seen at its flows, where no socket could bring about the order of events."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from okta_m2m import ServiceApp, Token
from okta_m2m.effects import Attempt, Discard, Request, Response
from okta_m2m.runtimes import Done, Threads, advance
from okta_m2m.testing import FakeOkta


def no_sending(request: Request, timeout: float) -> Response:
    pytest.fail(f"nothing was to be sent, but {request} was")


def claims(proof: str) -> Any:
    payload = proof.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def test_a_nonce_that_comes_in_late_does_not_displace_the_one_that_was_asked_for(
    okta: FakeOkta, new_service: Callable[..., ServiceApp]
) -> None:
    app, runtime = new_service(okta), Threads(no_sending)
    token, url = Token("value", "DPoP"), f"{okta.url}/api/v1/users"

    def answered(status: int, nonce: str) -> Any:
        headers = [("DPoP-Nonce", nonce)]
        if status == 401:
            headers.append(("WWW-Authenticate", 'DPoP error="use_dpop_nonce"'))
        return app.authorize("GET", url, replayable=True, answered=(token, Response(status, headers)))

    asked = answered(401, "new")
    assert isinstance(advance(asked, runtime), Discard)
    assert isinstance(advance(answered(200, "old"), runtime), Done)  # it left the server before the other
    attempt = advance(asked, runtime)
    asked.close()
    assert isinstance(attempt, Attempt)
    assert claims(attempt.headers["DPoP"])["nonce"] == "new"
