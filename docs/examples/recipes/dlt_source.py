"""A dlt resource that reads users from Okta, page by page."""

from collections.abc import Iterator
from typing import Any

import dlt
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.paginators import HeaderLinkPaginator

from okta_m2m import ServiceApp
from okta_m2m.requests import OktaAuth


@dlt.resource(name="users", primary_key="id", write_disposition="merge")
def okta_users() -> Iterator[list[Any]]:
    app = ServiceApp.from_env()
    client = RESTClient(base_url=app.org_url, auth=OktaAuth(app), paginator=HeaderLinkPaginator())
    yield from client.paginate("/api/v1/users", params={"limit": 200})
