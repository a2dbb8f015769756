"""People, places and the modules that every object has."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

ROOT = "1.2.826.0.1.3680043.10.9999"

_FIRST = ["Brim", "Quil", "Zzy", "Vorx", "Thal", "Mord", "Plin", "Gwex", "Skor", "Fnar", "Dwil", "Jub"]
_LAST = ["vexton", "bertine", "zyxley", "dorfen", "quennel", "thwaite", "plimsole", "grundle", "xander", "morwick"]


def uid(*parts: object) -> str:
    """A source UID that depends on `parts` alone, under a root that is never the engine's own."""
    number = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:12], "big")
    return f"{ROOT}.{number}"


@dataclass(frozen=True)
class Person:
    """A patient who never was, with all that a hospital knows about her."""

    number: int
    name: str
    patient_id: str
    birth_date: str
    sex: str
    address: str
    phone: str
    other_id: str
    mother: str
    referring: str
    operator: str
    institution: str
    institution_address: str

    def accession(self, study: int) -> str:
        return f"ACC{self.number * 7919 + study * 31 + 48_200_000}"


def person(number: int = 1, **changes: str) -> Person:
    """Person `number`; `changes` replace single fields (name="Ray^Philips")."""

    def made(what: str) -> str:
        seed = hashlib.sha256(f"{number}/{what}".encode()).digest()
        return _FIRST[seed[0] % len(_FIRST)] + _LAST[seed[1] % len(_LAST)]

    values = {
        "name": f"{made('family')}^{made('given')}^{made('middle')[0]}",
        "patient_id": f"MR{7_300_000 + number * 10_007}",
        "birth_date": f"{1930 + number * 7 % 70}{1 + number % 12:02}{1 + number * 5 % 28:02}",
        "sex": "FMO"[number % 3],
        "address": f"{100 + number} {made('street')} Lane",
        "phone": f"555-01{number % 100:02}-{4000 + number}",
        "other_id": f"HX-{number * 104_729 % 999_983:06}",
        "mother": made("mother"),
        "referring": f"{made('referring')}^{made('referring given')}^^Dr",
        "operator": f"{made('operator')}^{made('operator given')}",
        "institution": f"{made('town')} Memorial",
        "institution_address": f"{number} {made('hospital street')} Road, {made('town')}",
    }
    return Person(number=number, **(values | changes))


@dataclass(frozen=True)
class Origin:
    """Where an object stands: whose it is, in which study, series and place."""

    person: Person
    study: int = 1
    series: int = 1
    instance: int = 1

    @property
    def study_uid(self) -> str:
        return uid("study", self.person.number, self.study)

    @property
    def series_uid(self) -> str:
        return uid("series", self.person.number, self.study, self.series)

    @property
    def sop_uid(self) -> str:
        return uid("sop", self.person.number, self.study, self.series, self.instance)

    @property
    def frame_uid(self) -> str:
        return uid("frame", self.person.number, self.study)

    @property
    def date(self) -> str:
        year = 2010 + (self.person.number + self.study) % 14
        return f"{year}{1 + self.study % 12:02}{1 + self.person.number * 3 % 28:02}"

    @property
    def time(self) -> str:
        return f"{8 + self.study % 12:02}{self.series % 60:02}{self.instance % 60:02}"


def origin(number: int = 1, study: int = 1, series: int = 1, instance: int = 1) -> Origin:
    return Origin(person(number), study, series, instance)


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """A code sequence item."""
    return make(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def make(**attributes: Any) -> Dataset:
    """A data set from keywords."""
    return extend(Dataset(), **attributes)


def extend(dataset: Dataset, **attributes: Any) -> Dataset:
    for keyword, value in attributes.items():
        assert tag_for_keyword(keyword) is not None, keyword  # pydicom takes a misspelt one for a Python attribute
        setattr(dataset, keyword, value)
    return dataset


def common(o: Origin, sop_class: str, modality: str) -> Dataset:
    """Patient, General Study, General Series, General Equipment and SOP Common: what every composite object has."""
    p = o.person
    dataset = make(
        SpecificCharacterSet="ISO_IR 100",
        InstanceCreationDate=o.date,
        InstanceCreationTime=o.time,
        SOPClassUID=sop_class,
        SOPInstanceUID=o.sop_uid,
        StudyDate=o.date,
        SeriesDate=o.date,
        ContentDate=o.date,
        StudyTime=o.time,
        SeriesTime=o.time,
        ContentTime=o.time,
        AccessionNumber=p.accession(o.study),
        Modality=modality,
        Manufacturer="Nowhere Imaging Works",
        InstitutionName=p.institution,
        InstitutionAddress=p.institution_address,
        ReferringPhysicianName=p.referring,
        StationName=f"STN{p.number:03}",
        StudyDescription="Abdomen routine",
        SeriesDescription=f"{modality} series {o.series}",
        InstitutionalDepartmentName="Radiology",
        OperatorsName=p.operator,
        ManufacturerModelName="Somnolent 7",
        ReferencedStudySequence=[
            make(ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1", ReferencedSOPInstanceUID=uid("ref", o.study_uid))
        ],
        PatientName=p.name,
        PatientID=p.patient_id,
        IssuerOfPatientID=p.institution,
        PatientBirthDate=p.birth_date,
        PatientSex=p.sex,
        PatientAge="047Y",
        PatientSize="1.71",
        PatientWeight="70.5",
        PatientAddress=p.address,
        PatientMotherBirthName=p.mother,
        PatientTelephoneNumbers=p.phone,
        EthnicGroup="unknown",
        PatientComments=f"seen with {p.name.split('^')[0]} sen.",
        DeviceSerialNumber=f"SN{90_000 + p.number}",
        SoftwareVersions=["syntho 4.2", "recon 11"],
        StudyInstanceUID=o.study_uid,
        SeriesInstanceUID=o.series_uid,
        StudyID=f"ST{o.study}",
        SeriesNumber=o.series,
        InstanceNumber=o.instance,
    )
    return dataset


def frame_of_reference(dataset: Dataset, o: Origin) -> Dataset:
    return extend(dataset, FrameOfReferenceUID=o.frame_uid, PositionReferenceIndicator="")


def pixels(
    dataset: Dataset,
    rows: int,
    columns: int,
    *,
    bits: int = 16,
    stored: int | None = None,
    signed: int = 0,
    frames: int = 0,
    samples: int = 1,
    photometric: str = "MONOCHROME2",
    seed: int = 0,
) -> Dataset:
    """The Image Pixel module with noise that never sets a bit above Bits Stored."""
    stored = stored or bits
    generator = np.random.default_rng(seed)
    count = rows * columns * samples * (frames or 1)
    values = generator.integers(0, min(1 << (stored - signed), 4096), count, dtype=np.uint32)
    extend(
        dataset,
        SamplesPerPixel=samples,
        PhotometricInterpretation=photometric,
        Rows=rows,
        Columns=columns,
        BitsAllocated=bits,
        BitsStored=stored,
        HighBit=stored - 1,
        PixelRepresentation=signed,
    )
    if samples > 1:
        dataset.PlanarConfiguration = 0
    if frames:
        dataset.NumberOfFrames = frames
    dataset.add_new(0x7FE00010, "OW" if bits > 8 else "OB", values.astype("<u2" if bits > 8 else "u1").tobytes())
    if len(dataset.PixelData) % 2:
        dataset.PixelData += b"\0"
    return dataset
