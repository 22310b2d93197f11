"""Google Cloud: credentials from the token of a service app."""

from google.auth.external_account import SupplierContext
from google.auth.identity_pool import Credentials, SubjectTokenSupplier
from google.auth.transport import Request

from okta_m2m import ServiceApp
from okta_m2m.federation import subject_token
from okta_m2m.requests import OktaAuth


class OktaSupplier(SubjectTokenSupplier):
    def __init__(self, app: ServiceApp) -> None:
        self._current = subject_token(OktaAuth(app))

    def get_subject_token(self, context: SupplierContext, request: Request) -> str:
        return self._current()


def credentials(app: ServiceApp, provider: str) -> Credentials:
    """``provider``: ``projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/NAME``."""
    return Credentials(
        audience=f"//iam.googleapis.com/{provider}",
        subject_token_type="urn:ietf:params:oauth:token-type:jwt",
        subject_token_supplier=OktaSupplier(app),
        scopes=["https://www.googleapis.com/auth/cloud-platform"],
    )
