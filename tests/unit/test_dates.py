"""Dates and times move by the subject's offset, in every form they come in, and nothing that is no date passes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.dates import (
    MASK,
    Shift,
    dated_text,
    dateless,
    never_shift,
    parse_zone,
    partner_of,
    shift_text,
    shift_value,
    whole_weeks,
    year_value,
)

KEEP = Shift(-1000, -18000, "keep")
SHIFT = Shift(-1000, -18000, "shift")  # five hours
ROUND = Shift(-1000, -18000, "round")
TABLES = Path(standard.FOLDER)


# --- DA, TM, DT ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"20200312", b"20170616"),
        (b"20200312 ", b"20170616"),
        (b"2020.03.12", b"2017.06.16"),
        (b"2020-03-12", b"20170616"),
        (b"2020/03/12", b"20170616"),
        (b"20200229", b"20170604"),
        (b"20200312\\20200313", b"20170616\\20170617"),
        (b"20200312\\", b"20170616\\"),
        (b"20200312-20200412", b"20170616-20170717"),
        (b"20200312-", b"20170616-"),
        (b"-20200312", b"-20170616"),
        (b"", b""),
        (b"        ", b""),
    ],
)
@pytest.mark.parametrize("shift", [KEEP, SHIFT, ROUND], ids=lambda shift: shift.times)
def test_dates_move_by_days(value: bytes, expected: bytes, shift: Shift) -> None:
    assert shift_value(b"DA", value, shift) == expected


NO_DATES = [b"20201301", b"20200230", b"2020", b"202003", b"00000000", b"today", b"-", b"\\x", b"20200312\\never"]
NO_DATES += [b"2020.0312", b"20200312120000", b"99999999", b"\xb2020031", b"0020200312", b"20200312-x"]


@pytest.mark.parametrize("value", NO_DATES)
def test_what_is_no_date_is_none(value: bytes) -> None:
    assert shift_value(b"DA", value, KEEP) is None


@pytest.mark.parametrize(
    "value", [b"00010101", b"19000101", b"19700101", b"19800101", b"20000101", b"99991231", b"18991230"]
)
def test_what_stands_for_no_date_does_not_show_the_offset(value: bytes) -> None:
    assert shift_value(b"DA", value, KEEP) is None
    assert shift_value(b"DT", value + b"101500", KEEP) is None
    written = value.decode()
    assert shift_text(f"on {written[:4]}-{written[4:6]}-{written[6:]}", KEEP) in (
        f"on {MASK}",
        f"on {written[:4]}-{written[4:6]}-{written[6:]}",
    )


@pytest.mark.parametrize("vr", [b"OB", b"SH", b"UN", b"LO", b"SQ", b"AS"])
def test_other_vrs_hold_no_dates(vr: bytes) -> None:
    assert shift_value(vr, b"20200312", KEEP) is None
    assert year_value(vr, b"20200312") is None


@pytest.mark.parametrize(
    ("value", "kept", "shifted", "rounded"),
    [
        (b"143005", b"143005", b"093005", b"140000"),
        (b"143005.123456", b"143005.123456", b"093005.123456", b"140000"),
        (b"143005.1234567", b"143005.123456", b"093005.123456", b"140000"),
        (b"1430", b"1430", b"0930", b"1400"),
        (b"14", b"14", b"09", b"14"),
        (b"030000", b"030000", b"220000", b"030000"),
        (b"14:30:05", b"14:30:05", b"09:30:05", b"14:00:00"),
        (b"14:30", b"14:30", b"09:30", b"14:00"),
        (b"143005\\150000", b"143005\\150000", b"093005\\100000", b"140000\\150000"),
        (b"143005-150000", b"143005-150000", b"093005-100000", b"140000-150000"),
        (b"235960", b"235960", b"190000", b"240000"),
        (b"", b"", b"", b""),
    ],
)
def test_times_are_kept_shifted_or_rounded(value: bytes, kept: bytes, shifted: bytes, rounded: bytes) -> None:
    assert shift_value(b"TM", value, KEEP) == kept
    assert shift_value(b"TM", value, SHIFT) == shifted
    if value != b"235960":
        assert shift_value(b"TM", value, ROUND) == rounded


@pytest.mark.parametrize("value", [b"250000", b"126000", b"12:3005", b"noon", b"1", b"120", b"120000.", b"240000"])
def test_what_is_no_time_is_none(value: bytes) -> None:
    for shift in (KEEP, SHIFT, ROUND):
        assert shift_value(b"TM", value, shift) is None


@pytest.mark.parametrize("value", [b"000000", b"000000.000", b"0000", b"00"])
def test_a_midnight_that_was_filled_in_does_not_show_the_seconds(value: bytes) -> None:
    assert shift_value(b"TM", value, SHIFT) is None
    assert shift_value(b"TM", value, KEEP) == value
    assert shift_value(b"DA", b"20200312", SHIFT, value) == b"20170616"
    assert shift_value(b"DT", b"20200312" + value, SHIFT) == b"20170616"
    assert shift_value(b"DT", b"20200312" + value, KEEP) == b"20170616" + value


@pytest.mark.parametrize(
    ("partner", "expected"),
    [
        (None, b"20170616"),
        (b"143005", b"20170616"),
        (b"050000", b"20170616"),
        (b"045959", b"20170615"),
        (b"000001.5 ", b"20170615"),
        (b"0459", b"20170615"),
        (b"04", b"20170615"),
        (b"noon", b"20170616"),
        (b"", b"20170616"),
        (b"030000\\150000", b"20170616"),  # two times for one day
    ],
)
def test_the_day_changes_with_its_time(partner: bytes | None, expected: bytes) -> None:
    assert shift_value(b"DA", b"20200312", SHIFT, partner) == expected
    assert shift_value(b"DA", b"20200312", KEEP, partner) == b"20170616"


def test_several_days_change_with_their_times() -> None:
    assert shift_value(b"DA", b"20200312\\20200312", SHIFT, b"030000\\150000") == b"20170615\\20170616"


@pytest.mark.parametrize(
    ("value", "kept", "shifted", "rounded"),
    [
        (b"20200312143005", b"20170616143005", b"20170616093005", b"20170616140000"),
        (b"20200312030000", b"20170616030000", b"20170615220000", b"20170616030000"),
        (b"20200312143005.123456", b"20170616143005.123456", b"20170616093005.123456", b"20170616140000"),
        (b"202003121430", b"201706161430", b"201706160930", b"201706161400"),
        (b"2020031214", b"2017061614", b"2017061609", b"2017061614"),
        (b"20200312", b"20170616", b"20170616", b"20170616"),
        (b"202003", b"201706", b"201706", b"201706"),
        (b"2020", b"2017", b"2017", b"2017"),
        (b"20200312143005+0200", b"20170616143005", b"20170616093005", b"20170616140000"),
        (b"2020+0200", b"2017", b"2017", b"2017"),
        (b"2020-0500", b"2017", b"2017", b"2017"),
        (b"2020-03-12T14:30:05Z", b"20170616143005", b"20170616093005", b"20170616140000"),
        (b"2020-03-12 14:30", b"201706161430", b"201706160930", b"201706161400"),
        (
            b"20200312143005-20200313",
            b"20170616143005-20170617",
            b"20170616093005-20170617",
            b"20170616140000-20170617",
        ),
    ],
)
def test_moments_move_in_their_precision(value: bytes, kept: bytes, shifted: bytes, rounded: bytes) -> None:
    assert shift_value(b"DT", value, KEEP) == kept
    assert shift_value(b"DT", value, SHIFT) == shifted
    assert shift_value(b"DT", value, ROUND) == rounded


@pytest.mark.parametrize("value", [b"20201312", b"20200312250000", b"now", b"2020031", b"20200312143005+9900", b"0000"])
def test_what_is_no_moment_is_none(value: bytes) -> None:
    assert shift_value(b"DT", value, KEEP) is None


@pytest.mark.parametrize(
    ("value", "zone", "expected"),
    [
        (b"20200312143005+0200", 60, b"20170616133005"),
        (b"20200312003000+0200", 60, b"20170615233000"),
        (b"20200312233000-0500", 60, b"20170617053000"),
        (b"20200312143005+0000", -210, b"20170616110005"),
        (b"2020031214+0530", 0, b"2017061609"),
        (b"20200312143005", 60, b"20170616143005"),
        (b"20200312+0200", 60, b"20170616"),
    ],
)
def test_the_zone_of_the_data_set_is_applied_and_dropped(value: bytes, zone: int, expected: bytes) -> None:
    assert shift_value(b"DT", value, Shift(-1000, 0, "keep", zone)) == expected


@pytest.mark.parametrize(
    ("value", "minutes"),
    [(b"+0100", 60), (b"-0330 ", -210), (b"+0000\0", 0), (b"+1400", 840), (b"0100", None), (b"CET", None), (b"", None)],
)
def test_zones_are_read(value: bytes, minutes: int | None) -> None:
    assert parse_zone(value) == minutes


@pytest.mark.parametrize("year", [1901, 1902, 2099])
def test_dates_at_the_ends_of_the_range_still_move(year: int) -> None:
    assert shift_value(b"DA", b"%d0305" % year, Shift(-3650, 0, "keep")) is not None


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        (b"DA", b"20200312", b"20200101"),
        (b"DA", b"2020.03.12", b"20200101"),
        (b"DA", b"20200312\\20190312", b"20200101\\20190101"),
        (b"DA", b"20200312-20210312", b"20200101-20210101"),
        (b"DA", b"", b""),
        (b"DA", b"20201399", None),
        (b"DT", b"20200312143005.5+0200", b"2020"),
        (b"DT", b"202003", b"2020"),
        (b"DT", b"2020", b"2020"),
        (b"DT", b"2020-03-12T14:30", b"2020"),
        (b"DT", b"soon", None),
        (b"TM", b"143005", None),
    ],
)
def test_only_the_year_stays(vr: bytes, value: bytes, expected: bytes | None) -> None:
    assert year_value(vr, value) == expected


def test_whole_weeks_stay_within_the_range() -> None:
    for days in range(-3650, -365):
        weeks = whole_weeks(days)
        assert weeks % 7 == 0
        assert -3650 <= weeks <= -366
        assert abs(weeks - days) <= 5
    # Frozen: another rounding would tear follow-up studies apart.
    assert [whole_weeks(days) for days in (-3650, -3646, -2000, -1000, -372, -366)] == [
        -3647,
        -3647,
        -2002,
        -1001,
        -371,
        -371,
    ]


# --- tables --------------------------------------------------------------------------------------------------------


def table(name: str) -> list[dict[str, str]]:
    with (TABLES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_constants_are_rows_of_the_table_that_would_move() -> None:
    for row in table("never_shift.csv"):
        found = standard.table_row(int(row["tag"], 16))
        known = standard.attribute(int(row["tag"], 16))
        assert found is not None and known is not None
        assert found.options.get("retain_longitudinal_modified_dates") == "C", row["tag"]
        assert (known.keyword, known.vr) == (row["keyword"], row["vr"])
        assert row["reason"]
    assert len(never_shift()) == len(table("never_shift.csv"))


def test_what_may_stay_beside_moved_dates_says_nothing_of_the_day() -> None:
    stay, never = (
        {entry.keyword for tag in tags if (entry := standard.attribute(tag)) is not None}
        for tags in (dateless(), never_shift())
    )
    assert {"ContextGroupVersion", "TemplateVersion", "DateOfInstallation"} <= stay <= never
    assert not any("Calibration" in name or "Source" in name or "Timezone" in name for name in stay)


def test_every_attribute_that_the_table_moves_is_movable_or_a_constant() -> None:
    for tag, row in standard.confidentiality_table().items():
        if row.options.get("retain_longitudinal_modified_dates") == "C" and tag not in never_shift():
            known = standard.attribute(tag)
            assert known is not None and known.vr in ("DA", "TM", "DT"), f"{tag:08X}"


def test_what_is_about_the_subject_moves() -> None:
    wanted = [
        "StudyDate",
        "AcquisitionDateTime",
        "RadiopharmaceuticalStartTime",
        "TreatmentDate",
        "DateTime",
        "Date",
        "Time",
    ]
    wanted += [
        "ContrastBolusStartTime",
        "PerformedProcedureStepStartDate",
        "DecayCorrectionDateTime",
        "StructureSetDate",
    ]
    assert not never_shift() & {standard.tags_by_keyword()[keyword] for keyword in wanted}


@pytest.mark.parametrize("words", ["Calibration", "Manufacture", "Installation", "Version"])
def test_no_date_of_a_device_or_a_coding_scheme_moves(words: str) -> None:
    for tag, row in standard.confidentiality_table().items():
        if row.options.get("retain_longitudinal_modified_dates") == "C" and words in row.name:
            assert tag in never_shift(), row.name


def test_dates_move_in_texts_about_the_subject_only() -> None:
    for row in table("dated_text.csv"):
        known = standard.attribute(int(row["tag"], 16))
        assert known is not None and (known.keyword, known.vr) == (row["keyword"], row["vr"])
        assert known.vr in ("LO", "SH", "ST", "LT", "UT", "UC") and row["reason"]
    assert {0x0040A160, 0x00104000, 0x00204000} <= dated_text()
    shared = [
        "ProtocolName",
        "SoftwareVersions",
        "SeriesDescription",
        "StudyDescription",
        "AcquisitionProtocolDescription",
    ]
    assert not dated_text() & {standard.tags_by_keyword()[keyword] for keyword in shared}


def test_pairs_are_a_date_and_the_time_on_its_day() -> None:
    for row in table("date_time_pairs.csv"):
        date, time = (standard.attribute(int(row[key], 16)) for key in ("date_tag", "time_tag"))
        assert date is not None and time is not None
        assert (date.keyword, date.vr, time.keyword, time.vr) == (row["date_keyword"], "DA", row["time_keyword"], "TM")
        assert partner_of(int(row["date_tag"], 16)) == int(row["time_tag"], 16)
    assert partner_of(0x00080020) == 0x00080030
    assert partner_of(0x00080030) is None


def test_every_date_that_moves_has_its_time_if_there_is_one() -> None:
    times = {entry.keyword: tag for tag, entry in standard.dictionary().items() if entry.vr == "TM"}
    for tag, row in standard.confidentiality_table().items():
        known = standard.attribute(tag)
        if row.options.get("retain_longitudinal_modified_dates") == "C" and known is not None and known.vr == "DA":
            time = times.get(known.keyword.replace("Date", "Time"))
            # Date and Time of content items stand in items of their own.
            if time is not None and tag not in never_shift() and known.keyword != "Date":
                assert partner_of(tag) == time, known.keyword


@pytest.mark.parametrize("written", ["CHEST 2V 03/28/12", "CHEST 1 V 28/03/12", "VB13 03-28-12"])
def test_a_date_behind_two_views_is_no_version(written: str) -> None:
    assert written[-8:] not in shift_text(written, KEEP)
