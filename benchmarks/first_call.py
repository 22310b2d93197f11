"""The first call of a program, 30 ms away: how long it takes, and the CPU time from the interpreter's start to its answer.

    python benchmarks/first_call.py
    python benchmarks/first_call.py requests --quick

The floor is the same call by hand: with the same library, the assertion made with cryptography, and one connection for the token
request and the call. A second program by hand has a connection for each, so one handshake more. *Lent*: the auth object sends the
token request with the caller's own session or client, so on that connection too. aiohttp's session belongs to an event loop, and
cannot be lent.

Each sample is a process of its own, in turns, and a ratio is the median of the turns' ratios. The endpoint speaks TLS, and is
verified with the CAs of certifi and its own. Wall time, from the loaded key on, so no import is in it; each round trip takes
30 ms, those of the handshakes included.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from measure import ARGUMENTS, QUICK, explain_failure, report, run_python, spread
from peers import FLOOR, OURS, PEERS, pem
from server import Endpoint, serving

LENT = "lent"
TWO_CONNECTIONS = "by hand, two connections"
ROUNDS = 5 if QUICK else 100

IMPORTS = """
import json, sys, time
from pathlib import Path
origin, pem = sys.argv[1], Path(sys.argv[2]).read_text()
token_url, api_url = origin + "/oauth2/v1/token", origin + "/api/v1/users"
"""
END = """
assert status == 200
print(json.dumps({"ms": (time.perf_counter() - began) * 1e3, "cpu_ms": time.process_time() * 1e3}))
"""
BEGIN = "began = time.perf_counter()\n"

IMPORTS_BY_HAND = """
from base64 import urlsafe_b64encode
from uuid import uuid4
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

def encode(data):
    return urlsafe_b64encode(data).rstrip(b"=")

def form():
    now = int(time.time())
    claims = {"iss": "0oa1b2c3", "sub": "0oa1b2c3", "aud": token_url, "iat": now, "exp": now + 300, "jti": str(uuid4())}
    signed = encode(b'{"alg":"RS256"}') + b"." + encode(json.dumps(claims).encode())
    signature = key.sign(signed, PKCS1v15(), SHA256())
    return {
        "grant_type": "client_credentials",
        "scope": "okta.users.read",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": (signed + b"." + encode(signature)).decode(),
    }

key = load_pem_private_key(pem.encode(), None)

def headers(answer):
    return {"Authorization": f"Bearer {answer['access_token']}"}
"""
OURS_KEY = """
from okta_m2m import PrivateKey, ServiceApp
key = PrivateKey.from_pem(pem)
"""
OURS_APP = """
app = ServiceApp(origin, client_id="0oa1b2c3", key=key, scopes=["okta.users.read"])
"""


def blocking(library: str, client: str) -> dict[str, str]:
    """The programs for requests, and for httpx or httpx2, which have the same names."""
    imports = f"import {library}\n"
    ours = f"{imports}from okta_m2m.{library} import OktaAuth\n{OURS_KEY}{BEGIN}{OURS_APP}"
    new, call = f"client = {library}.{client}()\n", "status = client.get(api_url).status_code\n"
    ask, answered = (
        "answer = client.post(token_url, data=form()).json()\n",
        "status = client.get(api_url, headers=headers(answer)).status_code\n",
    )
    lent = "session" if library == "requests" else "client"
    return {
        FLOOR.name: f"{imports}{IMPORTS_BY_HAND}{BEGIN}{new}{ask}{answered}",
        TWO_CONNECTIONS: f"{imports}{IMPORTS_BY_HAND}{BEGIN}{new}{ask}{new}{answered}",
        OURS.name: f"{ours}{new}client.auth = OktaAuth(app)\n{call}",
        LENT: f"{ours}{new}client.auth = OktaAuth(app, {lent}=client)\n{call}",
    }


def aiohttp_by_hand(another_session: str) -> str:
    return f"""
import asyncio, aiohttp
{IMPORTS_BY_HAND}{BEGIN}
async def main():
    async with aiohttp.ClientSession() as session:
        async with session.post(token_url, data=form()) as response:
            answer = await response.json()
        {another_session}
        async with session.get(api_url, headers=headers(answer)) as response:
            status = response.status
        await session.close()
        return status
status = asyncio.run(main())
"""


AIOHTTP = {
    FLOOR.name: aiohttp_by_hand(""),
    TWO_CONNECTIONS: aiohttp_by_hand("session = aiohttp.ClientSession()"),
    OURS.name: f"""
import asyncio, aiohttp
from okta_m2m.aiohttp import OktaAuth
{OURS_KEY}{BEGIN}{OURS_APP}
async def main():
    async with aiohttp.ClientSession(middlewares=[OktaAuth(app)]) as session, session.get(api_url) as response:
        return response.status
status = asyncio.run(main())
""",
}
PROGRAMS = {
    "requests": blocking("requests", "Session") | {peer.name: peer.first_call for peer in PEERS if peer.first_call},
    "httpx": blocking("httpx", "Client"),
    "httpx2": blocking("httpx2", "Client"),
    "aiohttp": AIOHTTP,
}


def trust(folder: Path) -> Path:
    """Sets the environment of the programs, so that they trust the endpoint; returns the file with its key and certificate."""
    import certifi
    import trustme

    authority, served, bundle = trustme.CA(), folder / "server.pem", folder / "bundle.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(served)
    bundle.write_bytes(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
    os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = str(bundle)
    return served


def measure_stack(programs: dict[str, str], endpoint: Endpoint, key: Path) -> dict[str, Any]:
    """What each program takes, and its ratios to both programs by hand.

    Only the programs of one HTTP library take turns, so that those that are compared run within seconds: the machine's speed may
    change more than the figures differ.
    """
    turns: list[dict[str, dict[str, float]]] = []
    for _ in range(ROUNDS + 1):
        turns.append({})
        for name in random.sample(list(programs), len(programs)):
            try:
                text = IMPORTS + programs[name] + END
                turns[-1][name] = run_python("-c", text, endpoint.origin, key, seconds=60)
            except subprocess.SubprocessError as error:
                explain_failure(name, error)
    del turns[0]  # it has compiled what is imported

    def ratio(name: str, floor: str, of: str) -> float:
        both = [turn for turn in turns if turn.keys() >= {name, floor}]
        return median(turn[name][of] / turn[floor][of] for turn in both)

    return {
        name: {of: spread([turn[name][of] for turn in turns if name in turn]) for of in ("ms", "cpu_ms")}
        | {f"{of}_x": ratio(name, FLOOR.name, of) for of in ("ms", "cpu_ms")}
        | {f"{of}_x_two": ratio(name, TWO_CONNECTIONS, of) for of in ("ms", "cpu_ms")}
        for name in programs
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder, "key.pem")
        key.write_bytes(pem())
        with serving(certificate=str(trust(Path(folder)))) as endpoint:
            report({stack: measure_stack(PROGRAMS[stack], endpoint, key) for stack in ARGUMENTS or PROGRAMS})
