"""Compressed pixel streams: what goes, what stays, and that a clean one is not touched."""

from __future__ import annotations

import zlib

import pytest
from orthanc_deid.core.errors import Quarantined
from orthanc_deid.core.streams import clean, precision

SECRET = b"CANARY^STREAM"


def segment(code: int, body: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(body) + 2).to_bytes(2, "big") + body


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
ADOBE = segment(0xEE, b"Adobe\0\x64\0\0\0\0\1")
FRAME = segment(0xC0, bytes([8, 0, 1, 0, 1, 1, 1, 0x11, 0]))
SCAN = segment(0xDA, b"\1\1\0\0\x3f\0") + b"\x12\xff\0\x34\xff\xd0\x56"
JPEG = b"\xff\xd8" + JFIF + ADOBE + segment(0xDB, bytes(65)) + FRAME + segment(0xC4, bytes(20)) + SCAN + b"\xff\xd9"

SIZ = segment(0x51, b"\0\0" + (1).to_bytes(4, "big") * 8 + b"\0\1" + b"\x0b\1\1")
TILE_DATA = b"\x01\x02\xff\x7f\x03"


def j2k(*, main: bytes = b"", tile: bytes = b"", length: bool = True, tail: bytes = b"") -> bytes:
    size = 12 + len(tile) + 2 + len(TILE_DATA)
    sot = segment(0x90, b"\0\0" + (size if length else 0).to_bytes(4, "big") + b"\0\1")
    return (
        b"\xff\x4f" + SIZ + segment(0x52, bytes(10)) + main + sot + tile + b"\xff\x93" + TILE_DATA + b"\xff\xd9" + tail
    )


def cleaned(stream: str, data: bytes, length: int = 1) -> bytes | None:
    parts = clean(stream, data, length)
    if parts is None:
        return None
    return b"".join(part if isinstance(part, bytes) else data[part[0] : part[1]] for part in parts)


def rle(*segments: bytes, gap: bytes = b"") -> bytes:
    offsets, body, at = [], b"", 64
    for one in segments:
        offsets.append(at)
        body += one + gap
        at += len(one) + len(gap)
    header = [len(segments), *offsets, *[0] * (15 - len(segments))]
    return b"".join(number.to_bytes(4, "little") for number in header) + body


@pytest.mark.parametrize("data", [JPEG, JPEG + b"\0"], ids=["exact", "padded"])
def test_a_clean_jpeg_is_not_touched(data: bytes) -> None:
    assert clean("jpeg", data, 1) is None


@pytest.mark.parametrize(
    "foreign",
    [
        segment(0xFE, SECRET),
        segment(0xE1, b"Exif\0\0" + SECRET),
        segment(0xED, b"Photoshop 3.0\0" + SECRET),
        segment(0xE0, b"JFXX\0\x10" + SECRET),
        segment(0xE8, b"SOMETHING" + SECRET),
    ],
    ids=["COM", "Exif", "APP13", "JFXX", "APP8"],
)
def test_comments_and_foreign_segments_of_a_jpeg_go(foreign: bytes) -> None:
    assert cleaned("jpeg", JPEG[:2] + foreign + JPEG[2:]) == JPEG
    before_scan = JPEG.index(SCAN)
    assert cleaned("jpeg", JPEG[:before_scan] + foreign + JPEG[before_scan:]) == JPEG
    assert cleaned("jpeg", JPEG[:-2] + foreign + JPEG[-2:]) == JPEG


def test_what_stands_behind_the_end_of_a_jpeg_goes() -> None:
    assert cleaned("jpeg", JPEG + SECRET) == JPEG


def test_the_thumbnail_of_jfif_goes_and_jfif_stays() -> None:
    fat = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\2\2" + SECRET[:12])
    assert cleaned("jpeg", b"\xff\xd8" + fat + JPEG[2 + len(JFIF) :]) == JPEG


def test_adobe_is_cut_to_what_decoders_read() -> None:
    at = JPEG.index(ADOBE)
    fat = segment(0xEE, ADOBE[4:] + SECRET)
    assert cleaned("jpeg", JPEG[:at] + fat + JPEG[at + len(ADOBE) :]) == JPEG


