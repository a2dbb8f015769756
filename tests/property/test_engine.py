"""Properties of the engine on generated objects: it agrees with the reference, and only answers what it may.

Objects are drawn element by element: any attribute of the dictionary under its VR, sequences in sequences, private and
unknown ones, the patient's own values in between, in every transfer syntax and form of length.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from orthanc_deid.core.errors import QUARANTINE_REASONS, REJECT_REASONS, DeidError
from orthanc_deid.core.uids import map_uid
from pydicom.uid import ImplicitVRLittleEndian

from tests import builders, plants, raw, reference
from tests.engine import SUBJECT, deidentify, outcome, plan_for
from tests.raw import El

PATIENT = builders.person(3)
WORDS = [
    "AXIAL",
    "HELIX",
    "FLAT",
    "BODY",
    "SOFT",
    "quiet",
    "plain",
    "copper",
    "walnut",
    "thirteen",
    "Somnolent",
    "harbour",
]
OWN = [
    PATIENT.name.split("^")[0],
    PATIENT.name.split("^")[1].upper(),
    PATIENT.patient_id,
    PATIENT.birth_date,
    PATIENT.accession(1),
    PATIENT.phone,
]
HELD = {0x00080064, 0x00280301, 0x00420011, 0x54000100, 0x00200020}
"""Attributes that may hold the whole object; it is not these objects that are of interest here."""
SUPPORTED = [
    tag
    for tag, vr in plants.dictionary().items()
    if tag not in plants.STRUCTURE and tag not in HELD and vr != "SQ" and tag >> 16 not in (0x0002, 0x7FE0)
]
SEQUENCES = [tag for tag in plants.sequences() if tag not in HELD]
PASSES = [
    "ct",
    "mr",
    "pt",
    "cr",
    "enhanced_mr",
    "seg",
    "rtstruct",
    "rtplan",
    "rtdose",
    "sr_comprehensive",
    "gsps",
    "kos",
]


@st.composite
def values(draw: st.DrawFn, vr: str) -> bytes:
    """A legal value of that VR, now and then with one of the patient's own in it."""
    if vr in raw.WORD and vr not in ("OW", "OB"):
        return draw(st.binary(min_size=raw.WORD[vr], max_size=raw.WORD[vr]))
    if vr in ("OB", "OW", "UN"):
        return draw(st.sampled_from([b"\1\2\3\4", b"\0\0", b"\xff\xfe" * 5, b"quiet harbour!"]))
    if vr == "DA":
        return draw(st.dates()).strftime("%Y%m%d").rjust(8, "1").encode()
    if vr == "TM":
        return draw(st.sampled_from([b"101500", b"2359", b"081530.123456"]))
    if vr == "DT":
        return draw(st.sampled_from([b"20110506101500", b"20110506101500.000000+0100", b"2011"]))
    if vr == "AS":
        return draw(st.sampled_from([b"047Y", b"003W", b""]))
    if vr in ("DS", "IS"):
        return draw(st.sampled_from([b"1", b"0", b"12", b"380", b"1\\2\\3", b""]))
    if vr == "UI":
        return builders.uid("generated", draw(st.integers(0, 5))).encode()
    word = draw(st.sampled_from(WORDS))
    if draw(st.integers(0, 7)) == 0:
        word = draw(st.sampled_from(OWN))
    if vr == "CS":
        return word.upper()[:16].encode()
    if vr in ("LO", "LT", "ST", "UT", "UC"):
        return f"{word} {draw(st.sampled_from(WORDS))}".encode()[:60]
    return word[:16].encode()


