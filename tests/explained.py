"""The golden explanations: what each shipped profile does to objects of a few SOP classes, kept as text to be reviewed.

`basic` for CT is kept whole; of `basic` for other SOP classes what differs from that; of other profiles what differs
from `basic` for the same SOP class. Digests are left out, since they change with every table. After a change that is
meant, renew the files and read the difference before it is committed:

    python -m tests.explained && git diff tests/conformance/golden
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from orthanc_deid.core import standard
from orthanc_deid.core.explain import explain

PROFILES = standard.FOLDER.parent
GOLDEN = Path(__file__).parent / "conformance" / "golden"
SOP_CLASSES = {
    "ct": "CT Image Storage",
    "mr": "MR Image Storage",
    "pet": "Positron Emission Tomography Image Storage",
    "sr": "Comprehensive SR Storage",
    "rtstruct": "RT Structure Set Storage",
    "rtplan": "RT Plan Storage",
    "gsps": "Grayscale Softcopy Presentation State Storage",
}
KEPT = {
    "basic": ("ct", "mr", "pet", "sr", "rtstruct", "rtplan", "gsps"),
    "research": ("ct", "mr", "pet", "sr", "rtstruct", "gsps"),
    "full-dates": ("ct", "sr"),
    "teaching-file": ("ct", "sr", "gsps"),
    "radiotherapy": ("ct", "rtstruct", "rtplan"),
    "ct-research-age-bands": ("ct",),
}
"""Which explanations are kept of which profile."""


def golden(profile: str, sop_class: str) -> Path:
    """The file that holds an explanation."""
    return GOLDEN / profile / f"{sop_class}.txt"


def explained(profile: str, sop_class: str) -> str:
    """The explanation as it has to be in the file."""
    lines = list(_lines(profile, sop_class))
    if (profile, sop_class) != ("basic", "ct"):
        lines = list(_beyond(lines, list(_lines("basic", "ct" if profile == "basic" else sop_class))))
    return "\n".join(lines) + "\n"


def _lines(profile: str, sop_class: str) -> Iterator[str]:
    text = explain(PROFILES / f"{profile}.yaml", SOP_CLASSES[sop_class])
    return (line.rstrip() for line in text.splitlines() if not re.match(r"(Profile|Plan) digest ", line))


def _sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Headings with the lines below them; what stands before the first heading has none."""
    heading, found = "", []
    for line in lines:
        if re.fullmatch(r"(Items|Values) of .*:", line):
            yield heading, found
            heading, found = line, []
        elif line:
            found.append(line)
    yield heading, found


def _beyond(lines: list[str], basic: list[str]) -> Iterator[str]:
    """Lines that another explanation has not, below their headings."""
    known = dict(_sections(basic))
    for heading, found in _sections(lines):
        new = [line for line in found if line not in known.get(heading, ())]
        if new and heading:
            yield ""
            yield heading
        yield from new


def renew() -> None:
    """Write all files anew."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for profile, sop_classes in KEPT.items():
        for sop_class in sop_classes:
            path = golden(profile, sop_class)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(explained(profile, sop_class), "utf-8")


if __name__ == "__main__":
    renew()
