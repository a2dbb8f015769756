"""Character sets of DICOM (PS3.5 section 6.1), by pydicom's tables."""

from __future__ import annotations

from functools import lru_cache

ASCII = ("ascii",)


@lru_cache(maxsize=256)
def encodings(charset: bytes) -> tuple[str, ...]:
    """Return the Python encodings for a value of Specific Character Set (0008,0005); ASCII where it is empty.

    An unknown term falls back to Latin-1, which decodes anything: a wrong letter is better than a value that is
    not looked at.
    """
    terms = [term.strip() for term in charset.decode("ascii", "replace").strip(" \0").split("\\")]
    if terms in ([""], ["ISO_IR 6"], ["ISO 2022 IR 6"]):
        return ASCII
    from pydicom.charset import python_encoding

    found = tuple(python_encoding.get(term.replace("ISO_IR_", "ISO_IR "), "latin-1") for term in terms)
    return tuple("ascii" if encoding in ("iso8859", "iso_ir_6") and not terms[0] else encoding for encoding in found)


def decode(raw: bytes, charset: tuple[str, ...]) -> str:
    """Decode a text value as its character set asks; bytes that do not fit become U+FFFD, never an error."""
    if raw.isascii() and b"\x1b" not in raw and charset[0] not in ("iso2022_jp", "shift_jis"):
        return raw.decode("ascii")
    if b"\x1b" in raw:
        from pydicom.charset import decode_bytes

        try:
            return str(
                decode_bytes(
                    raw, [name if name != "ascii" else "iso8859" for name in charset], {10, 12, 13, 92, 94, 61}
                )
            )
        except (LookupError, UnicodeError):
            return raw.decode("latin-1")
    encoding = charset[0] if charset[0] != "ascii" else "latin-1"
    try:
        return raw.decode(encoding, "replace")
    except LookupError:
        return raw.decode("latin-1")


def readings(raw: bytes, charset: tuple[str, ...]) -> list[str]:
    """Return the ways a value can be read: as its character set asks, and as UTF-8 where that fits too.

    Names in UTF-8 under another (or no) Specific Character Set are common in the field; which reading is right does
    not matter to who looks for a name.
    """
    text = decode(raw, charset)
    if raw.isascii():
        return [text]
    try:
        other = raw.decode("utf-8")
    except UnicodeDecodeError:
        other = raw.decode("latin-1")
    return [text] if other == text else [text, other]
