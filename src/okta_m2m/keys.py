"""The key that signs: what a signer is, and the private key that is read from PEM, from JWK, or from a file.

Invariant: a private key is parsed once, and nothing of its private part, nor a password, is shown by ``repr``, by a log
record or by an exception, or goes into a ``pickle``. A ``kid`` that nobody gave is not invented.

Numbers are decoded here, so that a JWK's fault can be named, and are checked by ``cryptography``, which refuses a key
whose parts do not belong together; public JWKs and thumbprints are joserfc's. Both are imported where they are used.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import re
import stat
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Iterable, Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

from ._core.records import Record
from ._core.tokens import not_picklable
from .errors import InvalidKey, quoted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurve, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["PrivateKey", "Signer", "thumbprint"]

logger = logging.getLogger("okta_m2m")

LARGEST = 1 << 20
"""Bytes of a key file or text that are read at most: a JWKS of 50 keys, Okta's limit, is a fifth of that."""

SMALLEST_RSA = 2048
"""Bits of an RSA modulus below which Okta refuses the public key."""

LARGEST_RSA = 16384
"""Bits of an RSA modulus above which OpenSSL does no arithmetic."""


class Signer(Protocol):
    """A key that may live anywhere: in memory, in a file, in a KMS, in an HSM.

    - ``alg``: JWS algorithm, one of RS256, RS384, RS512, ES256, ES384, ES512: those that Okta takes.
    - ``kid``: the key's id at Okta, or ``None``; an app with more than one key needs it.
    - ``public_jwk``: ``kty`` with ``n`` and ``e``, or with ``crv``, ``x`` and ``y`` (RFC 7518 section 6).

    Two more are looked at where a signer has them:

    - ``in_memory = True`` says that ``sign`` is quick and answers with bytes. A signer without it whose ``sign`` is a
      plain function is taken to block, and is run in a worker thread where there is an event loop.
    - ``snapshot()`` answers with the signer to use for one assertion: one immutable version of key, ``kid`` and
      ``alg``. It may read a file, so it is not called on an event loop. The same version is the same object.
    """

    @property
    def alg(self) -> str: ...
    @property
    def kid(self) -> str | None: ...
    @property
    def public_jwk(self) -> Mapping[str, str]: ...

    def sign(self, message: bytes, /) -> bytes | Awaitable[bytes]:
        """The JWS signature of ``message``: PKCS #1 v1.5 for RS*, and for ES* the two numbers r and s one after the other
        at fixed length, not the DER that most KMSs return (RFC 7518 sections 3.3 and 3.4).

        May be an awaitable; such a signer cannot be used under threads.
        """
        ...


class _Curve(Record):
    crv: str
    name: str
    digest: str
    octets: int


_RSA = {"RS256": "SHA256", "RS384": "SHA384", "RS512": "SHA512"}
_EC = {
    "ES256": _Curve("P-256", "secp256r1", "SHA256", 32),
    "ES384": _Curve("P-384", "secp384r1", "SHA384", 48),
    "ES512": _Curve("P-521", "secp521r1", "SHA512", 66),
}
_TAKEN = "Okta takes RS256, RS384, RS512, ES256, ES384 and ES512"
_MAKE_ONE = "Make a key with PrivateKey.generate(), or with: openssl genrsa -out key.pem 2048"


class _Version(Record, hidden=("native", "signature")):
    """One key with everything that is said of it, replaced as a whole."""

    native: PrivateKeyTypes
    alg: str
    kid: str | None
    public_jwk: Mapping[str, str]
    thumbprint: str
    signature: Callable[[bytes], bytes]


