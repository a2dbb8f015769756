"""The engine and the slow, obvious pydicom implementation agree, element for element, on objects of every kind."""

from __future__ import annotations

import pytest
from pydicom.uid import ImplicitVRLittleEndian

from tests import builders, plants, raw, reference
from tests.canaries import Mint
from tests.engine import SUBJECT, deidentify, plan_for
from tests.raw import El


def agree(data: bytes) -> None:
    assert reference.differences(data, deidentify(data), plan_for(data), SUBJECT) == []


@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("name", builders.PASS)
def test_objects_of_every_kind_and_syntax(name: str, syntax: str) -> None:
    agree(builders.to_bytes(builders.PASS[name](), syntax))


@pytest.mark.parametrize("syntax", builders.COMPRESSED, ids=lambda syntax: syntax.name)
def test_compressed_objects(syntax: str) -> None:
    agree(builders.to_bytes(builders.compress(builders.mr(), syntax), syntax))


LENGTHS = [{"undefined": True}, {"undefined_items": True}, {"undefined": True, "undefined_items": True}]


@pytest.mark.parametrize("options", LENGTHS)
@pytest.mark.parametrize("name", ["sr_comprehensive", "rtstruct", "enhanced_ct", "seg"])
def test_undefined_lengths(name: str, options: dict[str, bool]) -> None:
    data = builders.to_bytes(builders.PASS[name](), **options)
    agree(data)
    assert reference.flatten(reference.read(deidentify(data))) == reference.flatten(
        reference.read(deidentify(builders.to_bytes(builders.PASS[name]())))
    )


@pytest.mark.parametrize("name", ["ct", "sr_comprehensive", "rtplan", "enhanced_mr"])
def test_every_attribute_of_the_dictionary(name: str) -> None:
    known = plants.texts()
    held = (0x00080064, 0x00420011, 0x7FE00001, 0x7FE00002)  # the last two are pixels' business
    for tags in plants.chunks([tag for tag in known if tag not in held], 100):
        mint, elements = Mint(), plants.base(name)
        for tag in tags:
            raw.put(elements, plants.element(tag, known[tag], mint))
        agree(raw.part10(elements, builders.NATIVE[0]))


@pytest.mark.parametrize("name", ["ct", "sr_measurements"])
def test_every_sequence_of_the_dictionary(name: str) -> None:
    known = plants.texts()
    for number, tags in enumerate(plants.chunks([tag for tag in plants.sequences() if tag != 0x54000100][::5], 20)):
        mint, elements = Mint(), plants.base(name)
        for tag in tags:
            raw.put(elements, plants.nested(mint, tag, number, 2, known))
        agree(raw.part10(elements, builders.NATIVE[number % 3]))


def test_attributes_younger_than_pydicoms_dictionary_in_implicit_vr() -> None:
    """Table E.1-1 has 26 of them; read as UN they would be passed over, and the items in them too."""
    elements = plants.base("ct")
    mint = Mint()
    raw.put(elements, El(0x00100041, "SQ", [[El(0x00100044, "SQ", [[plants.element(0x00080104, "LO", mint)]])]]))
    agree(raw.part10(elements, ImplicitVRLittleEndian))


def test_the_reference_can_disagree() -> None:
    """Otherwise all of the above would prove nothing."""
    data = builders.to_bytes(builders.mr())
    output = deidentify(data)
    changed = output.replace(b"T1 axial", b"T2 axial").replace(b"HEAD", b"FOOT")
    assert changed != output
    assert reference.differences(data, changed, plan_for(data), SUBJECT)


@pytest.mark.parametrize("options", [{}, *LENGTHS])
@pytest.mark.parametrize(
    "syntax", [builders.NATIVE[0], builders.NATIVE[2], builders.NATIVE[3]], ids=lambda syntax: syntax.name
)
def test_a_sequence_sent_as_un_in_every_form(syntax: str, options: dict[str, bool]) -> None:
    """Its items are in implicit VR little endian, whatever the file is in (PS3.5 section 6.2.2, note 2)."""
    for name in ("ct", "sr_basic"):
        made = builders.PASS[name]()
        sequences = [el.tag for el in builders.tree(made) if isinstance(el.value, list)]
        plain, wrapped = builders.to_bytes(made, syntax), builders.to_bytes(made, syntax, un=sequences, **options)
        assert values(deidentify(plain)) == values(deidentify(wrapped))


def values(data: bytes) -> list[tuple[tuple[int, ...], bytes]]:
    return [(path, el.value) for path, el in raw.walk(raw.parse(data)[1]) if isinstance(el.value, bytes)]
