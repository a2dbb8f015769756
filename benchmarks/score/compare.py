"""How MIDI-B compares a value with what should have become of it.

A text passes as removed when it is no substring of the output and none of its tokens is; as retained when it is a
substring or all its tokens are. Case does not count, nor do stop words and punctuation. Two numbers compare as numbers.
"""

from __future__ import annotations

import re
from pathlib import Path

_STOP = frozenset((Path(__file__).with_name("words") / "stop.txt").read_text(encoding="utf-8").split())
_SPLIT = re.compile(r"[\s^=,;:!?()\[\]{}<>\"“”‘’`•*&|\\]+")
_EDGE = ".'-/_+#"


def tokens(text: str) -> list[str]:
    """Words that count, in lower case; figures, dates and words with hyphens stay whole."""
    parts = (part.strip(_EDGE) for part in _SPLIT.split(text.lower()))
    return [part for part in parts if part and part not in _STOP]


def number(text: str) -> float | None:
    """The number that a text of digits with at most one point is."""
    return float(text) if text.replace(".", "", 1).isdecimal() else None


def retained(found: str, wanted: str) -> bool:
    """Whether `wanted` is still in the output value `found`."""
    found, wanted = found.lower(), wanted.lower()
    a, b = number(found), number(wanted)
    if a is not None and b is not None:
        return a == b
    if wanted in found:
        return True
    words = tokens(wanted)
    return bool(words) and all(word in found for word in words)


def removed(found: str, unwanted: str) -> bool:
    """Whether nothing of `unwanted` is left in the output value `found`."""
    found, unwanted = found.lower(), unwanted.lower()
    a, b = number(found), number(unwanted)
    if a is not None and b is not None:
        return a != b
    if unwanted in found:
        return False
    return not any(word in found for word in tokens(unwanted))


def changed(found: str, original: str) -> bool:
    """Whether a date or UID is another one: the original is no substring (multiple values: none of their strings)."""
    return original.replace("\\", "") not in found.replace("\\", "")
