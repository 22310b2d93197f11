"""OpenAI: a client without an API key."""

from openai import OpenAI

from okta_m2m import ServiceApp
from okta_m2m.federation import subject_token
from okta_m2m.requests import OktaAuth


def client(app: ServiceApp, identity_provider_id: str, service_account_id: str) -> OpenAI:
    """``openai.AsyncOpenAI`` takes the same ``workload_identity``."""
    return OpenAI(
        workload_identity={
            "identity_provider_id": identity_provider_id,
            "service_account_id": service_account_id,
            "provider": {"token_type": "jwt", "get_token": subject_token(OktaAuth(app))},
        }
    )
