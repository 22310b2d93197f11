"""What a user's type checker says about a user's code: ``typing/usage.py`` is right, and what is wrong is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api", reason="mypy is not installed")

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    cache = str(tmp_path_factory.mktemp("mypy"))

    def checked(path: Path) -> str:
        output, errors, _ = api.run(["--strict", "--no-error-summary", "--cache-dir", cache, str(path)])
        return str(output + errors)

    return checked


@pytest.mark.matrix  # mypy takes many seconds
def test_type_checkers_accept_correct_code(check: Callable[[Path], str]) -> None:
    assert check(HERE / "typing" / "usage.py") == ""


WRONG = """
from okta_m2m import PrivateKey, ServiceApp
import okta_m2m.aiohttp, okta_m2m.httpx, okta_m2m.httpx2, okta_m2m.requests, aiohttp, httpx, httpx2, okta_m2m.effects

key = PrivateKey.from_file("key.pem")
ServiceApp("https://acme.okta.com", client_id="0oa1", key="key.pem")  # 6
ServiceApp("https://acme.okta.com", client_id="0oa1", key=key, dpop="on")  # 7
app = ServiceApp("https://acme.okta.com", client_id="0oa1", key=key)
httpx.Client(auth=okta_m2m.requests.OktaAuth(app))  # 9
okta_m2m.httpx.OktaAuth(app).token().valeu  # 10
httpx2.Client(auth=okta_m2m.httpx.OktaAuth(app))  # 11
okta_m2m.httpx2.OktaAuth(app, client=httpx.Client())  # 12
okta_m2m.httpx.OktaAuth(app, client=httpx.AsyncClient())  # 13
okta_m2m.aiohttp.OktaAuth(app, session=aiohttp.ClientSession())  # 14
async def send(request: okta_m2m.effects.Request, timeout: float) -> okta_m2m.effects.Response:
    return okta_m2m.effects.Response(503)
okta_m2m.httpx.OktaAuth(app, send=send)  # 17
"""


@pytest.mark.matrix  # so it does here
def test_type_checkers_report_wrong_code(check: Callable[[Path], str], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    told = [line for line in check(wrong).splitlines() if ": error:" in line]
    assert [line.split(":")[1] for line in told] == ["6", "7", "9", "10", "11", "12", "13", "14", "17"]
