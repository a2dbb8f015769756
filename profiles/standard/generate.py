"""Make the CSV tables of this folder from a folder with the published tables of the standard.

    python generate.py SOURCE_FOLDER [TARGET_FOLDER]

The tables that this script writes are facts of the DICOM standard and are never edited by hand; those that are written
by hand (see README.md) are only read here. What is left out, because the engine has no use for it: attributes of Type
3 (an attribute that the tables do not know counts as Type 3), and the rows of the code sequence and the SOP instance
reference macros, which occur thousands of times and are stated once in macros.csv.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
STRICTEST_FIRST = ("1", "1C", "2", "2C", "3")
# PS3.3 8.8 (code sequence macro) and 10.8 (SOP instance reference macro), recognised by their attributes.
MACROS = {
    "code": ("00080100", "00080102", "00080103", "00080104", "00080105", "00080106", "00080107", "0008010D", "00080119",
             "00080120"),
    "sop-reference": ("00081150", "00081155"),
}  # fmt: skip
# VR letters of dicom-rs for attributes whose VR depends on others, spelled as PS3.6 does.
VIRTUAL_VR = {"xs": "US or SS", "ox": "OB or OW", "px": "OB or OW", "lt": "US or OW", "up": "UL"}


def read_csv(path: Path) -> list[dict[str, str]]:
    """All rows of a CSV file, gzipped or not, as dictionaries by column name."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows in the order given, with \\n line ends so that a new edition is a readable diff."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def plain_tag(text: str) -> str:
    """'(0008,0050)' → '00080050'; masks keep their x; the row of all private attributes becomes 'private'."""
    if "odd" in text:
        return "private"
    return re.sub(r"[(),\s]", "", text).upper().replace("X", "x")


def confidentiality_table(source: Path, target: Path) -> None:
    """PS3.15 Table E.1-1: action per attribute, Basic Profile and option columns."""
    rows = read_csv(source / "e1_1_2026d.csv")
    columns = [name for name in rows[0] if name not in ("name", "tag")]
    table = sorted([plain_tag(row["tag"]), row["name"], *(row[name] for name in columns)] for row in rows)
    write_csv(target / "e1_1.csv", ["tag", "name", *columns], table)


def structured_content(source: Path, target: Path) -> None:
    """PS3.15 Table E.3.4-1: action per concept of a content item."""
    rows = read_csv(source / "e3_4_1_structured_content_2026d.csv")
    write_csv(target / "sr_content.csv", list(rows[0]), sorted(list(row.values()) for row in rows))


def safe_private(source: Path, target: Path) -> None:
    """PS3.15 Table E.3.10-1: private attributes that are known to be safe. The prose of the meaning stays behind."""
    rows = read_csv(source / "e3_10_1_2026d.csv")
    table = {(plain_tag(row["tag"]), row["private_creator"], row["vr"], row["vm"]) for row in rows}
    write_csv(target / "safe_private.csv", ["tag", "private_creator", "vr", "vm"], sorted(table))


def method_codes(source: Path, target: Path) -> None:
    """PS3.16 CID 7050: codes of the de-identification methods."""
    rows = json.loads((source / "cid_7050_2026d.json").read_text("utf-8"))["rows"]
    table = [[row["code_value"], row["scheme_designator"], row["code_meaning"]] for row in rows]
    write_csv(target / "cid_7050.csv", ["code", "scheme", "meaning"], table)


def data_dictionary(source: Path, target: Path) -> dict[str, str]:
    """PS3.6: the newer dictionary, and from the older one what the newer leaves out. Returns tag by keyword."""
    entries: dict[str, tuple[str, str, str, str]] = {}
    for row in read_csv(source / "ps3_6_pydicom_2024c.csv"):
        if row["vr"] != "NONE":
            entries[plain_tag(row["tag"])] = (row["keyword"], row["vr"], row["vm"], "Y" if row["retired"] else "N")
    for row in read_csv(source / "ps3_6_dicom-rs_2026-06.csv"):
        retired = "Y" if row["status"].endswith("retired") else "N"
        entries[plain_tag(row["tag"])] = (row["keyword"], VIRTUAL_VR.get(row["vr"], row["vr"]), row["vm"], retired)
    for row in read_csv(HERE / "dictionary_supplement.csv"):
        entries[row["tag"]] = (row["keyword"], row["vr"], row["vm"], row["retired"])
    write_csv(
        target / "dictionary.csv",
        ["tag", "keyword", "vr", "vm", "retired"],
        [[tag, *entry] for tag, entry in sorted(entries.items())],
    )
    return {keyword: tag for tag, (keyword, *_) in entries.items() if keyword}


