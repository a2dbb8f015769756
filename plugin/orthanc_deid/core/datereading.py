"""Reads one place of a text that is spelled like a date: which day it is, if that is certain."""

from __future__ import annotations

import re
from datetime import date

from .calendar_words import month_number
from .datepatterns import NAMES, VERSION
from .datevalues import real_date

# Abbreviations that are also words, techniques or substances: without a year they are no date.
_SHORT = re.compile("jan|feb|apr|jun|jul|aug|sep|oct|okt|nov|dec|dez|déc|mai|mei|maj|May")
_SCANS = re.compile("OCT|MAR|MAG|SEP|SET")


class Reading:
    """A match of `datepatterns.at_place` that is no mere time: `name` of its spelling, and its groups."""

    def __init__(self, match: re.Match[str]) -> None:
        groups = match.re.groupindex
        self.match = match
        self.name = next(name for name in NAMES if name in groups and match[name])

    def span(self, key: str) -> tuple[int, int]:
        """Return where a group stands in the text."""
        return self.match.span(f"{self.name}_{key}")

    def group(self, key: str) -> str | None:
        """Return a group's text; None where the spelling has no such group, or it is not there."""
        name = f"{self.name}_{key}"
        return self.match[name] if name in self.match.re.groupindex else None

    def read(self) -> tuple[date, bool] | bool | None:
        """Return the date and whether its year has two digits; True: a date to be masked; None: no date."""
        name, group = self.name, self.group
        if name == "month_year" and group("y") is None and _SCANS.fullmatch(group("w") or ""):
            return None
        if name in ("roman", "month_year", "partial", "week", "era"):
            return True
        if name == "six":
            return self._six()
        if name in ("dmy", "dmy8"):
            return self._day_month_year()
        year, short = group("y"), False
        if year is None:
            year, short = group("yy"), True
        word, day = group("w"), group("d")
        month = str(month_number(word)) if word else group("m")
        if year is None or month is None or day is None:
            return self._without_year(word or "") if year is None else True
        if name == "ymd":
            if group("s") == " " and (group("s2") != " " or len(day) < 2 or len(month) < 2):
                return None
            if not 0 < int(month) <= 12 or not 0 < int(day) <= 31:
                return None
            if group("s") != group("s2"):
                return True
        elif name in ("stamp", "ymd8") and (not 0 < int(month) <= 12 or not 0 < int(day) <= 31):
            return None
        if int(day) > 31:
            return None
        if group("pre") or group("post"):
            return True
        if short and word is not None and word.islower() and month == "5" and word == "may":
            return None  # "segment 4 may 20 …"
        return self._real(int(year), int(month), int(day), short=short)

    def _without_year(self, word: str) -> bool | None:
        """A day and a month: a date if the month cannot be read as anything else."""
        day = int(self.group("d") or 0)
        if not 0 < day <= 31 or (word.upper() in ("MAY", "MAR") and not word.istitle()):
            return None
        if len(word) > 3:
            return True
        if not _SHORT.fullmatch(word.lower() if word != "May" else word) or _SCANS.fullmatch(word):
            return None
        return True if self.name != "us" or word.istitle() else None

    def _real(self, year: int, month: int, day: int, *, short: bool) -> tuple[date, bool] | bool:
        if short:  # of two possible centuries neither may make it a placeholder
            if year and real_date(1900 + year, month, day) is None:
                return True
            year += 2000
        found = real_date(year, month, day)
        return True if found is None else (found, short)

    def _day_month_year(self) -> tuple[date, bool] | bool | None:
        group = self.group
        first, second = group("a") or "", group("b") or ""
        a, b = int(first), int(second)
        year, separator, other = group("y"), group("s"), group("s2")
        if year is None and not self._two_digit_year(len(first) + len(second)):
            return None
        if year is None and a > 31 and 0 < b <= 12 and 0 < int(group("yy") or 0) <= 31 and len(second) == 2:
            return True  # 58-06-14
        if a > 31 or b > 31 or min(a, b) > 12 or max(a, b) == 0:
            return None
        if year is None:
            if separator != "." or group("pre"):
                return True
        elif " " in (separator, other) and (separator != other or len(first) + len(second) < 4):
            return None
        if self.name == "dmy" and separator != other:
            return True
        if group("pre") or (max(a, b) <= 12 and separator != "."):
            return True
        day, month = (b, a) if b > 12 else (a, b)
        return self._real(int(year or group("yy") or 0), month, day, short=year is None)

    def _two_digit_year(self, digits: int) -> bool:
        """Whether three short numbers may be a date at all, and are no version, address or level."""
        separator = self.group("s")
        if separator != self.group("s2") or separator in (" ", "_") or (separator == "-" and digits < 4):
            return False
        text, (begin, end) = self.match.string, self.match.span(self.name)
        before, after = text[max(0, begin - 20) : begin], text[end : end + 2]
        if separator == "-" and (
            before[-1:] == "-" or (self.group("pre") or "")[-1:] == "-" or re.match(r"-\d", after)
        ):
            return False
        # Versions have full stops: "V 3.28.12" is one, "2V 03/28/12" two views and a date.
        return re.search(r"[^\W_]$|[.,:]$", before) is None and (separator != "." or VERSION.search(before) is None)

    def _six(self) -> bool | None:
        digits = self.match["six"]
        pairs = [int(digits[at : at + 2]) for at in (0, 2, 4)]
        orders = ((1, 2), (1, 0), (0, 1))  # places of month and day
        return True if any(0 < pairs[m] <= 12 and 0 < pairs[d] <= 31 for m, d in orders) else None
