"""A distinct canary in every place of an object: none comes out, but where a value is kept for a stated reason.

PS3.15 E.1 asks that no identifying value is left. What may survive is the short list in `reason_to_stay`: each entry is
a kind of attribute that cannot carry free text about a person, or one that a person reviewed (keep.csv).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.plan import Act, Rule
from orthanc_deid.core.profile import Profile
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from tests import builders, codestreams, plants, raw
from tests.canaries import Canary, Mint, leaks
from tests.engine import SUBJECT, basic, deidentify, outcome, report, shipped
from tests.raw import El

EXPLICIT, IMPLICIT, BIG, DEFLATED = builders.NATIVE
NUMBERS = {
    "OD": "numbers of 64 bits",
    "OF": "numbers of 32 bits",
    "OL": "numbers of 32 bits",
    "OV": "numbers of 64 bits",
}
CODING_UIDS = (0x0008010C, 0x0008010D, 0x00080117, 0x00080118)
HELD = {
    0x00080064: "Conversion Type: digitised film or paper, video, screen",
    0x00420011: "Encapsulated Document",
    0x54000100: "Waveform Sequence",
}
"""Attributes whose presence holds the object (point 5 of the closed-by-default list), so nothing comes out at all."""


def reason_to_stay(tag: int, vr: str) -> str:
    """Why a value that the engine knows nothing of may stand in the output; "" if it may not."""
    if tag in standard.keep_list():
        return standard.keep_list()[tag]
    if tag in CODING_UIDS:
        return "a coding scheme's or mapping resource's UID is its keeper's, and the code means nothing without it"
    if vr == "CS":
        return "defined terms and enumerated values, 16 capitals at most (PS3.5 section 6.2)"
    return NUMBERS.get(vr, "")


def sop_class(elements: list[El]) -> str:
    return next(el for el in elements if el.tag == 0x00080016).bytes.rstrip(b"\0").decode()


def chosen_to_stay(rule: Rule) -> str:
    """Why a value that a profile's options keep may stand in the output; "" if it may not."""
    if "retain-patient-characteristics K" in rule.provenance:
        return "a characteristic of the patient, kept as it is"
    if "retain-device-identity K" in rule.provenance:
        return "which device it was, by its own names for itself"
    if "retain-longitudinal-modified-dates C" in rule.provenance and rule.vr == "TM":
        return "a time of day"
    return "a date of a table of codes" if rule.provenance.startswith("profile: a date of the") else ""


def judge(elements: list[El], data: bytes, mint: Mint, profile: Profile | None = None) -> None:
    """Fail on any canary that is in the output without a reason, and on any that the plan does not say is kept."""
    plan = (profile or basic()).plan(sop_class(elements))
    wrong = []
    for leak in leaks(deidentify(data, profile=profile), mint.made):
        path = plants.tags_of(leak.canary.place)
        rule = plants.rule(plan, path)
        if rule.act is Act.SHIFT and leak.canary.kind == "time":
            continue  # of a DT only the day moves, where the profile keeps times of day
        if rule.act != Act.KEEP or not (reason_to_stay(path[-1], rule.vr) or chosen_to_stay(rule)):
            wrong.append(f"{leak}: {rule.act.name}, {rule.provenance}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(
    "name", ["ct", "mr", "pt", "dx", "enhanced_mr", "seg", "rtstruct", "rtplan", "sr_comprehensive", "gsps"]
)
def test_no_canary_of_any_attribute_of_the_dictionary_comes_out(name: str, syntax: str) -> None:
    known = plants.texts()
    for tags in plants.chunks([tag for tag in known if tag not in HELD], 60):
        mint, elements = Mint(), plants.base(name)
        for tag in tags:
            raw.put(elements, plants.element(tag, known[tag], mint))
        judge(elements, raw.part10(elements, syntax), mint)