class PrivateKey:
    """A private key in memory: RSA of at least 2048 bits, or EC on P-256, P-384 or P-521.

    It is immutable, and safe to share between threads. What the ways to make one have in common:

    - ``kid``: the key's id at Okta; it wins over the one that a JWK has itself. Without either there is none.
    - ``alg``: for RSA RS256 (the default), RS384 or RS512; for EC the curve decides, and ``alg`` can only confirm.
      It wins over the one that a JWK has itself.
    - ``password``: of an encrypted PEM; not looked at where the PEM is not encrypted.
    - :class:`~okta_m2m.errors.InvalidKey` is raised for whatever is not such a key.

    The constructor takes a private key of ``cryptography``.
    """

    __slots__ = ("__weakref__", "_version")

    in_memory: ClassVar[bool] = True

    def __init__(self, native: PrivateKeyTypes, *, kid: str | None = None, alg: str | None = None) -> None:
        self._version = _version(native, kid, alg)

    @classmethod
    def from_pem(
        cls,
        pem: str | bytes,
        *,
        password: str | bytes | None = None,
        kid: str | None = None,
        alg: str | None = None,
    ) -> PrivateKey:
        """From PEM text: PKCS #1, PKCS #8 or SEC 1, encrypted or not.

        What surrounds the block does not matter (a certificate, EC parameters, quotes), nor how its lines are broken:
        by a literal ``\\n``, by spaces, or not at all.
        """
        return PrivateKey(_from_pem(_text(pem), password), kid=kid, alg=alg)

    @classmethod
    def from_jwk(
        cls, jwk: Mapping[str, object] | str | bytes, *, kid: str | None = None, alg: str | None = None
    ) -> PrivateKey:
        """From a JWK (RFC 7517), as a mapping or as JSON text; or from a JWKS, where ``kid`` picks the key.

        A JWKS with one private key for signing needs no ``kid``; if that key has none itself, ``kid`` becomes its own.
        """
        native, own_kid, own_alg = _from_jwk(jwk if isinstance(jwk, Mapping) else _json(_text(jwk)), kid)
        return PrivateKey(native, kid=kid or own_kid, alg=alg or own_alg)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        password: str | bytes | None = None,
        kid: str | None = None,
        alg: str | None = None,
    ) -> PrivateKey:
        """From a file that holds PEM, a JWK or a JWKS; which of them, its content tells.

        The file is followed: before each client assertion, and never on an event loop, it is read again, and a new key
        in it is used from then on. While it cannot be read, or holds no good key, the last good one stays in use, with
        one warning on the logger ``okta_m2m``. ``kid``, ``alg`` and ``password`` hold for every reading, so leave ``kid``
        away where the file is a JWK that brings a new one.
        """
        return _followed(path, password, kid, alg)

    @classmethod
    def from_text(
        cls,
        text: str,
        *,
        password: str | bytes | None = None,
        kid: str | None = None,
        alg: str | None = None,
    ) -> PrivateKey:
        """From a setting that holds PEM text, JWK or JWKS text, or the path of a file, which is then followed.

        No error repeats the text, because what is taken for a path may be a key with its head cut off.
        """
        plain = _text(text)
        if _is_json(plain) or "-----BEGIN" in plain:
            return _read_as_told(plain, password, kid, alg)
        if not os.path.exists(_absolute(plain)):
            raise InvalidKey(
                "It is neither PEM text, nor JWK text, nor the path of a file that is there. Give the whole text of the "
                "key, from -----BEGIN to the end, or the path from the working directory or from the root."
            )
        return _followed(plain, password, kid, alg)

    @classmethod
    def from_env(
        cls,
        name: str = "OKTA_CLIENT_PRIVATEKEY",
        *,
        password: str | bytes | None = None,
        kid: str | None = None,
        alg: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> PrivateKey:
        """From an environment variable, which holds what :meth:`from_text` takes."""
        text = environ.get(name, "")
        if not text.strip():
            raise InvalidKey(f"{name} is not set. Set it to the key's PEM or JWK text, or to the path of its file.")
        try:
            return cls.from_text(text, password=password, kid=kid, alg=alg)
        except InvalidKey as error:
            raise InvalidKey(f"{name}: {error}") from None

    @classmethod
    def generate(cls, alg: str = "ES256", *, kid: str | None = None, bits: int = SMALLEST_RSA) -> PrivateKey:
        """A new key for that algorithm; ``bits`` is the size of an RSA modulus. It is nowhere but in memory."""
        from cryptography.hazmat.primitives.asymmetric import ec, rsa

        if alg in _EC:
            return cls(ec.generate_private_key(_curve(_EC[alg])), kid=kid, alg=alg)
        alg = _fitting(alg, list(_RSA), "a key that is to be generated")
        if not SMALLEST_RSA <= bits <= LARGEST_RSA:
            raise InvalidKey(f"RSA keys have {SMALLEST_RSA} to {LARGEST_RSA} bits, not {bits}. Leave bits at 2048.")
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=bits), kid=kid, alg=alg)

    @property
    def alg(self) -> str:
        """The JWS algorithm that it signs with."""
        return self._version.alg

    @property
    def kid(self) -> str | None:
        """The key's id at Okta, if it was given."""
        return self._version.kid

    @property
    def public_jwk(self) -> Mapping[str, str]:
        """The public key's own members (RFC 7518 section 6), read-only, without ``kid``, ``use`` and ``alg``."""
        return self._version.public_jwk

    def sign(self, message: bytes, /) -> bytes:
        """The JWS signature of ``message`` (RFC 7518 sections 3.3 and 3.4)."""
        return self._version.signature(message)

    def derive(self, info: bytes, length: int) -> bytes:
        """A secret of ``length`` bytes that only who has this private key can make (HKDF-SHA256, RFC 5869).

        Every form of one key (PEM, JWK, with or without the RSA primes) derives the same; another ``info`` derives a secret
        that says nothing about this one, nor about the key.
        """
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), length, salt=None, info=info).derive(_secret(self._version.native))

    def snapshot(self) -> PrivateKey:
        """The immutable version to sign one assertion with: this key itself, unless it follows a file."""
        return self

    def thumbprint(self) -> str:
        """The public key's RFC 7638 SHA-256 thumbprint, base64url."""
        return self._version.thumbprint

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The JWKS to register at Okta: the public key, with ``use``, ``alg``, and ``kid`` if it has one."""
        version = self._version
        kid = {} if version.kid is None else {"kid": version.kid}
        return {
            "keys": [{"kty": version.public_jwk["kty"], **kid, "use": "sig", "alg": version.alg, **version.public_jwk}]
        }

    def private_jwk(self) -> dict[str, str]:
        """The whole key as a JWK, private members and all: for a key file that is yours to guard, or for sealing."""
        from joserfc.jwk import ECKey, RSAKey

        version = self._version
        native: Any = version.native
        whole = (RSAKey if version.public_jwk["kty"] == "RSA" else ECKey).import_key(native).as_dict(private=True)
        kid = {} if version.kid is None else {"kid": version.kid}
        return {"kty": version.public_jwk["kty"], **kid, "alg": version.alg, **{k: str(v) for k, v in whole.items()}}

    def with_kid(self, kid: str | None) -> PrivateKey:
        """The same key under another ``kid``; it follows no file."""
        version = self._version
        return PrivateKey(version.native, kid=kid, alg=version.alg)

    def __repr__(self) -> str:
        version = self._version
        return f"PrivateKey(alg={version.alg!r}, kid={version.kid!r}, thumbprint={version.thumbprint!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        not_picklable(
            "A private key",
            "Load it where it is needed, with PrivateKey.from_file or PrivateKey.from_env in each process.",
        )


class _FileKey(PrivateKey):
    """Reads as the last good version of a file; only ``snapshot`` looks at the file."""

    __slots__ = ("_last", "_parse", "_path")

    def __init__(self, path: str, parse: Callable[[bytes], PrivateKey]) -> None:
        self._path = path
        self._parse = parse
        content = _content(path)
        self._take(sha256(content).digest(), parse(content), None)

    @property
    def path(self) -> str:
        """The file that it follows."""
        return self._path

    def _take(self, digest: bytes, key: PrivateKey, trouble: str | None) -> None:
        self._version = key._version
        self._last = (digest, key, trouble)

    def snapshot(self) -> PrivateKey:
        # The content is compared, not the times: a coarse mtime, a swapped symlink or a copied time stamp cannot hide a
        # new key, and one small read per assertion costs nothing beside the token request that follows.
        # No lock: a fork in mid-read would leave it locked in the child. Two threads that both see a new key both parse
        # it, and the later one's is kept.
        digest, key, trouble = self._last
        try:
            content = _content(self._path)
            seen = sha256(content).digest()
            if seen == digest and trouble is None:
                return key
            if seen != digest:
                key = self._parse(content)
        except InvalidKey as error:
            now = str(error)
            if now != trouble:
                self._take(digest, key, now)
                logger.warning("Key file %s: %s Until then the last good key stays in use: %r", self._path, now, key)
            return key
        self._take(seen, key, None)
        logger.info("Key file %s was read anew: %r", self._path, key)
        return key


def thumbprint(public_jwk: Mapping[str, str]) -> str:
    """The RFC 7638 SHA-256 thumbprint, base64url, of a public RSA or EC key, whatever else the JWK holds."""
    from joserfc import jwk

    members = ("e", "kty", "n") if public_jwk["kty"] == "RSA" else ("crv", "kty", "x", "y")
    return jwk.thumbprint({member: public_jwk[member] for member in members})


def _version(native: PrivateKeyTypes, kid: str | None, alg: str | None) -> _Version:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from joserfc.jwk import ECKey, RSAKey

    if kid is not None and not isinstance(kid, str):
        raise InvalidKey(f"The kid is of type {type(kid).__name__}, not text. Give it as Okta shows it, in quotes.")
    if isinstance(native, RSAPrivateKey):
        if native.key_size < SMALLEST_RSA:
            _refuse_size(native.key_size)
        alg = _fitting(alg, list(_RSA), "an RSA key")
        signature = _rsa_signature(native, _RSA[alg])
        public = RSAKey.import_key(native.public_key()).as_dict()
    elif isinstance(native, EllipticCurvePrivateKey):
        own = next((name for name, curve in _EC.items() if curve.name == native.curve.name), None)
        if own is None:
            _refuse_curve(native.curve.name)
        alg = _fitting(alg, [own], f"an EC key on {_EC[own].crv}")
        signature = _ec_signature(native, _EC[alg])
        public = ECKey.import_key(native.public_key()).as_dict()
    else:
        raise InvalidKey(f"A key of type {type(native).__name__} cannot sign for Okta: {_TAKEN}. {_MAKE_ONE}")
    public_jwk = MappingProxyType({"kty": str(public["kty"]), **{name: str(value) for name, value in public.items()}})
    return _Version(native, alg, kid or None, public_jwk, thumbprint(public_jwk), signature)


def _rsa_signature(native: RSAPrivateKey, digest: str) -> Callable[[bytes], bytes]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    padding, algorithm = PKCS1v15(), getattr(hashes, digest)()
    return lambda message: native.sign(message, padding, algorithm)


def _ec_signature(native: EllipticCurvePrivateKey, curve: _Curve) -> Callable[[bytes], bytes]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    octets, algorithm = curve.octets, ECDSA(getattr(hashes, curve.digest)())

    def signature(message: bytes) -> bytes:
        r, s = decode_dss_signature(native.sign(message, algorithm))
        return r.to_bytes(octets, "big") + s.to_bytes(octets, "big")

    return signature


def _secret(native: PrivateKeyTypes) -> bytes:
    """The private part in the one form that all forms of a key share."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if isinstance(native, EllipticCurvePrivateKey):
        curve = next(curve for curve in _EC.values() if curve.name == native.curve.name)
        return curve.crv.encode() + b"\0" + native.private_numbers().private_value.to_bytes(curve.octets, "big")
    assert isinstance(native, RSAPrivateKey)  # noqa: S101 (_version took no other kind)
    # The primes, and not d: d has two usual values (RFC 8017 section 3.2), and the primes' order is anybody's choice.
    numbers = native.private_numbers()
    octets = (native.key_size + 7) // 8
    return b"RSA\0" + b"".join(prime.to_bytes(octets, "big") for prime in sorted((numbers.p, numbers.q)))


