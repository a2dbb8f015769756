"""Says in text what a profile does to each attribute and why, for people who have to judge it.

Without a SOP class: the outcome for each Type that an attribute can have, then the lists outside the table. With a SOP
class: the resolved action of each attribute, at the top level and in the items of each sequence that its IOD knows.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator
from pathlib import Path

from orthanc_deid.core import pixelrisk, standard
from orthanc_deid.core.errors import tag_text
from orthanc_deid.core.plan import Act, Node, Plan, Rule
from orthanc_deid.core.profile import Profile, ProfileError
from orthanc_deid.core.resolution import Decision, act_for, decide

WORDS = {
    Act.KEEP: "keep",
    Act.REMOVE: "remove",
    Act.EMPTY: "empty",
    Act.DUMMY: "dummy",
    Act.UID: "map UID",
    Act.DESCEND: "enter items",
    Act.PSEUDONYM: "pseudonym",
    Act.CLEAN: "clean",
    Act.SHIFT: "shift",
    Act.AGE: "change age",
    Act.YEAR: "keep year",
}
"""What is done to an attribute, as shown to people."""

CODE_WORDS = {
    "K": "keep",
    "X": "remove",
    "Z": "empty",
    "D": "dummy",
    "U": "map UID",
    "C": "clean",
    "SHIFT": "shift",
    "AGE": "change age",
    "YEAR": "keep year",
    "SET": "set",
    "REMOVE": "remove",
    "PSEUDONYM": "pseudonym",
}
"""Action codes of Table E.1-1 and of our own, in words, before Types are considered."""

TYPES = ("1", "2", "3")
"""Types that decide differently; 1C and 2C are as 1 and 2."""

SAME_ALWAYS = (
    "Group lengths and unknown attributes: removed, always. Overlays (60xx) and curves (50xx): as whole groups."
)
OUTSIDE = (
    "Attributes outside the table: sequences are entered. UIDs are mapped, but for the constants. Numbers, codes and "
    "tags are kept, but for the drop list."
)


CONTENT_VALUES = {
    "DATETIME": 0x0040A120,
    "DATE": 0x0040A121,
    "TIME": 0x0040A122,
    "PNAME": 0x0040A123,
    "UIDREF": 0x0040A124,
    "TEXT": 0x0040A160,
    "CODE": 0x0040A168,
    "NUM": 0x0040A300,
}
"""The attribute that holds a content item's value, by Value Type (PS3.3 C.17.3)."""


def validate(path: Path | str) -> list[str]:
    """All errors of a profile file, each with its path in the file; an empty list for a valid one."""
    try:
        Profile.load(path)
    except ProfileError as error:
        return error.errors
    return []


