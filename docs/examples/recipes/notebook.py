"""The cells of a notebook, in an IPython that has a running event loop, as Jupyter has."""

# %% Once
import httpx

from okta_m2m import ServiceApp
from okta_m2m.httpx import OktaAuth

if "app" not in globals():  # run again, the cell keeps the app and its token
    app = ServiceApp.from_env()
    client = httpx.AsyncClient(base_url=app.org_url, auth=OktaAuth(app))

# %% As often as you like
response = await client.get("/api/v1/users")  # noqa: F704 (a cell may await)
logins = [user["profile"]["login"] for user in response.json()]