def _fitting(alg: object, fitting: list[str], key: str) -> str:
    if alg is None or alg == "":
        return fitting[0]
    if isinstance(alg, str) and alg in fitting:
        return alg
    remedy = f'Say alg="{fitting[0]}", or nothing.' if len(fitting) == 1 else f"Say one of {', '.join(fitting)}."
    if not isinstance(alg, str):
        raise InvalidKey(f"The alg is of type {type(alg).__name__}, not text. {remedy}")
    if alg in _RSA or alg in _EC:
        raise InvalidKey(f"{alg} does not fit {key}. {remedy}")
    raise InvalidKey(f"The alg {quoted(alg, 40)!r} is none that a private key signs with for Okta: {_TAKEN}. {remedy}")


def _refuse_size(bits: int) -> NoReturn:
    raise InvalidKey(f"The RSA key has {bits} bits, and Okta takes no fewer than {SMALLEST_RSA}. {_MAKE_ONE}")


def _refuse_curve(name: str) -> NoReturn:
    raise InvalidKey(
        f"The EC curve is {quoted(name, 40)!r}, and Okta takes P-256, P-384 and P-521. Make a key with "
        "PrivateKey.generate(), or with: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
    )


def _curve(curve: _Curve) -> EllipticCurve:
    from cryptography.hazmat.primitives.asymmetric import ec

    made: EllipticCurve = getattr(ec, curve.name.upper())()
    return made


