"""Applies a plan to the elements of a source (PS3.15 E.3.10 and table E.1-1a's action codes).

What is kept is not touched: it comes out as ranges of the source's bytes. What is changed is written anew, and the
lengths of the sequences around it with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from typing import Any

from . import encode
from .changes import Changer
from .dummies import dummy_value
from .errors import Quarantined
from .plan import Act, Node, Plan, Rule
from .resolution import CHANGES
from .source import BULK_BYTES, Segment, Source
from .standard import attribute, uid_constants
from .syntax import Numbers
from .text import encodings
from .uids import map_uid, registered
from .values import Harvest, identifying
from .walk import UNDEFINED, Element, Short, Walker

Charset = tuple[str, ...]

TEXT_VRS = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_MIXED = {b"US": {b"SS", b"OW"}, b"SS": {b"US", b"OW"}, b"OW": {b"OB", b"US", b"SS"}, b"OB": {b"OW"}}


def _several(value: bytes) -> bytes:
    """Return the rule for values with backslashes between them: one number each, or numbers would hold a date."""
    return value + rb"(?:\\" + value + rb")*"


_LETTERS = rb"[^\\\x00-\x08\x0e-\x1a\x1c-\x1f]"
"""No control characters but those of lines, pages and code extension: UTF-16 has them between its letters."""

_CLOCK = rb"(?:\d{1,2}:\d{1,2}(?::\d{1,2}(?:\.\d{0,7})?)?|\d{1,6}(?:\.\d{0,7})?)"

_LEGAL = {
    # What a kept value may look like, with room for what real senders write. Anything else may be text that somebody
    # put where it does not belong, and is treated like a value of the patient's. What is matched is never given back
    # ("*+"): of a long value that does not fit, every way to part it would be tried.
    b"AE": rb"[ -~]{0,18}(?:\\[ -~]{0,18})*",
    b"AS": rb"(?:\d{3}[DWMY])?[ \0]*(?:\\\d{3}[DWMY])*",
    b"CS": rb"[A-Za-z0-9_ +\-./]{0,18}(?:\\[A-Za-z0-9_ +\-./]{0,18})*\0?",
    b"DA": rb"[\d.\-: ]*",
    b"DS": _several(rb" *+(?:[+-]?\d*+\.?\d*+(?:[eE][+-]?\d++)?|[+-]?(?:[nN][aA][nN]|[iI][nN][fF]))[ \0]*+"),
    b"DT": rb"[\d.+\-: ]*",
    b"IS": _several(rb" *+[+-]?\d{0,14}+(?:\.0*+)?[ \0]*+"),
    b"LO": _several(_LETTERS + rb"{0,256}\0*"),
    b"SH": _several(_LETTERS + rb"{0,64}\0*"),
    **dict.fromkeys((b"LT", b"PN", b"ST", b"UC", b"UR", b"UT"), _several(_LETTERS + rb"*\0*")),
    # No dates: where those move and times stay, a true date would stay too.
    b"TM": _several(rb" *+(?:" + _CLOCK + rb"?(?: ?-" + _CLOCK + rb"?)?)[ \0]*+"),
    b"UI": rb"[0-9.]{0,64}(?:\\[0-9.]{0,64})*[ \0]*",
}
_CHECKS: dict[bytes, Callable[[bytes], object]] = {vr: re.compile(rule).fullmatch for vr, rule in _LEGAL.items()}


_UIDS = re.compile(_several(rb"(?:[0-2](?:\.\d{1,61})++)?[ \0]*+"))
"""UIDs that look like one (PS3.5 section 9.1), where nobody can say whether they are the right ones."""


def _registered(value: bytes) -> bool:
    known = registered()
    return all(not uid or uid in known for uid in value.rstrip(b" \0").split(b"\\"))


CODING_UIDS = frozenset({0x0008010C, 0x0008010D, 0x00080117, 0x00080118})
"""Coding Scheme UID and kin: constants of whoever keeps the codes. All other UIDs that stay are registered by the
standard; one that is not (a private SOP class) is mapped, as nobody can say whose it is."""


def _anything(value: bytes) -> bool:
    return True


def _whole(size: int) -> Check:
    return lambda value: not len(value) % size


# What the loop does with an element. An Act is an enum member, and comparing those costs more than all the rest.
KEEP, REMOVE, MADE, UID, DESCEND, PSEUDONYM, CHANGE = range(7)

# Kept values by what they can hold: words, numbers in text, UIDs of the standard's, binary.
WORDS, NUMBERS, CONSTANTS, BINARY = range(4)

Check = Callable[[bytes], object]
Hot = tuple[int, bytes, "Check | None", int, "str | None", bytes, Rule]
"""A rule as the loop needs it: (what to do, VR, check of a kept value or None for numbers, kind of kept value or size
of a number in bytes, kind of identifying value, ready-made element, rule)."""

_SIZES = {
    **dict.fromkeys((b"US", b"SS"), 2),
    **dict.fromkeys((b"AT", b"FL", b"OF", b"OL", b"SL", b"UL"), 4),
    **dict.fromkeys((b"FD", b"OD", b"OV", b"SV", b"UV"), 8),
}
"""Bytes of a number; a value that is no multiple of it is none (PS3.5 section 6.2)."""

PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float, Double Float and Pixel Data: at the top level they are brought over by `pixels`, not searched for text."""

