"""Free text in which identifiers stand among research content, and what is to become of each piece."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from random import Random
from typing import Any

from pydicom.sr.codedict import Collection

from benchmarks.score import tables
from benchmarks.score.people import Maker, Patient, common_names, locales, make_person

KEEP, PLAIN = "keep", ""
_MONTHS = list(calendar.month_name)[1:]
_SLOT = re.compile(r"\{(\w+)\}")
_KINDS = {
    "family": "name",
    "given": "name",
    "initialfamily": "name",
    "physician": "name",
    "doctor": "name",
    "relative": "name",
    "firstname": "name",
    "operator": "name",
    "mrn": "mrn",
    "accession": "accession",
    "date": "date",
    "birth": "date",
    "phone": "phone",
    "street": "address",
    "town": "address",
    "zip": "address",
    "number": PLAIN,  # a house number says nothing without its street
    "institution": "institution",
    "email": "email",
    "url": "url",
    "ssn": "ssn",
    "uid": "uid",
    "ip": "ip",
}
LENGTH = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240, "UT": 10240, "UC": 1024, "CS": 16}


@dataclass(frozen=True)
class Piece:
    """A part of a text: research content (KEEP), an identifier of a kind, or the words between them (PLAIN)."""

    text: str
    kind: str


@dataclass(frozen=True)
class Planted:
    """A text in pieces."""

    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def kept(self) -> list[str]:
        return [piece.text for piece in self.pieces if piece.kind == KEEP]

    @property
    def identifiers(self) -> list[Piece]:
        return [piece for piece in self.pieces if piece.kind not in (KEEP, PLAIN)]


def research(text: str) -> Planted:
    """A text that is research content as a whole."""
    return Planted((Piece(text, KEEP),))


@cache
def _atoms() -> dict[str, tuple[str, ...]]:
    return {row["slot"]: tuple(row["values"].split("|")) for row in tables.rows("words/atoms.csv")} | {
        "concept": _concepts()
    }


_CONTEXT_GROUPS = (4, 11, 12, 25, 29, 3827, 4010, 4031, 6030, 6031, 6033, 6102, 6109, 7010, 7151, 7600, 12103)
"""Context groups of PS3.16 for regions, structures, vessels, nodes, views, agents, tracers, findings and pathology."""


@cache
def _concepts() -> tuple[str, ...]:
    """Meanings of coded concepts, by pydicom: thousands of terms that no list of words here was made from."""
    found: set[str] = set()
    for group in _CONTEXT_GROUPS:
        found.update(concept.meaning for concept in Collection(f"CID{group}").concepts.values())
    return tuple(sorted(meaning for meaning in found if len(meaning) <= 40))


@cache
def _phrases() -> dict[tuple[str, str], list[tuple[str, str]]]:
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in tables.rows("words/phrases.csv"):
        found.setdefault((row["topic"], row["modality"]), []).append((row["lang"], row["text"]))
    return found


@cache
def _templates(language: str) -> tuple[str, ...]:
    return tuple(row["text"] for row in tables.rows("words/templates.csv") if row["lang"] in ("*", language))


def phrase(rng: Random, topic: str, modality: str, patient: Patient) -> str:
    """Research text of a topic, in the patient's language or in English, without a word that is the patient's name."""
    every = _phrases().get((topic, modality), []) + _phrases().get((topic, "*"), [])
    own = [text for language, text in every if language == patient.locale.language]
    english = [text for language, text in every if language == "en"]
    while True:
        source = own if own and rng.random() < 0.6 else english
        text = _SLOT.sub(lambda slot: rng.choice(_atoms()[slot[1]]), rng.choice(source))
        if not _clashes(text, patient.own):
            return text


def _clashes(text: str, words: frozenset[str]) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in words)


def written_date(rng: Random, value: str, language: str = "en") -> str:
    """Write a DA value as people do, in English or in the patient's language."""
    year, month, day = value[:4], value[4:6], value[6:]
    name = _MONTHS[int(month) - 1]
    own = [row for row in tables.rows("words/months.csv") if row["lang"] == language]
    if own and rng.random() < 0.4:
        named = own[0]["months"].split("|")[int(month) - 1]
        return own[0]["form"].format(d=int(day), m=named, n=int(month), y=year)
    return rng.choice(
        (
            value,
            f"{year}-{month}-{day}",
            f"{month}/{day}/{year}",
            f"{int(month)}/{int(day)}/{year}",
            f"{day}.{month}.{year}",
            f"{day}/{month}/{year}",
            f"{int(day)} {name[:3]} {year}",
            f"{name} {int(day)}, {year}",
            f"{day}-{name[:3].upper()}-{year}",
            f"{month}/{day}/{year[2:]}",
            f"{year}/{month}/{day}",
            f"{year}-{month}-{day} 10:15",
        )
    )


def earlier(rng: Random, value: str) -> str:
    """A DA value some time before another."""
    day = date(int(value[:4]), int(value[4:6]), int(value[6:])) - timedelta(days=rng.randint(20, 2500))
    return f"{day:%Y%m%d}"