def _text(content: object) -> str:
    """Text without what editors, shells and YAML put around it."""
    if not isinstance(content, str | bytes):
        raise InvalidKey(f"A key is given as text or bytes, not as {type(content).__name__}. Give its PEM or JWK text.")
    if len(content) > LARGEST:
        raise InvalidKey(f"It is larger than {LARGEST} bytes, so it is no key. Give the file that holds only the key.")
    text = content if isinstance(content, str) else _decoded(content)
    if text is None:
        raise InvalidKey(
            "It is binary, not text: DER, PKCS #12 or no key at all. Convert it, for DER with: "
            "openssl pkey -inform DER -in key.der -out key.pem"
        )
    text = text.strip("\ufeff\0\"' \t\r\n\v\f")
    if not text:
        raise InvalidKey("It is empty. Give the key's PEM or JWK text.")
    return text


def _decoded(content: bytes) -> str | None:
    # A PowerShell redirection writes UTF-16.
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        return None  # and so the error raised for it has no context: that one would hold the content


def _is_json(text: str) -> bool:
    return text.startswith(("{", "["))


def _json(text: str) -> object:
    if "-----BEGIN" in text and not _is_json(text):
        raise InvalidKey("It is PEM text, not a JWK. Read it with PrivateKey.from_pem.")
    document: object = None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        # A JSONDecodeError holds the whole text, so it must not become the context of what is raised.
        broken = True
    else:
        broken = False
    if broken:
        raise InvalidKey("It is not JSON, or cut short. Give the whole text of the JWK, from { to }.")
    return document