def test_a_comment_between_two_scans_goes() -> None:
    two = JPEG[:-2] + SCAN + JPEG[-2:]
    commented = JPEG[:-2] + segment(0xFE, SECRET) + SCAN + JPEG[-2:]
    assert clean("jpeg", two, 1) is None
    assert cleaned("jpeg", commented) == two


def test_jpeg_ls_has_markers_of_its_own() -> None:
    ls = (
        b"\xff\xd8"
        + segment(0xF7, FRAME[4:])
        + segment(0xF8, b"\1" + bytes(10))
        + SCAN[:10]
        + b"\xff\x7f\x12"
        + b"\xff\xd9"
    )
    assert clean("jpegls", ls, 1) is None
    assert cleaned("jpegls", ls[:2] + segment(0xE8, b"mrfx\3") + segment(0xFE, SECRET) + ls[2:]) == (
        ls[:2] + segment(0xE8, b"mrfx\3") + ls[2:]
    )


@pytest.mark.parametrize("broken", [JPEG[:-2], JPEG[:30], b"\xff\xd8\xff\xd9", b"GIF89a", JPEG[:2] + b"\0" + JPEG[2:]])
def test_a_jpeg_that_cannot_be_followed_is_held(broken: bytes) -> None:
    with pytest.raises(Quarantined) as held:
        clean("jpeg", broken, 1)
    assert held.value.reason in ("unparsable", "truncated")


def test_comments_of_jpeg_2000_go_and_tile_lengths_follow() -> None:
    comment = segment(0x64, b"\0\1" + SECRET)
    assert clean("j2k", j2k(), 1) is None
    assert clean("j2k", j2k(length=False), 1) is None
    assert cleaned("j2k", j2k(main=comment)) == j2k()
    assert cleaned("j2k", j2k(tile=comment)) == j2k()
    assert cleaned("j2k", j2k(main=comment, tile=comment, length=False)) == j2k(length=False)
    assert cleaned("j2k", j2k(tail=SECRET)) == j2k()


def test_a_jp2_file_and_a_table_of_lengths_with_a_comment_are_held() -> None:
    with pytest.raises(Quarantined):
        clean("j2k", b"\0\0\0\x0cjP  \r\n\x87\n" + j2k(), 1)
    with pytest.raises(Quarantined) as held:
        clean("j2k", j2k(main=segment(0x55, bytes(8)), tile=segment(0x64, b"\0\1" + SECRET)), 1)
    assert held.value.reason == "unsupported"


def test_rle_segments_are_followed_to_their_end() -> None:
    literal = b"\x03ABCD"
    repeat = bytes([257 - 4, 7])
    fine = rle(literal + b"\0", repeat)
    assert clean("rle", fine, 8) is None
    dirty = rle(literal, repeat, gap=SECRET)
    made = cleaned("rle", dirty, 8)
    assert made is not None and SECRET not in made
    assert clean("rle", made, 8) is None
    with pytest.raises(Quarantined):
        clean("rle", rle(literal), 8)


def test_what_stands_behind_a_deflated_frame_goes() -> None:
    packer = zlib.compressobj(wbits=-15)
    frame = packer.compress(bytes(100)) + packer.flush()
    assert clean("deflate", frame, 100) is None
    assert cleaned("deflate", frame + SECRET, 100) == frame
    with pytest.raises(Quarantined):
        clean("deflate", frame[:-3], 100)


@pytest.mark.parametrize("stream", ["video", "jpegxl"])
def test_streams_that_cannot_be_checked_are_held(stream: str) -> None:
    with pytest.raises(Quarantined) as held:
        clean(stream, b"\xff\x0a" + bytes(100), 1)
    assert held.value.reason == "unsupported"


def test_precision_is_read_from_the_frame_header() -> None:
    assert precision("jpeg", JPEG) == 8
    assert precision("j2k", j2k()) == 12
    assert precision("rle", b"") is None
