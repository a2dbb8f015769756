"""Runs the benchmark: generate, de-identify and score, patient by patient on all cores."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pydicom

from benchmarks.score import key, scorer, tools
from benchmarks.score.scorer import Score
from benchmarks.score.studies import patient_instances

_MAPPED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


@dataclass
class Result:
    """A score, and why instances were held."""

    score: Score
    reasons: Counter[str]


def generate(seed: str, patients: int, folder: Path) -> list[tuple[list[Path], list[key.Answer]]]:
    """Write the files of all patients under folder/data and their key to folder/answers.db."""
    made = []
    for number in range(patients):
        made.append(write_patient(seed, number, folder / "data"))
    key.write(folder / "answers.db", (answer for _, answers in made for answer in answers))
    return made


def write_patient(seed: str, number: int, folder: Path) -> tuple[list[Path], list[key.Answer]]:
    """Write a patient's files; their names say nothing about the patient."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, answers = [], []
    for count, instance in enumerate(patient_instances(seed, number)):
        path = folder / f"{number:04}-{count:04}.dcm"
        path.write_bytes(instance.data)
        paths.append(path)
        answers.append(instance.answer)
    return paths, answers


def write_mappings(pairs: Iterator[tuple[Path, Path]], folder: Path) -> None:
    """Write uid_mapping.csv and patid_mapping.csv from what the outputs say at their top level.

    A source value that became two values is in the mapping once: then one of the two is inconsistent.
    """
    uids: dict[str, str] = {}
    patients: dict[str, str] = {}
    for source, output in pairs:
        before = pydicom.dcmread(source, stop_before_pixels=True)
        after = pydicom.dcmread(output, stop_before_pixels=True)
        for keyword in _MAPPED:
            if keyword in before and keyword in after:
                uids.setdefault(str(before[keyword].value), str(after[keyword].value))
        if "PatientID" in after:
            patients.setdefault(str(before.PatientID), str(after.PatientID))
    for name, mapped in (("uid_mapping.csv", uids), ("patid_mapping.csv", patients)):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id_old", "id_new"])
            writer.writerows(sorted(mapped.items()))


def outputs_by_uid(folder: Path) -> dict[str, Path]:
    """The output files by SOP Instance UID."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)] = path
    return found


def one_patient(seed: str, profile: str, master: bytes, folder: Path, number: int) -> Result:
    """Everything for one patient, in a worker."""
    own = folder / str(number)
    return with_tool(tools.engine(profile, master), *write_patient(seed, number, own / "data"), own)


def with_tool(tool: tools.Tool, sources: list[Path], answers: list[key.Answer], folder: Path) -> Result:
    """Run a tool on files, and score what came out; outputs, key and mappings are written to the folder."""
    out = folder / "out"
    out.mkdir(parents=True)
    held = tool(sources, out, answers)
    pairs = ((source, out / source.name) for source in sources if (out / source.name).exists())
    write_mappings(pairs, folder)
    # The key goes through its file, so that its form is what is used.
    key.write(folder / "answers.db", answers)
    score = scorer.score_all(
        key.read(folder / "answers.db"),
        outputs_by_uid(out),
        scorer.mapping(folder / "uid_mapping.csv"),
        scorer.mapping(folder / "patid_mapping.csv"),
    )
    by_path = dict(zip(sources, answers, strict=True))
    reasons = Counter(f"{by_path[path].modality}: {reason}" for path, reason in held.items())
    return Result(score, reasons)


def run(seed: str, profile: str, patients: int, keep: Path | None = None) -> Result:
    """Run the product over all patients of a seed, on all cores."""
    folder = keep or Path(tempfile.mkdtemp(prefix="deid-score-"))
    folder.mkdir(parents=True, exist_ok=True)
    total = Result(Score(), Counter())
    work = partial(one_patient, seed, profile, hashlib.sha256(f"master key/{seed}".encode()).digest(), folder)
    try:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("forkserver")) as pool:
            for result in pool.map(work, range(patients)):
                total.score.add(result.score)
                total.reasons.update(result.reasons)
    finally:
        if keep is None:
            shutil.rmtree(folder)
    return total