def _read_as_told(text: str, password: str | bytes | None, kid: str | None, alg: str | None) -> PrivateKey:
    if _is_json(text):
        return PrivateKey.from_jwk(text, kid=kid, alg=alg)
    return PrivateKey.from_pem(text, password=password, kid=kid, alg=alg)


_BLOCK = r"-----BEGIN ([A-Z0-9 ]{1,40})-----((?:[^-]|-(?!----))*)-----END \1-----"
_BREAK = r"(?:\\+[rn])+"


def _from_pem(text: str, password: str | bytes | None) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    label, body = _private_block(text)
    if label == "OPENSSH PRIVATE KEY":
        raise InvalidKey(
            "The key is in OpenSSH's own format. Convert a copy of it in place with: ssh-keygen -p -m PEM -f copy-of-key"
        )
    lines = [line.strip() for line in body.splitlines()]
    headers = [line for line in lines if ":" in line]  # Proc-Type and DEK-Info (RFC 1421), which an encrypted key has
    base64 = "".join(line for line in lines if ":" not in line)
    encrypted = bool(headers) or label == "ENCRYPTED PRIVATE KEY"
    if encrypted and not password:
        raise InvalidKey(
            "The key is encrypted, and no password was given. Give it as password=, or for the key of the settings as "
            "OKTA_CLIENT_PRIVATEKEYPASSPHRASE."
        )
    # "replace": an encoding error would hold the password, or the key.
    secret = password.encode("utf-8", "replace") if isinstance(password, str) else password
    pem = "\n".join([f"-----BEGIN {label}-----", *headers, "", "".join(base64.split()), f"-----END {label}-----", ""])
    try:
        return load_pem_private_key(pem.encode("ascii", "replace"), secret if encrypted else None)
    except UnsupportedAlgorithm:
        raise InvalidKey(
            "The key's type, curve or encryption is none that can be read here. Write it anew with: "
            "openssl pkcs8 -topk8 -in key.pem -out new.pem"
        ) from None
    except (ValueError, TypeError):
        if encrypted:
            raise InvalidKey(
                "The key cannot be decrypted: wrong password, or a damaged key. Try the password with: "
                "openssl pkey -in key.pem -noout"
            ) from None
        raise InvalidKey(
            "The PEM block holds no sound key: damaged, cut short, or its parts do not belong together. Check it with: "
            "openssl pkey -in key.pem -noout -check"
        ) from None


