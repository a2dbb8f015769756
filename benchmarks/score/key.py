"""The answer key: checks per instance, in the SQLite form that MIDI-B publishes (table answer_data)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

ACTIONS = (
    "tag_retained",
    "text_notnull",
    "text_retained",
    "text_removed",
    "date_shifted",
    "uid_changed",
    "uid_consistent",
    "patid_consistent",
    "pixels_hidden",
    "pixels_retained",
)


@dataclass(frozen=True, slots=True)
class Category:
    """What a check is about: the letter of HIPAA's safe harbour, the rule of the standard, the rule of TCIA."""

    hipaa: str = ""
    dicom: str = ""
    tcia: str = ""

    @property
    def name(self) -> str:
        """The first that applies, as failures are counted by it."""
        return self.hipaa or self.tcia or self.dicom


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one place: `value` is the element's value in the source, `text` the part that the check is about.

    `path` is the place in the form of tag_ds, without its brackets around the whole: see `place`.
    """

    action: str
    path: str
    name: str
    value: str
    text: str
    category: Category
    box: tuple[tuple[int, int], tuple[int, int]] | None = None  # pixels_hidden: top left and bottom right


@dataclass(frozen=True, slots=True)
class Answer:
    """All checks of an instance."""

    group: str
    modality: str
    sop_class: str
    patient: str
    study: str
    series: str
    instance: str
    digest: str  # MD5 of the bytes of Pixel Data, empty without
    checks: tuple[Check, ...]


def label(element: DataElement) -> str:
    """How MIDI-B writes a tag: (0010,0010), and (0029,"CREATOR IN CAPITALS",08) for a private one."""
    group, number = element.tag.group, element.tag.element
    if element.tag.is_private and element.private_creator:
        return f'({group:04x},"{str(element.private_creator).upper()}",{number & 0xFF:02x})'
    return f"({group:04x},{number:04x})"


def step(parent: str, item: int, element: DataElement) -> str:
    """The place of an element: of an item `item` of the sequence at `parent`, or at the top with an empty parent."""
    return f"{parent}[<{item:04}>]<{label(element)}>" if parent else f"<{label(element)}>"


def text_of(element: DataElement) -> str:
    """The value as text, as MIDI-B compares it; empty without a value."""
    return "" if element.value is None else str(element.value).strip()


def index(dataset: Dataset, parent: str = "", item: int = 0) -> Iterator[tuple[str, DataElement]]:
    """All elements of a data set with their places, depth first."""
    for element in dataset:
        place = step(parent, item, element)
        yield place, element
        if element.VR == "SQ":
            for number, inner in enumerate(element.value or ()):
                yield from index(inner, place, number)


_COLUMNS = (
    '"index" INTEGER, "group" TEXT, Modality TEXT, SOPClassUID TEXT, PatientID TEXT, StudyInstanceUID TEXT, '
    "SeriesInstanceUID TEXT, SOPInstanceUID TEXT, Digest TEXT, AnswerData TEXT"
)


def write(path: Path, answers: Iterable[Answer]) -> None:
    """Write the key; texts stand in angle brackets, as published."""
    path.unlink(missing_ok=True)
    base = sqlite3.connect(path)
    with base:
        base.execute(f"CREATE TABLE answer_data ({_COLUMNS})")
        base.executemany(
            "INSERT INTO answer_data VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                (
                    number,
                    answer.group,
                    answer.modality,
                    answer.sop_class,
                    answer.patient,
                    answer.study,
                    answer.series,
                    answer.instance,
                    answer.digest,
                    json.dumps({str(i): _packed(check) for i, check in enumerate(answer.checks)}, ensure_ascii=False),
                )
                for number, answer in enumerate(answers)
            ),
        )
    base.close()


def read(path: Path) -> list[Answer]:
    """Read a key that `write` wrote, or a published one."""
    base = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = base.execute(
        'SELECT "group", Modality, SOPClassUID, PatientID, StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID, '
        'Digest, AnswerData FROM answer_data ORDER BY "index"'
    ).fetchall()
    base.close()
    return [Answer(*row[:8], tuple(_unpacked(packed) for packed in json.loads(row[8]).values())) for row in rows]


def _packed(check: Check) -> dict[str, object]:
    packed: dict[str, object] = {
        "scope": "<Instance>",
        "tag": f"<{check.path.replace('<', '').replace('>', '')}>",
        "tag_ds": check.path,
        "tag_name": f"<{check.name}>",
        "value": f"<{check.value}>",
        "action": f"<{check.action}>",
        "action_text": f"<{check.text}>",
        "answer_category": f"<{check.category.name}>",
        "answer_category_v2": {
            "hipaa": check.category.hipaa,
            "dicom": check.category.dicom,
            "tcia": check.category.tcia,
        },
    }
    if check.box:
        packed["top_left"], packed["bottom_right"] = check.box
    return packed


def _unpacked(packed: dict[str, object]) -> Check:
    category = packed.get("answer_category_v2")
    parts = category if isinstance(category, dict) else {}
    box = None
    if "top_left" in packed and "bottom_right" in packed:
        a, b = packed["top_left"], packed["bottom_right"]
        assert isinstance(a, list) and isinstance(b, list)
        box = ((a[0], a[1]), (b[0], b[1]))
    return Check(
        _bare(packed["action"]),
        str(packed["tag_ds"]),
        _bare(packed["tag_name"]),
        _bare(packed["value"]),
        _bare(packed["action_text"]),
        Category(*(str(parts.get(name) or "") for name in ("hipaa", "dicom", "tcia"))),
        box,
    )


def _bare(value: object) -> str:
    text = "" if value is None else str(value)
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text
