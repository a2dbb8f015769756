"""Maps UIDs by key, so that references resolve for ever and nobody without the key finds the way back.

A new UID is ``2.25.`` and the decimal form of a UUID version 8 (RFC 9562; PS3.5 B.2) whose 122 free bits are the
first bits of HMAC-SHA-256(key, source UID). It depends on the key and the source UID alone: whatever object or
patient id a reference stands in, it comes out the same.
"""

from __future__ import annotations

import hmac
from functools import lru_cache

from orthanc_deid.core import standard

_VERSION_CLEAR = ~(0xF << 76)
_VERSION_8 = 8 << 76
_VARIANT_CLEAR = ~(0x3 << 62)
_VARIANT_RFC = 0x2 << 62


@lru_cache(maxsize=1)
def registered() -> frozenset[bytes]:
    """Return the UIDs that the standard registers (PS3.6 annex A): constants, which are never mapped.

    Its root alone says nothing: some senders make up UIDs of patients below it.
    """
    uids = {row[0] for row in standard.rows("registered_uids.csv")}
    uids |= {row[0] for row in standard.rows("transfer_syntaxes.csv")} | set(standard.sop_classes())
    return frozenset(uid.encode() for uid in uids)


@lru_cache(maxsize=4096)  # study, series and frames of reference come again with every instance, several times
def map_uid(key: bytes, uid: str) -> str:
    """Return the UID that stands for `uid` under `key` (32 bytes); at most 44 characters.

    `uid` is taken without padding; constants of the standard are the caller's to leave alone.
    """
    number = int.from_bytes(keyed_digest(key, uid.encode("utf-8"))[:16], "big")
    number = number & _VERSION_CLEAR | _VERSION_8
    return f"2.25.{number & _VARIANT_CLEAR | _VARIANT_RFC}"


def keyed_digest(key: bytes, data: bytes) -> bytes:
    """Return HMAC-SHA-256 of `data`."""
    mac = _keyed(key).copy()
    mac.update(data)
    return mac.digest()


@lru_cache(maxsize=64)
def _keyed(key: bytes) -> hmac.HMAC:
    """Return the HMAC with the key taken in: copying it costs a third of starting anew."""
    return hmac.new(key, digestmod="sha256")
