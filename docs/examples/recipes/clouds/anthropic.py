"""Anthropic: a client without an API key."""

from anthropic import Anthropic
from anthropic.lib.credentials import WorkloadIdentityCredentials

from okta_m2m import ServiceApp
from okta_m2m.federation import subject_token
from okta_m2m.requests import OktaAuth


def client(app: ServiceApp, rule_id: str, organization_id: str, service_account_id: str) -> Anthropic:
    """``anthropic.AsyncAnthropic`` takes the same ``credentials``."""
    return Anthropic(
        credentials=WorkloadIdentityCredentials(
            identity_token_provider=subject_token(OktaAuth(app)),
            federation_rule_id=rule_id,
            organization_id=organization_id,
            service_account_id=service_account_id,
        )
    )
