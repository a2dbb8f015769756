"""What happens to an attribute: first its action code (Table E.1-1, options, deviations, rules outside the table), then
the action that keeps the object valid, given the attribute's Type where it stands (PS3.15 section E.1.1 and E.3).

The code vocabulary is that of Table E.1-1. A profile's deviations and the rules for attributes outside the table are
expressed in it too, so that the Type decides in one place only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from orthanc_deid.core import standard
from orthanc_deid.core.dates import never_shift


class Act(IntEnum):
    """What the engine does to an element."""

    KEEP = 0
    REMOVE = 1
    EMPTY = 2  # zero-length value, or a sequence without items
    DUMMY = 3  # constant value valid for the VR, or a sequence with one item made of constants
    UID = 4  # replaced by the UID derived from it
    DESCEND = 5  # sequence: each element of its items by its own rule
    PSEUDONYM = 6
    CLEAN = 7  # text without what identifies
    SHIFT = 8  # date or time moved by the subject's offset
    AGE = 9  # age under a cap, or the one that stands for its band
    YEAR = 10  # of a date only the year


CHANGES = frozenset((Act.CLEAN, Act.SHIFT, Act.AGE, Act.YEAR))
"""Acts that make a new value out of the source's."""


ENCAPSULATED_DOCUMENT = 0x00420011


class Decision(NamedTuple):
    """An action code and where it comes from, before Types are considered.

    `code` is one of Table E.1-1's, or 'K', 'C', 'SHIFT', 'AGE', 'YEAR', 'SET' (a value that the profile gives),
    'PSEUDONYM', 'REMOVE' (remove even where the IOD demands it).
    """

    code: str
    source: str


# VRs whose values are numbers, codes or tags: no room for free text (a code string has 16 capitals or digits).
_SAFE_VRS = frozenset(("AT", "CS", "DS", "FD", "FL", "IS", "OD", "OF", "OL", "OV", "SL", "SS", "SV", "UL", "US", "UV"))
TEXT = frozenset(("LO", "LT", "SH", "ST", "UC", "UT"))
"""VRs of text that can be cleaned word by word."""
_CODE_MEANING = 0x00080104
_PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
# Groups of messages, file meta information, directories and streams, never of a data set (PS3.5 section 7.1).
_FOREIGN_GROUPS = frozenset((0x0000, 0x0002, 0x0004, 0x0006, 0xFFFE))


def needs_value(type_: str) -> bool:
    """Whether an attribute that is present must have a value. For 1C the condition is taken to hold: it is present."""
    return type_ in ("1", "1C")


def may_be_absent(type_: str) -> bool:
    """Whether the attribute may be removed. For 2C the condition is taken to hold, as for 1C."""
    return type_ == "3"


@dataclass(frozen=True, slots=True)
class Choices:
    """What a profile chooses, as far as the action of an attribute depends on it; `deviations` holds (code, reason)."""

    options: frozenset[str] = frozenset()
    deviations: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    keep_references: bool = False
    keep_times: bool = True  # with modified dates: times of day stay, only days move
    keep_documents: bool = False  # encapsulated ones, on the profile's word
    change_ages: bool = False  # where ages are kept: under a cap, or in bands


BASIC = Choices()
"""The Basic Profile without options."""


def decide(tag: int, vr: str, *, at_root: bool, choices: Choices = BASIC) -> Decision:
    """Find the action code of a standard attribute.

    In this order: what no profile may change; attributes that nobody can judge (private, unknown); the profile's
    deviations; the options that the profile takes; the Basic Profile's column; the rules for what is outside it.
    """
    fixed = standard.always().get(tag)
    if fixed is not None and (at_root or not fixed.root_only):
        return Decision("PSEUDONYM" if fixed.act == "pseudonym" else "REMOVE", fixed.reason)
    group = tag >> 16
    if tag & 0xFFFF == 0:
        return Decision("REMOVE", "group length")
    if group in _FOREIGN_GROUPS:
        return Decision("REMOVE", "group is not for data sets")
    row = standard.table_row(tag)
    if row is None and standard.attribute(tag) is None:
        return Decision("REMOVE", "unknown attribute")
    if tag in choices.deviations:
        code, reason = choices.deviations[tag]
        if code == "K" and vr == "AS" and choices.change_ages:
            code = "AGE"
        return Decision(code, f"profile: {reason}")
    if not at_root and tag in _PIXELS:
        return Decision("REMOVE", "pixels that nobody looks at: only those of the top level are brought over")
    if choices.keep_references and tag in standard.references():
        return Decision("K", f"profile keeps references: {standard.references()[tag]}")
    if choices.keep_documents and at_root and tag == ENCAPSULATED_DOCUMENT:
        return Decision("K", "profile keeps encapsulated documents")
    if group & 1:
        return Decision("REMOVE", "private")
    if group & 0xFF00 in (0x5000, 0x6000):  # planes without their data would be invalid, so the whole group goes
        return Decision("REMOVE", f"E.1-1 {standard.EDITION} basic X, whole group")
    if row is not None:
        return _from_table(tag, vr, row, choices)
    return _outside_table(tag, vr, choices)


