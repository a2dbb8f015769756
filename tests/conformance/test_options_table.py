"""Table E.1-1 with each of its options: every row that an option has a code for, for each Type, and all rows besides.

What is expected is stated here a second time and plainly: K keeps, C cleans text, moves dates and enters sequences, and
what no code can be applied to is treated as the Basic Profile does.
"""

from __future__ import annotations

import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.dates import never_shift
from orthanc_deid.core.plan import Act, PlanSpec, Rule, compile_plan

from tests.conformance.test_plan_table import ALWAYS_REMOVED, CT, EXPECTED, MASKED, PSEUDONYMS, SEQUENCE, TYPES

TEXT = {"AE", "LO", "LT", "SH", "ST", "UC", "UT"}
OPTIONS = sorted(name for name, option in standard.options().items() if option.column)
MODIFIED = "retain-longitudinal-modified-dates"


def coded(option: str) -> list[tuple[int, standard.TableRow]]:
    column = standard.options()[option].column
    return [(tag, row) for tag, row in standard.confidentiality_table().items() if column in row.options]


CASES = [(option, tag) for option in OPTIONS for tag, _ in coded(option)]


def rule_for(monkeypatch: pytest.MonkeyPatch, spec: PlanSpec, tag: int, type_: str, *, nested: bool) -> Rule:
    context = standard.Context()
    place = context
    if nested:
        place = context.children[SEQUENCE] = standard.Context(SEQUENCE, context)
    place.types[tag] = (type_, "an-iod")
    monkeypatch.setattr(standard, "iod_context", lambda _iod: context)
    node = compile_plan.__wrapped__(spec, CT).root
    if nested:
        entered = node[SEQUENCE]
        assert entered.child is not None
        node = entered.child
    return node[tag]


def untouchable(tag: int, *, nested: bool) -> bool:
    return tag in ALWAYS_REMOVED or tag >> 16 in (0x0000, 0x0002, 0x0004) or (tag in PSEUDONYMS and not nested)


def expected(option: str, tag: int, row: standard.TableRow, vr: str, type_: str) -> Act:
    code = row.options.get(standard.options()[option].column)
    if code == "K" or (code == "C" and option != MODIFIED and vr == "CS"):
        return Act.DESCEND if vr == "SQ" else Act.KEEP
    if code == "C" and option == MODIFIED and tag not in never_shift():
        if vr in ("DA", "DT"):
            return Act.SHIFT
        if vr == "TM":
            return Act.KEEP  # times of day stay unless the profile moves them
    if code == "C" and option != MODIFIED:
        if vr in TEXT:
            return Act.CLEAN
        if vr == "SQ":
            return Act.DESCEND
    return EXPECTED[row.basic][TYPES.index(type_)]


def test_every_column_of_the_table_is_an_option() -> None:
    columns = {column for row in standard.confidentiality_table().values() for column in row.options}
    assert columns | {"retain_safe_private"} == {standard.options()[option].column for option in OPTIONS}
    assert len(CASES) == 632  # cells with a code in Table E.1-1 of 2026d, but for the rows that stand for many tags


@pytest.mark.parametrize("nested", [False, True], ids=["top", "nested"])
@pytest.mark.parametrize(("option", "tag"), CASES, ids=[f"{option}-{tag:08X}" for option, tag in CASES])
def test_rows_with_a_code(monkeypatch: pytest.MonkeyPatch, option: str, tag: int, nested: bool) -> None:
    row = standard.confidentiality_table()[tag]
    spec = PlanSpec("one", options=frozenset((option,)))
    for type_ in TYPES:
        rule = rule_for(monkeypatch, spec, tag, type_, nested=nested)
        if untouchable(tag, nested=nested):
            assert rule.act in (Act.REMOVE, Act.PSEUDONYM)
            continue
        wanted = expected(option, tag, row, rule.vr, type_)
        if rule.vr == "SQ" and wanted is Act.DUMMY:
            assert rule.act is Act.DUMMY or (rule.act is Act.EMPTY and type_ not in ("1", "1C"))
        else:
            assert rule.act is wanted, f"{rule.act.name}, {rule.provenance}"
        assert rule.on_hit is {"1": Act.DUMMY, "1C": Act.DUMMY, "3": Act.REMOVE}.get(type_, Act.EMPTY)


@pytest.mark.parametrize("option", OPTIONS)
def test_rows_without_a_code_are_the_basic_profiles(option: str) -> None:
    basic = compile_plan(PlanSpec("basic"), CT).root
    chosen = compile_plan(PlanSpec("one", options=frozenset((option,))), CT).root
    with_code = {tag for tag, _ in coded(option)}
    tags = [tag for tag in standard.confidentiality_table() if tag not in with_code] + sorted(MASKED.values())
    for tag in tags:
        assert (chosen[tag].act, chosen[tag].type) == (basic[tag].act, basic[tag].type), f"{tag:08X}"


@pytest.mark.parametrize("times", ["shift", "round"])
def test_times_of_day_move_where_the_profile_says_so(times: str) -> None:
    spec = PlanSpec("one", options=frozenset((MODIFIED,)), times=times)
    node = compile_plan(spec, CT).root
    moved = [tag for tag, _ in coded(MODIFIED) if node[tag].vr == "TM" and tag not in never_shift()]
    assert len(moved) > 30
    assert {node[tag].act for tag in moved} == {Act.SHIFT}


def test_all_options_together_that_do_not_exclude_each_other() -> None:
    """The careful one of two codes wins, and nothing is neither."""
    options = frozenset(OPTIONS) - {"retain-longitudinal-full-dates"}
    node = compile_plan(PlanSpec("all", options=options), CT).root
    for tag, row in standard.confidentiality_table().items():
        codes = {
            row.options[standard.options()[one].column]
            for one in options
            if standard.options()[one].column in row.options
        }
        if codes == {"K", "C"} and not untouchable(tag, nested=False):
            assert node[tag].act is not Act.KEEP or node[tag].vr in ("CS", "TM"), f"{tag:08X}"
