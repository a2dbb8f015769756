"""The values that identify a subject: harvested from the subject's objects, and searched for in what comes out.

`Known` is what was harvested (kind and text); it can be merged over all objects of a subject and sealed. `Needles` is
what it compiles to: byte strings for a fast search that may only err by finding too much, and rules that judge a find
by the word and the attribute it stands in. So a short or common value is judged, and never left out of the search.
"""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from .syntax import STANDARD
from .text import readings

_LONG = 5
"""Values of at least this many characters are searched for inside words too, shorter ones as whole words."""
_SEPARATORS = b" \t-_./()+^,;:"
PARTING = re.compile(r"[\s\-_./()+^,;:]+")
"""What may part the digits of an id or of a telephone number."""
_TOKEN = re.compile(r"[^\W_]+")
_DATE = re.compile(r"(\d{4})[-./]?(\d{2})[-./]?(\d{2})")
_HONORIFICS = frozenset({"dr", "mr", "mrs", "ms", "prof", "md", "jr", "sr", "phd", "ii", "iii"})
_NAMELESS = frozenset({"", "anonymous", "anonymized", "unknown", "none", "removed", "na", "n/a", "null", "test"})
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_NUMERIC = frozenset({"DS", "IS"})
_HOUSE = re.compile(r"^\d+[a-z]?[\s,]+|[\s,]+\d+[a-z]?$")
CONTENT_DATES = frozenset({0x0040A120, 0x0040A121})
"""DateTime and Date of content items: dates of whatever their concept says, which may be one that nobody knows."""


@lru_cache(maxsize=1)
def identifying() -> dict[int, str]:
    """Return the attributes to harvest, tag to kind: name, id, step, date, birth, phone, phrase."""
    with (STANDARD / "identifying.csv").open(newline="", encoding="utf-8") as file:
        return {int(row["tag"], 16): row["kind"] for row in csv.DictReader(file)}


