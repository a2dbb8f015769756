"""From the facts of an object to its subject: what the engine needs, and what the database remembers to see
contradictions (one Patient ID with two birth dates or sexes) without knowing either.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from orthanc_deid.core.deidentify import Subject
from orthanc_deid.core.values import Known
from orthanc_deid.identity import pseudonyms
from orthanc_deid.identity.keys import ProjectKeys
from orthanc_deid.identity.vault import Vault

BIRTH_DATE = 0x00100030
SEX = 0x00100040


@dataclass(frozen=True, slots=True)
class SubjectSeen:
    """A subject as the database knows it: keyed, sealed, pseudonymous. The hashes are None where an object is silent.

    `sealed` holds identity domain and patient id, for re-identification (`link`).
    """

    index: str
    pseudonym: str
    sealed: bytes
    birth_hash: str | None
    sex_hash: str | None


@dataclass(frozen=True, slots=True)
class Identity:
    """One subject for the engine (`subject`) and for the database (`seen`)."""

    subject: Subject
    seen: SubjectSeen


def make_subject(keys: ProjectKeys, domain: str, facts: Any, known: Known | None = None) -> Identity:
    """Identify an object's subject from its facts. Raises Quarantined('identity-missing').

    `known` are the values of the subject's other objects, which verification searches for too.
    """
    return identity_of(keys, domain, facts.patient_id, _text(facts.get(BIRTH_DATE)), _text(facts.get(SEX)), known)


def identity_of(
    keys: ProjectKeys, domain: str, patient_id: str, birth_date: str = "", sex: str = "", known: Known | None = None
) -> Identity:
    """Identify a subject from plain values. Raises Quarantined('identity-missing')."""
    subject = pseudonyms.subject_id(domain, patient_id)
    name = pseudonyms.pseudonym(keys, subject)
    seen = SubjectSeen(
        index=pseudonyms.subject_index(keys, subject),
        pseudonym=name,
        sealed=Vault(keys).seal_bytes("subject", json.dumps([domain, patient_id]).encode()),
        birth_hash=_keyed(keys, "birth", subject, _birth_date(birth_date)),
        sex_hash=_keyed(keys, "sex", subject, _sex(sex)),
    )
    return Identity(
        Subject(
            pseudonym=name,
            uid_key=keys.uid,
            date_offset=pseudonyms.date_offset(keys, subject),
            time_offset=pseudonyms.time_offset(keys, subject),
            known=Known() if known is None else known,
        ),
        seen,
    )


def subject_index_of(keys: ProjectKeys, domain: str, patient_id: str) -> str:
    """Return the index of a subject before its object is read. Raises Quarantined('identity-missing')."""
    return pseudonyms.subject_index(keys, pseudonyms.subject_id(domain, patient_id))


def link(keys: ProjectKeys, sealed: bytes) -> tuple[str, str]:
    """Open the way back: (identity domain, patient id). Raises SealError."""
    domain, patient_id = json.loads(Vault(keys).open_bytes("subject", sealed))
    return domain, patient_id


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        value = value[0] if value else ""
    return "" if value is None else str(value)


def _birth_date(text: str) -> str:
    """Reduce a DA to its digits (also from the old form with dots); anything but a whole date says nothing."""
    digits = "".join(character for character in text if character in "0123456789")
    return digits if len(digits) == 8 else ""


def _sex(text: str) -> str:
    """Keep the values that the standard defines (PS3.3 C.7.1.1); an unknown one contradicts nothing."""
    sex = pseudonyms.canonical(text).upper()
    return sex if sex in {"M", "F", "O"} else ""


def _keyed(keys: ProjectKeys, purpose: str, subject: bytes, value: str) -> str | None:
    # The subject goes in, so that equal birth dates of two subjects do not look equal.
    if not value:
        return None
    return hmac.new(keys.index, f"{purpose}\0{value}\0".encode() + subject, hashlib.sha256).hexdigest()[:32]
