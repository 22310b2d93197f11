"""Lists the users of the org with Okta's own SDK."""

import asyncio

from okta.client import Client

from okta_m2m import ServiceApp
from okta_m2m.okta_sdk import sdk_config


async def main() -> None:
    app = ServiceApp.from_env()
    async with Client(sdk_config(app)) as client:
        users, _, error = await client.list_users(limit=200)
        if error:
            raise SystemExit(str(error))
        for user in users:
            print(user.profile.login)


asyncio.run(main())
