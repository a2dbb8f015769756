"""Make the sample files: real objects of public test collections, given the identities of two patients who never were.

    python samples/make.py --others FOLDER

takes what comes with pydicom from the installed package and the rest from FOLDER (laid out as in sources.csv), checks
each source by its digest, and writes the same bytes every time. Each file's own pixels, private blocks and oddities
stay; names, numbers, dates, places and study UIDs become the invented ones, and references point into the sample.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

HERE = Path(__file__).parent
PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
ROOT = "1.2.826.0.1.3680043.10.9999.77"
IMPLEMENTATION = f"{ROOT}.1"


@dataclass(frozen=True)
class Patient:
    """An invented identity."""

    name: str
    patient_id: str
    birth_date: str
    sex: str
    physician: str
    institution: str


PATIENTS = {
    "quil": Patient(
        "Quilvexton^Brimbertine", "SAMPLE-7300417", "19480311", "F", "Mordquennel^Plin^^Dr", "Thwaiteholm Memorial"
    ),
    "zzy": Patient(
        "Zzyzxley^Fnardorfen", "SAMPLE-7300929", "19670925", "M", "Gwexgrundle^Thal^^Dr", "Thwaiteholm Memorial"
    ),
}
STUDIES = {
    # study: patient, date, accession number
    "quil-head": ("quil", "20110412", "ACC8801123"),
    "quil-brain": ("quil", "20120930", "ACC8801987"),
    "zzy-abdomen": ("zzy", "20130218", "ACC8802551"),
    "zzy-therapy": ("zzy", "20140707", "ACC8803014"),
}


def rows() -> list[dict[str, str]]:
    """The table of sources: target, source, sha256, origin, licence, held."""
    with (HERE / "sources.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def uid(*parts: str) -> str:
    """A UID that depends on `parts` alone."""
    return f"{ROOT}.{int.from_bytes(hashlib.sha256('/'.join(parts).encode()).digest()[:10], 'big')}"


def locate(source: str, others: Path | None) -> Path:
    """The file that a row of the table names."""
    if source.startswith("pydicom/"):
        return PYDICOM / source.removeprefix("pydicom/")
    if others is None:
        sys.exit(f"{source}: give the folder it lies in with --others")
    return others / source


def identify(dataset: Dataset, study: str) -> None:
    """Put the invented identity in place of what the source had."""
    key, date, accession = STUDIES[study]
    patient = PATIENTS[key]
    name, number = str(dataset.get("PatientName", "")), str(dataset.get("PatientID", ""))
    old = {part for part in (name, number, *name.split("^")) if len(part) > 3}

    def each(_: Dataset, element: pydicom.DataElement) -> None:
        if element.VR == "PN":
            element.value = patient.physician if element.value else element.value
        elif element.VR == "DA" and element.value:
            element.value = date
        elif element.VR == "DT" and element.value:
            element.value = date + str(element.value)[8:]
        elif element.VR in ("LO", "SH", "LT", "ST", "UT") and any(part in str(element.value) for part in old):
            element.value = ""

    dataset.walk(each)
    dataset.PatientName, dataset.PatientID = patient.name, patient.patient_id
    dataset.PatientBirthDate, dataset.PatientSex = patient.birth_date, patient.sex
    dataset.ReferringPhysicianName = patient.physician
    dataset.StudyInstanceUID, dataset.StudyDate, dataset.AccessionNumber = uid("study", study), date, accession
    dataset.StudyTime = dataset.get("StudyTime") or "101500"
    dataset.StudyID = accession[-4:]
    dataset.InstitutionName = patient.institution
    for keyword in (
        "InstitutionAddress",
        "StationName",
        "OtherPatientIDs",
        "PatientIdentityRemoved",
        "DeidentificationMethod",
        "PerformedStationName",
        "PerformedLocation",
        "InstitutionalDepartmentName",
    ):
        if keyword in dataset:
            delattr(dataset, keyword)
    block = dataset.private_block(0x0011, "ORTHANC-DEID SAMPLE", create=True)
    block.add_new(0x01, "LO", f"seen by {patient.physician.split('^')[0]} in {patient.institution}")


def resolve(datasets: dict[str, Dataset], studies: dict[str, str]) -> None:
    """Turn references to what is in the sample; the rest already point there."""
    for dataset in datasets.values():
        for element in dataset.iterall():
            if element.VR == "UI" and element.value in studies:
                element.value = studies[element.value]
    structures, plan, dose = (datasets[f"zzy/therapy/{name}.dcm"] for name in ("rtstruct", "rtplan", "rtdose"))
    slices = [datasets[f"zzy/therapy/ct-{number}.dcm"] for number in (1, 2, 3, 4)]
    frame = structures.ReferencedFrameOfReferenceSequence[0]
    frame.FrameOfReferenceUID = dose.FrameOfReferenceUID = slices[0].FrameOfReferenceUID
    for region in structures.StructureSetROISequence:
        region.ReferencedFrameOfReferenceUID = slices[0].FrameOfReferenceUID
    study = frame.RTReferencedStudySequence[0]
    study.ReferencedSOPInstanceUID = slices[0].StudyInstanceUID
    series = study.RTReferencedSeriesSequence[0]
    series.SeriesInstanceUID = slices[0].SeriesInstanceUID
    series.ContourImageSequence = [reference(image) for image in slices]
    plan.ReferencedStructureSetSequence = [reference(structures)]
    del plan.ReferencedRTPlanSequence
    dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID = plan.SOPInstanceUID
    report, image = datasets["quil/brain/sr.dcm"], datasets["quil/brain/mr-1.dcm"]
    for element in report.iterall():
        if element.keyword == "ReferencedSOPSequence":
            element.value = [reference(image)]
    group = Dataset()
    group.SeriesInstanceUID, group.ReferencedSOPSequence = image.SeriesInstanceUID, [reference(image)]
    evidence = Dataset()
    evidence.StudyInstanceUID, evidence.ReferencedSeriesSequence = uid("study", "quil-brain"), [group]
    report.CurrentRequestedProcedureEvidenceSequence = [evidence]


def reference(dataset: Dataset) -> Dataset:
    """An item that names an instance."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    return item


