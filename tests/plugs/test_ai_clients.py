"""The clients of OpenAI and Anthropic, LangChain and LiteLLM at an API behind Okta, such as a gateway for language models:
``replaces=``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

import okta_m2m.httpx2
from guarded_server import Guard, Message, Receive, Send, serving
from okta_m2m import ServiceApp
from okta_m2m.events import AuthorizationKept
from okta_m2m.testing import FakeOkta
from promises import Events, credentials
from services import eventually

with warnings.catch_warnings(
    action="ignore", category=DeprecationWarning
):  # litellm 1.80 reads its files in an old way
    import litellm

# Of LiteLLM.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning:pydantic"
)

WORDS = ["one ", "two ", "three"]

Service = Callable[..., ServiceApp]


class Gateway:
    """Both APIs, as far as the clients need them. A stream pauses after its first word until ``go_on`` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        answers = _anthropic if scope["path"].endswith("/messages") else _openai
        is_stream = json.loads(body).get("stream", False)
        kind = b"text/event-stream" if is_stream else b"application/json"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        for number, part in enumerate(answers(is_stream)):
            if number == PAUSE:
                await asyncio.to_thread(self.go_on.wait)
            await send({"type": "http.response.body", "body": part.encode(), "more_body": True})
        await send({"type": "http.response.body"})


PAUSE = 3
"""The part of a stream before which it waits: by then, each client has shown its first word."""


def _openai(is_stream: bool) -> Iterator[str]:
    common = {"id": "c", "created": 0, "model": "m"}
    if not is_stream:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "".join(WORDS)}}
        yield json.dumps({**common, "object": "chat.completion", "choices": [choice]})
        return
    deltas: list[tuple[dict[str, str], str | None]] = [({"content": word}, None) for word in ["", "", *WORDS]]
    for delta, reason in [*deltas, ({}, "stop")]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield f"data: {json.dumps({**common, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
    yield "data: [DONE]\n\n"


def _anthropic(is_stream: bool) -> Iterator[str]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    if not is_stream:
        content = [{"type": "text", "text": "".join(WORDS)}]
        yield json.dumps({**message, "content": content, "stop_reason": "end_turn"})
        return
    yield _event("message_start", message=message)
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for word in WORDS:
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
    yield _event("content_block_stop", index=0)
    yield _event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)
    yield _event("message_stop")


def _event(kind: str, **data: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"


def openai_words(client: openai.OpenAI) -> Iterator[str]:
    messages: Any = [{"role": "user", "content": "count"}]
    with client.chat.completions.create(model="m", messages=messages, stream=True) as stream:
        yield from (part.choices[0].delta.content for part in stream if part.choices[0].delta.content)


def openai_text(client: openai.OpenAI) -> str:
    messages: Any = [{"role": "user", "content": "count"}]
    return client.chat.completions.create(model="m", messages=messages).choices[0].message.content or ""


def anthropic_words(client: anthropic.Anthropic) -> Iterator[str]:
    with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "count"}]) as stream:
        yield from stream.text_stream


def anthropic_text(client: anthropic.Anthropic) -> str:
    made = client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "count"}])
    return made.content[0].text


def langchain_words(client: ChatOpenAI) -> Iterator[str]:
    yield from (part.text for part in client.stream("count") if part.text)


def langchain_text(client: ChatOpenAI) -> str:
    return client.invoke("count").text


def litellm_words(client: openai.OpenAI) -> Iterator[str]:
    stream = _litellm_completion(client, stream=True)
    yield from (part.choices[0].delta.content for part in stream if part.choices[0].delta.content)


def litellm_text(client: openai.OpenAI) -> str:
    return _litellm_completion(client, stream=False).choices[0].message.content


def _litellm_completion(client: openai.OpenAI, *, stream: bool) -> Any:
    messages = [{"role": "user", "content": "count"}]
    return litellm.completion(model="openai/m", messages=messages, stream=stream, client=client, max_retries=0)


def langchain_client(url: str, key: str, http: httpx2.Client) -> ChatOpenAI:
    return ChatOpenAI(model="m", base_url=f"{url}/v1", api_key=SecretStr(key), http_client=http, max_retries=0)


def openai_client(url: str, key: str, http: httpx2.Client) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, http_client=http, max_retries=0)


def anthropic_client(url: str, key: str, http: httpx2.Client) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, auth_token=key, http_client=http, max_retries=0)


USES: dict[str, tuple[Any, Any, Any]] = {
    "openai": (openai_client, openai_words, openai_text),
    "anthropic": (anthropic_client, anthropic_words, anthropic_text),
    "langchain": (langchain_client, langchain_words, langchain_text),
    "litellm": (openai_client, litellm_words, litellm_text),
}


