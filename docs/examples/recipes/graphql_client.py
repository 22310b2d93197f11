"""A GraphQL client (gql), with tokens of a custom authorization server."""

from gql import Client
from gql.transport.requests import RequestsHTTPTransport

from okta_m2m import ServiceApp
from okta_m2m.requests import OktaAuth


def connect(app: ServiceApp, url: str) -> Client:
    return Client(transport=RequestsHTTPTransport(url, auth=OktaAuth(app), timeout=30))
