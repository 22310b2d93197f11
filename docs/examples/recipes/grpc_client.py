"""A gRPC channel whose calls carry the token."""

import grpc

from okta_m2m import OktaM2MError, ServiceApp
from okta_m2m.requests import OktaAuth


class OktaCallCredentials(grpc.AuthMetadataPlugin):
    def __init__(self, app: ServiceApp) -> None:
        self._auth = OktaAuth(app)

    def __call__(
        self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback
    ) -> None:
        try:
            headers = self._auth.headers("POST", f"{context.service_url}/{context.method_name}")
        except OktaM2MError as error:
            callback((), error)
        else:
            callback(tuple((name.lower(), value) for name, value in headers.items()), None)


def credentials(
    app: ServiceApp, transport: grpc.ChannelCredentials | None = None
) -> grpc.ChannelCredentials:
    """gRPC sends call credentials only over TLS."""
    call = grpc.metadata_call_credentials(OktaCallCredentials(app))
    return grpc.composite_channel_credentials(transport or grpc.ssl_channel_credentials(), call)


def channel(
    app: ServiceApp, target: str, transport: grpc.ChannelCredentials | None = None
) -> grpc.Channel:
    return grpc.secure_channel(target, credentials(app, transport))


def aio_channel(
    app: ServiceApp, target: str, transport: grpc.ChannelCredentials | None = None
) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(target, credentials(app, transport))
