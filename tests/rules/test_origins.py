"""Where a token may travel: an answer of "yes" means that any client connects to just that scheme, host and port."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import pytest
import requests
import yarl
from hypothesis import example, given
from hypothesis import strategies as st

from bench import Bench, names, raised, unauthorized
from okta_m2m import ConfigurationError
from okta_m2m._core.proofs import okta_path
from okta_m2m._urls.origins import Origins, as_sent, is_loopback, origin_of, path_of
from okta_m2m.effects import Attempt

ALLOWED = Origins(["https://acme.okta.com", "https://api.example.com:8443", "http://127.0.0.1:8080", "https://[::1]"])


@pytest.mark.parametrize(
    "url",
    [
        "https://acme.okta.com",
        "https://acme.okta.com/",
        "https://acme.okta.com/api/v1/users?limit=1",
        "https://acme.okta.com?x",
        "https://acme.okta.com#x",
        "https://acme.okta.com:443/x",
        "https://acme.okta.com:/x",
        "https://ACME.OKTA.COM/x",
        "HTTPS://acme.okta.com/x",
        "https://acme.okta.com/x@y",
        "https://acme.okta.com/?x=https://evil.example/",
        "https://acme.okta.com//evil.example/",
        "https://acme.okta.com/..//evil.example",
        "wss://acme.okta.com/socket",
        "https://api.example.com:8443/orders",
        "http://127.0.0.1:8080/x",
        "https://[::1]/x",
        "https://[::1]:443/x",
    ],
)
def test_a_url_of_an_allowed_origin_is_allowed(url: str) -> None:
    assert ALLOWED.allow(url)


@pytest.mark.parametrize(
    "url",
    [
        # another scheme, host or port
        "http://acme.okta.com/x",
        "ws://acme.okta.com/x",
        "https://acme.okta.com:444/x",
        "https://acme.okta.com:80/x",
        "https://acme.okta.com:0/x",
        "https://api.example.com/orders",
        "https://api.example.com:84430/orders",
        "https://api.example.com:8443x/orders",
        "http://127.0.0.1:80801/x",
        "https://127.0.0.1:8080/x",
        "ftp://acme.okta.com/x",
        "file://acme.okta.com/x",
        "javascript://acme.okta.com/x",
        # a longer or a shorter host
        "https://acme.okta.com.evil.example/x",
        "https://acme.okta.comevil.example/x",
        "https://evil-acme.okta.com/x",
        "https://acme.okta.co/x",
        "https://okta.com/x",
        "https://xacme.okta.com/x",
        "https://acme.okta.com./x",
        "https://acme.okta.com.:443/x",
        "https://acme-okta.com/x",
        # userinfo
        "https://acme.okta.com@evil.example/",
        "https://acme.okta.com:443@evil.example/",
        "https://acme.okta.com%40evil.example/",
        "https://evil.example@acme.okta.com/",
        "https://user:secret@acme.okta.com/",
        "https://@acme.okta.com/",
        "https://:@acme.okta.com/",
        # what parsers read in two ways
        "https://acme.okta.com\\@evil.example/",
        "https://evil.example\\@acme.okta.com/",
        "https://evil.example\\.acme.okta.com/",
        "https://evil.example#@acme.okta.com/",
        "https://evil.example?@acme.okta.com/",
        "https://evil.example/@acme.okta.com/",
        "https:\\\\acme.okta.com/",
        "https:/acme.okta.com/",
        "https:acme.okta.com/",
        "https:///acme.okta.com/",
        "https:////acme.okta.com/",
        "//acme.okta.com/x",
        "acme.okta.com/x",
        "/x",
        "",
        " https://acme.okta.com/x",
        "\thttps://acme.okta.com/x",
        "https://acme.okta.com\t.evil.example/x",
        "https://acme.okta.com\n.evil.example/x",
        "https://acme.okta.com\r\n/x",
        "https://acme.okta.com\x00.evil.example/x",
        "https://acme.okta.com .evil.example/x",
        "https://acme.okta.com%00.evil.example/x",
        "https://acme.okta.com%2eevil.example/x",
        "https://acme%2eokta.com/x",
        "https://acme.okta.com%2f.evil.example/x",
        "https://acme.okta.com;evil.example/x",
        "https://acme.okta.com,evil.example/x",
        "https://acme.okta.com&evil.example/x",
        "https://acme.okta.com:443:443/x",
        "https://acme.okta.com:\uff14\uff14\uff13/x",
        "https://acme.okta.com:+443/x",
        "https://acme.okta.com:-443/x",
        "https://acme.okta.com: 443/x",
        "https://acme.okta.com:4_43/x",
        "https://acme.okta.com:65979/x",
        # hosts that look alike
        "https://аcme.okta.com/x",  # noqa: RUF001 (a Cyrillic a, which is the point)
        "https://acme。okta。com.evil.example/x",
        "https://xn--cme-7cd.okta.com/x",
        "https://acme.okta.com\u2044.evil.example/x",
        "https://acme.okta.com\uff0f.evil.example/x",
        "https://acme.okta.com\u200b/x",
        "https://acme\u3002okta.com/x",
        "https://\uff41cme.okta.com/x",
        # addresses written otherwise
        "http://127.1:8080/x",
        "http://0x7f000001:8080/x",
        "http://2130706433:8080/x",
        "http://0177.0.0.1:8080/x",
        "http://127.0.0.1.:8080/x",
        "http://[::ffff:127.0.0.1]:8080/x",
        "http://localhost:8080/x",
        "https://[::1]evil.example/x",
        "https://[::1",
        "https://::1/x",
        "https://[::1%25eth0]/x",
        "https://[0:0:0:0:0:0:0:1]/x",
        "https://[v1.x]/x",
        # longer than a name can be
        f"https://{'a' * 64}.okta.com/x",
        f"https://{'.'.join(['a' * 63] * 4)}/x",
        f"https://{'.'.join(['ü' * 20] * 13)}/x",
    ],
)
def test_any_other_url_is_not_allowed(url: str) -> None:
    assert not ALLOWED.allow(url)


PIECES = st.sampled_from(
    ["https:", "http:", "//", "/", "\\", "@", ":", "443", "8443", "?", "#", ".", "%40", "%2e", "\t", "\n", " ", "[", "]",
     "::1", "acme.okta.com", "ACME.okta.com", "api.example.com", "evil.example", "user", "ü", "。", ";", "x", "-", "\x00"]
)  # fmt: skip


@given(st.one_of(st.lists(PIECES, max_size=10).map("".join), PIECES.map(lambda piece: f"https://acme.okta.com{piece}")))
@example("https://acme.okta.com:443@evil.example/")
def test_every_client_connects_an_allowed_url_to_an_allowed_origin(url: str) -> None:
    if not ALLOWED.allow(url):
        return
    allowed = {("acme.okta.com", 443), ("api.example.com", 8443), ("127.0.0.1", 8080), ("::1", 443)}
    sent = as_sent(url)
    assert (ALLOWED.find(url), path_of(sent)) == (origin_of(sent), urlsplit(sent).path)
    assert as_sent(path_of(url)) == path_of(sent)
    assert okta_path(path_of(url)) == okta_path(path_of(sent))
    parts = urlsplit(url)
    secure = parts.scheme in ("https", "wss")
    assert (parts.hostname, parts.port or (443 if secure else 80)) in allowed
    if parts.scheme not in ("http", "https"):
        return
    prepared = urlsplit(requests.Request("GET", url).prepare().url or "")
    assert (prepared.hostname, prepared.port or 443) in allowed
    of_httpx = httpx.URL(url)
    assert (of_httpx.host, of_httpx.port or 443) in allowed
    of_yarl = yarl.URL(url)
    assert (of_yarl.host, of_yarl.port) in allowed


@given(st.text(max_size=60))
def test_any_text_can_be_checked_without_an_error(text: str) -> None:
    assert not Origins([]).allow(text)
    origin = origin_of(text)
    assert origin is None or origin_of(origin) == origin


@pytest.mark.parametrize(
    "url", ["https://stra\u00dfe.example/x", "https://strasse\u200d.example/x", "https://\u017ftrasse.example/"]
)
def test_a_name_that_two_versions_of_idna_read_differently_is_not_allowed(url: str) -> None:
    """Python's own codec goes to ``strasse.example``; requests, httpx and aiohttp may go to another host, or to none."""
    assert not Origins(["https://strasse.example"]).allow(url)
    assert not Origins(["https://xn--strae-oqa.example"]).allow(url)