def sop_classes(source: Path, target: Path) -> set[str]:
    """PS3.4 B.5-1: SOP class → IOD, and its name. Returns the IODs that are used."""
    from pydicom._uid_dict import UID_dictionary

    iods: dict[str, str] = json.loads((source / "sop_class_to_iod_2026b.json").read_text("utf-8"))
    del iods["1.2.840.10008.1.3.10"]  # a DICOMDIR is no composite instance: rejected before any plan is made
    names = {uid: (entry[0], entry[4]) for uid, entry in UID_dictionary.items()}
    siblings: dict[str, str] = {}
    for row in read_csv(HERE / "sop_class_supplement.csv"):
        names[row["uid"]] = (row["name"], row["keyword"])
        siblings[row["uid"]] = row["sibling"]
    table = []
    for uid in iods.keys() | siblings.keys():
        origin = "2026b" if uid in iods else f"as {siblings[uid]}"
        table.append([uid, *names[uid], iods[siblings.get(uid, uid)], origin])
    table.sort(key=lambda row: [int(part) for part in row[0].split(".")])
    write_csv(target / "sop_classes.csv", ["uid", "name", "keyword", "iod", "origin"], table)
    return {row[3] for row in table}


def modules(source: Path, target: Path, used: set[str], tags: dict[str, str]) -> None:
    """PS3.3: the modules of each IOD, and attributes of Type 1 and 2 of each module by their path of sequences."""
    iods = {
        iod: table
        for iod, table in json.loads((source / "iod_to_modules_2026b.json").read_text("utf-8")).items()
        if iod in used
    }
    write_csv(
        target / "iods.csv",
        ["iod", "module", "usage"],
        [[iod, module["key"], module["usage"]] for iod, table in sorted(iods.items()) for module in table],
    )
    wanted = {module["key"] for table in iods.values() for module in table}
    rows = [
        row
        for row in read_csv(source / "module_attributes_2026b.csv.gz")
        if row["module"] in wanted and row["keyword"] in tags
    ]
    rows = [row for row in rows if all(keyword in tags for keyword in row["path"].split("/") if keyword)]
    sequence_macros = {
        (tags[row["path"].rsplit("/", 1)[-1]], row["path"].rsplit("/", 1)[-1], macro)
        for macro, mark in (("code", "00080100"), ("sop-reference", "00081155"))
        for row in rows
        if row["tag"] == mark and row["path"] and row["type"] in ("1", "1C")
    }
    defaults = {tag: _usual_type(rows, tag) for macro in MACROS.values() for tag in macro}

    strictest: dict[tuple[str, str, str], tuple[str, str]] = {}
    for row in rows:
        parents = [tags[keyword] for keyword in row["path"].split("/") if keyword]
        if row["type"] not in STRICTEST_FIRST or tags["EquivalentCodeSequence"] in parents:
            continue
        if "x" in tags[row["keyword"]]:  # overlays: the plan treats the whole group in one way
            continue
        path = "/".join(_collapse(parents))
        key = (row["module"], path, tags[row["keyword"]])
        before = strictest.get(key, ("3", ""))[0]
        strictest[key] = (min(before, row["type"], key=STRICTEST_FIRST.index), row["keyword"])
    table = []
    for (module, path, tag), (type_, keyword) in sorted(strictest.items()):
        ordinary = defaults.get(tag, "3") if path else "3"
        if type_ != ordinary:
            table.append([module, path, tag, type_, keyword])
    write_csv(target / "module_attributes.csv", ["module", "path", "tag", "type", "keyword"], table)
    names = {tag: keyword for keyword, tag in tags.items()}
    write_csv(
        target / "macros.csv",
        ["macro", "tag", "type", "keyword"],
        [[macro, tag, defaults[tag], names[tag]] for macro, members in MACROS.items() for tag in members],
    )
    write_csv(target / "sequence_macros.csv", ["tag", "keyword", "macro"], sorted(sequence_macros))


def _usual_type(rows: list[dict[str, str]], tag: str) -> str:
    counts = Counter(row["type"] for row in rows if row["tag"] == tag and row["path"])
    return counts.most_common(1)[0][0]


def _collapse(path: list[str]) -> list[str]:
    """A sequence inside itself (content in content) has the context of its outermost occurrence."""
    collapsed: list[str] = []
    for tag in path:
        if tag in collapsed:
            del collapsed[collapsed.index(tag) + 1 :]
        else:
            collapsed.append(tag)
    return collapsed


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    source = Path(arguments[0])
    target = Path(arguments[1]) if len(arguments) == 2 else HERE
    confidentiality_table(source, target)
    structured_content(source, target)
    safe_private(source, target)
    method_codes(source, target)
    tags = data_dictionary(source, target)
    modules(source, target, sop_classes(source, target), tags)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