_DOES = {
    Act.KEEP: KEEP,
    Act.REMOVE: REMOVE,
    Act.EMPTY: MADE,
    Act.DUMMY: MADE,
    Act.UID: UID,
    Act.DESCEND: DESCEND,
    Act.PSEUDONYM: PSEUDONYM,
    **dict.fromkeys(CHANGES, CHANGE),
}


class HotNode(dict[int, Hot]):
    """A node's rules in the loop's form, for one encoding; made when they are first asked for."""

    def __init__(self, node: Node, numbers: Numbers, explicit: bool) -> None:
        self.node = node
        self.numbers = numbers
        self.explicit = explicit
        self._private: dict[tuple[int, str, bytes], Hot | None] = {}

    def __missing__(self, tag: int) -> Hot:
        made = self._make(self.node[tag])
        if len(self) < _MOST_RULES:  # else a flood of invented tags would stay in memory as long as the plan
            self[tag] = made
        return made

    def private(self, tag: int, creator: str, vr: bytes) -> Hot | None:
        """Return the rule of a private element that stays, None for one that goes (PS3.15 E.3.10)."""
        key = (tag, creator, vr)
        try:
            return self._private[key]
        except KeyError:
            rule = self.node.private(tag, creator, vr) if self.node.private is not None else None
            if len(self._private) >= _REMEMBERED:
                self._private.clear()
            made = self._private[key] = None if rule is None else self._make(rule)
            return made

    def content(self, value_type: str, code: str, scheme: str) -> HotNode:
        """Return the rules of a content item of this Value Type and concept; these where they do not matter."""
        if self.node.content is None:
            return self
        return hot(self.node.content(value_type, code, scheme), self.numbers, self.explicit)

    def _make(self, rule: Rule) -> Hot:
        tag, vr = rule.tag, rule.vr.encode()[:2]
        does = _DOES[rule.act]
        made = b""
        if does == KEEP and vr == b"SQ":
            does = DESCEND
        elif does == MADE and vr == b"UI" and rule.act == Act.DUMMY:
            does = UID  # a UID is mapped rather than made up, so that it stays one of a kind
        elif does == MADE:
            made = stand_in(self.numbers, self.explicit, rule, rule.act)
        check: Check | None = None
        kind = WORDS
        if vr in TEXT_VRS:
            check = _CHECKS.get(vr, _anything)
            kind = NUMBERS if vr in (b"DS", b"IS") else CONSTANTS if vr == b"UI" else WORDS
            if kind == CONSTANTS and tag in CODING_UIDS:
                check = _UIDS.fullmatch
            elif kind == CONSTANTS and tag in uid_constants():
                check = _registered
        elif vr in (b"OB", b"UN", b"OW") and tag not in PIXELS:
            check, kind = _anything, BINARY
        elif rule.safe is not None and vr in _SIZES:
            # That a private element holds numbers says a table, not the sender: it is searched like any binary.
            check, kind = _whole(_SIZES[vr]), BINARY
        else:
            kind = _SIZES.get(vr, 1)
        return does, vr, check, kind, identifying().get(tag), made, rule


def hot(node: Node, numbers: Numbers, explicit: bool) -> HotNode:
    """Return the node's rules in the loop's form, made once for each encoding."""
    found: HotNode | None = node.hot.get((numbers.order, explicit))
    if found is None:
        found = node.hot[numbers.order, explicit] = HotNode(node, numbers, explicit)
    return found


