"""AWS: a session whose clients have a role that a service app may assume."""

import logging

import botocore.credentials as aws
import botocore.session

from okta_m2m import ServiceApp
from okta_m2m.federation import subject_token
from okta_m2m.requests import OktaAuth

logging.getLogger("botocore.endpoint").setLevel("INFO")  # at DEBUG, it logs the token


class OktaProvider(aws.CredentialProvider):
    METHOD = "okta-m2m"


def session(app: ServiceApp, role_arn: str, region: str) -> botocore.session.Session:
    """For boto3: ``boto3.Session(botocore_session=session(...))``."""
    made = botocore.session.Session()
    made.set_config_variable("region", region)
    role = aws.AssumeRoleWithWebIdentityCredentialFetcher(
        made.create_client, subject_token(OktaAuth(app)), role_arn
    )
    provider = OktaProvider(made)
    provider.load = lambda: aws.DeferredRefreshableCredentials(role.fetch_credentials, "okta-m2m")
    made.get_component("credential_provider").insert_before("env", provider)
    return made
