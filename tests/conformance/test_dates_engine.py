"""Moved dates in whole objects: what is measured from them (uptake, intervals, ages) is the same before and after."""

from __future__ import annotations

import io
from datetime import date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import pydicom
import pytest
from orthanc_deid.core.deidentify import Subject
from orthanc_deid.core.profile import Profile, ProfileError
from pydicom.dataset import Dataset

from tests import builders
from tests.builders import Origin, code, extend, make, person
from tests.engine import deidentify, shipped

PATIENT = person(4, birth_date="19580614")
SUBJECT = Subject("PSEUDO7X4QK9M2TW", bytes(range(32)), date_offset=-1234, time_offset=-30000)
MODIFIED = "retain-longitudinal-modified-dates"


@cache
def profile(times: str, weeks: bool = False, attributes: tuple[tuple[str, str], ...] = ()) -> Profile:
    """As `research`, but for the dates."""
    return Profile.parse(
        {
            "name": "dates",
            "options": [MODIFIED, "retain-patient-characteristics", "clean-descriptors", "clean-structured-content"],
            "dates": {"times": times, "whole-weeks": weeks},
            "attributes": [
                {"attribute": keyword, "action": action, "reason": "tested"} for keyword, action in attributes
            ],
        }
    )


def through(dataset: Dataset, profile: Profile, subject: Subject = SUBJECT) -> Any:
    return pydicom.dcmread(io.BytesIO(deidentify(builders.to_bytes(dataset), subject, profile)))


def moment(day: str, time: str) -> datetime:
    form = "%Y%m%d%H%M%S" + (".%f" if "." in time else "")
    return datetime.strptime(day + time, form)


# --- PET -----------------------------------------------------------------------------------------------------------


def pet(injected: datetime, acquired: datetime, zone: str = "", suffix: str = "") -> Dataset:
    """A PET slice; `zone` is the data set's Timezone Offset From UTC, `suffix` that of its DT values."""
    dataset = builders.pt(Origin(PATIENT))
    for kind in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{kind}Date", f"{acquired:%Y%m%d}")
        setattr(dataset, f"{kind}Time", f"{acquired:%H%M%S.%f}")
    drug = dataset.RadiopharmaceuticalInformationSequence[0]
    drug.RadiopharmaceuticalStartTime = f"{injected:%H%M%S.%f}"
    drug.RadiopharmaceuticalStopTime = f"{injected + timedelta(seconds=20):%H%M%S.%f}"
    drug.RadiopharmaceuticalStartDateTime = f"{injected:%Y%m%d%H%M%S.%f}{suffix}"
    if zone:
        dataset.TimezoneOffsetFromUTC = zone
    return dataset


def suv_factor(dataset: Any, *, by_moment: bool) -> float:
    """Body-weight SUV per Bq/ml, as viewers compute it: dose decayed from injection to the start of the series."""
    drug = dataset.RadiopharmaceuticalInformationSequence[0]
    start = moment(dataset.SeriesDate, dataset.SeriesTime)
    if by_moment:
        stamp = drug.RadiopharmaceuticalStartDateTime
        injected = moment(stamp[:8], stamp[8:])
    else:
        injected = moment(dataset.SeriesDate, drug.RadiopharmaceuticalStartTime)
        if injected > start:
            injected -= timedelta(days=1)
    waited = (start - injected).total_seconds()
    dose = float(drug.RadionuclideTotalDose) * 2 ** (-waited / float(drug.RadionuclideHalfLife))
    return float(dataset.PatientWeight) * 1000 / dose


UPTAKES = [
    (datetime(2019, 3, 5, 9, 2, 11, 250000), datetime(2019, 3, 5, 10, 4, 59, 500000)),
    (datetime(2019, 3, 5, 23, 40, 0), datetime(2019, 3, 6, 0, 41, 7)),  # across midnight
    (datetime(2019, 3, 5, 7, 30, 0), datetime(2019, 3, 5, 9, 0, 30)),  # across midnight once it has moved
    (datetime(2019, 12, 31, 23, 59, 59), datetime(2020, 1, 1, 0, 50, 0)),
]


@pytest.mark.parametrize("times", ["research", "keep", "shift"])
@pytest.mark.parametrize(("injected", "acquired"), UPTAKES[:3], ids=lambda when: f"{when:%H%M}")
def test_suv_is_the_same_before_and_after(injected: datetime, acquired: datetime, times: str) -> None:
    before = pet(injected, acquired)
    after = through(before, shipped("research") if times == "research" else profile(times))
    assert after.SeriesDate != before.SeriesDate
    for by_moment in (True, False):
        assert suv_factor(after, by_moment=by_moment) == suv_factor(before, by_moment=by_moment)
    assert after.AcquisitionTime == after.SeriesTime
    if times != "shift":
        assert after.SeriesTime == before.SeriesTime
    for keyword in ("DecayCorrection", "DecayFactor", "FrameReferenceTime", "ActualFrameDuration", "Units"):
        assert after[keyword].value == before[keyword].value
    assert after.PixelData == before.PixelData