def stand_in(numbers: Numbers, explicit: bool, rule: Rule, act: Act) -> bytes:
    """Return the element that stands for one whose value may not stay: nothing, empty, or a dummy."""
    vr = rule.vr.encode()[:2]
    if act == Act.REMOVE:
        return b""
    if act == Act.EMPTY:
        return encode.element(numbers, explicit, rule.tag, vr, b"")
    if vr == b"SQ":
        required = rule.child.required if rule.child is not None else ()
        body = b"".join([stand_in(numbers, explicit, inner, inner.act) for inner in required])
        return encode.sequence(numbers, explicit, rule.tag, [body] if body else [])
    value = rule.dummy if rule.dummy is not None else dummy_value(rule.tag, rule.vr)
    return encode.element(numbers, explicit, rule.tag, vr, value)


Kept = tuple[tuple[int, int], int, bytes, bytes, tuple[str, ...]]
"""A value that stays and can carry text: (place, tag, VR, value, character set). A tuple, as there are many."""

KeptValues = tuple[list[Kept], list[Kept], list[Kept], list[Kept]]
"""Kept values by kind: words, numbers, constants, binary."""

LARGE = 1 << 14
"""Kept values longer than this stay ranges of the source."""

Piece = bytes | tuple[int, int]
"""A part of the output: new bytes, or a range (offset, length) of the source."""


Change = tuple[Rule, bytes, bytes, Charset, bytes | None]
"""A value that is changed: (rule, VR, the source's value, character set, the time that belongs to a date)."""


