"""Azure: the credential of an application in Entra ID, for any client of the Azure SDK."""

from azure.identity import ClientAssertionCredential

from okta_m2m import ServiceApp
from okta_m2m.federation import subject_token
from okta_m2m.requests import OktaAuth


def credential(app: ServiceApp, tenant_id: str, application_id: str) -> ClientAssertionCredential:
    return ClientAssertionCredential(tenant_id, application_id, subject_token(OktaAuth(app)))
