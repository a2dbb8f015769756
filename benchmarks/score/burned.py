"""Letters burned into pixels, for ultrasound: white, three by five points, each drawn twice as large."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.score import tables

# Rows of three bits from the top, as octal digits.
_GLYPHS = {row["letter"]: row["rows"] for row in tables.rows("words/glyphs.csv")}
_SCALE = 2


def draw(pixels: NDArray[np.uint8], text: str, left: int, top: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Write `text` into (rows, columns, …) pixels; return the corners (column, row) of what it covers."""
    shape = "".join(c for c in text.upper() if c in _GLYPHS)
    shape = shape[: max(1, (pixels.shape[1] - left) // (4 * _SCALE))]
    for place, letter in enumerate(shape):
        for row, bits in enumerate(_GLYPHS[letter]):
            for column in range(3):
                if int(bits) >> (2 - column) & 1:
                    x, y = left + (4 * place + column) * _SCALE, top + row * _SCALE
                    pixels[y : y + _SCALE, x : x + _SCALE] = 255
    return (left, top), (left + 4 * _SCALE * len(shape), top + 5 * _SCALE)