@dataclass
class Rewriter:
    """One pass over a source. `forced` names the places of kept values that must go after all."""

    source: Source
    plan: Plan
    uid_key: bytes
    pseudonym: bytes
    extras: list[tuple[int, bytes]]
    replaced: dict[int, list[Piece]]
    forced: frozenset[tuple[int, int]] = frozenset()
    changer: Changer = field(default_factory=Changer)
    changes: list[Change] = field(default_factory=list)
    removed: list[bytes] | None = None  # elements of the top level that do not stay as they are, where wanted
    kept: KeptValues = field(default_factory=lambda: ([], [], [], []))
    harvest: Harvest = field(default_factory=Harvest)
    uids: dict[str, str] = field(default_factory=dict)
    counts: list[int] = field(default_factory=lambda: [0] * len(Act))
    cleaned: int = 0

    def run(self) -> list[Piece]:
        """Return the output's data set as pieces, in order."""
        out: list[Piece] = []
        waiting: list[tuple[int, Any]] = list(self.extras)
        fragments = self.source.fragments
        if fragments is not None:
            waiting.append((fragments.tag, self.replaced[fragments.tag]))
            waiting.sort(key=itemgetter(0))
        waiting.append((1 << 33, b""))
        charset = self.source.facts.charset
        for segment in self.source.segments:
            self._top(segment, charset, waiting, out)
        _insert(waiting, 1 << 33, out)
        return out

    def _top(self, segment: Segment, charset: Charset, waiting: list[tuple[int, Any]], out: list[Piece]) -> None:
        """Put out the elements of the top level: runs of what is kept, and what is new between them."""
        walker, base = segment.walker, segment.base
        buf = walker.buf
        size = len(buf)
        rules = hot(self.plan.root, walker.numbers, walker.explicit)
        kept, forced, replaced = self.kept, self.forced, self.replaced
        private = privates(buf, segment.elements, rules)
        barrier = waiting[0][0]
        run, run_end = -1, -1  # the run of kept elements that was not put out yet
        for element in segment.elements:
            tag, vr, pos, start, stop, end, _ = element
            rule = rules[tag] if private is None or not tag & 0x10000 else private.get(tag, _GONE)
            does, own_vr, check, kind, identifies, _, _ = rule
            if tag > barrier:
                if run >= 0:
                    out.append(buf[run:run_end])
                    run = -1
                barrier = _insert(waiting, tag, out)
            if not does and (vr == own_vr or not vr) and tag not in replaced and not forced:
                # The most frequent case, in place: a kept value of the right VR.
                if check is None:
                    if (stop - start) % kind:
                        new: Any = self._element(walker, element, rule, charset, base, 0, segment.elements)
                    else:
                        new = None
                elif stop <= size and check(value := buf[start:stop]):
                    kept[kind].append(((base, pos), tag, own_vr, value, charset))
                    new = None
                else:
                    new = self._element(walker, element, rule, charset, base, 0, segment.elements)
            elif does == REMOVE and identifies is None and vr != b"SQ" and own_vr != b"SQ":
                self.counts[1] += 1
                new = b""
            elif tag in replaced:
                new = replaced[tag]
            else:
                new = self._element(walker, element, rule, charset, base, 0, segment.elements)
            if new is None:
                if run < 0:
                    run = pos
                elif run_end != pos:  # the source's elements were out of order
                    out.append(buf[run:run_end])
                    run = pos
                run_end = end
                if (stop - start > LARGE and element[6] is None and does != DESCEND) or tag in PIXELS:
                    # A large value stays where it is: a range costs no copy, whatever the source.
                    out.append(buf[run:start])
                    out.append((base + start, stop - start))
                    run = -1
                continue
            if run >= 0:
                out.append(buf[run:run_end])
                run = -1
            if self.removed is not None and tag not in PIXELS and end - pos <= BULK_BYTES:
                self.removed.append(buf[pos:end] if end <= size else self.source.read(base + pos, end - pos))
            if new.__class__ is bytes:
                if new:
                    out.append(new)
            else:
                out += new
        if run >= 0:
            out.append(buf[run:run_end])

    def _body(
        self, walker: Walker, elements: list[Element], node: Node, charset: Charset, base: int, depth: int
    ) -> bytes | None:
        """Return the new content of an item, None where nothing changes."""
        buf = walker.buf
        for element in elements:
            if element[0] >= 0x00080005:
                if element[0] == 0x00080005:
                    charset = encodings(buf[element[3] : element[4]])
                break
        rules = hot(node, walker.numbers, walker.explicit)
        if node.content is not None:
            rules = rules.content(*concept(walker, elements))
        private = privates(buf, elements, rules)
        # Elements that were out of order are put out one by one, in order.
        parts: list[bytes] | None = [] if any(a[2] > b[2] for a, b in pairwise(elements)) else None
        for index, element in enumerate(elements):
            tag = element[0]
            rule = rules[tag] if private is None or not tag & 0x10000 else private.get(tag, _GONE)
            new = self._element(walker, element, rule, charset, base, depth, elements)
            if new is None:
                if parts is not None:
                    parts.append(buf[element[2] : element[5]])
                continue
            if parts is None:
                parts = [buf[before[2] : before[5]] for before in elements[:index]]
            parts.append(new)
        return None if parts is None else b"".join(parts)

    def _element(
        self,
        walker: Walker,
        element: Element,
        hot_rule: Hot,
        charset: Charset,
        base: int,
        depth: int,
        level: list[Element],
    ) -> bytes | None:
        """Return what stands for an element of a level: None as it is, b"" nothing, or its new bytes."""
        tag, vr, begin, start, stop, _, _ = element
        does, own_vr, check, kind, identifies, made, rule = hot_rule
        buf = walker.buf
        if does == KEEP:
            if vr == own_vr or not vr or compatible(vr, own_vr):
                if check is None and not (stop - start) % kind and not (vr == b"UN" and stop - start > LARGE):
                    return None
                if stop > len(buf):
                    if own_vr in (b"OB", b"OW"):
                        return None
                elif check is not None and check(value := buf[start:stop]) and (base, begin) not in self.forced:
                    self.kept[kind].append(((base, begin), tag, own_vr, value, charset))
                    if vr != own_vr and vr in TEXT_VRS and own_vr in TEXT_VRS:
                        # Text under the VR that it should have had: readers decode it by what stands there.
                        return encode.element(walker.numbers, walker.explicit, tag, own_vr, value)
                    return None
            self.cleaned += 1
            if own_vr == b"UI" and start < stop <= len(buf) and (base, begin) not in self.forced:
                return encode.element(walker.numbers, walker.explicit, tag, b"UI", self._uids(buf[start:stop]))
            self.counts[rule.on_hit] += 1
            return stand_in(walker.numbers, walker.explicit, rule, rule.on_hit)
        if identifies is not None and start < stop <= len(buf):
            self.harvest.raw.append((identifies, buf[start:stop], charset))
        if does == DESCEND:
            return self._sequence(walker, element, rule, charset, base, depth)
        if does == CHANGE:
            return self._change(walker, element, rule, own_vr, charset, base, level)
        self.counts[rule.act] += 1
        if own_vr == b"SQ" or vr == b"SQ":
            self._harvest_inside(walker, element, charset, depth)
        if does == REMOVE:
            return b""
        if start == stop:
            return encode.element(walker.numbers, walker.explicit, tag, own_vr, b"")
        if does == MADE:
            return made
        if does == PSEUDONYM:
            return encode.element(walker.numbers, walker.explicit, tag, own_vr, self.pseudonym)
        if stop > len(buf):
            raise Quarantined("too-large", "a UID of this length", tag)
        return encode.element(walker.numbers, walker.explicit, tag, b"UI", self._uids(buf[start:stop]))

    def _change(
        self,
        walker: Walker,
        element: Element,
        rule: Rule,
        own_vr: bytes,
        charset: Charset,
        base: int,
        level: list[Element],
    ) -> bytes | None:
        """Return an element with a changed value; what cannot be changed goes as a value of the patient's would."""
        tag, vr, begin, start, stop, _, _ = element
        buf = walker.buf
        self.counts[rule.act] += 1
        if start == stop:
            return None
        if stop <= len(buf) and (base, begin) not in self.forced and (vr == own_vr or not vr or compatible(vr, own_vr)):
            value = buf[start:stop]
            partner = self.changer.partner(rule, level, buf)
            new = self.changer.change(rule, own_vr, value, charset, partner)
            if new:
                self.changes.append((rule, own_vr, value, charset, partner))
                if rule.act is Act.CLEAN:
                    self.kept[WORDS].append(((base, begin), tag, own_vr, new, charset))
                if new is value and (vr == own_vr or not vr) and not len(value) & 1:
                    return None  # one of odd length is padded: the same again for whoever makes it again
                return encode.element(walker.numbers, walker.explicit, tag, own_vr, new)
        self.cleaned += 1
        return stand_in(walker.numbers, walker.explicit, rule, rule.on_hit)

    def _uids(self, value: bytes) -> bytes:
        if b"\\" not in value:
            return self._uid(value.strip(b" \0").decode("latin-1")).encode("latin-1")
        return b"\\".join([self._uids(uid) for uid in value.split(b"\\")])

    def _uid(self, uid: str) -> str:
        if not uid or uid.encode("latin-1") in registered():
            return uid
        mapped = self.uids.get(uid)
        if mapped is None:
            mapped = self.uids[uid] = map_uid(self.uid_key, uid)
        return mapped

    def _sequence(
        self, walker: Walker, element: Element, rule: Rule, charset: Charset, base: int, depth: int
    ) -> bytes | None:
        tag, vr, _, start, stop, end, _ = element
        if vr not in (b"SQ", b"UN", b"") or rule.child is None:
            self.cleaned += 1
            self.counts[rule.on_hit] += 1
            return stand_in(walker.numbers, walker.explicit, rule, rule.on_hit)
        if start == stop:
            return None
        try:
            inner, items = walker.sequence(element, depth)
        except Quarantined:
            if rule.safe is None:
                raise
            return b""  # a private element may go, so it need not hold up the rest
        new: list[bytes] = []
        # A UN in the file's own encoding (PS3.5 6.2.2 wants implicit VR) is written as what it is.
        mistaken = vr == b"UN" and inner is walker
        changed = mistaken
        vr = b"SQ" if mistaken else vr
        buf = walker.buf
        for item_begin, _, _, item_end, elements in items:
            body = self._body(inner, elements, rule.child, charset, base, depth + 1)
            if body is None:
                new.append(buf[item_begin:item_end])
            else:
                changed = True
                new.append(encode.item(inner.numbers, body))
        if not changed:
            return None
        content = b"".join(new)
        if end != stop:
            content += encode.sequence_end(inner.numbers)
            return encode.header(walker.numbers, walker.explicit, tag, vr or b"SQ", UNDEFINED) + content
        return encode.header(walker.numbers, walker.explicit, tag, vr or b"SQ", len(content)) + content

    def _harvest_inside(self, walker: Walker, element: Element, charset: Charset, depth: int) -> None:
        """Collect identifying values from a sequence that goes; one that cannot be read goes unread."""
        if element[4] > len(walker.buf):
            return
        # Slices of a series remove the same sequences again and again: what was found in them is remembered.
        key = (walker.buf[element[2] : element[5]], walker.explicit, walker.numbers.order, charset)
        found = _harvested.get(key)
        if found is None:
            before = len(self.harvest.raw)
            self._harvest_items(walker, element, charset, depth)
            if len(_harvested) >= _MOST_HARVESTED:
                _harvested.clear()
            if len(key[0]) <= LARGE:
                _harvested[key] = tuple(self.harvest.raw[before:])
        else:
            self.harvest.raw += found

    def _harvest_items(self, walker: Walker, element: Element, charset: Charset, depth: int) -> None:
        try:
            inner, items = walker.sequence(element, depth)
        except (Quarantined, Short):
            return
        kinds = identifying()
        for *_, elements in items:
            if elements and elements[0][0] == 0x00080005:
                charset = encodings(walker.buf[elements[0][3] : elements[0][4]])
            for nested in elements:
                kind = kinds.get(nested[0])
                if kind is not None and nested[4] > nested[3]:
                    self.harvest.raw.append((kind, walker.buf[nested[3] : nested[4]], charset))
                if nested[1] == b"SQ" or nested[6] is not None or (nested[1] in (b"", b"UN") and _nests(nested[0])):
                    self._harvest_items(inner, nested, charset, depth + 1)


