"""Fills a data set with the attributes of attributes.csv: values drawn per patient, study, series or instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from benchmarks.score import tables
from benchmarks.score.people import Maker, Patient, locales
from benchmarks.score.planting import Piece, Planted, Planter, research

SHARE = 0.35
"""How many of the free texts hold an identifier."""


@dataclass(frozen=True)
class Study:
    """A study: its number within the patient, date (DA), time (TM), accession number and so on."""

    number: int
    date: str
    time: str
    accession: str
    uid: str
    study_id: str
    prior: str  # accession number of the patient's study before, or of this one
    vendor: str


@dataclass
class Scene:
    """Where an object stands: seed, patient, study, series and instance, and the modality that its texts speak of."""

    seed: str
    patient: Patient
    study: Study
    series: int
    instance: int
    modality: str
    uids: Callable[..., str]
    extra: dict[str, Any] = field(default_factory=dict)

    def rng(self, level: str, what: str) -> Random:
        """A generator that all objects of the patient (P), study (S) or series (R) share for `what`, or none (I)."""
        parts = [self.patient.number]
        if level in "SRI":
            parts.append(self.study.number)
        if level in "RI":
            parts.append(self.series)
        if level == "I":
            parts.append(self.instance)
        return Random(f"{self.seed}/{level}/{parts}/{what}")

    @property
    def planter(self) -> Planter:
        return Planter(self.patient, self.modality, self.study)


def plant(dataset: Dataset, keyword: str, planted: Planted) -> None:
    """Set an attribute, and remember what its pieces are."""
    setattr(dataset, keyword, planted.text)
    marks(dataset)[int(tag_for_keyword(keyword) or 0)] = planted


def marks(dataset: Dataset) -> dict[int, Planted]:
    """What the pieces of a data set's texts are, by tag."""
    if not hasattr(dataset, "_planted"):
        dataset._planted = {}
    found: dict[int, Planted] = dataset._planted
    return found


def fill(dataset: Dataset, scene: Scene, *objects: str) -> Dataset:
    """Set the attributes that attributes.csv lists for these objects, and for what holds of the patient."""
    if scene.rng("P", "trial").random() < 0.2:
        objects += ("trial",)
    if scene.rng("S", "child").random() < 0.15:
        objects += ("child",)
    for row in tables.rows("attributes.csv"):
        if row["object"] not in objects:
            continue
        rng = scene.rng(row["level"], row["keyword"])
        if rng.random() < float(row["chance"]):
            value = _value(row["spec"], scene, rng, row["keyword"])
            if isinstance(value, Planted):
                plant(dataset, row["keyword"], value)
            elif value is not None:
                setattr(dataset, row["keyword"], _number(value, dictionary_VR(row["keyword"])))
    return dataset


def _number(value: Any, vr: str) -> Any:
    if not isinstance(value, str):
        return value
    return float(value) if vr in ("FD", "FL") else int(value) if vr in ("US", "SS", "UL", "SL") else value


def text(scene: Scene, rng: Random, topic: str, vr: str, share: float = SHARE) -> Planted:
    """A text of the scene's patient."""
    return scene.planter.text(rng, topic, vr, share)


def _value(spec: str, scene: Scene, rng: Random, keyword: str) -> Any:
    if spec.startswith("="):
        return spec[1:].split("\\") if "\\" in spec else spec[1:]
    if spec.startswith("~"):
        low, high, decimals = spec[1:].split(":")
        return f"{rng.uniform(float(low), float(high)):.{decimals}f}"
    if spec.startswith("@"):
        name, _, argument = spec[1:].partition(":")
        return _MADE[name](scene, rng, argument, dictionary_VR(keyword))
    return rng.choice(spec.split("|"))


def _maker(scene: Scene, rng: Random) -> Maker:
    return Maker(rng, scene.patient.locale if not scene.patient.locale.ideographic else locales()[0][0])


def _address(scene: Scene, rng: Random, whose: str) -> Planted:
    p = scene.patient
    street, number, code, town = (p.street, p.house, p.zip, p.town)
    if whose != "patient":
        maker = _maker(scene, rng)
        street, number, code, town = p.hospital_street, maker.digits(3), maker.digits(5), p.town
    return Planted(
        (
            Piece(f"{number} ", ""),
            Piece(street[0], "address"),
            Piece(f" {street[1]}, ", ""),
            Piece(code, "address"),
            Piece(" ", ""),
            Piece(town, "address"),
        )
    )


def institution(scene: Scene) -> Planted:
    """The name of the patient's hospital, of which only its own part identifies it."""
    name, kind = scene.patient.institution
    return Planted((Piece(name, "institution"), Piece(f" {kind}", "")))


