"""Reads private keys from PEM, JWK and JWKS text.

Invariant: no error raised here holds key material or a passphrase, and neither does an exception in its context. This
module handles only the keys of ``cryptography`` ("native" keys) and plain data; :mod:`okta_m2m.keys` wraps them.

The numbers of a JWK are decoded here, so that an error can name the faulty member; ``cryptography`` checks whether those of
an RSA key match. That library is imported where it is used: importing it takes longer than importing the whole package.
"""

from __future__ import annotations

import codecs
import json
import re
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, NoReturn

from ..errors import InvalidKey, quoted
from ._key_algorithms import (
    ACCEPTED_ALGS,
    CURVES,
    MAKE_A_KEY,
    MAX_KEY_SIZE,
    MAX_RSA_BITS,
    MIN_RSA_BITS,
    refuse_curve,
    refuse_size,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["clean_text", "is_json", "is_key_text", "kid_of_pem", "load_jwk", "load_pem", "parse_json"]


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def clean_text(content: object) -> str:
    """The text of a key, without the characters that editors, shells and YAML add around it."""
    if not isinstance(content, str | bytes):
        raise InvalidKey(
            f"A key must be a string or bytes, not of type {type(content).__name__}.",
            remedy="Pass its PEM or JWK text.",
        )
    if len(content) > MAX_KEY_SIZE:
        raise InvalidKey(f"It has more than {MAX_KEY_SIZE} bytes, so it is not a key.", remedy="Pass only the key.")
    text = content if isinstance(content, str) else _decode(content)
    if text is None:
        raise InvalidKey(
            "It is binary, not text: DER, PKCS #12, or not a key at all.",
            remedy="Convert DER with: openssl pkey -inform DER -in key.der -out key.pem",
        )
    text = text.strip("\ufeff\0\"' \t\r\n\v\f")
    if not text:
        raise InvalidKey("The key is empty.", remedy="Pass the key's PEM or JWK text.")
    return text


def _decode(content: bytes) -> str | None:
    # A PowerShell redirection writes UTF-16.
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        # The caller raises outside this handler: a UnicodeDecodeError in the context would hold the content.
        return None


_KEY_TEXT = r"(?s)\s*(?:-----BEGIN|\{|\[).*|[A-Za-z0-9+/=\s]{80,}|.*[\r\n].*"


def is_key_text(text: str) -> bool:
    """Whether this looks like a key or a part of one, rather than the path of a file."""
    return re.fullmatch(_KEY_TEXT, text) is not None


def is_json(text: str) -> bool:
    """Whether this is meant as a JWK or a JWKS."""
    return text.startswith(("{", "["))


def parse_json(text: str) -> object:
    """The JSON document in JWK or JWKS text."""
    if "-----BEGIN" in text and not is_json(text):
        raise InvalidKey("It is PEM text, not a JWK.", remedy="Read it with PrivateKey.from_pem.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass  # raised below, outside this handler: a JSONDecodeError in the context would hold the whole text
    raise InvalidKey("It is not JSON, or it is truncated.", remedy="Pass the complete JWK, from { to }.")


# ── PEM ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

_BLOCK = r"-----BEGIN ([A-Z0-9 ]{1,40})-----((?:[^-]|-(?!----))*)-----END \1-----"
# Only from the first backslash, so that a long run of them is scanned once.
_WRITTEN_LINE_BREAK = r"(?<!\\)(?:\\+[rn])+"


def load_pem(text: str, password: str | bytes | None) -> PrivateKeyTypes:
    """The private key in PEM text, no matter how its lines are broken. The passphrase is used only if the key is
    encrypted."""
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    label, body = _find_private_block(text)
    if label == "OPENSSH PRIVATE KEY":
        raise InvalidKey(
            "The key is in the OpenSSH format.",
            remedy="Convert a copy with: ssh-keygen -p -m PEM -f copy-of-key",
        )
    lines = [line.strip() for line in body.splitlines()]
    headers = [line for line in lines if ":" in line]  # Proc-Type and DEK-Info of an encrypted key (RFC 1421)
    base64 = "".join(line for line in lines if ":" not in line)
    encrypted = bool(headers) or label == "ENCRYPTED PRIVATE KEY"
    if encrypted and not password:
        raise InvalidKey(
            "The key is encrypted, and no passphrase was given.",
            remedy="Pass it as password=. For the configured key, set OKTA_CLIENT_PRIVATEKEYPASSPHRASE.",
        )
    if label == "ENCRYPTED PRIVATE KEY":
        _check_derivation_cost("".join(base64.split()))
    # "replace", because an encoding error would hold the passphrase or the key.
    secret = password.encode("utf-8", "replace") if isinstance(password, str) else password
    pem = "\n".join([f"-----BEGIN {label}-----", *headers, "", "".join(base64.split()), f"-----END {label}-----", ""])
    try:
        return load_pem_private_key(pem.encode("ascii", "replace"), secret if encrypted else None)
    except UnsupportedAlgorithm:
        raise InvalidKey(
            "The key's type, curve or encryption is not supported.",
            remedy="Convert the key with: openssl pkcs8 -topk8 -in key.pem -out new.pem",
        ) from None
    except (ValueError, TypeError, InternalError):  # InternalError: OpenSSL refuses the parameters of scrypt
        if encrypted:
            _refuse_encrypted()
        raise InvalidKey(
            "The key in the PEM block is damaged or truncated, or its parts do not match.",
            remedy="Check it with: openssl pkey -in key.pem -noout -check",
        ) from None


MAX_ITERATIONS = 2_000_000
"""Iterations to derive a key from a passphrase (PBKDF2, PKCS #12): they take up to six seconds. OpenSSL writes 2048."""

MAX_SCRYPT_COST = 1 << 20
"""N * r * p of scrypt: it takes up to 128 MiB of memory. OpenSSL writes 2**17."""

_SCRYPT = bytes.fromhex("2b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11 (RFC 7914 section 7)


def _check_derivation_cost(base64: str) -> None:
    """Refuses an encrypted PKCS #8 whose passphrase would take too long to check, or too much memory: the key names the
    cost itself."""
    try:
        elements = list(_der_elements(b64decode(base64, validate=True)))
    except (ValueError, IndexError):
        _refuse_encrypted()
    numbers = [int.from_bytes(content, "big", signed=True) for tag, content in elements if tag == 0x02]
    # For no iterations, older versions of cryptography raise Rust's panic, which is no Exception.
    if min(numbers, default=1) < 1:
        _refuse_encrypted()
    kinds = [content for tag, content in elements if tag == 0x06]  # PBES2 (RFC 8018) names its derivation second
    if max(numbers, default=0) > MAX_ITERATIONS or (kinds[1:2] == [_SCRYPT] and prod(numbers[:3]) > MAX_SCRYPT_COST):
        raise InvalidKey(
            "The passphrase of the key takes too much work to check: more than "
            f"{MAX_ITERATIONS:,} iterations, or 128 MiB of memory.",
            remedy="If you created the key, encrypt it again: openssl pkcs8 -topk8 -in key.pem -out new.pem",
        )


def _der_elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each primitive element of DER (ITU-T X.690), in order, no matter how deep. Only for a text that
    ``cryptography`` checks afterwards."""
    position = 0
    while position < len(der):
        tag, length = der[position], der[position + 1]
        position += 2
        if length & 0x80:
            octets = length & 0x7F
            length = int.from_bytes(der[position : position + octets], "big")
            position += octets
        if not tag & 0x20:  # the content of a constructed element is elements again
            yield tag, der[position : position + length]
            position += length


def _refuse_encrypted() -> NoReturn:
    raise InvalidKey(
        "The key cannot be decrypted: the passphrase is wrong, or the key is damaged.",
        remedy="Test the passphrase with: openssl pkey -in key.pem -noout",
    ) from None


def kid_of_pem(text: str) -> str | None:
    """The ``kid`` in a line ``kid: ...`` above the key. Other parsers ignore such lines (RFC 7468 section 2)."""
    for line in re.sub(_WRITTEN_LINE_BREAK, "\n", text).splitlines():
        name, _, kid = line.partition("-----BEGIN")[0].partition(":")
        if name.strip() == "kid":
            return kid.strip() or None
    return None


def _find_private_block(text: str) -> tuple[str, str]:
    """Label and body of the only block with a private key. Certificates and parameters in the same text are ignored."""
    blocks = [(block[1], block[2]) for block in re.finditer(_BLOCK, re.sub(_WRITTEN_LINE_BREAK, "\n", text))]
    private = [block for block in blocks if block[0].endswith("PRIVATE KEY")]
    if len(private) == 1:
        return private[0]
    if private:
        raise InvalidKey(
            f"The PEM text contains {len(private)} private keys.",
            remedy="Keep only the one that is registered at Okta.",
        )
    labels = {label for label, _ in blocks}
    if any("CERTIFICATE" in label for label in labels):
        raise InvalidKey(
            "The PEM text contains a certificate but no private key.", remedy="Use the private key of that certificate."
        )
    if any("PUBLIC KEY" in label for label in labels) or text.startswith(("ssh-", "ecdsa-")):
        raise InvalidKey(
            "This is a public key, which cannot sign.", remedy="Use the private key. The public key is for Okta."
        )
    if is_json(text):
        raise InvalidKey("It is JSON, not PEM text.", remedy="Read it with PrivateKey.from_jwk.")
    if "-----BEGIN" in text:
        raise InvalidKey(
            "The PEM text is truncated, or contains no key.",
            remedy="Pass all of it, from -----BEGIN to -----END ... -----.",
        )
    raise InvalidKey("The key is neither PEM nor JWK.", remedy="Pass text that begins with -----BEGIN or with {.")


# ── JWK and JWKS ─────────────────────────────────────────────────────────────────────────────────────────────────────


def load_jwk(document: object, kid: str | None) -> tuple[PrivateKeyTypes, str | None, str | None]:
    """The key in a JWK (RFC 7517 section 4) or a JWKS (section 5), and the JWK's own ``kid`` and ``alg``.

    ``kid`` selects a key of a JWKS.
    """
    if not isinstance(document, Mapping):
        raise InvalidKey(
            'It is JSON, but not a JWK. A JWK is an object with the member "kty".', remedy="Pass the private key's JWK."
        )
    jwk = _pick(document["keys"], kid or None) if "keys" in document else document
    kty = _string(jwk, "kty")
    use = _string(jwk, "use")
    operations = jwk.get("key_ops")
    if kty in ("OKP", "AKP"):
        name = quoted(_string(jwk, "crv") or kty, 20)
        raise InvalidKey(f"The JWK is an {name} key. {ACCEPTED_ALGS}, but not EdDSA.", remedy=MAKE_A_KEY)
    if kty == "oct":
        raise InvalidKey('The JWK is a shared secret ("kty": "oct"), not a private key.', remedy=MAKE_A_KEY)
    if kty not in ("RSA", "EC"):
        raise InvalidKey('The JWK\'s "kty" must be "RSA" or "EC".', remedy="Pass the complete JWK of the private key.")
    if "d" not in jwk:
        raise InvalidKey(
            'This JWK is a public key (it has no "d"), which cannot sign.',
            remedy="Use the private key. The public key is for Okta.",
        )
    if use not in (None, "sig"):
        raise InvalidKey(
            f'The JWK\'s "use" is {quoted(use, 20)!r}, so the key is not for signing.',
            remedy='Use a key with "use": "sig".',
        )
    if operations is not None and not (isinstance(operations, list | tuple) and "sign" in operations):
        raise InvalidKey('The JWK\'s "key_ops" do not include "sign".', remedy="Use a key that is made for signing.")
    own_kid, own_alg = _string(jwk, "kid"), _string(jwk, "alg")
    return (_load_rsa(jwk) if kty == "RSA" else _load_ec(jwk)), own_kid, own_alg


def _pick(keys: object, kid: str | None) -> Mapping[str, object]:
    """The key of a JWKS that has this ``kid``, or the only private key for signing."""
    if not isinstance(keys, list | tuple):
        raise InvalidKey(
            'The JWKS\'s "keys" must be a list (RFC 7517 section 5).', remedy='Pass {"keys": [...]}, or one JWK.'
        )
    entries = [entry for entry in keys if isinstance(entry, Mapping)]
    private = [entry for entry in entries if _is_for_signing(entry)]
    if kid is None:
        candidates = private or entries
    else:
        matching = [entry for entry in entries if entry.get("kid") == kid]
        # A set may contain both halves of a pair under one kid.
        candidates = [entry for entry in matching if _is_for_signing(entry)] or matching
        if not matching and len(private) == 1 and private[0].get("kid") is None:
            candidates = private  # as with a single JWK, the caller sets its kid
    if len(candidates) == 1:
        return candidates[0]
    if kid is not None and candidates:
        raise InvalidKey(
            f"The JWKS has {len(candidates)} keys with the kid {quoted(kid, 100)!r}.", remedy="Keep only one."
        )
    kids = _list_kids([entry.get("kid") for entry in private])
    if kid is not None:
        raise InvalidKey(
            f"The JWKS has no key with the kid {quoted(kid, 100)!r}; its private keys: {kids}.",
            remedy="Use one of those.",
        )
    if not private:
        raise InvalidKey("The JWKS contains no private key.", remedy="Pass the set that contains the private key.")
    raise InvalidKey(
        f"The JWKS contains {len(private)} private keys: {kids}.",
        remedy='Choose one with PrivateKey.from_file(..., kid="..."), or with OKTA_CLIENT_KID.',
    )


def _is_for_signing(jwk: Mapping[str, object]) -> bool:
    return "d" in jwk and jwk.get("use") != "enc"


def _list_kids(kids: Sequence[object]) -> str:
    shown = [repr(quoted(kid, 100)) if isinstance(kid, str) else "one without a kid" for kid in kids[:10]]
    return ", ".join([*shown, *(["..."] if len(kids) > 10 else [])]) or "none"


def _string(jwk: Mapping[str, object], name: str) -> str | None:
    value = jwk.get(name)
    if value is None or isinstance(value, str):
        return value
    raise InvalidKey(
        f'The JWK\'s "{name}" is of type {type(value).__name__}, not a string (RFC 7517 section 4).',
        remedy="Put it in quotes.",
    )


def _number(jwk: Mapping[str, object], name: str) -> int:
    """A Base64urlUInt (RFC 7518 section 2). Leading zero octets, which some libraries write, do not change it."""
    text = jwk.get(name)
    if not isinstance(text, str):
        raise InvalidKey(
            f'The JWK\'s "{name}" is missing or not a string.', remedy="Pass the complete JWK of the private key."
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text) or len(text) % 4 == 1:
        raise InvalidKey(
            f'The JWK\'s "{name}" is not base64url, which has no "=", "+", "/" or white space (RFC 7515 section 2).',
            remedy="Export the key as a JWK again.",
        )
    if len(text) > MAX_RSA_BITS // 6 + 8:
        raise InvalidKey(
            f'The JWK\'s "{name}" has more than {MAX_RSA_BITS} bits.', remedy="Use a key of 2048 to 4096 bits."
        )
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def _load_rsa(jwk: Mapping[str, object]) -> RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric import rsa

    n, e, d = _number(jwk, "n"), _number(jwk, "e"), _number(jwk, "d")
    given = (_number(jwk, "p"), _number(jwk, "q")) if "p" in jwk and "q" in jwk else None
    if n.bit_length() < MIN_RSA_BITS:
        refuse_size(n.bit_length())
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


def _load_ec(jwk: Mapping[str, object]) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    crv = _string(jwk, "crv")
    curve = next((curve for curve in CURVES.values() if curve.crv == crv), None)
    if curve is None:
        refuse_curve(crv or "")
    x, y, d = _number(jwk, "x"), _number(jwk, "y"), _number(jwk, "d")
    try:
        native = ec.derive_private_key(d, curve.native())
    except ValueError:
        _refuse_parts()
    public = native.public_key().public_numbers()
    if (public.x, public.y) != (x, y):
        _refuse_parts()
    return native


def _refuse_parts() -> NoReturn:
    raise InvalidKey(
        "The JWK's private and public parts do not match, or are damaged.",
        remedy="Export the key as a JWK again.",
    ) from None