def _nests(tag: int) -> bool:
    """Whether an attribute is a sequence, where the file does not say so (implicit VR, UN)."""
    known = attribute(tag)
    return known is not None and known.vr == "SQ"


_REMEMBERED = 4096
_MOST_HARVESTED = 1024
_MOST_RULES = 20_000
_harvested: dict[tuple[bytes, bool, str, Charset], tuple[tuple[str, bytes, Charset], ...]] = {}


_GONE: Hot = (REMOVE, b"UN", None, WORDS, None, b"", Rule(0, "UN", Act.REMOVE, "3", Act.REMOVE, "private"))
CREATOR: Hot = (KEEP, b"LO", None, 1, None, b"", Rule(0, "LO", Act.KEEP, "3", Act.REMOVE, "private creator"))
"""A creator that stays is equal to one of the table's: there is nothing to search in it."""


def privates(buf: bytes, elements: list[Element], rules: HotNode) -> dict[int, Hot] | None:
    """Return the rules of the private elements of a level that stay, their creators' among them (PS3.5 section 7.8).

    None where the plan keeps no private element; a creator of whose block nothing stays is not among them.
    """
    if rules.node.private is None:
        return None
    found: dict[int, Hot] = {}
    creators: dict[int, str] = {}
    for tag, vr, _, start, stop, _, _ in elements:
        if not tag & 0x10000:
            continue
        number = tag & 0xFFFF
        if 0x10 <= number <= 0xFF:
            if vr in (b"LO", b"UN", b"") and stop <= len(buf):
                creators[tag] = creator_name(buf[start:stop])
        elif number >= 0x1000:
            home = tag & 0xFFFF0000 | number >> 8
            rule = rules.private(tag, creators[home], vr) if home in creators else None
            if rule is not None:
                found[tag] = rule
                found[home] = CREATOR
    return found