def read(path: Path, digest: str) -> Dataset:
    """One source, checked."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit(f"{path.name}: not the file that sources.csv names")
    return pydicom.dcmread(path, force=True)


def write(dataset: Dataset, target: Path) -> None:
    """Write the file with a file meta of its own."""
    syntax = dataset.file_meta.get("TransferSyntaxUID") if getattr(dataset, "file_meta", None) else None
    if syntax is None:
        syntax = ImplicitVRLittleEndian if dataset.original_encoding[0] else ExplicitVRLittleEndian
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = syntax, IMPLEMENTATION
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(target, enforce_file_format=True)


def make(others: Path | None) -> None:
    """Write every file of the table, then what is expected of them."""
    warnings.simplefilter("ignore")
    table = rows()
    datasets = {row["target"]: read(locate(row["source"], others), row["sha256"]) for row in table}
    studies = {str(datasets[row["target"]].StudyInstanceUID): uid("study", row["study"]) for row in table}
    resolve(datasets, studies)
    for row in table:
        target, dataset = row["target"], datasets[row["target"]]
        if dataset.Modality not in ("CT", "MR"):
            dataset.SeriesInstanceUID = uid("series", target)
        identify(dataset, row["study"])
        write(dataset, HERE / "files" / target)
    held = sorted(row["target"] for row in table if row["held"])
    (HERE / "expected.json").write_text(
        json.dumps(
            {
                "files": len(table),
                "patients": len(PATIENTS),
                "studies": len(STUDIES),
                "confirmed": len(table) - len(held),
                "held": len(held),
                "held_files": dict.fromkeys(held, "pixels-not-cleaned"),
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--others", type=Path, help="folder with what does not come with pydicom")
    make(parser.parse_args().others)