def test_suv_is_the_same_where_the_injection_is_written_in_another_zone() -> None:
    """The scanner's DT says UTC, its DA and TM local time: after the zone is gone, one clock is left."""
    injected, acquired = UPTAKES[0]
    local = pet(injected, acquired)
    before = pet(injected - timedelta(hours=1), acquired, zone="+0100", suffix="+0000")
    before.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = f"{injected:%H%M%S.%f}"
    for times in ("keep", "shift"):
        after = through(before, profile(times))
        assert "TimezoneOffsetFromUTC" not in after
        for by_moment in (True, False):
            assert suv_factor(after, by_moment=by_moment) == suv_factor(local, by_moment=by_moment)


def test_rounded_times_are_whole_hours() -> None:
    after = through(pet(*UPTAKES[0]), profile("round"))
    drug = after.RadiopharmaceuticalInformationSequence[0]
    assert (after.SeriesTime, drug.RadiopharmaceuticalStartTime) == ("100000", "090000")
    assert drug.RadiopharmaceuticalStartDateTime[8:] == "090000"


def test_contrast_phases_keep_their_distance() -> None:
    before = builders.ct(Origin(PATIENT))
    extend(before, ContrastBolusStartTime="235930", ContrastBolusStopTime="235950", ContrastBolusAgent="Iomeprol")
    before.AcquisitionTime = "000012"
    for times in ("keep", "shift"):
        after = through(before, profile(times))
        clocks = [
            [
                datetime.strptime(one[keyword].value[:6], "%H%M%S")
                for keyword in ("ContrastBolusStartTime", "ContrastBolusStopTime", "AcquisitionTime")
            ]
            for one in (before, after)
        ]
        waits = [[(b - a).seconds for a, b in pairwise(row)] for row in clocks]
        assert waits[0] == waits[1] == [20, 22]


# --- studies of one subject ----------------------------------------------------------------------------------------


def dated(dataset: Any) -> dict[str, str]:
    """Every DA and DT of a data set by its path, sequences entered."""
    found: dict[str, str] = {}

    def look(level: Any, path: str) -> None:
        for element in level:
            if element.VR == "SQ":
                for index, item in enumerate(element.value):
                    look(item, f"{path}{element.keyword}[{index}].")
            elif element.VR in ("DA", "DT") and element.value:
                found[path + element.keyword] = str(element.value)

    look(dataset, "")
    return found


@pytest.mark.parametrize(("times", "weeks"), [("keep", False), ("keep", True), ("shift", False), ("shift", True)])
def test_intervals_between_all_dates_of_all_studies_stay(times: str, weeks: bool) -> None:
    chosen = profile(times, weeks)
    days: list[tuple[datetime, datetime]] = []
    for study, build in enumerate(
        (builders.ct, builders.mr, builders.enhanced_ct, builders.rtstruct, builders.sr_comprehensive)
    ):
        before = build(Origin(PATIENT, study=study + 1))
        after = through(before, chosen)
        old, new = dated(before), dated(after)
        assert {"StudyDate", "SeriesDate"} & new.keys() or "StudyDate" in new
        for path in old.keys() & new.keys():
            if len(old[path]) < 8 or new[path].startswith("19000101"):
                continue
            clock = old[path][8:14].ljust(6, "0") if len(old[path]) > 8 else None
            if clock is None:
                time = path.replace("Date", "Time")
                clock = "120000" if "." in path or time not in before else str(before[time].value)[:6].ljust(6, "0")
                moved = "120000" if "." in path or time not in after else str(after[time].value)[:6].ljust(6, "0")
            else:
                moved = new[path][8:14].ljust(6, "0")
            days.append((moment(old[path][:8], clock), moment(new[path][:8], moved)))
    assert len(days) > 20
    offsets = {new - old for old, new in days}
    expected = timedelta(days=-1232 if weeks else -1234, seconds=-30000 if times == "shift" else 0)
    assert offsets <= {expected, timedelta(days=expected.days if times == "keep" else -1232 if weeks else -1234)}
    assert expected in offsets
    if weeks:
        assert all(old.weekday() == new.weekday() for old, new in days if times == "keep")


def test_no_date_comes_out_where_it_was_or_later() -> None:
    for build in (
        builders.ct,
        builders.pt,
        builders.rtplan,
        builders.sr_comprehensive,
        builders.gsps,
        builders.enhanced_mr,
    ):
        before = build(Origin(PATIENT))
        old = {value[:8] for value in dated(before).values()}
        for path, value in dated(through(before, shipped("research"))).items():
            if "De" in path and "Contributing" in path:
                continue
            assert value[:8] not in old, path
            assert value[:4] <= max(old)[:4], path


