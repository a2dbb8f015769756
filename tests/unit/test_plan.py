"""A plan keeps objects valid: the same code becomes another action where the IOD demands the attribute."""

from __future__ import annotations

import pickle

import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.errors import Quarantined
from orthanc_deid.core.explain import explain
from orthanc_deid.core.plan import Act, Node, Plan, PlanSpec, Rule, compile_plan
from orthanc_deid.core.profile import ProfileError
from orthanc_deid.core.resolution import Choices, act_for, decide

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
GSPS = "1.2.840.10008.5.1.4.1.1.11.1"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"
RT_STRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
BASIC = PlanSpec("basic")


def plan(sop_class: str) -> Plan:
    return compile_plan(BASIC, sop_class)


def rule(sop_class: str, *path: str) -> Rule:
    """The rule at a path of keywords; all but the last are sequences that are entered."""
    node = plan(sop_class).root
    tags = [standard.tags_by_keyword()[keyword] for keyword in path]
    for tag in tags[:-1]:
        step = node[tag]
        assert step.act is Act.DESCEND, f"{step.tag:08X} is not entered"
        assert step.child is not None
        node = step.child
    return node[tags[-1]]


@pytest.mark.parametrize(
    ("sop_class", "path", "act"),
    [
        (CT, "PatientName", Act.PSEUDONYM),
        (CT, "PatientID", Act.PSEUDONYM),
        (CT, "PatientBirthDate", Act.EMPTY),  # Z, Type 2
        (CT, "PatientAge", Act.REMOVE),
        (CT, "StudyDate", Act.EMPTY),
        (CT, "SeriesDate", Act.REMOVE),  # X/D, Type 3
        (CT, "AcquisitionDateTime", Act.REMOVE),
        (ENHANCED_MR, "AcquisitionDateTime", Act.DUMMY),  # X/Z/D, Type 1C
        (ENHANCED_MR, "ContentDate", Act.DUMMY),  # Z/D, Type 1
        (CT, "ContentDate", Act.EMPTY),  # Z/D, Type 2C
        (CT, "InstitutionName", Act.REMOVE),
        (CT, "StudyDescription", Act.REMOVE),
        (CT, "SOPInstanceUID", Act.UID),
        (CT, "FrameOfReferenceUID", Act.UID),
        (CT, "SOPClassUID", Act.KEEP),
        (CT, "Rows", Act.KEEP),
        (CT, "PixelData", Act.KEEP),
        (CT, "ImageType", Act.KEEP),
        (CT, "SpecificCharacterSet", Act.KEEP),
        (CT, "ConvolutionKernel", Act.KEEP),
        (CT, "Manufacturer", Act.KEEP),
        (CT, "DeviceSerialNumber", Act.REMOVE),
        (CT, "DeviceID", Act.REMOVE),  # outside the table
        (CT, "AcquisitionProtocolName", Act.REMOVE),
        (CT, "RetrieveURL", Act.REMOVE),
        (CT, "PatientBodyMassIndex", Act.REMOVE),
        (CT, "PatientBirthDateInAlternativeCalendar", Act.REMOVE),
        (CT, "ReferencedImageSequence", Act.REMOVE),  # X/Z/U*, Type 3
        (GSPS, "ReferencedSeriesSequence/ReferencedImageSequence", Act.DESCEND),  # X/Z/U*, Type 1
        (GSPS, "ReferencedSeriesSequence/ReferencedImageSequence/ReferencedSOPInstanceUID", Act.UID),
        (GSPS, "ReferencedSeriesSequence/ReferencedImageSequence/ReferencedSOPClassUID", Act.KEEP),
        (GSPS, "GraphicAnnotationSequence", Act.DUMMY),
        (GSPS, "PresentationCreationDate", Act.DUMMY),
        (  # X/Z/U*, Type 2
            SEG,
            "PerFrameFunctionalGroupsSequence/DerivationImageSequence/SourceImageSequence/ReferencedSOPInstanceUID",
            Act.UID,
        ),
        (SEG, "SegmentSequence/SegmentLabel", Act.DUMMY),  # outside the table, Type 1
        (SEG, "SegmentSequence/SegmentDescription", Act.REMOVE),
        (SEG, "SegmentSequence/SegmentAlgorithmName", Act.KEEP),
        (SEG, "SegmentSequence/SegmentedPropertyTypeCodeSequence/CodeMeaning", Act.KEEP),
        (SEG, "ContentCreatorName", Act.EMPTY),
        (RT_STRUCT, "StructureSetLabel", Act.DUMMY),
        (RT_STRUCT, "StructureSetROISequence/ROIName", Act.EMPTY),
        (RT_STRUCT, "StructureSetROISequence/ReferencedFrameOfReferenceUID", Act.UID),
        (RT_STRUCT, "ROIContourSequence/ContourSequence/ContourData", Act.KEEP),
        (COMPREHENSIVE_SR, "ContentSequence", Act.DUMMY),
        (COMPREHENSIVE_SR, "VerifyingObserverSequence", Act.DUMMY),
        (COMPREHENSIVE_SR, "ConceptNameCodeSequence/CodeValue", Act.KEEP),
        (KEY_OBJECTS, "CurrentRequestedProcedureEvidenceSequence/StudyInstanceUID", Act.UID),
        (
            KEY_OBJECTS,
            "CurrentRequestedProcedureEvidenceSequence/ReferencedSeriesSequence/ReferencedSOPSequence"
            "/ReferencedSOPInstanceUID",
            Act.UID,
        ),
    ],
)
def test_action_of_an_attribute(sop_class: str, path: str, act: Act) -> None:
    assert rule(sop_class, *path.split("/")).act is act


