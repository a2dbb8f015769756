"""How dates and times of day are spelled in free text: one pattern for each way, tried where a date may begin."""

from __future__ import annotations

import re
from functools import lru_cache

from .calendar_words import spellings, words

_Y = r"(?:19|20)\d\d"
_UNIT = r" ?(?:%|[munk]?[msglw]\b|m?hz\b|hu\b|kv|m?as\b|m?gy\b|ml\b|cm|mmol|[x×*]|min\b|sec|bpm|kg|mci\b|mbq\b|ppm)"
_HALF = r"[ap](?:m|\.m\.)(?![^\W_])"
# 14:30, 14h30, 2.30 pm, 14 Uhr, kl. 14.30; but neither 14.5 nor 14.
_IS_CLOCK = (
    rf"(?=\d{{1,2}}(?:[:h][0-5]\d|(?:\.[0-5]\d)? ?(?:{_HALF}|(?:uhr|heures|uur)(?![^\W_])))"
    r"|(?:(?<=um )|(?<=kl )|(?<=kl\. ))\d{1,2}\.[0-5]\d)"
)
_CLOCK = (
    _IS_CLOCK + r"(?P<h>[01]?\d|2[0-3])(?:(?P<c>[:.h])(?P<mi>[0-5]\d)(?:(?P=c)(?P<se>[0-5]\d)(?:[.,]\d{1,9})?)?)?(?!\d)"
    rf"(?P<ap> ?{_HALF})?(?P<z> ?(?:z|[+-]\d\d:?\d\d)(?![^\W_]))?"
    r"(?P<u> ?(?:uhr|hrs?|hours|heures|h|uur|u)(?![^\W_]))?"
)
_ROMAN = r"(?:x?i{1,3}|i?x|i?v|vi{1,3})"
_BEFORE = r"(?<!\d)"
_APART = r"(?<!\d)(?<!\d\.)"  # digits alone may also be the part of a UID, or a fraction
_RANGE = r"(?P<pre>\d{1,2}\.? ?(?:\d{1,2}\. ?)?(?:-|/|\+|&|to|bis|und|and|au|al|tot|till|a|y|e|et|en|och|og) ?)?"


def _alternatives(month: str) -> dict[str, str]:
    """Return the spellings, name → regular expression. The first that fits counts; words come last."""
    return {
        "stamp": _APART + rf"(?P<y>{_Y})(?P<m>\d\d)(?P<d>\d\d)(?P<h>[01]\d|2[0-3])(?P<mi>[0-5]\d)"
        r"(?:(?P<se>[0-5]\d)(?:\.\d{1,9})?)?(?P<z>z|[+-]\d{4})?(?!\d)",
        "ymd": _BEFORE + rf"(?P<y>{_Y})(?P<s>[-/._: ]) ?(?P<m>\d{{1,2}})(?P<s2>[-/._: ]) ?(?P<d>\d{{1,2}})(?!\d)",
        "ymd8": _APART + rf"(?P<y>{_Y})(?P<m>\d\d)(?P<d>\d\d)(?!\d)",
        "dmy": _BEFORE + _RANGE + r"(?P<a>\d{1,2})(?P<s>[-/._ ]) ?(?P<b>\d{1,2})(?P<s2>[-/._ ]) ?"
        rf"(?:(?P<y>{_Y})(?!\d)|(?P<yy>\d\d)(?!\d|[.,:/]\d))",
        "dmy8": _APART + rf"(?P<a>\d\d)(?P<b>\d\d)(?P<y>{_Y})(?!\d)",
        "roman": _BEFORE
        + rf"(?:\d{{1,2}}(?:[-/._] ?| (?!x )){_ROMAN}(?:[-/._] ?| ){_Y}|{_Y}(?:[-/._] ?| ){_ROMAN}(?:[-/._] ?| )"
        r"\d{1,2})(?!\d)",
        "named": _BEFORE + _RANGE + r"(?P<d>\d{1,2})(?P<o>st|nd|rd|th|er|[ºª°.])?[ \-/._,]{0,2}"
        rf"(?:(?:of|de|di|den|del) |d')?(?P<w>{month})(?![^\W\d_])(?:\.?[ \-/.,_]{{0,3}}(?:(?:de|del|of|do) )?"
        rf"(?:(?P<y>{_Y})(?!\d)|'?(?P<yy>\d\d)(?!\d|[.,:h]\d|{_UNIT})))?",
        "year_named": _BEFORE + rf"(?P<y>{_Y})[ \-/._]?(?P<w>{month})(?![^\W\d_])"
        r"(?:\.?[ \-/._]?(?P<d>\d{1,2})(?!\d|[.,:h]\d))?",
        "partial": _APART + rf"(?:(?:0?[1-9]|1[0-2])/{_Y}(?!\d)|(?:0[1-9]|1[0-2])\.{_Y}(?!\d|{_UNIT})"
        rf"|{_Y}[-/](?:0[1-9]|1[0-2])(?![\d/-]))",
        "east": rf"(?P<y>{_Y}) ?[年년] ?(?:(?P<m>\d{{1,2}}) ?[月월] ?(?:(?P<d>\d{{1,2}}) ?[日일])?)?",
        "six": r"(?<![\w.,])\d{6}(?!\w|[.,]\d)",
        "month_year": rf"(?<![^\W\d_])(?P<w>{month})\.?(?:[ \-/.,_]{{0,2}}(?:(?:de|del|of) )?(?P<y>{_Y})(?!\d)"
        rf"| ?[-']\d\d(?!\d|[-/., ]{{1,2}}\d|{_UNIT}))",
        "unix": rf"(?<![^\W\d_])(?P<w>{month}) {{1,2}}(?P<d>\d{{1,2}}) "
        rf"(?P<h>[01]\d|2[0-3]):(?P<mi>[0-5]\d):(?P<se>[0-5]\d)(?P<z> (?:utc|[a-z]{{1,3}}t))? (?P<y>{_Y})(?!\d)",
        "us": rf"(?<![^\W\d_])(?P<w>{month})\.?[ -]?(?P<d>\d{{1,2}})(?!\d)(?P<o>st|nd|rd|th)?"
        rf"(?P<post> ?(?:-|to|and|&) ?\d{{1,2}})?(?:(?:, ?| |-)(?:of )?(?P<y>{_Y})(?!\d))?",
        "week": rf"(?<![^\W_])(?:kw|cw|q|week|woche|semaine|semana|vecka) ?\d{{1,2}} ?[/ ]? ?{_Y}(?!\d)",
        "era": r"(?:明治|大正|昭和|平成|令和) ?(?:\d{1,2}|元) ?年 ?(?:\d{1,2} ?月 ?(?:\d{1,2} ?日)?)?"
        r"|(?<![^\W_])[mtshr]\d{1,2}[./](?:0?[1-9]|1[0-2])[./](?:0?[1-9]|[12]\d|3[01])(?!\d|[.,]\d)",
    }


