"""Searches kept values for what tells something of the subject. The same search serves cleaning and verification."""

from __future__ import annotations

import re
from collections.abc import Collection

from .actions import Kept, KeptValues
from .text import readings
from .uids import registered
from .values import CONTENT_DATES, Needles, identifying

_UID_LIKE = re.compile(rb"(?<![\d.])[0-2](?:\.\d+){6,}")
_SHORTEST_UID = 8  # what is shorter stands in any text with numbers
_DOTTED = re.compile(rb"[\d.]{%d,}" % _SHORTEST_UID)


def find(kept: KeptValues, needles: Needles, uids: Collection[str]) -> list[Kept]:
    """Return the kept values that hold a value of the subject's, or a UID of the source's (or that looks like one).

    Attributes whose very values are being kept by the plan (an institution's name under Retain Institution Identity)
    are exempt, at exactly those elements. UIDs of the standard's are digits and dots, in which any short id would be
    found: they are only compared with the source's UIDs.
    """
    words, numbers, constants, binary = kept
    # Private numbers are many and short: one look at all of them says whether to look at each.
    hits: list[Kept] = []
    if binary and (len(binary) == 1 or needles.in_bytes(_side_by_side(binary), uids)):
        hits = [one for one in binary if one[1] not in identifying() and needles.in_bytes(one[3], uids)]
    spread = b"\\".join([one[3] for one in numbers]).replace(b" ", b"").replace(b"\0", b"").split(b"\\")
    if needles.in_numbers(spread):
        hits += [one for one in numbers if needles.hit(one[3].decode("latin-1"), "DS", one[1])]
    for one in constants:
        for uid in one[3].split(b"\\"):
            if uid.rstrip(b" \0").decode("latin-1") in uids:
                hits.append(one)
    low = b"\n".join([one[3] for one in words]).lower()
    if not low.isascii() or b"\x1b" in low or needles.wide:
        suspects = words  # other letters than ASCII's need decoding to be compared
    else:
        candidates = needles.candidates(low)
        candidates += _Uids(uids).found(low)
        if b"" in candidates or _UID_LIKE.search(low):
            suspects = words
        elif candidates:
            suspects = [one for one in words if any(needle in one[3].lower() for needle in candidates)]
        else:
            return hits
    sought = _Uids(uids)
    return hits + [one for one in suspects if _tells(one, needles, sought)]


class _Uids:
    """The source's UIDs, to be found in texts. A report has thousands of both: only runs of digits and dots are looked
    through, except for what is no UID by its letters."""

    def __init__(self, uids: Collection[str]) -> None:
        raw = [uid.encode("latin-1").lower() for uid in uids if len(uid) >= _SHORTEST_UID]
        self.odd = [uid for uid in raw if not _DOTTED.fullmatch(uid)]
        self.dotted = [uid for uid in raw if _DOTTED.fullmatch(uid)]
        self.shortest = min(map(len, self.dotted), default=0)

    def found(self, low: bytes) -> list[bytes]:
        """Return those that stand in a text in lower case."""
        runs = b" ".join({run for run in _DOTTED.findall(low) if len(run) >= self.shortest})
        return [uid for uid in self.odd if uid in low] + ([uid for uid in self.dotted if uid in runs] if runs else [])


def _side_by_side(binary: list[Kept]) -> bytes:
    """Join values so that nothing is found that is not in one of them: kept apart, and each at an even position."""
    return b"\xff\xff".join([one[3] if len(one[3]) % 2 == 0 else one[3] + b"\xff" for one in binary])


def _tells(one: Kept, needles: Needles, uids: _Uids) -> bool:
    _, tag, vr, value, charset = one
    if tag in identifying():
        # What the plan keeps there may stay, but for a date of birth under a concept that nobody knows.
        return tag in CONTENT_DATES and value[:8] in needles.births
    if uids.found(value.lower()):
        return True
    if any(found not in registered() for found in _UID_LIKE.findall(value)):
        return True
    return any(needles.hit(text.strip(" \0"), vr.decode("ascii"), tag) for text in readings(value, charset))
