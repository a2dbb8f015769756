"""Whether an archive's answer is what was asked for: the matching of PS3.4 C.2.2.2, done once more.

An archive leaves optional keys that it does not know out of account, and then answers with other patients' studies. So
a key counts as matched only where the answer shows it: what is missing does not match.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from pydicom.datadict import dictionary_VR

_TIMES = frozenset({"DA", "DT", "TM"})
_WITH_WILDCARDS = frozenset({"AE", "CS", "LO", "PN", "SH"})
_OF_THE_QUESTION = frozenset({"SpecificCharacterSet", "TimezoneOffsetFromUTC", "QueryRetrieveLevel"})
"""They say how a question is to be read; an answer has its own."""
_PADDING = " \0"


def fits(line: Mapping[str, str], answer: Mapping[str, str]) -> bool:
    """Tell whether an answer, by keyword, matches every key of a line."""
    return all(_matches(keyword, wanted, answer.get(keyword, "")) for keyword, wanted in line.items())


def _matches(keyword: str, wanted: str, found: str) -> bool:
    if not wanted.strip(_PADDING + "*") or keyword in _OF_THE_QUESTION:
        return True
    vr = dictionary_VR(keyword)
    # Of several values, on either side, one is enough: as with ModalitiesInStudy.
    return any(_same(vr, want, have) for want in _values(wanted) for have in _values(found))


def _values(text: str) -> list[str]:
    parts = (unicodedata.normalize("NFC", part).strip(_PADDING) for part in text.split("\\"))
    return [part for part in parts if part]


def _same(vr: str, want: str, have: str) -> bool:
    if vr in _TIMES:
        return _within(vr, want, have)
    if vr == "PN":
        return _same_person(want, have)
    return _like(want, have) if vr in _WITH_WILDCARDS else want == have


def _within(vr: str, want: str, have: str) -> bool:
    """Compare with a value or a range, open on a side or not; what is shorter stands for all that begins so."""
    want, have = _plain(vr, want), _plain(vr, have)
    if vr == "TM" and "." not in have:
        have = have.ljust(6, "0")
    first, dash, last = want.partition("-")
    last = last if dash else first
    return (not first or have >= first) and (not last or have[: len(last)] <= last)


def _plain(vr: str, text: str) -> str:
    """Return a date or time as it is written today; older editions wrote 2024.01.31 and 10:15:00."""
    return text.replace({"DA": ".", "TM": ":"}.get(vr, " "), "")


def _like(want: str, have: str) -> bool:
    pattern = "".join({"*": ".*", "?": "."}.get(char) or re.escape(char) for char in want)
    return re.fullmatch(pattern, have, re.DOTALL) is not None


def _same_person(want: str, have: str) -> bool:
    """Compare names without regard to case and to components that are empty at the end.

    A name in one form may match any form (alphabetic, ideographic, phonetic) of the answer; a name in several has to
    match each.
    """
    wants, haves = _forms(want), _forms(have)
    if len(wants) == 1:
        return any(_like_name(wants[0], one) for one in haves)
    haves += [""] * (len(wants) - len(haves))
    return all(not one or _like_name(one, other) for one, other in zip(wants, haves, strict=False))


def _like_name(want: str, have: str) -> bool:
    # DOE^* is also somebody without a given name.
    return _like(want, have) or _like(re.sub(r"(\^\*)+$", "", want), have)


def _forms(name: str) -> list[str]:
    forms = ("^".join(part.strip(_PADDING) for part in form.split("^")) for form in name.casefold().split("="))
    return [form.rstrip("^") for form in forms]
