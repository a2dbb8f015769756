"""Mutations: each takes a tree and makes something of it that a sender, a network or an attacker might."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from benchmarks.fuzzing import planted
from benchmarks.fuzzing.corpus import Corpus
from benchmarks.fuzzing.trees import UNDEFINED, Node, copied
from tests import plants

_VRS = b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
_ODD_VRS = [b"ZZ", b"  ", b"\0\0", b"lo", b"OX", b"??", b"QQ"]
_CHARSETS = [b"", b"ISO_IR 100", b"ISO_IR 192", b"GB18030", b"ISO_IR 13", b"\\ISO 2022 IR 87", b"ISO 2022 IR 149"]
_CHARSETS += [b"ISO_IR 999", b"ISO_IR_100", b"\\ISO 2022 IR 58", b"ISO_IR 166", b"GBK", b"\xff\xfe", b"ISO 2022 IR 6\\"]
_NUMBERS = [b"\0\0", b"\1\0", b"\xff\xff", b"\0\x80", b"\x10\0", b"", b"\1", b"\0\0\0\0", b"\xff\xff\xff\xff"]
_TEXTS = [
    b"",
    b" ",
    b"\0",
    b"\\",
    b"\\\\\\",
    b"1e400",
    b"nan",
    b"-1",
    b"0",
    b"99999999",
    b"00000000",
    b"999Y",
    b"=",
    b"^",
]
_TEXTS += [
    b"\x1b",
    b"\x1b$B",
    b"\x1b(B\x1b",
    b"\xff\xff\xff",
    b"\xe9\xa0",
    b"\r\n",
    b"2.25.1",
    b"1.2.840.10008.5",
    b"YES",
]
_TEXTS += [b"20240231", b"2024", b"-20240101", b"20240101-20240201", b"1" * 17, b"A" * 65, b"." * 64, b"a" * 1025]
_PIXELS = (0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103)
LENGTHS = (0, 1, 2, 7, 8, 0xFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFE, UNDEFINED)
_MARKERS = (0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFEE0FF, 0xFFFCFFFC)

_DICTIONARY = list(plants.dictionary().items())
_TEXT_TAGS = list(plants.texts().items())
_SEQUENCES = plants.sequences()
Level = list[Node]


def _level(random: Random, nodes: Level) -> Level:
    """Choose the top level, or an item somewhere below it."""
    for _ in range(6):
        inner = [item for node in nodes if node.items for item in node.items]
        if not inner or random.random() < 0.5:
            break
        nodes = random.choice(inner)
    return nodes


def _one(random: Random, nodes: Level) -> Node | None:
    nodes = _level(random, nodes)
    return random.choice(nodes) if nodes else None


def _put(nodes: Level, node: Node) -> None:
    """Insert where the order of tags asks for, without taking away what stands there."""
    at = 0
    while at < len(nodes) and nodes[at].tag < node.tag:
        at += 1
    if at < len(nodes) and nodes[at].tag == node.tag:
        nodes[at] = node
    else:
        nodes.insert(at, node)


def _attribute(random: Random) -> tuple[int, bytes]:
    tag, vr = random.choice(_DICTIONARY)
    return tag, vr.encode()


def drop(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Leave out one element, or five."""
    nodes = _level(random, nodes)
    if nodes:
        at = random.randrange(len(nodes))
        del nodes[at : at + random.choice((1, 1, 1, 5))]


