"""Judges the output of a tool by the answer key: each check passes or fails, and nothing passes by being absent.

An instance without output is held. Where its pixels hold text that the tool may hold it for, its checks are not
applicable and it is counted apart; every check of any other missing instance fails.
"""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from benchmarks.score import compare
from benchmarks.score.key import ACTIONS, Answer, Check, index, text_of

PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "not applicable"


@dataclass(frozen=True, slots=True)
class Failure:
    """A check that failed: enough to find it. Values are synthetic here, so they may be shown."""

    check: Check
    modality: str
    instance: str
    found: str


@dataclass
class Score:
    """Counts per action and outcome, the failures, and the instances that were held."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: {action: Counter() for action in ACTIONS})
    failures: list[Failure] = field(default_factory=list)
    instances: int = 0
    held: Counter[str] = field(default_factory=Counter)  # by modality: for text in their pixels
    lost: Counter[str] = field(default_factory=Counter)  # by modality: for no reason that the key knows

    def add(self, other: Score) -> None:
        """Take in another score."""
        for action in ACTIONS:
            self.counts[action].update(other.counts[action])
        self.failures += other.failures
        self.instances += other.instances
        self.held.update(other.held)
        self.lost.update(other.lost)

    def passed(self) -> int:
        return sum(count[PASSED] for count in self.counts.values())

    def total(self) -> int:
        return self.passed() + sum(count[FAILED] for count in self.counts.values())

    def percentage(self) -> float:
        """Checks passed of those that apply; 0 when none does."""
        total = self.total()
        return 100 * self.passed() / total if total else 0.0

    def table(self, examples: int = 40) -> str:
        """The score as text."""
        lines = [f"{'action':18}{'passed':>9}{'total':>9}{'not appl.':>11}"]
        for action, count in self.counts.items():
            total = count[PASSED] + count[FAILED]
            lines.append(f"{action:18}{count[PASSED]:>9}{total:>9}{count[NOT_APPLICABLE]:>11}")
        lines.append(f"{'all':18}{self.passed():>9}{self.total():>9}")
        for title, key in (
            ("failures by category", lambda f: f"{f.check.action} {f.check.category.name}"),
            ("failures by attribute", lambda f: f"{f.check.name} ({f.check.action})"),
        ):
            if self.failures:
                lines += ["", title]
                lines += [f"{n:>7}  {name}" for name, n in Counter(map(key, self.failures)).most_common(25)]
        shown: set[tuple[str, str, str]] = set()
        for failure in self.failures:
            same = (failure.check.action, failure.check.name, failure.check.text)
            if same in shown or len(shown) >= examples:
                continue
            if not shown:
                lines += ["", "for example"]
            shown.add(same)
            lines.append(
                f"  {failure.modality} {failure.check.action} {failure.check.path} {failure.check.name}: "
                f"{failure.check.text[:70]!r} in {failure.check.value[:90]!r} became {failure.found[:90]!r}"
            )
        if self.held:
            lines += ["", "held, for text in their pixels: " + _listed(self.held)]
        if self.lost:
            lines += ["", "LOST, every check of theirs failed: " + _listed(self.lost)]
        lines += ["", f"{self.instances} instances, {self.total()} checks, score {self.percentage():.3f} %"]
        return "\n".join(lines)


def _listed(count: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(count.items()))


def mapping(path: Path) -> dict[str, str]:
    """Read uid_mapping.csv or patid_mapping.csv (id_old, id_new)."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["id_old"]: row["id_new"] for row in csv.DictReader(file)}


def score_all(
    answers: Iterable[Answer], outputs: dict[str, Path], uids: dict[str, str], patients: dict[str, str]
) -> Score:
    """Score instances; `outputs` are the files by the SOP Instance UID that they have now."""
    total = Score()
    for answer in answers:
        path = outputs.get(uids.get(answer.instance, ""))
        total.add(score_one(answer, None if path is None else path, uids, patients))
    return total


def score_one(answer: Answer, path: Path | None, uids: dict[str, str], patients: dict[str, str]) -> Score:
    """Score an instance; without a file it was held."""
    score = Score(instances=1)
    if path is None:
        burned = any(check.action == "pixels_hidden" for check in answer.checks)
        (score.held if burned else score.lost)[answer.modality] += 1
        for check in answer.checks:
            score.counts[check.action][NOT_APPLICABLE if burned else FAILED] += 1
            if not burned:
                score.failures.append(Failure(check, answer.modality, answer.instance, "(no output)"))
        return score
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unusual values of the output are judged, not remarked on
        dataset = pydicom.dcmread(path)
        values = {
            place.lower(): "" if element.VR == "OW" and element.tag == 0x7FE00010 else text_of(element)
            for place, element in index(dataset)
        }
    for check in answer.checks:
        found = values.get(check.path.lower())
        good = judge(check, found, dataset, uids, patients)
        score.counts[check.action][PASSED if good else FAILED] += 1
        if not good:
            score.failures.append(
                Failure(check, answer.modality, answer.instance, "(gone)" if found is None else found)
            )
    return score


def judge(check: Check, found: str | None, dataset: Dataset, uids: dict[str, str], patients: dict[str, str]) -> bool:
    """Whether a check passes; `found` is the output's value at its place, None where there is no such element."""
    match check.action:
        case "tag_retained":
            return found is not None
        case "text_notnull":
            return bool(found) or (found is not None and bool(_bytes_at(check, dataset)))
        case "text_retained":
            return bool(found) and compare.retained(_plain(found or ""), _plain(check.text))
        case "text_removed":
            return not found or compare.removed(_plain(found), _plain(check.text))
        case "date_shifted" | "uid_changed":
            return not found or compare.changed(found, check.value)
        case "uid_consistent":
            return found is None or (bool(found) and found == uids.get(check.value))
        case "patid_consistent":
            return found is None or (bool(found) and found == patients.get(check.value))
        case "pixels_retained":
            data = dataset.get("PixelData")
            return data is not None and hashlib.md5(data, usedforsecurity=False).hexdigest() == check.text
        case "pixels_hidden":
            return _hidden(check, dataset)
    raise ValueError(f"no such action: {check.action}")


def _plain(text: str) -> str:
    return text.replace("<", "").replace(">", "")


def _bytes_at(check: Check, dataset: Dataset) -> bytes:
    return bytes(dataset.get("PixelData") or b"") if check.path == "<(7fe0,0010)>" else b""


def _hidden(check: Check, dataset: Dataset) -> bool:
    """Whether the box that held text is of one colour now (native pixels; MIDI-B leaves this to people's eyes)."""
    if check.box is None or dataset.get("PixelData") is None or dataset.file_meta.TransferSyntaxUID.is_compressed:
        return False
    (left, top), (right, bottom) = check.box
    shape = (dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
    dtype = np.uint8 if dataset.BitsAllocated == 8 else np.uint16
    pixels = np.frombuffer(dataset.PixelData, dtype)[: int(np.prod(shape))].reshape(shape)
    box = pixels[top:bottom, left:right].reshape(-1, shape[2])
    return bool((box == box[0]).all())
