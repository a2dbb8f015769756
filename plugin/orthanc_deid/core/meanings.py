"""Code Meanings of the standard's own context groups (PS3.16): whole, they are vocabulary and name nobody.

Only a whole value counts. Their words do not: eponyms among them are people's names elsewhere.
"""

from __future__ import annotations

from functools import lru_cache

from orthanc_deid.core import standard

CODE_MEANING = 0x00080104


@lru_cache(maxsize=1)
def _meanings() -> frozenset[bytes]:
    # Read as bytes and not by csv: a table of one column, and the first Code Meaning of a worker waits for it.
    lines = (standard.FOLDER / "code_meanings.csv").read_bytes().splitlines()[1:]
    return frozenset(line[1:-1].replace(b'""', b'"') if line[:1] == b'"' else line for line in lines)


def is_standard(value: bytes) -> bool:
    """Whether a Code Meaning, as it stands in an object, is one of the standard's; case and padding do not matter."""
    return b" ".join(value.strip(b"\0").lower().split()) in _meanings()
