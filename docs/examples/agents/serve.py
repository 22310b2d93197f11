"""An API that calls another API for its caller, against a stand-in for Okta. It ends by itself.

ada's app ── ada's token ──▶ orders API ── a token for ada, from Okta ──▶ stock API
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import requests
from incoming import Incoming
from joserfc.errors import JoseError

from okta_m2m import PrivateKey, ServiceApp
from okta_m2m.errors import SubjectRefused, TokenError
from okta_m2m.requests import OktaAuth
from okta_m2m.testing import FakeOkta

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


class OrdersAPI(BaseHTTPRequestHandler):
    """Verifies its caller's token, and calls the stock API for that caller."""

    incoming: Incoming
    app: ServiceApp
    stock_url: str

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            self.incoming.verify(token)
        except (JoseError, ValueError):
            return self.answer(401, "not a token for this API; nothing was sent to Okta")
        for_caller = self.app.on_behalf_of(token, audience="api://stock", scopes=["stock:read"])
        try:
            response = requests.get(self.stock_url, auth=OktaAuth(for_caller), timeout=10)
        except SubjectRefused:
            return self.answer(401, "Okta refused the caller's token; the caller must sign in again")
        except TokenError:
            return self.answer(503, "Okta cannot be reached")
        seen = response.json()
        return self.answer(
            200, f"the stock API saw {seen['subject']}, who called through {seen['client_id']}"
        )

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Bearer error="invalid_token"')
        self.end_headers()
        self.wfile.write(json.dumps(text).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def main() -> None:
    key = PrivateKey.generate("ES256", kid="orders")
    with FakeOkta() as okta:
        # At Okta: an authorization server for each API, and a service app for the orders API.
        okta.add_authorization_server("orders", scopes=["orders:read"], audience="api://orders")
        okta.add_authorization_server(
            "stock", scopes=["stock:read"], audience="api://stock", trusted_servers=["orders"]
        )
        okta.add_app(key, client_id="0oaorders", grant_types=[TOKEN_EXCHANGE])
        website = okta.add_app()

        OrdersAPI.stock_url = okta.protect("/stock", server="stock", scope="stock:read")
        OrdersAPI.incoming = Incoming(okta.issuer_url("orders"), "api://orders")
        OrdersAPI.app = ServiceApp(
            okta.url,
            client_id="0oaorders",
            key=key,
            scopes=["stock:read"],
            authorization_server="stock",
            origins=[okta.url],
        )
        with OrdersAPI.app, serving(OrdersAPI) as orders_url:

            def call(who: str, token: str) -> None:
                headers = {"Authorization": f"Bearer {token}"}
                response = requests.get(orders_url, headers=headers, timeout=30)
                print(f"{who}: {response.status_code}, {response.json()}")

            ada, bob = okta.add_user("ada@example.com"), okta.add_user("bob@example.com")
            sign_in = {"app": website, "server": "orders", "scopes": ["orders:read"]}
            adas, bobs = ada.access_token(**sign_in), bob.access_token(**sign_in)
            call("Ada", adas)
            call("Bob", bobs)
            call("Ada again", adas)
            call("Ada, with a token for another API", ada.access_token(website))
            cat = okta.add_user("cat@example.com")
            cats = cat.access_token(**sign_in)
            cat.end_session()
            call("Cat, signed out before the first call", cats)
            print(f"{okta.token_requests} token requests for 5 calls")


if __name__ == "__main__":
    main()
