"""Profiles: YAML files that say which options of the Basic Profile apply, and how single attributes deviate from it.

The format is described in profiles/README.md and, for editors, in profiles/profile.schema.json. A profile is read and
checked as a whole: all errors are reported at once, each with its path, and a profile with an error is no profile.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orthanc_deid.core import standard
from orthanc_deid.core.ages import Ages
from orthanc_deid.core.dates import dateless, never_shift
from orthanc_deid.core.descriptors import TextPolicy
from orthanc_deid.core.errors import tag_text
from orthanc_deid.core.plan import Plan, PlanSpec, PrivateChoice, compile_plan
from orthanc_deid.core.resolution import TEXT

ACTIONS = {
    "keep": "K",
    "remove": "X",
    "empty": "Z",
    "dummy": "D",
    "uid": "U",
    "clean": "C",
    "shift": "SHIFT",
    "year": "YEAR",
    "set": "SET",
}
"""Actions that a profile can name for an attribute, and the codes that they stand for: Table E.1-1's, and our own."""

FULL_DATES, MODIFIED_DATES = "retain-longitudinal-full-dates", "retain-longitudinal-modified-dates"

_KEYS = {
    "name",
    "description",
    "purpose",
    "edition",
    "options",
    "dates",
    "ages",
    "references",
    "encapsulated",
    "raw-data",
    "text",
    "attributes",
}
_ENTRY_KEYS = {"attribute", "creator", "vr", "action", "value", "reason"}
_PRIVATE = re.compile(r"\(?([0-9A-Fa-f]{4}),?xx([0-9A-Fa-f]{2})\)?")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")


class ProfileError(Exception):
    """A profile that cannot be used. `errors` has one line for each thing that is wrong: path, colon, what and why."""

    def __init__(self, source: str, errors: list[str]) -> None:
        self.source = source
        self.errors = errors
        super().__init__("\n".join(f"{source}: {error}" for error in errors))

    def __reduce__(self) -> tuple[type, tuple[str, list[str]]]:
        return type(self), (self.source, self.errors)