@pytest.mark.parametrize("syntax", [IMPLICIT, BIG], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("profile", ["research", "radiotherapy", "teaching-file"])
@pytest.mark.parametrize("name", ["ct", "pt", "seg", "rtstruct", "rtplan", "sr_comprehensive", "gsps"])
def test_no_canary_comes_out_where_text_is_cleaned(name: str, profile: str, syntax: str) -> None:
    known = plants.texts()
    for tags in plants.chunks([tag for tag in known if tag not in HELD], 60):
        mint, elements = Mint(), plants.base(name)
        for tag in tags:
            raw.put(elements, plants.element(tag, known[tag], mint))
        judge(elements, raw.part10(elements, syntax), mint, shipped(profile))


@pytest.mark.parametrize("tag", HELD)
def test_what_cannot_be_cleaned_holds_the_object(tag: int) -> None:
    elements = plants.base("ct")
    vr = plants.dictionary()[tag]
    raw.put(elements, El(tag, "SQ", [[El(0x00080100, "SH", b"X")]]) if vr == "SQ" else plants.element(tag, vr, Mint()))
    assert outcome(raw.part10(elements, EXPLICIT)) == (None, "pixels-not-cleaned")


FORMS: list[dict[str, object]] = [
    {"syntax": EXPLICIT},
    {"syntax": IMPLICIT, "undefined": True, "undefined_items": True},
    {"syntax": BIG, "un": True},
    {"syntax": DEFLATED, "undefined": True},
    {"syntax": EXPLICIT, "un": True, "undefined": True},
    {"syntax": BIG, "undefined_items": True},
]


@pytest.mark.parametrize(("start", "name"), list(enumerate(["ct", "sr_comprehensive", "rtstruct", "enhanced_ct"])))
def test_no_canary_within_any_sequence_of_the_dictionary_comes_out(start: int, name: str) -> None:
    """Three levels deep, in every length form and as UN, private sequences and unknown attributes included."""
    known = plants.texts()
    sequences = [tag for tag in plants.sequences() if tag not in HELD]
    for number, tags in enumerate(plants.chunks(sequences[start::4], 12)):
        mint, elements, form = Mint(), plants.base(name), FORMS[number % len(FORMS)]
        for tag in tags:
            raw.put(elements, plants.nested(mint, tag, number, 3, known))
        for el in elements:
            el.as_un = bool(form.get("un")) and isinstance(el.value, list)
        layout = raw.form_of(str(form["syntax"]))
        layout.undefined = bool(form.get("undefined"))
        layout.undefined_items = bool(form.get("undefined_items"))
        judge(elements, raw.part10(elements, str(form["syntax"]), form=layout), mint)


# Around the data set, and where no dictionary looks


def around(mint: Mint) -> bytes:
    """A CT with canaries in the preamble, in every place of the file meta, in padding and behind the pixels."""
    elements = plants.base("ct")
    t = mint.token
    pixel = elements[-1]
    raw.put(elements, El(0x7FE00010, "OW", pixel.bytes + b" " + t("behind the native pixels").encode() + b" "))
    raw.put(elements, El(0xFFFCFFFC, "OB", t("data set trailing padding").encode()))
    meta = [
        El(0x00020013, "SH", t("implementation version").encode()),
        El(0x00020016, "AE", t("source AE title").encode()),
        El(0x00020017, "AE", t("sending AE title").encode()),
        El(0x00020018, "AE", t("receiving AE title").encode()),
        El(0x00020026, "UR", t("source presentation address").encode()),
        El(0x00020031, "OB", t("RTV meta").encode()),
        El(0x00020100, "UI", mint.uid("private information creator").encode()),
        El(0x00020102, "OB", t("private information").encode()),
        El(0x00020099, "LO", t("unknown meta").encode()),
    ]
    preamble = (b"II*\0" + t("preamble").encode()).ljust(128, b"\0")
    return raw.part10(elements, EXPLICIT, meta=meta, preamble=preamble)


def test_nothing_around_the_data_set_comes_out() -> None:
    mint = Mint()
    assert leaks(deidentify(around(mint)), mint.made) == []


def planted(*elements: El, name: str = "ct", syntax: str = EXPLICIT) -> bytes:
    made = plants.base(name)
    for el in elements:
        raw.put(made, el)
    return raw.part10(made, syntax)


def sly(mint: Mint, tag: int, vr: str, what: str) -> El:
    """An element whose whole value is a canary."""
    made = {"PN": mint.name, "UI": mint.uid, "DT": mint.datetime}.get(vr, mint.token)
    return El(tag, vr, made(what).encode())


PLACES: dict[str, Callable[[Mint], bytes]] = {
    "unknown public attribute": lambda m: planted(sly(m, 0x00187777, "LO", "x")),
    "unknown public sequence": lambda m: planted(El(0x00187778, "SQ", [[sly(m, 0x00080104, "LO", "x")]])),
    "public text sent as UN": lambda m: planted(sly(m, 0x00104000, "UN", "x")),
    "kept attribute sent as UN": lambda m: planted(sly(m, 0x00189999, "UN", "x")),
    "text sent with another VR": lambda m: planted(sly(m, 0x00081030, "OB", "x")),
    "private without a creator": lambda m: planted(sly(m, 0x00111001, "LO", "x")),
    "private creator": lambda m: planted(sly(m, 0x00110010, "LO", "x")),
    "private group length": lambda m: planted(sly(m, 0x00110000, "LO", "x")),
    "private sequence": lambda m: planted(
        El(0x00110010, "LO", b"ZZYZX"),
        El(0x00111001, "SQ", [[El(0x00111002, "SQ", [[sly(m, 0x00100010, "PN", "x")]])]]),
    ),
    "private sequence as UN": lambda m: planted(
        El(0x00110010, "LO", b"ZZYZX"), El(0x00111001, "SQ", [[sly(m, 0x00100010, "PN", "x")]], as_un=True)
    ),
    "group length": lambda m: planted(sly(m, 0x00100000, "UL", "x")),
    "overlay data": lambda m: planted(*overlay(m.token("x").encode())),
    "overlay label and description": lambda m: planted(
        *overlay(b"\0" * 8), sly(m, 0x60001500, "LO", "label"), sly(m, 0x60000022, "LO", "what")
    ),
    "overlay in an odd place": lambda m: planted(sly(m, 0x60FE3000, "OW", "x")),
    "curve": lambda m: planted(
        sly(m, 0x50000022, "LO", "what"),
        sly(m, 0x50003000, "OB", "data"),
        sly(m, 0x50002500, "LO", "label"),
    ),
    "audio": lambda m: planted(sly(m, 0x5000200C, "OW", "x")),
    "icon image": lambda m: planted(
        El(
            0x00880200,
            "SQ",
            [[El(0x00280010, "US", b"\2\0"), El(0x00280011, "US", b"\4\0"), sly(m, 0x7FE00010, "OW", "x")]],
        )
    ),
    "encrypted attributes": lambda m: planted(
        El(0x04000500, "SQ", [[El(0x04000510, "UI", b"1.2.840.10008.1.2.1"), sly(m, 0x04000520, "OB", "x")]])
    ),
    "original attributes": lambda m: planted(
        El(
            0x04000561,
            "SQ",
            [
                [
                    El(0x04000550, "SQ", [[sly(m, 0x00100010, "PN", "name"), sly(m, 0x00100020, "LO", "id")]]),
                    sly(m, 0x04000562, "DT", "when"),
                    sly(m, 0x04000563, "LO", "system"),
                    sly(m, 0x04000564, "LO", "source"),
                    El(0x04000565, "CS", b"CORRECT"),
                ]
            ],
        )
    ),
    "digital signature": lambda m: planted(
        El(
            0xFFFAFFFA,
            "SQ",
            [
                [
                    sly(m, 0x04000115, "OB", "certificate"),
                    sly(m, 0x04000105, "DT", "when"),
                    sly(m, 0x04000100, "UI", "uid"),
                ]
            ],
        )
    ),
    "somebody else's marks": lambda m: planted(
        El(0x00120062, "CS", b"YES"),
        sly(m, 0x00120063, "LO", "method"),
        El(0x00120064, "SQ", [[sly(m, 0x00080104, "LO", "code")]]),
        El(0x0018A001, "SQ", [[sly(m, 0x00080070, "LO", "maker"), sly(m, 0x00081010, "SH", "station")]]),
    ),
    "second value of a UID": lambda m: planted(El(0x00080014, "UI", b"1.2.3\\" + m.uid("x").encode())),
    "frame comments": lambda m: framed(m),
    "extended offset table": lambda m: planted(sly(m, 0x7FE00001, "OV", "x")),
}


def overlay(data: bytes) -> Iterable[El]:
    """An overlay plane apart from the pixels."""
    return (
        El(0x60000010, "US", b"\x08\0"),
        El(0x60000011, "US", b"\x08\0"),
        El(0x60000040, "CS", b"G"),
        El(0x60000050, "SS", b"\1\0\1\0"),
        El(0x60000100, "US", b"\1\0"),
        El(0x60000102, "US", b"\0\0"),
        El(0x60003000, "OW", data),
    )


def framed(mint: Mint) -> bytes:
    dataset = builders.enhanced_ct()
    for item in dataset.PerFrameFunctionalGroupsSequence:
        item.FrameContentSequence[0].FrameComments = mint.token("comment")
        item.FrameContentSequence[0].FrameLabel = mint.token("label")
        item.FrameContentSequence[0].FrameAcquisitionDateTime = mint.datetime("when")
    return builders.to_bytes(dataset)


BROKEN = {
    "letters in a number (DS)": (0x00181100, "DS", b""),
    "letters in a number (IS)": (0x00200013, "IS", b""),
    "behind a number": (0x00181100, "DS", b"380 "),
    "behind a NUL in a number": (0x00181100, "DS", b"380\0"),
    "behind a NUL in a term": (0x00185100, "CS", b"HFS\0"),
    "a term of more than 16 letters": (0x00185100, "CS", b"HEAD FIRST SUPINE "),
}


@pytest.mark.parametrize("where", BROKEN)
def test_a_kept_value_that_breaks_its_vr_is_no_hiding_place(where: str) -> None:
    """PS3.5 section 6.2 says what a number and a term look like; what does not is text, and text is not kept."""
    tag, vr, lead = BROKEN[where]
    mint = Mint()
    data = planted(El(tag, vr, lead + mint.token(where).encode()))
    output, _ = outcome(data)
    assert output is None or leaks(output, mint.made) == []


@pytest.mark.parametrize("tag", [0x00080018, 0x0020000D, 0x0020000E, 0x00200052, 0x00081155, 0x00081150, 0x00080014])
@pytest.mark.parametrize("value", ["7300417.1", "1.4.1 {}", "5.1.4.1.1.2.{}", "1.4.1.1\\{}"])
def test_the_standards_root_is_no_hiding_place(tag: int, value: str) -> None:
    """Some senders make their UIDs below 1.2.840.10008: what the standard has not registered is like any other UID."""
    mint = Mint()
    text = "1.2.840.10008." + value.format(mint.token("behind"))
    mint.text("made up", "1.2.840.10008.7300417.1")
    el = El(tag, "UI", text.encode())
    output, _ = outcome(planted(el if tag not in (0x00081155, 0x00081150) else El(0x00081140, "SQ", [[el]]), name="ct"))
    assert output is None or leaks(output, mint.made) == []


@pytest.mark.parametrize("where", PLACES)
def test_no_canary_of_a_special_place_comes_out(where: str) -> None:
    mint = Mint()
    assert [str(leak) for leak in leaks(deidentify(PLACES[where](mint)), mint.made)] == []


def jpegs(syntax: str, mint: Mint) -> bytes:
    segment = codestreams.segment
    extra = [
        segment(0xFE, mint.token("COM").encode()),
        segment(0xE1, b"Exif\0\0" + mint.token("APP1").encode()),
        segment(0xED, b"Photoshop 3.0\0" + mint.token("APP13").encode()),
        segment(0xE2, b"ICC_PROFILE\0" + mint.token("APP2").encode()),
        segment(0xE8, b"SPIFF\0" + mint.token("APP8").encode()),
        segment(0xEE, b"Adobe\0d\0\0\0\0\0" + mint.token("APP14").encode()),
        segment(0xE0, b"JFXX\0\x10" + mint.token("thumbnail").encode()),
    ]
    if syntax == JPEG2000Lossless:
        extra = [
            segment(0x64, b"\0\1" + mint.token("COM").encode()),
            segment(0x64, b"\0\0" + mint.token("binary COM").encode()),
        ]
    return builders.to_bytes(builders.compress(builders.mr(), syntax, extra=extra), syntax)


@pytest.mark.parametrize(
    "syntax", [JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless], ids=lambda s: s.name
)
def test_no_canary_in_a_segment_of_a_code_stream_comes_out(syntax: str) -> None:
    mint = Mint()
    assert [str(leak) for leak in leaks(deidentify(jpegs(syntax, mint)), mint.made)] == []


def stretched(where: str, token: bytes) -> tuple[str, bytes]:
    """A code stream with bytes where a segment has room for them, though nothing reads them."""
    jpeg, wavelet = codestreams.jpeg_baseline(64, 64), codestreams.jpeg_2000(comments=False)
    scan, tile = b"\xff\xda\0\x08\1\1\0\0\x3f\0", wavelet.index(b"\xff\x90")
    match where:
        case "a long scan header":
            return JPEGBaseline8Bit, jpeg.replace(scan, b"\xff\xda\0\x10" + scan[4:] + token)
        case "a long restart interval":
            return JPEGBaseline8Bit, jpeg[:2] + codestreams.segment(0xDD, b"\0\0" + token) + jpeg[2:]
        case "a comment behind the scan":
            return JPEGBaseline8Bit, jpeg[:-2] + codestreams.segment(0xFE, token) + jpeg[-2:]
        case "a second image":
            return JPEGBaseline8Bit, jpeg + jpeg[:2] + codestreams.segment(0xFE, token) + jpeg[2:]
        case "an unknown JPEG 2000 marker":
            return JPEG2000Lossless, wavelet[:tile] + codestreams.segment(0x77, token) + wavelet[tile:]
        case "unused words of the RLE header":
            stream = codestreams.rle(64, 64)
            return RLELossless, stream[:12] + token + stream[20:]
        case "a gap between RLE segments":
            stream = codestreams.rle(64, 64)
            half = (len(stream) - 64) // 2
            head = struct.pack("<16L", 2, 64, 64 + half + 8, *[0] * 13)
            return RLELossless, head + stream[64 : 64 + half] + token + stream[64 + half :]
        case _:
            boxes = ((b"jP  ", b"\r\n\x87\n"), (b"ftyp", b"jp2 \0\0\0\0jp2 "), (b"xml ", token), (b"jp2c", wavelet))
            return JPEG2000Lossless, b"".join(struct.pack(">L", len(body) + 8) + name + body for name, body in boxes)


STRETCHED = ["a long scan header", "a long restart interval", "a comment behind the scan", "a second image"]
STRETCHED += [
    "an unknown JPEG 2000 marker",
    "unused words of the RLE header",
    "a gap between RLE segments",
    "a JP2 file",
]


@pytest.mark.parametrize("where", STRETCHED)
def test_a_code_stream_has_no_room_for_text(where: str) -> None:
    mint = Mint()
    syntax, stream = stretched(where, mint.token(where).encode())
    elements = builders.tree(builders.compress(builders.mr(), syntax))
    elements[-1].fragments = [b"", stream]
    output, _ = outcome(raw.part10(elements, syntax))
    assert output is None or leaks(output, mint.made) == []


@pytest.mark.parametrize("syntax", builders.COMPRESSED, ids=lambda s: s.name)
def test_a_code_stream_without_comments_stays_as_it_is(syntax: str) -> None:
    elements = builders.tree(builders.compress(builders.mr(), syntax))
    if syntax == JPEG2000Lossless:  # the file it comes from names its encoder in a comment
        elements[-1].fragments = [b"", codestreams.jpeg_2000(comments=False)]
    data = raw.part10(elements, syntax)
    assert raw.parse(deidentify(data))[1][-1] == raw.parse(data)[1][-1]


@pytest.mark.parametrize(
    "where", ["behind the end", "in the offset table", "in a fragment of its own", "before the start"]
)
@pytest.mark.parametrize("syntax", builders.COMPRESSED, ids=lambda s: s.name)
def test_nothing_hides_among_the_fragments(syntax: str, where: str) -> None:
    mint = Mint()
    elements = builders.tree(builders.compress(builders.mr(), syntax))
    fragments = elements[-1].fragments
    assert fragments is not None
    token = mint.token(where).encode()
    match where:
        case "behind the end":
            fragments[-1] = fragments[-1] + token
        case "in the offset table":
            fragments[0] = token
        case "in a fragment of its own":
            fragments.append(token)
        case _:
            fragments[1] = token + fragments[1]
    output, _ = outcome(raw.part10(elements, syntax))
    assert output is None or leaks(output, mint.made) == []


@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
def test_nothing_behind_the_last_element_comes_out(syntax: str) -> None:
    mint = Mint()
    elements = plants.base("mr")
    for token in (
        mint.token("short").encode(),
        mint.token("long").encode() * 40,
        b"\0" * 64 + mint.token("padded").encode(),
    ):
        for data in (raw.part10(elements, syntax, after=token), raw.part10(elements, syntax) + token):
            output, _ = outcome(data)
            assert output is None or leaks(output, mint.made) == []


def test_what_another_object_of_the_patient_tells_is_searched_for_in_this_one() -> None:
    """A name that stands only in the header of the first object, and in a code meaning of the second."""
    first = builders.origin(8)
    _, told = report(builders.to_bytes(builders.ct(first, rows=8, columns=8)))
    elements = plants.base("ct")
    family = first.person.name.split("^")[0]
    abdomen = [El(0x00080100, "SH", b"818981001"), El(0x00080102, "SH", b"SCT"), El(0x00080104, "LO", family.encode())]
    raw.put(elements, El(0x00082218, "SQ", [abdomen]))
    data = raw.part10(elements, EXPLICIT)
    assert leaks(deidentify(data), [Canary("name", family)])
    assert not leaks(deidentify(data, replace(SUBJECT, known=told.harvested)), [Canary("name", family)])


# The patient's own values inside what the plan keeps

OWN = {
    "name": lambda o: o.person.name.split("^")[0],
    "name in lower case": lambda o: o.person.name.split("^")[1].lower(),
    "id": lambda o: o.person.patient_id,
    "id, parted": lambda o: o.person.patient_id[:4] + "-" + o.person.patient_id[4:],
    "birth date": lambda o: o.person.birth_date,
    "birth date, parted": lambda o: f"{o.person.birth_date[:4]}-{o.person.birth_date[4:6]}-{o.person.birth_date[6:]}",
    "accession number": lambda o: o.person.accession(o.study),
    "referring physician": lambda o: o.person.referring.split("^")[0],
    "operator": lambda o: o.person.operator.split("^")[0],
    "telephone": lambda o: o.person.phone,
    "other id": lambda o: o.person.other_id,
    "study date": lambda o: o.date,
    "study UID": lambda o: o.study_uid,
}  # fmt: skip


def kept_in(where: str, value: str) -> list[El]:
    text = value.encode()
    match where:
        case "Convolution Kernel":
            return [El(0x00181210, "SH", text[:16])]
        case "Code Meaning":
            return [
                El(
                    0x00082218,
                    "SQ",
                    [[El(0x00080100, "SH", b"818981001"), El(0x00080102, "SH", b"SCT"), El(0x00080104, "LO", text)]],
                )
            ]
        case "Software Versions, among others":
            return [El(0x00181020, "LO", b"syntho 4.2\\for " + text)]
        case "Scan Options":
            return [El(0x00180022, "CS", text.upper()[:16])]
        case "Manufacturer":
            return [El(0x00080070, "LO", text)]
        case _:
            return [
                El(0x00283002, "US", b"\0\0\0\0\0\0"),
                El(0x00281101, "US", b"\0\0\0\0\0\0"),
                El(0x00281201, "OW", b"\1\2" + text + b"\3"),
            ]


KEPT = {"Convolution Kernel": 16, "Code Meaning": 64, "Software Versions, among others": 64, "Scan Options": 16}
KEPT |= {"Manufacturer": 64, "palette": 64}
FITS = [(what, where) for what in OWN for where in KEPT if len(OWN[what](builders.origin(5, study=2))) <= KEPT[where]]


@pytest.mark.parametrize(("what", "where"), FITS)
def test_a_value_of_the_patients_in_what_is_kept_does_not_come_out(what: str, where: str) -> None:
    origin = builders.origin(5, study=2)
    value = OWN[what](origin)
    elements = builders.tree(builders.ct(origin, rows=8, columns=8))
    for el in kept_in(where, value):
        raw.put(elements, el)
    output, reason = outcome(raw.part10(elements, EXPLICIT))
    assert (output is None and reason == "value-left") or not leaks(output or b"", [Canary(what, value)])
    if where != "palette":
        assert output is not None, "cleaned first, held only for what then still hits"


@pytest.mark.parametrize(
    ("charset", "codec", "name"),
    [
        (b"ISO_IR 100", "latin-1", "Müllerzyx^Äne"),
        (b"ISO_IR 192", "utf-8", "Żzyzxłow^Śnar"),
        (b"GB18030", "gb18030", "兹兹^克斯=Zzyz^Ks"),
        (b"ISO_IR 144", "iso8859_5", "Ззызковский^Кс"),
        (b"ISO_IR 101", "iso8859_2", "Żzyzxłow^Śnar"),
        (b"\\ISO 2022 IR 87", "iso2022_jp", "Zzyz^Ks=頭頭^舞"),
        (b"ISO_IR 13", "shift_jis", "ｽﾞｽﾞ^ｸｽ"),
    ],
)
@pytest.mark.parametrize("where", ["same encoding", "UTF-8 in spite of it"])
def test_names_in_other_character_sets_are_found_in_what_is_kept(
    charset: bytes, codec: str, name: str, where: str
) -> None:
    elements = plants.base("ct")
    raw.put(elements, El(0x00080005, "CS", charset))
    raw.put(elements, El(0x00100010, "PN", name.encode(codec)))
    family = name.split("=")[-1].split("^")[0]
    raw.put(elements, El(0x00181020, "LO", b"for " + family.encode(codec if where == "same encoding" else "utf-8")))
    output, _ = outcome(raw.part10(elements, EXPLICIT))
    assert output is None or not leaks(output, [Canary("name", family)])


def test_big_endian_words_are_looked_through_in_their_order() -> None:
    origin = builders.origin(5)
    elements = builders.tree(builders.ct(origin, rows=8, columns=8))
    name = origin.person.name.split("^")[0].encode().ljust(16)
    for el in (El(0x00281101, "US", b"\0\0\0\0\0\0"), El(0x00281201, "OW", struct.pack("<16s", name))):
        raw.put(elements, el)
    output, _ = outcome(raw.part10(elements, BIG))
    assert output is None or not leaks(output, [Canary("name", origin.person.name.split("^")[0])])
