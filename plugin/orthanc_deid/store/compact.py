"""Keyed indexes, digests, UIDs and Orthanc ids as bytes: half as wide in tables and indexes, text for everybody else.

A row of the ledger has a dozen of them, and each stands in an index or two; at tens of millions of rows that decides
whether an index fits into memory. Texts of other forms are kept as they are, so nothing is ever lost or made equal.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

import sqlalchemy as sa

_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_UID = re.compile(r"2\.25\.(0|[1-9][0-9]{0,38})")
_ORTHANC = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def pack(text: str) -> bytes:
    """Return the bytes of a text: one that names its form, then the content; equal only for equal texts."""
    if _HEX.fullmatch(text):
        return b"\1" + bytes.fromhex(text)
    if (match := _UID.fullmatch(text)) and (number := int(match[1])) < 1 << 128:
        return b"\2" + number.to_bytes(16, "big")
    if _ORTHANC.fullmatch(text):
        return b"\3" + bytes.fromhex(text.replace("-", ""))
    if _UUID.fullmatch(text):
        return b"\4" + uuid.UUID(text).bytes
    return b"\0" + text.encode()


def unpack(data: bytes) -> str:
    """Return the text that `pack` got."""
    form, content = data[0], bytes(data[1:])
    if form == 1:
        return content.hex()
    if form == 2:
        return f"2.25.{int.from_bytes(content, 'big')}"
    if form == 3:
        digits = content.hex()
        return "-".join(digits[at : at + 8] for at in range(0, 40, 8))
    if form == 4:
        return str(uuid.UUID(bytes=content))
    return content.decode()


class Compact(sa.types.TypeDecorator[str]):
    """A column that is text in Python and `pack`ed in the database. Its order is that of the bytes."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> bytes | None:
        """Pack a value for the database."""
        return None if value is None else pack(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Unpack a value of the database."""
        return None if value is None else unpack(value)
