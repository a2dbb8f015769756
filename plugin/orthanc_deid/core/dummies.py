"""Dummy values that are valid for their VR (PS3.15 action D: non-zero length, consistent with the VR).

They are constants: a dummy that depended on the patient would be a pseudonym by the back door, and one drawn at
random would make two runs differ.
"""

from __future__ import annotations

_BY_VR = {
    "AE": b"DEIDENTIFIED",
    "AS": b"000Y",
    "AT": b"\x00\x00\x00\x00",
    "CS": b"REMOVED",
    "DA": b"19000101",
    "DS": b"0",
    "DT": b"19000101000000",
    "FD": b"\x00" * 8,
    "FL": b"\x00" * 4,
    "IS": b"0",
    "LO": b"REMOVED",
    "LT": b"REMOVED",
    "OB": b"\x00\x00",
    "OD": b"\x00" * 8,
    "OF": b"\x00" * 4,
    "OL": b"\x00" * 4,
    "OV": b"\x00" * 8,
    "OW": b"\x00\x00",
    "PN": b"REMOVED",
    "SH": b"REMOVED",
    "SL": b"\x00" * 4,
    "SS": b"\x00\x00",
    "ST": b"REMOVED",
    "SV": b"\x00" * 8,
    "TM": b"000000",
    "UC": b"REMOVED",
    "UI": b"2.25.0",
    "UL": b"\x00" * 4,
    "UN": b"\x00\x00",
    "UR": b"about:blank",
    "US": b"\x00\x00",
    "UT": b"REMOVED",
    "UV": b"\x00" * 8,
}

_BY_TAG = {
    0x00080005: b"ISO_IR 100",  # Specific Character Set: text must stay readable, and Latin-1 reads anything
    0x00100040: b"O",  # Patient's Sex: "other" is its only value that says nothing
    0x00081196: b"\x00\x01",  # Warning Reason
}


def dummy_value(tag: int, vr: str) -> bytes:
    """Return the dummy for an attribute, unpadded, in little endian; multi-byte numbers are zero, so order is moot.

    `vr` is one of PS3.5's; a sequence has no dummy value (the plan says which items it needs) and is a KeyError.
    """
    return _BY_TAG.get(tag) or _BY_VR[vr]
