"""The service app as an identity at clouds and AI services, with their own libraries."""

from __future__ import annotations

import importlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trustme
from google.auth.exceptions import OAuthError
from google.auth.transport.requests import Request

from cloud_stand_in import NAMES, Clouds, clouds_that_trust
from okta_m2m import ConfigurationError, PrivateKey, ServiceApp
from okta_m2m.testing import FakeOkta
from plugs_support import Tls

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs" / "examples" / "recipes"
AUDIENCE = "api://clouds"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/okta/providers/okta"
ROLE = "arn:aws:iam::123456789012:role/reader"

# Of the clouds' libraries.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"
)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """``example("google")``: the module of that file of ``docs/examples/recipes/clouds``."""
    monkeypatch.syspath_prepend(str(RECIPES))
    return lambda name: importlib.import_module(f"clouds.{name}")


Example = Callable[[str], ModuleType]


@pytest.fixture
def app(okta: FakeOkta, ec_key: PrivateKey) -> ServiceApp:
    okta.add_authorization_server("clouds", scopes=["clouds"], audience=AUDIENCE)
    client_id = okta.add_app(ec_key, []).client_id
    return ServiceApp(
        okta.url, client_id=client_id, key=ec_key, scopes=["clouds"], authorization_server="clouds", dpop=False
    )


@pytest.fixture(scope="module")
def cloud_tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """One CA for all tests: Snowflake's connector reads its file once in a process."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("clouds") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(server)
    return Tls(path, server)


@pytest.fixture
def clouds(
    okta: FakeOkta, app: ServiceApp, cloud_tls: Tls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Clouds]:
    """The clouds, each at its own name: the environment leads there."""
    for name in [
        name for name in os.environ if name.startswith(("AWS_", "AZURE_", "OPENAI_", "ANTHROPIC_", "GOOGLE_"))
    ]:
        monkeypatch.delenv(name)
    with clouds_that_trust(okta.issuer_url("clouds"), AUDIENCE, app.client_id, cloud_tls.server) as running:
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
            monkeypatch.setenv(name, str(cloud_tls.ca))
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, running.proxy)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "regional")  # as newer versions of botocore do without it
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        yield running


def use_google(example: Example, app: ServiceApp) -> None:
    credentials = example("google").credentials(app, PROVIDER)
    credentials.refresh(Request())
    assert credentials.token == "token-of-sts.googleapis.com"


def use_aws(example: Example, app: ServiceApp) -> None:
    session = example("aws").session(app, ROLE, "us-east-1")
    assert session.get_credentials().get_frozen_credentials().access_key == "ASIA1"
    assert session.create_client("sts").get_caller_identity()["Arn"].endswith("assumed-role/reader/s")


def use_azure(example: Example, app: ServiceApp) -> None:
    with example("azure").credential(app, "11111111-1111-1111-1111-111111111111", "22222222") as credential:
        token = credential.get_token("https://management.azure.com/.default")
    assert token.token == "token-of-login.microsoftonline.com"


def use_openai(example: Example, app: ServiceApp) -> None:
    with example("openai").client(app, "idp_1", "svc_1") as client:
        assert [model.id for model in client.models.list()] == ["model-of-api.openai.com"]


def use_anthropic(example: Example, app: ServiceApp) -> None:
    with example("anthropic").client(app, "fdrl_1", "org", "svac_1") as client:
        assert [model.id for model in client.models.list()] == ["model-of-api.anthropic.com"]


def use_snowflake(example: Example, app: ServiceApp) -> None:
    with example("snowflake").connect(app, "acme") as connection:
        assert connection.session_id == 1


USES = {
    "sts.googleapis.com": use_google,
    "sts.us-east-1.amazonaws.com": use_aws,
    "login.microsoftonline.com": use_azure,
    "auth.openai.com": use_openai,
    "api.anthropic.com": use_anthropic,
    "acme.snowflakecomputing.com": use_snowflake,
}


@pytest.mark.parametrize("host", USES)
def test_a_cloud_admits_the_app_by_its_token(example: Example, app: ServiceApp, clouds: Clouds, host: str) -> None:
    USES[host](example, app)
    assert (clouds.refused, [admitted[0] for admitted in clouds.admitted]) == ([], [host])


def test_all_clouds_share_one_token(example: Example, okta: FakeOkta, app: ServiceApp, clouds: Clouds) -> None:
    for use in USES.values():
        use(example, app)
    assert okta.token_requests == 1
    assert len({token for _, token in clouds.admitted}) == 1


def test_the_program_for_four_clouds_sends_one_token_request(
    okta: FakeOkta, clouds: Clouds, app: ServiceApp, ec_key: PrivateKey
) -> None:
    settings = {
        "OKTA_CLIENT_ORGURL": okta.url,
        "OKTA_CLIENT_CLIENTID": app.client_id,
        "OKTA_CLIENT_SCOPES": "clouds",
        "OKTA_CLIENT_AUTHORIZATIONSERVER": "clouds",
        "OKTA_CLIENT_DPOPENABLED": "false",
        "OKTA_CLIENT_PRIVATEKEY": json.dumps(ec_key.private_jwk()),
        "GOOGLE_PROVIDER": PROVIDER,
        "AWS_ROLE_ARN": ROLE,
        "AWS_REGION": "us-east-1",
        **dict.fromkeys(("OPENAI_PROVIDER", "OPENAI_SERVICE_ACCOUNT", "ANTHROPIC_RULE"), "x"),
        **dict.fromkeys(("ANTHROPIC_ORGANIZATION", "ANTHROPIC_SERVICE_ACCOUNT"), "x"),
    }
    command = [sys.executable, RECIPES / "clouds_all.py"]
    environment = {**os.environ, **settings}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [line.partition(":")[0] for line in ran.stdout.splitlines()] == [
        "Google Cloud",
        "AWS",
        "OpenAI",
        "Anthropic",
    ]
    assert (okta.token_requests, clouds.refused) == (1, [])


def test_a_cloud_that_expects_another_audience_refuses_the_token(
    example: Example, app: ServiceApp, clouds: Clouds
) -> None:
    clouds.audience = "api://other"
    with pytest.raises(OAuthError, match="invalid_grant"):
        use_google(example, app)
    assert clouds.admitted == []
    assert len(clouds.refused) == 1


@pytest.mark.parametrize("name", ["google", "aws", "azure", "openai", "anthropic", "snowflake"])
def test_an_example_refuses_an_app_of_the_org_authorization_server(
    example: Example, okta: FakeOkta, new_service: Callable[..., ServiceApp], name: str
) -> None:
    arguments: dict[str, Any] = {
        "google": ("credentials", [PROVIDER]),
        "aws": ("session", [ROLE, "us-east-1"]),
        "azure": ("credential", ["1" * 8, "2" * 8]),
        "openai": ("client", ["idp", "svc"]),
        "anthropic": ("client", ["fdrl", "org", "svac"]),
        "snowflake": ("connect", ["acme"]),
    }
    function, more = arguments[name]
    with pytest.raises(ConfigurationError, match='authorization_server="default"'):
        getattr(example(name), function)(new_service(okta), *more)
    assert okta.requests == []


def test_an_example_has_less_than_30_lines() -> None:
    lengths = {path.name: len(path.read_text("utf-8").splitlines()) for path in (RECIPES / "clouds").glob("*.py")}
    assert len(lengths) == 6
    assert {name: length for name, length in lengths.items() if length >= 30} == {}
