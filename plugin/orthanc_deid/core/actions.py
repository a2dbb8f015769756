"""Applies a plan to the elements of a source (PS3.15 E.3.10 and table E.1-1a's action codes).

What is kept is not touched: it comes out as ranges of the source's bytes. What is changed is written anew, and the
lengths of the sequences around it with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from . import encode
from .dummies import dummy_value
from .errors import Quarantined
from .plan import Act, Node, Plan, Rule
from .source import Segment, Source
from .text import encodings
from .uids import STANDARD_ROOT, map_uid
from .values import Harvest, identifying
from .walk import UNDEFINED, Element, Short, Walker

TEXT_VRS = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_MIXED = {b"US": {b"SS", b"OW"}, b"SS": {b"US", b"OW"}, b"OW": {b"OB", b"US", b"SS"}, b"OB": {b"OW"}}

_LEGAL = {
    # What a kept value may look like, with room for what real senders write. Anything else may be text that somebody
    # put where it does not belong, and is treated like a value of the patient's.
    b"AE": rb"[ -~]{0,18}(?:\\[ -~]{0,18})*",
    b"AS": rb"(?:\d{3}[DWMY])?[ \0]*(?:\\\d{3}[DWMY])*",
    b"CS": rb"[A-Za-z0-9_ +\-./]{0,18}(?:\\[A-Za-z0-9_ +\-./]{0,18})*\0?",
    b"DA": rb"[\d.\-: ]*",
    b"DS": rb"[\d+\-.eE \\\0naNAifIF]*",
    b"DT": rb"[\d.+\-: ]*",
    b"IS": rb"[\d+\-. \\\0eE]*",
    b"LO": rb"[^\\]{0,256}(?:\\[^\\]{0,256})*",
    b"SH": rb"[^\\]{0,64}(?:\\[^\\]{0,64})*",
    b"TM": rb"[\d.\-: ]*",
    b"UI": rb"[0-9.]{0,64}(?:\\[0-9.]{0,64})*[ \0]*",
}
_CHECKS: dict[bytes, Callable[[bytes], object]] = {vr: re.compile(rule).fullmatch for vr, rule in _LEGAL.items()}


def _anything(value: bytes) -> bool:
    return True


Hot = tuple[Act, bytes, "Callable[[bytes], object] | None", Rule]


class _HotNode(dict[int, Hot]):
    """A node's rules as the loop needs them: action, VR in bytes, check of a kept value (None for numbers), rule."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def __missing__(self, tag: int) -> Hot:
        rule = self.node[tag]
        vr = rule.vr.encode()[:2]
        act = rule.act
        if act == Act.KEEP and vr == b"SQ":
            act = Act.DESCEND
        check = _CHECKS.get(vr, _anything) if vr in TEXT_VRS or vr in (b"OB", b"UN", b"OW") else None
        hot = self[tag] = (act, vr, check, rule)
        return hot


def hot(node: Node) -> _HotNode:
    """Return the node's rules in the loop's form, made once."""
    try:
        return node.hot  # type: ignore[no-any-return]
    except AttributeError:
        node.hot = made = _HotNode(node)
        return made


Kept = tuple[tuple[int, int], int, bytes, bytes, tuple[str, ...]]
"""A value that stays and can carry text: (place, tag, VR, value, character set). A tuple, as there are many."""

LARGE = 1 << 14
"""Kept values longer than this stay ranges of the source."""