def double(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Give an element twice."""
    nodes = _level(random, nodes)
    if nodes:
        at = random.randrange(len(nodes))
        nodes.insert(random.choice((at, at + 1, len(nodes))), nodes[at].copy())


def disorder(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Put elements out of order."""
    nodes = _level(random, nodes)
    if len(nodes) < 2:
        return
    how = random.random()
    if how < 0.6:
        a, b = random.randrange(len(nodes)), random.randrange(len(nodes))
        nodes[a], nodes[b] = nodes[b], nodes[a]
    elif how < 0.8:
        random.shuffle(nodes)
    else:
        nodes.reverse()


def retag(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Give an element another tag: known, unknown, private, of a foreign group, a delimiter."""
    node = _one(random, nodes)
    if node is None:
        return
    how = random.randrange(8)
    if how < 2:
        node.tag = _attribute(random)[0]
    elif how == 2:
        node.tag ^= 1 << random.randrange(32)
    elif how == 3:
        node.tag = random.choice(_MARKERS)
    elif how == 4:
        node.tag |= 0x00010000
    elif how == 5:
        node.tag &= 0xFFFF0000
    elif how == 6:
        node.tag = random.choice((0x00020010, 0x00000002, 0x00041130, 0x60003000, 0x60FE0040, 0x50003000, 0x7FE00010))
    else:
        node.tag = random.getrandbits(32)


def revr(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Give an element another VR, or one that is none."""
    node = _one(random, nodes)
    if node is not None:
        node.vr = random.choice(_ODD_VRS) if random.random() < 0.1 else random.choice(_VRS)
        if node.items is not None and random.random() < 0.5:
            node.value, node.items = b"\xfe\xff\x00\xe0\0\0\0\0", None


def revalue(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Give an element another value."""
    node = _one(random, nodes)
    if node is None or node.items is not None:
        return
    how = random.randrange(8)
    if how == 0:
        node.value = random.choice(_NUMBERS)
    elif how == 1:
        node.value = random.choice(_TEXTS)
    elif how == 2:
        node.value = random.randbytes(random.choice((1, 2, 3, 4, 7, 8, 16, 33)))
    elif how == 3:
        node.value = node.value[: random.randrange(len(node.value) + 1)]
    elif how == 4:
        node.value += random.choice((b"\0", b" ", b"\\", b"\0\0", b"x", b"\\" * 200, b"y" * 300, b"z" * 5000))
    elif how == 5:
        other = _one(random, nodes)
        node.value = other.value if other is not None else b""
    elif how == 6 and node.value:
        at = random.randrange(len(node.value))
        node.value = node.value[:at] + bytes([random.randrange(256)]) + node.value[at + 1 :]
    else:
        node.value = node.value * random.choice((2, 3, 20))


def lie(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Say a wrong length."""
    node = _one(random, nodes)
    if node is None:
        return
    true = len(node.value)
    how = random.random()
    if how < 0.4:
        node.length = max(0, true + random.choice((-8, -4, -2, -1, 1, 2, 4, 8, 12, 16, 64)))
    elif how < 0.9:
        node.length = random.choice(LENGTHS)
    else:
        node.length = random.getrandbits(32)


def nest(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Put an element into sequences, up to 140 deep."""
    nodes = _level(random, nodes)
    if not nodes:
        return
    node = random.choice(nodes)
    inner = [node.copy()]
    for _ in range(random.choice((1, 1, 1, 2, 5, 30, 100, 126, 140))):
        made = Node(random.choice((0x00400275, 0x0040A730, random.choice(_SEQUENCES))), b"SQ", items=[inner])
        made.undefined, made.undefined_items = random.random() < 0.4, random.random() < 0.4
        made.un = random.random() < 0.05
        inner = [made]
    _put(nodes, inner[0])


def hoist(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Put the elements of items where their sequence stood."""
    nodes = _level(random, nodes)
    found = [at for at, node in enumerate(nodes) if node.items]
    if found:
        at = random.choice(found)
        nodes[at : at + 1] = [inner for item in nodes[at].items or () for inner in item]


def loosen(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Undefined lengths, here or everywhere; delimiters left out, now and then."""
    everywhere = random.random() < 0.4
    undefined, undefined_items = random.random() < 0.7, random.random() < 0.7
    no_end = random.random() < 0.05
    level = nodes if everywhere else _level(random, nodes)
    stack = [level]
    while stack:
        for node in stack.pop():
            if node.items is None:
                continue
            node.undefined, node.undefined_items, node.no_end = undefined, undefined_items, no_end
            if everywhere:
                stack += node.items


def wrap(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Send sequences as UN, one or all, or in the file's own encoding inside UN; private ones too."""
    level = _level(random, nodes)
    found = [node for node in level if node.items is not None]
    if not found:
        return
    for node in found if random.random() < 0.3 else [random.choice(found)]:
        if random.random() < 0.8:
            node.un = True
        else:
            node.vr = b"UN"
        if random.random() < 0.2:
            node.tag |= 0x00010000


def charset(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Name another character set, and put text of some set somewhere."""
    level = _level(random, nodes)
    _put(level, Node(0x00080005, b"CS", random.choice(_CHARSETS)))
    text = random.choice(("Müllerzyx", "Żzyzxłow", "兹兹", "Ззызк", "頭頭", "ｽﾞｽﾞ", "김희"))
    code = random.choice(("latin-1", "utf-8", "gb18030", "iso8859_5", "iso2022_jp", "shift_jis", "euc_kr"))
    node = _one(random, nodes)
    if node is not None and node.items is None:
        node.value = text.encode(code, "replace")


def group_length(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Insert a group length."""
    nodes = _level(random, nodes)
    if nodes:
        group = random.choice(nodes).tag & 0xFFFF0000
        value = random.choice((struct.pack("<L", random.randrange(400)), planted.SECRET, b""))
        _put(nodes, Node(group, random.choice((b"UL", b"UL", b"LO", b"UN")), value))


def private(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """Insert a private block, with its creator or without."""
    nodes = _level(random, nodes)
    group = random.choice((0x0009, 0x0019, 0x0029, 0x0043, 0x2001, 0x7053, 0x0011)) << 16
    block = random.choice((0x10, 0x10, 0x11, 0xFF))
    creator = random.choice((b"SIEMENS CSA HEADER", b"GEMS_PETD_01", b"Philips PET Private Group", planted.SECRET))
    if random.random() < 0.8:
        _put(nodes, Node(group | block, b"LO", creator))
    for _ in range(random.randint(1, 3)):
        vr = random.choice(_VRS)
        node = Node(group | block << 8 | random.randrange(256), vr, planted.value(random, vr))
        if vr == b"SQ":
            node.items = [[Node(0x00100010, b"PN", planted.value(random, b"PN"))]]
            node.un = random.random() < 0.5
        _put(nodes, node)


def plant(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """A canary: in any attribute of the dictionary, under its VR or another, or in one that nobody knows."""
    level = _level(random, nodes)
    how = random.randrange(6)
    if how < 3:
        tag, vr = random.choice(_TEXT_TAGS)
        sent = random.choice(_VRS) if random.random() < 0.1 else vr.encode()
        if tag not in plants.STRUCTURE:
            _put(level, Node(tag, sent, planted.value(random, vr.encode())))
    elif how == 3:
        _put(level, Node(random.getrandbits(32) & 0x7FFEFFFF, b"LO", planted.value(random, b"LO")))
    elif how == 4:
        item = [Node(0x00080104, b"LO", planted.value(random, b"LO"))]
        tag, vr = random.choice(_TEXT_TAGS)
        _put(item, Node(tag, vr.encode(), planted.value(random, vr.encode())))
        _put(level, Node(random.choice(_SEQUENCES), b"SQ", items=[item]))
    else:
        node = random.choice(level) if level else None
        if node is not None and node.items is None and node.tag not in plants.STRUCTURE and node.tag < 0x7FE00000:
            node.value = planted.value(random, node.vr)


def splice(random: Random, nodes: Level, corpus: Corpus) -> None:
    """Part of another object: one element, a run of them, or all from some tag on."""
    other = list(random.choice(corpus.trees).nodes)
    source = _level(random, other)
    target = _level(random, nodes)
    if not source:
        return
    at = random.randrange(len(source))
    how = random.random()
    if how < 0.5:
        _put(target, source[at].copy())
    elif how < 0.8:
        for node in copied(source[at : at + random.randint(1, 20)]):
            _put(target, node)
    else:
        target[:] = [node for node in target if node.tag < source[at].tag] + copied(source[at:])


def image(random: Random, nodes: Level, _corpus: Corpus) -> None:
    """The image's description, its pixels, or one of the two against the other."""
    pixels = next((node for node in nodes if node.tag == 0x7FE00010), None)
    how = random.randrange(8)
    if how < 2 or pixels is None:
        tag = random.choice(_PIXELS)
        text = tag == 0x00280008
        _put(nodes, Node(tag, b"IS" if text else b"US", random.choice(_TEXTS if text else _NUMBERS)))
    elif how == 2:
        _put(
            nodes,
            Node(0x00280004, b"CS", random.choice((b"YBR_FULL_422", b"RGB", b"PALETTE COLOR", b"", b"MONOCHROME2"))),
        )
    elif pixels.fragments is not None:
        parts = pixels.fragments
        at = random.randrange(len(parts)) if parts else 0
        if how == 3 and parts:
            del parts[at]
        elif how == 4:
            parts.insert(at, random.choice((b"", planted.SECRET, parts[at] if parts else b"", b"\0" * 7)))
        elif how == 5 and parts:
            parts[at] += random.choice((b"\0", planted.SECRET, b"\xff\xd9", b"\xff\xfe\0\x0c" + planted.SECRET))
        elif how == 6 and parts and parts[at]:
            place = random.randrange(len(parts[at]))
            parts[at] = parts[at][:place] + random.randbytes(random.choice((0, 1, 2))) + parts[at][place + 1 :]
        elif parts and len(parts) > 1:
            whole, cut = parts[-1], random.randrange(len(parts[-1]) + 1)
            parts[-1:] = [whole[:cut], whole[cut:]]
    elif how == 3:
        pixels.value = pixels.value[: random.randrange(len(pixels.value) + 1)]
    elif how == 4:
        pixels.value += random.choice((b"\0", b"\0\0", planted.SECRET, pixels.value, b" " * 40))
    elif how == 5:
        pixels.fragments = [b"", pixels.value]
    elif how == 6:
        pixels.vr = random.choice((b"OB", b"OW", b"UN", b"OF", b"LO", b"SQ"))
    else:
        for tag in (0x7FE00001, 0x7FE00002):
            _put(nodes, Node(tag, b"OV", random.choice((b"\0" * 8, planted.SECRET[:8], b"\0" * 16, b""))))


MUTATIONS: list[tuple[Callable[[Random, Level, Corpus], None], int]] = [
    (drop, 2),
    (double, 1),
    (disorder, 2),
    (retag, 3),
    (revr, 3),
    (revalue, 4),
    (lie, 2),
    (nest, 1),
    (hoist, 1),
    (loosen, 3),
    (wrap, 3),
    (charset, 2),
    (group_length, 1),
    (private, 2),
    (plant, 6),
    (splice, 3),
    (image, 3),
]
CHOICES = [made for made, weight in MUTATIONS for _ in range(weight)]