@pytest.fixture(params=USES)
def uses(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    """How to make a client, how to stream with it, and how to call without a stream."""
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    return USES[request.param]


@pytest.fixture(autouse=True)
def _loop_of_litellm() -> Iterator[None]:
    """LiteLLM takes the thread's event loop for its log, and makes one that it never closes if there is none."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(autouse=True)
def _garbage_of_litellm() -> Iterator[None]:
    """A stream of LiteLLM sets context variables when it is finalized. Before Python 3.12, the process may crash if a collection
    does that while a thread sets one (https://github.com/python/cpython/issues/148891). So it is collected at a quiet moment."""
    gc.disable()
    yield
    gc.collect()
    gc.enable()


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def guard(okta: FakeOkta, gateway: Gateway) -> Guard:
    return Guard(okta, gateway)


@pytest.fixture
def url(guard: Guard) -> Iterator[str]:
    with serving(guard) as running:
        yield running


def test_the_token_is_sent_in_place_of_the_key(
    okta: FakeOkta, service: Service, uses: tuple[Any, Any, Any], guard: Guard, url: str
) -> None:
    made, words, text = uses
    with httpx2.Client(auth=okta_m2m.httpx2.OktaAuth(service(origins=[url]), replaces="unused")) as http:
        client = made(url, "unused", http)
        assert text(client) == "".join(WORDS)
        assert list(words(client)) == WORDS
    assert okta.tokens_minted == 1
    assert [status for _, status in guard.seen] == [200, 200]
    assert [value for value, _ in guard.seen if "unused" in value] == []


def test_a_token_revoked_in_the_middle_of_a_stream_costs_no_call(
    okta: FakeOkta, service: Service, uses: tuple[Any, Any, Any], guard: Guard, gateway: Gateway, url: str
) -> None:
    made, words, text = uses
    with httpx2.Client(auth=okta_m2m.httpx2.OktaAuth(service(origins=[url]), replaces="unused")) as http:
        client = made(url, "unused", http)
        gateway.go_on.clear()
        stream = words(client)
        assert next(stream) == WORDS[0]
        okta.revoke_all()
        gateway.go_on.set()
        assert list(stream) == WORDS[1:]
        assert list(words(client)) == WORDS, "the next stream"
        okta.revoke_all()
        assert text(client) == "".join(WORDS)
    assert okta.tokens_minted == 3
    assert guard.refused == 2


def test_the_async_clients_stream_with_the_token_too(okta: FakeOkta, service: Service, guard: Guard, url: str) -> None:
    """Both clients share one app, in one event loop."""
    app = service(origins=[url])
    messages: Any = [{"role": "user", "content": "count"}]

    async def main() -> None:
        async with httpx2.AsyncClient(auth=okta_m2m.httpx2.OktaAuth(app, replaces="unused")) as http:
            gpt = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", http_client=http)
            claude = anthropic.AsyncAnthropic(base_url=url, auth_token="unused", http_client=http)
            for _ in range(2):
                stream = await gpt.chat.completions.create(model="m", messages=messages, stream=True)
                assert "".join([part.choices[0].delta.content or "" async for part in stream]) == "".join(WORDS)
                async with claude.messages.stream(model="m", max_tokens=9, messages=messages) as streamed:
                    assert [text async for text in streamed.text_stream] == WORDS
                okta.revoke_all()

    asyncio.run(main())
    assert (okta.tokens_minted, guard.refused) == (2, 1)


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_another_key_than_the_placeholder_is_kept_and_reported(
    okta: FakeOkta, service: Service, uses: tuple[Any, Any, Any], guard: Guard, url: str
) -> None:
    made, _, text = uses
    events = Events()
    auth = okta_m2m.httpx2.OktaAuth(service(origins=[url], on_event=events), replaces="unused")
    with httpx2.Client(auth=auth) as http, pytest.raises((openai.AuthenticationError, anthropic.AuthenticationError)):
        text(made(url, "sk-mine", http))
    assert [value for value, _ in guard.seen] == ["Bearer sk-mine"]
    eventually(lambda: [event.origin for event in events.of(AuthorizationKept)] == [url], "it is reported")
    assert okta.token_requests == 0


def test_another_origin_gets_the_placeholder_and_no_token(
    okta: FakeOkta, elsewhere: FakeOkta, service: Service, uses: tuple[Any, Any, Any], url: str
) -> None:
    made, _, text = uses
    auth = okta_m2m.httpx2.OktaAuth(service(origins=[url]), replaces="unused")
    with httpx2.Client(auth=auth) as http, pytest.raises((openai.NotFoundError, anthropic.NotFoundError)):
        text(made(elsewhere.url, "unused", http))
    assert [credentials(request) for request in elsewhere.requests] == [["Bearer unused"]]
    assert okta.token_requests == 0
