"""Puts canaries into objects: in every attribute of the dictionary, in every sequence, and around the data set."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from functools import cache

from orthanc_deid.core import standard
from orthanc_deid.core.plan import Plan, Rule
from pydicom.datadict import DicomDictionary

from tests import builders, raw
from tests.canaries import Mint
from tests.raw import El

STRUCTURE = frozenset(
    {
        0x00080005,  # Specific Character Set: how the rest is read
        0x00080016,  # SOP Class UID: which plan applies
        0x00020010,
        *range(0x00280002, 0x00280012),  # the image's own description, which the pixels must fit
        *range(0x00280100, 0x00280104),
        0x7FE00008,
        0x7FE00009,
        0x7FE00010,
    }
)
"""Attributes that keep their true value in the sweep, since the object would be another or none with a canary there."""


@cache
def dictionary() -> dict[int, str]:
    """Every attribute of a data set that PS3.6 or Table E.1-1 knows, with its VR; repeating groups at 5000 and 6000."""
    found = {int(tag): entry[0].split(" or ")[0] for tag, entry in DicomDictionary.items()}
    for tag, attribute in standard.dictionary().items():
        found.setdefault(tag, attribute.vr)
    for group in (0x5000, 0x501E, 0x6000, 0x601E):
        for number in range(0x0005, 0x3002):
            repeated = standard.attribute(group << 16 | number)
            if repeated is not None:
                found[group << 16 | number] = repeated.vr
    return {
        tag: vr for tag, vr in sorted(found.items()) if tag > 0x00080000 and tag < 0xFFFA0000 and vr not in ("NONE", "")
    }


def rule(plan: Plan, path: list[int]) -> Rule:
    """The plan's rule for a place; where a sequence on the way there is not entered, that sequence's."""
    node = plan.root
    for tag in path[:-1]:
        found = node[tag]
        if found.child is None:
            return found
        node = found.child
    return node[path[-1]]


def place(path: Iterable[int], vr: str) -> str:
    """A place as text that `tags_of` reads back."""
    return "/".join(f"{tag:08x}" for tag in path) + " " + vr


def tags_of(where: str) -> list[int]:
    return [int(part, 16) for part in where.split(" ")[0].split("/")]


def element(tag: int, vr: str, mint: Mint, path: tuple[int, ...] = ()) -> El:
    """An element with a canary in it."""
    return El(tag, vr, mint.value(vr, place((*path, tag), vr)))


def in_order(elements: Iterable[El]) -> list[El]:
    return sorted(elements, key=lambda el: el.tag)


def chunks(tags: list[int], size: int) -> Iterator[list[int]]:
    for at in range(0, len(tags), size):
        yield tags[at : at + size]


@cache
def texts() -> dict[int, str]:
    """The attributes that hold text, UIDs, dates, times or opaque bytes."""
    plain = {"SQ", "AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV", "AS", "IS", "DS"}
    return {tag: vr for tag, vr in dictionary().items() if vr not in plain and tag not in STRUCTURE}


@cache
def sequences() -> list[int]:
    return [tag for tag, vr in dictionary().items() if vr == "SQ"]


def item(mint: Mint, path: tuple[int, ...], tags: Iterable[int], known: dict[int, str]) -> list[El]:
    """An item with a canary in each of the attributes, in a private block, in an unknown attribute."""
    found = [element(tag, known[tag], mint, path) for tag in tags]
    found.append(El(0x00090010, "LO", mint.token(place((*path, 0x00090010), "LO")).encode()))
    found.append(element(0x00091001, "LT", mint, path))
    found.append(element(0x00091002, "UN", mint, path))
    found.append(element(0x00085FFF, "LO", mint, path))
    return in_order({el.tag: el for el in found}.values())


def nested(mint: Mint, tag: int, seed: int, depth: int, known: dict[int, str], path: tuple[int, ...] = ()) -> El:
    """A sequence whose item holds canaries, and sequences with canaries in their turn down to `depth`."""
    chooser = random.Random(f"{seed}/{tag}/{depth}")
    path = (*path, tag)
    choice = tuple(known)
    elements = item(mint, path, chooser.sample(choice, 15), known)
    if depth > 1:
        for inner in chooser.sample(sequences(), 2):
            raw.put(elements, nested(mint, inner, seed, depth - 1, known, path))
        private = El(0x00091010, "SQ", [item(mint, (*path, 0x00091010), chooser.sample(choice, 3), known)])
        raw.put(elements, private)
    return El(tag, "SQ", [elements])


def base(name: str) -> list[El]:
    """A small object of that kind, as a tree."""
    small = {"rows": 8, "columns": 8} if name == "ct" else {}
    return builders.tree(builders.ALL[name](**small))
