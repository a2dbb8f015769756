"""A profile is right as a whole or none at all, and every error is told at once, with its path."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.errors import Quarantined
from orthanc_deid.core.explain import validate
from orthanc_deid.core.plan import Act
from orthanc_deid.core.profile import Profile, ProfileError

PROFILES = standard.FOLDER.parent
CT = "1.2.840.10008.5.1.4.1.1.2"
KEEP_PROTOCOL = {"attribute": "ProtocolName", "action": "keep", "reason": "reviewed list of protocols"}


def profile(*attributes: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {"name": "test", "attributes": list(attributes), **other}


def errors(content: Any) -> list[str]:
    with pytest.raises(ProfileError) as caught:
        Profile.parse(content)
    return caught.value.errors


def test_basic_profile_is_the_table_and_nothing_else() -> None:
    basic = Profile.load(PROFILES / "basic.yaml")
    assert basic.name == "basic"
    assert basic.options == frozenset()
    assert basic.spec.deviations == ()


def test_every_shipped_profile_is_valid() -> None:
    shipped = sorted(PROFILES.glob("*.yaml"))
    assert shipped
    assert [validate(path) for path in shipped] == [[]] * len(shipped)


def test_all_errors_at_once_each_with_its_path() -> None:
    found = errors(
        {
            "nam": "x",
            "edition": "2025a",
            "options": ["clean-grafics", "clean-pixel-data"],
            "attributes": [
                {"attribute": "ProtocolNam", "action": "kep"},
                {"attribute": "(0018,1030)", "action": "keep", "reason": "why", "note": "no"},
                "ProtocolName",
            ],
        }
    )
    assert [error.split(":")[0] for error in found] == [
        "nam",
        "name",
        "edition",
        "options[0]",
        "options[1]",
        "attributes[0].attribute",
        "attributes[0].action",
        "attributes[0].reason",
        "attributes[1].note",
        "attributes[2]",
    ]
    assert "did you mean ProtocolName?" in found[5]


def test_text_of_the_error_has_a_line_for_each() -> None:
    with pytest.raises(ProfileError) as caught:
        Profile.parse({"options": 1, "attributes": 1}, "here.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("here.yaml: ") for line in lines)


def test_error_crosses_process_borders() -> None:
    again = pickle.loads(pickle.dumps(ProfileError("here", ["name: must be given"])))
    assert again.errors == ["name: must be given"]


@pytest.mark.parametrize("option", ["clean-pixel-data", "clean-recognizable-visual-features"])
def test_options_are_refused_until_they_do_something(option: str) -> None:
    assert errors(profile(options=[option])) == [f"options[0]: {option} is not supported yet"]


@pytest.mark.parametrize("option", sorted(name for name, one in standard.options().items() if one.column))
def test_options_with_a_column_are_taken_one_by_one(option: str) -> None:
    assert Profile.parse(profile(options=[option])).options == {option}


DEVICE_AND_DATES = ["retain-device-identity", "retain-longitudinal-modified-dates"]


def test_where_options_disagree_the_profile_has_to_decide() -> None:
    found = errors(profile(options=DEVICE_AND_DATES))
    assert len(found) == 11
    assert all("has to be decided about" in error for error in found)
    keywords = [error.split()[1] for error in found]
    decided = [{"attribute": keyword, "action": "remove", "reason": "tells the offset"} for keyword in keywords]
    assert len(Profile.parse(profile(*decided, options=DEVICE_AND_DATES)).spec.deviations) == 11
    assert len(errors(profile(*decided[1:], options=DEVICE_AND_DATES))) == 1


def test_dates_are_full_or_modified() -> None:
    both = ["retain-longitudinal-full-dates", "retain-longitudinal-modified-dates"]
    assert errors(profile(options=both)) == [f"options: {both[0]} and {both[1]} exclude each other"]


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"dates": {"times": "keep"}}, "dates"),  # without the option
        ({"dates": {"time": "keep"}, "options": ["retain-longitudinal-modified-dates"]}, "dates.time"),
        ({"dates": {"times": "never"}, "options": ["retain-longitudinal-modified-dates"]}, "dates.times"),
        ({"dates": {"whole-weeks": 1}, "options": ["retain-longitudinal-modified-dates"]}, "dates.whole-weeks"),
        ({"ages": {}}, "ages"),
        ({"ages": {"cap": 1}}, "ages.cap"),
        ({"ages": {"cap": 89, "representative": "upper"}}, "ages.representative"),
        ({"ages": {"band": 5, "representative": "first"}}, "ages.representative"),
        ({"references": "maybe"}, "references"),
        ({"encapsulated": "drop"}, "encapsulated"),
        ({"raw-data": True}, "raw-data"),
        ({"text": {"allow": "word"}}, "text.allow"),
        ({"text": {"allow": ["Word"], "deny": ["word"]}}, "text"),
        ({"purpose": 1}, "purpose"),
    ],
)
def test_sections_are_checked(section: dict[str, Any], path: str) -> None:
    found = errors({**profile(), **section})
    assert [error.split(":")[0] for error in found] == [path]


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"attribute": "(0019,xx0C)", "creator": "SIEMENS MR HEADER", "action": "keep"}, "vr"),
        ({"attribute": "(0019,100C)", "creator": "SIEMENS MR HEADER", "action": "keep", "vr": "IS"}, "attribute"),
        ({"attribute": "(0018,xx0C)", "creator": "SIEMENS MR HEADER", "action": "remove"}, "attribute"),
        ({"attribute": "(0019,xx0C)", "creator": " ", "action": "remove"}, "creator"),
        ({"attribute": "(0019,xx0C)", "creator": "SIEMENS MR HEADER", "action": "uid"}, "action"),
        ({"attribute": "StationName", "action": "set"}, "value"),
        ({"attribute": "StationName", "action": "keep", "value": "X"}, "value"),
        ({"attribute": "StudyDate", "action": "set", "value": "soon"}, "value"),
        ({"attribute": "PatientSex", "action": "set", "value": "other"}, "value"),
        ({"attribute": "StudyDate", "action": "clean"}, "action"),
        ({"attribute": "StationName", "action": "shift"}, "action"),
        ({"attribute": "DateOfLastCalibration", "action": "shift"}, "action"),
        ({"attribute": "StudyTime", "action": "year"}, "action"),
    ],
)
def test_entries_are_checked(entry: dict[str, Any], path: str) -> None:
    found = errors(profile({**entry, "reason": "why"}))
    assert [error.split(":")[0] for error in found] == [f"attributes[0].{path}"]


def test_every_choice_makes_another_digest() -> None:
    dates = ["retain-longitudinal-modified-dates"]
    private = {"attribute": "(0019,xx0C)", "creator": "SIEMENS MR HEADER", "action": "remove", "reason": "why"}
    contents: list[dict[str, Any]] = [
        profile(),
        profile(options=dates),
        {**profile(options=dates), "dates": {"times": "shift"}},
        {**profile(options=dates), "dates": {"whole-weeks": True}},
        {**profile(), "ages": {"cap": 89}},
        {**profile(), "ages": {"cap": 89, "band": 5}},
        {**profile(), "references": "keep"},
        {**profile(), "encapsulated": "keep"},
        {**profile(), "raw-data": "keep"},
        {**profile(), "text": {"allow": ["word"]}},
        {**profile(), "text": {"deny": ["word"]}},
        profile(private),
        profile({"attribute": "StationName", "action": "set", "value": "A", "reason": "why"}),
        profile({"attribute": "StationName", "action": "set", "value": "B", "reason": "why"}),
    ]
    assert len({Profile.parse(content).digest for content in contents}) == len(contents)


@pytest.mark.parametrize(
    ("attribute", "action", "complaint"),
    [
        ("PatientName", "keep", "no profile decides"),
        ("(0010,0020)", "dummy", "no profile decides"),
        ("EncryptedAttributesSequence", "keep", "no profile decides"),
        ("TransferSyntaxUID", "keep", "no profile decides"),
        ("(6000,3000)", "keep", "overlays and curves"),
        ("SOPClassUID", "uid", "says what the instance is"),
        ("StudyInstanceUID", "keep", "retain-uids"),
        ("StudyInstanceUID", "dummy", "references would not resolve"),
        ("ReferencedSOPClassUID", "remove", "references would not resolve"),
        ("ProtocolName", "uid", "has LO"),
        ("BitsStored", "dummy", "cannot be decoded"),
        ("PixelData", "remove", "cannot be decoded"),
    ],
)
def test_deviation_that_would_break_instances_is_refused(attribute: str, action: str, complaint: str) -> None:
    found = errors(profile({"attribute": attribute, "action": action, "reason": "because"}))
    assert len(found) == 1
    assert found[0].startswith("attributes[0].action: ")
    assert complaint in found[0]


@pytest.mark.parametrize("attribute", ["(0009,0010)", "(0008,0999)", "NoSuchThing", 0x00181030, None])
def test_attribute_that_nobody_can_name_is_refused(attribute: object) -> None:
    found = errors(profile({"attribute": attribute, "action": "keep", "reason": "because"}))
    assert [error.split(":")[0] for error in found] == ["attributes[0].attribute"]


def test_attribute_given_twice_is_refused_however_it_is_spelled() -> None:
    again = {**KEEP_PROTOCOL, "attribute": "(0018,1030)"}
    assert errors(profile(KEEP_PROTOCOL, again)) == ["attributes[1].attribute: given twice"]


@pytest.mark.parametrize("spelling", ["ProtocolName", "(0018,1030)", "00181030", "0018,1030"])
def test_spellings_of_an_attribute_are_one(spelling: str) -> None:
    assert Profile.parse(profile({**KEEP_PROTOCOL, "attribute": spelling})) == Profile.parse(profile(KEEP_PROTOCOL))


def test_deviation_holds_at_every_depth_and_says_why() -> None:
    root = Profile.parse(profile(KEEP_PROTOCOL)).plan(CT).root
    nested = root[0x00081115].child
    assert nested is not None
    for node in (root, nested):
        assert node[0x00181030].act is Act.KEEP
        assert "reviewed list of protocols" in node[0x00181030].provenance


def test_removing_respects_the_type() -> None:
    remove = [
        {"attribute": keyword, "action": "remove", "reason": "x y"}
        for keyword in ("Modality", "Manufacturer", "ConvolutionKernel")
    ]
    root = Profile.parse(profile(*remove)).plan(CT).root
    assert [root[tag].act for tag in (0x00080060, 0x00080070, 0x00181210)] == [Act.DUMMY, Act.EMPTY, Act.REMOVE]


def test_keeping_what_the_table_does_not_keep_is_not_the_basic_profile() -> None:
    assert Profile.parse(profile(KEEP_PROTOCOL)).plan(CT).method_codes == ()
    stricter = {"attribute": "Manufacturer", "action": "remove", "reason": "few makers here"}
    assert [code for code, *_ in Profile.parse(profile(stricter)).plan(CT).method_codes] == ["113100"]
    outside = {"attribute": "SegmentLabel", "action": "keep", "reason": "names of organs only"}
    assert [code for code, *_ in Profile.parse(profile(outside)).plan(CT).method_codes] == ["113100"]


def test_digest_changes_with_what_is_done_and_not_with_words_about_it() -> None:
    basic = Profile.parse(profile())
    assert Profile.parse(profile(description="other words")).digest == basic.digest
    assert Profile.parse(profile(KEEP_PROTOCOL)).digest != basic.digest
    assert Profile.parse(profile({**KEEP_PROTOCOL, "action": "dummy"})).digest not in (
        basic.digest,
        Profile.parse(profile(KEEP_PROTOCOL)).digest,
    )


def test_order_of_deviations_does_not_matter() -> None:
    other = {"attribute": "Manufacturer", "action": "remove", "reason": "few makers here"}
    assert Profile.parse(profile(KEEP_PROTOCOL, other)).digest == Profile.parse(profile(other, KEEP_PROTOCOL)).digest


def test_profile_crosses_process_borders() -> None:
    before = Profile.parse(profile(KEEP_PROTOCOL))
    after = pickle.loads(pickle.dumps(before))
    assert after == before
    assert after.plan(CT).digest == before.plan(CT).digest


def test_private_sop_class_is_quarantined() -> None:
    with pytest.raises(Quarantined) as caught:
        Profile.parse(profile()).plan("1.3.12.2.1107.5.9.1")
    assert caught.value.reason == "unknown-sop-class"
    assert "1.3.12" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: [", "is not YAML"),
        ("name: a\nname: b\n", "is not YAML"),
        ("", "must be a mapping"),
        ("- basic\n", "must be a mapping"),
    ],
)
def test_file_that_is_no_profile(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert len(found := validate(path)) == 1
    assert complaint in found[0]


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in validate(tmp_path / "missing.yaml")[0]
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    assert "not UTF-8" in validate(tmp_path / "latin.yaml")[0]


SCHEMA = json.loads((PROFILES / "profile.schema.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("content", "valid"),
    [
        (profile(), True),
        (profile(KEEP_PROTOCOL, description="x", edition="2026d", options=[]), True),
        (profile({**KEEP_PROTOCOL, "attribute": "(0018,1030)"}), True),
        ({}, False),
        (profile(name="Not A Name"), False),
        (profile(edition="2025a"), False),
        (profile(options=["clean-pixel-data"]), False),
        (profile(extra=1), False),
        (profile({**KEEP_PROTOCOL, "action": "replace"}), False),
        (profile({**KEEP_PROTOCOL, "reason": " "}), False),
        (profile({**KEEP_PROTOCOL, "why": "x"}), False),
        (profile({"attribute": "ProtocolName", "action": "keep"}), False),
        (profile({**KEEP_PROTOCOL, "attribute": "a tag"}), False),
    ],
)
def test_schema_for_editors_agrees_with_the_program(content: dict[str, Any], valid: bool) -> None:
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(content) is valid
    if valid:
        Profile.parse(content)
    else:
        errors(content)


def test_schema_names_the_options_and_actions() -> None:
    from orthanc_deid.core.profile import ACTIONS

    properties = SCHEMA["properties"]
    assert properties["options"]["items"]["enum"] == sorted(standard.options())
    assert properties["attributes"]["items"]["properties"]["action"]["enum"] == list(ACTIONS)
    assert properties["edition"]["const"] == standard.EDITION


def test_readme_shows_a_valid_profile_and_names_every_option() -> None:
    from ruamel.yaml import YAML

    readme = (PROFILES / "README.md").read_text("utf-8")
    example = readme.split("```yaml\n")[1].split("```")[0]
    assert Profile.parse(YAML(typ="safe", pure=True).load(example)).name == "keep-protocol"
    for name in standard.options():
        assert f"`{name}`" in readme
