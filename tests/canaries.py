"""Canaries: values that stand nowhere else in the world, put into every place of an object, and looked for afterwards.

A canary knows the place it was put in, so a find says what leaked. `leaks` reads bytes in several ways (as they are,
without NULs, byte pairs swapped, inflated), each once, however many canaries there are. `sweep_tree` does it to a
folder: a peer's storage, logs, database files.
"""

from __future__ import annotations

import datetime
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.objects.base import Origin, Person

UID_ROOT = "1.2.826.0.1.3680043.10.9999.66."
_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ2456789"
_TOKEN = re.compile(rb"QZ([%s]{6})" % _ALPHABET.encode())
_UID = re.compile(re.escape(UID_ROOT.encode()) + rb"(\d{6})")
_DIGITS = re.compile(rb"(?=(\d{8}))")
_FRACTION = re.compile(rb"(?=(\d{6}\.\d{6}))")
_PARTED = re.compile(rb"(?=(\d{4}[-./ ]\d\d[-./ ]\d\d|\d\d[-./ ]\d\d[-./ ]\d{4}))")
_CODECS = (
    "utf-8",
    "latin-1",
    "gb18030",
    "iso8859_2",
    "koi8-r",
    "iso8859_5",
    "iso8859_7",
    "shift_jis",
    "euc_kr",
    "iso2022_jp",
)
_FIRST_DAY = datetime.date(1921, 1, 1)  # far from the dummy date, in whatever reading
_DERIVED = re.compile(rb"2\.25\.\d{20,39}")
_SMALLEST = 4
_LARGE = 1 << 18
"""Bytes from which on the places where any text may begin are looked up first: a find for each takes seconds a MB."""
_WINDOW = 1 << 22
_BEGINNING = 3


@dataclass(frozen=True)
class Canary:
    """A value and the place it was put in. `kind`: token, uid, date, time, or text for anything else."""

    place: str
    value: str
    kind: str = "text"

    def __str__(self) -> str:
        return f"{self.kind} in {self.place}"


@dataclass(frozen=True)
class Leak:
    """A canary that was found: in which reading of the bytes, where, and in which file."""

    canary: Canary
    view: str
    offset: int
    file: str = ""

    def __str__(self) -> str:
        return f"{self.canary} ({self.view} at {self.offset}{', ' + self.file if self.file else ''})"


