"""FakeOkta's System Log answers as Okta's: the filters, the limits, and which page has a ``next`` link."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from okta_documents import Documents
from okta_m2m.testing import App, FakeOkta

ORG, CUSTOM = "app.oauth2.token.grant.access_token", "app.oauth2.as.token.grant.access_token"


def days_ago(days: float) -> str:
    return f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


def use(okta: FakeOkta, app: App, days: float, *scopes: str) -> None:
    """A token that the app got so many days ago."""
    okta.skew(minutes=-days * 24 * 60)
    okta.mint(app, None, scopes or app.scopes, None)
    okta.skew()


def get(okta: FakeOkta, _url: str | None = None, **query: str) -> requests.Response:
    headers = {"Authorization": f"SSWS {okta.ssws}"}
    return requests.get(_url or f"{okta.url}/api/v1/logs", params=query, headers=headers, timeout=10)


def actors(response: requests.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [event["actor"]["id"] for event in response.json()]


def test_each_issued_token_is_an_event_with_its_app_and_scopes(okta: FakeOkta) -> None:
    app = okta.add_app(scopes=["okta.users.read", "okta.logs.read"], label="billing")
    use(okta, app, 1)
    okta.mint(app, okta.authorization_servers["default"], ["api:read"], None)
    org, custom = get(okta).json()
    assert (org["eventType"], custom["eventType"]) == (ORG, CUSTOM)
    assert org["actor"] == {
        "id": app.client_id,
        "type": "PublicClientApp",
        "alternateId": app.client_id,
        "displayName": "billing",
    }
    granted = [event["debugContext"]["debugData"]["grantedScopes"] for event in (org, custom)]
    assert granted == ["okta.users.read, okta.logs.read", "api:read"]
    assert org["published"] < custom["published"]
    newest_first = get(okta, sortOrder="DESCENDING").json()
    assert [event["uuid"] for event in newest_first] == [custom["uuid"], org["uuid"]]


def test_a_polling_request_always_has_a_next_link_and_a_bounded_one_ends(okta: FakeOkta) -> None:
    app = okta.add_app()
    for days in (3, 2, 1):
        use(okta, app, days)
    polled = get(okta, limit="2")
    assert len(polled.json()) == 2
    polled = get(okta, polled.links["next"]["url"])
    assert len(polled.json()) == 1
    empty = get(okta, polled.links["next"]["url"])
    assert (empty.json(), "self" in empty.links) == ([], True)
    assert empty.links["next"]["url"] == polled.links["next"]["url"]
    okta.mint(app, None, app.scopes, None)
    assert len(get(okta, empty.links["next"]["url"]).json()) == 1
    bounded = get(okta, limit="2", since=days_ago(7), until=days_ago(0.5), sortOrder="DESCENDING")
    assert "since" in bounded.links["next"]["url"]
    last = get(okta, bounded.links["next"]["url"])
    assert (len(bounded.json()), len(last.json()), "next" in last.links) == (2, 1, False)
    nothing = get(okta, since=days_ago(50), until=days_ago(40))
    assert (nothing.json(), "next" in nothing.links) == ([], False)


def test_time_bounds_have_oktas_defaults_and_events_are_kept_for_90_days(okta: FakeOkta) -> None:
    apps = {days: okta.add_app() for days in (1, 8, 89, 91)}
    for days, app in apps.items():
        use(okta, app, days)
    assert actors(get(okta)) == [apps[1].client_id]  # since: seven days before until
    assert actors(get(okta, until=days_ago(5))) == [apps[8].client_id]
    assert actors(get(okta, since=days_ago(170))) == [apps[days].client_id for days in (89, 8, 1)]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ('eventType eq "app.oauth2.token.grant.access_token"', "ab"),
        ('eventType eq "user.session.start"', ""),
        ('eventType sw "app.oauth2" and eventType ew "access_token"', "ab"),
        ('actor.id eq "0oa-a"', "a"),
        ('actor.id ne "0oa-a"', "b"),
        ('actor.id eq "0oa-a" or actor.id eq "0oa-b"', "ab"),
        ('outcome.result eq "FAILURE" or actor.id eq "0oa-b" and outcome.result eq "SUCCESS"', "b"),
        ('(actor.id eq "0oa-a" or actor.id eq "0oa-b") and (debugContext.debugData.grantedScopes co "groups")', "b"),
        ('target.type eq "access_token" and actor.id eq "0oa-b"', "b"),
        ('target.detailEntry.subject.more eq "x" or severity.more eq "INFO"', ""),
    ],
)
def test_filters_select_events(okta: FakeOkta, filter: str, expected: str) -> None:
    for name, scope in (("a", "okta.users.read"), ("b", "okta.groups.read")):
        use(okta, okta.add_app(scopes=[scope], client_id=f"0oa-{name}"), 1)
    assert actors(get(okta, filter=filter)) == [f"0oa-{name}" for name in expected]


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ({"filter": 'actor.id eqq "x"'}, "E0000053", "Invalid filter"),
        ({"filter": 'actor.id eq "x" and'}, "E0000053", "Invalid filter"),
        ({"filter": '(actor.id eq "x"'}, "E0000053", "Invalid filter"),
        ({"filter": 'actor.id eq "x")'}, "E0000053", "Invalid filter"),
        ({"filter": 'published eq "x"'}, "E0000053", "field is not valid: published"),
        ({"since": days_ago(200)}, "E0000053", "over 180 days"),
        ({"since": "yesterday"}, "E0000001", "ISO8601"),
        ({"until": "2026-13-01"}, "E0000001", "must be a valid date-time"),
        ({"limit": "1001"}, "E0000001", "between 0 and 1000"),
        ({"limit": "-1"}, "E0000001", "between 0 and 1000"),
        ({"sortOrder": "newest"}, "E0000001", "ASCENDING or DESCENDING"),
        ({"after": "someone-elses"}, "E0000001", "cursor"),
        ({"q": "billing"}, "E0000001", "keywords"),
    ],
)
def test_an_invalid_query_is_refused(okta: FakeOkta, query: dict[str, Any], code: str, words: str) -> None:
    response = get(okta, **query)
    assert (response.status_code, response.json()["errorCode"]) == (400, code)
    assert words in response.text


def test_only_reading_the_log_as_a_whole_exists(okta: FakeOkta) -> None:
    headers = {"Authorization": f"SSWS {okta.ssws}"}
    assert requests.post(f"{okta.url}/api/v1/logs", json={}, headers=headers, timeout=10).status_code == 405
    assert requests.get(f"{okta.url}/api/v1/logs/1", headers=headers, timeout=10).status_code == 404


def test_an_app_that_was_added_while_the_clock_was_behind_has_an_old_key(okta: FakeOkta) -> None:
    okta.skew(minutes=-100 * 24 * 60)
    app = okta.add_app()
    okta.skew()
    headers = {"Authorization": f"SSWS {okta.ssws}"}
    (key,) = requests.get(f"{okta.url}/api/v1/apps/{app.id}/credentials/jwks", headers=headers, timeout=10).json()
    assert abs(datetime.fromisoformat(key["created"]) - datetime.fromisoformat(days_ago(100))) < timedelta(hours=1)


def test_the_log_matches_oktas_published_documents(okta: FakeOkta) -> None:
    documents = Documents()
    use(okta, okta.add_app(), 1)
    assert documents.check(get(okta)) == "GET /api/v1/logs"
    assert documents.check(get(okta, limit="2000")) == "GET /api/v1/logs"