_WORD_FIRST = ("month_year", "unix", "us", "week", "era")
_OPENERS = {
    "week": ("kw", "cw", "q", "week", "woche", "semaine", "semana", "vecka"),
    "era": ("m", "t", "s", "h", "r", *"明大昭平令"),
    "time": ("um", "at", "à", "a", "às", "om", "kl", "klo", "alle", "ore"),
}
TOKEN = re.compile(r"\d+|[明大昭平令]|[^\W\d_\u3041-\u9fff]+")
"""A number or a word; of Chinese and Japanese, which part no words, the first letters of eras."""

# What comes next in any date or time, so that most numbers and words are passed over at once.
_LIKELY = re.compile(
    r"\d{6}(?!\d)|\d{8}|(?:19|20)\d\d[-/._: ] ?\d"
    r"|\d{1,2}(?!\d)(?:[:h]\d\d|[-/._ ] ?\d{1,2}[-/._ ] ?\d\d|[/.]\d{4}|\.? ?[-/+&] ?\d{1,2}[^\d]{0,3}[^\W_]"
    r"|\. ?\d{1,2}\. ?\D)"
)
_FOLLOWED = re.compile(r"(?:\d{4}|\d{1,2})(?!\d)[ºª°.]?[ \-/_,]{0,2}([^\W\d_]+)")
_FOLLOWERS = frozenset(
    [
        *("st", "nd", "rd", "th", "er", "of", "de", "di", "den", "del", "d"),  # before months
        *("to", "bis", "und", "and", "au", "al", "tot", "till", "a", "y", "e", "et", "en", "och", "og"),  # ranges
        *("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii"),
        *("am", "pm", "p", "h", "uhr", "heures", "uur"),  # times
    ]
)
_AHEAD = {
    "week": re.compile(r"[^\W\d_]+ ?\d"),
    "era": re.compile(r"[^\W\d_]{1,2} ?[\d元]"),
    "time": re.compile(r"[^\W\d_]+\.? \d"),
    "name": re.compile(r".{2,24}?\d"),  # of a month or a day of the week
}
_LENGTHS = frozenset((1, 2, 4, 6, 8, 12, 14))
"""How many digits dates and times begin with."""


