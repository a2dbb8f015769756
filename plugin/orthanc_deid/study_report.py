"""The report about outputs that were made: validity before and after, as a statement like that of the profile.

It names no source: studies are called by their new Study Instance UID. Sources and outputs are paired by the
report of `deidentify`, by a project's key, or by equal names.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orthanc_deid import __version__, validity
from orthanc_deid.core import standard
from orthanc_deid.core.conformance import Statement
from orthanc_deid.core.conformance_tables import Section, Table
from orthanc_deid.core.errors import DeidError
from orthanc_deid.core.profile import Profile
from orthanc_deid.core.source import Source
from orthanc_deid.core.uids import map_uid


@dataclass
class Pairs:
    """Sources with their outputs; what has no partner, by reason."""

    pairs: list[tuple[Path, Path]] = field(default_factory=list)
    without_output: Counter[str] = field(default_factory=Counter)  # by outcome and reason
    without_source: int = 0


@dataclass(frozen=True)
class Head:
    """What an instance says of itself."""

    sop_class: str
    study: str
    sop: str
    equipment: bytes


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    found = [Path(path) / name for path, _folders, names in os.walk(folder) for name in names]
    return sorted(path for path in found if path.is_file())


def head(path: Path) -> Head | None:
    """Read an instance's head; None where it is no DICOM instance that can be read."""
    try:
        with path.open("rb") as file:
            facts = Source.from_file(file).facts
            return Head(facts.sop_class, facts.study, facts.get(0x00080018) or "", facts.raw(0x0018A001) or b"")
    except DeidError:
        return None


def pair_by_report(report: Path, before: Path, after: Path) -> Pairs:
    """Pair by the report that `deidentify` wrote; only what lies below the two folders counts."""
    found = Pairs()
    outputs = set(files_below(after.resolve()))
    for line in report.read_text("utf-8").splitlines():
        entry = json.loads(line)
        source = Path(entry["source"]).resolve()
        if not source.is_relative_to(before.resolve()):
            continue
        if entry["output"] is None:
            found.without_output[_reason(entry)] += 1
            continue
        output = Path(entry["output"]).resolve()
        if output in outputs and source.is_file():
            found.pairs.append((source, output))
        else:
            found.without_output["made, but missing"] += 1
    found.without_source = len(outputs - {output for _source, output in found.pairs})
    return found


def _reason(entry: Mapping[str, str]) -> str:
    return f"{entry['outcome']}: {entry['reason']}"


def pair_by_key(uid_key: bytes, before: Path, after: Path) -> Pairs:
    """Pair by SOP Instance UID, which the project's key maps."""
    outputs = {one.sop: path for path in files_below(after) if (one := head(path)) is not None}
    return _pair(((path, map_uid(uid_key, one.sop) if one else None) for path, one in _heads(before)), outputs)


def pair_by_name(before: Path, after: Path) -> Pairs:
    """Pair by equal paths below the two folders, as `deidentify --names source` makes them."""
    outputs = {str(path.relative_to(after)): path for path in files_below(after)}
    return _pair(((path, str(path.relative_to(before))) for path in files_below(before)), outputs)


def _heads(folder: Path) -> Iterable[tuple[Path, Head | None]]:
    return ((path, head(path)) for path in files_below(folder))


def _pair(sources: Iterable[tuple[Path, str | None]], outputs: dict[str, Path]) -> Pairs:
    found = Pairs()
    left = dict(outputs)
    for source, key in sources:
        if key is None:
            found.without_output["no DICOM instance"] += 1
        elif key in left:
            found.pairs.append((source, left.pop(key)))
        else:
            found.without_output["no output"] += 1
    found.without_source = len(left)
    return found


@dataclass
class _Group:
    """The instances of one SOP class in one output study."""

    instances: int = 0
    other_plan: int = 0
    unjudged: int = 0  # the validator gave up on the source already
    lost: int = 0  # on the output, though not on the source
    before: int = 0
    after: int = 0
    added: Counter[validity.Finding] = field(default_factory=Counter)
    gone: Counter[validity.Finding] = field(default_factory=Counter)


@dataclass(frozen=True)
class Result:
    """A report, and whether nothing in it needs a person's attention."""

    statement: Statement
    clean: bool


def study_report(profile: Profile, pairs: Pairs, tool: str | None) -> Result:
    """Compare each pair and report by study and SOP class; `tool` is dciodvfy's path, None where it is missing."""
    groups: dict[tuple[str, str], _Group] = defaultdict(_Group)
    compared: Iterable[validity.Comparison]
    if tool is None:
        compared = (validity.Comparison(None, None) for _pair in pairs.pairs)
    else:
        compared = validity.compare(tool, pairs.pairs)
    for (_source, output), comparison in zip(pairs.pairs, compared, strict=True):
        said = head(output)
        group = groups[said.study if said else "", said.sop_class if said else ""]
        group.instances += 1
        group.other_plan += not (said and _made_by(profile, said))
        if comparison.before is None or comparison.after is None:
            group.unjudged += comparison.before is None
            group.lost += comparison.before is not None
            continue
        group.before += _errors(comparison.before)
        group.after += _errors(comparison.after)
        group.added += comparison.added
        group.gone += comparison.gone
    total = _total(groups.values())
    wrong = _errors(total.added) or total.lost or total.other_plan or pairs.without_source
    clean = bool(tool and pairs.pairs and not wrong)
    return Result(_statement(profile, pairs, groups, total, tool), clean)


