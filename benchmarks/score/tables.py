"""The benchmark's own tables (CSV in this folder), and the Types of the standard's IODs."""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
STANDARD = HERE.parents[1] / "profiles" / "standard"


@cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """Rows of a table of this folder."""
    return _read(HERE / name)


@cache
def standard(name: str) -> tuple[dict[str, str], ...]:
    """Rows of a table of profiles/standard: facts of the standard, not of the engine."""
    return _read(STANDARD / name)


def _read(path: Path) -> tuple[dict[str, str], ...]:
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


@cache
def types(sop_class: str) -> dict[tuple[int, ...], str]:
    """Types 1 and 2 of a SOP class by path of tags: (0x00080020,) or (0x00540016, 0x00181074).

    Where modules disagree the stricter one counts. Conditional Types (1C, 2C) are left out: a condition that does not
    hold takes the obligation away, and a curator cannot see conditions from the tag.
    """
    iods = {row["uid"]: row["iod"] for row in standard("sop_classes.csv")}
    iod = iods[sop_class]
    modules = {row["module"] for row in standard("iods.csv") if row["iod"] == iod and row["usage"] == "M"}
    found: dict[tuple[int, ...], str] = {}
    for path, kind in _module_types(frozenset(modules)):
        if found.get(path) != "1":
            found[path] = kind
    return found


@cache
def _by_module() -> dict[str, list[tuple[tuple[int, ...], str]]]:
    table = defaultdict(list)
    for row in standard("module_attributes.csv"):
        if row["type"] in ("1", "2"):
            path = tuple(int(part, 16) for part in row["path"].replace("/", ".").split(".") if part)
            table[row["module"]].append(((*path, int(row["tag"], 16)), row["type"]))
    return table


def _module_types(modules: frozenset[str]) -> list[tuple[tuple[int, ...], str]]:
    return [entry for module in sorted(modules) for entry in _by_module().get(module, ())]
