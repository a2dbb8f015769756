"""Private attributes of random objects against the obvious reading of the tables (PS3.5 7.8, PS3.15 E.3.10)."""

from __future__ import annotations

import csv
import struct
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from orthanc_deid.core import standard
from orthanc_deid.core.deidentify import deidentify
from orthanc_deid.core.profile import Profile
from orthanc_deid.core.sinks import BytesSink
from orthanc_deid.core.source import Source
from pydicom.uid import ExplicitVRLittleEndian

from tests import builders, raw
from tests.engine import SUBJECT
from tests.raw import El

VALUES = {"IS": b"12", "DS": b"1.5", "CS": b"NONE", "US": b"\1\0", "SS": b"\1\0", "SL": b"\1\0\0\0", "UL": b"\1\0\0\0"}
VALUES |= {"FL": struct.pack("<f", 0.5), "FD": struct.pack("<d", 0.5)}
CREATORS = (
    "SIEMENS MR HEADER",
    "GEMS_PARM_01",
    "GEMS_ACQU_01",
    "Philips Imaging DD 001",
    "NOBODY",
    "siemens mr header",
)
GROUPS = (0x0019, 0x0043, 0x0051, 0x2001)


@cache
def table() -> frozenset[tuple[int, str, int, str]]:
    """(group, creator, element, VR) of the numbers and codes that stay at the top level, read off the CSV."""
    found = set()
    with (standard.FOLDER / "safe_private_merged.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["place"] in ("", "*") and row["code"] == "K" and "xx" in row["attribute"]:
                group, low, creator = (
                    int(row["attribute"][:4], 16),
                    int(row["attribute"][6:8], 16),
                    row["attribute"][9:],
                )
                found |= {(group, creator, low, vr) for vr in (row["vr"], *row["other_vrs"].split())}
    return frozenset(found)


@cache
def profile() -> Profile:
    return Profile.parse({"name": "test", "options": ["retain-safe-private"]})


@cache
def base() -> tuple[El, ...]:
    return tuple(el for el in builders.tree(builders.PASS["mr"](rows=4, columns=4)) if not el.tag >> 16 & 1)


blocks = st.dictionaries(
    st.tuples(st.sampled_from(GROUPS), st.integers(0x10, 0x14)), st.sampled_from(CREATORS), max_size=5
)
elements = st.dictionaries(
    st.tuples(st.sampled_from(GROUPS), st.integers(0x10, 0x15), st.integers(0, 255)),
    st.sampled_from(sorted(VALUES)),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(blocks, elements)
def test_the_engine_keeps_exactly_what_the_table_names(
    creators: dict[tuple[int, int], str], attributes: dict[tuple[int, int, int], str]
) -> None:
    data = list(base())
    expected: dict[int, bytes] = {}
    for (group, number), creator in creators.items():
        raw.put(data, El(group << 16 | number, "LO", creator.encode()))
    for (group, number, low), vr in attributes.items():
        tag = group << 16 | number << 8 | low
        raw.put(data, El(tag, vr, VALUES[vr]))
        creator = creators.get((group, number), "")
        if (group, creator, low, vr) in table():
            expected[tag] = VALUES[vr].ljust(len(VALUES[vr]) + len(VALUES[vr]) % 2)
            name = creator.encode()
            expected[group << 16 | number] = name + b" " * (len(name) % 2)
    source, sink = Source.from_bytes(raw.part10(data, ExplicitVRLittleEndian)), BytesSink()
    deidentify(source, profile().plan(source.facts.sop_class), SUBJECT, sink)
    found = {el.tag: el.bytes for el in raw.parse(sink.getvalue())[1] if el.tag >> 16 & 1}
    assert found == expected