def test_a_name_with_a_character_that_idna_replaces_is_not_allowed() -> None:
    """Also where the letter that replaces it comes after it in Unicode: the sign for micro, and the Greek letter."""
    assert origin_of("https://\u00b5.example/x") is None
    assert origin_of("https://\u03bc.example/x") == "https://xn--xxa.example"


@pytest.mark.parametrize("host", ["ü..example", f"{'ü' * 64}.example"])
def test_a_name_that_idna_refuses_is_not_allowed(host: str) -> None:
    assert origin_of(f"https://{host}/x") is None


def test_port_0_is_not_allowed() -> None:
    assert origin_of("https://acme.okta.com:1/x") == "https://acme.okta.com:1"
    assert origin_of("https://acme.okta.com:0/x") is None


def test_a_name_that_is_too_long_is_not_allowed() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(longest) == 253
    assert origin_of(f"https://{longest}/x") == f"https://{longest}"
    assert origin_of(f"https://{longest}c/x") is None
    assert origin_of(f"https://{'a' * 64}/x") is None


def test_a_name_that_is_not_ascii_is_compared_in_its_idna_form() -> None:
    origins = Origins(["https://bücher.example"])
    assert origins.allowed == {"https://xn--bcher-kva.example"}
    assert origins.allow("https://bücher.example/x")
    assert origins.allow("https://xn--bcher-kva.example/x")
    assert origins.allow("https://BÜCHER.example/x")


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://api.example.com/", "https://api.example.com"),
        ("https://API.example.com:443", "https://api.example.com"),
        ("https://api.example.com:8443", "https://api.example.com:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.2", "http://127.0.0.2"),
        ("http://127.0.0.2:80", "http://127.0.0.2"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://my_service", "https://my_service"),
    ],
)
def test_a_valid_origin_can_be_allowed(text: str, origin: str) -> None:
    assert Origins([text]).allowed == {origin}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https://*.example.com", "wildcard"),
        ("*", "wildcard"),
        ("https://api.example.com/v1", "path"),
        ("https://api.example.com?x=1", "path"),
        ("https://api.example.com#x", "path"),
        ("http://api.example.com", "plain HTTP"),
        ("http://10.0.0.1", "plain HTTP"),
        ("http://localhost.example.com", "plain HTTP"),
        ("ws://api.example.com", "plain HTTP"),
        ("api.example.com", "an origin is"),
        ("//api.example.com", "an origin is"),
        ("ftp://api.example.com", "an origin is"),
        ("https://", "an origin is"),
        ("", "an origin is"),
        ("https://user:hidden@api.example.com", "an origin is"),
        ("https://api.example.com\\x", "an origin is"),
        ("https://api.example.com:99999", "an origin is"),
        (" https://api.example.com", "an origin is"),
        (7, "not an object of type int"),
        (None, "not an object of type NoneType"),
    ],
)
def test_an_invalid_origin_is_refused_with_the_remedy(text: object, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as raised:
        Origins([text])  # type: ignore[list-item]  # what is wrong is what is tested
    assert "hidden" not in str(raised.value)


def test_an_authority_that_is_allowed_with_two_schemes_is_compared_as_a_whole() -> None:
    both = Origins(["https://acme.okta.com", "http://127.0.0.1:8080", "https://127.0.0.1:8080"])
    assert both.schemes == {"acme.okta.com": "https"}
    local = Origins(["http://localhost", "http://[::1]", "http://127.0.0.1:8080", "https://[::1]:8443"])
    assert local.schemes == {"127.0.0.1:8080": "http", "[::1]:8443": "https"}
    assert both.allow("http://127.0.0.1:8080/x")
    assert both.allow("https://127.0.0.1:8080/x")


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("https://ACME.okta.com:443/y?z", True),
        ("https://acme.okta.com.evil.example/x", False),
        ("https://acme.okta.co/x", False),
        ("http://acme.okta.com/x", False),
        ("https://ada@acme.okta.com/x", False),
    ],
)
def test_an_ambiguous_url_has_the_same_origin_as_no_other(other: str, same: bool) -> None:
    assert ALLOWED.is_same("https://acme.okta.com/x", other) is same
    assert Origins.is_same(other, "https://acme.okta.com/x") is same
    assert Origins.is_same(other, other) is ("@" not in other)


def test_the_same_origins_are_kept_once() -> None:
    """A process may have an app for each of many clients of one org."""
    assert Origins(["https://acme.okta.com", "https://api.example.com"]) is Origins(
        ["https://api.example.com/", "https://ACME.okta.com"]
    )


def test_a_string_is_not_accepted_as_a_list_of_origins() -> None:
    with pytest.raises(ConfigurationError, match=r"\['https://api.example.com'\]"):
        Origins("https://api.example.com")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("128.0.0.1", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_call_to_another_origin_gets_no_token_and_fetches_none() -> None:
    bench = Bench()
    replayed = bench.authorize(unauthorized("Bearer"), url="https://evil.example/")
    assert names(replayed) == ["Attempt"]
    assert replayed.of(Attempt)[0].headers == {}


def test_headers_for_another_origin_are_refused() -> None:
    bench = Bench()
    raised(bench.replay(bench.app.headers("GET", "https://evil.example/")), ConfigurationError)
