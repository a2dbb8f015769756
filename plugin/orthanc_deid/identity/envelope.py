"""Encrypts for recipients, and decrypts as one of them: CMS enveloped data (RFC 5652; PS3.15 E.1.2).

AES-256 in CBC mode, its key for each recipient by RSA. Only certificates are needed to encrypt: the keys stay with the
recipients, who need not be this installation's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.serialization import pkcs7

MIN_BITS = 2048


class EnvelopeError(Exception):
    """A certificate, key or content that cannot be used; the text names the file and the reason, and no content."""


def certificate(path: Path, now: datetime | None = None) -> x509.Certificate:
    """Read a recipient's certificate (PEM or DER); raises EnvelopeError for one that may not or cannot be used."""
    try:
        data = path.read_bytes()
        found = x509.load_pem_x509_certificate(data) if b"-----BEGIN" in data else x509.load_der_x509_certificate(data)
    except OSError as error:
        raise EnvelopeError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise EnvelopeError(f"{path}: is no certificate") from None
    key = found.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < MIN_BITS:
        raise EnvelopeError(f"{path}: needs an RSA key of at least {MIN_BITS} bits")
    if now is not None and not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
        raise EnvelopeError(f"{path}: is not valid at this time")
    return found


def recipients(paths: Iterable[Path]) -> list[x509.Certificate]:
    """Read the certificates of all recipients, valid now; raises EnvelopeError."""
    return [certificate(path, datetime.now(UTC)) for path in paths]


def describe(path: Path) -> tuple[str, str, str]:
    """Return whose certificate it is, its SHA-256 in hex and the day until which it is valid; raises EnvelopeError."""
    found = certificate(path)
    until = found.not_valid_after_utc.date().isoformat()
    return found.subject.rfc4514_string(), found.fingerprint(hashes.SHA256()).hex(), until


def encryptor(certificates: Iterable[x509.Certificate]) -> Callable[[bytes], bytes]:
    """Return what encrypts for all of the recipients: any one of them can open it."""
    builder = pkcs7.PKCS7EnvelopeBuilder().set_content_encryption_algorithm(algorithms.AES256)
    for one in certificates:
        builder = builder.add_recipient(one)

    def encrypt(plain: bytes) -> bytes:
        return builder.set_data(plain).encrypt(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])

    return encrypt


def private_key(path: Path, password: bytes | None = None) -> rsa.RSAPrivateKey:
    """Read a recipient's private key (PEM); raises EnvelopeError."""
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), password)
    except OSError as error:
        raise EnvelopeError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise EnvelopeError(f"{path}: is no private key that this password opens") from None
    if not isinstance(found, rsa.RSAPrivateKey):
        raise EnvelopeError(f"{path}: needs an RSA key")
    return found


def decrypt(content: bytes, recipient: x509.Certificate, key: rsa.RSAPrivateKey) -> bytes:
    """Open what was encrypted for `recipient`; raises EnvelopeError, also where it was not."""
    try:
        return pkcs7.pkcs7_decrypt_der(_trimmed(content), recipient, key, [])
    except (ValueError, UnsupportedAlgorithm):
        raise EnvelopeError("the content was not encrypted for this certificate, or is damaged") from None


def _trimmed(content: bytes) -> bytes:
    """Return the DER value without the byte that pads it to even length (PS3.5 section 6.2)."""
    if len(content) < 2 or content[1] < 0x80:
        return content
    size = content[1] & 0x7F
    return content[: 2 + size + int.from_bytes(content[2 : 2 + size], "big")]