@dataclass
class Mint:
    """Makes canaries, each another value, the same in every run."""

    made: list[Canary] = field(default_factory=list)

    def _add(self, place: str, value: str, kind: str) -> str:
        self.made.append(Canary(place, value, kind))
        return value

    def token(self, place: str) -> str:
        """Eight capitals and digits: fits every text VR."""
        number, text = (len(self.made) + 1) * 7_368_787 % len(_ALPHABET) ** 6, ""
        for _ in range(6):
            number, digit = divmod(number, len(_ALPHABET))
            text += _ALPHABET[digit]
        return self._add(place, "QZ" + text, "token")

    def name(self, place: str) -> str:
        """A person's name whose parts are one token."""
        return f"{self.token(place)}^{'Canary'}"

    def uid(self, place: str) -> str:
        return self._add(place, f"{UID_ROOT}{len(self.made) + 100_000}", "uid")

    def date(self, place: str) -> str:
        """A day from 1921 on, YYYYMMDD; 36,000 of them are distinct."""
        day = _FIRST_DAY + datetime.timedelta(days=len(self.made) * 7 % 36_000 + len(self.made) * 7 // 36_000)
        return self._add(place, day.strftime("%Y%m%d"), "date")

    def time(self, place: str) -> str:
        """A time of day with a fraction that is its own."""
        return self._add(place, f"{len(self.made) % 24:02}1733.{len(self.made):06}", "time")

    def datetime(self, place: str) -> str:
        return self.date(place) + self.time(place)

    def text(self, place: str, value: str) -> str:
        """A value of the caller's."""
        return self._add(place, value, "text")

    def value(self, vr: str, place: str) -> bytes:
        """A canary as a value of that VR (unpadded); b"" for the VRs that hold only binary numbers."""
        if vr == "UI":
            return self.uid(place).encode()
        if vr == "DA":
            return self.date(place).encode()
        if vr == "DT":
            return self.datetime(place).encode()
        if vr == "TM":
            return self.time(place).encode()
        if vr == "PN":
            return self.name(place).encode()
        if vr == "UR":
            return f"http://{self.token(place)}.example/".encode()
        if vr in ("ST", "LT", "UT"):
            return f"says {self.token(place)}, at length".encode()
        if vr in ("AE", "CS", "LO", "SH", "UC"):
            return self.token(place).encode()
        if vr in ("OB", "OW", "OD", "OF", "OL", "OV", "UN"):
            return b"\1\2\3\4" + self.token(place).encode() + b"\5\6\7\0"
        return b""


class Index:
    """Canaries by spelling, made once for any number of sweeps."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self.tokens: dict[bytes, Canary] = {}
        self.uids: dict[bytes, Canary] = {}
        self.dates: dict[bytes, Canary] = {}
        self.times: dict[bytes, Canary] = {}
        self.texts: dict[bytes, Canary] = {}
        for canary in canaries:
            value = canary.value.encode()
            if canary.kind == "token":
                self.tokens[value[2:]] = canary
            elif canary.kind == "uid":
                self.uids[value.rpartition(b".")[2]] = canary
            elif canary.kind == "time":
                self.times[value] = canary
            elif canary.kind == "date":
                self.dates.update(dict.fromkeys(_dates(canary.value), canary))
            else:
                self.texts.update(dict.fromkeys(_spellings(canary.value), canary))
        self._by_beginning: dict[bytes, list[bytes]] = {}
        self._short: list[bytes] = []
        self._may_begin = np.zeros(0, bool)

    def find(self, view: bytes) -> Iterator[tuple[Canary, int]]:
        """Every canary in one reading of some bytes, with its offset."""
        upper = view.upper()
        for pattern, known in (
            (_TOKEN, self.tokens),
            (_UID, self.uids),
            (_DIGITS, self.dates),
            (_PARTED, self.dates),
            (_FRACTION, self.times),
        ):
            if known:
                for match in pattern.finditer(upper):
                    if canary := known.get(match[1]):
                        yield canary, match.start()
        yield from self._each(upper, self.texts) if len(upper) < _LARGE else self._all_at_once(upper)

    def _each(self, upper: bytes, spellings: Iterable[bytes]) -> Iterator[tuple[Canary, int]]:
        for spelling in spellings:
            at = upper.find(spelling)
            while at >= 0:
                if _stands_alone(upper, at, spelling):
                    yield self.texts[spelling], at
                    break
                at = upper.find(spelling, at + 1)

    def _all_at_once(self, upper: bytes) -> Iterator[tuple[Canary, int]]:
        """The same, at a pace that hardly depends on how many there are."""
        if not self._by_beginning:
            self._sort_by_beginning()
        seen: set[bytes] = set()
        for at in self._places(upper):
            for spelling in self._by_beginning[upper[at : at + _BEGINNING]]:
                if spelling not in seen and upper.startswith(spelling, at) and _stands_alone(upper, at, spelling):
                    seen.add(spelling)
                    yield self.texts[spelling], at
        yield from self._each(upper, self._short)

    def _sort_by_beginning(self) -> None:
        self._short = [spelling for spelling in self.texts if len(spelling) < _BEGINNING]
        self._may_begin = np.zeros(1 << 24, bool)
        for spelling in self.texts:
            if len(spelling) >= _BEGINNING:
                self._by_beginning.setdefault(spelling[:_BEGINNING], []).append(spelling)
                self._may_begin[int.from_bytes(spelling[:_BEGINNING], "big")] = True

    def _places(self, upper: bytes) -> Iterator[int]:
        for start in range(0, len(upper) - _BEGINNING + 1, _WINDOW):
            count = min(_WINDOW + _BEGINNING - 1, len(upper) - start)
            part = np.frombuffer(upper, np.uint8, count, start).astype(np.uint32)
            numbers = part[:-2] << 16 | part[1:-1] << 8 | part[2:]
            yield from (start + int(place) for place in np.flatnonzero(self._may_begin[numbers]))


def _stands_alone(data: bytes, at: int, spelling: bytes) -> bool:
    """Short values count as whole words only: four digits stand in many a UID."""
    if len(spelling) > 6:
        return True
    before, after = data[at - 1 : at] if at else b"", data[at + len(spelling) : at + len(spelling) + 1]
    return not (before.isalnum() or after.isalnum())


def _dates(date: str) -> set[bytes]:
    year, month, day = date[:4], date[4:6], date[6:8]
    found = {date, day + month + year}
    for separator in "-./ ":
        found |= {separator.join(parts) for parts in ((year, month, day), (day, month, year), (month, day, year))}
    return {text.encode() for text in found}


def _spellings(value: str) -> set[bytes]:
    """A text in every character set that can write it, and as JSON would; in capitals, as `find` looks."""
    found = set()
    for text in (value, value.upper(), json.dumps(value)[1:-1]):
        for codec in _CODECS:
            try:
                found.add(text.encode(codec).upper())
            except UnicodeEncodeError:
                continue
    return found


def _swapped(data: bytes, at: int) -> bytes:
    pairs = bytearray(data[at : at + (len(data) - at) // 2 * 2])
    pairs[0::2], pairs[1::2] = pairs[1::2], pairs[0::2]
    return bytes(pairs)


def _inflated(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What zlib, gzip and raw deflate streams in the bytes hold (a deflated data set begins behind the file meta)."""
    starts = [
        (match.start(), zlib.MAX_WBITS | 32) for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", data)
    ]
    if data[128:132] == b"DICM" and b"1.2.840.10008.1.2.1.99" in data[132:600]:
        length = int.from_bytes(data[140:144], "little")
        starts.append((144 + length, -zlib.MAX_WBITS))
    whole = memoryview(data)  # a copy for each start would take hours in a database
    for start, bits in starts:
        engine = zlib.decompressobj(bits)
        try:
            found = engine.decompress(whole[start:], 1 << 28)
        except zlib.error:
            continue
        if len(found) >= 6:
            yield f"inflated from {start}", found


def views(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The ways to read some bytes: each is looked through once."""
    yield from _readings(data)
    for name, inner in _inflated(data):
        for reading, view in _readings(inner):
            yield f"{name}, {reading}", view


def _readings(data: bytes) -> Iterator[tuple[str, bytes]]:
    # Among the digits of a UID made of a UUID, or of their pairs swapped, any date stands sooner or later.
    data = _DERIVED.sub(lambda match: b"x" * len(match[0]), data)
    yield "plain", data
    if b"\0" in data:
        yield "without NULs (UTF-16, UTF-32)", data.replace(b"\0", b"")
    yield "pairs swapped", _swapped(data, 0)
    yield "pairs swapped, odd", _swapped(data, 1)
    yield "reversed", data[::-1]


def leaks(output: bytes, canaries: Sequence[Canary] | Index, file: str = "") -> list[Leak]:
    """Every canary that stands in the bytes, once each, in whatever spelling, ordered by place."""
    index = canaries if isinstance(canaries, Index) else Index(canaries)
    found: dict[Canary, Leak] = {}
    for name, view in views(output):
        for canary, offset in index.find(view):
            found.setdefault(canary, Leak(canary, name, offset, file))
    return sorted(found.values(), key=lambda leak: leak.canary.place)


def sweep_tree(path: Path, canaries: Sequence[Canary] | Index) -> list[Leak]:
    """The leaks of every file below a folder, its name included."""
    index = canaries if isinstance(canaries, Index) else Index(canaries)
    found = []
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        found += leaks(str(file.relative_to(path.parent)).encode(), index, f"name of {file}")
        if file.is_file():
            found += leaks(file.read_bytes(), index, str(file))
    return found


def of_person(person: Person, *origins: Origin) -> list[Canary]:
    """What must be nowhere of a patient: all that a hospital knows, names by their parts, dates, UIDs of `origins`."""
    found = []
    for attribute in ("name", "referring", "operator", "mother"):
        for part in re.split(r"[\^ ]+", getattr(person, attribute)):
            if len(part) >= _SMALLEST:
                found.append(Canary(attribute, part))
    for attribute in ("patient_id", "phone", "other_id", "address", "institution", "institution_address"):
        found.append(Canary(attribute, getattr(person, attribute)))
    found.append(Canary("birth_date", person.birth_date, "date"))
    for origin in origins:
        found.append(Canary("accession", person.accession(origin.study)))
        found.append(Canary("study date", origin.date, "date"))
        for what in ("study_uid", "series_uid", "sop_uid", "frame_uid"):
            found.append(Canary(what, getattr(origin, what)))
    return list(dict.fromkeys(found))
