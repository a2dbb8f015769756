"""Takes a text apart into tokens: words, runs of ideographs, and masks."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from .dates import MASK

_XRAY = r"(?<![A-Za-z0-9])[Xx][- ]?[Rr][Aa][Yy][Ss]?(?![A-Za-z0-9])"  # one word: Ray alone is a name
_ASCII_TOKEN = re.compile(rf"\*{{3,}}|{_XRAY}|[A-Za-z0-9\x00-\x08\x0b\x0e-\x1f\x7f]+")
_START = re.compile(_XRAY)

NOTHING, LETTERS, IDEOGRAPHS, MASKED = range(4)


class Token(NamedTuple):
    """A part of a text: where it stands, and whether it is a mask or written without blanks."""

    begin: int
    end: int
    kind: int


def tokens(text: str) -> list[Token]:
    """Return the tokens of a text, in order; what is between them are blanks, signs and line ends."""
    if text.isascii():
        return [
            Token(*match.span(), MASKED if match[0][0] == "*" else LETTERS) for match in _ASCII_TOKEN.finditer(text)
        ]
    found: list[Token] = []
    at = 0
    while at < len(text):
        kind = _kind(text[at])
        if text.startswith(MASK, at):
            end = at
            while end < len(text) and text[end] == "*":
                end += 1
            found.append(Token(at, end, MASKED))
        else:
            xray = _START.match(text, at)
            end = xray.end() if xray else at + 1
            while end < len(text) and kind != NOTHING and _kind(text[end]) == kind:
                end += 1
            if kind != NOTHING:
                found.append(Token(at, end, kind))
        at = end
    return found


@lru_cache(maxsize=8192)
def _kind(sign: str) -> int:
    """Anything that is no punctuation, symbol or blank may be part of a name, control characters included."""
    category = unicodedata.category(sign)
    if category[0] in "PSZ" or sign in "\t\n\f\r":
        # ideographic iteration and prolonged sound marks are letters (Lm); what is left here parts words
        return NOTHING if sign != "\ufffd" else LETTERS
    name = unicodedata.name(sign, "")
    if name.startswith(("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "HANGUL", "IDEOGRAPHIC", "BOPOMOFO")):
        return IDEOGRAPHS
    return LETTERS
