"""A program, run in an environment of its own: another client gets a token and calls the API with it.

For each line of standard input, a task, it writes one to standard output, the result; both are JSON. It uses each client as
that client's documentation says. That a client lacks something is found out from the client itself.

Invariant: it imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.metadata import version
from typing import Any


class NotOffered(Exception):
    """The client itself reports that it does not support this."""


def authlib(task: dict[str, Any]) -> dict[str, Any]:
    from authlib.integrations.base_client import OAuthError
    from authlib.integrations.requests_client import OAuth2Session
    from authlib.oauth2.rfc7523 import PrivateKeyJWT
    from joserfc.jwk import import_key

    if task["dpop"]:
        try:
            from authlib.oauth2 import rfc9449  # noqa: F401
        except ImportError:
            raise NotOffered("no DPoP (RFC 9449)") from None
        raise AssertionError("Authlib has DPoP now: drive it here")
    endpoints = f"{task['org']}/oauth2/v1"
    by_key = {f"{kind}_endpoint_auth_method": "private_key_jwt" for kind in ("token", "revocation")}
    session = OAuth2Session(task["client_id"], import_key(task["jwk"]), scope=task["scope"], **by_key)
    headers = {"kid": task["jwk"]["kid"]}
    session.register_client_auth_method(PrivateKeyJWT(alg=task["jwk"]["alg"], headers=headers))
    try:
        token = session.fetch_token(f"{endpoints}/token", grant_type="client_credentials")
    except OAuthError as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    done = {"token_type": token["token_type"], "scope": token["scope"], "status": session.get(task["api"]).status_code}
    if task["revoke"]:
        done["active"] = session.introspect_token(f"{endpoints}/introspect", token["access_token"]).json()["active"]
        session.revoke_token(f"{endpoints}/revoke", token["access_token"])
        done["active_after"] = session.introspect_token(f"{endpoints}/introspect", token["access_token"]).json()[
            "active"
        ]
    return done


def requests_oauth2client(task: dict[str, Any]) -> dict[str, Any]:
    import requests
    from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth, PrivateKeyJwt
    from requests_oauth2client.exceptions import EndpointError

    endpoints = f"{task['org']}/oauth2/v1"
    client = OAuth2Client(
        f"{endpoints}/token",
        introspection_endpoint=f"{endpoints}/introspect",
        revocation_endpoint=f"{endpoints}/revoke",
        auth=PrivateKeyJwt(task["client_id"], task["jwk"]),
    )
    try:
        token = client.client_credentials(scope=task["scope"], dpop=task["dpop"])
    except EndpointError as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    if task["dpop"]:
        status = requests.get(task["api"], auth=token, timeout=30).status_code
    else:
        auth = OAuth2ClientCredentialsAuth(client, scope=task["scope"], token=token)
        status = requests.get(task["api"], auth=auth, timeout=30).status_code
    done = {"token_type": token.token_type, "scope": token.scope, "status": status}
    if task["revoke"]:
        done["active"] = client.introspect_token(token)["active"]
        assert client.revoke_access_token(token) is True
        done["active_after"] = client.introspect_token(token)["active"]
    return done


def okta(task: dict[str, Any]) -> dict[str, Any]:
    from okta.client import Client

    if task["revoke"] and not hasattr(Client, "revoke_token"):
        raise NotOffered("no introspection, no revocation")
    config = {
        "orgUrl": task["org"],
        "authorizationMode": "PrivateKey",
        "clientId": task["client_id"],
        "scopes": [task["scope"]],
        "privateKey": task["jwk"],
        "kid": task["jwk"]["kid"],
        "dpopEnabled": task["dpop"],
    }

    async def calls() -> dict[str, Any]:
        client = Client(config)
        try:
            users, response, error = await client.list_users()
        except ValueError as no:
            if "RSA key format" not in str(no):
                raise
            raise NotOffered("no EC key") from None
        if users is None:
            return {"refused": f"{type(error).__name__}: {error}"}
        # The client has no public way to ask which type of token it has.
        _, kind = client._request_executor._oauth.get_current_token()
        return {"token_type": kind, "scope": task["scope"], "status": response.status_code}

    return asyncio.run(calls())


def okta_client(task: dict[str, Any]) -> dict[str, Any]:
    """Exchanges the subject's token: for one of the custom server ``issuer``, or with Cross App Access."""
    from okta_client.authfoundation import LocalKeyProvider, OAuth2Client, OAuth2ClientConfiguration, OAuth2Error
    from okta_client.authfoundation.oauth2.client_authorization import ClientAssertionAuthorization
    from okta_client.authfoundation.oauth2.jwt_bearer_claims import JWTBearerClaims
    from okta_client.oauth2auth import CrossAppAccessFlow, CrossAppAccessTarget, TokenExchangeFlow

    jwk = task["jwk"]
    is_cross_app = task["kind"] == "cross app"
    issuer = task["org"] if is_cross_app else task["issuer"]
    endpoint = f"{issuer}/oauth2/v1/token" if is_cross_app else f"{issuer}/v1/token"
    # It needs the OAuth metadata for the path of an endpoint, and the audience of an assertion from its user.
    authorization = ClientAssertionAuthorization(
        assertion_claims=JWTBearerClaims(task["client_id"], task["client_id"], endpoint, 300),
        key_provider=LocalKeyProvider(jwk, jwk["alg"], jwk["kid"]),
    )
    client = OAuth2Client(OAuth2ClientConfiguration(issuer=issuer, client_authorization=authorization))
    subject = {"token": task["subject_token"], "token_type": task["subject_type"]}

    async def exchange() -> dict[str, Any]:
        if is_cross_app:
            flow = CrossAppAccessFlow(client, target=CrossAppAccessTarget(task["issuer"]))
            resource = None if task["resource"] is None else [task["resource"]]
            await flow.start(**subject, scope=[task["scope"]], resource=resource)
            token = await flow.resume()
        else:
            token = await TokenExchangeFlow(client).start(
                subject_token=subject["token"],
                subject_token_type=subject["token_type"],
                audience=task["audience"],
                scope=[task["scope"]],
            )
        return {"access_token": token.access_token, "token_type": token.token_type, "scope": " ".join(token.scope)}

    try:
        return asyncio.run(exchange())
    except OAuth2Error as error:
        return {"refused": f"{error.error}: {error.error_description}"}


def main() -> None:
    clients = {
        "authlib": authlib,
        "requests-oauth2client": requests_oauth2client,
        "okta": okta,
        "okta-client-python": okta_client,
    }
    for line in sys.stdin:
        task = json.loads(line)
        try:
            done = clients[task["client"]](task)
        except NotOffered as no:
            done = {"not_offered": str(no)}
        print(json.dumps({"version": version(task["client"]), **done}), flush=True)


if __name__ == "__main__":
    main()