def _private_block(text: str) -> tuple[str, str]:
    blocks = [(block[1], block[2]) for block in re.finditer(_BLOCK, re.sub(_BREAK, "\n", text))]
    private = [block for block in blocks if block[0].endswith("PRIVATE KEY")]
    if len(private) == 1:
        return private[0]
    if private:
        raise InvalidKey(f"The PEM text holds {len(private)} private keys. Leave the one that is registered at Okta.")
    labels = {label for label, _ in blocks}
    if any("CERTIFICATE" in label for label in labels):
        raise InvalidKey(
            "The PEM text holds a certificate and no private key. Give the private key that belongs to it."
        )
    if any("PUBLIC KEY" in label for label in labels) or text.startswith(("ssh-", "ecdsa-")):
        raise InvalidKey("This is a public key, which cannot sign. Give the private key; the public one goes to Okta.")
    if _is_json(text):
        raise InvalidKey("It is JSON, not PEM text. Read it with PrivateKey.from_jwk.")
    if "-----BEGIN" in text:
        raise InvalidKey(
            "The PEM text is cut short, or holds no key. Give all of it, from -----BEGIN to -----END ... -----."
        )
    raise InvalidKey("It is no key: neither PEM nor JWK. Give text that begins with -----BEGIN or with {.")


def _from_jwk(document: object, kid: str | None) -> tuple[PrivateKeyTypes, str | None, str | None]:
    if not isinstance(document, Mapping):
        raise InvalidKey(
            'It is JSON, but no JWK: a JWK is an object with the member "kty". Give the private key\'s JWK.'
        )
    jwk = _picked(document["keys"], kid or None) if "keys" in document else document
    kty = _member(jwk, "kty")
    use = _member(jwk, "use")
    operations = jwk.get("key_ops")
    if kty in ("OKP", "AKP"):
        raise InvalidKey(f"The JWK is an {quoted(_member(jwk, 'crv') or kty, 20)} key: {_TAKEN}, no EdDSA. {_MAKE_ONE}")
    if kty == "oct":
        raise InvalidKey(f'The JWK is a shared secret ("kty": "oct"), not a private key. {_MAKE_ONE}')
    if kty not in ("RSA", "EC"):
        raise InvalidKey('The JWK\'s "kty" is neither "RSA" nor "EC". Give the private key\'s JWK, whole.')
    if "d" not in jwk:
        raise InvalidKey(
            'This JWK is a public key (it has no "d"), which cannot sign. Give the private one; the public one goes to Okta.'
        )
    if use not in (None, "sig"):
        raise InvalidKey(
            f'The JWK\'s "use" is {quoted(use, 20)!r}, so it is no key for signing. Give one with "use": "sig".'
        )
    if operations is not None and not (isinstance(operations, list | tuple) and "sign" in operations):
        raise InvalidKey('The JWK\'s "key_ops" do not include "sign". Give a key that is made for signing.')
    own_kid, own_alg = _member(jwk, "kid"), _member(jwk, "alg")
    return (_rsa(jwk) if kty == "RSA" else _ec(jwk)), own_kid, own_alg


