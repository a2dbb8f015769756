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
from orthanc_deid.core.plan import Plan, PlanSpec, compile_plan

ACTIONS = {"keep": "K", "remove": "X", "empty": "Z", "dummy": "D", "uid": "U"}
"""Actions that a profile can name for an attribute, and the codes of Table E.1-1 that they stand for."""

_KEYS = {"name", "description", "edition", "options", "attributes"}
_ENTRY_KEYS = {"attribute", "action", "reason"}
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
        description = content.get("description", "")
        if not isinstance(description, str):
            errors.append("description: must be text")
        edition = content.get("edition", standard.EDITION)
        if edition != standard.EDITION:
            errors.append(f"edition: must be {standard.EDITION}, the edition of the tables of this release")
        options = _options(content.get("options", []), errors)
        deviations = _deviations(content.get("attributes", []), errors)
        if errors:
            raise ProfileError(source, errors)
        spec = PlanSpec(str(name), standard.EDITION, options, tuple(sorted(deviations)))
        return cls(spec, str(description))

    def plan(self, sop_class_uid: str) -> Plan:
        """The plan for instances of a SOP class; remembered. Raises Quarantined('unknown-sop-class')."""
        return compile_plan(self.spec, sop_class_uid)


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


def _deviations(value: Any, errors: list[str]) -> list[tuple[int, str, str]]:
    if not isinstance(value, list):
        errors.append("attributes: must be a list")
        return []
    found: dict[int, tuple[int, str, str]] = {}
    for index, entry in enumerate(value):
        path = f"attributes[{index}]"
        if not isinstance(entry, Mapping):
            errors.append(f"{path}: must be a mapping with the keys attribute, action and reason")
            continue
        errors += _unknown_keys(f"{path}.", entry, _ENTRY_KEYS)
        tag = _tag(f"{path}.attribute", entry.get("attribute"), errors)
        action = entry.get("action")
        reason = entry.get("reason")
        if not isinstance(action, str) or action not in ACTIONS:
            errors.append(f"{path}.action: must be one of {', '.join(ACTIONS)}")
            action = None
        if not isinstance(reason, str) or not reason.strip():
            errors.append(f"{path}.reason: must be given, so that a reviewer can judge the deviation")
            reason = None
        if tag is not None and tag in found:
            errors.append(f"{path}.attribute: given twice")
        if tag is None or action is None:
            continue
        errors += (f"{path}.action: {problem}" for problem in _misuse(tag, action))
        found[tag] = (tag, ACTIONS[action], " ".join((reason or "").split()))
    return list(found.values())


def _tag(path: str, value: Any, errors: list[str]) -> int | None:
    """A tag from its number as '(0018,1030)' or '00181030', or from its keyword."""
    if not isinstance(value, str):
        errors.append(f"{path}: must be a keyword or a tag in quotes, as '(0018,1030)'")
        return None
    match = _TAG.fullmatch(value.strip())
    if match:
        tag = int(match[1] + match[2], 16)
        if tag >> 16 & 1:
            errors.append(f"{path}: private attributes are not supported yet")
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
        yield "keeping UIDs is not supported yet"
    elif action == "uid" and vr != "UI":
        yield f"uid needs an attribute with VR UI, this one has {vr}"
    elif action != "keep" and vr == "UI" and action != "uid":
        row = standard.table_row(tag)
        if (row is not None and row.basic == "U") or tag in standard.uid_constants():
            yield "without this UID references would not resolve; only uid is possible"