def _errors(findings: Counter[validity.Finding]) -> int:
    return sum(times for finding, times in findings.items() if finding.level == "Error")


def _made_by(profile: Profile, said: Head) -> bool:
    """Whether the output's own mark names the plan of this profile for its SOP class."""
    try:
        digest = profile.plan(said.sop_class).digest
    except DeidError:
        return False
    return b"plan " + digest[:32].encode() in said.equipment


def _total(groups: Iterable[_Group]) -> _Group:
    total = _Group()
    for group in groups:
        total.instances += group.instances
        total.other_plan += group.other_plan
        total.unjudged += group.unjudged
        total.lost += group.lost
        total.before += group.before
        total.after += group.after
        total.added += group.added
        total.gone += group.gone
    return total


def _statement(
    profile: Profile, pairs: Pairs, groups: dict[tuple[str, str], _Group], total: _Group, tool: str | None
) -> Statement:
    studies = {study: number for number, study in enumerate(sorted({study for study, _class in groups}), 1)}
    judge = (
        f"{validity.TOOL} ({validity.PACKAGE} {validity.version(tool)})" if tool else "none: dciodvfy is not installed"
    )
    facts = (
        ("Product", f"orthanc-deid {__version__}"),
        ("Profile", profile.name),
        ("Profile digest (SHA-256)", profile.digest),
        ("Validator", judge),
        ("Studies, instances compared", f"{len(studies)}, {total.instances}"),
    )
    return Statement(
        title=f"Validity before and after: profile {profile.name}",
        subtitle="What de-identification changed in how valid the instances are. No value of an attribute is shown.",
        facts=facts,
        sections=(
            Section("Result", points=tuple(_verdict(pairs, total, tool))),
            _instances(groups, studies, tool),
            *(_all_differences(total) if tool else ()),
        ),
        signatures=("Checked by",),
    )


def _verdict(pairs: Pairs, total: _Group, tool: str | None) -> Iterable[str]:
    if tool is None:
        yield (
            f"Validity was NOT checked: {validity.TOOL} is not installed on this machine (Debian package "
            f"{validity.PACKAGE}). This report says nothing about it."
        )
    else:
        judged = total.instances - total.unjudged - total.lost
        yield f"Judged before and after: {judged} of {total.instances} instances. New errors: {_errors(total.added)}."
        if total.unjudged:
            yield f"Not judged, since the validator gave up on the source already: {total.unjudged}."
        if total.lost:
            yield f"Not judged, since the validator gave up on the output, but not on the source: {total.lost}."
    if total.other_plan:
        yield f"Outputs that were not made by this profile in this version, by their own mark: {total.other_plan}."
    elif total.instances:
        yield "All outputs compared say that this profile in this version made them (plan digest in their mark)."
    if pairs.without_source:
        yield f"Files among the outputs that have no source here, and were not compared: {pairs.without_source}."
    for reason, number in sorted(pairs.without_output.items()):
        yield f"Sources without output ({reason}): {number}."


def _instances(groups: dict[tuple[str, str], _Group], studies: dict[str, int], tool: str | None) -> Section:
    rows = []
    for (study, sop_class), group in sorted(groups.items()):
        known = standard.sop_classes().get(sop_class)
        numbers = (group.before, group.after, _errors(group.added), _errors(group.gone))
        cells = tuple(map(str, numbers)) if tool else ("not checked",) * 4
        name = known.name if known else "unknown"
        rows.append((str(studies[study]), study, name, str(group.instances), *cells))
    columns = ("study", "its new UID", "SOP class", "instances", "errors before", "errors after", "new", "gone")
    return Section("Instances", ("By study, as it is called now, and SOP class.",), table=Table(columns, tuple(rows)))


def _all_differences(total: _Group) -> tuple[Section, ...]:
    return (
        _differences("New errors", "Error", total.added),
        _differences("Errors that are gone", "Error", total.gone),
        _differences("New warnings", "Warning", total.added),
        _differences("Warnings that are gone", "Warning", total.gone),
    )


def _differences(title: str, level: str, findings: Counter[validity.Finding]) -> Section:
    found = sorted((one, times) for one, times in findings.items() if one.level == level)
    rows = tuple((one.place or "–", one.text, str(times)) for one, times in found)
    return Section(title, table=Table(("attribute", "message", "times"), rows))
