"""Private blocks: elements that TCIA's knowledge base or Table E.3.10-1 calls safe, and ones that must go."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from pydicom.datadict import private_dictionary_VR
from pydicom.dataset import Dataset

from benchmarks.score import tables
from benchmarks.score.attributes import SHARE, Scene, marks, text
from benchmarks.score.people import Maker, locales
from benchmarks.score.planting import research

_VENDORS = {
    "SIEMENS": ("SIEMENS", "Siemens", "SIENET"),
    "GE MEDICAL SYSTEMS": ("GE",),
    "Philips Medical Systems": ("Philips", "PHILIPS", "ELSCINT", "PICKER", "ADAC"),
    "TOSHIBA": ("TOSHIBA",),
    "HOLOGIC, Inc.": ("HOLOGIC", "Hologic", "LORAD"),
}
_TEXT = {"LO", "SH", "ST", "LT"}


@cache
def blocks() -> dict[tuple[int, str], list[dict[str, str]]]:
    """Elements of private.csv by group and creator."""
    found: dict[tuple[int, str], list[dict[str, str]]] = {}
    for row in tables.rows("private.csv"):
        if row["vr"] == "UN" and _vr_by_dictionary(row) not in ("", "UN", "LO", "SH", "ST", "LT"):
            continue  # a reader would take the letters for numbers
        found.setdefault((int(row["group"], 16), row["creator"]), []).append(row)
    return found


def add(dataset: Dataset, scene: Scene, explicit: bool) -> None:
    """Add blocks: of the vendor's creators mostly, of any other sometimes."""
    rng = scene.rng("R", "private")
    every = sorted(blocks())
    own = [key for key in every if key[1].startswith(_VENDORS[scene.study.vendor])]
    chosen = {rng.choice(own if rng.random() < 0.75 else every) for _ in range(rng.randint(1, 4))}
    kinds: dict[int, str] = {}
    for group, creator in sorted(chosen):
        rows = blocks()[group, creator]
        rows = sorted(rng.sample(rows, min(len(rows), rng.randint(3, 12))), key=lambda row: row["element"])
        if not explicit:
            # A reader of implicit VR knows the VR of some vendors' elements only; the others would be judged as bytes.
            rows = [row for row in rows if row["vr"] == _vr_by_dictionary(row)]
        if not rows:
            continue
        block = dataset.private_block(group, creator, create=True)
        if any(row["action"] != "remove" for row in rows):
            kinds[(group << 16) | block.block_start >> 8] = "creator"
        for row in rows:
            element = int(row["element"], 16)
            tag = int(block.get_tag(element))
            value = _value(scene, rng, row["vr"], row["action"], tag, dataset)
            block.add_new(element, row["vr"], value)
            kinds[tag] = row["action"]
    dataset._private = kinds


def _vr_by_dictionary(row: dict[str, str]) -> str:
    try:
        return private_dictionary_VR(int(row["group"] + "10" + row["element"], 16), row["creator"])
    except KeyError:
        return ""


def _value(scene: Scene, rng: Random, vr: str, action: str, tag: int, dataset: Dataset) -> Any:
    numbers = {"US": (100, 60000), "SS": (-900, 900), "UL": (1000, 90000), "SL": (-9000, 9000), "IS": (100, 9999)}
    if vr in numbers:
        return rng.randint(*numbers[vr])
    if vr in ("FL", "FD"):
        return rng.randint(1, 4000) / 8  # exact in both
    if vr == "DS":
        return f"{rng.uniform(0.1, 900):.{rng.randint(1, 4)}f}"
    if vr == "DA":
        return scene.study.date
    if vr == "DT":
        return scene.study.date + "101500"
    if vr == "UI":
        return Maker(rng, locales()[0][0]).uid()
    if vr == "TM":
        return "101530"
    if action == "keep":
        if vr == "CS":
            return rng.choice(("AXIAL", "NONE", "STANDARD", "HEAD", "YES", "NORMAL"))
        if vr in ("ST", "LT", "LO") and rng.random() < 0.4:
            planted = text(scene, rng, "series", vr, SHARE)
        else:
            planted = research(
                rng.choice(("AXIAL", "HELICAL", "STANDARD", "BONE", "BODY", "CHEST", "1.25", "3", "NONE"))
            )
        marks(dataset)[tag] = planted
        return planted.text
    p = scene.patient
    if vr == "PN":
        return p.person.pn
    if vr == "AS":
        return "061Y"
    if vr == "AE":
        return "AE" + Maker(rng, locales()[0][0]).digits(6)
    latin = p.person.family if p.person.family.isascii() else Maker(rng, locales()[0][0]).family()
    value = rng.choice((p.patient_id, scene.study.accession, latin, scene.study.date, p.other_id))
    if vr == "UN":
        return (value + " " * (len(value) % 2)).encode("ascii")
    if vr == "CS":
        return value.upper().replace("-", "_")[:16]
    return value[:16] if vr == "SH" else value