@st.composite
def elements(draw: st.DrawFn, depth: int = 2) -> El:
    """One element: of the dictionary, a sequence, private or unknown."""
    kind = draw(st.sampled_from(["plain"] * 6 + ["sequence"] * (2 if depth else 0) + ["private", "unknown"]))
    if kind == "sequence":
        tag = draw(st.sampled_from(SEQUENCES))
        return El(
            tag,
            "SQ",
            [draw(items(depth - 1)) for _ in range(draw(st.integers(0, 2)))],
            undefined=draw(st.booleans()),
            undefined_items=draw(st.booleans()),
        )
    if kind == "private":
        tag = 0x00110000 | draw(st.sampled_from([0x0010, 0x1001, 0x1002, 0x10FE]))
        return El(tag, "LO", draw(values("LO")))
    if kind == "unknown":
        return El(0x00187000 | draw(st.integers(0, 0xFF)), "LO", draw(values("LO")))
    tag = draw(st.sampled_from(SUPPORTED))
    vr = plants.dictionary()[tag]
    return El(tag, vr, draw(values(vr)))


@st.composite
def items(draw: st.DrawFn, depth: int) -> list[El]:
    found: dict[int, El] = {}
    for el in draw(st.lists(elements(depth), max_size=6)):
        found[el.tag] = el
    return plants.in_order(found.values())


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of a SOP class that passes, with up to twenty more elements in it."""
    name = draw(st.sampled_from(PASSES))
    small = {"rows": 8, "columns": 8} if name == "ct" else {}
    made = builders.tree(builders.ALL[name](builders.Origin(PATIENT), **small))
    for el in draw(st.lists(elements(), max_size=20)):
        raw.put(made, el)
    syntax = draw(st.sampled_from(builders.NATIVE))
    form = raw.form_of(syntax)
    form.undefined, form.undefined_items = draw(st.booleans()), draw(st.booleans())
    for el in made:
        el.as_un = isinstance(el.value, list) and draw(st.integers(0, 9)) == 0 and form.explicit and form.little
    return raw.part10(made, syntax, form=form)


def plant_of(data: bytes) -> list[str]:
    """What was added to a builder's object: for the message of a failing example."""
    _, found, syntax = raw.parse(data)
    own = {el.tag for name in PASSES for el in plants.base(name)}
    return [outcome(data)[1], syntax, *[str(el) for el in found if el.tag not in own]]


FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
MANY = settings(FEW, max_examples=250)


def with_its_own_uid_as_a_context_uid() -> bytes:
    """A UID of the instance's own, where UIDs of coding schemes and the like stay: there it goes."""
    made = builders.tree(builders.ct(builders.Origin(PATIENT), rows=8, columns=8))
    uid = builders.uid("generated", 0).encode()
    raw.put(made, El(0x00080014, "UI", uid))
    raw.put(made, El(0x00080117, "UI", uid))
    return raw.part10(made, ImplicitVRLittleEndian)


@MANY
@given(files())
@example(with_its_own_uid_as_a_context_uid())
def test_the_engine_and_the_reference_agree(data: bytes) -> None:
    output, reason = outcome(data)
    if output is None:
        assert reason in ("value-left", "pixels-not-cleaned"), plant_of(data)
        return
    assert reference.differences(data, output, plan_for(data), SUBJECT) == []


@FEW
@given(files())
def test_the_output_is_well_formed_and_holds_nothing_of_the_patients(data: bytes) -> None:
    output, _ = outcome(data)
    if output is None:
        return
    meta, found, _ = raw.parse(output)
    tags = [el.tag for el in found]
    assert tags == sorted(set(tags))
    assert not any(tag >> 16 & 1 or tag & 0xFFFF == 0 for tag in tags)
    upper = output.upper()
    for value in OWN:
        assert value.upper().encode() not in upper
    assert (
        next(el for el in meta if el.tag == 0x00020003).bytes == next(el for el in found if el.tag == 0x00080018).bytes
    )


@FEW
@given(files())
def test_the_same_source_gives_the_same_bytes_and_they_stay_as_they_are_read_again(data: bytes) -> None:
    output, _ = outcome(data)
    if output is None:
        return
    assert outcome(data)[0] == output
    again = raw.parse(outcome(output)[0] or b"")[1]
    for el in again:  # a second pass changes UIDs, pseudonym and marks, and nothing else
        first = next(other for other in raw.parse(output)[1] if other.tag == el.tag)
        if plants.dictionary().get(el.tag, el.vr) not in ("UI", "SQ") and el.tag not in reference.MARKS:
            assert first == el


