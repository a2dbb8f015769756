"""Transfer syntaxes: how a data set and its pixels are encoded (PS3.5 section 10 and annex A)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from struct import Struct

STANDARD = Path(__file__).parent.parent / "profiles" / "standard"


@dataclass(frozen=True)
class Syntax:
    """One transfer syntax, with the readers and writers of its numbers.

    `stream` names the family of the pixel stream: native, raw (native bytes in fragments), jpeg, jpegls, j2k, jpegxl,
    rle, deflate or video.
    """

    uid: str
    name: str
    explicit: bool
    little: bool
    deflated: bool
    stream: str

    @property
    def encapsulated(self) -> bool:
        """Whether Pixel Data is a sequence of fragments (PS3.5 A.4)."""
        return self.stream != "native"


class Numbers:
    """The structs of one byte order, made once."""

    __slots__ = ("long", "long_head", "order", "short", "short_head", "tag_length")

    def __init__(self, order: str) -> None:
        self.order = order
        self.short_head = Struct(order + "HH2sH")  # group, element, VR, 16-bit length
        self.long_head = Struct(order + "HH2sHL")  # group, element, VR, reserved, 32-bit length
        self.tag_length = Struct(order + "HHL")  # group, element, 32-bit length: implicit VR and items
        self.long = Struct(order + "L")
        self.short = Struct(order + "H")


LITTLE = Numbers("<")
BIG = Numbers(">")


@lru_cache(maxsize=1)
def syntaxes() -> dict[str, Syntax]:
    """Read the table of the transfer syntaxes that the engine handles, by UID."""
    with (STANDARD / "transfer_syntaxes.csv").open(newline="", encoding="utf-8") as file:
        return {
            row["uid"]: Syntax(
                row["uid"],
                row["name"],
                row["explicit"] == "Y",
                row["little_endian"] == "Y",
                row["deflated"] == "Y",
                row["stream"],
            )
            for row in csv.DictReader(file)
        }
