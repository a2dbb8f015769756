"""The shipped profiles are what they say: valid, explained as reviewed, stated in full, and true to their promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import date
from functools import cache
from pathlib import Path

import jsonschema
import pytest
from orthanc_deid import validity
from orthanc_deid.core import standard
from orthanc_deid.core.conformance import statement
from orthanc_deid.core.conformance_view import as_html, as_text
from orthanc_deid.core.dates import never_shift
from orthanc_deid.core.errors import tag_text
from orthanc_deid.core.explain import keyword, outcome, validate
from orthanc_deid.core.plan import Act, Node
from orthanc_deid.core.resolution import decide
from pydicom.dataset import Dataset
from ruamel.yaml import YAML

from tests import builders
from tests.engine import PROFILES, SUBJECT, deidentify, shipped
from tests.explained import GOLDEN, KEPT, explained, golden

NAMES = ("basic", "ct-research-age-bands", "full-dates", "radiotherapy", "research", "teaching-file")
SCHEMA = json.loads((PROFILES / "profile.schema.json").read_text("utf-8"))
GONE = {Act.REMOVE, Act.EMPTY, Act.DUMMY}


def made(profile: str, dataset: Dataset) -> Dataset:
    """What a profile makes of an object, read by pydicom."""
    return builders.read(deidentify(builders.to_bytes(dataset), profile=shipped(profile)))


@cache
def text(profile: str) -> str:
    """The statement in one line, so that it does not matter where lines are broken."""
    return " ".join(as_text(statement(shipped(profile))).split())


def test_these_profiles_ship() -> None:
    assert tuple(sorted(path.stem for path in PROFILES.glob("*.yaml"))) == NAMES
    assert set(KEPT) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_is_valid_and_says_what_it_is_for(name: str) -> None:
    path = PROFILES / f"{name}.yaml"
    assert validate(path) == []
    jsonschema.Draft202012Validator(SCHEMA).validate(YAML(typ="safe", pure=True).load(path.read_text("utf-8")))
    profile = shipped(name)
    assert profile.name == name
    assert len(profile.description) < 120
    assert len(profile.purpose) > 150


@pytest.mark.parametrize(("profile", "sop_class"), [(name, one) for name, ones in KEPT.items() for one in ones])
def test_a_profile_is_explained_as_it_was_reviewed(profile: str, sop_class: str) -> None:
    kept = golden(profile, sop_class).read_text("utf-8")
    assert explained(profile, sop_class) == kept, "renew with `python -m tests.explained`, then read the difference"


def test_no_golden_file_is_left_over() -> None:
    files = {path for path in GOLDEN.rglob("*") if path.is_file()}
    assert files == {golden(profile, one) for profile, ones in KEPT.items() for one in ones}


@pytest.mark.parametrize("name", NAMES)
def test_the_statement_names_every_deviation_with_its_reason(name: str) -> None:
    for tag, _code, _reason in shipped(name).spec.deviations:
        assert tag_text(tag) in text(name)
        assert keyword(tag) in text(name)
    sections = {section.title: section for section in statement(shipped(name)).sections}
    rows = [row for title in sections if "eviations" in title or "Conflicts" in title
            for row in (sections[title].table.rows if sections[title].table else ())]  # fmt: skip
    stated = {(row[0], row[-1]) for row in rows}
    assert {(tag_text(tag), reason) for tag, _code, reason in shipped(name).spec.deviations} <= stated


@pytest.mark.parametrize("name", NAMES)
def test_the_statement_has_a_row_for_every_attribute_that_is_decided_about(name: str) -> None:
    sections = {section.title: section for section in statement(shipped(name)).sections}

    def tags(title: str) -> set[str]:
        (found,) = [section for key, section in sections.items() if title in key]
        assert found.table is not None
        return {row[0] for row in found.table.rows}

    masked = {"(50xx,xxxx)", "(60xx,xxxx)", "(odd,xxxx)"}
    assert tags("Each attribute") >= {tag_text(tag) for tag in standard.confidentiality_table()} | masked
    assert tags("Keep list") == {tag_text(tag) for tag in standard.keep_list()}
    assert tags("Drop list") == {tag_text(tag) for tag in standard.drop_list()}
    assert tags("UID constants") == {tag_text(tag) for tag in standard.uid_constants()}


@pytest.mark.parametrize("name", NAMES)
def test_the_statement_claims_the_codes_that_outputs_carry_and_no_other(name: str) -> None:
    (section,) = [one for one in statement(shipped(name)).sections if "claimed" in one.title]
    assert section.table is not None
    assert [row[0] for row in section.table.rows] == sorted(standard.method_codes())
    claimed = {row[0] for row in section.table.rows if row[2] == "claimed"}
    assert claimed == {code for code, *_ in shipped(name).plan("1.2.840.10008.5.1.4.1.1.2").method_codes}
    assert ("113100" in claimed) == (name == "basic")
    output = made(name, builders.ct(rows=8, columns=8))
    assert {item.CodeValue for item in output.get("DeidentificationMethodCodeSequence") or ()} == claimed
    assert output.LongitudinalTemporalInformationModified == shipped(name).spec.temporal


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_whole_and_runs_nothing(name: str) -> None:
    page = as_html(statement(shipped(name)))
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"<(script|link|img|iframe|form)|https?://|url\(|<[^>]*\son\w+=", page)
    assert page.count("<section") == page.count("</section>") == len(statement(shipped(name)).sections) + 1
    assert page == as_html(statement(shipped(name)))


def test_digests_and_statements_do_not_depend_on_the_process() -> None:
    script = (
        "import sys; from orthanc_deid.core.profile import Profile;"
        "from orthanc_deid.core.conformance import statement; from orthanc_deid.core.conformance_view import as_html;"
        "profiles = [Profile.load(path) for path in sys.argv[1:]];"
        "print(*[one.digest for one in profiles]); print(*[as_html(statement(one)) for one in profiles])"
    )
    paths = [str(PROFILES / f"{name}.yaml") for name in NAMES]
    seen = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", script, *paths], env=environment, capture_output=True, check=True)
        seen.add(done.stdout)
    (output,) = seen
    assert output.splitlines()[0].decode() == " ".join(shipped(name).digest for name in NAMES)
    assert len({shipped(name).digest for name in NAMES}) == len(NAMES)


# What the profiles promise, over all attributes of the standard.


def acts(name: str) -> dict[int, str]:
    """The action code of every attribute of the data dictionary, at the top level."""
    choices = shipped(name).spec.choices
    dictionary = standard.dictionary()
    return {tag: decide(tag, one.vr, at_root=True, choices=choices).code for tag, one in dictionary.items()}


@pytest.mark.parametrize("name", NAMES)
def test_no_constant_moves(name: str) -> None:
    codes = acts(name)
    assert [tag_text(tag) for tag in never_shift() if codes.get(tag) == "SHIFT"] == []


@pytest.mark.parametrize("name", ["basic", "ct-research-age-bands", "teaching-file"])
def test_without_dates_nothing_of_a_date_but_the_year_is_left(name: str) -> None:
    dictionary = standard.dictionary()
    left = {tag: code for tag, code in acts(name).items() if dictionary[tag].vr in ("DA", "DT", "TM")}
    kept = {tag for tag, code in left.items() if code in ("K", "SHIFT", "C")}
    assert [tag_text(tag) for tag in sorted(kept)] == []
    assert any(code == "YEAR" for code in left.values()) == (name == "teaching-file")


def test_full_dates_keeps_every_date_of_the_option_and_moves_none() -> None:
    codes = acts("full-dates")
    column = standard.options()["retain-longitudinal-full-dates"].column
    for tag, row in standard.confidentiality_table().items():
        if row.options.get(column) == "K" and tag not in standard.always():
            assert codes.get(tag, "K") == "K", tag_text(tag)
    assert "SHIFT" not in codes.values()


@pytest.mark.parametrize("name", ["research", "radiotherapy"])
def test_modified_dates_keeps_no_date_but_the_versions_that_it_says(name: str) -> None:
    dictionary = standard.dictionary()
    deviating = {tag for tag, _code, _reason in shipped(name).spec.deviations}
    for tag, code in acts(name).items():
        if dictionary[tag].vr in ("DA", "DT") and code == "K":
            assert tag in deviating & never_shift(), tag_text(tag)


def test_age_bands_keep_nothing_about_the_patient_but_sex_and_age() -> None:
    codes = acts("ct-research-age-bands")
    group = {
        tag: code for tag, code in codes.items() if tag >> 16 == 0x0010 and tag in standard.confidentiality_table()
    }
    assert {keyword(tag) for tag, code in group.items() if code in ("K", "AGE", "C", "SHIFT")} == {
        "PatientSex",
        "PatientAge",
    }


def walk(node: Node, *path: str) -> Act:
    tags = [standard.tags_by_keyword()[word] for word in path]
    for tag in tags[:-1]:
        assert node[tag].act is Act.DESCEND, path
        child = node[tag].child
        assert child is not None
        node = child
    return node[tags[-1]].act


@pytest.mark.parametrize(
    ("sop_class", "path", "act"),
    [
        ("RT Structure Set", "StructureSetROISequence/ROIName", Act.CLEAN),
        ("RT Structure Set", "StructureSetROISequence/ROINumber", Act.KEEP),
        ("RT Structure Set", "StructureSetROISequence/ReferencedFrameOfReferenceUID", Act.UID),
        ("RT Structure Set", "ROIContourSequence/ContourSequence/ContourData", Act.KEEP),
        (
            "RT Structure Set",
            "ROIContourSequence/ContourSequence/ContourImageSequence/ReferencedSOPInstanceUID",
            Act.UID,
        ),
        ("RT Structure Set", "RTROIObservationsSequence/ROIObservationLabel", Act.CLEAN),
        ("RT Structure Set", "StructureSetLabel", Act.CLEAN),
        ("RT Plan", "RTPlanLabel", Act.CLEAN),
        ("RT Plan", "RTPlanDate", Act.SHIFT),
        ("RT Plan", "BeamSequence/BeamName", Act.CLEAN),
        ("RT Plan", "BeamSequence/TreatmentMachineName", Act.KEEP),
        ("RT Plan", "BeamSequence/ControlPointSequence/GantryAngle", Act.KEEP),
        ("RT Plan", "BeamSequence/ControlPointSequence/BeamLimitingDevicePositionSequence/LeafJawPositions", Act.KEEP),
        ("RT Plan", "ReferencedStructureSetSequence/ReferencedSOPInstanceUID", Act.UID),
        ("RT Plan", "FractionGroupSequence/ReferencedBeamSequence/BeamMeterset", Act.KEEP),
        ("RT Dose", "ReferencedRTPlanSequence/ReferencedSOPInstanceUID", Act.UID),
        ("RT Dose", "DoseGridScaling", Act.KEEP),
        ("RT Dose", "GridFrameOffsetVector", Act.KEEP),
        ("RT Beams Treatment Record", "TreatmentDate", Act.SHIFT),
    ],
)
def test_radiotherapy_keeps_geometry_references_and_the_machine_and_cleans_labels(
    sop_class: str, path: str, act: Act
) -> None:
    found = standard.find_sop_class(sop_class)
    assert found is not None
    assert walk(shipped("radiotherapy").plan(found.uid).root, *path.split("/")) is act


# What they do to objects.


@pytest.mark.parametrize(
    ("age", "band"), [("025Y", "025Y"), ("026Y", "030Y"), ("030Y", "030Y"), ("031Y", "035Y"), ("092Y", "090Y")]
)
def test_age_bands_give_the_upper_bound(age: str, band: str) -> None:
    source = builders.ct(rows=8, columns=8)
    source.PatientAge = age
    output = made("ct-research-age-bands", source)
    assert output.PatientAge == band
    assert output.PatientSex == source.PatientSex


def test_age_bands_overwrite_dates_and_numbers_by_constants() -> None:
    outputs = [made("ct-research-age-bands", builders.ct(builders.origin(one), rows=8, columns=8)) for one in (1, 2)]
    for output in outputs:
        assert output.StudyID == output.AccessionNumber == output.StationName == "CONFIDENTIAL"
        assert output.LongitudinalTemporalInformationModified == "REMOVED"
        assert output.StudyDate == output.SeriesDate == output.AcquisitionDate == output.ContentDate == "19000101"
    assert outputs[0].StudyDate == outputs[1].StudyDate
    assert outputs[0].FrameOfReferenceUID != outputs[1].FrameOfReferenceUID


def test_teaching_file_keeps_the_year_and_the_case() -> None:
    source = builders.ct(rows=8, columns=8)
    source.PatientAge = "094Y"
    output = made("teaching-file", source)
    assert output.StudyDate == source.StudyDate[:4] + "0101"
    assert output.PatientAge == "090Y"
    assert not output.PatientBirthDate
    assert not output.StudyTime
    assert output.KVP == source.KVP and output.ConvolutionKernel == source.ConvolutionKernel
    for gone in ("InstitutionName", "StationName", "DeviceSerialNumber", "ReferringPhysicianName"):
        assert not output.get(gone) or output.get(gone) == "REMOVED"


@pytest.mark.parametrize(("name", "days"), [("research", SUBJECT.date_offset), ("full-dates", 0)])
def test_dates_move_by_the_subjects_days_or_not_at_all(name: str, days: int) -> None:
    source = builders.ct(rows=8, columns=8)
    output = made(name, source)
    assert (day(output.StudyDate) - day(source.StudyDate)).days == days
    assert output.StudyTime == source.StudyTime


def test_radiotherapy_moves_by_whole_weeks_and_removes_dates_of_the_device() -> None:
    source = builders.ct(rows=8, columns=8)
    output = made("radiotherapy", source)
    days = (day(output.StudyDate) - day(source.StudyDate)).days
    assert days % 7 == 0 and days != 0
    assert "DateOfLastCalibration" in source and "DateOfLastCalibration" not in output
    assert output.StationName == source.StationName


def day(value: str) -> date:
    return date(int(value[:4]), int(value[4:6]), int(value[6:8]))


@pytest.mark.skipif(validity.tool() is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_no_profile_adds_an_error_to_any_object(name: str, tmp_path: Path) -> None:
    pairs = []
    for kind, build in builders.PASS.items():
        data = builders.to_bytes(build())
        source, output = tmp_path / f"{kind}.before", tmp_path / f"{kind}.after"
        source.write_bytes(data)
        output.write_bytes(deidentify(data, profile=shipped(name)))
        pairs.append((source, output))
    tool = validity.tool()
    assert tool is not None
    added = {
        source.stem: errors
        for (source, _output), compared in zip(pairs, validity.compare(tool, pairs), strict=True)
        if compared.before is not None
        and (errors := [one for one in compared.added if one.level == "Error"] or compared.after is None)
    }
    assert added == {}


SAFE = (
    "SpecificCharacterSet ImageType SOPClassUID Modality Manufacturer ManufacturerModelName BodyPartExamined "
    "SliceThickness KVP DataCollectionDiameter SoftwareVersions ReconstructionDiameter DistanceSourceToDetector "
    "DistanceSourceToPatient GantryDetectorTilt TableHeight RotationDirection ExposureTime XRayTubeCurrent Exposure "
    "FilterType GeneratorPower FocalSpots ConvolutionKernel PatientPosition SingleCollimationWidth "
    "TotalCollimationWidth TableSpeed TableFeedPerRotation SpiralPitchFactor DataCollectionCenterPatient "
    "ReconstructionTargetCenterPatient ExposureModulationType EstimatedDoseSaving CTDIvol SeriesNumber "
    "AcquisitionNumber InstanceNumber ImagePositionPatient ImageOrientationPatient PositionReferenceIndicator "
    "SliceLocation SamplesPerPixel PhotometricInterpretation Rows Columns PixelSpacing BitsAllocated BitsStored "
    "HighBit PixelRepresentation SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue WindowCenter "
    "WindowWidth RescaleIntercept RescaleSlope RescaleType LossyImageCompression"
)
NOT_SAFE = (
    "InstitutionName InstitutionAddress ReferringPhysicianName ImageComments ProcedureCodeSequence "
    "RequestedProcedureCodeSequence RequestAttributesSequence DateOfLastCalibration TimeOfLastCalibration "
    "PatientBirthDate"
)
CLEANED = "StudyDescription SeriesDescription DerivationDescription ProtocolName RequestedProcedureDescription"


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        (SAFE, {Act.KEEP}),
        (CLEANED, {Act.CLEAN}),
        (NOT_SAFE, GONE),
        ("FrameOfReferenceUID IrradiationEventUID StudyInstanceUID", {Act.UID}),
    ],
    ids=["safe", "cleaned", "not-safe", "uids"],
)
def test_age_bands_treat_attributes_as_the_two_stage_process_judged_them(
    keywords: list[str], expected: set[Act]
) -> None:
    root = shipped("ct-research-age-bands").plan("1.2.840.10008.5.1.4.1.1.2").root
    tags = standard.tags_by_keyword()
    assert [word for word in keywords.split() if root[tags[word]].act not in expected] == []


def test_uptake_can_be_measured_as_before() -> None:
    source = builders.pt()
    output = made("research", source)
    before, after = (one.RadiopharmaceuticalInformationSequence[0] for one in (source, output))
    for keyword_ in ("RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime"):
        assert after[keyword_].value == before[keyword_].value
    for keyword_ in ("PatientWeight", "SeriesTime", "AcquisitionTime", "DecayCorrection", "Units", "RescaleSlope"):
        assert output[keyword_].value == source[keyword_].value
    assert day(output.SeriesDate) - day(source.SeriesDate) == day(output.AcquisitionDate) - day(source.AcquisitionDate)
    assert output.PixelData == source.PixelData


def test_research_text_stays_whole_and_the_patients_goes() -> None:
    source = builders.ct(rows=8, columns=8)
    source.SeriesDescription = "CT CHEST W CONTRAST 1.0 B30f"
    source.ProtocolName = f"Abdomen {source.PatientName.family_name}"
    output = made("research", source)
    assert output.SeriesDescription == source.SeriesDescription
    assert output.ProtocolName == "Abdomen ***"


def test_research_keeps_the_reference_to_the_planning_image() -> None:
    source = builders.ct(rows=8, columns=8)
    other = builders.ct(builders.origin(1, 1, 1, 2), rows=8, columns=8)
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = other.SOPClassUID, other.SOPInstanceUID
    source.ReferencedImageSequence = [item]
    assert made("research", source).ReferencedImageSequence[0].ReferencedSOPInstanceUID == (
        made("research", other).SOPInstanceUID
    )
    assert "ReferencedImageSequence" not in made("basic", source)


def test_the_document_says_what_outputs_claim() -> None:
    document = (PROFILES.parent / "docs" / "conformance.md").read_text("utf-8")
    for name in NAMES:
        codes = [code for code, *_ in shipped(name).plan("1.2.840.10008.5.1.4.1.1.2").method_codes]
        assert f"| `{name}` | {', '.join(codes) or 'none'} | {shipped(name).spec.temporal} |" in document


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sop_class", ["CT Image", "Comprehensive SR", "RT Plan"])
def test_the_statement_says_what_the_plan_does(name: str, sop_class: str) -> None:
    found = standard.find_sop_class(sop_class)
    assert found is not None
    plan = shipped(name).plan(found.uid)
    (section,) = [one for one in statement(shipped(name)).sections if "Each attribute" in one.title]
    assert section.table is not None
    said = {row[0]: row[3:6] for row in section.table.rows}
    for tag in standard.confidentiality_table():
        rule = plan.root[tag]
        words = said[tag_text(tag)]["123".index(rule.type[0])]
        if rule.vr == "SQ" and words == "dummy" and outcome(plan, rule) == "empty":
            continue  # nothing is known that an item could hold
        assert words == outcome(plan, rule), f"{tag_text(tag)} {rule.provenance}"