@dataclass(frozen=True)
class Profile:
    """A profile that was read and found right. Hashable and picklable; equal contents are equal profiles."""

    spec: PlanSpec
    description: str = field(default="", compare=False)
    purpose: str = field(default="", compare=False)
    _plans: dict[str, Plan] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def options(self) -> frozenset[str]:
        return self.spec.options

    @property
    def digest(self) -> str:
        """SHA-256 in hex over tables, options and deviations: equal digests treat every instance alike."""
        return self.spec.digest

    @classmethod
    def load(cls, path: Path | str) -> Profile:
        """Read a profile file; raises ProfileError with everything that is wrong with it."""
        source = str(path)
        from ruamel.yaml import YAML  # here: most of the time that it takes to read a profile is this import
        from ruamel.yaml.error import YAMLError

        try:
            content = YAML(typ="safe", pure=True).load(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "is not UTF-8 text"
            raise ProfileError(source, [f"$: cannot be read: {reason}"]) from None
        except YAMLError as error:
            raise ProfileError(source, [f"$: is not YAML: {' '.join(str(error).split())}"]) from None
        return cls.parse(content, source)

    @classmethod
    def parse(cls, content: Any, source: str = "profile") -> Profile:
        """Check the content of a profile file; raises ProfileError with everything that is wrong with it."""
        if not isinstance(content, Mapping):
            raise ProfileError(source, ["$: must be a mapping with the keys " + ", ".join(sorted(_KEYS))])
        errors: list[str] = []
        errors += _unknown_keys("", content, _KEYS)
        name = content.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            errors.append("name: must be given: lower case letters, digits and hyphens, at most 63")
        texts = {}
        for key in ("description", "purpose"):
            value = content.get(key, "")
            if not isinstance(value, str):
                errors.append(f"{key}: must be text")
            texts[key] = " ".join(str(value).split())
        edition = content.get("edition", standard.EDITION)
        if edition != standard.EDITION:
            errors.append(f"edition: must be {standard.EDITION}, the edition of the tables of this release")
        options = _options(content.get("options", []), errors)
        deviations, values, private = _deviations(content.get("attributes", []), errors)
        times, whole_weeks = _dates(content.get("dates", {}), options, errors)
        spec = PlanSpec(
            str(name),
            standard.EDITION,
            options,
            deviations=tuple(sorted(deviations)),
            values=tuple(sorted(values)),
            private=tuple(sorted(private, key=lambda one: (one.group, one.creator, one.element))),
            times=times,
            whole_weeks=whole_weeks,
            ages=_ages(content.get("ages"), errors),
            keep_references=_choice(content, "references", ("remove", "keep"), errors) == "keep",
            keep_encapsulated=_choice(content, "encapsulated", ("quarantine", "keep"), errors) == "keep",
            keep_raw_data=_choice(content, "raw-data", ("reject", "keep"), errors) == "keep",
            text=_text(content.get("text", {}), errors),
        )
        errors += _conflicts(spec)
        errors += _undone(spec)
        if errors:
            raise ProfileError(source, errors)
        return cls(spec, **texts)

    def plan(self, sop_class_uid: str) -> Plan:
        """The plan for instances of a SOP class; remembered. Raises Quarantined('unknown-sop-class')."""
        # A dictionary of its own: to look the spec up among all specs, all that it says would have to be hashed.
        plan = self._plans.get(sop_class_uid)
        if plan is None:
            plan = self._plans[sop_class_uid] = compile_plan(self.spec, sop_class_uid)
        return plan

    def __reduce__(self) -> tuple[type, tuple[PlanSpec, str, str]]:
        return type(self), (self.spec, self.description, self.purpose)


def _unknown_keys(prefix: str, content: Mapping[Any, Any], known: set[str]) -> Iterator[str]:
    for key in content:
        if key not in known:
            yield f"{prefix}{key}: unknown key{_suggestion(str(key), known)}"


def _suggestion(word: str, known: Mapping[str, Any] | set[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _options(value: Any, errors: list[str]) -> frozenset[str]:
    if not isinstance(value, list):
        errors.append("options: must be a list of option names")
        return frozenset()
    names: set[str] = set()
    for index, name in enumerate(value):
        path = f"options[{index}]"
        option = standard.options().get(name) if isinstance(name, str) else None
        if option is None:
            errors.append(f"{path}: no option of that name{_suggestion(str(name), standard.options())}")
        elif name in names:
            errors.append(f"{path}: given twice")
        elif not option.supported:
            errors.append(f"{path}: {name} is not supported yet")
        names.add(str(name))
    return frozenset(names)


def _choice(content: Mapping[Any, Any], key: str, choices: tuple[str, ...], errors: list[str]) -> str:
    """One of some words; the first is the default."""
    value = content.get(key, choices[0])
    if value not in choices:
        errors.append(f"{key}: must be one of {', '.join(choices)}")
    return str(value)


def _section(value: Any, path: str, known: set[str], errors: list[str]) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        errors.append(f"{path}: must be a mapping with the keys {', '.join(sorted(known))}")
        return {}
    errors += _unknown_keys(f"{path}.", value, known)
    return value


def _dates(value: Any, options: frozenset[str], errors: list[str]) -> tuple[str, bool]:
    section = _section(value, "dates", {"times", "whole-weeks"}, errors)
    times = section.get("times", "keep")
    if times not in ("keep", "shift", "round"):
        errors.append("dates.times: must be one of keep, shift, round")
    weeks = section.get("whole-weeks", False)
    if not isinstance(weeks, bool):
        errors.append("dates.whole-weeks: must be true or false")
    if section and MODIFIED_DATES not in options:
        errors.append(f"dates: says how {MODIFIED_DATES} moves dates, which is not among the options")
    return str(times), weeks is True


def _ages(value: Any, errors: list[str]) -> Ages | None:
    if value is None:
        return None
    section = _section(value, "ages", {"cap", "band", "representative"}, errors)
    for key, most in (("cap", 120), ("band", 50)):
        number = section.get(key)
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or not 1 < number <= most):
            errors.append(f"ages.{key}: must be a number of years from 2 to {most}")
            return None
    which = section.get("representative", "upper")
    if which not in ("upper", "lower", "middle"):
        errors.append("ages.representative: must be one of upper, lower, middle")
    if "representative" in section and "band" not in section:
        errors.append("ages.representative: stands for a band, which is not given")
    if not {"cap", "band"} & set(section):
        errors.append("ages: must have a cap, a band or both")
    return Ages(section.get("cap"), section.get("band"), str(which))


def _text(value: Any, errors: list[str]) -> TextPolicy:
    section = _section(value, "text", {"allow", "deny"}, errors)
    words: dict[str, frozenset[str]] = {}
    for key in ("allow", "deny"):
        found = section.get(key, [])
        if not isinstance(found, list) or not all(isinstance(word, str) and word.strip() for word in found):
            errors.append(f"text.{key}: must be a list of words")
            found = []
        words[key] = frozenset(word.strip().casefold() for word in found)
    for word in sorted(words["allow"] & words["deny"]):
        errors.append(f"text: {word} is allowed and denied")
    return TextPolicy(words["allow"], words["deny"])


def _conflicts(spec: PlanSpec) -> Iterator[str]:
    """Where options contradict each other: together, or about attributes that the profile does not decide about."""
    if {FULL_DATES, MODIFIED_DATES} <= spec.options:
        yield f"options: {FULL_DATES} and {MODIFIED_DATES} exclude each other"
        return
    decided = {tag for tag, _code, _reason in spec.deviations}
    for tag, row in sorted(standard.confidentiality_table().items()):
        codes = {
            name: row.options[option.column]
            for name in sorted(spec.options & standard.options().keys())
            if (option := standard.options()[name]).column in row.options
        }
        if len(set(codes.values())) > 1 and tag not in decided:
            entry = standard.attribute(tag)
            keyword = entry.keyword if entry is not None else row.name
            said = ", ".join(f"{name} {code}" for name, code in codes.items())
            yield f"attributes: {keyword} {tag_text(tag)} has to be decided about, since options disagree: {said}"


def _undone(spec: PlanSpec) -> Iterator[str]:
    """What one part of a profile promises and another undoes."""
    birth = {tag: code for tag, code, _reason in spec.deviations}.get(_BIRTH_DATE)
    if spec.ages is not None and birth in ("K", "SHIFT", "YEAR"):
        yield "ages: of no use while PatientBirthDate stays: the age at the study could be counted from it"
    if MODIFIED_DATES not in spec.options:
        return
    for tag, code, _reason in spec.deviations:
        entry = standard.attribute(tag)
        dated = entry is not None and (entry.vr in ("DA", "DT") or tag == _TIMEZONE)
        if dated and code in ("K", "YEAR") and tag not in dateless():
            yield f"attributes: {tag_text(tag)} would tell how far dates were moved, if its date or year stayed"


_BIRTH_DATE, _TIMEZONE = 0x00100030, 0x00080201


Deviations = tuple[list[tuple[int, str, str]], list[tuple[int, str]], list[PrivateChoice]]


def _deviations(value: Any, errors: list[str]) -> Deviations:
    if not isinstance(value, list):
        errors.append("attributes: must be a list")
        return [], [], []
    found: dict[int, tuple[int, str, str]] = {}
    values: list[tuple[int, str]] = []
    private: dict[tuple[int, str, int], PrivateChoice] = {}
    for index, entry in enumerate(value):
        path = f"attributes[{index}]"
        if not isinstance(entry, Mapping):
            errors.append(f"{path}: must be a mapping with the keys attribute, action and reason")
            continue
        errors += _unknown_keys(f"{path}.", entry, _ENTRY_KEYS)
        tag = None if "creator" in entry else _tag(f"{path}.attribute", entry.get("attribute"), errors)
        action = entry.get("action")
        reason = entry.get("reason")
        if not isinstance(action, str) or action not in ACTIONS:
            errors.append(f"{path}.action: must be one of {', '.join(ACTIONS)}")
            action = None
        if not isinstance(reason, str) or not reason.strip():
            errors.append(f"{path}.reason: must be given, so that a reviewer can judge the deviation")
            reason = None
        why = " ".join((reason or "").split())
        if "creator" in entry:
            choice = _private_choice(path, entry, action, why, errors)
            if choice is not None and (key := (choice.group, choice.creator, choice.element)) in private:
                errors.append(f"{path}.attribute: given twice")
            elif choice is not None:
                private[key] = choice
            continue
        if tag is not None and tag in found:
            errors.append(f"{path}.attribute: given twice")
        if ("value" in entry) != (action == "set"):
            errors.append(f"{path}.value: belongs to the action set, and to no other")
        if tag is None or action is None:
            continue
        errors += (f"{path}.action: {problem}" for problem in _misuse(tag, action))
        if action == "set" and "value" in entry:
            errors += (f"{path}.value: {problem}" for problem in _bad_value(tag, entry.get("value")))
            values.append((tag, str(entry.get("value"))))
        found[tag] = (tag, ACTIONS[action], why)
    return list(found.values()), values, list(private.values())


def _private_choice(
    path: str, entry: Mapping[Any, Any], action: str | None, reason: str, errors: list[str]
) -> PrivateChoice | None:
    creator, text = entry["creator"], entry.get("attribute")
    if not isinstance(creator, str) or not creator.strip() or len(creator.strip()) > 64:
        errors.append(f"{path}.creator: must be the text of the Private Creator, at most 64 characters")
        return None
    match = _PRIVATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or not int(match[1], 16) & 1:
        errors.append(f"{path}.attribute: must be a private attribute without its block, as '(0019,xx0C)'")
        return None
    if action not in ("keep", "remove", None):
        errors.append(f"{path}.action: a private attribute can be kept or removed")
    if "value" in entry:
        errors.append(f"{path}.value: belongs to the action set, and to no other")
    vr = entry.get("vr")
    if action == "keep" and vr not in _PRIVATE_VRS:
        errors.append(f"{path}.vr: must be given for a private attribute that stays: {', '.join(sorted(_PRIVATE_VRS))}")
        vr = None
    code = ACTIONS.get(action or "", "X")
    return PrivateChoice(int(match[1], 16), int(match[2], 16), creator.strip(), code, str(vr or "UN"), reason)


_PRIVATE_VRS = frozenset(
    ("AS", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US", "UT")
)


def _bad_value(tag: int, value: Any) -> Iterator[str]:
    """What is wrong with the value that a profile sets."""
    entry = standard.attribute(tag)
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or len(value) > 64:
        yield "must be given: printable ASCII in quotes, at most 64 characters"
    elif entry is not None and (rule := _SHAPES.get(entry.vr)) is None:
        yield f"a value of VR {entry.vr} cannot be set"
    elif entry is not None and rule is not None and not re.fullmatch(rule, value):
        yield f"is no value of VR {entry.vr}"


_SHAPES = {
    "AS": r"\d{3}[DWMY]",
    "CS": r"[A-Z0-9_ ]{1,16}",
    "DA": r"\d{8}",
    "DT": r"\d{4,14}",
    "LO": r"[^\\]{1,64}",
    "LT": r".{1,64}",
    "PN": r"[^\\]{1,64}",
    "SH": r"[^\\]{1,16}",
    "ST": r".{1,64}",
    "TM": r"\d{2,6}",
    "UT": r".{1,64}",
}


def _tag(path: str, value: Any, errors: list[str]) -> int | None:
    """A tag from its number as '(0018,1030)' or '00181030', or from its keyword."""
    if not isinstance(value, str):
        errors.append(f"{path}: must be a keyword or a tag in quotes, as '(0018,1030)'")
        return None
    match = _TAG.fullmatch(value.strip())
    if match:
        tag = int(match[1] + match[2], 16)
        if tag >> 16 & 1:
            errors.append(f"{path}: a private attribute needs its creator, and is written without block: '(0019,xx0C)'")
            return None
        if standard.attribute(tag) is None:
            errors.append(f"{path}: the data dictionary has no such attribute")
            return None
        return tag
    found = standard.tags_by_keyword().get(value.strip())
    if found is None:
        errors.append(f"{path}: no attribute has that keyword{_suggestion(value, standard.tags_by_keyword())}")
    return found


def _misuse(tag: int, action: str) -> Iterator[str]:
    entry = standard.attribute(tag)
    vr = entry.vr if entry is not None else "UN"
    group = tag >> 16
    if tag in standard.always() or tag & 0xFFFF == 0 or group in (0x0000, 0x0002, 0x0004, 0x0006):
        yield "no profile decides about this attribute"
    elif group & 0xFF00 in (0x5000, 0x6000):
        yield "single attributes of overlays and curves cannot be treated apart"
    elif tag == 0x00080016:
        yield "the SOP Class UID says what the instance is"
    elif action != "keep" and (group == 0x7FE0 or (group == 0x0028 and vr in ("CS", "US"))):
        yield "the pixels cannot be decoded without it"
    elif action == "keep" and vr == "UI" and tag not in standard.uid_constants():
        yield "single UIDs are not kept, since references would not resolve: take the option retain-uids"
    elif action == "clean" and vr not in (*TEXT, "SQ"):
        yield f"clean needs text or a sequence, this attribute has VR {vr}"
    elif action in ("shift", "year") and vr not in ("DA", "DT", "TM"):
        yield f"{action} needs a date or a time, this attribute has VR {vr}"
    elif action == "shift" and tag in never_shift():
        yield "moved by the subject's offset, this constant would tell the offset"
    elif action == "year" and vr == "TM":
        yield "a time of day has no year"
    elif action == "uid" and vr != "UI":
        yield f"uid needs an attribute with VR UI, this one has {vr}"
    elif action != "keep" and vr == "UI" and action != "uid":
        row = standard.table_row(tag)
        if (row is not None and row.basic == "U") or tag in standard.uid_constants():
            yield "without this UID references would not resolve; only uid is possible"