Piece = bytes | tuple[int, int]
"""A part of the output: new bytes, or a range (offset, length) of the source."""


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
    kept: list[Kept] = field(default_factory=list)
    harvest: Harvest = field(default_factory=Harvest)
    counts: Counter[Act] = field(default_factory=Counter)
    uids: dict[str, str] = field(default_factory=dict)
    cleaned: int = 0

    def run(self) -> list[Piece]:
        """Return the output's data set as pieces, in order."""
        out: list[Piece] = []
        extras = [*self.extras, (1 << 33, b"")]
        charset = self.source.facts.charset
        for segment in self.source.segments:
            self._top(segment, charset, extras, out)
        if self.source.fragments is not None:
            self._insert(extras, self.source.fragments.tag, out)
            out += self.replaced[self.source.fragments.tag]
        for _, data in extras[:-1]:
            out.append(data)
        return out

    @staticmethod
    def _insert(extras: list[tuple[int, bytes]], tag: int, out: list[Piece]) -> None:
        while extras[0][0] < tag:
            out.append(extras.pop(0)[1])

    def _top(self, segment: Segment, charset: tuple[str, ...], extras: list[tuple[int, bytes]], out: list[Piece]) -> None:
        walker, base = segment.walker, segment.base
        buf = walker.buf
        rules = hot(self.plan.root)
        begin = end_of_run = -1  # the run of kept elements that was not put out yet
        pixels = self.source.fragments
        fragments_tag = pixels.tag if pixels and pixels.begin < base else 1 << 33
        for element in segment.elements:
            tag = element[0]
            if tag > extras[0][0] or tag > fragments_tag:
                if begin >= 0:
                    out.append(buf[begin:end_of_run])
                    begin = -1
                if tag > fragments_tag:
                    self._insert(extras, fragments_tag, out)
                    out += self.replaced.pop(fragments_tag)
                    self.replaced[fragments_tag] = []
                    fragments_tag = 1 << 33
                self._insert(extras, tag, out)
            new: list[Piece] | bytes | None
            if tag in self.replaced:
                new = self.replaced[tag]
            else:
                new = self._element(walker, element, rules, charset, base, 0)
            if new is None:
                if begin < 0:
                    begin = element[2]
                elif end_of_run != element[2]:  # the source's elements were out of order
                    out.append(buf[begin:end_of_run])
                    begin = element[2]
                end_of_run = element[5]
                if (element[4] - element[3] > LARGE and element[6] is None) or 0x7FE00008 <= tag <= 0x7FE00010:
                    # A large value stays where it is: a range costs no copy, whatever the source.
                    out.append(buf[begin : element[3]])
                    out.append((base + element[3], element[4] - element[3]))
                    begin = -1
                continue
            if begin >= 0:
                out.append(buf[begin:end_of_run])
                begin = -1
            if isinstance(new, bytes):
                if new:
                    out.append(new)
            else:
                out += new
        if begin >= 0:
            out.append(buf[begin:end_of_run])

    def _body(self, walker: Walker, elements: list[Element], node: Node, charset: tuple[str, ...], base: int, depth: int) -> bytes | None:
        """Return the new content of an item, None where nothing changes."""
        buf = walker.buf
        for element in elements[:2]:
            if element[0] == 0x00080005:
                charset = encodings(buf[element[3] : element[4]])
        rules = hot(node)
        parts: list[bytes] | None = None
        for index, element in enumerate(elements):
            new = self._element(walker, element, rules, charset, base, depth)
            if new is None:
                if parts is not None:
                    parts.append(buf[element[2] : element[5]])
                continue
            if parts is None:
                parts = [buf[before[2] : before[5]] for before in elements[:index]]
            parts.append(new)
        return None if parts is None else b"".join(parts)

    def _element(self, walker: Walker, element: Element, rules: _HotNode, charset: tuple[str, ...], base: int, depth: int) -> bytes | None:
        """Return what stands for an element: None as it is, b"" nothing, or its new bytes."""
        tag, vr, begin, start, stop, _, _ = element
        act, own_vr, check, rule = rules[tag]
        if act == Act.KEEP:
            if vr == own_vr or not vr or self._compatible(vr, own_vr):
                if check is None:
                    return None
                if stop <= len(walker.buf):
                    value = walker.buf[start:stop]
                    if check(value) and not (self.forced and (base, begin) in self.forced):
                        self.kept.append(((base, begin), tag, own_vr, value, charset))
                        return None
                    act = rule.on_hit
                elif own_vr in (b"OB", b"OW"):
                    return None
                else:
                    act = rule.on_hit
            else:
                act = rule.on_hit
            self.cleaned += 1
        kind = identifying().get(tag)
        if kind is not None and stop <= len(walker.buf) and stop > start:
            self.harvest.raw.append((kind, walker.buf[start:stop], charset))
        if act == Act.DESCEND:
            return self._sequence(walker, element, rule, charset, base, depth)
        self.counts[act] += 1
        if own_vr == b"SQ" or vr == b"SQ":
            self._harvest_inside(walker, element, charset, depth)
        if act == Act.REMOVE:
            return b""
        if act == Act.EMPTY or start == stop:
            return encode.element(walker.numbers, walker.explicit, tag, own_vr, b"")
        if act == Act.PSEUDONYM:
            return encode.element(walker.numbers, walker.explicit, tag, own_vr, self.pseudonym)
        if act == Act.UID or (act == Act.DUMMY and own_vr == b"UI"):
            if stop > len(walker.buf):
                raise Quarantined("too-large", "a UID of this length", tag)
            return encode.element(walker.numbers, walker.explicit, tag, b"UI", self._uids(walker.buf[start:stop]))
        if act == Act.DUMMY:
            return self._dummy(walker, rule, own_vr)
        raise Quarantined("unsupported", "the plan asks for an action that is not built", tag)

    @staticmethod
    def _compatible(vr: bytes, own: bytes) -> bool:
        if own == b"SQ" or vr == b"SQ":
            return False
        return vr == b"UN" or vr in _MIXED.get(own, ()) or (vr in TEXT_VRS and own in TEXT_VRS)

    def _uids(self, value: bytes) -> bytes:
        return b"\\".join([self._uid(uid.strip(b" \0").decode("latin-1")) for uid in value.split(b"\\")])

    def _uid(self, uid: str) -> bytes:
        if not uid or uid.startswith(STANDARD_ROOT):
            return uid.encode("latin-1")
        mapped = self.uids.get(uid)
        if mapped is None:
            mapped = self.uids[uid] = map_uid(self.uid_key, uid)
        return mapped.encode()

    def _dummy(self, walker: Walker, rule: Rule, vr: bytes) -> bytes:
        if vr == b"SQ":
            items = [self._required(walker, rule.child)] if rule.child is not None else []
            return encode.sequence(walker.numbers, walker.explicit, rule.tag, items)
        value = rule.dummy if rule.dummy is not None else dummy_value(rule.tag, rule.vr)
        return encode.element(walker.numbers, walker.explicit, rule.tag, vr, value)

    def _required(self, walker: Walker, node: Node) -> bytes:
        """Write the item of a sequence that stands as a dummy: what its IOD requires, and no more."""
        parts = []
        for rule in node.required:
            vr = rule.vr.encode()[:2]
            if vr == b"SQ" or rule.type.startswith("1"):
                parts.append(self._dummy(walker, rule, vr))
            else:
                parts.append(encode.element(walker.numbers, walker.explicit, rule.tag, vr, b""))
        return b"".join(parts)

    def _sequence(self, walker: Walker, element: Element, rule: Rule, charset: tuple[str, ...], base: int, depth: int) -> bytes | None:
        tag, vr, begin, start, stop, end, _ = element
        if vr not in (b"SQ", b"UN", b"") or rule.child is None:
            self.cleaned += 1
            return self._instead(walker, rule)
        if start == stop:
            return None
        inner, items = walker.sequence(element, depth)
        new: list[bytes] = []
        changed = False
        buf = walker.buf
        for item_begin, item_start, _, item_end, elements in items:
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

    def _instead(self, walker: Walker, rule: Rule) -> bytes:
        """Return what stands for a value that may not stay, by the attribute's Type."""
        self.counts[rule.on_hit] += 1
        if rule.on_hit == Act.REMOVE:
            return b""
        vr = rule.vr.encode()[:2]
        if rule.on_hit == Act.EMPTY:
            return encode.element(walker.numbers, walker.explicit, rule.tag, vr, b"")
        return self._dummy(walker, rule, vr)

    def _harvest_inside(self, walker: Walker, element: Element, charset: tuple[str, ...], depth: int) -> None:
        """Collect identifying values from a sequence that goes; one that cannot be read goes unread."""
        if element[4] > len(walker.buf):
            return
        try:
            inner, items = walker.sequence(element, depth)
        except (Quarantined, Short):
            return
        kinds = identifying()
        for *_, elements in items:
            for nested in elements:
                kind = kinds.get(nested[0])
                if kind is not None and nested[4] > nested[3]:
                    self.harvest.raw.append((kind, walker.buf[nested[3] : nested[4]], charset))
                if nested[1] == b"SQ" or nested[6] is not None:
                    self._harvest_inside(inner, nested, charset, depth + 1)
