"""Whatever a ``Location`` is made of, and however a client reads it: neither of our headers leaves for another host.

The redirects come from the org itself, where the token belongs; ``elsewhere`` is another server, which looks at what arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clients import Client
from okta_m2m import ServiceApp
from okta_m2m.testing import FakeOkta
from promises import USERS, credentials, either_binding, redirect

SCHEMES = ["", "http:", "HTTP:", "ht\ttp:", "http\t:", " http:", "\thttp:", "http:http:", "https:", "x:"]
SLASHES = [
    "//",
    "/",
    "///",
    "////",
    "/////",
    "\\\\",
    "/\\",
    "\\/",
    "/\t/",
    "\t//",
    "//\t",
    "/%2f",
    "/.//",
    "/..//",
    "//@",
    "//:@",
]
AUTHORITIES = [
    "{evil}",
    "{ours}@{evil}",
    "{ours}\\@{evil}",
    "{ours}%40{evil}",
    "{ours}#@{evil}",
    "{ours}?@{evil}",
    "{ours}/@{evil}",
    "{ours};@{evil}",
    "{ours}\t@{evil}",
    "{ours} @{evil}",
    "{evil}#@{ours}",
    "{evil}\\@{ours}",
    "{evil}/@{ours}",
    "{evil}\t",
    "localhost:{port}",
    "LOCALHOST:{port}",
    "localhost.:{port}",
    "127.1:{port}",
    "0x7f.1:{port}",
    "[::ffff:127.0.0.1]:{port}",
]
LOCATIONS = st.tuples(*(st.sampled_from(parts) for parts in (SCHEMES, SLASHES, AUTHORITIES))).map("".join)


@either_binding
@given(locations=st.lists(LOCATIONS, min_size=1, max_size=20), status=st.sampled_from([302, 307]))
@example(locations=["////{evil}", "ht\ttp://{evil}"], status=302)
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_no_redirect_carries_our_headers_to_another_host(
    okta: FakeOkta,
    elsewhere: FakeOkta,
    service: Callable[..., ServiceApp],
    connect: Callable[..., Client],
    locations: list[str],
    status: int,
) -> None:
    client = connect(service())
    ours, evil = urlsplit(okta.url).netloc, urlsplit(elsewhere.url).netloc
    for location in locations:
        target = location.format(ours=ours, evil=evil, port=urlsplit(elsewhere.url).port) + USERS
        with suppress(Exception):  # many of them no client can follow
            client.get(redirect(okta, target, status))
        arrived = [value for request in elsewhere.requests for value in credentials(request)]
        # From a user name in a URL some make a header of their own.
        assert not [value for value in arrived if not value.startswith("Basic ")], f"{target!r} got our headers"
    assert client.get(okta.url + USERS).status == 200
