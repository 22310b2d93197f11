"""What a service app cannot be made of: one clear error that ends with what to do, and shows no secret."""

from __future__ import annotations

from typing import Any

import pytest

from okta_m2m import ConfigurationError, PrivateKey, ServiceApp

SECRET = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49"


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        *[({"org_url": wrong}, "https://") for wrong in ("", None, "acme.okta.com/path?x", "http://acme.okta.com", 7)],
        *[({"client_id": wrong}, "Client ID") for wrong in ("", None, "0oa 1", 7)],
        ({"client_id": "{clientId}"}, "Replace it with the app's client id"),
        *[({"key": wrong}, "PrivateKey.from_file") for wrong in (None, SECRET, SECRET.encode(), [SECRET], {"d": SECRET})],
        ({"key": []}, "at least one"),
        ({"scopes": "okta.users.read okta.apps.read"}, "Write scopes=['okta.users.read', 'okta.apps.read']"),
        *[({"scopes": wrong}, "Pass a list") for wrong in (None, 7, ["okta.users.read okta.apps.read"], [7], [""])],
        ({"scopes": []}, "Set the scopes"),
        *[({"authorization_server": wrong}, "must be an id") for wrong in ("", "https://acme.okta.com/oauth2/x", 7)],
        ({"origins": "https://api.example.com"}, "origins=['https://api.example.com']"),
        *[({"origins": wrong}, "Pass a list") for wrong in (None, 7)],
        *[({"origins": wrong}, 'Write it as "https://') for wrong in ([7], ["*"], ["https://u:p@api.example.com"])],
        ({"origins": ["http://api.example.com"]}, "Use https://"),
        *[({"dpop": wrong}, "Omit it for the default") for wrong in (None, "Required", "", 1, [])],
        *[({"max_wait": wrong}, "Use a number of seconds") for wrong in (None, 0, -1, "30", True, float("nan"), float("inf"))],
        ({"on_event": 7}, "Pass a function"),
        *[({"assertion_lifetime": wrong}, "Keep the default, 300") for wrong in (None, 0, 3600, "300", True, float("nan"))],
        *[({"assertion_claims": wrong}, "Use only strings, numbers") for wrong in ({"a": object()}, ["a"], 7)],
        *[({"assertion_audience": wrong}, "set it to that URL") for wrong in (7, ["https://acme.okta.com"])],
        *[({"htu_origins": wrong}, "origins to origins") for wrong in (7, ["https://a.example"], {"https://a.example": 7})],
        ({"htu_origins": {"https://a.example/path": "nowhere"}}, "origins to origins"),
        ({"clock": 7}, "Clock"),
    ],
)  # fmt: skip
def test_an_invalid_argument_is_refused_with_the_remedy(
    arguments: dict[str, Any], remedy: str, ec_key: PrivateKey
) -> None:
    whole: dict[str, Any] = {"client_id": "0oa1", "key": ec_key, "scopes": ["okta.users.read"], **arguments}
    with pytest.raises(ConfigurationError) as raised:
        ServiceApp(whole.pop("org_url", "https://acme.okta.com"), **whole)
    assert remedy in str(raised.value)
    assert "MIGHAgEAMBMG" not in str(raised.value)
    assert str(raised.value).endswith(".")