def _member(jwk: Mapping[str, object], name: str) -> str | None:
    value = jwk.get(name)
    if value is None or isinstance(value, str):
        return value
    raise InvalidKey(
        f'The JWK\'s "{name}" is of type {type(value).__name__}, not text (RFC 7517 section 4). Put it in quotes.'
    )


def _picked(keys: object, kid: str | None) -> Mapping[str, object]:
    if not isinstance(keys, list | tuple):
        raise InvalidKey('The JWKS\'s "keys" is no list (RFC 7517 section 5). Give {"keys": [...]}, or one JWK alone.')
    entries = [entry for entry in keys if isinstance(entry, Mapping)]
    private = [entry for entry in entries if "d" in entry and entry.get("use") != "enc"]
    if kid is None:
        found = private or entries
    else:
        named = [entry for entry in entries if entry.get("kid") == kid]
        # A set may hold both halves of a pair under one kid.
        found = [entry for entry in named if entry in private] or named
        if not named and len(private) == 1 and private[0].get("kid") is None:
            found = private  # as with one JWK alone, the caller says its kid
    if len(found) == 1:
        return found[0]
    if kid is not None and found:
        raise InvalidKey(f"The JWKS has {len(found)} keys with the kid {quoted(kid, 100)!r}. Take out all but one.")
    has = _listed(entry.get("kid") for entry in private)
    if kid is not None:
        raise InvalidKey(
            f"The JWKS has no key with the kid {quoted(kid, 100)!r}; its private keys: {has}. Name one of those."
        )
    if not private:
        raise InvalidKey("The JWKS holds no private key. Give the set that holds the private key.")
    raise InvalidKey(f"The JWKS holds {len(private)} private keys: {has}. Say which with kid=.")


def _listed(kids: Iterable[object]) -> str:
    return ", ".join(repr(quoted(kid, 100)) if isinstance(kid, str) else "one without kid" for kid in kids) or "none"


_BASE64URL = r"[A-Za-z0-9_-]+"