def creator_name(value: bytes) -> str:
    """Return a private creator as the tables write it."""
    return value.strip(b" \0").decode("latin-1")


_VALUE_TYPE, _CONCEPT_NAME = 0x0040A040, 0x0040A043


def concept(walker: Walker, elements: list[Element]) -> tuple[str, str, str]:
    """Return Value Type, Code Value and Coding Scheme Designator of the concept of a content item."""
    value_type, code, scheme = "", "", ""
    buf = walker.buf
    for element in elements:
        if element[0] == _VALUE_TYPE:
            value_type = _plain(buf[element[3] : element[4]])
        elif element[0] == _CONCEPT_NAME and element[1] in (b"SQ", b"UN", b""):
            inner, items = walker.sequence(element, 0)
            for *_, coded in items[:1]:
                for one in coded:
                    if one[0] == 0x00080100:
                        code = _plain(inner.buf[one[3] : one[4]])
                    elif one[0] == 0x00080102:
                        scheme = _plain(inner.buf[one[3] : one[4]])
    return value_type, code, scheme


def _plain(value: bytes) -> str:
    return value.strip(b" \0").decode("latin-1")


def _insert(waiting: list[tuple[int, Any]], tag: int, out: list[Piece]) -> int:
    """Put out what is due before `tag`; return the tag of what is due next."""
    while waiting[0][0] < tag:
        new = waiting.pop(0)[1]
        if isinstance(new, bytes):
            out.append(new)
        else:
            out += new
    return waiting[0][0]


def compatible(vr: bytes, own: bytes) -> bool:
    """Whether a value sent under another VR than the dictionary's can still be judged as what it should be."""
    if own == b"SQ" or vr == b"SQ":
        return False
    return vr == b"UN" or vr in _MIXED.get(own, ()) or (vr in TEXT_VRS and own in TEXT_VRS)
