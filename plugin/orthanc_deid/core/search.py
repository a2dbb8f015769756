"""Searches kept values for what tells something of the subject. The same search serves cleaning and verification."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .actions import Kept
from .text import decode
from .uids import STANDARD_ROOT
from .values import Needles, identifying

_NUMBERS = (b"DS", b"IS")
_BINARY = (b"OB", b"OW", b"UN")
_UID_LIKE = re.compile(rb"(?<![\d.])[0-2](?:\.\d+){6,}")


def find(kept: Iterable[Kept], needles: Needles, uids: Iterable[str]) -> list[Kept]:
    """Return the kept values that hold a value of the subject's, or a UID of the source's (or that looks like one).

    Attributes whose very values are being kept by the plan (an institution's name under Retain Institution Identity)
    are exempt, at exactly those elements.
    """
    words: list[Kept] = []
    numbers: list[Kept] = []
    hits: list[Kept] = []
    for one in kept:
        vr = one[2]
        if vr in _NUMBERS:
            numbers.append(one)
        elif vr in _BINARY:
            if needles.in_bytes(one[3]) and one[1] not in identifying():
                hits.append(one)
        else:
            words.append(one)
    spread = b"\\".join([one[3] for one in numbers]).replace(b" ", b"").replace(b"\0", b"").split(b"\\")
    if needles.in_numbers(spread):
        hits += [one for one in numbers if needles.hit(one[3].decode("latin-1"), "DS", one[1])]
    low = b"\n".join([one[3] for one in words]).lower()
    sought = [uid.encode("latin-1") for uid in uids if len(uid) >= 8]
    if (
        not low.isascii()
        or b"\x1b" in low
        or needles.wide
        or needles.maybe(low)
        or any(uid in low for uid in sought)
        or _UID_LIKE.search(low)
    ):
        hits += [one for one in words if _tells(one, needles, sought)]
    return hits


def _tells(one: Kept, needles: Needles, uids: list[bytes]) -> bool:
    _, tag, vr, value, charset = one
    if tag in identifying():
        return False
    if any(uid in value for uid in uids):
        return True
    if vr == b"UI":  # a constant of the standard's: digits and dots, in which any short id would be found
        return False
    if any(not found.startswith(STANDARD_ROOT.encode()) for found in _UID_LIKE.findall(value)):
        return True
    return needles.hit(decode(value, charset).strip(" \0"), vr.decode("ascii"), tag)
