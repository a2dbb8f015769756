"""The tables are complete, agree with each other, and every judgement in them has its reason."""

from __future__ import annotations

import csv
import importlib.util
import re
from collections import Counter
from types import ModuleType

import pytest
from orthanc_deid.core import standard

TEXT_OR_BYTES = {"AE", "LO", "OB", "OW", "SH", "UC", "UN", "UR"}
BASIC_CODES = {"X": 417, "D": 93, "U": 55, "Z": 42, "X/D": 23, "X/Z": 11, "X/Z/D": 8, "Z/D": 6, "X/Z/U*": 2}


def table(name: str) -> list[dict[str, str]]:
    with (standard.FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_table_e1_1_is_complete() -> None:
    assert Counter(row["basic_profile"] for row in table("e1_1.csv")) == BASIC_CODES
    assert len(standard.confidentiality_table()) == 657 - 4


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        (0x00100010, "Patient's Name"),
        (0x50020005, "Curve Data"),
        (0x60FE3000, "Overlay Data"),
        (0x60004000, "Overlay Comments"),
        (0x60000010, "Overlay Data"),
        (0x00091001, "Private Attributes"),
        (0x60011001, "Private Attributes"),
    ],
)
def test_masks_stand_for_their_groups(tag: int, name: str) -> None:
    row = standard.table_row(tag)
    assert row is not None
    assert row.name == name


def test_attribute_outside_the_table_has_no_row() -> None:
    assert standard.table_row(0x00080060) is None


def test_options_of_a_row() -> None:
    row = standard.table_row(0x00080020)
    assert row is not None
    assert row.options == {"retain_longitudinal_full_dates": "K", "retain_longitudinal_modified_dates": "C"}


def test_dictionary_knows_every_attribute_of_the_table() -> None:
    unknown = [f"{tag:08X}" for tag in standard.confidentiality_table() if standard.attribute(tag) is None]
    assert unknown == []


@pytest.mark.parametrize(
    ("tag", "keyword", "vr"),
    [
        (0x00100010, "PatientName", "PN"),
        (0x00100041, "GenderIdentitySequence", "SQ"),  # younger than pydicom's dictionary
        (0x7FE00010, "PixelData", "OW"),
        (0x00280106, "SmallestImagePixelValue", "US"),
        (0x60183000, "OverlayData", "OW"),
        (0x50FE0022, "CurveDescription", "LO"),
        (0x00041200, "OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity", "UL"),
    ],
)
def test_dictionary_entry(tag: int, keyword: str, vr: str) -> None:
    entry = standard.attribute(tag)
    assert entry is not None
    assert (entry.keyword, entry.vr) == (keyword, vr)


@pytest.mark.parametrize("tag", [0x00091001, 0x00080999, 0x60013000])
def test_dictionary_does_not_guess(tag: int) -> None:
    assert standard.attribute(tag) is None


def test_every_vr_is_one_of_the_standard() -> None:
    vrs = "AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV"
    assert {entry.vr for entry in standard.dictionary().values()} <= set(vrs.split())


def test_keywords_are_unique() -> None:
    keywords = [entry.keyword for entry in standard.dictionary().values() if entry.keyword]
    assert len(keywords) == len(set(keywords))


@pytest.mark.parametrize("name", ["keep.csv", "drop.csv", "uid_constants.csv", "always.csv"])
def test_reviewed_lists_name_attributes_rightly_and_give_reasons(name: str) -> None:
    rows = table(name)
    assert rows
    assert len({row["tag"] for row in rows}) == len(rows)
    assert [row["tag"] for row in rows] == sorted(row["tag"] for row in rows)
    for row in rows:
        entry = standard.attribute(int(row["tag"], 16))
        assert entry is not None, row
        assert entry.keyword == row["keyword"], row
        assert entry.vr == row.get("vr", entry.vr) or " or " in row["vr"], row
        assert len(row["reason"].split()) >= 2, row


@pytest.mark.parametrize("listed", [standard.keep_list, standard.drop_list, standard.uid_constants])
def test_table_decides_before_our_lists(listed) -> None:  # type: ignore[no-untyped-def]
    assert set(listed()) & set(standard.confidentiality_table()) == set()


def test_keep_list_holds_only_what_would_go_without_it() -> None:
    for tag in standard.keep_list():
        entry = standard.attribute(tag)
        assert entry is not None
        assert entry.vr in TEXT_OR_BYTES, entry


def test_nothing_that_people_type_is_on_the_keep_list() -> None:
    typed = re.compile(r"(Comment|Description|Label|Notes|Text|Institution|Physician|Operator|Station|Address)")
    # Set by the device from its own vocabulary, whatever the name suggests.
    vocabulary = {
        "PaddleDescription",
        "ASLTechniqueDescription",
        "ASLCrusherDescription",
        "ApplicableSafetyStandardDescription",
    }
    suspicious = {
        entry.keyword
        for tag in standard.keep_list()
        if (entry := standard.attribute(tag)) is not None and typed.search(entry.keyword)
    }
    assert suspicious == vocabulary


