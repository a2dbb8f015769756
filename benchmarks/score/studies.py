"""Puts patients, studies, series and instances together, writes the files and their key."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from benchmarks.score import documents, images
from benchmarks.score.attributes import Scene, Study
from benchmarks.score.curator import Curator
from benchmarks.score.key import Answer, Category, Check, text_of
from benchmarks.score.people import Maker, Patient, locales, make_patient

KINDS = ("CT", "MR", "PT", "CR", "DX", "MG", "US", "RT", "SR")
"""Kinds of study; every seed has all of them."""
_VENDORS = ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips Medical Systems", "TOSHIBA")
_ROOTS = ("1.3.12.2.1107.5", "1.2.840.113619.2", "1.2.826.0.1.3680043.10", "1.3.46.670589.11", "2.16.840.1.113669")


@dataclass
class Instance:
    """An object of the benchmark: its file and the checks that its output has to pass."""

    patient: int
    kind: str  # of the study
    data: bytes
    answer: Answer


def patient_instances(seed: str, number: int) -> Iterator[Instance]:
    """All instances of a patient: two or three studies over years. Patient n has the kinds n, n+1, … of KINDS."""
    patient = make_patient(seed, number)
    rng = Random(f"{seed}/studies/{number}")
    studies = rng.choice((2, 2, 3))
    made: list[tuple[str, Dataset, str]] = []
    prior = ""
    for which in range(studies):
        kind = KINDS[(number + which * 4) % len(KINDS)]
        made += [(kind, *entry) for entry in _study(seed, patient, which + 1, kind, prior, rng)]
        prior = str(made[-1][1].AccessionNumber)
    known = frozenset(
        str(dataset[keyword].value)
        for _, dataset, _ in made
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
        if keyword in dataset
    )
    for kind, dataset, syntax in made:
        yield _instance(patient, kind, dataset, syntax, known)


def _study(seed: str, patient: Patient, which: int, kind: str, prior: str, rng: Random) -> list[tuple[Dataset, str]]:
    maker = Maker(rng, locales()[0][0])
    earliest = max(2004, int(patient.birth[:4]) + 1)
    accession = maker.accession()
    study = Study(
        number=which,
        date=f"{min(2023, earliest + rng.randint(0, 12) + which)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}",
        time=f"{rng.randint(7, 18):02}{rng.randint(0, 59):02}00",
        accession=accession,
        prior=prior or accession,
        uid=uid_of(seed, patient, which),
        study_id=maker.digits(rng.choice((4, 5, 6))),
        vendor="HOLOGIC, Inc." if kind == "MG" else rng.choice(_VENDORS),
    )
    scene = Scene(seed, patient, study, 1, 1, kind, _uids)
    objects: list[tuple[Dataset, str]] = []

    def series(number: int, modality: str, count: int) -> list[Dataset]:
        syntax = rng.choices((ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless), (7, 2, 1))[0]
        if modality == "US":
            syntax = ExplicitVRLittleEndian
        found = [
            images.image(
                replace(scene, series=number, instance=i + 1, modality=modality), syntax != ImplicitVRLittleEndian
            )
            for i in range(count)
        ]
        objects.extend((dataset, syntax) for dataset in found)
        return found

    def document(dataset: Dataset) -> Dataset:
        objects.append((dataset, ExplicitVRLittleEndian))
        return dataset

    if kind == "RT":
        slices = series(1, "CT", 3)
        structures = document(documents.structure_set(replace(scene, series=2), slices))
        planned = document(documents.plan(replace(scene, series=3), structures))
        document(documents.dose(replace(scene, series=4), planned))
    elif kind == "SR":
        slices = series(1, rng.choice(("CT", "MR")), 2)
        for number in range(2, 4):
            document(documents.report(replace(scene, series=number), slices))
    elif kind == "PT":
        series(1, "CT", 2)
        series(2, "PT", 3)
    elif kind in ("CR", "DX", "MG"):
        for number in range(1, rng.randint(2, 4)):
            series(number, kind, rng.randint(1, 2))
    elif kind == "US":
        series(1, "US", 3)
    else:
        for number in range(1, rng.randint(3, 4)):
            series(number, kind, rng.randint(2, 4))
        if rng.random() < 0.3:
            document(documents.report(replace(scene, series=9, modality="SR"), [objects[0][0]]))
    return objects


def uid_of(seed: str, patient: Patient, *parts: Any) -> str:
    """A UID under a maker's root, or one that is nobody's."""
    root = _ROOTS[patient.number % len(_ROOTS)]
    number = int.from_bytes(hashlib.sha256(repr((seed, patient.number, parts)).encode()).digest()[:11], "big")
    return f"{root}.{number % 100}.{number}"


def _uids(scene: Scene, what: str, instance: int | None = None) -> str:
    if what == "study":
        return scene.study.uid
    parts: list[Any] = [scene.study.number, what]
    if what in ("series", "instance", "irradiation", "step"):
        parts.append(scene.series)
    if what == "instance":
        parts.append(scene.instance if instance is None else instance)
    return uid_of(scene.seed, scene.patient, *parts)


def _instance(patient: Patient, kind: str, dataset: Dataset, syntax: str, known: frozenset[str]) -> Instance:
    data = to_bytes(dataset, syntax)
    written = pydicom.dcmread(io.BytesIO(data))
    # What a reader of the file sees is judged: encoding may have changed the objects' own values.
    _carry(dataset, written)
    checks = list(Curator(written, known).run())
    digest = ""
    if "PixelData" in written:
        digest = hashlib.md5(written.PixelData, usedforsecurity=False).hexdigest()
        burned = getattr(dataset, "_burned", None)
        element = written["PixelData"]
        if burned is None:
            of = Category(tcia="TCIA-P15-PIX-K")
            checks.append(Check("pixels_retained", "<(7fe0,0010)>", element.name, "", digest, of))
        else:
            of = Category(hipaa="HIPAA-A")
            checks.append(Check("pixels_hidden", "<(7fe0,0010)>", element.name, "", burned[0], of, burned[1]))
    answer = Answer(
        group=kind,
        modality=text_of(written["Modality"]),
        sop_class=str(written.SOPClassUID),
        patient=str(written.PatientID),
        study=str(written.StudyInstanceUID),
        series=str(written.SeriesInstanceUID),
        instance=str(written.SOPInstanceUID),
        digest=digest,
        checks=tuple(checks),
    )
    return Instance(patient.number, kind, data, answer)


def _carry(source: Dataset, target: Dataset) -> None:
    """Hand what is known of the pieces from the data set as built to the one as read."""
    for name in ("_planted", "_private"):
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))
    for element in source:
        if element.VR == "SQ" and element.tag in target:
            for a, b in zip(element.value, target[element.tag].value, strict=True):
                _carry(a, b)


def to_bytes(dataset: Dataset, syntax: str) -> bytes:
    """The file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if syntax == RLELossless and dataset.get("SamplesPerPixel") == 1:
            dataset.compress(RLELossless, generate_instance_uid=False)
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
