"""The long tables of a conformance statement: what is done to every attribute that anything names, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orthanc_deid.core import explain, pixelrisk, standard
from orthanc_deid.core.errors import tag_text
from orthanc_deid.core.profile import Profile
from orthanc_deid.core.structured import content_codes


@dataclass(frozen=True)
class Table:
    """A table of text; `columns` names the columns, each row has as many cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A part of a statement: paragraphs, points and a table, in this order."""

    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    table: Table | None = None


def sections(profile: Profile) -> Iterator[Section]:
    """The tables of a profile's statement."""
    yield _table(profile)
    yield _outside(profile)
    text = "Attributes outside the table that stay although they can hold text."
    yield _list("Keep list", text, {tag: _kept(profile, tag, why) for tag, why in standard.keep_list().items()})
    yield _list("Drop list", "Attributes outside the table that go although they cannot.", standard.drop_list())
    yield _list("UID constants", "UIDs that stay, since they name no instance.", standard.uid_constants())
    if "retain-longitudinal-modified-dates" in profile.options:
        text = (
            "Dates that never move by the subject's offset, since they would tell it. The Basic Profile's action holds."
        )
        reasons = {int(tag, 16): reason for tag, _keyword, _vr, reason, _stay in standard.rows("never_shift.csv")}
        yield _list("Dates that never move", text, reasons)
    if "clean-graphics" in profile.options:
        text = "What Clean Graphics does beyond its column in Table E.1-1."
        rows = {tag: f"{explain.CODE_WORDS[one.code]}: {one.reason}" for tag, one in standard.graphics().items()}
        yield _list("Graphics", text, rows)
    if "clean-structured-content" in profile.options:
        yield _content(profile)
    if "retain-safe-private" in profile.options:
        yield _private(profile)
    yield _held()


def _table(profile: Profile) -> Section:
    """Every row of Table E.1-1, with the action for each Type."""
    rows = []
    table = standard.confidentiality_table()
    for tag in explain.judged(profile):
        vr, decision = explain.decision_for(profile, tag)
        words = [explain.word(decision.code, vr, type_) for type_ in explain.TYPES]
        name = table[tag].name if tag in table else explain.keyword(tag)
        rows.append((tag_text(tag), name, vr, *words, decision.source))
    go = ("remove",) * 3
    rows.append(("(50xx,xxxx)", "Curve Data", "", *go, f"E.1-1 {standard.EDITION} basic X, whole group"))
    rows.append(
        ("(60xx,xxxx)", "Overlay Data, Overlay Comments", "", *go, f"E.1-1 {standard.EDITION} basic X, whole group")
    )
    rows.append(("(odd,xxxx)", "Private attributes", "", *go, explain.private(profile)))
    text = (
        "The action for each Type that an object's definition can give to an attribute, and where it comes from; 1C "
        "and 2C count as 1 and 2, as if their condition held. It holds at every depth. Listed too are attributes "
        "outside the table about which the profile decides, or this program for every profile."
    )
    columns = ("tag", "attribute", "VR", "Type 1", "Type 2", "Type 3", "why")
    return Section(f"Each attribute of Table E.1-1 ({standard.EDITION})", (text,), table=Table(columns, tuple(rows)))


def _outside(profile: Profile) -> Section:
    return Section(
        "Attributes outside the table",
        (f"{explain.outside(profile)} The three lists below say which.", explain.SAME_ALWAYS, explain.private(profile)),
    )


def _list(title: str, text: str, reasons: Mapping[int, str]) -> Section:
    rows = tuple((tag_text(tag), explain.keyword(tag), reason) for tag, reason in sorted(reasons.items()))
    return Section(title, (text,), table=Table(("tag", "attribute", "reason"), rows))


def _kept(profile: Profile, tag: int, reason: str) -> str:
    """Why an attribute of the keep list stays, or what the profile does instead."""
    _vr, decision = explain.decision_for(profile, tag)
    return reason if decision.code == "K" else f"{explain.CODE_WORDS[decision.code]} all the same: {decision.source}"


def _content(profile: Profile) -> Section:
    """Structured content by concept: what is done to the value of each content item that a table names."""
    rows = {}
    for name in ("sr_content.csv", "sr_content_more.csv"):
        for code, scheme, meaning, value_type, *_rest in standard.rows(name):
            acts = dict(content_codes(value_type, code, scheme, profile.options))
            action = acts.get(explain.CONTENT_VALUES.get(value_type, 0), "K")
            rows[code, scheme, value_type] = (code, scheme, meaning, value_type, explain.CODE_WORDS.get(action, action))
    for value_type in explain.CONTENT_VALUES:
        action = dict(content_codes(value_type, "", "", profile.options))[explain.CONTENT_VALUES[value_type]]
        rows["", "", value_type] = ("", "", "any other concept", value_type, explain.CODE_WORDS.get(action, action))
    text = (
        "What is done to the value of a content item, by its concept: those of Table E.3.4-1, those added to it, and "
        "all others by their Value Type. No item is removed, since references within a document count positions: its "
        "value becomes a dummy. References to other instances stay, with mapped UIDs."
    )
    columns = ("code", "scheme", "concept", "Value Type", "action")
    return Section("Structured content", (text,), table=Table(columns, tuple(rows.values())))


def _private(profile: Profile) -> Section:
    text = (
        "Private attributes that stay, by creator and block, where the file's VR agrees. All others go, and so do "
        "creators without survivors. Elements are given by the last two digits of their number. Where a sequence "
        "is named they are safe in its items only."
    )
    columns = ("creator", "group", "place", "elements and VR", "action", "known to be safe by")
    return Section("Private attributes that stay", (text,), table=Table(columns, tuple(explain.private_blocks())))


def _held() -> Section:
    text = "Instances that may carry text in their pixels (or in sound, or a document), and are held."
    found: dict[tuple[str, str], list[str]] = {}
    for row in pixelrisk.risk_rows():
        found.setdefault((row.rule, row.reason), []).append(explain.condition(row))
    rows = tuple((rule, "; ".join(conditions), reason) for (rule, reason), conditions in found.items())
    return Section("What is held", (text,), table=Table(("rule", "applies to", "reason"), rows))
