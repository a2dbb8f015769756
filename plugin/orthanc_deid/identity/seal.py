"""Sealing of values that lead back to a patient: AES-256-GCM, bound to its place by the associated data.

Form: version (1 byte) · nonce (12 bytes, random) · ciphertext and tag. Random nonces are safe for some 2^32 values
per key, and every project has a key of its own.
"""

from __future__ import annotations

import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orthanc_deid.errors import SealError

_VERSION = b"\x01"
_NONCE = 12


@lru_cache(maxsize=64)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt and authenticate `plaintext` for the place that `aad` names."""
    nonce = os.urandom(_NONCE)
    return _VERSION + nonce + _cipher(key).encrypt(nonce, plaintext, aad)


def unseal(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Give back what `seal` got. Raises SealError when key, place or bytes are not the same."""
    if sealed[:1] != _VERSION or len(sealed) < 1 + _NONCE + 16:
        raise SealError("not a sealed value of a known version")
    try:
        return _cipher(key).decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], aad)
    except InvalidTag:
        raise SealError("a sealed value does not open with this project's key") from None
