"""Content items by concept and by Value Type (PS3.15 section E.3.4)."""

from __future__ import annotations

import csv

import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.structured import content_codes

CLEAN = frozenset({"clean-structured-content"})
MODIFIED = CLEAN | {"retain-longitudinal-modified-dates", "clean-descriptors"}
FULL = CLEAN | {"retain-longitudinal-full-dates"}
DATETIME, DATE, TIME, PNAME, UIDREF, TEXT = (0x0040A120, 0x0040A121, 0x0040A122, 0x0040A123, 0x0040A124, 0x0040A160)
CODE, MEASURED, NUMERIC = 0x0040A168, 0x0040A300, 0x0040A30A
HOLDER = {"DATETIME": DATETIME, "DATE": DATE, "TIME": TIME, "PNAME": PNAME, "UIDREF": UIDREF, "TEXT": TEXT}
HOLDER |= {"CODE": CODE, "NUM": MEASURED}


def codes(value_type: str, code: str, scheme: str = "DCM", options: frozenset[str] = CLEAN) -> dict[int, str]:
    return dict(content_codes(value_type, code, scheme, options))


def table() -> list[dict[str, str]]:
    with (standard.FOLDER / "sr_content.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", [row for row in table() if row["value_type"] in HOLDER], ids=lambda row: row["code"])
def test_without_other_options_nothing_of_the_table_stays(row: dict[str, str]) -> None:
    code = codes(row["value_type"], row["code"], row["scheme"])[HOLDER[row["value_type"]]]
    assert code == {"UIDREF": "U", "NUM": "Z"}.get(row["value_type"], "D")


@pytest.mark.parametrize("option", [one for one in standard.options().values() if one.column], ids=lambda one: one.name)
def test_each_option_does_what_its_column_says(option: standard.Option) -> None:
    checked = 0
    for row in table():
        if row["value_type"] not in HOLDER or not row.get(option.column):
            continue
        if row["code"] in ("113723", "121033"):  # ours are stricter
            continue
        found = codes(row["value_type"], row["code"], row["scheme"], CLEAN | {option.name})
        expected = "SHIFT" if option.clean_act == "shift" else row[option.column]
        assert found[HOLDER[row["value_type"]]] == expected, row
        checked += 1
    assert checked or option.column in ("retain_safe_private", "clean_structured_content", "clean_graphics")


def test_concepts_outside_the_table_by_what_holds_their_value() -> None:
    plain = codes("TEXT", "99", "99LOCAL", MODIFIED)
    assert plain == {
        DATETIME: "SHIFT", DATE: "SHIFT", TIME: "SHIFT", PNAME: "D", UIDREF: "U", TEXT: "C", CODE: "K", MEASURED: "K",
        NUMERIC: "K", 0x0040A161: "K", 0x0040A162: "K", 0x0040A163: "K",
    }  # fmt: skip
    assert codes("DATE", "99", "99LOCAL", FULL)[DATE] == "K"
    assert codes("DATE", "99", "99LOCAL")[DATE] == "D"
    assert codes("TEXT", "99", "99LOCAL")[TEXT] == "D"
    assert codes("UIDREF", "99", "99LOCAL", CLEAN | {"retain-uids"})[UIDREF] == "K"


@pytest.mark.parametrize(
    ("code", "value_type"),
    [("121008", "PNAME"), ("121022", "TEXT"), ("121029", "PNAME"), ("121030", "TEXT"), ("121031", "DATE")],
)
def test_what_identifies_goes_whatever_the_options(code: str, value_type: str) -> None:
    options = frozenset(standard.options())
    assert codes(value_type, code, options=options)[HOLDER[value_type]] == "D"


def test_an_identifying_concept_goes_under_another_value_type_too() -> None:
    options = frozenset(standard.options())
    assert codes("TEXT", "121031", options=options)[TEXT] == "D"  # birth date as text
    assert codes("CODE", "121022", options=options)[CODE] == "D"
    assert codes("NUM", "121030", options=options)[MEASURED] == "Z"
    assert codes("TEXT", "121029 ", options=options)[TEXT] == "D"


def test_a_finding_is_a_text_to_clean_or_a_code_to_keep() -> None:
    assert codes("TEXT", "121071", options=MODIFIED)[TEXT] == "C"
    assert codes("CODE", "121071", options=MODIFIED)[CODE] == "K"


def test_devices_stay_with_their_option_only() -> None:
    assert codes("TEXT", "121016")[TEXT] == "D"
    assert codes("TEXT", "110119", options=CLEAN | {"retain-device-identity"})[TEXT] == "K"
    assert codes("TEXT", "121014", options=MODIFIED)[TEXT] == "C"  # a manufacturer: not in the table


def test_of_two_options_the_careful_one_decides() -> None:
    assert codes("TEXT", "121122", options=CLEAN | {"retain-device-identity"})[TEXT] == "K"
    assert codes("TEXT", "121122", options=CLEAN | {"retain-device-identity", "clean-descriptors"})[TEXT] == "C"


def test_calibration_is_never_moved() -> None:
    assert codes("DATETIME", "113723", options=MODIFIED)[DATETIME] == "D"
    assert codes("DATETIME", "113723", options=FULL)[DATETIME] == "K"
    assert codes("DATETIME", "113809", options=MODIFIED)[DATETIME] == "SHIFT"


def test_ages_never_stay_and_weights_stay_with_their_option() -> None:
    keeps = CLEAN | {"retain-patient-characteristics"}
    assert codes("NUM", "121033", options=keeps)[MEASURED] == "Z"
    assert codes("NUM", "27113001", "SCT", keeps)[MEASURED] == "K"
    assert codes("NUM", "27113001", "SCT")[MEASURED] == "Z"
    assert codes("CODE", "121032", options=keeps)[CODE] == "K"


def test_unknown_value_types_keep_no_value() -> None:
    assert set(codes("POEM", "99", "99LOCAL", frozenset(standard.options())).values()) <= {"D", "U", "Z"}
    assert codes("", "99", "99LOCAL")[NUMERIC] == "K"  # Acquisition Context does not need a Value Type


def test_results_are_few_and_hashable() -> None:
    results = {content_codes(row["value_type"], row["code"], row["scheme"], MODIFIED) for row in table()}
    assert len(results) < 12
    assert hash(next(iter(results)))
