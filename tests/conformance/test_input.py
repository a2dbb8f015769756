"""Input as it comes: de-identified as the reference does it, or refused with the tag and the fault, and no value.

What senders, archives and broken disks make of DICOM (PS3.5 sections 6 and 7, PS3.10 section 7): undefined lengths,
UN, wrong VRs, odd and excessive lengths, disorder, missing heads, mixed character sets, deep nesting, cut and padded
files, every transfer syntax.
"""

from __future__ import annotations

import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable

import pytest
from orthanc_deid.core import deidentify as engine
from orthanc_deid.core import source as source_module
from orthanc_deid.core import walk
from orthanc_deid.core.errors import QUARANTINE_REASONS, REJECT_REASONS, DeidError
from orthanc_deid.core.sinks import BytesSink
from orthanc_deid.core.source import HEAD_BYTES, Source
from orthanc_deid.core.syntax import syntaxes

from tests import builders, codestreams, plants, raw, reference
from tests.canaries import leaks, of_person
from tests.engine import SUBJECT, deidentify, plan_for, shipped
from tests.objects.base import origin
from tests.raw import El

ORIGIN = origin(4)
EXPLICIT, IMPLICIT, BIG, DEFLATED = (str(syntax) for syntax in builders.NATIVE)
PROFILES = ["basic", "research"]
FAMILY = ORIGIN.person.name.split("^")[0]


def tree(name: str = "ct") -> list[El]:
    small = {"rows": 8, "columns": 8} if name == "ct" else {}
    return builders.tree(builders.ALL[name](ORIGIN, **small))


def file(elements: Iterable[El], syntax: str = EXPLICIT, **how: object) -> bytes:
    return raw.part10(elements, syntax, **how)  # type: ignore[arg-type]


def find(elements: list[El], tag: int) -> El:
    return next(el for el in elements if el.tag == tag)


def clean(data: bytes, profile: str = "basic") -> bytes:
    """The output, with nothing of the patient's in it, and readable by a reader that forgives nothing."""
    output = deidentify(data, SUBJECT, shipped(profile))
    assert [str(leak) for leak in leaks(output, of_person(ORIGIN.person, ORIGIN))] == []
    if raw.parse(output)[2] != BIG:  # pydicom reads what stands in a UN there as big endian
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of character sets that do not exist
            builders.read(output)
    assert from_file(data, profile) == output
    return output


def from_file(data: bytes, profile: str = "basic") -> bytes:
    """The output of the same bytes in a file."""
    sink = BytesSink()
    with tempfile.TemporaryFile() as opened:
        opened.write(data)
        opened.flush()
        source = Source.from_file(opened)
        engine.deidentify(source, shipped(profile).plan(source.facts.sop_class), SUBJECT, sink)
    return sink.getvalue()


def agree(data: bytes) -> bytes:
    """Clean with every profile, and with `basic` as the slow reference has it."""
    output = clean(data)
    assert reference.differences(data, output, plan_for(data), SUBJECT) == []
    for profile in PROFILES[1:]:
        clean(data, profile)
    return output


def values(data: bytes) -> list[tuple[tuple[int, ...], bytes]]:
    """What a reader gets, whatever the lengths and encodings."""
    return [(path, el.bytes.rstrip(b" \0")) for path, el in raw.walk(raw.parse(data)[1]) if isinstance(el.value, bytes)]


def refused(data: bytes, profile: str = "basic") -> DeidError:
    with pytest.raises(DeidError) as raised:
        deidentify(data, SUBJECT, shipped(profile))
    no = raised.value
    assert no.reason in QUARANTINE_REASONS or no.reason in REJECT_REASONS
    assert leaks(str(no).encode(), of_person(ORIGIN.person, ORIGIN)) == []
    assert no.tag is None or walk.is_named(no.tag)
    with pytest.raises(DeidError) as raised:
        from_file(data, profile)
    assert raised.value.reason == no.reason
    return no


# Lengths and nesting

FORMS = [{"undefined": True}, {"undefined_items": True}, {"undefined": True, "undefined_items": True}]
SOME = ["ct", "enhanced_mr", "seg", "rtplan", "rtstruct", "sr_measurements", "gsps", "slide_annotations"]