def _number(jwk: Mapping[str, object], name: str) -> int:
    """A Base64urlUInt (RFC 7518 section 2); leading zero octets, which some libraries write, do not change it."""
    text = jwk.get(name)
    if not isinstance(text, str):
        raise InvalidKey(f'The JWK has no "{name}", or not as text. Give the whole JWK of the private key.')
    if not re.fullmatch(_BASE64URL, text) or len(text) % 4 == 1:
        raise InvalidKey(
            f'The JWK\'s "{name}" is not base64url, which has no "=", "+", "/" or white space (RFC 7515 section 2). '
            "Export the key anew as a JWK."
        )
    if len(text) > LARGEST_RSA // 6 + 8:
        raise InvalidKey(f'The JWK\'s "{name}" has more than {LARGEST_RSA} bits. Use a key of 2048 to 4096 bits.')
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def _rsa(jwk: Mapping[str, object]) -> RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric import rsa

    n, e, d = _number(jwk, "n"), _number(jwk, "e"), _number(jwk, "d")
    given = (_number(jwk, "p"), _number(jwk, "q")) if "p" in jwk and "q" in jwk else None
    if n.bit_length() < SMALLEST_RSA:
        _refuse_size(n.bit_length())
    try:
        p, q = given or rsa.rsa_recover_prime_factors(n, e, d)
        return rsa.RSAPrivateNumbers(
            p=p,
            q=q,
            d=d,
            dmp1=rsa.rsa_crt_dmp1(d, p),
            dmq1=rsa.rsa_crt_dmq1(d, q),
            iqmp=rsa.rsa_crt_iqmp(p, q),
            public_numbers=rsa.RSAPublicNumbers(e, n),
        ).private_key()
    except (ValueError, ArithmeticError):
        _refuse_parts()


def _ec(jwk: Mapping[str, object]) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    crv = _member(jwk, "crv")
    curve = next((curve for curve in _EC.values() if curve.crv == crv), None)
    if curve is None:
        _refuse_curve(crv or "")
    x, y, d = _number(jwk, "x"), _number(jwk, "y"), _number(jwk, "d")
    try:
        native = ec.derive_private_key(d, _curve(curve))
    except ValueError:
        _refuse_parts()
    public = native.public_key().public_numbers()
    if (public.x, public.y) != (x, y):
        _refuse_parts()
    return native


def _refuse_parts() -> NoReturn:
    raise InvalidKey(
        "The JWK's private and public numbers do not belong together, or are damaged. Export the key anew as a JWK."
    ) from None


_KEY_TEXT = r"(?s)\s*(?:-----BEGIN|\{|\[).*|[A-Za-z0-9+/=\s]{80,}|.*[\r\n].*"


def _absolute(path: str) -> str:
    # The working directory may be another one when the file is read again; symlinks stay, for they may be swapped.
    return os.path.abspath(os.path.expanduser(path))


def _followed(
    path: str | os.PathLike[str], password: str | bytes | None, kid: str | None, alg: str | None
) -> PrivateKey:
    try:
        given = os.fsdecode(path)
    except TypeError:
        raise InvalidKey(
            f"The path of a key file is of type {type(path).__name__}. Give a str or a pathlib.Path."
        ) from None
    if re.fullmatch(_KEY_TEXT, given) and not os.path.exists(_absolute(given)):
        raise InvalidKey("This is the text of a key, not the path of its file. Read it with PrivateKey.from_text.")

    def parse(content: bytes) -> PrivateKey:
        return _read_as_told(_text(content), password, kid, alg)

    try:
        return _FileKey(_absolute(given), parse)
    except InvalidKey as error:
        raise InvalidKey(f"{given}: {error}") from None


def _content(path: str) -> bytes:
    """What the file holds; a FIFO or a device is not opened, because that may block for ever."""
    try:
        about = os.stat(path)
        regular = stat.S_ISREG(about.st_mode)
        content = b""
        if regular and about.st_size <= LARGEST:
            with open(path, "rb") as file:
                content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InvalidKey(
            f"The file cannot be read ({reason}). Check the path, and that this process may read it."
        ) from None
    if stat.S_ISDIR(about.st_mode):
        raise InvalidKey("This is a directory. Give the path of the key file in it.")
    if not regular:
        raise InvalidKey(
            "This is not a regular file. Read it yourself, and give what it holds to PrivateKey.from_text."
        )
    if about.st_size > LARGEST:
        raise InvalidKey(
            f"The file has more than {LARGEST} bytes, so it is no key. Give the file that holds only the key."
        )
    return content
