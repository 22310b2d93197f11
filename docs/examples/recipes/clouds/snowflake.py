"""Snowflake: a connection of a service user, without a password or a key pair."""

import snowflake.connector

from okta_m2m import ServiceApp
from okta_m2m.federation import subject_token
from okta_m2m.requests import OktaAuth


def connect(app: ServiceApp, account: str, **options: str) -> snowflake.connector.SnowflakeConnection:
    """``options``: ``warehouse``, ``database``, ``role`` and others."""
    return snowflake.connector.connect(
        account=account,
        authenticator="WORKLOAD_IDENTITY",
        workload_identity_provider="OIDC",
        token=subject_token(OktaAuth(app))(),
        **options,
    )