@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "+".join(form))
@pytest.mark.parametrize("name", SOME)
def test_undefined_lengths(name: str, form: dict[str, bool], syntax: str) -> None:
    made = builders.PASS[name](ORIGIN)
    plain = deidentify(builders.to_bytes(made))
    for profile in PROFILES:
        clean(builders.to_bytes(made, syntax, **form), profile)
    assert values(agree(builders.to_bytes(made, syntax, **form))) == values(plain)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("syntax", [EXPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("form", [{}, *FORMS], ids=lambda form: "+".join(form) or "defined")
def test_sequences_sent_as_un(form: dict[str, bool], syntax: str, profile: str) -> None:
    """Public and private ones: what a UN holds is in implicit VR little endian (PS3.5 section 6.2.2, note 2)."""
    for name in ("ct", "rtstruct", "sr_basic"):
        made = builders.PASS[name](ORIGIN)
        sequences = [el.tag for el in builders.tree(made) if isinstance(el.value, list)]
        wrapped = clean(builders.to_bytes(made, syntax, un=sequences, **form), profile)
        assert values(wrapped) == values(clean(builders.to_bytes(made, syntax), profile))


@pytest.mark.parametrize("depth", [10, 100, 126])
@pytest.mark.parametrize("form", [{}, *FORMS], ids=lambda form: "+".join(form) or "defined")
def test_sequences_nested_a_hundred_deep(depth: int, form: dict[str, bool]) -> None:
    inner = [El(0x00080104, "LO", b"the innermost"), El(0x00100010, "PN", ORIGIN.person.name.encode())]
    for _ in range(depth):
        inner = [El(0x00400260, "SQ", [inner])]
    elements = tree()
    raw.put(elements, inner[0])
    layout = raw.form_of(EXPLICIT)
    layout.undefined, layout.undefined_items = form.get("undefined", False), form.get("undefined_items", False)
    agree(file(elements, form=layout))


def test_deeper_nesting_is_refused() -> None:
    inner = [El(0x00080104, "LO", FAMILY.encode())]
    for _ in range(200):
        inner = [El(0x00400260, "SQ", [inner])]
    elements = tree()
    raw.put(elements, inner[0])
    assert refused(file(elements)).reason == "too-large"


@pytest.mark.parametrize("form", [{}, *FORMS], ids=lambda form: "+".join(form) or "defined")
@pytest.mark.parametrize("un", [False, True])
def test_a_large_sequence_that_need_not_change_stays(un: bool, form: dict[str, bool]) -> None:
    """Contours without references, tables of codes: longer than what is looked at in one piece."""
    item = [El(0x00080100, "SH", b"818981001"), El(0x00080102, "SH", b"SCT"), El(0x00080104, "LO", b"Abdomen")]
    elements = tree()
    raw.put(elements, El(0x00082218, "SQ", [list(item) for _ in range(3000)], as_un=un))
    layout = raw.form_of(EXPLICIT)
    layout.undefined, layout.undefined_items = form.get("undefined", False), form.get("undefined_items", False)
    output = clean(file(elements, form=layout))
    assert len(next(el for el in raw.parse(output)[1] if el.tag == 0x00082218).items) == 3000


def flood(tag: int, number: int) -> bytes:
    """Empty elements, each of another tag."""
    return b"".join(struct.pack("<HH2sH", (tag + n) >> 16, (tag + n) & 0xFFFF, b"LO", 0) for n in range(number))


def test_a_flood_of_elements_is_refused_before_it_fills_the_memory() -> None:
    head = file([el for el in tree() if el.tag < 0x70000000])
    assert refused(head + flood(0x70010010, 70_000)).reason == "too-large"
    item = flood(0x00090010, 70_000)
    within = b"\xfe\xff\0\xe0" + struct.pack("<L", len(item)) + item
    sequence = struct.pack("<HH2sHL", 0x300C, 0x0002, b"SQ", 0, len(within)) + within
    before = file([el for el in tree("rtplan") if el.tag < 0x300C0002])
    assert refused(before + sequence).reason == "too-large"


def test_a_flood_of_items_or_fragments_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_ITEMS", 500)
    monkeypatch.setattr(source_module, "MAX_ITEMS", 500)
    elements = tree()
    raw.put(elements, El(0x00082218, "SQ", [[] for _ in range(600)]))
    assert refused(file(elements)).reason == "too-large"
    elements = tree("mr")
    raw.put(elements, El(0x7FE00010, "OB", fragments=[b""] * 600))
    no = refused(file(elements, str(builders.COMPRESSED[0])))
    assert (no.reason, no.tag) == ("too-large", 0x7FE00010)


def test_empty_sequences_and_empty_items_stay_empty() -> None:
    elements = tree()
    raw.put(elements, El(0x00400260, "SQ", []))
    raw.put(elements, El(0x00082218, "SQ", [[], []]))
    found = {el.tag: el.value for el in raw.parse(agree(file(elements)))[1]}
    assert found[0x00400260] == [] and found[0x00082218] == [[], []]


# VRs, and lengths of values

ODD = {
    "a text": El(0x0008103E, "LO", b"CT CHEST W CONTRAST", pad=False),
    "a short text": El(0x00181210, "SH", b"B30", pad=False),
    "a long text": El(0x00104000, "LT", b"one two three", pad=False),
    "a number": El(0x00180050, "DS", b"1.5", pad=False),
    "an integer": El(0x00200013, "IS", b"7", pad=False),
    "a code string": El(0x00180015, "CS", b"ABDOMEN", pad=False),
    "a UID": El(0x00200052, "UI", b"1.2.826.0.1.3680043.10.9999.1.2", pad=False),
    "a date": El(0x00080022, "DA", b"20110506 ", pad=False),
    "a name": El(0x00081050, "PN", b"Zzyx^Q.", pad=False),
    "a name in an item": El(0x00081110, "SQ", [[El(0x00081155, "UI", b"1.2.3", pad=False)]]),
    "a private text": El(0x00291009, "LO", b"abc", pad=False),
    "bytes": El(0x00281201, "OW", b"\1\2\3", pad=False),
}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("what", ODD)
def test_odd_lengths(what: str, syntax: str) -> None:
    elements = tree()
    raw.put(elements, ODD[what])
    agree(file(elements, syntax))


LONG = {
    "LO": (0x0008103E, b"x" * 300),
    "SH": (0x00181210, b"B" * 70),
    "CS": (0x00180015, b"A" * 60),
    "UI": (0x00200052, b"1." + b"2" * 90),
    "DS": (0x00180050, b"1" * 40),
    "IS": (0x00200013, b"1" * 40),
    "PN": (0x00081050, b"Zzyx" * 60),
    "DA": (0x00080022, b"20110506" * 5),
    "AE": (0x00080055, b"A" * 40),
    "ST": (0x00080081, b"s" * 3000),
}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("vr", LONG)
def test_values_that_are_too_long(vr: str, syntax: str) -> None:
    elements = tree()
    tag, value = LONG[vr]
    raw.put(elements, El(tag, vr, value + b" " * (len(value) % 2)))
    agree(file(elements, syntax))


WRONG = [
    (0x0008103E, "SH"),
    (0x0008103E, "UN"),
    (0x0008103E, "OB"),
    (0x00080060, "LO"),
    (0x00180050, "LO"),
    (0x00200013, "DS"),
    (0x00080018, "LO"),
    (0x00200052, "UN"),
    (0x00100010, "LO"),
    (0x00100020, "SH"),
    (0x00100030, "LO"),
    (0x00080022, "TM"),
    (0x00281050, "FD"),
    (0x00280010, "UN"),
    (0x00081110, "OB"),
    (0x00081110, "LO"),
    (0x00181210, "UT"),
]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("tag", "vr"), WRONG)
def test_wrong_vrs_let_nothing_out(tag: int, vr: str, profile: str) -> None:
    elements = tree()
    el = find(elements, tag) if any(el.tag == tag for el in elements) else El(tag, vr, FAMILY.encode())
    body = raw.encode([El(tag, "SQ", el.value)])[12:] if isinstance(el.value, list) else el.bytes
    raw.put(elements, El(tag, vr, body))
    clean(file(elements), profile)


@pytest.mark.parametrize("vr", ["LO", "SH", "ST", "UN", "PN", "UT", "OB", "OW"])
def test_her_name_under_any_vr_is_found(vr: str) -> None:
    for tag in (0x00181210, 0x00181020, 0x00080104, 0x00180022, 0x00281201, 0x00080070):
        elements = tree()
        raw.put(elements, El(tag, vr, b"of " + FAMILY.encode()))
        for profile in PROFILES:
            clean(file(elements), profile)


# Order


@pytest.mark.parametrize("tag", [0x00080060, 0x00100010, 0x0020000D, 0x00280010, 0x7FE00010])
@pytest.mark.parametrize("beside", [True, False])
def test_an_attribute_that_stands_there_twice_is_named(tag: int, beside: bool) -> None:
    elements = tree()
    at = elements.index(find(elements, tag))
    elements.insert(at if beside else len(elements), find(elements, tag))
    no = refused(file(elements))
    assert (no.reason, no.tag, no.detail) == ("unparsable", tag, "the attribute stands there twice")


def test_pixels_that_stand_there_native_and_in_fragments_are_named() -> None:
    elements = builders.tree(builders.compress(builders.mr(ORIGIN), builders.COMPRESSED[0]))
    elements.insert(-1, El(0x7FE00010, "OW", b"\0\0"))
    no = refused(file(elements, builders.COMPRESSED[0]))
    assert (no.reason, no.tag) == ("unparsable", 0x7FE00010)


@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
def test_disorder_is_put_in_order(syntax: str) -> None:
    elements = tree("rtplan")
    wanted = clean(file(elements, syntax))
    assert clean(file(elements[::-1], syntax)) == wanted
    assert clean(file([*elements[1::2], *elements[::2]], syntax)) == wanted


def test_disorder_beyond_what_is_read_at_once_is_put_in_order() -> None:
    elements = tree("rtplan")
    wanted = clean(file(elements))
    filler = [El(0x00091001 + n, "OB", bytes(HEAD_BYTES // 8)) for n in range(20)]
    late = [*elements[5:], El(0x00090010, "LO", b"ZZYZX"), *filler, *elements[:5]]
    assert clean(file(late)) == wanted


@pytest.mark.parametrize("profile", ["research", "full-dates"])
def test_private_blocks_and_dates_do_not_end_where_a_file_is_read_on(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creator, and a date's time, may stand before the place at which the first buffer of a file ends."""
    elements = tree("mr")
    raw.put(elements, El(0x00190010, "LO", b"SIEMENS MR HEADER"))
    raw.put(elements, El(0x0019100C, "IS", b"1000"))
    raw.put(elements, El(0x00191027, "FD", bytes(48)))
    data = file(elements)
    whole = deidentify(data, SUBJECT, shipped(profile))
    assert any(el.tag == 0x0019100C for el in raw.parse(whole)[1])
    for size in range(300, 1500, 7):
        monkeypatch.setattr(source_module, "HEAD_BYTES", size)
        assert from_file(data, profile) == whole, size


# Heads


def body_of(data: bytes) -> bytes:
    """The data set alone."""
    return data[144 + struct.unpack("<L", data[140:144])[0] :]


HEADS: dict[str, Callable[[bytes], bytes]] = {
    "no preamble": lambda data: data[128:],
    "a preamble of text": lambda data: f"PATIENT {FAMILY} ".encode().ljust(128, b".") + data[128:],
    "no file meta": lambda data: data[:132] + body_of(data),
    "the data set alone": body_of,
    "a wrong group length": lambda data: data[:140] + b"\4\0\0\0" + data[144:],
    "no group length": lambda data: data[:132] + data[144:],
    "no transfer syntax": lambda data: data.replace(b"\2\0\x10\0UI", b"\2\0\x15\0UI"),
}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("what", HEADS)
def test_heads_that_are_missing_or_wrong(what: str, syntax: str) -> None:
    data = file(tree(), syntax)
    changed = HEADS[what](data)
    assert changed != data
    assert clean(changed) == clean(data)


def test_file_meta_of_any_length() -> None:
    data = file(tree(), meta=[El(0x00020100, "UI", b"1.2.3"), El(0x00020102, "OB", FAMILY.encode() * 12_000)])
    assert len(data) > 2 * HEAD_BYTES
    assert clean(data) == clean(file(tree()))


def test_group_lengths_right_or_wrong_go() -> None:
    elements = tree("sr_comprehensive")
    wanted = clean(file(elements))
    for el in [el for _, el in raw.walk(elements) if isinstance(el.value, list)]:
        for item in el.items:
            item.insert(0, El(0x00080000, "UL", b"\xff\0\0\0"))
    for group in sorted({el.tag >> 16 for el in elements}):
        raw.put(elements, builders.group_length(group, elements))
    assert clean(file(elements)) == wanted


# Character sets

SETS = [
    (b"ISO_IR 100", "latin-1", "Müllerzyx"),
    (b"ISO_IR 192", "utf-8", "Żzyzxłow"),
    (b"GB18030", "gb18030", "兹兹克斯"),
    (b"ISO_IR 144", "iso8859_5", "Ззызковский"),
    (b"\\ISO 2022 IR 87", "iso2022_jp", "頭頭頭"),
    (b"ISO_IR 13", "shift_jis", "ｽﾞｽﾞｸｽ"),
]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("charset", "codec", "name"), SETS)
def test_character_sets_that_differ_inside_an_item(charset: bytes, codec: str, name: str, profile: str) -> None:
    """The name in one set at the top, in another in an item's code meaning."""
    elements = tree()
    raw.put(elements, El(0x00080005, "CS", b"ISO_IR 192"))
    raw.put(elements, El(0x00100010, "PN", f"{name}^A".encode()))
    item = [El(0x00080005, "CS", charset), El(0x00080100, "SH", b"818981001"), El(0x00080102, "SH", b"SCT")]
    item.append(El(0x00080104, "LO", b"of " + name.encode(codec)))
    raw.put(elements, El(0x00082218, "SQ", [item]))
    output = clean(file(elements), profile)
    for spelled in {name.encode(), name.encode(codec)}:
        assert spelled not in output


NO_SETS = [b"ISO_IR 999", b"\xff\xfe\xfd", b"ISO_IR_100", b"\\\\\\", b"latin1", b"ISO_IR 100\\"]


@pytest.mark.parametrize("charset", NO_SETS)
def test_character_sets_that_do_not_exist(charset: bytes) -> None:
    elements = tree()
    raw.put(elements, El(0x00080005, "CS", charset))
    raw.put(elements, El(0x0008103E, "LO", b"caf\xe9 au lait"))
    for profile in PROFILES:
        clean(file(elements), profile)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-16"])
@pytest.mark.parametrize(
    ("tag", "vr"), [(0x00181210, "SH"), (0x00181020, "LO"), (0x00080070, "LO"), (0x00080081, "ST")]
)
def test_names_in_wide_letters_are_no_text(tag: int, vr: str, codec: str, profile: str) -> None:
    """No character set of DICOM's is written so; some programs write it nevertheless."""
    elements = tree()
    raw.put(elements, El(tag, vr, f"of {FAMILY}".encode(codec)))
    clean(file(elements), profile)


# Ends


@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("name", ["mr", "rtplan", "sr_basic"])
def test_a_file_cut_anywhere_is_refused_or_whole(name: str, syntax: str) -> None:
    data = file(tree(name), syntax)
    reasons = set()
    for cut in range(0, len(data), max(1, len(data) // 60)):
        try:
            output = deidentify(data[:cut])
        except DeidError as no:
            reasons.add(no.reason)
            assert leaks(str(no).encode(), of_person(ORIGIN.person, ORIGIN)) == []
            continue
        raw.parse(output)
        assert not leaks(output, of_person(ORIGIN.person, ORIGIN))
    assert reasons <= {"truncated", "unparsable", "not-dicom", "unknown-sop-class", "pixels-not-cleaned"}
    assert "truncated" in reasons


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("missing", [1, 2, 100])
def test_truncated_pixels_are_named(frames: int, missing: int) -> None:
    elements = tree("enhanced_ct" if frames > 1 else "mr")
    pixels = find(elements, 0x7FE00010)
    pixels.value = pixels.bytes[:-missing]
    pixels.pad = False
    no = refused(file(elements))
    assert (no.reason, no.tag) == ("truncated", 0x7FE00010)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("after", [b"\0" * 2, b"\0" * 5000, b"seen by %s", b"%s" * 500])
def test_bytes_behind_the_pixels_go(after: bytes, syntax: str) -> None:
    elements = tree()
    behind = after.replace(b"%s", FAMILY.encode())
    assert clean(file(elements, syntax) + behind) == clean(file(elements, syntax))


def test_bytes_behind_an_object_without_pixels_are_zeros_or_refused() -> None:
    data = file(tree("rtplan"))
    assert clean(data + b"\0" * 512) == clean(data)
    assert refused(data + b"of " + FAMILY.encode()).reason in ("unparsable", "truncated")


# Faults: each names its tag


def with_element(el: El, name: str = "mr") -> bytes:
    elements = tree(name)
    raw.put(elements, el)
    return file(elements)


def header(tag: int, vr: bytes, length: int) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, length)


SECRET = FAMILY.encode()
FAULTS: dict[str, tuple[Callable[[], bytes], str, int | None]] = {
    "no such VR": (
        lambda: file(tree("rtplan")) + header(0x300C0002, b"ZZ", 4) + SECRET,
        "unparsable",
        0x300C0002,
    ),
    "a value that runs over its item": (
        lambda: with_element(El(0x00082218, "SQ", [[]])).replace(
            raw.encode([El(0x00082218, "SQ", [[]])]),
            b"\x08\0\x18\x22SQ\0\0\x18\0\0\0" + b"\xfe\xff\0\xe0\x10\0\0\0" + header(0x00081155, b"UI", 60) + bytes(8),
        ),
        "unparsable",
        0x00081155,
    ),
    "no item where one is due": (
        lambda: with_element(El(0x00082218, "UN", SECRET * 3)),
        "unparsable",
        None,
    ),
    "a delimiter where an element is due": (
        lambda: file([*tree("rtplan"), El(0xFFFEE00D, "LO", b"")]),
        "unparsable",
        0xFFFEE00D,
    ),
    "fragments where native pixels are due": (
        lambda: file([*tree("mr")[:-1], El(0x7FE00010, "OB", fragments=[b"", SECRET])]),
        "unparsable",
        0x7FE00010,
    ),
    "native pixels where fragments are due": (
        lambda: file(tree("mr"), str(builders.COMPRESSED[0])),
        "unparsable",
        0x7FE00010,
    ),
    "pixels without their size": (
        lambda: with_element(El(0x00280010, "US", b"\0\0")),
        "unparsable",
        0x00280010,
    ),
    "pixels without a bit": (
        lambda: with_element(El(0x00280101, "US", b"\0\0")),
        "unparsable",
        0x00280101,
    ),
    "pixels under a VR that pixels cannot have": (
        lambda: with_element(El(0x7FE00010, "LT", SECRET * 1500)),
        "unparsable",
        0x7FE00010,
    ),
    "an instance without its UID": (lambda: with_element(El(0x00080018, "UI", b"")), "unparsable", 0x00080018),
    "an instance with two UIDs": (lambda: with_element(El(0x00080018, "UI", b"1.2\\1.3 ")), "unparsable", 0x00080018),
    "a study with the standard's UID": (
        lambda: with_element(El(0x0020000D, "UI", b"1.2.840.10008.5.1.4.1.1.2\0")),
        "unparsable",
        0x0020000D,
    ),
    "an unknown transfer syntax": (
        lambda: file(tree("mr"), EXPLICIT, meta=[El(0x00020010, "UI", b"1.2.826.0.1.3680043.10.9999.7")]),
        "unsupported-transfer-syntax",
        0x00020010,
    ),
    "a private SOP class": (
        lambda: with_element(El(0x00080016, "UI", b"1.3.12.2.1107.5.9.1\0")),
        "unknown-sop-class",
        0x00080016,
    ),
    "a deflated data set that is none": (
        lambda: file(tree("mr"), EXPLICIT, meta=[El(0x00020010, "UI", DEFLATED.encode())]),
        "unparsable",
        None,
    ),
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_told_by_tag_and_not_by_value(what: str, profile: str) -> None:
    make, reason, tag = FAULTS[what]
    no = refused(make(), profile)
    assert no.reason == reason
    assert tag is None or no.tag == tag
    assert no.detail


def test_letters_that_stand_where_a_tag_is_due_are_not_told() -> None:
    """A length that is some bytes short: the next header is read in the middle of her name."""
    for short in range(2, 14, 2):
        elements = tree("rtplan")
        name = find(elements, 0x00100010)
        data = file(elements)
        header = raw.encode([name])[:8]
        assert header in data
        cut = struct.pack("<H", len(name.bytes) + len(name.bytes) % 2 - short)
        no = refused(data.replace(header, header[:6] + cut))
        assert no.tag is not None and no.tag <= 0x00100010, "the attribute before the fault is named"


def test_a_deflated_data_set_that_grows_without_end_is_refused() -> None:
    """A thousandth of its size: 600 MB of a private attribute's zeros in a file of 600 KB."""
    head = file(tree("mr"), DEFLATED)
    meta = head[: 144 + struct.unpack("<L", head[140:144])[0]]
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    packed = packer.compress(b"\x09\0\x10\0OB\0\0" + struct.pack("<L", 600 << 20))
    for _ in range(600):
        packed += packer.compress(bytes(1 << 20))
    assert refused(meta + packed + packer.flush()).reason == "too-large"


# Transfer syntaxes


def frame(syntax: str, native: bytes) -> bytes:
    """One compressed frame of 64 × 64 pixels for a syntax."""
    if syntax.startswith("1.2.840.10008.1.2.4.5") and syntax[-2:] in ("52", "53", "54", "55", "56", "58"):
        return codestreams.jpeg_baseline(64, 64, sof={"5": 0xC2, "6": 0xC2}.get(syntax[-1], 0xC1))
    if syntax == "1.2.840.10008.1.2.1.98":
        return native
    if syntax == "1.2.840.10008.1.2.8.1":
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return packer.compress(native) + packer.flush()
    if syntax.startswith("1.2.840.10008.1.2.4.9"):
        return codestreams.jpeg_2000(comments=False)
    return codestreams.frame(syntax)[0]


def image(syntax: str) -> bytes:
    """An MR image in a transfer syntax, described as its frame is."""
    elements = tree("mr")
    known = syntaxes()[syntax]
    if not known.encapsulated:
        return file(elements, syntax)
    native = find(elements, 0x7FE00010).bytes
    try:
        _, rows, columns, bits, stored, signed = codestreams.frame(syntax)
    except ValueError:
        rows, columns, bits, stored, signed = 64, 64, 16, 12, 0
        if known.stream == "jpeg":
            bits = stored = 8
    for tag, number in ((0x00280010, rows), (0x00280011, columns), (0x00280100, bits), (0x00280101, stored)):
        raw.put(elements, El(tag, "US", struct.pack("<H", number)))
    raw.put(elements, El(0x00280102, "US", struct.pack("<H", stored - 1)))
    raw.put(elements, El(0x00280103, "US", struct.pack("<H", signed)))
    stream = b"\xff\x0a" + bytes(40) if known.stream == "jpegxl" else frame(syntax, native)
    raw.put(elements, El(0x7FE00010, "OB", fragments=[b"", stream]))
    return file(elements, syntax)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("syntax", list(syntaxes()))
def test_every_transfer_syntax(syntax: str, profile: str) -> None:
    known = syntaxes()[syntax]
    data = image(syntax)
    if known.stream == "video":
        assert refused(data, profile).reason == "pixels-not-cleaned"
    elif known.stream == "jpegxl":
        assert refused(data, profile).reason == "unsupported"
    else:
        output = clean(data, profile)
        before, after = (find(raw.parse(one)[1], 0x7FE00010) for one in (data, output))
        assert (before.value, before.fragments) == (after.value, after.fragments)
        assert raw.parse(output)[2] == syntax


def test_every_syntax_that_pydicom_knows_is_in_the_table() -> None:
    """So that none of them is refused as unknown."""
    from pydicom.uid import AllTransferSyntaxes

    missing = {str(uid) for uid in AllTransferSyntaxes} - set(syntaxes())
    names = {builders.UID(uid).name for uid in missing}
    assert {name for name in names if "SMPTE" not in name and "JPIP" not in name} == set()


def test_what_is_planted_is_found_again() -> None:
    """The sweep of these tests would see a leak."""
    data = with_element(El(0x00181210, "SH", SECRET[:16]))
    assert leaks(data, of_person(ORIGIN.person, ORIGIN))
    assert plants.STRUCTURE