def test_dates_in_reports_move_and_in_protocols_are_masked() -> None:
    before = builders.sr_comprehensive(Origin(PATIENT, study=2))
    study = datetime.strptime(before.StudyDate, "%Y%m%d")
    prior = study - timedelta(days=100)
    before.ContentSequence.append(
        make(
            RelationshipType="CONTAINS",
            ValueType="TEXT",
            ConceptNameCodeSequence=[code("121071", "DCM", "Finding")],
            TextValue=f"Comparison with the study of {prior:%d.%m.%Y}. Lesion 12 mm, unchanged.",
        )
    )
    before.SeriesDescription = f"T2 TSE {prior:%Y-%m-%d}"
    after = through(before, shipped("research"))
    moved = datetime.strptime(after.StudyDate, "%Y%m%d") - timedelta(days=100)
    assert f"the study of {moved:%d.%m.%Y}. Lesion 12 mm, unchanged." in after.ContentSequence[-1].TextValue
    assert after.SeriesDescription.startswith("T2 TSE ")
    assert str(prior.year) not in after.SeriesDescription and str(moved.year) not in after.SeriesDescription


# --- constants and ages --------------------------------------------------------------------------------------------


def test_constants_of_the_device_do_not_move() -> None:
    before = builders.ct(Origin(PATIENT))
    extend(
        before,
        DateOfLastCalibration="20190301",
        TimeOfLastCalibration="060000",
        DateOfInstallation="20150301",
        TimezoneOffsetFromUTC="+0200",
        AnatomicRegionSequence=[code("69536005", "SCT", "Head")],
    )
    before.AnatomicRegionSequence[0].ContextGroupVersion = "20210217"
    before.AnatomicRegionSequence[0].ContextIdentifier = "4"
    for times in ("keep", "shift", "round"):
        after = through(before, profile(times))
        for keyword in (
            "DateOfLastCalibration",
            "TimeOfLastCalibration",
            "DateOfInstallation",
            "TimezoneOffsetFromUTC",
        ):
            assert not after.get(keyword), keyword
        assert after.AnatomicRegionSequence[0].get("ContextGroupVersion", "19000101000000") == "19000101000000"
    kept = through(before, shipped("research"))
    assert kept.AnatomicRegionSequence[0].ContextGroupVersion == "20210217"


@pytest.mark.parametrize("value", ["19000101", "19700101", "20000101"])
def test_dates_that_stand_for_none_do_not_move(value: str) -> None:
    before = builders.ct(Origin(PATIENT))
    before.AcquisitionDate = before.ContentDate = value
    after = through(before, shipped("research"))
    for keyword in ("AcquisitionDate", "ContentDate"):
        assert after.get(keyword, "") in ("", "19000101")


@pytest.mark.parametrize(
    "keyword",
    [
        "StudyDate",
        "DateOfLastCalibration",
        "CalibrationDateTime",
        "TimezoneOffsetFromUTC",
        "SourceStrengthReferenceDate",
    ],
)
@pytest.mark.parametrize("action", ["keep", "year"])
def test_a_true_date_beside_moved_ones_is_refused(keyword: str, action: str) -> None:
    with pytest.raises(ProfileError):
        profile("keep", attributes=((keyword, action),))


def years_between(born: str, then: str) -> int:
    day, birth = date.fromisoformat(then), date.fromisoformat(born)
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


@pytest.mark.parametrize("offset", [-366, -1000, -2222, -3650])
def test_the_age_follows_from_moved_birth_and_study_dates(offset: int) -> None:
    """A profile may move the birth date too. The days between stay; the age can differ on days around the birthday."""
    chosen = profile("keep", attributes=(("PatientBirthDate", "shift"),))
    subject = Subject(SUBJECT.pseudonym, SUBJECT.uid_key, date_offset=offset)
    before = builders.ct(Origin(PATIENT))
    before.PatientAge = f"{years_between(before.PatientBirthDate, before.StudyDate):03}Y"
    after = through(before, chosen, subject)
    assert after.PatientAge == before.PatientAge
    assert f"{years_between(after.PatientBirthDate, after.StudyDate):03}Y" == after.PatientAge
    lived = [date.fromisoformat(one.StudyDate) - date.fromisoformat(one.PatientBirthDate) for one in (before, after)]
    assert lived[0] == lived[1]


@pytest.mark.parametrize(("age", "expected"), [("047Y", "047Y"), ("089Y", "089Y"), ("093Y", "090Y"), ("007M", "007M")])
def test_research_caps_ages(age: str, expected: str) -> None:
    before = builders.mr(Origin(PATIENT))
    before.PatientAge = age
    after = through(before, shipped("research"))
    assert after.PatientAge == expected
    assert not after.get("PatientBirthDate")


@pytest.mark.parametrize(("age", "expected"), [("025Y", "025Y"), ("026Y", "030Y"), ("030Y", "030Y"), ("031Y", "035Y")])
def test_age_bands_of_the_two_stage_process(age: str, expected: str) -> None:
    before = builders.ct(Origin(PATIENT))
    before.PatientAge = age
    assert through(before, shipped("ct-research-age-bands")).PatientAge == expected


def test_one_subject_has_one_offset_in_all_profiles_of_a_project_but_for_whole_weeks() -> None:
    before = builders.ct(Origin(PATIENT))
    plain, weeks = (through(before, profile("keep", weeks)).StudyDate for weeks in (False, True))
    days = [(date.fromisoformat(one) - date.fromisoformat(before.StudyDate)).days for one in (plain, weeks)]
    assert days == [-1234, -1232]
