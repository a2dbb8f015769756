"""The Encrypted Attributes Sequence (0400,0500): what was removed, for those who may open it (PS3.15 E.1.1, E.1.2).

Its one item says in which transfer syntax the content is (0400,0510), and carries it (0400,0520): a data set whose only
attribute is Modified Attributes Sequence (0400,0550) with the attributes of the source's top level that the output does
not have as they were. How it is encrypted is the caller's: this module sees bytes in and bytes out.

Not among them: pixels, and attributes of more than 1 MB. An output with this sequence can be turned back into the
patient's by whoever has a recipient's key; it is off unless a project names recipients.
"""

from __future__ import annotations

from collections.abc import Callable

from . import encode
from .errors import Quarantined
from .source import Source
from .syntax import BIG, LITTLE, Syntax
from .walk import Short, Walker

SEQUENCE, SYNTAX, CONTENT, MODIFIED = 0x04000500, 0x04000510, 0x04000520, 0x04000550
MAX_CONTENT = 1 << 24
"""More than this of what was removed is held: no header has so much of it."""

Encrypt = Callable[[bytes], bytes]

_IMPLICIT, _EXPLICIT, _BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"


def sequence(removed: list[bytes], source: Source, encrypt: Encrypt) -> bytes:
    """Return the encoded sequence; `removed` are whole elements in the source's encoding and order."""
    syntax = source.syntax
    numbers = LITTLE if syntax.little else BIG
    body = b"".join(removed)
    if len(body) > MAX_CONTENT:
        raise Quarantined("too-large", "more was removed than can be encrypted into one attribute", SEQUENCE)
    plain = encode.sequence(numbers, syntax.explicit, MODIFIED, [body])
    item = encode.element(numbers, syntax.explicit, SYNTAX, b"UI", _base(syntax).encode())
    item += encode.element(numbers, syntax.explicit, CONTENT, b"OB", encrypt(plain))
    return encode.sequence(numbers, syntax.explicit, SEQUENCE, [item])


def _base(syntax: Syntax) -> str:
    """Return the transfer syntax without compression that the elements of a data set are in."""
    return (_EXPLICIT if syntax.little else _BIG) if syntax.explicit else _IMPLICIT


def contents(source: Source) -> list[tuple[str, bytes]]:
    """Return transfer syntax and encrypted content of each item; an empty list where there is no such sequence.

    Raises Quarantined `unparsable` for a sequence that is none.
    """
    place = source.facts.element(SEQUENCE)
    if place is None:
        return []
    segment, element = place
    inner, items = segment.walker.sequence(element, 0)
    found = []
    for *_, elements in items:
        values = {one[0]: inner.buf[one[3] : one[4]] for one in elements}
        if not {SYNTAX, CONTENT} <= values.keys():
            raise Quarantined("unparsable", "an item without transfer syntax or content", SEQUENCE)
        found.append((values[SYNTAX].strip(b" \0").decode("latin-1"), values[CONTENT]))
    return found


def attributes(plain: bytes, syntax: str) -> bytes:
    """Return the attributes in a decrypted content, as encoded elements; raises Quarantined `unparsable`."""
    if syntax not in (_IMPLICIT, _EXPLICIT, _BIG):
        raise Quarantined("unsupported-transfer-syntax", "the encrypted content's", SYNTAX)
    walker = Walker(plain, explicit=syntax != _IMPLICIT, little=syntax != _BIG)
    try:
        elements, _ = walker.elements(0, len(plain), 1)
        for element in elements:
            if element[0] == MODIFIED:
                _, items = walker.sequence(element, 0)
                return b"".join([plain[start:stop] for _, start, stop, _, _ in items])
    except Short:
        raise Quarantined("unparsable", "the encrypted content is cut off", CONTENT) from None
    raise Quarantined("unparsable", "the encrypted content has no Modified Attributes Sequence", MODIFIED)
