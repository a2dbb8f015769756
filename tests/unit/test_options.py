"""What the options of a profile make of whole objects, and that the verifier lets nothing else pass."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pydicom
import pytest
from orthanc_deid.core import changes
from orthanc_deid.core.actions import Rewriter
from orthanc_deid.core.errors import Quarantined
from orthanc_deid.core.profile import Profile
from orthanc_deid.core.uids import map_uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests import builders
from tests.engine import SUBJECT, deidentify, outcome, report, shipped
from tests.objects.base import origin
from tests.objects.documents import sr_comprehensive
from tests.objects.images import ct

MODIFIED = "retain-longitudinal-modified-dates"
NATIVE = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]


def profile(*options: str, **more: Any) -> Profile:
    return Profile.parse({"name": "test", "options": list(options), **more})


def image(**attributes: Any) -> Dataset:
    dataset = ct(origin(1, 1, 1, 1), rows=8, columns=8)
    dataset.StudyDate, dataset.StudyTime = "20200131", "101530.25"
    dataset.AcquisitionDateTime = "20200131101700.5"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def made(dataset: Dataset, chosen: Profile, syntax: str = NATIVE[1]) -> Dataset:
    return pydicom.dcmread(io.BytesIO(deidentify(builders.to_bytes(dataset, syntax), profile=chosen)))


@pytest.mark.parametrize("syntax", NATIVE)
def test_dates_move_by_the_subjects_offset_and_times_stay(syntax: str) -> None:
    out = made(image(), profile(MODIFIED), syntax)
    assert out.StudyDate == "20160914"  # 1234 days earlier
    assert out.StudyTime == "101530.25"
    assert out.AcquisitionDateTime == "20160914101700.5"
    assert out.LongitudinalTemporalInformationModified == "MODIFIED"
    assert [code.CodeValue for code in out.DeidentificationMethodCodeSequence] == ["113100", "113107"]


def test_weekdays_stay_with_whole_weeks() -> None:
    out = made(image(), profile(MODIFIED, dates={"whole-weeks": True}))
    days = (pydicom.valuerep.DA("20200131") - pydicom.valuerep.DA(out.StudyDate)).days
    assert days % 7 == 0 and 366 <= days <= 3650


def test_times_that_move_carry_their_date_over_midnight() -> None:
    dataset = image(StudyTime="235959")
    out = made(dataset, profile(MODIFIED, dates={"times": "shift"}))
    assert (out.StudyDate, out.StudyTime[:6]) == ("20160915", "000520")  # 321 seconds later


def test_full_dates_stay() -> None:
    out = made(image(), profile("retain-longitudinal-full-dates"))
    assert (out.StudyDate, out.AcquisitionDateTime) == ("20200131", "20200131101700.5")
    assert out.LongitudinalTemporalInformationModified == "UNMODIFIED"
    assert "PatientBirthDate" not in out or not out.PatientBirthDate


def test_uids_stay_with_the_option_and_only_then() -> None:
    source = image()
    data, made_report = report(builders.to_bytes(source), profile=profile("retain-uids"))
    out = pydicom.dcmread(io.BytesIO(data))
    assert out.SOPInstanceUID == out.file_meta.MediaStorageSOPInstanceUID == source.SOPInstanceUID
    assert (made_report.study_uid, made_report.series_uid) == (source.StudyInstanceUID, source.SeriesInstanceUID)
    assert made_report.sop_uid == source.SOPInstanceUID
    assert out.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_a_value_that_is_set_a_year_and_an_age() -> None:
    entries = [
        {"attribute": "StationName", "action": "set", "value": "SCANNER", "reason": "one for all"},
        {"attribute": "StudyDate", "action": "year", "reason": "the year only"},
    ]
    chosen = profile("retain-patient-characteristics", ages={"cap": 89}, attributes=entries)
    out = made(image(PatientAge="093Y", StationName="ROOM4"), chosen)
    assert (out.StationName, out.StudyDate, out.PatientAge) == ("SCANNER", "20200101", "090Y")
    assert made(image(PatientAge="044Y"), chosen).PatientAge == "044Y"
    assert "113100" not in [code.CodeValue for code in out.DeidentificationMethodCodeSequence]


def with_private(dataset: Dataset, creator: str, block: int = 0x10) -> Dataset:
    group = 0x0019
    dataset.add_new((group, block), "LO", creator)
    dataset.add_new((group, block << 8 | 0x0C), "IS", "1000")  # B value, safe by Table E.3.10-1
    dataset.add_new((group, block << 8 | 0x99), "LO", "Brimvexton")  # nobody says that this is safe
    return dataset


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("block", [0x10, 0x42])
def test_a_safe_private_element_stays_in_any_block_and_its_neighbour_goes(block: int, syntax: str) -> None:
    chosen = profile("retain-safe-private")
    out = made(with_private(image(), "SIEMENS MR HEADER", block), chosen, syntax)
    assert [int(element.tag) for element in out if element.tag.is_private] == [
        0x00190000 | block,
        0x00190000 | block << 8 | 0x0C,
    ]
    assert not [
        element for element in made(with_private(image(), "SIEMENS MR HEADER"), profile()) if element.tag.group & 1
    ]


def test_a_private_element_of_another_creator_goes_with_its_creator() -> None:
    out = made(with_private(image(), "SOMEBODY ELSE"), profile("retain-safe-private"))
    assert not [element for element in out if element.tag.is_private]


def test_a_profile_adds_and_takes_private_elements() -> None:
    own = {"attribute": "(0019,xx99)", "creator": "SOMEBODY ELSE", "action": "keep", "vr": "LO", "reason": "looked at"}
    dataset = with_private(image(), "SOMEBODY ELSE")
    dataset[0x0019, 0x1099].value = "CHEST"
    out = made(dataset, profile(attributes=[own]))
    assert out[0x0019, 0x1099].value == "CHEST" and (0x0019, 0x100C) not in out
    less = {"attribute": "(0019,xx0C)", "creator": "SIEMENS MR HEADER", "action": "remove", "reason": "not needed"}
    chosen = profile("retain-safe-private", attributes=[less])
    assert not [one for one in made(with_private(image(), "SIEMENS MR HEADER"), chosen) if one.tag.is_private]


def test_text_keeps_its_words_and_loses_the_subjects() -> None:
    dataset = image(StudyDescription="CT CHEST W CONTRAST", SeriesDescription="CHEST of Brimvexton 3.0 B30f")
    dataset.PatientName = "Brimvexton^Zzyxley"
    out = made(dataset, profile("clean-descriptors"))
    assert out.StudyDescription == "CT CHEST W CONTRAST"
    assert "brimvexton" not in out.SeriesDescription.casefold()
    assert "CHEST" in out.SeriesDescription and "B30f" in out.SeriesDescription


def test_a_value_known_from_a_sequence_only_is_cleaned_too() -> None:
    """The first round does not know it yet: it stands behind the text that holds it."""
    item = Dataset()
    item.RequestedProcedureID = "QX7788123"
    dataset = image(SeriesDescription="CHEST QX7788123", RequestAttributesSequence=Sequence([item]))
    data = deidentify(builders.to_bytes(dataset), profile=profile("clean-descriptors"))
    assert b"QX7788123" not in data


def test_text_that_still_tells_after_cleaning_goes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "clean_value", lambda _vr, _tag, value, *_: value)
    dataset = image(SeriesDescription="CHEST of Brimvexton")
    dataset.PatientName = "Brimvexton^Zzyxley"
    data = deidentify(builders.to_bytes(dataset), profile=profile("clean-descriptors"))
    assert b"Brimvexton" not in data


class _Sabotage(Rewriter):
    """Writes changed values that nobody asked for."""

    def _change(self, walker: Any, element: Any, *more: Any) -> bytes | None:
        new = super()._change(walker, element, *more)
        return new.replace(b"2016", b"2017") if new else new


def test_a_date_that_moved_otherwise_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthanc_deid.core.deidentify.Rewriter", _Sabotage)
    assert outcome(builders.to_bytes(image()), profile=profile(MODIFIED)) == (None, "verify-failed")


def test_a_date_that_did_not_move_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "shift_value", lambda _vr, value, *_: value)
    with pytest.raises(Quarantined) as caught:
        deidentify(builders.to_bytes(image()), profile=profile(MODIFIED))
    assert caught.value.reason == "verify-failed"


class _Smuggler(Rewriter):
    """Lets every private element pass."""

    def run(self) -> list[Any]:
        pieces = super().run()
        private = b"\x19\0\x10\0LO\x12\0SIEMENS MR HEADER \x19\0\x99\x10LO\x06\0smugly"
        return [
            piece.replace(b"\x20\0\x0d\0UI", private + b"\x20\0\x0d\0UI") if isinstance(piece, bytes) else piece
            for piece in pieces
        ]


def test_a_private_element_that_is_not_safe_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthanc_deid.core.deidentify.Rewriter", _Smuggler)
    for chosen in (profile(), profile("retain-safe-private")):
        with pytest.raises(Quarantined) as caught:
            deidentify(builders.to_bytes(image()), profile=chosen)
        assert caught.value.reason == "verify-failed" and (caught.value.tag or 0) >> 16 == 0x0019


def test_references_are_kept_where_the_profile_says_so() -> None:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = "1.2.826.0.1.3680043.10.9999.77"
    dataset = image(ReferencedImageSequence=Sequence([item]))
    assert "ReferencedImageSequence" not in made(dataset, profile())
    out = made(dataset, profile(references="keep"))
    assert out.ReferencedImageSequence[0].ReferencedSOPInstanceUID == map_uid(
        SUBJECT.uid_key, "1.2.826.0.1.3680043.10.9999.77"
    )
    assert "113100" not in [code.CodeValue for code in out.get("DeidentificationMethodCodeSequence", [])]


@pytest.mark.parametrize("name", ["basic", "research", "full-dates", "teaching-file", "ct-research-age-bands"])
@pytest.mark.parametrize("syntax", NATIVE)
def test_twice_gives_the_same(name: str, syntax: str) -> None:
    data = builders.to_bytes(image(), syntax)
    assert deidentify(data, profile=shipped(name)) == deidentify(data, profile=shipped(name))


@pytest.mark.parametrize("name", ["research", "full-dates", "radiotherapy"])
@pytest.mark.parametrize("value_type", ["DATE", "DATETIME"])
def test_a_date_of_birth_under_a_concept_of_the_senders_own_goes(value_type: str, name: str) -> None:
    dataset = sr_comprehensive(origin(1, 1, 1, 1))
    item, concept = Dataset(), Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "DOB", "99X", "Date"
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", value_type, Sequence([concept])
    setattr(item, "Date" if value_type == "DATE" else "DateTime", dataset.PatientBirthDate)
    dataset.ContentSequence.append(item)
    out = made(dataset, shipped(name))
    moved = pydicom.valuerep.DA(dataset.PatientBirthDate) + timedelta(days=SUBJECT.date_offset)
    dates = {str(one.get("Date", "")) or str(one.get("DateTime", ""))[:8] for one in out.ContentSequence}
    assert dates.isdisjoint({dataset.PatientBirthDate, moved.strftime("%Y%m%d")})


def test_text_of_very_many_values_goes_whole() -> None:
    dataset = image(SeriesDescription="CHEST")
    data = builders.to_bytes(dataset).replace(b"LO\x06\0CHEST ", b"LO\xc8\x19" + b"CHEST\\" * 1100)
    assert b"CHEST\\CHEST" in data
    assert b"CHEST\\CHEST" not in deidentify(data, profile=profile("clean-descriptors"))


@pytest.mark.parametrize("value", ["19310724", "1"])
def test_a_coding_schemes_uid_that_is_none_does_not_stay(value: str) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Chest"
    code.add_new(0x0008010C, "UI", value)
    data = builders.to_bytes(image(ProcedureCodeSequence=Sequence([code]), AnatomicRegionSequence=Sequence([code])))
    out = pydicom.dcmread(io.BytesIO(deidentify(data)))
    uid = out.AnatomicRegionSequence[0].CodingSchemeUID
    assert uid == map_uid(SUBJECT.uid_key, value)