def test_nothing_that_identifies_a_thing_is_on_the_keep_list() -> None:
    kept = {entry.keyword for tag in standard.keep_list() if (entry := standard.attribute(tag)) is not None}
    assert {keyword for keyword in kept if keyword.endswith(("ID", "SerialNumber", "URL", "URI"))} == {
        "StackID",  # numbers the stacks of one instance
        "FluenceModeID",  # names a mode of the machine
    }


def test_constants_are_uids() -> None:
    assert {standard.attribute(tag).vr for tag in standard.uid_constants()} == {"UI"}  # type: ignore[union-attr]
    assert 0x00080018 not in standard.uid_constants()
    assert {0x00080016, 0x00081150, 0x0008010C, 0x00080117} <= standard.uid_constants().keys()


def test_every_option_has_its_code_and_its_column() -> None:
    columns = set(table("e1_1.csv")[0])
    named = {option.column for option in standard.options().values() if option.column}
    assert named <= columns
    assert len(named) == 10
    for option in standard.options().values():
        meaning = standard.method_codes()[option.code][2].lower()
        words = set(option.name.split("-")) - {"uids"}
        assert words <= set(meaning.split()), option


def test_every_sop_class_has_an_iod_with_modules() -> None:
    classes = standard.sop_classes()
    assert len(classes) == 186
    assert len({one.keyword for one in classes.values()}) == 186
    for one in classes.values():
        assert standard.iod_context(one.iod).types[0x00080016][0] == "1", one


@pytest.mark.parametrize(
    ("uid", "iod"),
    [
        ("1.2.840.10008.5.1.4.1.1.2.3", "ct-image"),
        ("1.2.840.10008.5.1.4.1.1.2.4", "enhanced-ct-image"),
        ("1.2.840.10008.5.1.4.1.1.2.5", "legacy-converted-enhanced-ct-image"),
    ],
)
def test_classes_for_processing_use_the_iod_of_their_siblings(uid: str, iod: str) -> None:
    assert standard.sop_classes()[uid].iod == iod


@pytest.mark.parametrize("text", ["CT Image Storage", "ct image", "CTImageStorage", " 1.2.840.10008.5.1.4.1.1.2 "])
def test_sop_class_is_found_by_name_keyword_and_uid(text: str) -> None:
    found = standard.find_sop_class(text)
    assert found is not None
    assert found.uid == "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize("text", ["", "Storage", "CT", "1.2.3", "Basic Directory"])
def test_no_sop_class_is_made_up(text: str) -> None:
    assert standard.find_sop_class(text) is None


def test_strictest_type_of_all_modules_counts() -> None:
    # Image Type is Type 3 in the General Image module and Type 1 in the CT Image module.
    assert standard.iod_context("ct-image").types[0x00080008] == ("1", "ct-image")
    assert 0x00080008 not in standard.iod_context("encapsulated-pdf").types


def test_content_in_content_has_the_context_of_content() -> None:
    outer = standard.iod_context("comprehensive-sr").inside(0x0040A730)
    assert outer is not None
    assert outer.inside(0x0040A730) is outer
    concept = outer.inside(0x0040A043) or standard.Context()
    assert concept.inside(0x00081199) is None


def test_dummy_items_need_no_byte_order() -> None:
    def values(elements: tuple[standard.DummyElement, ...]) -> list[tuple[str, str]]:
        return [pair for one in elements for pair in ((one.vr, one.value), *values(one.children))]

    for elements in standard.dummy_items().values():
        for vr, value in values(elements):
            assert vr in ("CS", "LO", "SH", "SQ", "ST", "UI", "UT") or set(value) <= set("0\\"), (vr, value)


def test_readme_states_the_rows_of_every_table() -> None:
    readme = (standard.FOLDER / "README.md").read_text("utf-8")
    for path in standard.FOLDER.glob("*.csv"):
        assert f"`{path.name}`" in readme, path.name
    for files, rows in re.findall(r"^\| (`[^|]*`) \|.*\| ([0-9; ]+) \| [^|]* \|$", readme, re.MULTILINE):
        for name, count in zip(re.findall(r"`(.*?)`", files), rows.split(";"), strict=True):
            assert len(table(name)) == int(count), name


def test_any_change_of_a_table_changes_the_digest(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "keep.csv").write_text("tag\n")
    monkeypatch.setattr(standard, "FOLDER", tmp_path)
    before = standard.digest.__wrapped__()
    (tmp_path / "keep.csv").write_text("tag\n00080070\n")
    assert standard.digest.__wrapped__() != before


@pytest.fixture
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", standard.FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("path", "collapsed"),
    [
        ([], []),
        (["A", "B"], ["A", "B"]),
        (["A", "A"], ["A"]),
        (["A", "B", "A", "C"], ["A", "C"]),
        (["A", "B", "C", "B"], ["A", "B"]),
    ],
)
def test_generator_collapses_recursion(generate: ModuleType, path: list[str], collapsed: list[str]) -> None:
    assert generate._collapse(path) == collapsed


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("(0008,0050)", "00080050"),
        ("(50xx,xxxx)", "50xxxxxx"),
        ("(60xx,3000)", "60xx3000"),
        ("(gggg,eeee) where gggg is odd", "private"),
    ],
)
def test_generator_writes_tags_plainly(generate: ModuleType, text: str, tag: str) -> None:
    assert generate.plain_tag(text) == tag
