"""What reads words that others wrote, one target each: a function of bytes that raises if a promise does not hold.

The same functions are called by Hypothesis in every run (``test_fuzz.py``) and by atheris (``run.py``). Each target brings
the pieces that its inputs are made of.

Invariant: a target has no memory: the same bytes give the same result.
"""

# ruff: noqa: E501, PT017 (the pieces stand in rows, and what a refusal says is a promise too)
from __future__ import annotations

import contextlib
import json
import math
import re
import unicodedata
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import requests
import urllib3
import yarl
from cryptography.hazmat.primitives.asymmetric import ec

from okta_m2m import ConfigurationError, InvalidKey, PrivateKey, ServiceApp
from okta_m2m._base.clocks import http_date
from okta_m2m._core import answers
from okta_m2m._core.challenges import challenges
from okta_m2m._urls.org_url import check_org_url
from okta_m2m._urls.origins import Origins, origin_of
from okta_m2m.admin.key_files import key_text
from okta_m2m.effects import Response
from okta_m2m.keys import _parse_text
from okta_m2m.settings import read_settings
from okta_m2m.settings._sources import describe_kind, environment_source
from okta_m2m.settings.okta_yaml import parse_okta_yaml
from okta_m2m.stores import store_from_url

__all__ = ["KEY", "RECORD", "TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """``check`` raises if a promise does not hold for that input. ``pieces``: what inputs are made of. ``whole``: inputs that
    are good, or nearly. ``grown``: inputs of any length, which repeated pieces do not make."""

    check: Callable[[bytes], None]
    pieces: tuple[str, ...]
    whole: tuple[str, ...] = ()
    grown: tuple[Callable[[int], str], ...] = ()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# ── what servers say ─────────────────────────────────────────────────────────────────────────────────────────────────


def www_authenticate(data: bytes) -> None:
    """Reading never fails, and gives lower-case names."""
    values = _text(data).split("\n")
    found = challenges(values)
    assert len(found) <= len(data)
    for challenge in found:
        assert challenge.scheme
        assert challenge.scheme == challenge.scheme.lower()
        assert all(name == name.lower() for name in challenge.parameters)
        assert challenge.error is None or isinstance(challenge.error, str)


def dates_and_rate_limits(data: bytes) -> None:
    """A time is a finite number or none, and nobody waits a negative one."""
    lines = (_text(data) + "\n\n\n\n").split("\n")
    moment = http_date(lines[0])
    assert moment is None or math.isfinite(moment)
    names = ("date", "retry-after", "x-rate-limit-reset", "x-rate-limit-limit")
    response = Response(429, zip(names, lines, strict=False))
    for pause in (answers.rate_limit_pause(response, 1.8e9), answers.retry_after(response, 1.8e9)):
        assert pause is None or (math.isfinite(pause) and pause >= 0)


def token_answers(data: bytes) -> None:
    """A token is what a header can hold, and its life is within bounds."""
    document = answers.json_object(data)
    assert isinstance(document, Mapping)
    for words in answers.error_of(document):
        assert words is None or isinstance(words, str)
    assert answers.error_code(data) == answers.error_of(document)[0]
    life, _ = answers.lifetime(document.get("expires_in"))
    assert 1 <= life <= 86_400
    granted = answers.granted_token(document)
    if granted is not None:
        requests.Request("GET", "http://a", {"Authorization": f"Bearer {granted.value}"}).prepare()
        assert granted.value.isascii()
        assert granted.value.isprintable()
        assert " " not in granted.value


def locations(data: bytes) -> None:
    """Where a redirect leads is where every client goes, or no token goes along."""
    location = _text(data)
    allowed = Origins(["https://acme.okta.com", "https://api.example.com:8443"])
    hosts = {("acme.okta.com", 443), ("api.example.com", 8443)}
    urls = [location]
    with contextlib.suppress(ValueError):
        urls.append(urljoin("https://acme.okta.com/a/b", location))
    for url in urls:
        origin = origin_of(url)
        assert origin is None or origin_of(origin) == origin
        if not allowed.allow(url) or not url.lower().startswith("http"):
            continue
        seen = [_seen_by_requests(url), _seen_by_httpx(url), _seen_by_yarl(url), _seen_by_urllib3(url)]
        assert {one for one in seen if one is not None} <= hosts, url


def _seen_by_requests(url: str) -> tuple[str | None, int] | None:
    try:
        prepared = urllib3.util.parse_url(requests.Request("GET", url).prepare().url or "")
    except (requests.RequestException, UnicodeError):
        return None
    return prepared.host, prepared.port or 443


def _seen_by_httpx(url: str) -> tuple[str | None, int] | None:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        return None
    return parsed.host, parsed.port or 443


def _seen_by_yarl(url: str) -> tuple[str | None, int | None] | None:
    try:
        parsed = yarl.URL(url)
        return parsed.host, parsed.port
    except (ValueError, UnicodeError):
        return None


def _seen_by_urllib3(url: str) -> tuple[str | None, int] | None:
    try:
        parsed = urllib3.util.parse_url(url)
    except (urllib3.exceptions.HTTPError, UnicodeError):
        return None
    return parsed.host, parsed.port or 443


# ── what an administrator wrote ──────────────────────────────────────────────────────────────────────────────────────


def keys(data: bytes) -> None:
    """A key that signs, or :class:`InvalidKey`, whose text shows nothing of the input but a name."""
    for read in (PrivateKey.from_pem, PrivateKey.from_jwk, _load_any, _load_by_kid):
        try:
            key = read(data)
        except InvalidKey as error:
            _check_words(error, data)
        else:
            assert isinstance(key, PrivateKey)
            key.sign(b"message")


def _load_any(data: bytes) -> PrivateKey:
    return _parse_text(data, b"password", None, None)


def _load_by_kid(data: bytes) -> PrivateKey:
    return PrivateKey.from_jwk(data, kid="kid-1")


def _check_words(error: Exception, data: bytes) -> None:
    """No message repeats a run of base64url as long as a number of a key. A name (``kid``, ``crv``) is shorter."""
    assert len(str(error)) < 2000
    for run in re.findall(r"[A-Za-z0-9_-]{41,}", str(error)):
        assert run not in _text(data), error


def okta_yaml(data: bytes) -> None:
    """Plain data that is not larger than its text, or :class:`ConfigurationError`, which quotes nothing."""
    text = data.decode("utf-8", "replace")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # one of ruamel.yaml quotes the text
            document = parse_okta_yaml(Path("okta.yaml"), text)
    except ConfigurationError as error:
        assert len(str(error)) < 300
    else:
        assert describe_kind(document)
        most = 3 * len(text) + 1  # "?" is a mapping of nothing to nothing
        assert sum(1 for _ in islice(_nodes(document), most + 1)) <= most


def _nodes(document: object) -> Iterator[object]:
    """Every value and name in a document. What is in two places counts twice."""
    yield document
    below = [*document, *document.values()] if isinstance(document, dict) else document
    for node in below if isinstance(below, list | tuple) else ():
        yield from _nodes(node)


def settings(data: bytes) -> None:
    """Settings that make an app, or an error of ours. No message shows a passphrase, except where it stands in the place of
    what is named: a variable, or a public member of a JWK."""
    environ = {}
    for line in _text(data).split("\n"):
        name, _, value = line.partition("=")
        environ["OKTA_CLIENT_" + name.strip().upper()] = value.replace("\\n", "\n")
    try:
        environment_source(environ, Path()).read()
        ServiceApp(**read_settings(files=False, environ=environ).arguments())
    except ConfigurationError as error:
        jwks = [value for value in environ.values() if "{" in value]
        if not any("PASSPHRASE-ITSELF" in named for named in [*environ, *jwks]):
            assert "PASSPHRASE-ITSELF" not in str(error)


PASSWORD = ":s3cret-password@"


def only_as_password(text: str) -> bool:
    """Whether the word is a password in the text, and nothing else: not the scheme, nor a host, which IDNA folds, and which a
    message may show."""
    rest = unicodedata.normalize("NFKC", text.replace(PASSWORD, "@")).casefold()
    return PASSWORD in text and "s3cret-password" not in re.sub(r"[^!-~]", "", rest)


def urls(data: bytes) -> None:
    """The org's URL and the store's: in their one right form, or refused without the password in it."""
    text = _text(data)
    try:
        org = check_org_url(text)
    except ConfigurationError as error:
        assert not only_as_password(text) or "s3cret-password" not in str(error)
    else:
        assert check_org_url(org) == org
        assert Origins([org]).allow(f"{org}/")
    if text.lower().startswith("file:"):
        return  # makes a directory
    try:
        store_from_url(text)
    except ConfigurationError as error:
        assert not only_as_password(text) or "s3cret-password" not in str(error)


# ── what others stored ───────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _fleet() -> tuple[Any, Any]:
    class Nothing:
        def load(self, key: str) -> None: ...
        def save(self, key: str, value: bytes, ttl: float, owner: str) -> bool:
            return False

        def claim(self, key: str, owner: str, ttl: float) -> bool:
            return False

        def release(self, key: str, owner: str) -> None: ...

    app = ServiceApp(
        "https://acme.okta.com",
        client_id="0oa1",
        key=KEY,
        scopes=["okta.users.read"],
        store=Nothing(),
    )
    assert app.fleet is not None
    (place,) = app.fleet._places(app.keys)
    return app.fleet, place


def sealed_records(data: bytes) -> None:
    """What we have not sealed opens for nobody. What holders of the key sealed is a token, or nothing."""
    fleet, place = _fleet()
    assert fleet._open(place, data) is None
    genuine = place.seal.seal(place.key, b"genuine")
    for mixed in (data + genuine, genuine + data, genuine[: len(data)] + data + genuine[len(data) :]):
        if mixed != genuine:
            assert place.seal.open(place.key, mixed) is None
    found = fleet._open(place, place.seal.seal(place.key, data))
    if found is not None:
        token, key, forced = found.token, found.key, found.forced
        for times in forced.values():
            assert all(math.isfinite(time) for time in times.values())
        assert token.value.isprintable()
        assert token.value.isascii()
        assert token.token_type in ("Bearer", "DPoP")
        assert 1 <= token.expires_in <= 86_400
        assert math.isfinite(token.usable_until)
        assert key is None or isinstance(key, PrivateKey)


# ── the pieces ───────────────────────────────────────────────────────────────────────────────────────────────────────

# Always the same key, so that a seed always gives the same inputs.
KEY = PrivateKey(ec.derive_private_key(int.from_bytes(sha256(b"tests/fuzz").digest()), ec.SECP256R1()), kid="kid-1")
_JWK = json.dumps(KEY.private_jwk())
_PEM = key_text(KEY, form="pem").decode()


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return bytes([tag, len(content)]) + content


def _encrypted(kdf: str, *numbers: int) -> str:
    """An encrypted key whose text names the cost of its passphrase. What is encrypted is nothing."""
    cost = [_der(2, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in numbers]
    derivation = _der(0x30, _der(6, bytes.fromhex(kdf)), _der(0x30, _der(4, b"salt-for"), *cost))
    cipher = _der(0x30, _der(6, bytes.fromhex("60864801650304012a")), _der(4, bytes(16)))
    algorithm = _der(0x30, _der(6, bytes.fromhex("2a864886f70d01050d")), _der(0x30, derivation, cipher))
    body = b64encode(_der(0x30, algorithm, _der(4, bytes(16)))).decode()
    return f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n"


_PBKDF2, _SCRYPT = "2a864886f70d01050c", "2b06010401da47040b"


def _jwks(length: int) -> str:
    """Keys of one kid, and private keys beside them."""
    return '{"keys": [' + '{"kid": "kid-1"}, ' * (length // 4) + '{"d": 1}, ' * (length // 4) + '{"kid": "kid-1"}]}'


RECORD = {
    "access_token": "a",
    "token_type": "Bearer",
    "scope": "okta.users.read",
    "expires_in": 3600,
    "sent_at": 1.8e9,
}
_ANSWER = {"token_type": "Bearer", "expires_in": 3600, "access_token": "eyJ.a.b", "scope": "okta.users.read"}
_JSON = ("{", "}", "[", "]", '"', ":", ",", "null", "true", "1e-320", "1e999", "NaN", "-1", "0", "\\u0000", "\\", "é")

TARGETS: dict[str, Target] = {
    "www-authenticate": Target(
        www_authenticate,
        ("Bearer", "DPoP", "Basic", " ", ",", "=", '"', "\\", "error", "invalid_token", "use_dpop_nonce", "a", "\t", "\n", "é"),
        ('Bearer realm="x", error="invalid_token", DPoP algs="RS256 ES256", Basic YTpi==',),
    ),
    "dates-and-rate-limits": Target(
        dates_and_rate_limits,
        ("Sun", ", ", "06", " ", "Nov", "1994", "08:49:37", "GMT", "-0000", "+9999", "0", "9", "1800000000", ",", "\n", ":", "é", "²"),
        ("Sun, 06 Nov 1994 08:49:37 GMT\n30\n1800000000, 1800000005\n600",),
    ),
    "token-answers": Target(
        token_answers,
        (*_JSON, '"access_token"', '"token_type"', '"Bearer"', '"DPoP"', '"expires_in"', '"error"', '"errorCode"', " ", "\r\n"),
        (json.dumps(_ANSWER), '{"error": "invalid_client", "error_description": "no"}'),
    ),
    "locations": Target(
        locations,
        ("https:", "http:", "//", "/", "\\", "@", ":", "443", "8443", "?", "#", ".", "%40", "%2e", "\t", "\n", " ", "[", "]", "::1",
         "acme.okta.com", "api.example.com", "evil.example", "ü", "。", ";", "x", "-", "\x00"),
        ("https://acme.okta.com/x", "//acme.okta.com/x", "/x?y#z", "https://api.example.com:8443/"),
    ),
    "keys": Target(
        keys,
        (*_JSON, '"kty"', '"EC"', '"RSA"', '"d"', '"n"', '"keys"', '"AQAB"', "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----",
         "-----BEGIN ENCRYPTED PRIVATE KEY-----", "-----BEGIN ", "-----", "-", "\n", "\\n", "MIIEv", "A", "=", " ", ":", "\ufeff",
         '"kid"', '"kid-1"', '{"kid": "kid-1"}, ', '{"d": 1}, ', '{"keys": ['),
        (_PEM, _JWK, json.dumps({"keys": [json.loads(_JWK)]}), json.dumps({"keys": [json.loads(_JWK), {"kid": "kid-1"}, {"d": 1}]}),
         _encrypted(_PBKDF2, 1000), _encrypted(_PBKDF2, (1 << 31) - 1), _encrypted(_PBKDF2, 1 << 40),
         _encrypted(_SCRYPT, 1 << 10, 8, 1), _encrypted(_SCRYPT, 1 << 24, 8, 1), _encrypted(_SCRYPT, 3, 8, 1)),
        (_jwks,),
    ),
    "okta-yaml": Target(
        okta_yaml,
        ("okta:", "client:", "orgUrl", ": ", "\n", "  ", "- ", "[", "]", "{", "}", "&a ", "*a", "!!python/object ", "!!int ", "'", '"',
         "|", ">", "<<: ", "#", "---", "?", "%", "2001-99-99", "0x", "\t", "é", "\x00", "a", "&a [*a, *a]", "a: &a\n", "<<: [*a, *a]\n",
         "%YAML 1.1\n", "1e5"),
        (
            "okta:\n  client:\n    orgUrl: https://acme.okta.com\n    scopes: [okta.users.read]\n",
            "?",
            "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)),
            "m0: &m0 {a: 1}\n" + "".join(f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}]}}\n" for i in range(1, 20)),
            "okta:\n  client:\n    token: &t a\n    kid: &t b\n",
            "%YAML 1.1\n---\nokta: {client: {connectionTimeout: 1e5}}\n",
        ),
    ),
    "settings": Target(
        settings,
        ("ORGURL", "CLIENTID", "PRIVATEKEY", "PRIVATEKEYPASSPHRASE", "SCOPES", "KID", "DPOPENABLED", "AUTHORIZATIONSERVER",
         "AUTHORIZATIONMODE", "=", "\n", "https://acme.okta.com", "0oa1", "PASSPHRASE-ITSELF", "okta.users.read", ",", " ", "{", "}",
         "'", '"', "true", "required", "\\n", "é", "-----BEGIN PRIVATE KEY-----", "x"),
        (
            f"ORGURL=https://acme.okta.com\nCLIENTID=0oa1\nSCOPES=okta.users.read\nPRIVATEKEY={_JWK}",
            "PRIVATEKEYPASSPHRASE=PASSPHRASE-ITSELF\nPRIVATEKEY=" + _PEM.replace("\n", "\\n"),
            "ORGURL=https://acme.okta.com\nCLIENTID=0oa1\nSCOPES=okta.users.read\nPRIVATEKEY=~\0",
        ),
    ),
    "urls": Target(
        urls,
        ("https://", "http://", "redis://", "rediss://", "unix://", "user:", "s3cret-password", "@", "acme.okta.com", "-admin", ".com",
         ":", "443", "/", "?", "#", "%", "[", "]", "{", "}", " ", "0", "127.0.0.1", "localhost", "é", "\n"),
        ("https://acme.okta.com", "redis://user:s3cret-password@127.0.0.1:6379/0", "s\u00e93cret-password.okta.com",
         "redis://[host"),
    ),
    "sealed-records": Target(
        sealed_records,
        (*_JSON, '"access_token"', '"token_type"', '"scope"', '"expires_in"', '"sent_at"', '"dpop_key"', ".", "A", "eyJ", "=", " "),
        (json.dumps(RECORD), json.dumps({**RECORD, "dpop_key": json.loads(_JWK), "dpop_nonce": "n"})),
    ),
}  # fmt: skip