def _from_table(tag: int, vr: str, row: standard.TableRow, choices: Choices) -> Decision:
    edition = f"E.1-1 {standard.EDITION}"
    chosen: tuple[str, str, str] | None = None
    for name in sorted(choices.options):
        option = standard.options()[name]
        code = row.options.get(option.column)
        # Where one option keeps and another cleans, cleaning is the careful one.
        if code is not None and (chosen is None or chosen[0] == "K"):
            chosen = (code, option.clean_act, name)
    if chosen is not None:
        code, clean_act, name = chosen
        source = f"{edition} {name} {code}"
        if code == "K":
            return Decision("AGE" if vr == "AS" and choices.change_ages else "K", source)
        if clean_act == "shift":
            found = _shift(tag, vr, choices)
            if found is not None:
                return Decision(found, source)
        elif vr in TEXT or vr in ("AE", "SQ"):
            return Decision("C", source)
        elif vr == "CS":
            return Decision("K", f"{source}, a value without room for text")
        return Decision(row.basic, f"{edition} basic {row.basic}, since {name} cannot clean it")
    return Decision(row.basic, f"{edition} basic {row.basic}")


def _shift(tag: int, vr: str, choices: Choices) -> str | None:
    """Return what Modified Dates make of an attribute; None for one that must not move.

    A constant of the standard or of a device, moved by the subject's offset, would tell the offset.
    """
    if tag in never_shift() or vr not in ("DA", "DT", "TM"):
        return None
    return "K" if vr == "TM" and choices.keep_times else "SHIFT"


def _outside_table(tag: int, vr: str, choices: Choices) -> Decision:
    """Attributes outside Table E.1-1: kept where their VR has no room for text, or by the keep list."""
    graphic = standard.graphics().get(tag) if "clean-graphics" in choices.options else None
    if graphic is not None:
        return Decision(graphic.code, f"clean-graphics: {graphic.reason}")
    if vr == "SQ":
        return Decision("K", "not in E.1-1, sequence")
    if vr == "UI":
        if tag in standard.uid_constants():
            return Decision("K", f"UID constant: {standard.uid_constants()[tag]}")
        if "retain-uids" in choices.options:
            return Decision("K", "not in E.1-1, VR UI, retain-uids")
        return Decision("U", "not in E.1-1, VR UI")
    if tag in standard.drop_list():
        return Decision("X", f"drop list: {standard.drop_list()[tag]}")
    if vr in _SAFE_VRS:
        return Decision("K", f"not in E.1-1, VR {vr}")
    if tag == _CODE_MEANING and "clean-descriptors" in choices.options:
        return Decision("C", "clean-descriptors: what senders write beside a code is text")
    if tag in standard.keep_list():
        return Decision("K", f"keep list: {standard.keep_list()[tag]}")
    if vr in TEXT and "clean-descriptors" in choices.options:
        return Decision("C", f"not in E.1-1, VR {vr}, clean-descriptors")
    return Decision("X", f"not in E.1-1, VR {vr}")


def act_for(code: str, type_: str, *, is_sequence: bool) -> Act:
    """Resolve an action code by the attribute's Type, so that what comes out is as valid as what went in.

    - X removes, but a Type 2 attribute is emptied and a Type 1 attribute gets a dummy.
    - Z empties, but a Type 1 attribute gets a dummy.
    - D is a dummy always.
    - X/Z, X/D, Z/D, X/Z/D take the first of theirs that the Type permits. X/D on a Type 2 attribute empties: it needs
      no value, and no value is nearer to X than a made-up one.
    - X/Z/U* removes, but where the IOD demands the attribute (Type 1 and 2) the references stay with their UIDs mapped;
      both rows of the table are sequences, so their items are entered. For Type 2 the note to the table names Z, which
      may be "a non-zero length value that may be a dummy" as well as an empty one: mapped references name nobody, a
      segmentation without them has lost its images, and the Common Instance Reference module, which stays, would list
      instances that nothing refers to.
    - U maps, K keeps, C cleans, SHIFT, AGE and YEAR change whatever the Type is. On a sequence, U, K and C enter its
      items.
    """
    if code in ("REMOVE", "PSEUDONYM", "SHIFT", "AGE", "YEAR"):
        return Act[code]
    if code == "SET":
        return Act.DUMMY
    if code == "K":
        return Act.DESCEND if is_sequence else Act.KEEP
    if code == "U":
        return Act.DESCEND if is_sequence else Act.UID
    if code == "C":
        return Act.DESCEND if is_sequence else Act.CLEAN
    if code == "D":
        return Act.DUMMY
    if code.startswith("X") and may_be_absent(type_):
        return Act.REMOVE
    if code.endswith("U*"):
        return Act.DESCEND if is_sequence else Act.UID
    if not needs_value(type_):
        return Act.EMPTY
    return Act.DUMMY
