"""The words that may stay in descriptors and free text: the lists of profiles/text, and how words are looked up there.

A word is on a list as it is, with an ending of its language, or put together from words on the
lists (Oberarmkopf, HeadNeck). Words that are somebody's name too carry a mark: they stay, but not beside a name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Set
from dataclasses import dataclass
from functools import lru_cache

from .syntax import STANDARD

FOLDER = STANDARD.parent / "text"

UNKNOWN, WORD, NAME = 0, 1, 2
"""What a word is: on no list, on a list, or on a list and somebody's name too."""

_TECHNICAL = ("dicom", "radiology", "units", "vendors")
_JOINING = ("dutch", "german")
"""Languages that write words together and decline them."""
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+")
_KEPT_APART = (*_TECHNICAL, *_JOINING, "russian", "chinese_japanese_korean")
_ENDINGS = ("e", "n", "en", "er", "es", "em")
_MEDICAL = re.compile(
    # operations, pictures and states: endings that the languages share and names do not have
    r".{3,}(?:e[ck]tom(?:y|ie|ia|ía)|ostom(?:y|ie|ia|ía)|gra(?:phy|phie|fie|fia|fía)|s[ck]op(?:y|ie|ia|ía)"
    r"|plast(?:y|ie|ia|ía)|lit(?:h)?i?asis|megal(?:y|ie|ia)|plegi[ae]?|rr?h?agi[ae]|rrh?o?ea|aemia|ämie|émie"
    r"|matosis|ologic(?:al)?|ographic|oscopic|path(?:y|ie)|algi[ae]|itides|[ck]tasis|kinesi[ae]|trophy|trophie|sclerosis|sklerose)"
)
_PREFIX = re.compile(
    "pseudo|peri|para|supra|infra|sub|inter|intra|extra|trans|retro|post|pre|anti|hyper|hypo|poly|micro|macro|multi|neo|non"
    "|semi|endo|epi|mono|tri|hemi|over|under|bio|cardio|neuro|osteo|electro|immuno|radio|thermo|hydro|hemo|pneumo|broncho"
    "|gastro|hepato|cerebro|spondylo|chondro|fibro|lipo|adeno|angio|cysto|nephro|uro|myo|arthro|musculo|thoraco|lumbo"
)
_PREFIXED = 6  # letters of the shortest word that a prefix is taken from
_CASES = re.compile(
    # Endings of Russian nouns and adjectives; not those that make family names (-ов, -ев, -ин).
    r"(?:ого|его|ому|ему|ыми|ими|ами|ями|ах|ях|ам|ям|ой|ей|ый|ий|ая|яя|ое|ее|ые|ие|ую|юю|ом|ем|ым|им|ых|их|ь|[аяуюеиыо])$"
)
_LINKS = ("", "s", "n", "en", "es", "o")
_MATRIX = re.compile(r"\d{1,4}(?:x\d{1,4}){1,3}(?:[µu]?m|[mc]m|px)?")
_RUNS = re.compile(r"\d+|\D+")
_PART = 4  # letters of the shortest word that others are put together from
_DECLINED = 5  # letters of the shortest word that may have an ending
_PUT_TOGETHER = 8  # letters of the shortest word that is taken apart


@dataclass(frozen=True)
class Lexicon:
    """The lists, read. All words are casefolded."""

    words: Set[str]
    names: Set[str]  # those of the words that are somebody's name too
    technical: Set[str]  # words of techniques, units and the standard, which may have digits beside them
    parts: Set[str]  # words that compounds are put together from, in the languages that do so
    stems: Set[str]  # of Russian words
    units: Set[str]
    ideographs: Set[str]  # Chinese, Japanese and Korean words, which are written without blanks
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
    lists: dict[str, set[str]] = {}  # those that are more than words
    words: set[str] = set()
    names: set[str] = set()
    for path in sorted(FOLDER.glob("*.csv")):
        # By hand, since this is part of every worker's start: no word holds a comma or a quote.
        lines = path.read_text("utf-8").split("\n")[1:-1]
        marked = [line[:-2] for line in lines if line[-1] == "y"]
        plain = [line[:-1] for line in lines if line[-1] == ","]
        names.update(marked)
        if path.stem in _KEPT_APART:
            lists[path.stem] = {*marked, *plain}
        if path.stem != "chinese_japanese_korean":
            words.update(marked)
            words.update(plain)
    ideographs = lists["chinese_japanese_korean"]
    joining = set().union(*(lists[name] for name in _JOINING)) - names
    parts = {word for word in joining if len(word) >= _PART and word.isalpha()}
    technical = set().union(*(lists[name] for name in _TECHNICAL)) - names
    stems = {stem for word in lists["russian"] if len(stem := _CASES.sub("", word)) >= _PART}
    return Lexicon(words, names, technical, parts, stems, lists["units"], ideographs, max(map(len, ideographs)))


@lru_cache(maxsize=16384)
def known(token: str) -> int:
    """Say what a token of letters and digits is, without what a profile adds or takes away: UNKNOWN, WORD or NAME."""
    folded = token.casefold()
    if folded in lexicon().words:
        return NAME if folded in lexicon().names else WORD
    if folded.isdecimal():
        return WORD if len(folded) <= 4 else UNKNOWN
    if any(c.isdigit() for c in folded):
        return _mixed(token, folded)
    return _put_together(token, folded)


def _mixed(token: str, folded: str) -> int:
    """Letters and digits: 3mm, T1w, b1000, C7, B30f, iDose4, 512x512; not what may be somebody's number."""
    if _MATRIX.fullmatch(folded):
        return WORD
    runs = _RUNS.findall(folded)
    letters = [run for run in runs if not run.isdecimal()]
    digits = [run for run in runs if run.isdecimal()]
    if len(runs) == 2 and len(letters[0]) >= _PART and runs[0] == letters[0] and len(digits[0]) <= 4:
        return WORD if known(_RUNS.findall(token)[0]) == WORD else UNKNOWN  # LungNodule0001
    if any(run not in lexicon().technical for run in letters):
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
    core, parts = lexicon().technical, lexicon().parts
    if not token.isupper() and not token.islower() and not token.istitle():
        pieces = _CAMEL.findall(token)
        if "".join(pieces) == token and all(len(p) > 1 and p.casefold() in core for p in pieces):
            return WORD
    if len(folded) > _DECLINED + 2 and folded.endswith("s") and (folded[:-1] in core or folded[:-1] in parts):
        return WORD
    if any(
        folded.endswith(end) and len(folded) >= len(end) + _DECLINED and folded[: -len(end)] in parts
        for end in _ENDINGS
    ):
        return WORD
    if len(folded) >= _PUT_TOGETHER and folded.isalpha() and (_MEDICAL.fullmatch(folded) or _divides(folded)):
        return WORD
    if _prefixed(folded):
        return WORD
    if "а" <= folded[0] <= "я" and _CASES.sub("", folded) in lexicon().stems:
        return WORD
    return UNKNOWN


def _prefixed(folded: str) -> bool:
    """Whether a word is a longer word of the lists behind a prefix: pseudoprogression, nonobstructing."""
    found = _PREFIX.match(folded)
    rest = folded[found.end() :] if found else ""
    return len(rest) >= _PREFIXED and rest in lexicon().words and rest not in lexicon().names


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
