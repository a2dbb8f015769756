"""Where an output lies below a folder: named by pseudonym and derived UIDs, or as a tree that BIDS converters take.

Every name is derived from the output alone, so the same output always has the same place, whoever makes it and in
which order: nothing is ever counted or numbered anew.
"""

from __future__ import annotations

import base64
import hashlib
import re

_UNSAFE = re.compile(r"[^0-9A-Za-z._-]")
_NOT_ALNUM = re.compile(r"[^0-9A-Za-z]")
_LABEL_DIGITS = 12  # 5 bits each: two of a subject's thousand sessions agree with a chance of 4e-13
_SERIES_DIGITS = 8

Place = tuple[str, ...]
"""Names of folders, and at last of a file, below a root."""


def component(text: str) -> str:
    """Return a text as one name of a file or folder; never empty, never one that leads elsewhere."""
    safe = _UNSAFE.sub("_", text).lstrip(".")
    return safe or "_"


def derived(pseudonym: str, study: str, series: str, sop: str) -> Place:
    """Return the place of an output by its pseudonym and UIDs."""
    return component(pseudonym), component(study), component(series), f"{component(sop)}.dcm"


def label(text: str, digits: int = _LABEL_DIGITS) -> str:
    """Return letters and digits that stand for a text, always the same."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode("ascii")[:digits].lower()


def subject(pseudonym: str) -> str:
    """Return `sub-…` of a pseudonym; one with other characters is kept apart from what it resembles."""
    plain = _NOT_ALNUM.sub("", pseudonym)
    return f"sub-{plain if plain == pseudonym and plain else plain + label(pseudonym)}"


def session(study: str) -> str:
    """Return `ses-…` of an output study's UID: known before any other study is, and never another."""
    return f"ses-{label(study)}"


def acquisition(number: str, modality: str, series: str) -> str:
    """Return the folder of a series: its number and modality for people, and what keeps two of the same apart."""
    digits = f"{int(number):03d}" if re.fullmatch(r"[0-9]{1,9}", number) else "000"
    return f"{digits}_{_NOT_ALNUM.sub('', modality)[:16].upper() or 'OT'}_{label(series, _SERIES_DIGITS)}"


def bids(pseudonym: str, study: str, folder: str, sop: str) -> Place:
    """Return the place of an output in the source data of a BIDS data set."""
    return "sourcedata", subject(pseudonym), session(study), folder, f"{component(sop)}.dcm"