@lru_cache(maxsize=1)
def vocabulary() -> dict[str, frozenset[str]]:
    """Return the words that are at home in an attribute (tag as 8 hex digits) or in a VR, whoever is called so."""
    words: dict[str, set[str]] = {}
    with (STANDARD / "vocabulary.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            words.setdefault(row["where"], set()).add(row["word"])
    return {where: frozenset(found) for where, found in words.items()}


@dataclass(frozen=True)
class Known:
    """Values of one subject, as (kind, text). Hashable and picklable; `dump` is for sealing, never for a log."""

    values: frozenset[tuple[str, str]] = frozenset()

    def merge(self, other: Known) -> Known:
        """Return what both know."""
        return self if other.values <= self.values else Known(self.values | other.values)

    def dump(self) -> bytes:
        """Serialise, for sealing."""
        return json.dumps(sorted(self.values), ensure_ascii=False).encode()

    @classmethod
    def load(cls, data: bytes) -> Known:
        """Read what `dump` wrote."""
        return cls(frozenset((str(kind), str(text)) for kind, text in json.loads(data)))

    def __repr__(self) -> str:
        return f"Known({len(self.values)} values)"

    @property
    def needles(self) -> Needles:
        """What to search for."""
        return _compile(self)


NOTHING_KNOWN = Known()
"""What is known of a subject before the first object."""


class Harvest:
    """Collects raw values while an object is walked."""

    __slots__ = ("raw",)

    def __init__(self) -> None:
        self.raw: list[tuple[str, bytes, tuple[str, ...]]] = []

    def known(self) -> Known:
        """Decode what was collected; the same raw values give the same (cached) answer."""
        return _known(frozenset(self.raw))


@lru_cache(maxsize=64)
def _known(raw: frozenset[tuple[str, bytes, tuple[str, ...]]]) -> Known:
    values: set[tuple[str, str]] = set()
    for kind, value, charset in raw:
        # A backslash parts values; in an address it may be text, and then its parts are searched for.
        for part in (part for text in readings(value, charset) for part in text.split("\\")):
            part = part.strip(" \0\r\n\t")
            if kind in ("date", "birth"):
                found = _DATE.match(part)
                if found and found[1] > "0000" and "00" < found[2] < "13" and "00" < found[3] < "32":
                    values.add((kind, "".join(found.groups())))
            elif PARTING.sub("", part).casefold() not in _NAMELESS:
                values.add((kind, part))
    return Known(frozenset(values))


@dataclass(frozen=True, slots=True)
class Needle:
    """One spelling to search for, casefolded. `mode` says how a find counts: any, word (whole words only), digits (no
    digit beside it), value (the whole value only)."""

    text: str
    mode: str
    kind: str

    def spans(self, folded: str) -> Iterator[tuple[int, int]]:
        """Yield where it stands in a casefolded text, beginning and end, as its mode demands."""
        if self.mode == "value":
            begin = 0
            for part in folded.split("\\"):
                if part.strip(" \0") == self.text:
                    yield begin, begin + len(part)
                begin += len(part) + 1
            return
        for begin in _finds(self.text, folded):
            end = begin + len(self.text)
            before, after = folded[begin - 1 : begin] if begin else "", folded[end : end + 1]
            if self.mode == "digits":
                joined = before.isdigit() or after.isdigit()
            else:
                joined = self.mode == "word" and (
                    (before.isalnum() and self.text[0].isalnum()) or (after.isalnum() and self.text[-1].isalnum())
                )
            if not joined:
                yield begin, end


class Needles:
    """Compiled needles of one subject."""

    __slots__ = ("all", "births", "dates", "plain", "squeezed", "whole", "wide")

    def __init__(
        self, needles: Iterable[Needle], dates: dict[str, list[Needle]], births: frozenset[bytes] = frozenset()
    ) -> None:
        self.births = births  # as DA writes them
        self.all = [*needles, *(needle for spellings in dates.values() for needle in spellings)]
        ascii_ = [needle for needle in self.all if needle.text.isascii()]
        self.plain = tuple({needle.text.encode() for needle in ascii_ if needle.kind != "date"})
        # A spelling can only stand where its year stands: so most texts need no search for thirty spellings.
        self.dates = tuple(
            (gate.encode(), tuple({needle.text.encode() for needle in spellings})) for gate, spellings in dates.items()
        )
        # Ids and telephone numbers are also found where something parts their digits.
        self.squeezed = tuple(
            {
                squeezed.encode()
                for needle in ascii_
                if needle.kind in ("id", "phone") and len(squeezed := PARTING.sub("", needle.text)) >= 7
            }
        )
        self.wide = tuple(needle for needle in self.all if not needle.text.isascii())
        self.whole = frozenset(
            needle.text.encode() for needle in ascii_ if needle.text.isdigit() and len(needle.text) >= 6
        )

    def candidates(self, low: bytes) -> list[bytes]:
        """Return the ASCII needles that stand somewhere in text in lower case: every find is among them.

        A find is only a hit once `hit` has judged it by word and attribute. Ids and telephone numbers count with what
        parts their digits taken away; b"" says that one was found so.
        """
        found = [needle for needle in self.plain if needle in low]
        for gate, spellings in self.dates:
            if gate in low:
                found += [needle for needle in spellings if needle in low]
        if self.squeezed:
            tight = low.translate(None, _SEPARATORS)
            for needle in self.squeezed:
                if needle in tight:
                    found.append(b"")
                    break
        return found

    def in_numbers(self, numbers: Iterable[bytes]) -> bool:
        """Whether one of the numbers (values of DS and IS) is an id, a telephone number or a date of the subject.

        Short ids are left to what the number means: Instance Number 123 is no patient 123.
        """
        return not self.whole.isdisjoint(numbers)

    def hit(self, text: str, vr: str, tag: int) -> bool:
        """Judge one value, decoded: whether it tells something of the subject."""
        if vr in _NUMERIC:
            return self.in_numbers(part.strip(" \0").encode() for part in text.split("\\"))
        homely = vocabulary().get(f"{tag:08X}", frozenset()) | vocabulary().get(vr, frozenset())
        return any(self._stands_in(folded, homely) for folded in foldings(text))

    def _stands_in(self, folded: str, homely: frozenset[str]) -> bool:
        for needle in self.all:
            if needle.text in folded and self._counts(needle, folded, homely):
                return True
        if self.squeezed:
            tight = PARTING.sub("", folded).encode()
            return any(needle in tight for needle in self.squeezed)
        return False

    @staticmethod
    def _counts(needle: Needle, folded: str, homely: frozenset[str]) -> bool:
        exempt = homely if needle.kind == "name" and needle.mode != "value" else frozenset()
        return any(_token_around(folded, begin, end) not in exempt for begin, end in needle.spans(folded))

    def in_bytes(self, raw: bytes, uids: Iterable[str] = ()) -> bool:
        """Whether binary that may carry text (profiles, look-up tables) holds a needle or one of the UIDs.

        Looked for in ASCII, UTF-8 and UTF-16, and in words of either byte order. Short needles are not looked for in
        numbers: three letters stand in any table of 64 KB.
        """
        sought = {needle.text.encode() for needle in self.all if len(needle.text) >= _LONG and needle.mode != "value"}
        sought |= {uid.encode() for uid in uids if len(uid) >= _LONG}
        words = array("H", raw[: len(raw) & ~1])
        words.byteswap()
        for view in (raw, words.tobytes()):
            for low in (view.lower(), view.replace(b"\0", b"").lower()):
                tight = low.translate(None, _SEPARATORS)
                if any(needle in low for needle in sought) or any(needle in tight for needle in self.squeezed):
                    return True
        return False


def fold(text: str) -> str:
    """Casefold and compose, so that spellings of one letter compare equal."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def foldings(text: str) -> tuple[str, ...]:
    """Return the ways to read a text without regard to how its letters are made: folded, and, where that is not ASCII,
    also with ordinary letters for wide ones, without what is not seen, and without accents, as names often are."""
    folded = fold(text)
    if folded.isascii():
        return (folded,)
    plain = unicodedata.normalize("NFKC", "".join(c for c in folded if unicodedata.category(c) != "Cf")).casefold()
    return tuple(dict.fromkeys((folded, plain, "".join(map(_bare, plain)), plain.translate(_SPELT))))


@lru_cache(maxsize=4096)
def _bare(letter: str) -> str:
    """Return a letter of an alphabet without its accents, "" for an accent; other scripts have marks that matter."""
    if letter < "\u0530" or "\u1e00" <= letter < "\u2000":
        return "".join(c for c in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(c))
    return letter


_SPELT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


def _finds(needle: str, text: str) -> Iterator[int]:
    at = text.find(needle)
    while at >= 0:
        yield at
        at = text.find(needle, at + 1)


def _token_around(text: str, begin: int, end: int) -> str:
    while begin and text[begin - 1].isalnum():
        begin -= 1
    while end < len(text) and text[end].isalnum():
        end += 1
    return text[begin:end]


@lru_cache(maxsize=64)
def _compile(known: Known) -> Needles:
    needles: set[Needle] = set()
    dates: dict[str, list[Needle]] = {}
    for kind, text in known.values:
        if kind in ("date", "birth"):
            for gate, needle in _spellings(text):
                dates.setdefault(gate, []).append(needle)
        else:
            for part in _parts(kind, fold(text)):
                if part:  # of nothing but accents nothing is left, and nothing stands everywhere
                    needles.update(_modes(kind, part))
    births = frozenset(text.encode() for kind, text in known.values if kind == "birth")
    return Needles(needles, dates, births)


def _modes(kind: str, text: str) -> Iterator[Needle]:
    if kind == "step" and len(text) < _LONG:
        yield Needle(text, "value", kind)
    else:
        yield Needle(text, "any" if len(text) >= _LONG else "word", kind)


def _parts(kind: str, text: str) -> Iterator[str]:
    """Yield the spellings of one value that have to be found on their own."""
    if kind == "name":
        for token in {token for group in text.split("=") for token in re.split(r"[\s^,=]+", group)}:
            for word in {token, *re.split(r"[-'’.]", token)}:
                # A single letter is an initial: it is found as part of the whole name only.
                if len(word) >= 2 and word not in _HONORIFICS and word not in _NAMELESS:
                    yield word
                    yield from _plain_letters(word)
        whole = " ".join(_TOKEN.findall(text))
        if len(whole) >= 3:
            yield whole
        return
    if kind == "phone":
        digits = re.sub(r"\D", "", text)
        if len(digits) >= 5:
            yield digits
        if len(digits) >= 9:
            yield digits[-7:]  # however country and area are written, or left out
        yield text
        return
    if text:
        yield text
        yield from _plain_letters(text)
    if kind == "id":
        squeezed = PARTING.sub("", text)
        if len(squeezed) >= 3:
            yield squeezed
        stripped = squeezed.lstrip("0")
        if len(stripped) >= _LONG:
            yield stripped
    elif kind == "phrase":
        for line in re.split(r"[\r\n^]+", text):
            line = line.strip()
            if len(line) >= _LONG:
                yield line
            street = _HOUSE.sub("", line)
            if street != line and len(street) >= _LONG and len(street.split()) > 1:
                yield street  # with another house number, or with the number on its other side


def _plain_letters(text: str) -> Iterator[str]:
    """Yield how a word is written where umlauts and accents are not to be had."""
    if not text.isascii():
        yield "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        yield text.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue").replace("ß", "ss")


def _mode(date: str) -> str:
    return "word" if date.isalnum() else "digits"


@lru_cache(maxsize=4096)
def _spellings(date: str) -> tuple[tuple[str, Needle], ...]:
    """Return the ways a date YYYYMMDD is written, each with a part that it always holds: the year."""
    year, month, day = date[:4], date[4:6], date[6:]
    m, d, yy = str(int(month)), str(int(day)), year[2:]
    name = _MONTHS[int(month) - 1]
    full = {date, day + month + year, month + day + year}
    for s in "-./ ":
        for a, b in ((month, day), (m, d)):
            full |= {f"{year}{s}{a}{s}{b}", f"{b}{s}{a}{s}{year}", f"{a}{s}{b}{s}{year}"}
    for word in (name, name[:3]):
        for number in (day, d):
            full |= {f"{number}{s}{word}{s}{year}" for s in (" ", "-", "", ". ")}
            full |= {
                f"{number}. {word} {year}",
                f"{word} {number}, {year}",
                f"{word} {number} {year}",
                f"{year}-{word}-{number}",
            }
    brief = {yy + month + day}
    for s in "-./":
        for a, b in ((month, day), (m, d)):
            brief |= {f"{b}{s}{a}{s}{yy}", f"{a}{s}{b}{s}{yy}", f"{yy}{s}{a}{s}{b}"}
    return (
        # A whole date with separators is one wherever it stands, but for digits beside it.
        *((year, Needle(text, "any" if text == date else _mode(text), "date")) for text in sorted(full)),
        *((yy, Needle(text, "word", "date")) for text in sorted(brief)),
    )
