"""Makes the inputs of a campaign: a source, some mutations, an encoding, a head, and now and then damaged bytes."""

from __future__ import annotations

import struct
import sys
from random import Random

from orthanc_deid.core.syntax import syntaxes

from benchmarks.fuzzing import planted
from benchmarks.fuzzing.corpus import Corpus
from benchmarks.fuzzing.mutations import CHOICES, LENGTHS, Level, disorder, double, drop, lie, retag, revalue
from benchmarks.fuzzing.trees import UNDEFINED, Node, copied, data_set, deflated, is_deflated

EXPLICIT, IMPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
_SYNTAXES = list(syntaxes())


_DEEP = 20_000
"""Frames of Python that trees as deep as these take; the engine gets along with what every process has."""


def make(seed: int, number: int, corpus: Corpus) -> bytes:
    """Return input `number` of the campaign with this seed: the same bytes for the same corpus."""
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(_DEEP)
    try:
        return _make(seed, number, corpus)
    finally:
        sys.setrecursionlimit(usual)


def _make(seed: int, number: int, corpus: Corpus) -> bytes:
    random = Random(seed << 40 | number)
    base = random.choice(corpus.bases)
    if not base.nodes:
        return _damage(random, base.data, corpus, always=True)
    nodes = copied(list(base.nodes))
    for _ in range(random.choice((1, 1, 2, 2, 3, 4, 6, 9))):
        random.choice(CHOICES)(random, nodes, corpus)
    syntax = base.syntax
    if syntax in (EXPLICIT, IMPLICIT, BIG, DEFLATED) and random.random() < 0.5:
        syntax = random.choice((EXPLICIT, IMPLICIT, BIG, DEFLATED))
    body = data_set(nodes, syntax)
    if random.random() < 0.08:
        body += random.choice((b"\0", b"\0" * 40, planted.SECRET * 2, body[:60], b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0ZQXJ"))
    if is_deflated(syntax):
        body = deflated(body)
    whole = _head(random, nodes, syntax) + body
    return _damage(random, whole, corpus)


def _head(random: Random, nodes: Level, syntax: str) -> bytes:
    """Preamble and file meta, mostly as they should be."""
    told = syntax if random.random() < 0.97 else random.choice(_SYNTAXES)
    found = {node.tag: node.value for node in nodes if node.items is None}
    meta = [
        Node(0x00020001, b"OB", b"\0\1"),
        Node(0x00020002, b"UI", _even(found.get(0x00080016, b""))),
        Node(0x00020003, b"UI", _even(found.get(0x00080018, b""))),
        Node(0x00020010, b"UI", _even(told.encode())),
        Node(0x00020012, b"UI", b"1.2.826.0.1.3680043.10.9999.1\0"),
    ]
    preamble = b"\0" * 128 + b"DICM"
    how = random.random()
    if how < 0.02:
        return random.choice((b"", preamble, b"DICM"))
    if how < 0.05:
        meta += [Node(0x00020016, b"AE", planted.SECRET), Node(0x00020102, b"OB", planted.SECRET)]
        preamble = b"II*\0" + planted.SECRET.ljust(124, b"\0") + b"DICM"
    elif how < 0.07:
        random.choice((drop, double, disorder, retag, revalue, lie))(random, meta, None)  # type: ignore[arg-type]
    elif how < 0.09:
        preamble = random.choice((b"", b"DICM", b"\0" * 128, random.randbytes(132)))
    body = data_set(meta, EXPLICIT)
    length = len(body) if random.random() < 0.98 else random.choice(LENGTHS)
    return preamble + data_set([Node(0x00020000, b"UL", struct.pack("<L", length))], EXPLICIT) + body


def _even(value: bytes) -> bytes:
    return value + b"\0" * (len(value) & 1)


def _damage(random: Random, data: bytes, corpus: Corpus, *, always: bool = False) -> bytes:
    """Damage the bytes themselves, whatever they mean."""
    if not data or (not always and random.random() < 0.75):
        return data
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(changed)) if changed else 0
        how = random.randrange(9)
        if how < 2 and changed:
            changed[at] ^= 1 << random.randrange(8)
        elif how == 2 and changed:
            changed[at] = random.choice((0, 0xFF, 0xFE, 0x20, 0x5C))
        elif how == 3:
            del changed[at:]
        elif how == 4:
            del changed[at : at + random.randint(1, 40)]
        elif how == 5:
            changed[at:at] = changed[at : at + random.randint(1, 200)]
        elif how == 6:
            changed[at : at + 4] = struct.pack(random.choice("<>") + "L", random.choice(LENGTHS))
        elif how == 7:
            tag = random.choice((0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD))
            changed[at : at + 8] = struct.pack("<HHL", tag >> 16, tag & 0xFFFF, random.choice((0, 0, UNDEFINED)))
        else:
            other = random.choice(corpus.bases)
            rest = other.data or data_set(list(other.nodes), other.syntax)
            changed[at:] = rest[random.randrange(len(rest)) :]
    return bytes(changed)
