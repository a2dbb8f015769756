"""What may carry burned-in text is held, whichever of its signs it shows and however it is encoded; originals pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MPEG4HP41, JPEG2000Lossless, JPEGBaseline8Bit

from tests import builders
from tests.engine import outcome


def ct() -> Dataset:
    return builders.ct(rows=16, columns=16)


def changed(**attributes: object) -> Callable[[], Dataset]:
    return lambda: builders.extend(ct(), **attributes)


def rgb(make: Callable[[], Dataset], photometric: str = "RGB") -> Callable[[], Dataset]:
    samples = 1 if photometric == "PALETTE COLOR" else 3
    return lambda: builders.pixels(make(), 16, 16, bits=8, samples=samples, photometric=photometric)


def overlay_in_pixels() -> Dataset:
    dataset = ct()
    for tag, vr, value in (
        (0x60000010, "US", 16),
        (0x60000011, "US", 16),
        (0x60000040, "CS", "G"),
        (0x60000050, "SS", [1, 1]),
        (0x60000100, "US", 16),
        (0x60000102, "US", 12),
    ):
        dataset.add_new(tag, vr, value)
    return dataset


def bits_above() -> Dataset:
    dataset = ct()
    data = bytearray(dataset.PixelData)
    data[77 * 2 + 1] |= 0x80
    dataset.PixelData = bytes(data)
    return dataset


SIGNS: dict[str, Callable[[], Dataset]] = {
    "Burned In Annotation YES": changed(BurnedInAnnotation="YES"),
    "Image Type SECONDARY": changed(ImageType=["ORIGINAL", "SECONDARY", "AXIAL"]),
    "Image Type SCREEN SAVE": changed(ImageType=["DERIVED", "PRIMARY", "SCREEN SAVE"]),
    "Conversion Type": changed(ConversionType="DF"),
    "modality US under a CT class": changed(Modality="US"),
    "modality OT under a CT class": changed(Modality="OT"),
    "modality ES under a CT class": changed(Modality="ES"),
    "RGB in CT": rgb(ct),
    "PALETTE COLOR in MR": rgb(builders.mr, "PALETTE COLOR"),
    "RGB in PT": rgb(builders.pt),
    "overlay in the pixels": overlay_in_pixels,
    "a bit above Bits Stored": bits_above,
    **builders.HELD,
}


@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("sign", SIGNS)
def test_any_one_sign_holds_the_object(sign: str, syntax: str) -> None:
    assert outcome(builders.to_bytes(SIGNS[sign](), syntax)) == (None, "pixels-not-cleaned")


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless], ids=lambda syntax: syntax.name)
def test_compression_is_no_way_around(syntax: str) -> None:
    """Rivals forward a compressed image whose text they could not mask."""
    for make in (builders.us, builders.sc, changed(BurnedInAnnotation="YES")):
        assert outcome(builders.to_bytes(builders.compress(make(), syntax), syntax)) == (None, "pixels-not-cleaned")


def test_video_is_held_under_any_class() -> None:
    data = builders.to_bytes(builders.compress(builders.video(), MPEG4HP41), MPEG4HP41)
    assert outcome(data) == (None, "pixels-not-cleaned")
    assert outcome(builders.to_bytes(builders.compress(builders.mr(), MPEG4HP41), MPEG4HP41))[0] is None


@pytest.mark.parametrize("uid", ["1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.1.99999", "1.2.840.10008.1.1", ""])
def test_unknown_and_private_sop_classes_are_held(uid: str) -> None:
    assert outcome(builders.to_bytes(builders.extend(ct(), SOPClassUID=uid)))[1] in ("unknown-sop-class", "unparsable")


@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("name", ["ct", "mr", "pt", "nm", "cr", "dx", "mg"])
def test_originals_pass(name: str, syntax: str) -> None:
    output, reason = outcome(builders.to_bytes(builders.PASS[name](), syntax))
    assert output is not None, reason