@lru_cache(maxsize=1)
def _openers() -> dict[str, str]:
    """Words that a date or a time may begin with, and what they are."""
    found = {word: kind for kind, these in _OPENERS.items() for word in these}
    return found | {word.partition("-")[0]: "name" for kind in ("month", "weekday") for word in spellings(kind)}


@lru_cache(maxsize=2)
def _pattern(*, word_first: bool) -> re.Pattern[str]:
    weekday = words("weekday")
    wanted = "|".join(
        f"(?P<{name}>{_named(one, name)})"
        for name, one in _alternatives(words("month")).items()
        if word_first or name not in _WORD_FIRST
    )
    gap = r"(?:t|[ ,_]{1,3}(?:-? ?(?:um|at|à|alle|ore|às|om|kl\.?|klo|o) )?)"
    compact = r"[t_ -](?P<h>[01]\d|2[0-3])(?P<mi>[0-5]\d)(?P<se>[0-5]\d)(?:\.\d{1,9})?(?!\d)(?P<z>z|[+-]\d{4})?"
    before = rf"(?:(?<![^\W\d_])(?P<wd>{weekday})\.?(?![^\W\d_]),? ?(?:(?:den|the|le|il|el|de) )?)?"
    at = r"(?:um|at|à|a|às|om|kl\.?|klo|alle|ore) "
    return re.compile(
        (before if word_first else "") + rf"(?:{wanted})"
        rf"(?:,? ?\((?P<wd2>{weekday})\.?\)|,? (?P<wd3>(?=[^\W\d_]{{5}}){weekday})(?![^\W\d_]))?"
        rf"(?P<tail>{gap}{_named(_CLOCK, 'tail')}|{_named(compact, 'packed')})?"
        rf"|(?P<clock>(?<![\d.,:/=])(?P<at>{at}){'' if word_first else '?'}{_named(_CLOCK, 'clock')})",
        re.IGNORECASE,
    )


NAMES = tuple(_alternatives(""))


def _named(pattern: str, prefix: str) -> str:
    return pattern.replace("(?P<", f"(?P<{prefix}_").replace("(?P=", f"(?P={prefix}_")


BARE_YEAR = re.compile(
    r"(?:19\d\d|20[0-3]\d)(?<!1900|2000)(?<![\w.,:/=+×*'-]....)(?<!\bt[rei] ....)(?<!\bb ....)(?<!\b[wlcx] ....)"
    rf"(?<!\bfov ....)(?<!value ....)(?<!matrix ....)(?![\w:/=%+×*]|[.,-]\d|-?{_UNIT})",
    re.IGNORECASE,
)
"""A number that can only be a year: 1900 and 2000 are round numbers of many things, and so is what has a unit."""
# Words before a date that is the same for many subjects.
CONSTANT = re.compile(
    r"(?<![^\W\d_])(?:v\b|vers|rev\b|revision|release|software|firmware|build|template|vorlage|modèle|plantilla|modello"
    r"|sjabloon|protocol|protokol|guideline|leitlinie|calibra|kalibr|étalonn|ijking|install|manufact|herstell|fabri[ckq]"
    r"|hergestellt|copyright|edition|ausgabe|édition|edición|edizione|editie|stand\b|approv|expir|valid from|gültig"
    r"|lot\b|batch|charge\b)|©",
    re.IGNORECASE,
)
VERSION = re.compile(
    r"(?<![^\W\d_])(?:v\.?|v[a-z]?\d\w*|vers\w*\.?|rev\w*\.?|release|software|sw|firmware|build|syngo\S*) ?$",
    re.IGNORECASE,
)


def at_place(flat: str, start: int, token: str) -> re.Match[str] | None:
    """Return what may be a date or a time where a token begins; its group among NAMES tells how it is spelled."""
    if token[0].isdigit():
        return _pattern(word_first=False).match(flat, start) if _number_opens(flat, start, token) else None
    kind = _openers().get(token.lower())
    if kind is not None and _AHEAD[kind].match(flat, start):
        match = _pattern(word_first=True).match(flat, start)
        # Two letters may be anything: "CT 20190301", and "so 5.3.2019" in the middle of a sentence.
        if match is None or len(match["wd"] or "***") > 2 or token.istitle() or flat[start + 2] in ".,":
            return match
    return None


def _number_opens(flat: str, start: int, token: str) -> bool:
    if len(token) not in _LENGTHS:
        return False
    if _LIKELY.match(flat, start):
        return True
    word = _FOLLOWED.match(flat, start)
    if word is None:
        return False
    if not word[1].isascii():
        return True
    follower = word[1].lower()
    return follower in _FOLLOWERS or follower in spellings("month") or follower.startswith("t")
