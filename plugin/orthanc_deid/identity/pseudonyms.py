"""The subject key, version 1, and what is derived from it: pseudonym, index and offsets of date and time.

FROZEN. Another byte in `subject_id` or another rule below would give every subject of every project a new pseudonym
and tear follow-up studies apart. tests/unit/subject_v1.txt holds vectors; a change needs a version 2 beside this one.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import re
import unicodedata
from functools import lru_cache
from importlib import resources

from orthanc_deid.core.errors import Quarantined
from orthanc_deid.identity.keys import ProjectKeys

DEFAULT_DOMAIN = "default"
"""The identity domain of objects whose origin the configuration says nothing about."""

PATIENT_ID = 0x00100020

# Padding (PS3.5 6.2) and white space, listed, since what Python calls white space may grow with Unicode.
_TRIM = "\0\t\n\v\f\r \u00a0\u2003\u3000"
# Crockford's digits: without I, L, O and U, which are misread or spell words.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PSEUDONYM_LENGTH = 16  # 5 bits each: 80 bits, so two of a million subjects agree with a chance of 4e-13


@lru_cache(maxsize=1)
def _placeholders() -> tuple[frozenset[str], re.Pattern[str]]:
    text = (resources.files(__package__) / "placeholders.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    exact = frozenset(row["value"].casefold() for row in rows if row["rule"] == "exact")
    patterns = "|".join(f"(?:{row['value']})" for row in rows if row["rule"] == "pattern")
    return exact, re.compile(patterns)


def canonical(text: str) -> str:
    """Write a domain or patient id in its one form: NFC, without padding and white space around it."""
    return unicodedata.normalize("NFC", text).strip(_TRIM)


def subject_id(domain: str, patient_id: str) -> bytes:
    """Return the bytes that stand for a patient of an identity domain (subject key v1).

    Form: 0x01, then domain and patient id in canonical form, as UTF-8, each behind its length in 4 bytes big endian.
    Case counts. Raises Quarantined('identity-missing') for an id that is empty, a
    placeholder, or not decodable.
    """
    patient = canonical(patient_id)
    exact, pattern = _placeholders()
    if not patient:
        raise Quarantined("identity-missing", "no Patient ID", PATIENT_ID)
    if "\ufffd" in patient:
        # Two different ids with undecodable bytes would look the same.
        raise Quarantined("identity-missing", "the Patient ID does not decode in its character set", PATIENT_ID)
    if patient.casefold() in exact or pattern.fullmatch(patient):
        raise Quarantined("identity-missing", "the Patient ID is a placeholder", PATIENT_ID)
    parts = (canonical(domain).encode(), patient.encode())
    return b"\x01" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _mac(key: bytes, purpose: bytes, subject: bytes) -> bytes:
    return hmac.new(key, purpose + b"\0" + subject, hashlib.sha256).digest()


def subject_index(keys: ProjectKeys, subject: bytes) -> str:
    """Return the keyed index by which the database finds a subject: 32 hexadecimal digits."""
    return _mac(keys.index, b"subject", subject).hex()[:32]


def pseudonym(keys: ProjectKeys, subject: bytes) -> str:
    """Return the subject's pseudonym in this project: 16 characters, 80 keyed bits, fit for LO and PN."""
    number = int.from_bytes(_mac(keys.pseudonym, b"pseudonym", subject)[:10], "big")
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_PSEUDONYM_LENGTH)))


def date_offset(keys: ProjectKeys, subject: bytes) -> int:
    """Return the days by which the subject's dates move: -3650 … -366, so never 0 and never into the future."""
    return -366 - int.from_bytes(_mac(keys.dates, b"days", subject)[:8], "big") % (3650 - 366 + 1)


def time_offset(keys: ProjectKeys, subject: bytes) -> int:
    """Return the seconds by which the subject's times move where a profile shifts them: -86399 … -1."""
    return -1 - int.from_bytes(_mac(keys.dates, b"seconds", subject)[:8], "big") % 86399
