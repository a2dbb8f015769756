"""Walks a finished output again, with code of its own, and lets nothing pass that the plan does not allow.

Every attribute must be what its rule makes of it: gone, empty, its dummy, the pseudonym, a UID that the key gives
(computed again here), or a kept value in which nothing of the subject is found. Anything else: no release.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

from .actions import (
    CHANGE,
    CONSTANTS,
    CREATOR,
    DESCEND,
    KEEP,
    MADE,
    PSEUDONYM,
    REMOVE,
    UID,
    WORDS,
    Change,
    Hot,
    HotNode,
    Kept,
    KeptValues,
    Piece,
    compatible,
    creator_name,
    hot,
    stand_in,
)
from .changes import Changer
from .dummies import dummy_value
from .errors import Quarantined
from .markers import MARK_TAGS
from .plan import Act, Node, Plan
from .private import all_creators
from .search import find
from .source import Source
from .syntax import BIG, LITTLE, Syntax
from .text import encodings
from .uids import map_uid, registered
from .values import Needles

_DUMMY_UID = dummy_value(0, "UI")
_LONG_FORM = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


def _failed(tag: int, what: str) -> Quarantined:
    return Quarantined("verify-failed", what, tag or None)


class Verifier:
    """Checks one output against its plan, the pseudonym and the UIDs that the key gives."""

    def __init__(
        self,
        plan: Plan,
        syntax: Syntax,
        pseudonym: bytes,
        uid_key: bytes,
        uids: dict[str, str],
        changer: Changer | None,
        changes: list[Change],
    ) -> None:
        self.plan = plan
        self.explicit = syntax.explicit
        self.numbers = LITTLE if syntax.little else BIG
        self.short = self.numbers.short_head.unpack_from
        self.plain = self.numbers.tag_length.unpack_from
        self.length = self.numbers.long.unpack_from
        self.pseudonym = pseudonym
        self.allowed = {map_uid(uid_key, uid).encode() for uid in uids}
        self.changed = _made_again(changer, changes) if changer is not None and changes else {}
        self.kept: KeptValues = ([], [], [], [])
        self.creators: dict[int, str] = {}
        self.known_creators: frozenset[str] = all_creators() if plan.root.private is not None else frozenset()
        if plan.spec.private:
            self.known_creators |= {one.creator for one in plan.spec.private}

    def check(
        self,
        source: Source,
        pieces: list[Piece],
        marks: dict[int, bytes],
        needles: Needles,
        uids: dict[str, str],
        searched: KeptValues,
    ) -> None:
        """Walk the data set that `pieces` make up; raises Quarantined `verify-failed` or `value-left`.

        `searched` are values that were searched with these needles and UIDs and found clean: when the output holds
        exactly these, of the same attributes, a second search could only find the same.
        """
        output = _Output(source, pieces)
        marks = dict(marks)
        base, last = 0, -1
        charset = source.facts.charset
        while base < output.size:
            buf = output.run(base)
            pos, last = self._level(buf, 0, len(buf), self.plan.root, charset, 0, last, marks)
            if pos == len(buf) and pos:
                base += pos
                continue
            # The value of the element at `pos` lies behind this run: a large value, or pixels.
            tag, vr, start, length = self._header(output.read(base + pos, min(12, output.size - base - pos)), 0)
            end = (
                output.fragments_end(base + pos + start, tag, self.plain)
                if length == 0xFFFFFFFF
                else base + pos + start + length
            )
            if tag <= last or end > output.size:
                raise _failed(tag, "the output's elements are out of order or cut off")
            rules = self._rules(self.plan.root)
            does, own_vr, check, kind, *_ = self._rule(rules, self.creators, tag, vr)
            if does != KEEP:
                raise _failed(tag, "a large value stayed that the plan does not keep")
            if check is not None:
                self.kept[kind].append(((base, pos), tag, own_vr, output.read(base + pos + start, length), charset))
            base, last = end, tag
        if marks:
            raise _failed(next(iter(marks)), "a mark is missing")
        if all(_same(mine, theirs) for mine, theirs in zip(self.kept, searched, strict=True)):
            return
        for _, tag, _, _, _ in find(self.kept, needles, uids):
            raise Quarantined("value-left", "a value of the subject's stands in what is kept", tag)

    def _rules(self, node: Node) -> HotNode:
        return hot(node, self.numbers, self.explicit)

    def _header(self, buf: bytes, pos: int) -> tuple[int, bytes, int, int]:
        if not self.explicit:
            group, element, length = self.plain(buf, pos)
            return group << 16 | element, b"", pos + 8, length
        group, element, vr, length = self.short(buf, pos)
        if vr in _LONG_FORM:
            return group << 16 | element, vr, pos + 12, self.length(buf, pos + 8)[0]
        return group << 16 | element, vr, pos + 8, length

    def _level(
        self,
        buf: bytes,
        pos: int,
        stop: int,
        node: Node,
        charset: tuple[str, ...],
        depth: int,
        last: int = -1,
        marks: dict[int, bytes] | None = None,
    ) -> tuple[int, int]:
        """Check the elements of one level up to `stop`; return where it ended and the last tag.

        At the top level it ends before the first element whose value is not in `buf`.
        """
        rules = self._rules(node)
        creators: dict[int, str] = self.creators if marks is not None else {}
        value_type, content = "", node.content is not None
        kept = self.kept
        explicit, short = self.explicit, self.short
        while pos < stop:
            if explicit and pos + 8 <= stop:
                group, number, vr, length = short(buf, pos)
                tag = group << 16 | number
                if vr in _LONG_FORM:
                    if pos + 12 > stop:
                        break
                    start = pos + 12
                    length = self.length(buf, pos + 8)[0]
                else:
                    start = pos + 8
            elif pos + 8 <= stop:
                tag, vr, start, length = self._header(buf, pos)
            else:
                break
            if tag == 0xFFFEE00D:
                return pos, last
            if tag <= last:
                raise _failed(tag, "the output's elements are out of order")
            end = start + length
            if content and tag >= 0x0040A040:
                if tag == 0x0040A040:
                    value_type = creator_name(buf[start : start + length])
                else:
                    named = self._concept(buf, start, stop) if tag == 0x0040A043 else ("", "")
                    rules, content = rules.content(value_type, *named), False
            hot_rule = rules[tag] if not tag & 0x10000 else self._rule(rules, creators, tag, vr)
            does, own_vr, check, kind, _, made, rule = hot_rule
            if length == 0xFFFFFFFF:
                if own_vr != b"SQ" and vr != b"SQ":
                    break
                end = self._undefined_end(buf, start, vr)
            if end > stop:
                break
            last = tag
            if does == KEEP:
                if vr != own_vr and vr and not compatible(vr, own_vr):
                    raise _failed(tag, "a kept value is of another VR than its attribute's")
                if hot_rule is CREATOR:
                    creators[tag] = creator_name(buf[start:end])
                    if creators[tag] not in self.known_creators:
                        raise _failed(tag, "a private creator stayed of whom nothing is known")
                elif check is None and length % kind:
                    raise _failed(tag, "a kept value is no number of its VR")
                elif check is not None:
                    value = buf[start:end]
                    kept[kind].append(((pos, depth), tag, own_vr, value, charset))
                    if kind == CONSTANTS and not check(value):
                        self._mapped(tag, value)
                    if tag == 0x00080005:
                        charset = encodings(buf[start:end])
            elif marks is not None and tag in marks:
                if buf[pos:end] != marks.pop(tag):
                    raise _failed(tag, "a mark is not what it should be")
            elif does == REMOVE or tag in MARK_TAGS:
                raise _failed(tag, "an attribute stayed that the plan removes")
            elif not length:
                pass
            elif does == MADE:
                if buf[pos:end] != made:
                    raise _failed(tag, "the value is not what the plan makes of it")
            elif does == UID:
                value = buf[start:end].rstrip(b"\0")
                if value not in self.allowed:
                    self._mapped(tag, value)
            elif does == PSEUDONYM:
                if buf[start:end].rstrip(b" ") != self.pseudonym:
                    raise _failed(tag, "the pseudonym is not the subject's")
            elif does == CHANGE:
                self._change(buf, pos, start, end, hot_rule, charset, depth)
            elif does == DESCEND and rule.child is not None and vr in (b"SQ", b"UN", b""):
                self._items(buf, start, end, rule.child, charset, depth, vr == b"UN")
            elif buf[pos:end] != stand_in(self.numbers, explicit, rule, rule.on_hit):
                raise _failed(tag, "a sequence stayed that the plan does not keep")
            pos = end
        else:
            return pos, last
        if depth:
            raise _failed(0, "the output's elements run over their item")
        return pos, last

    @staticmethod
    def _rule(rules: HotNode, creators: dict[int, str], tag: int, vr: bytes) -> Hot:
        """Return the rule of an element; of a private one by the creator that stands before it."""
        number = tag & 0xFFFF
        if not tag & 0x10000 or rules.node.private is None:
            return rules[tag]
        if 0x10 <= number <= 0xFF:
            return CREATOR
        found = rules.private(tag, creators.get(tag & 0xFFFF0000 | number >> 8, ""), vr)
        if found is None:
            raise _failed(tag, "a private element stayed that nothing says is safe")
        return found

    def _concept(self, buf: bytes, start: int, end: int) -> tuple[str, str]:
        """Return Code Value and Coding Scheme Designator of the first item of a code sequence."""
        code, scheme = "", ""
        pos = start + 8
        while pos + 8 <= end:
            tag, _, at, length = self._header(buf, pos)
            if tag in (0xFFFEE00D, 0xFFFEE0DD) or length == 0xFFFFFFFF or tag > 0x00080102:
                break
            if tag == 0x00080100:
                code = creator_name(buf[at : at + length])
            elif tag == 0x00080102:
                scheme = creator_name(buf[at : at + length])
            pos = at + length
        return code, scheme

    def _change(
        self, buf: bytes, pos: int, start: int, end: int, hot_rule: Hot, charset: tuple[str, ...], depth: int
    ) -> None:
        """Check a changed value: made again from a value of the source, it has to come out the same."""
        _, own_vr, _, _, _, _, rule = hot_rule
        value = buf[start:end]
        if (rule.tag, value) in self.changed:
            if rule.act is Act.CLEAN:
                self.kept[WORDS].append(((pos, depth), rule.tag, own_vr, value, charset))
        elif buf[pos:end] != stand_in(self.numbers, self.explicit, rule, rule.on_hit):
            raise _failed(rule.tag, "a changed value is not what the plan makes of the source's")

    def _mapped(self, tag: int, value: bytes) -> None:
        for uid in value.rstrip(b"\0 ").split(b"\\"):
            if uid and uid not in self.allowed and uid not in registered() and uid != _DUMMY_UID:
                raise _failed(tag, "a UID is not what the key gives")

    def _items(self, buf, start, end, node, charset, depth, unknown) -> None:  # type: ignore[no-untyped-def]
        if unknown:
            # What a UN holds is in implicit VR little endian, or in the file's own encoding where that fails.
            inner = self._inside_un()
            kept = [len(values) for values in self.kept]
            try:
                inner._items(buf, start, end, node, charset, depth, False)
                return
            except Quarantined:
                for values, before in zip(self.kept, kept, strict=True):
                    del values[before:]
        pos = start
        while pos < end:
            if pos + 8 > end:
                raise _failed(0, "a sequence of the output is cut off")
            group, number, length = self.plain(buf, pos)
            tag = group << 16 | number
            if tag == 0xFFFEE0DD and pos + 8 == end:
                return
            if tag != 0xFFFEE000:
                raise _failed(tag, "a sequence of the output holds something that is no item")
            pos += 8
            if length == 0xFFFFFFFF:
                pos, _ = self._level(buf, pos, end, node, charset, depth + 1)
                if self.plain(buf, pos)[:2] != (0xFFFE, 0xE00D):
                    raise _failed(tag, "an item of the output has no end")
                pos += 8
                continue
            if pos + length > end or self._level(buf, pos, pos + length, node, charset, depth + 1)[0] != pos + length:
                raise _failed(tag, "an item of the output is cut off")
            pos += length

    def _inside_un(self) -> Verifier:
        """Return a verifier for what a UN holds: implicit VR little endian, as PS3.5 6.2.2 says."""
        inner = copy(self)
        inner.explicit, inner.numbers = False, LITTLE
        inner.plain, inner.length = LITTLE.tag_length.unpack_from, LITTLE.long.unpack_from
        return inner

    def _undefined_end(self, buf: bytes, pos: int, vr: bytes) -> int:
        """Return the end of a sequence of undefined length, its delimiter included."""
        if vr == b"UN":
            return self._inside_un()._undefined_end(buf, pos, b"SQ")
        while pos + 8 <= len(buf):
            group, number, length = self.plain(buf, pos)
            pos += 8
            if (group, number) == (0xFFFE, 0xE0DD):
                return pos
            if (group, number) != (0xFFFE, 0xE000):
                break
            pos = self._item_end(buf, pos) if length == 0xFFFFFFFF else pos + length
        raise _failed(0, "a sequence of the output has no end")

    def _item_end(self, buf: bytes, pos: int) -> int:
        """Return the end of an item of undefined length, its delimiter included."""
        while pos + 8 <= len(buf):
            tag, vr, start, length = self._header(buf, pos)
            if tag == 0xFFFEE00D:
                return pos + 8
            pos = self._undefined_end(buf, start, vr) if length == 0xFFFFFFFF else start + length
        raise _failed(0, "an item of the output has no end")


def _made_again(changer: Changer, changes: list[Change]) -> frozenset[tuple[int, bytes]]:
    """Make the changed values again, from what was recorded of the source, as (tag, padded value)."""
    found = set()
    for rule, vr, value, charset, partner in changes:
        new = changer.change(rule, vr, value, charset, partner)
        if new and rule.act is Act.SHIFT and rule.vr != "TM" and new.strip(b" ") == value.strip(b" \0"):
            raise _failed(rule.tag, "a date was to be moved and is where it was")
        if new:
            found.add((rule.tag, new + b" " if len(new) & 1 else new))
    return frozenset(found)


def _same(mine: list[Kept], theirs: list[Kept]) -> bool:
    """Whether two lists hold the same values of the same attributes, wherever they stand."""
    return len(mine) == len(theirs) and all(
        a[3] == b[3] and a[1] == b[1] and a[4] == b[4] for a, b in zip(mine, theirs, strict=True)
    )


class _Output:
    """The output as one stream, of which only new bytes are in memory."""

    def __init__(self, source: Source, pieces: list[Piece]) -> None:
        self.source = source
        self.pieces: list[tuple[int, Piece, int]] = []
        position = 0
        for piece in pieces:
            length = len(piece) if isinstance(piece, bytes) else piece[1]
            self.pieces.append((position, piece, length))
            position += length
        self.size = position

    def run(self, position: int) -> bytes:
        """Return the bytes from `position` up to the next range of the source; a small range is read too."""
        parts: list[bytes] = []
        for begin, piece, length in self.pieces:
            if begin + length <= position:
                continue
            skip = max(0, position - begin)
            if isinstance(piece, bytes):
                parts.append(piece[skip:] if skip else piece)
            elif parts:
                break
            else:
                parts.append(self.source.read(piece[0] + skip, min(length - skip, 1 << 16)))
                break
        return b"".join(parts)

    def read(self, position: int, length: int) -> bytes:
        """Read bytes wherever they stand."""
        parts: list[bytes] = []
        for begin, piece, size in self.pieces:
            if begin + size <= position or begin >= position + length:
                continue
            skip = max(0, position - begin)
            take = min(size, position + length - begin) - skip
            parts.append(
                piece[skip : skip + take] if isinstance(piece, bytes) else self.source.read(piece[0] + skip, take)
            )
        return b"".join(parts)

    def fragments_end(self, position: int, tag: int, unpack: Callable[..., tuple[int, int, int]]) -> int:
        """Follow the fragments of encapsulated pixels to their end."""
        while position + 8 <= self.size:
            group, number, length = unpack(self.read(position, 8))
            position += 8
            if group << 16 | number == 0xFFFEE0DD:
                return position
            if group << 16 | number != 0xFFFEE000 or length == 0xFFFFFFFF:
                break
            position += length
        raise _failed(tag, "the fragments of the output have no end")