@FEW
@given(files(), st.data())
def test_a_file_that_ends_early_is_never_passed(data: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data) - 1))
    output, reason = outcome(data[:cut])
    if output is None:
        assert reason in QUARANTINE_REASONS or reason in REJECT_REASONS
        return
    raw.parse(data[:cut])  # the cut fell between two elements, so that what is left is whole


@FEW
@given(files(), st.integers(0, 2**32))
def test_damaged_bytes_are_refused_or_clean_but_never_a_crash(data: bytes, seed: int) -> None:
    chooser = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(chooser.randint(1, 6)):
        damaged[chooser.randrange(132, len(damaged))] = chooser.randrange(256)
    try:
        output = deidentify(bytes(damaged))
    except DeidError:
        return
    # Whole words of the patient's can only be gone; a damaged one is no longer the patient's.
    name = PATIENT.name.split("^")[0].encode()
    assert name not in output or name not in data


@FEW
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_without_a_crash(data: bytes) -> None:
    for lead in (b"", bytes(128) + b"DICM"):
        output, reason = outcome(lead + data)
        assert output is None and (reason in QUARANTINE_REASONS or reason in REJECT_REASONS)


@FEW
@given(st.binary(min_size=32, max_size=32), st.lists(st.integers(0, 10**30), min_size=2, max_size=20, unique=True))
def test_uids_are_mapped_one_to_one_by_key_alone(key: bytes, numbers: list[int]) -> None:
    uids = [f"1.2.3.{number}" for number in numbers]
    mapped = [map_uid(key, uid) for uid in uids]
    assert len(set(mapped)) == len(uids)
    assert mapped == [reference.map_uid(key, uid) for uid in uids]
    assert all(len(uid) <= 64 and uid.startswith("2.25.") for uid in mapped)
    assert mapped[0] != map_uid(bytes(32) if any(key) else b"\1" * 32, uids[0])


@pytest.mark.parametrize("depth", [60, 200, 5000])
@pytest.mark.parametrize("undefined", [False, True])
def test_sequences_nested_without_end_break_nothing(depth: int, undefined: bool) -> None:
    """PS3.5 sets no limit; a stack has one."""
    body = b""
    for _ in range(depth):
        length = b"\xff\xff\xff\xff" if undefined else len(body).to_bytes(4, "little")
        body = b"\xfe\xff\x00\xe0" + length + body + (b"\xfe\xff\x0d\xe0\0\0\0\0" if undefined else b"")
        whole = b"\xff\xff\xff\xff" if undefined else len(body).to_bytes(4, "little")
        body = b"\x40\x00\x75\x02SQ\0\0" + whole + body + (b"\xfe\xff\xdd\xe0\0\0\0\0" if undefined else b"")
    made = plants.base("ct")
    head = raw.part10([el for el in made if el.tag < 0x00400275], builders.NATIVE[0])
    output, reason = outcome(head + body)
    assert reason in ("too-large", "unparsable") if output is None else raw.parse(output)


@FEW
@given(st.randoms(use_true_random=False), st.sampled_from(["ct", "sr_basic", "rtplan", "enhanced_mr"]))
def test_elements_out_of_order_come_out_in_order(chooser: random.Random, name: str) -> None:
    """PS3.5 section 7.1 asks for ascending tags; some senders don't care, in items least of all."""
    made = plants.base(name)
    wanted = deidentify(raw.part10(made, builders.NATIVE[0]))
    for _, el in raw.walk(made):
        for item in el.value if isinstance(el.value, list) else ():
            chooser.shuffle(item)
    output, reason = outcome(raw.part10(made, builders.NATIVE[0]))
    assert reason in ("", "unparsable")
    assert output is None or output == wanted
