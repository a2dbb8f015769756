"""Private attributes that are known to be safe (PS3.15 section E.3.10): by place, group, creator and element.

What is known comes from Table E.3.10-1, whose attributes are safe wherever they stand, and from the TCIA knowledge
base, which names the sequence that an attribute stands in; profiles/standard/README.md says how they were merged.
Whatever is not named here goes. A block (gggg,xx00–xxFF) belongs to the creator in (gggg,00xx), so elements are known
by the low byte of their number.

The engine asks `root()` at the top of a data set, `Place.inside` at each public sequence that it enters, and the
`children` of a `SafeElement` at each private one. Everything is read once, when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType

from orthanc_deid.core import standard

_NOTHING: Mapping[int, SafeElement] = MappingProxyType({})
_ALWAYS = frozenset({0x00080005})
"""Specific Character Set: without it the text of an item would be read as something else."""


@dataclass(frozen=True, slots=True)
class SafeElement:
    """A private attribute that may stay, if its value may.

    `code` says what is done to its value, whatever the options besides Retain Safe Private are:

    - K: kept, or, for a sequence, its items are entered;
    - C: free text, cleaned as in public attributes;
    - U: UIDs, mapped (constants of the standard are not);
    - SHIFT: a date or time, treated as the subject's public ones are: moved with Modified Dates, kept with Full Dates,
      removed without either.
    """

    element: int  # low byte of the element number
    vr: str  # to read the value by where the file does not state one of `vrs`
    code: str
    provenance: str
    vrs: frozenset[bytes] = frozenset()  # VRs that the file may state
    stated: bool = False  # whether the file must state one: not in implicit VR, and not as UN
    children: Place | None = field(default=None, compare=False, repr=False)  # what may stay in the items of a sequence

    def admits(self, vr: bytes) -> bool:
        """Whether a value of this VR may stay; `vr` is b"" in implicit VR."""
        return vr in self.vrs or (not self.stated and vr in (b"", b"UN"))


class Place:
    """One place in a data set and which private attributes are safe there.

    `public` names the public attributes that may stand there: those that the knowledge base lists among the items of a
    private sequence, to be treated by their own rules. It is None in items of public sequences, where all may stand.
    """

    __slots__ = ("_inside", "_named", "_safe", "public")

    def __init__(self, public: frozenset[int] | None) -> None:
        self.public = public
        self._named: dict[tuple[int, str], dict[int, SafeElement | None]] = {}  # None: safe elsewhere, but not here
        self._inside: dict[int | tuple[int, str, int], Place] = {}
        self._safe: dict[tuple[int, str], Mapping[int, SafeElement]] = {}

    def __reduce__(self) -> str:
        raise TypeError("places are looked up, not sent")

    def safe(self, group: int, creator: str) -> Mapping[int, SafeElement]:
        """Safe attributes of a creator's block by the low byte of their element; empty where none is."""
        key = (group, creator.strip(" \0"))
        found = self._safe.get(key)
        if found is None:
            anywhere, named = _anywhere().get(key), self._named.get(key)
            if anywhere is None and named is None:
                return _NOTHING  # not remembered: creators come from the input, and there is no end of them
            merged = {**(anywhere or {}), **(named or {})}
            found = self._safe[key] = {low: self._here(key, one) for low, one in merged.items() if one is not None}
        return found

    def _here(self, key: tuple[int, str], one: SafeElement) -> SafeElement:
        if one.vr != "SQ":
            return one
        return replace(one, children=self._inside.get((*key, one.element), _in_private()))

    def inside(self, sequence: int) -> Place:
        """Place of the items of a public sequence."""
        return self._inside.get(sequence) or (_in_public() if self.public is None else _in_private())


@lru_cache(maxsize=1)
def root() -> Place:
    """Return the top level of a data set."""
    return _read()[0]


def safe_elements(group: int, creator: str, place: Place | None = None) -> Mapping[int, SafeElement]:
    """Safe private attributes of a creator's block by the low byte of their element, at the top level or at `place`.

    The creator is compared without blanks and NULs around it, and otherwise exactly: case matters. Empty: nothing of
    this creator's is safe there, and the creator goes too.
    """
    return (place or root()).safe(group, creator)


@lru_cache(maxsize=1)
def all_creators() -> frozenset[str]:
    """Return the names of all creators that the tables know, wherever their attributes are safe."""
    steps = (
        step
        for where, attribute, *_ in standard.rows("safe_private_merged.csv")
        for step in (*where.split(" > "), attribute)
    )
    return frozenset(step[9:].strip() for step in steps if "xx" in step[:6])


def _anywhere() -> dict[tuple[int, str], dict[int, SafeElement | None]]:
    return _read()[1]


@lru_cache(maxsize=1)
def _in_public() -> Place:
    """Items of a public sequence that the knowledge base does not name."""
    return Place(None)


@lru_cache(maxsize=1)
def _in_private() -> Place:
    """Items of a private sequence whose content nobody has described."""
    return Place(_ALWAYS)


Step = int | tuple[int, str, int]
"""Tag of a public sequence, or (group, creator, low byte of the element) of a private one."""


def _step(text: str) -> Step:
    """'52009229' → its tag; '0021xxFE SIEMENS MR SDS 01' → (0x0021, 'SIEMENS MR SDS 01', 0xFE)."""
    if "xx" not in text[:6]:
        return int(text, 16)
    return int(text[:4], 16), text[9:].strip(), int(text[6:8], 16)


@lru_cache(maxsize=1)
def _read() -> tuple[Place, dict[tuple[int, str], dict[int, SafeElement | None]]]:
    anywhere: dict[tuple[int, str], dict[int, SafeElement | None]] = {}
    places: dict[tuple[Step, ...], Place] = {(): Place(None)}
    public: dict[tuple[Step, ...], set[int]] = {}

    def at(path: tuple[Step, ...]) -> Place:
        found = places.get(path)
        if found is None:
            private = any(isinstance(step, tuple) for step in path)
            found = places[path] = Place(_ALWAYS if private else None)
            at(path[:-1])._inside[path[-1]] = found
        return found

    for where, attribute, vr, others, stated, code, provenance in standard.rows("safe_private_merged.csv"):
        step = _step(attribute)
        path = tuple(_step(one) for one in where.split(" > ")) if where not in ("", "*") else ()
        if isinstance(step, int):
            at(path)
            public.setdefault(path, set()).add(step)
            continue
        group, creator, low = step
        named = anywhere if where == "*" else at(path)._named
        vrs = frozenset(one.encode() for one in (vr, *others.split()))
        element = SafeElement(low, vr, code, provenance, vrs, stated == "Y") if code != "X" else None
        named.setdefault((group, creator), {})[low] = element
    for path, tags in public.items():
        places[path].public = _ALWAYS | tags
    return places[()], anywhere