def explain(profile_path: Path | str, sop_class: str | None = None) -> str:
    """Text about a profile, in general or for one SOP class (its UID, name or keyword).

    Raises ProfileError for a profile with errors, and for a SOP class that is not known.
    """
    profile = Profile.load(profile_path)
    if sop_class is None:
        return "\n".join(_overview(profile))
    found = standard.find_sop_class(sop_class)
    if found is None:
        names = [one.name for one in standard.sop_classes().values()]
        close = difflib.get_close_matches(sop_class, names, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ProfileError(str(profile_path), [f"--sop-class: no storage SOP class of that name or UID{hint}"])
    return "\n".join(_for_sop_class(profile, found))


def decision_for(profile: Profile, tag: int) -> tuple[str, Decision]:
    """VR of an attribute, and what the profile decides about it at the top level, before Types are considered."""
    entry = standard.attribute(tag)
    vr = entry.vr if entry is not None else "UN"
    return vr, decide(tag, vr, at_root=True, choices=profile.spec.choices)


def word(code: str, vr: str, type_: str) -> str:
    """An action code in words, for an attribute of this VR and Type."""
    return "set" if code == "SET" else WORDS[act_for(code, type_, is_sequence=vr == "SQ")]


def outside(profile: Profile) -> str:
    """What happens to attributes outside Table E.1-1, in a sentence or two."""
    if "clean-descriptors" in profile.options:
        return f"{OUTSIDE} Other text is cleaned, and what is left goes by its Type, as X does, but for the keep list."
    return f"{OUTSIDE} What is left goes by its Type, as X does, but for the keep list."


def private(profile: Profile) -> str:
    """What happens to private attributes, in a sentence."""
    if "retain-safe-private" in profile.options:
        return "Private attributes: removed, but for those that are known to be safe; their text is cleaned."
    if any(one.code != "X" for one in profile.spec.private):
        return "Private attributes: removed, but for those that the profile keeps; their text is cleaned."
    return "Private attributes: removed, always."


def _heading(profile: Profile) -> Iterator[str]:
    yield f"Profile {profile.name}: {profile.description}".rstrip(": ")
    yield f"PS3.15 Table E.1-1, edition {standard.EDITION}; options: {', '.join(sorted(profile.options)) or 'none'}"
    yield f"Profile digest {profile.digest}"


def keyword(tag: int) -> str:
    """Keyword of an attribute, '?' where it has none."""
    entry = standard.attribute(tag)
    return entry.keyword if entry is not None and entry.keyword else "?"


def outcome(plan: Plan, rule: Rule) -> str:
    """An action in words, as shown to people."""
    set_ = rule.act is Act.DUMMY and any(tag == rule.tag for tag, _value in plan.spec.values)
    return "set" if set_ else WORDS[rule.act]


def private_blocks() -> Iterator[tuple[str, ...]]:
    """Safe private attributes, those of the same creator, group, place, action and provenance in one row."""
    blocks: dict[tuple[str, str, str, str, str], list[str]] = {}
    for place, attribute, vr, _others, _stated, code, provenance in standard.rows("safe_private_merged.csv"):
        group, element, creator = attribute[:4], attribute[6:8], attribute[9:]
        if "xx" in attribute[:6] and code != "X":
            blocks.setdefault((creator, group, place, code, provenance), []).append(f"{element} {vr}")
    for (creator, group, place, code, provenance), elements in sorted(blocks.items()):
        words = CODE_WORDS.get(code, code)
        yield creator, group, _place(place), ", ".join(elements), words, provenance


def _place(path: str) -> str:
    """'00540016 > 0009xx01 CREATOR' with the names of attributes."""
    if path in ("", "*"):
        return "anywhere" if path else "top level"
    steps = (keyword(int(step, 16)) if "xx" not in step[:6] else step for step in path.split(" > "))
    return " / ".join(steps)


def judged(profile: Profile) -> list[int]:
    """Attributes that the table, the profile or this program itself names, by tag."""
    named = standard.confidentiality_table().keys() | standard.always().keys()
    return sorted(named | {tag for tag, _code, _reason in profile.spec.deviations})


def _overview(profile: Profile) -> Iterator[str]:
    yield from _heading(profile)
    yield ""
    yield "Attributes of Table E.1-1 and of the profile, by their Type in the SOP class's IOD:"
    yield ""
    yield f"{'tag':11} {'attribute':48} {'VR':2} {'Type 1, 1C':12} {'Type 2, 2C':12} {'Type 3':12} why"
    for tag in judged(profile):
        vr, decision = decision_for(profile, tag)
        words = " ".join(f"{word(decision.code, vr, type_):12}" for type_ in TYPES)
        yield f"{tag_text(tag)} {keyword(tag):48} {vr:2} {words} {decision.source}"
    yield ""
    yield from textwrap.wrap(f"{private(profile)} {SAME_ALWAYS}", 115)
    yield ""
    yield from textwrap.wrap(outside(profile), 115)
    yield ""
    yield "Keep list:"
    yield from (f"{tag_text(tag)} {keyword(tag):48} {reason}" for tag, reason in sorted(standard.keep_list().items()))
    yield ""
    yield "Drop list:"
    yield from (f"{tag_text(tag)} {keyword(tag):48} {reason}" for tag, reason in sorted(standard.drop_list().items()))
    yield ""
    yield "UID constants:"
    constants = sorted(standard.uid_constants().items())
    yield from (f"{tag_text(tag)} {keyword(tag):48} {reason}" for tag, reason in constants)
    yield ""
    if "retain-safe-private" in profile.options:
        yield "Private attributes that stay:"
        yield from ("  ".join(cells) for cells in private_blocks())
        yield ""
    yield "Held, because this profile cleans no pixels:"
    yield from (f"{row.rule:20} {condition(row)}: {row.reason}" for row in pixelrisk.risk_rows())


def condition(row: pixelrisk.RiskRow) -> str:
    """What a row of the list of held instances applies to."""
    classes = standard.sop_classes()
    parts = []
    if row.sop_classes:
        names = sorted(classes[uid].name for uid in row.sop_classes)
        parts.append(names[0] if len(names) == 1 else f"one of {len(names)} SOP classes")
    if row.modalities:
        parts.append(f"Modality {', '.join(sorted(row.modalities))}")
    if row.transfer_syntaxes:
        parts.append(f"transfer syntax {', '.join(sorted(row.transfer_syntaxes))}")
    if row.attribute:
        name = "OverlayBitPosition" if "x" in row.attribute else keyword(int(row.attribute, 16))
        tests = {"tag": "is there", "present": "has a value", "not-zero": "is not 0"}
        value = row.value.replace("|", ", ") if row.test == "in" else row.value
        parts.append(f"{name} {tests.get(row.test) or row.test + ' ' + value}")
    return " and ".join(parts)


def _for_sop_class(profile: Profile, sop_class: standard.SopClass) -> Iterator[str]:
    plan = profile.plan(sop_class.uid)
    yield from _heading(profile)
    yield f"{sop_class.name} ({sop_class.uid}), IOD {sop_class.iod}, Types of edition 2026b"
    yield f"Plan digest {plan.digest}"
    yield f"Method codes: {', '.join(' '.join(code) for code in plan.method_codes) or 'none'}"
    yield ""
    yield f"{'tag':11} {'attribute':48} {'VR':2} {'Type':4} {'action':12} why"
    context = standard.iod_context(plan.iod)
    tags = set(context.types) | set(context.children) | set(standard.confidentiality_table())
    tags |= set(standard.always()) | {tag for tag, _code, _reason in profile.spec.deviations}
    yield from _attributes(plan, plan.root, tags)
    yield from _nested(plan, context, plan.root, "")


def _attributes(plan: Plan, node: Node, tags: set[int]) -> Iterator[str]:
    for tag in sorted(tags):
        rule = node[tag]
        yield f"{tag_text(tag)} {keyword(tag):48} {rule.vr:2} {rule.type:4} {outcome(plan, rule):12} {rule.provenance}"


def _nested(plan: Plan, context: standard.Context, node: Node, path: str) -> Iterator[str]:
    """The items of the sequences that are entered: what the IOD gives a Type there. All else is as at the top level."""
    for sequence, inner in sorted(context.children.items()):
        rule = node[sequence]
        if rule.act is Act.DESCEND and rule.child is not None:
            here = f"{path}{keyword(sequence)}"
            yield ""
            yield f"Items of {here}:"
            yield from _attributes(plan, rule.child, set(inner.types) | set(inner.children))
            if rule.child.content is not None:
                yield ""
                yield f"Values of items of {here}, where no table names their concept:"
                for value_type, tag in CONTENT_VALUES.items():
                    yield from _attributes(plan, rule.child.content(value_type, "", ""), {tag})
            yield from _nested(plan, inner, rule.child, f"{here} / ")
