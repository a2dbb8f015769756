"""Names of months and days of the week in many languages: read in any spelling, written as the text writes them."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from .syntax import STANDARD

_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
_ONE_LETTER = str.maketrans({"\u0131": "i", "\u0307": None})  # the dotless i, and the dot that \u0130 leaves behind


def plain(word: str) -> str:
    """Write a word without accents, as ASCII texts do; letters that have no plain form stay."""
    bare = "".join(letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter))
    return bare.replace("\u0131", "i")  # a dotless i


@lru_cache(maxsize=1)
def _months() -> dict[str, dict[int, list[str]]]:
    months: dict[str, dict[int, list[str]]] = {}
    with (STANDARD / "calendar_words.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] == "month":
                months.setdefault(row["language"], {})[int(row["number"])] = row["forms"].split()
    return months


@lru_cache(maxsize=1)
def _readings() -> dict[str, list[tuple[str, int, int]]]:
    """Word, casefolded → what it may be: language, month, place among the forms."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    for language, months in _months().items():
        for number, forms in months.items():
            for place, form in enumerate(forms):
                for spelling in {_key(form), _key(plain(form)), _key(form.translate(_GERMAN))}:
                    found.setdefault(spelling, []).append((language, number, place))
    return found


def month_number(word: str) -> int:
    """Return the number of the month that a word names in some language."""
    return _readings()[_key(word)][0][1]


def _key(word: str) -> str:
    """Return one spelling for all that a regular expression takes for the same word without regard to case.

    That is more than two cases: i, I, \u0130 and \u0131 are one letter to it, and so are the two s and the two sigmas.
    """
    return unicodedata.normalize("NFC", word).casefold().translate(_ONE_LETTER)


def languages_of(tokens: Iterable[str]) -> frozenset[str]:
    """Return the languages that have all of a text's names of months; none where no language has them all."""
    common: frozenset[str] | None = None
    for token in tokens:
        found = _readings().get(_key(token))
        if found is not None:
            languages = frozenset(language for language, _, _ in found)
            common = languages if common is None else common & languages
    return common or frozenset()


def name_month(like: str, number: int, known: frozenset[str], *, abbreviate: bool, ascii_only: bool) -> str:
    """Write a month as `like` is written: in its language, as short, in its case.

    A word of several languages ('april') is taken for the first one of the table that is among the `known`, those of
    the text. `abbreviate` settles whether 'May' is short.
    """
    readings = _readings()[_key(like)]
    languages = {language for language, _, _ in readings}
    languages = languages & known or languages
    language, month, place = next(reading for reading in readings if reading[0] in languages)
    forms = _months()[language][number]
    if len(_months()[language][month]) == 1:
        place = 1 if abbreviate else 0
    form = forms[min(place, len(forms) - 1, 1)]
    if ascii_only:
        form = plain(form.translate(_GERMAN) if language == "de" else form)
    if like.isupper():
        return form.upper()
    return form.capitalize() if like[0].isupper() else form


@lru_cache(maxsize=2)
def spellings(kind: str) -> frozenset[str]:
    """Return the names of one kind ('month', 'weekday') in lower case, with and without their accents."""
    found: set[str] = set()
    with (STANDARD / "calendar_words.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] == kind:
                for form in row["forms"].split():
                    found |= {form, plain(form), form.translate(_GERMAN)}
    return frozenset(found)


@lru_cache(maxsize=2)
def words(kind: str) -> str:
    """Return a regular expression for the same, for use without regard to case."""
    return _tree(set(spellings(kind)))


def _tree(these: set[str]) -> str:
    """A regular expression for a set of words that shares beginnings, so that a miss is seen at the first letters."""
    ends = "" in these
    branches = [
        re.escape(letter) + _tree({word[1:] for word in these if word[:1] == letter})
        for letter in sorted({word[0] for word in these if word})
    ]
    if not branches:
        return ""
    return "(?:" + "|".join(branches) + ")" + ("?" if ends else "")
