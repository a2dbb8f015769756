"""The words that may stay in descriptors and free text: the lists of profiles/text, and how words are looked up there.

A word is on a list as it is, without its accents, with an ending of its language, or put together from words on the
lists (Oberarmschaft, HeadNeck). Words that are somebody's name too carry a mark: they stay, but not beside a name.
"""

from __future__ import annotations

import csv
import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from .syntax import STANDARD

FOLDER = STANDARD.parent / "text"

UNKNOWN, WORD, NAME = 0, 1, 2
"""What a word is: on no list, on a list, or on a list and somebody's name too."""

_LANGUAGES = ("dutch", "french", "german", "italian", "portuguese", "spanish")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+")
_ENDINGS = ("s", "e", "n", "en", "er", "es", "em")
_LINKS = ("", "s", "n", "en", "es", "o")
_MATRIX = re.compile(r"\d{1,4}(?:x\d{1,4}){1,3}(?:[µu]?m|[mc]m|px)?")
_RUNS = re.compile(r"\d+|\D+")
_PART = 4  # letters of the shortest word that others are put together from
_PUT_TOGETHER = 8  # letters of the shortest word that is taken apart


@dataclass(frozen=True)
class Lexicon:
    """The lists, read: `words` with UNKNOWN, WORD or NAME by casefolded word, the parts of compounds, and units."""

    words: dict[str, int]
    parts: frozenset[str]
    units: frozenset[str]
    ideographs: frozenset[str]  # Chinese, Japanese and Korean words, which are written without blanks
    longest: int  # length of the longest of them


@lru_cache(maxsize=1)
def digest() -> str:
    """SHA-256 over every list, in hex, for the digest of plans that clean text."""
    total = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.csv")):
        content = path.read_bytes()
        total.update(f"{path.name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """Read the lists, once."""
    words: dict[str, int] = {}
    parts: set[str] = set()
    units: set[str] = set()
    ideographs: set[str] = set()
    for path in sorted(FOLDER.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(word, NAME if mark else WORD) for word, mark in list(csv.reader(file))[1:]]
        if path.stem == "units":
            units.update(word for word, _ in rows)
        if path.stem == "chinese_japanese_korean":
            ideographs.update(word for word, _ in rows)
            continue
        for word, mark in rows:
            words[word] = max(mark, words.get(word, UNKNOWN))
        if path.stem in ("radiology", *_LANGUAGES):
            parts.update(word for word, mark in rows if mark == WORD and len(word) >= _PART and word.isalpha())
    parts -= {word for word, mark in words.items() if mark == NAME}
    for word in [word for word in words if not word.isascii()]:
        for plain in plain_letters(word):
            words.setdefault(plain, words[word])
    return Lexicon(words, frozenset(parts), frozenset(units), frozenset(ideographs), max(map(len, ideographs)))


def plain_letters(word: str) -> tuple[str, str]:
    """Return how a word is written where umlauts and accents are not to be had."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    spelt = word.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue").replace("ß", "ss")
    return bare, spelt


@lru_cache(maxsize=16384)
def known(token: str) -> int:
    """Say what a token of letters and digits is, without what a profile adds or takes away: UNKNOWN, WORD or NAME."""
    folded = token.casefold()
    found = lexicon().words.get(folded)
    if found is not None:
        return found
    if folded.isdecimal():
        return WORD if len(folded) <= 4 else UNKNOWN
    if any(c.isdigit() for c in folded):
        return _mixed(folded)
    return _put_together(token, folded)


def _mixed(folded: str) -> int:
    """Letters and digits: 3mm, T1w, b1000, C7, B30f, iDose4, 512x512; not what may be somebody's number."""
    if _MATRIX.fullmatch(folded):
        return WORD
    runs = _RUNS.findall(folded)
    words = lexicon().words
    letters = [run for run in runs if not run.isdecimal()]
    digits = [run for run in runs if run.isdecimal()]
    if any(words.get(run) != WORD for run in letters):
        return UNKNOWN
    if len(runs) == 2 and runs[0].isdecimal() and len(runs[1]) >= 2 and runs[1] in lexicon().units:
        return WORD if len(runs[0]) <= 6 else UNKNOWN
    if sum(map(len, digits)) > 4:
        # A list of parameters (tr2500te80) may hold more digits, if words say what they are.
        long = len(runs) > 2 and all(len(run) >= 2 for run in letters) and all(len(run) <= 4 for run in digits)
        return WORD if long and len(digits) <= 3 else UNKNOWN
    if all(len(run) == 1 for run in letters):
        # Single letters say little: a kernel or a vertebra has few digits, and does not begin with them.
        few = len(runs) <= 3 and all(len(run) <= 3 for run in digits)
        return WORD if few or (runs[0] == "b" and len(runs) == 2) else UNKNOWN
    return WORD


def _put_together(token: str, folded: str) -> int:
    words = lexicon().words
    if not token.isupper() and not token.islower() and not token.istitle():
        pieces = _CAMEL.findall(token)
        if "".join(pieces) == token and all(len(p) > 1 and words.get(p.casefold()) == WORD for p in pieces):
            return WORD
    for ending in _ENDINGS:
        if folded.endswith(ending):
            base = folded[: -len(ending)]
            if len(base) >= 5 and base in lexicon().parts:
                return WORD
    if len(folded) >= _PUT_TOGETHER and folded.isalpha() and _divides(folded):
        return WORD
    return UNKNOWN


def _divides(word: str) -> bool:
    """Whether a word is put together from words of the lists, as German ones are."""
    parts = lexicon().parts
    reached = {0}
    for end in range(_PART, len(word) + 1):
        if any(start in reached and word[start:end] in parts for start in range(end - _PART + 1)):
            reached.update(end + len(link) for link in _LINKS if word.startswith(link, end))
    return len(word) in reached


def divide(run: str) -> list[tuple[int, int]]:
    """Return the places in a run of ideographs (or kana, or hangul) that are words of the list.

    Where words cover the whole run it is one place; single signs count only there, since names have them too.
    """
    words, longest = lexicon().ideographs, lexicon().longest
    reached = [True] + [False] * len(run)
    for end in range(1, len(run) + 1):
        reached[end] = any(reached[start] and run[start:end] in words for start in range(max(0, end - longest), end))
    if reached[-1]:
        return [(0, len(run))]
    places = []
    at = 0
    while at < len(run):
        size = next((n for n in range(min(longest, len(run) - at), 1, -1) if run[at : at + n] in words), 0)
        if size:
            places.append((at, at + size))
        at += size or 1
    return places
