"""Write code_meanings.csv: the meanings of the codes of PS3.16, by the pydicom that is installed.

    python code_meanings.py [TARGET_FOLDER]

Left out: breeds of animals, and what is not written in ASCII. Added: the names of units, which pydicom does not spell
out, and each term of SNOMED CT without the kind of concept that is written behind it.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

from pydicom.sr._concepts_dict import concepts

LEFT_OUT = re.compile(r"\b(breed|cat|dog|organism)\b")
KIND = re.compile(
    r" \((?:body structure|cell|disorder|event|finding|morphologic abnormality|observable entity|physical object|"
    r"procedure|product|qualifier value|regime/therapy|substance|tumor staging)\)$"
)
PREFIXES = ("", "pico", "nano", "micro", "milli", "centi", "deci", "kilo", "mega", "giga")
UNITS = (
    "ampere", "becquerel", "curie", "gram", "gray", "hertz", "joule", "liter", "litre", "meter", "metre", "mole",
    "newton", "ohm", "pascal", "second", "sievert", "tesla", "volt", "watt",
)  # fmt: skip
OTHER_UNITS = (
    "arbitrary unit", "beat per minute", "beats per minute", "bit", "byte", "count", "counts", "counts per second",
    "day", "degree", "degree celsius", "degrees", "event", "events", "frame", "frames", "{events}", "{frames}",
    "{count}", "hounsfield unit", "hounsfield units", "hour", "hu", "inch", "international unit", "milliampere second",
    "milligray.centimeter", "mgy.cm", "mgycm", "minute", "month", "no unit", "no units", "optical density", "percent",
    "percentage", "pixel", "pixels", "radian", "range: 0:1", "ratio", "standardized uptake value body weight",
    "square meter", "unity", "unitless", "voxel", "voxels", "week", "year", "years", "g/ml{suvbw}", "{ratio}",
)  # fmt: skip


def units() -> set[str]:
    """Names of units, with prefixes, squared and cubed, in singular and plural."""
    single = {prefix + unit for prefix in PREFIXES for unit in UNITS}
    lengths = {one for one in single if one.endswith(("meter", "metre"))}
    single |= {f"{power} {one}" for power in ("square", "cubic") for one in lengths}
    return single | {f"{one}s" for one in single} | set(OTHER_UNITS)


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) == 2 else Path(__file__).resolve().parent
    found = {
        " ".join(meaning.lower().split())
        for codes in concepts.values()
        for named in codes.values()
        for meaning, _ in named.values()
    }
    found |= {KIND.sub("", meaning) for meaning in found} | units()
    kept = sorted(meaning for meaning in found if meaning.isascii() and not LEFT_OUT.search(meaning))
    with (target / "code_meanings.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["meaning"])
        writer.writerows([meaning] for meaning in kept)
    print(f"{len(kept)} meanings")


if __name__ == "__main__":
    main()
