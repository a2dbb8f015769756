"""Ages (VR AS): capped, since few people are very old, and put into bands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_AGE = re.compile(rb"(\d{1,3}) ?([DWMYdwmy])")
# Completed years of an age in each unit: numerator and denominator. Four years have 1461 days.
_YEARS = {b"Y": (1, 1), b"M": (1, 12), b"W": (28, 1461), b"D": (4, 1461)}


@dataclass(frozen=True, slots=True)
class Ages:
    """How ages are coarsened.

    `cap`: everybody older (in completed years) gets cap + 1, so 89 makes 090Y of 90, 95 and 104; None: no cap. `band`:
    width of the bands in years, None: ages stay as they are. Bands include their upper edge, and the first one birth:
    with 5 they are 0–5, 6–10, 11–15 in completed years. `representative` is what stands for a band: 'upper'
    (25 < age <= 30 → 030Y), 'lower' (025Y) or 'middle' (rounded down: 027Y).
    """

    cap: int | None = None
    band: int | None = None
    representative: str = "upper"


@lru_cache(maxsize=1024)
def change_age(value: bytes, ages: Ages) -> bytes | None:
    """Return an AS value ('045Y', '018M', '003W', '010D') as `ages` says, unpadded; None: not an age.

    Without a band, an age within the cap keeps its unit: '018M' stays. With one, all ages come out in years. An empty
    value stays empty; several values are changed one by one.
    """
    value = value.strip(b" \0")
    if not value:
        return b""
    if b"\\" in value:
        parts = [change_age(part, ages) for part in value.split(b"\\")]
        return None if None in parts else b"\\".join(part for part in parts if part is not None)
    found = _AGE.fullmatch(value)
    if found is None:
        return None
    number, unit = int(found[1]), found[2].upper()
    times, by = _YEARS[unit]
    years = number * times // by
    if ages.cap is not None and years > ages.cap:
        return b"%03dY" % min(ages.cap + 1, 999)
    if ages.band is None:
        return b"%03d%s" % (number, unit)
    upper = max(1, -(-years // ages.band)) * ages.band
    lower = upper - ages.band
    years = {"upper": upper, "lower": lower, "middle": (lower + upper) // 2}[ages.representative]
    if ages.cap is not None:
        years = min(years, ages.cap + 1)  # a band that reaches over the cap is not told from those above it
    return b"%03dY" % min(years, 999)