class Planter:
    """Writes the texts of one patient; `study` says date and accession number of the study at hand."""

    def __init__(self, patient: Patient, modality: str, study: Any) -> None:
        self.patient = patient
        self.modality = modality
        self.study = study

    def text(self, rng: Random, topic: str, vr: str, share: float) -> Planted:
        """Return a text that fits the VR; with the chance `share` it holds identifiers of the patient's or others'.

        What is to go never stands in what is to stay, so that the key can be met.
        """
        limit = LENGTH[vr]
        for attempt in range(200):
            kept = phrase(rng, topic, self.modality, self.patient)
            plant = rng.random() < share and attempt < 150
            made = self._with(rng, kept) if plant else research(kept)
            if len(made.text.encode("utf-8")) <= limit and _fair(made):
                return made
        return research("CT" if limit < 20 else "NORMAL")

    def _with(self, rng: Random, kept: str) -> Planted:
        template = rng.choice(_templates(self.patient.locale.language))
        pieces: list[Piece] = []
        at = 0
        for slot in _SLOT.finditer(template):
            if slot.start() > at:
                pieces.append(Piece(template[at : slot.start()], PLAIN))
            at = slot.end()
            if slot[1] == "r":
                pieces.append(Piece(kept, KEEP))
            else:
                pieces.extend(self.value(rng, slot[1]))
        if at < len(template):
            pieces.append(Piece(template[at:], PLAIN))
        return Planted(tuple(pieces))

    def value(self, rng: Random, slot: str) -> list[Piece]:
        """The pieces that a slot of a template stands for."""
        p = self.patient
        locale = p.locale if not p.locale.ideographic else locales()[0][0]
        maker = Maker(rng, locale)
        family, given = p.person.written
        kind = _KINDS[slot]
        match slot:
            case "family":
                text = rng.choice((family, family.upper()))
            case "given":
                text = given
            case "initialfamily":
                return [Piece(f"{given[0]}. ", PLAIN), Piece(family, kind)]
            case "mrn":
                text = rng.choice((p.patient_id, p.patient_id, p.other_id))
            case "accession":
                text = rng.choice((self.study.accession, self.study.prior, maker.accession()))
            case "date":
                which = rng.choice((self.study.date, earlier(rng, self.study.date)))
                text = written_date(rng, which, p.locale.language)
            case "birth":
                text = written_date(rng, p.birth, p.locale.language)
            case "phone":
                text = rng.choice((p.phone, maker.phone()))
            case "street":
                name, sort = p.street if rng.random() < 0.5 else maker.street()
                if sort[0].islower() and locale.name in ("de", "sv", "nl"):
                    return [Piece(name + sort, kind)]
                return [Piece(f"{name}", kind), Piece(f" {sort}", PLAIN)]
            case "number":
                text = p.house
            case "town":
                real = [
                    row["towns"].split("|") for row in tables.rows("words/towns.csv") if row["locale"] == locale.name
                ]
                text = rng.choice((p.town, maker.town(), rng.choice(real[0]) if real else maker.town()))
            case "zip":
                text = rng.choice((p.zip, maker.digits(5)))
            case "institution":
                name, sort = p.institution if rng.random() < 0.5 else maker.institution()
                return [Piece(name, kind), Piece(f" {sort}", PLAIN)]
            case "email":
                text = f"{_ascii(given)}.{_ascii(family)}@{_ascii(maker.town())}.example".lower()
            case "url":
                text = f"https://{_ascii(maker.town()).lower()}.example/p/{p.patient_id}"
            case "ssn":
                text = maker.ssn()
            case "uid":
                text = maker.uid()
            case "ip":
                text = f"10.{rng.randint(2, 250)}.{rng.randint(2, 250)}.{rng.randint(2, 250)}"
            case "doctor":  # behind a title, so that even a common name or a word is known as a name
                text = rng.choice((rng.choice(common_names(locales()[0][0], words=True)), maker.family()))
            case "operator":
                text = p.people["operator"].written[0]
            case "relative":
                text = self._stranger(rng)
            case "firstname":
                text = Maker(rng, locales()[0][0]).given()
            case _:
                known = p.people[rng.choice(("referring", "reading", "performing"))]
                text = known.written[0] if rng.random() < 0.5 else self._stranger(rng)
        return [Piece(text, kind)]

    def _stranger(self, rng: Random) -> str:
        """The family name of somebody that no attribute names; never a word, since nothing would tell it from one."""
        common = common_names(self.patient.locale, words=False)
        return rng.choice(common) if common and rng.random() < 0.4 else make_person(rng, self.patient.locale).written[0]


def _ascii(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "x" for c in text)


def _fair(made: Planted) -> bool:
    """Whether nothing that must go stands in the rest of the text as well."""
    rest = " ".join(piece.text for piece in made.pieces if piece.kind in (KEEP, PLAIN)).lower()
    names = [piece.text.lower() for piece in made.identifiers]
    if len(set(names)) != len(names):
        return False
    from benchmarks.score.compare import tokens

    return not any(token in rest for name in names for token in tokens(name))
