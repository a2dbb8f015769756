"""The marks that tell what was done to an instance (PS3.15 E.1.1, last steps), and how to recognise our own.

(0012,0062) YES, (0012,0063) and (0012,0064) with CID 7050 codes of what was really done, (0028,0303), and an item of
Contributing Equipment Sequence (0018,A001) that names this software, its version, the digest of the plan and a mark.
The mark is keyed: nobody without the key can forge it, and it tells nothing.
"""

from __future__ import annotations

import re

from orthanc_deid import __version__

from .encode import element, item, sequence
from .plan import Plan
from .syntax import BIG, LITTLE, Syntax
from .uids import keyed_digest

IMPLEMENTATION_CLASS = b"2.25.302917282193846829105573612847305915211"
"""Implementation Class UID (0002,0012) of this software."""
IMPLEMENTATION_VERSION = b"ORTHANC_DEID_0"
MANUFACTURER = b"orthanc-deid"

MARK_TAGS = (0x00120062, 0x00120063, 0x00120064, 0x0018A001, 0x00280303)
"""Attributes that are written anew; the plan removes what the source says there."""

_MARK = re.compile(rb"orthanc-deid mark ([0-9a-f]{32})")


def mark(uid_key: bytes, sop_uid: str) -> str:
    """Return the keyed mark of an output, 32 hex digits; `sop_uid` is the output's SOP Instance UID."""
    return keyed_digest(uid_key, b"mark\0" + sop_uid.encode())[:16].hex()


def find_mark(contributing_equipment: bytes) -> str | None:
    """Return the mark that stands in a Contributing Equipment Sequence, None where there is none of ours."""
    found = _MARK.search(contributing_equipment)
    return found[1].decode() if found else None


def elements(plan: Plan, syntax: Syntax, uid_key: bytes, sop_uid: str) -> list[tuple[int, bytes]]:
    """Return the marks of an instance as encoded elements, by tag."""
    key = (plan.digest, plan.profile, syntax.uid)
    template = _templates.get(key)
    if template is None:
        template = _templates[key] = _template(plan, syntax)
    before, after, rest = template
    equipment = before + mark(uid_key, sop_uid).encode() + after
    return sorted([*rest, (0x0018A001, equipment)])


_Template = tuple[bytes, bytes, list[tuple[int, bytes]]]
_templates: dict[tuple[str, str, str], _Template] = {}


def _template(plan: Plan, syntax: Syntax) -> _Template:
    """Encode the marks around a place for the 32 digits of the keyed mark."""
    numbers = LITTLE if syntax.little else BIG

    def write(tag: int, vr: bytes, value: bytes) -> bytes:
        return element(numbers, syntax.explicit, tag, vr, value)

    def code(value: str, scheme: str, meaning: str) -> bytes:
        return b"".join(
            (
                write(0x00080100, b"SH", value.encode()),
                write(0x00080102, b"SH", scheme.encode()),
                write(0x00080104, b"LO", meaning.encode()),
            )
        )

    place = b"#" * 32
    method = f"orthanc-deid {__version__} {plan.profile}"[:64].encode("ascii", "replace")
    body = b"".join(
        (
            write(0x00080070, b"LO", MANUFACTURER),
            write(0x00081090, b"LO", MANUFACTURER),
            write(0x00181020, b"LO", __version__.encode()),
            write(0x0018A003, b"ST", b"orthanc-deid mark " + place + b" plan " + plan.digest[:32].encode()),
            sequence(numbers, syntax.explicit, 0x0040A170, [code("109104", "DCM", "De-identifying Equipment")]),
        )
    )
    equipment = write(0x0018A001, b"SQ", item(numbers, body))
    before, after = equipment.split(place)
    codes = [code(*method_code) for method_code in plan.method_codes]
    return (
        before,
        after,
        [
            (0x00120062, write(0x00120062, b"CS", b"YES")),
            (0x00120063, write(0x00120063, b"LO", method)),
            # Type 1C, and never empty: a profile that follows nothing that has a code is named by its method alone.
            *([(0x00120064, sequence(numbers, syntax.explicit, 0x00120064, codes))] if codes else []),
            (0x00280303, write(0x00280303, b"CS", plan.temporal.encode())),
        ],
    )


def file_meta(sop_class: str, sop_uid: str, syntax: Syntax) -> bytes:
    """Return preamble, prefix and file meta information, made anew (PS3.10 section 7.1): nothing of the source's."""

    def write(tag: int, vr: bytes, value: bytes) -> bytes:
        return element(LITTLE, True, tag, vr, value)

    body = b"".join(
        (
            _META_VERSION,
            write(0x00020002, b"UI", sop_class.encode()),
            write(0x00020003, b"UI", sop_uid.encode()),
            write(0x00020010, b"UI", syntax.uid.encode()),
            _META_IMPLEMENTATION,
        )
    )
    return b"\0" * 128 + b"DICM" + write(0x00020000, b"UL", LITTLE.long.pack(len(body))) + body


_META_VERSION = element(LITTLE, True, 0x00020001, b"OB", b"\0\1")
_META_IMPLEMENTATION = element(LITTLE, True, 0x00020012, b"UI", IMPLEMENTATION_CLASS) + element(
    LITTLE, True, 0x00020013, b"SH", IMPLEMENTATION_VERSION
)