@pytest.mark.parametrize(
    "tag",
    [
        0x00091001,  # private
        0x00090010,  # private creator
        0x00080999,  # unknown
        0x00080000,  # group length
        0x00080001,  # length to end
        0x00020010,  # file meta
        0x60003000,
        0x60000010,
        0x50000005,
        0xFFFCFFFC,
        0xFFFAFFFA,
        0x4FFE0001,
        0x04000500,
        0x00120062,
        0x00120063,
        0x00120064,
        0x00280303,
        0x0018A001,
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_what_goes_at_every_depth_whatever_the_profile(tag: int, nested: bool) -> None:
    keep = PlanSpec("keep", deviations=((tag, "K", "a profile cannot say this"),)) if tag >> 16 in (0x0012,) else BASIC
    node = compile_plan(keep, CT).root
    if nested:
        child = node[0x00081115].child
        assert child is not None
        node = child
    assert node[tag].act is Act.REMOVE
    assert node[tag].provenance


def test_name_and_id_within_an_item_may_be_another_patients() -> None:
    assert rule(CT, "ReferencedSeriesSequence", "PatientID").act is Act.EMPTY


@pytest.mark.parametrize(
    "path", ["ReferencedSeriesSequence", "RequestAttributesSequence/ScheduledProtocolCodeSequence"]
)
def test_code_items_keep_their_types_everywhere(path: str) -> None:
    node = plan(CT).root
    for keyword in path.split("/"):
        child = node[standard.tags_by_keyword()[keyword]].child
        node = child if child is not None else node
    unknown = node[standard.tags_by_keyword()["PurposeOfReferenceCodeSequence"]].child
    assert unknown is not None
    meaning = unknown[0x00080104]
    assert (meaning.act, meaning.type, meaning.on_hit, meaning.dummy) == (Act.KEEP, "1", Act.DUMMY, b"REMOVED")
    assert unknown[0x00081155].type == "1"
    assert unknown[0x00080070].type == "3"


def test_context_of_unknown_sequences_does_not_grow() -> None:
    node = plan(CT).root
    seen = set()
    for _depth in range(50):
        child = node[0x0040A043].child
        assert child is not None
        seen.add(id(child))
        node = child
    assert len(seen) <= 3


def test_where_a_kept_value_goes_when_it_names_the_patient() -> None:
    assert rule(CT, "Manufacturer").on_hit is Act.EMPTY  # Type 2
    assert rule(CT, "ManufacturerModelName").on_hit is Act.REMOVE  # Type 3
    modality = rule(CT, "Modality")  # Type 1
    assert (modality.on_hit, modality.dummy) == (Act.DUMMY, b"REMOVED")


def test_look_up_is_remembered() -> None:
    root = plan(CT).root
    assert root[0x00080070] is root[0x00080070]
    assert 0x00080070 in root


def test_memory_is_bounded_when_an_input_invents_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    from orthanc_deid.core import plan as module

    monkeypatch.setattr(module, "_REMEMBERED", 10)
    root = compile_plan.__wrapped__(BASIC, CT).root
    for element in range(100):
        assert root[0x00090000 + element].act is Act.REMOVE
    assert len(root) == 10


def test_plan_crosses_process_borders_and_is_the_same() -> None:
    before = plan(CT)
    after = pickle.loads(pickle.dumps(before))
    assert after.digest == before.digest
    assert after.root[0x00080070] == before.root[0x00080070]
    assert len(pickle.dumps(before)) < 1000


def test_digest_tells_sop_classes_apart() -> None:
    assert len({plan(uid).digest for uid in standard.sop_classes()}) == len(standard.sop_classes())


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.9999", "1.3.12.2.1107.5.9.1", "", "1.2.840.10008.1.3.10"])
def test_unknown_sop_class_is_quarantined(uid: str) -> None:
    with pytest.raises(Quarantined) as caught:
        plan(uid)
    assert caught.value.reason == "unknown-sop-class"
    assert caught.value.tag == 0x00080016


def test_basic_profile_claims_its_code_only() -> None:
    assert plan(CT).method_codes == (("113100", "DCM", "Basic Application Confidentiality Profile"),)


def elements(items: tuple[Rule, ...]) -> dict[str, object]:
    """A made-up item as keyword → value, None for an empty one."""
    found: dict[str, object] = {}
    for one in items:
        entry = standard.attribute(one.tag)
        assert entry is not None
        if one.act is Act.EMPTY:
            found[entry.keyword] = None
        elif one.vr == "SQ":
            assert one.child is not None
            found[entry.keyword] = elements(one.child.required)
        else:
            assert one.act is Act.DUMMY
            found[entry.keyword] = one.dummy
    return found


def made_up(found: Rule) -> dict[str, object]:
    assert found.act is Act.DUMMY
    assert found.child is not None
    return elements(found.child.required)


def test_report_becomes_a_minimal_report() -> None:
    assert made_up(rule(COMPREHENSIVE_SR, "ContentSequence")) == {
        "RelationshipType": b"CONTAINS",
        "ValueType": b"TEXT",
        "ConceptNameCodeSequence": {
            "CodeValue": b"121106",
            "CodingSchemeDesignator": b"DCM",
            "CodeMeaning": b"Comment",
        },
        "TextValue": b"Removed",
    }


def test_made_up_item_has_what_the_iod_demands() -> None:
    assert made_up(rule(COMPREHENSIVE_SR, "VerifyingObserverSequence")) == {
        "VerifyingOrganization": b"REMOVED",
        "VerificationDateTime": b"19000101000000",
        "VerifyingObserverName": b"REMOVED",
        "VerifyingObserverIdentificationCodeSequence": None,
    }


def test_made_up_code_is_complete() -> None:
    found = rule(TOMOSYNTHESIS, "ContributingSourcesSequence", "OperatorIdentificationSequence")
    code = {"CodeValue": b"0", "CodingSchemeDesignator": b"99DEID", "CodeMeaning": b"Removed"}
    assert made_up(found) == {"PersonIdentificationCodeSequence": code}


def test_made_up_drawing_has_no_text_and_no_place() -> None:
    found = made_up(rule(GSPS, "GraphicAnnotationSequence"))
    assert found["GraphicLayer"] == b"REMOVED"
    assert found["TextObjectSequence"] == {
        "AnchorPointAnnotationUnits": b"DISPLAY",
        "UnformattedTextValue": b"Removed",
        "AnchorPoint": b"\0" * 8,
        "AnchorPointVisibility": b"N",
    }


def every_rule(sop_class: str) -> list[tuple[str, Rule]]:
    """All rules that an IOD has something to say about, and the table's, by path."""
    found: list[tuple[str, Rule]] = []

    def visit(context: standard.Context, node: Node, path: str) -> None:
        for tag in sorted(set(context.types) | set(context.children) | set(standard.confidentiality_table())):
            found.append((f"{path}/{tag:08X}", node[tag]))
        for tag, inner in context.children.items():
            entered = node[tag]
            if entered.act is Act.DESCEND:
                assert entered.child is not None
                visit(inner, entered.child, f"{path}/{tag:08X}")

    compiled = plan(sop_class)
    visit(standard.iod_context(compiled.iod), compiled.root, "")
    return found


@pytest.mark.parametrize(
    "sop_class",
    [CT, ENHANCED_MR, SEG, GSPS, COMPREHENSIVE_SR, KEY_OBJECTS, RT_STRUCT, "1.2.840.10008.5.1.4.1.1.481.19"],
)
def test_every_rule_of_an_iod_can_be_carried_out(sop_class: str) -> None:
    for path, one in every_rule(sop_class):
        assert one.act not in (Act.CLEAN, Act.SHIFT), path  # the Basic Profile has no such thing
        if one.vr == "SQ":
            assert one.act in (Act.DESCEND, Act.REMOVE, Act.EMPTY, Act.DUMMY), path
            assert (one.child is not None) == (one.act in (Act.DESCEND, Act.DUMMY)), path
        else:
            assert one.child is None, path
            assert one.act is not Act.DUMMY or one.dummy, path
            assert one.on_hit is not Act.DUMMY or one.dummy, path
        if one.act is Act.REMOVE and "E.1-1" in one.provenance and one.tag >> 16 not in (0x5000, 0x6000):
            assert one.type == "3", path
        if one.act is Act.EMPTY:
            assert one.type not in ("1", "1C"), path


def test_every_sop_class_has_a_plan() -> None:
    for uid in standard.sop_classes():
        root = plan(uid).root
        assert root[0x00100010].act is Act.PSEUDONYM
        assert root[0x00080018].act is Act.UID
        assert root[0x00080016].act is Act.KEEP


@pytest.mark.parametrize(
    ("tag", "option", "code"),
    [
        (0x00181000, "retain-device-identity", "K"),
        (0x00080020, "retain-longitudinal-full-dates", "K"),
        (0x00080020, "retain-longitudinal-modified-dates", "SHIFT"),
        (0x00081030, "clean-descriptors", "C"),
        (0x00091001, "retain-safe-private", "REMOVE"),  # by creator and element, see test_private
        (0x60003000, "clean-graphics", "REMOVE"),  # nothing proves an overlay clean
        (0x0020000D, "retain-uids", "K"),
        (0x00081030, "retain-uids", "X"),
    ],
)
def test_options_choose_their_column(tag: int, option: str, code: str) -> None:
    entry = standard.attribute(tag)
    decision = decide(tag, entry.vr if entry else "UN", at_root=True, choices=Choices(frozenset((option,))))
    assert decision.code == code


def test_of_two_options_the_one_that_cleans_is_taken() -> None:
    both = frozenset(("retain-device-identity", "retain-longitudinal-modified-dates"))
    cleaned = [
        tag
        for tag, row in standard.confidentiality_table().items()
        if row.options.get("retain_device_identity") == "K"
        and row.options.get("retain_longitudinal_modified_dates") == "C"
    ]
    assert cleaned
    for tag in cleaned:
        entry = standard.attribute(tag)
        decision = decide(tag, entry.vr if entry else "UN", at_root=True, choices=Choices(both))
        assert decision.code != "K"


def test_cleaning_enters_sequences_too() -> None:
    assert act_for("C", "3", is_sequence=True) is Act.DESCEND
    assert act_for("C", "3", is_sequence=False) is Act.CLEAN
    spec = PlanSpec("future", options=frozenset(("clean-structured-content",)))
    content = compile_plan(spec, COMPREHENSIVE_SR).root[0x0040A730]
    assert content.act is Act.DESCEND
    assert content.child is not None
    assert content.child.content is not None


def test_explanation_of_a_profile_and_of_a_sop_class() -> None:
    basic = standard.FOLDER.parent / "basic.yaml"
    general = explain(basic)
    assert "(0010,0010) PatientName" in general
    assert all(line == line.rstrip() for line in general.splitlines())
    special = explain(basic, "Segmentation")
    assert "Items of SegmentSequence:" in special
    row = next(line for line in special.splitlines() if " SegmentLabel " in line)
    assert "dummy" in row
    assert "not in E.1-1, VR LO, Type 1 in segmentation-image" in row


def test_explanation_of_an_unknown_sop_class_suggests_one() -> None:
    with pytest.raises(ProfileError) as caught:
        explain(standard.FOLDER.parent / "basic.yaml", "CT Imag Storage")
    assert "did you mean CT Image Storage?" in caught.value.errors[0]
