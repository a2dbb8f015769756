"""Finds dates and times of day within free text, in many spellings and languages, and moves or masks them.

A full date whose order of day and month is certain is moved in its own spelling. What looks like a date but is not
certain (03/04/2020), not whole (March 2020), a placeholder, or a constant of the site (version, template, calibration)
is masked: moved or left alone it would tell the offset. So would a day of the week beside a date, and a bare year.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

from .calendar_words import languages_of, name_month
from .datepatterns import BARE_YEAR, CONSTANT, TOKEN, at_place
from .datereading import Reading
from .datevalues import Shift, moved, parse_zone

MASK = "***"
"""What stands for a part of a text that may not stay."""

_DAY = 86400
_FLAT = str.maketrans("‐‑‒–—−／．：（）\u00a0\u2007\u202f\u3000\t", "------/.:()     ")
_CACHED = 2000
"""Longer texts are seldom met twice."""


def shift_text(text: str, shift: Shift | None) -> str:
    """Return a text with its dates moved; without `shift` every date and clock time is masked.

    Times of day follow `shift.times`, in the text's own spelling. Moving is not idempotent, masking is.
    """
    if len(text) <= _CACHED:
        return _cached(text, shift)
    return _changed(text, shift)


@lru_cache(maxsize=4096)
def _cached(text: str, shift: Shift | None) -> str:
    return _changed(text, shift)


def _changed(text: str, shift: Shift | None) -> str:
    if re.search(r"\d|元年", text) is None:
        return text
    changed = _once(text, shift)
    while shift is None and changed != text:  # a mask may uncover what stood too close to something
        text, changed = changed, _once(changed, None)
    return changed


def _once(text: str, shift: Shift | None) -> str:
    flat = _flat(text)
    out: list[str] = []
    done = 0
    languages: frozenset[str] | None = None
    token = TOKEN.search(flat)
    while token is not None:
        start, end = token.span()
        match = at_place(flat, start, token[0])
        if match is not None:
            if languages is None:
                languages = languages_of(word[0] for word in TOKEN.finditer(flat))
            new = _Finding(match, text, shift, languages).replacement()
            if new is not None:
                out += [_years(text[done:start], shift), new]
                done = end = match.end()
        token = TOKEN.search(flat, end)
    return "".join(out) + _years(text[done:], shift)


def _flat(text: str) -> str:
    """The text with one kind of blank, dash and digit, of the same length."""
    if text.isascii():
        return text.replace("\t", " ")
    text = text.translate(_FLAT)
    return "".join(str(int(c)) if c.isdecimal() and not c.isascii() else c for c in text)


def _years(text: str, shift: Shift | None) -> str:
    """A bare year would tell the offset within a year."""
    return text if shift is None else BARE_YEAR.sub(MASK, text)


@dataclass
class _Finding:
    """One place that looks like a date or a time."""

    match: re.Match[str]
    text: str
    shift: Shift | None
    languages: frozenset[str]  # those in which all names of months in the text are known
    edits: list[tuple[int, int, str]] = field(default_factory=list)

    def replacement(self) -> str | None:
        """Return what comes in its place; None: it is neither date nor time."""
        match = self.match
        if match["clock"]:
            return self._clock_alone()
        self.reading = Reading(match)
        read = self.reading.read()
        if read is None:
            return None
        day, short = read if isinstance(read, tuple) else (None, False)
        if day is None or self.shift is None or self._constant() or match[0] != self._source():
            return MASK
        return self._move(day, short, self.shift)

    def _source(self) -> str:
        """What stands there in the text itself, but for blanks and dashes: other digits are not written back."""
        return self.text[self.match.start() : self.match.end()].translate(_FLAT)

    def _constant(self) -> bool:
        before = self.match.string[max(0, self.match.start() - 40) : self.match.start()].rpartition("\n")[2]
        return CONSTANT.search(before) is not None

    # --- moving ---

    def _move(self, day: date, short: bool, shift: Shift) -> str:
        seconds = self._tail_seconds(shift) // _DAY
        target = moved(day, shift.days + seconds)
        if target is None:
            return MASK
        self._put("y", f"{target.year:04}")
        self._put("yy", f"{target.year % 100:02}")
        word = self.reading.group("w")
        if word is not None:
            self._month(word, target.month)
            self._ordinal(target.day)
        reversed_ = self.reading.name in ("dmy", "dmy8") and int(self.reading.group("b") or 0) > 12
        keys = ("b", "a") if reversed_ else ("a", "b")
        width = self._width()
        for key, number in zip((*keys, "d", "m"), (target.day, target.month) * 2, strict=True):
            self._put(key, f"{number:0{width}}")
        for key in ("wd", "wd2", "wd3"):
            if key in self.match.re.groupindex and self.match[key] and target.weekday() != day.weekday():
                self.edits.append((*self.match.span(key), MASK))
        return self._edited()

    def _width(self) -> int:
        """Whether days and months below ten have a zero: "12" does not tell, and beside a name has none as a rule."""
        numbers = [number for key in ("a", "b", "d", "m") if (number := self.reading.group(key)) is not None]
        if self.reading.group("w") is not None and self._spaced() and not any(number[0] == "0" for number in numbers):
            return 1
        return min(map(len, numbers), default=2)

    def _spaced(self) -> bool:
        return " " in self.match[self.reading.name] or "." in self.match[self.reading.name]

    def _month(self, word: str, number: int) -> None:
        name = name_month(
            word,
            number,
            self.languages,
            abbreviate=not self._spaced() or word.isupper() or self.reading.name == "unix",
            ascii_only=self.text.isascii(),
        )
        self._put("w", name)

    def _ordinal(self, day: int) -> None:
        old = self.reading.group("o")
        if old is None or not old.isalpha() or old in "ºª":
            return
        if old.lower() == "er":
            new = "er" if day == 1 else ""
        else:
            new = "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
        self._put("o", new.upper() if old.isupper() else new)

    def _put(self, key: str, new: str) -> None:
        if self.reading.group(key) is not None:
            self.edits.append((*self.reading.span(key), new))

    def _edited(self) -> str:
        begin, end = self.match.span()
        out, at = [], begin
        for start, stop, new in sorted(self.edits):
            out += [self.text[at:start], new]
            at = stop
        return "".join(out) + self.text[at:end]

    # --- times of day ---

    def _clock_alone(self) -> str | None:
        match, shift = self.match, self.shift
        marked = match["clock_ap"] or match["clock_u"] or match["at"]
        certain = marked or match["clock_se"] or len(match["clock_h"]) == 2
        if shift is None:
            return MASK if certain else None
        if shift.times == "keep":
            return None
        if not certain:
            return MASK  # a time or a ratio
        self._time_edits("clock", shift)
        return self._edited()

    def _tail_seconds(self, shift: Shift) -> int:
        """Move the time behind a date; returns the seconds from the old day's midnight to the new time."""
        for name in ("tail", "packed", "stamp", "unix"):
            if f"{name}_h" in self.match.re.groupindex and self.match[f"{name}_h"] is not None:
                break
        else:
            return 0
        return self._time_edits(name, shift)

    def _time_edits(self, name: str, shift: Shift) -> int:
        match = self.match
        groups = match.re.groupindex

        def part(key: str) -> str | None:
            return match[f"{name}_{key}"] if f"{name}_{key}" in groups else None

        hour, minute, second, half, zone = (part(key) for key in ("h", "mi", "se", "ap", "z"))
        clock = int(hour or 0)
        if half is not None and clock <= 12:
            clock = clock % 12 + (12 if "p" in half.lower() else 0)
        seconds = clock * 3600 + int(minute or 0) * 60 + int(second or 0)
        if zone is not None:
            # As for DT: the data set's zone, without suffix.
            east = parse_zone(zone.strip().upper().encode())
            if east is not None and shift.zone is not None and name != "clock":
                seconds += 60 * (shift.zone - east)
            self.edits.append((*match.span(f"{name}_z"), ""))
        if shift.times == "shift":
            seconds += shift.seconds
        elif shift.times == "round":
            seconds -= seconds % 3600
        clock = seconds % _DAY
        hours = clock // 3600
        if half is not None:
            letters = "p" if hours >= 12 else "a"
            hours = (hours + 11) % 12 + 1
            span = match.span(f"{name}_ap")
            self.edits.append(
                (*span, re.sub("[ap]", letters, half) if half.islower() else re.sub("[APap]", letters.upper(), half))
            )
        for key, old, number in (("h", hour, hours), ("mi", minute, clock // 60 % 60), ("se", second, clock % 60)):
            if old is not None:
                width = 1 if key == "h" and half is not None and old[0] != "0" else len(old)
                self.edits.append((*match.span(f"{name}_{key}"), f"{number:0{width}}"))
        return seconds