def _time(rng: Random) -> str:
    return f"{rng.randint(7, 19):02}{rng.randint(0, 59):02}{rng.randint(0, 59):02}" + rng.choice(("", ".120000"))


def _date(scene: Scene, rng: Random, which: str) -> str:
    if which == "C":  # a device's date: no date of the patient's
        return f"{int(scene.study.date[:4]) - 1}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
    return scene.study.date


def _age(scene: Scene) -> str:
    born, then = scene.patient.birth, scene.study.date
    years = int(then[:4]) - int(born[:4]) - (then[4:] < born[4:])
    return f"{years:03}Y"


def _station(scene: Scene, rng: Random) -> str:
    return (
        _maker(scene, rng).word("town_end")[:10].upper() + str(rng.randint(1, 9))
        if rng.random() < 0.5
        else (f"STN{_maker(scene, rng).digits(5)}")
    )


_MODELS = {
    "SIEMENS": ("SOMATOM Force", "Sensation 64", "MAGNETOM Skyra", "Biograph 64", "Aera"),
    "GE MEDICAL SYSTEMS": ("LightSpeed VCT", "Discovery 690", "SIGNA HDxt", "Optima CT660", "Senographe DS"),
    "Philips Medical Systems": ("Ingenia", "Brilliance 64", "Achieva", "Gemini TF"),
    "TOSHIBA": ("Aquilion ONE", "Aquilion", "Titan"),
    "HOLOGIC, Inc.": ("Selenia Dimensions", "Lorad Selenia"),
}
_SOFTWARE = (["syngo CT 2012B"], ["VB20P"], ["24", "LX", "MR Software release:DV24.0"], ["4.1.5"], ["V4.74ER004"])

_MADE: dict[str, Callable[[Scene, Random, str, str], Any]] = {
    "character_set": lambda s, r, a, vr: s.patient.locale.character_set.split("\\"),
    "date": lambda s, r, a, vr: _date(s, r, a),
    "time": lambda s, r, a, vr: _time(r),
    "datetime": lambda s, r, a, vr: s.study.date + _time(r),
    "accession": lambda s, r, a, vr: s.study.accession,
    "manufacturer": lambda s, r, a, vr: s.study.vendor,
    "model": lambda s, r, a, vr: r.choice(_MODELS[s.study.vendor]),
    "institution": lambda s, r, a, vr: institution(s),
    "institution_address": lambda s, r, a, vr: _address(s, r, "hospital"),
    "address": lambda s, r, a, vr: _address(s, r, a),
    "department": lambda s, r, a, vr: f"{_maker(s, r).word('town_end')} Radiology",
    "pn": lambda s, r, a, vr: s.patient.people[a].pn,
    "phone": lambda s, r, a, vr: s.patient.phone if a == "patient" else _maker(s, r).phone(),
    "station": lambda s, r, a, vr: _station(s, r),
    "text": lambda s, r, a, vr: text(s, r, a, vr),
    "patient_name": lambda s, r, a, vr: s.patient.person.pn,
    "patient_id": lambda s, r, a, vr: s.patient.patient_id,
    "issuer": lambda s, r, a, vr: institution(s),
    "birth_date": lambda s, r, a, vr: s.patient.birth,
    "sex": lambda s, r, a, vr: s.patient.sex,
    "insurance": lambda s, r, a, vr: [code("1", "99LOCAL", research(f"{s.patient.insurance} Health"), "name")],
    "other_ids": lambda s, r, a, vr: s.patient.other_id,
    "age": lambda s, r, a, vr: _age(s),
    "town": lambda s, r, a, vr: getattr(s.patient, a),
    "serial": lambda s, r, a, vr: _maker(s, r).serial(),
    "software": lambda s, r, a, vr: r.choice(_SOFTWARE),
    "sponsor": lambda s, r, a, vr: f"{_maker(s, r).family()} Foundation",
    "uid": lambda s, r, a, vr: s.uids(s, a),
    "study_id": lambda s, r, a, vr: s.study.study_id,
    "series_number": lambda s, r, a, vr: str(s.series),
    "instance_number": lambda s, r, a, vr: str(s.instance),
    "ward": lambda s, r, a, vr: f"{_maker(s, r).word('town_end')} {r.randint(101, 989)}",
}


def code(value: str, scheme: str, meaning: Planted | str, whole: str = "") -> Dataset:
    """An item of a code sequence. With `whole`, its meaning is an identifier of that kind."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    if whole and isinstance(meaning, Planted):
        meaning = Planted((Piece(meaning.text, whole),))
    plant(item, "CodeMeaning", research(meaning) if isinstance(meaning, str) else meaning)
    return item
