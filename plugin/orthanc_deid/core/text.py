"""Character sets of DICOM (PS3.5 section 6.1), by pydicom's tables."""

from __future__ import annotations

import re
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
        return _decode_extended(raw, charset)
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


_DESIGNATED = {
    # PS3.3 table C.12-3 and C.12-4: how a part in another than the first character set begins
    "latin_1": b"\x1b-A",
    "iso8859_2": b"\x1b-B",
    "iso8859_3": b"\x1b-C",
    "iso8859_4": b"\x1b-D",
    "iso_ir_126": b"\x1b-F",
    "iso_ir_127": b"\x1b-G",
    "iso_ir_138": b"\x1b-H",
    "iso_ir_144": b"\x1b-L",
    "iso_ir_148": b"\x1b-M",
    "iso_ir_166": b"\x1b-T",
    "euc_kr": b"\x1b$)C",
    "iso_ir_58": b"\x1b$)A",
    "iso2022_jp": b"",  # Python's codec puts the escape sequences itself, and returns to ASCII
    "iso2022_jp_2": b"",
    "shift_jis": b"\x1b)I",
}
_DELIMITERS = re.compile(r"([\n\f\r\\^=])")


_DESIGNATES = {sequence: name for name, sequence in _DESIGNATED.items() if sequence}
_TWO_BYTES = {b"\x1b$B": "iso2022_jp", b"\x1b$@": "iso2022_jp", b"\x1b$(D": "iso2022_jp_2"}
_ESCAPES = re.compile(rb"(\x1b(?:\$\)[AC]|\$\(D|\$[B@]|\([BJ]|\)I|-[A-Z]))")


def _decode_extended(raw: bytes, charset: tuple[str, ...]) -> str:
    """Decode a value with escape sequences (PS3.5 section 6.1.2.5): each holds until the next, or a delimiter.

    A sequence that the standard does not know stays in the text as it is.
    """
    first = upper = charset[0] if charset[0] != "ascii" else "latin-1"
    two_bytes = b""
    out: list[str] = []
    for part in _ESCAPES.split(raw):
        if part in _TWO_BYTES:
            two_bytes = part
        elif _ESCAPES.fullmatch(part):
            upper = _DESIGNATES.get(part, upper)
            two_bytes = b"" if part[1:2] == b"(" else two_bytes
        elif two_bytes:
            # Signs of two bytes may hold those of delimiters, except line ends, which no set replaces.
            signs, line_end, rest = _LINE_END.match(part).groups()  # type: ignore[union-attr]
            out.append((two_bytes + signs).decode(_TWO_BYTES[two_bytes], "replace"))
            if line_end:
                two_bytes, upper = b"", first
                out.append((line_end + rest).decode(first, "replace"))
        else:
            for piece in _RAW_DELIMITERS.split(part):
                if _RAW_DELIMITERS.fullmatch(piece):
                    upper = first
                out.append(piece.decode(upper, "replace"))
    return "".join(out)


_LINE_END = re.compile(rb"([^\n\f\r]*)([\n\f\r]?)(.*)", re.DOTALL)
_RAW_DELIMITERS = re.compile(rb"([\n\f\r\\^=])")


def encode(text: str, charset: tuple[str, ...]) -> bytes | None:
    """Encode a text value for its character set, with code extensions (ISO 2022) where there are several.

    None where it cannot be encoded so that it reads as the same text.
    """
    first = "latin-1" if charset[0] == "ascii" else charset[0]
    try:
        if len(charset) == 1:
            made = text.encode(first)
        else:
            # Every delimiter brings the first character set back (PS3.5 section 6.1.2.5.3).
            made = b"".join([_extended(part, first, charset[1:]) for part in _DELIMITERS.split(text)])
    except (LookupError, UnicodeEncodeError):
        return None
    return made if decode(made, charset) == text else None


def _extended(text: str, first: str, others: tuple[str, ...]) -> bytes:
    """Encode text without delimiters: in the first character set where that suffices, else part by part."""
    out: list[bytes] = []
    now = first
    for part in re.findall(r"[\0-\x7f]+|[^\0-\x7f]+", text):
        if part.isascii():
            out.append(part.encode("ascii"))
            continue
        for name in dict.fromkeys((now, first, *others)):
            try:
                made = part.encode(name)
            except UnicodeEncodeError:
                continue
            if name == now or not _DESIGNATED[name]:
                out.append(made)
            else:
                out.append(_DESIGNATED[name] + made)
                now = name
            break
        else:
            part.encode(first)  # says what cannot be encoded
    return b"".join(out)
