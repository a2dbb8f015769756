"""The plan: for one profile and one SOP class, what is done to each attribute in each nesting context.

A plan is compiled lazily and remembered: `node[tag]` gives the rule for an attribute, and after the first time it is a
plain dictionary look-up. Plans cross process borders by their ingredients (they are compiled again on arrival).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from orthanc_deid.core import standard
from orthanc_deid.core.dummies import dummy_value
from orthanc_deid.core.errors import Quarantined
from orthanc_deid.core.resolution import Act, act_for, decide, may_be_absent, needs_value

__all__ = ["Act", "Node", "Plan", "PlanSpec", "Rule", "compile_plan"]

SEMANTICS = 1
"""Counts up when this code resolves the same tables differently; part of every plan's digest."""

_REMEMBERED = 20_000  # rules per node: far more than the dictionary has, but bounded where an input invents tags
_DUMMY_DEPTH = 6  # sequences within a made-up item; the deepest that any IOD demands is 3


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done to one attribute in one nesting context."""

    tag: int
    vr: str  # by the data dictionary; 'UN' where it does not know the tag
    act: Act
    type: str  # '1' '1C' '2' '2C' '3' in this context
    on_hit: Act  # where the value is kept but holds something of the patient's: REMOVE, EMPTY or DUMMY by Type
    provenance: str
    child: Node | None = None  # context of the items of a sequence that is entered or made up
    dummy: bytes | None = None  # unpadded, little endian; for act or on_hit DUMMY of anything but a sequence


class Node(dict[int, Rule]):
    """One nesting context: rules by tag, made when they are first asked for.

    `required` are the elements of the item that stands in for the items of a sequence with the action DUMMY, in tag
    order: each with the action DUMMY (a value, or a sequence in its turn) or EMPTY.
    """

    __slots__ = ("_make", "_required", "_required_made", "hot")

    hot: dict[tuple[str, bool], Any]
    """The same rules in the engine's own form, by byte order and explicitness of the VR; the engine's to fill."""

    def __init__(self, make: Callable[[int], Rule], required: Callable[[], tuple[Rule, ...]]) -> None:
        super().__init__()
        self.hot = {}
        self._make = make
        self._required = required
        self._required_made: tuple[Rule, ...] | None = None

    def __missing__(self, tag: int) -> Rule:
        rule = self._make(tag)
        if len(self) < _REMEMBERED:
            self[tag] = rule
        return rule

    @property
    def required(self) -> tuple[Rule, ...]:
        if self._required_made is None:
            self._required_made = self._required()
        return self._required_made


@dataclass(frozen=True)
class PlanSpec:
    """What a profile says, as a value: plans of equal specs and SOP classes are equal."""

    name: str
    edition: str = standard.EDITION
    options: frozenset[str] = frozenset()
    deviations: tuple[tuple[int, str, str], ...] = ()  # (tag, action code, reason), by tag

    @property
    def digest(self) -> str:
        """SHA-256 in hex over tables, options and deviations: equal digests treat every instance alike."""
        ingredients = [SEMANTICS, standard.digest(), self.edition, sorted(self.options), self.deviations]
        return hashlib.sha256(json.dumps(ingredients).encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """The compiled plan for instances of one SOP class. Compare plans by `digest`."""

    profile: str
    edition: str
    sop_class: str
    iod: str
    root: Node = field(compare=False, repr=False)
    digest: str
    method_codes: tuple[tuple[str, str, str], ...]  # CID 7050 (code, scheme, meaning), only for what is really done
    options: frozenset[str]
    spec: PlanSpec = field(repr=False)

    def __reduce__(self) -> tuple[Callable[[PlanSpec, str], Plan], tuple[PlanSpec, str]]:
        return compile_plan, (self.spec, self.sop_class)


@lru_cache(maxsize=256)
def compile_plan(spec: PlanSpec, sop_class_uid: str) -> Plan:
    """Compile the plan, or raise Quarantined('unknown-sop-class') where no IOD says what the attributes mean."""
    sop_class = standard.sop_classes().get(sop_class_uid)
    if sop_class is None:
        kind = "unknown" if sop_class_uid.startswith("1.2.840.10008.") else "private"
        raise Quarantined("unknown-sop-class", f"{kind} SOP class", 0x00080016)
    return Plan(
        profile=spec.name,
        edition=spec.edition,
        sop_class=sop_class_uid,
        iod=sop_class.iod,
        root=_Compiler(spec, sop_class.iod).root(),
        digest=_digest(spec, sop_class_uid),
        method_codes=_method_codes(spec),
        options=spec.options,
        spec=spec,
    )


def _digest(spec: PlanSpec, sop_class: str) -> str:
    return hashlib.sha256(f"{spec.digest} {sop_class}".encode()).hexdigest()


def _method_codes(spec: PlanSpec) -> tuple[tuple[str, str, str], ...]:
    """Codes of the Basic Profile and of the options taken.

    A profile that keeps an attribute which the Basic Profile does not keep is no longer the Basic Profile, and must not
    say so (PS3.15 section E.1.1).
    """
    codes = []
    rows = ((code, standard.table_row(tag)) for tag, code, _reason in spec.deviations)
    if not any(code == "K" and row is not None for code, row in rows):
        codes.append("113100")
    codes += sorted(standard.options()[name].code for name in spec.options)
    return tuple(standard.method_codes()[code] for code in codes)


class _Compiler:
    """Makes the nodes of one plan: one for each place that the IOD knows, and one for all others."""

    def __init__(self, spec: PlanSpec, iod: str) -> None:
        self._options = spec.options
        self._deviations = {tag: (code, reason) for tag, code, reason in spec.deviations}
        self._context = standard.iod_context(iod)
        self._nodes: dict[int, Node] = {}
        self._generic = self._node(standard.Context(), at_root=False)

    def root(self) -> Node:
        return self._node(self._context, at_root=True)

    def _node(self, context: standard.Context, *, at_root: bool) -> Node:
        def make(tag: int) -> Rule:
            return self._rule(tag, context, at_root=at_root)

        def required() -> tuple[Rule, ...]:
            return self._required(context.tag, context, 0)

        return Node(make, required)

    def _child(self, context: standard.Context, sequence: int) -> Node:
        inner = context.inside(sequence)
        if inner is None:
            return self._generic
        node = self._nodes.get(id(inner))  # contexts live as long as the plan: their ids are theirs alone
        if node is None:
            node = self._nodes[id(inner)] = self._node(inner, at_root=False)
        return node

    def _type(self, tag: int, context: standard.Context, *, at_root: bool) -> tuple[str, str]:
        """Type and where it comes from. The well-known macros hold in every item, also where no IOD knows of it."""
        known = context.types.get(tag)
        if known is not None:
            return known
        if not at_root and tag in standard.macro_types():
            return standard.macro_types()[tag], "macro"
        return "3", ""

    def _rule(self, tag: int, context: standard.Context, *, at_root: bool) -> Rule:
        entry = standard.attribute(tag)
        vr = entry.vr if entry is not None else "UN"
        is_sequence = vr == "SQ"
        type_, module = self._type(tag, context, at_root=at_root)
        decision = decide(tag, vr, at_root=at_root, options=self._options, deviations=self._deviations)
        act = act_for(decision.code, type_, is_sequence=is_sequence)
        on_hit = Act.REMOVE if may_be_absent(type_) else Act.DUMMY if needs_value(type_) else Act.EMPTY
        child: Node | None = None
        if is_sequence and act in (Act.DESCEND, Act.CLEAN):
            child = self._child(context, tag)
        elif is_sequence and act is Act.DUMMY:
            child = self._made_up(tag, context.inside(tag), 0)
            if not child.required and not needs_value(type_):
                act, child = Act.EMPTY, None  # nothing is known that an item could hold
        wants_dummy = Act.DUMMY in (act, on_hit) and not is_sequence
        return Rule(
            tag=tag,
            vr=vr,
            act=act,
            type=type_,
            on_hit=on_hit,
            provenance=f"{decision.source}, Type {type_}" + (f" in {module}" if module else ""),
            child=child,
            dummy=dummy_value(tag, vr) if wants_dummy else None,
        )

    def _made_up(self, sequence: int, context: standard.Context | None, depth: int) -> Node:
        known = context or standard.Context(sequence)

        def make(tag: int) -> Rule:
            return self._rule(tag, known, at_root=False)

        return Node(make, lambda: self._required(sequence, known, depth))

    def _required(self, sequence: int, context: standard.Context, depth: int) -> tuple[Rule, ...]:
        """Elements of a made-up item of `sequence`.

        From a template where Types do not suffice (dummy_items.csv), else the attributes of Type 1 and 2 that the IOD
        demands there. Those of Type 1C and 2C are left out: nothing in a made-up item makes their conditions true.
        """
        template = standard.dummy_items().get(f"{sequence:08X}")
        if template is not None:
            return tuple(_from_template(element) for element in template)
        wanted: dict[int, Rule] = {}
        if depth < _DUMMY_DEPTH:
            for tag, (type_, module) in context.types.items():
                if type_ in ("1", "2"):
                    wanted[tag] = self._required_rule(tag, type_, module, context, depth)
        macro = standard.sequence_macros().get(sequence)
        if macro == "code":
            wanted.update((element.tag, _from_template(element)) for element in standard.dummy_items()["code"])
        elif macro == "sop-reference":
            for tag in (0x00081150, 0x00081155):
                wanted.setdefault(tag, self._required_rule(tag, "1", macro, context, depth))
        return tuple(wanted[tag] for tag in sorted(wanted))

    def _required_rule(self, tag: int, type_: str, module: str, context: standard.Context, depth: int) -> Rule:
        entry = standard.attribute(tag)
        vr = entry.vr if entry is not None else "UN"
        provenance = f"made up, Type {type_} in {module}"
        if type_ == "2":
            return Rule(tag, vr, Act.EMPTY, type_, Act.EMPTY, provenance)
        for element in standard.dummy_items()["any"]:
            if element.tag == tag:
                return _from_template(element)
        if vr == "SQ":
            child = self._made_up(tag, context.inside(tag), depth + 1)
            return Rule(tag, vr, Act.DUMMY, type_, Act.DUMMY, provenance, child)
        return Rule(tag, vr, Act.DUMMY, type_, Act.DUMMY, provenance, None, dummy_value(tag, vr))


def _from_template(element: standard.DummyElement) -> Rule:
    provenance = "made up, from a template"
    if element.vr == "SQ":
        items = tuple(_from_template(child) for child in element.children)
        child = Node(_no_rule, lambda: items)
        return Rule(element.tag, element.vr, Act.DUMMY, "1", Act.DUMMY, provenance, child)
    if element.vr == "FL":  # only zeros, so that byte order does not matter
        value = b"".join(bytes(4) for _part in element.value.split("\\"))
    else:
        value = element.value.encode("ascii")
    return Rule(element.tag, element.vr, Act.DUMMY, "1", Act.DUMMY, provenance, None, value)


def _no_rule(tag: int) -> Rule:
    raise LookupError("a made-up item has no elements of a source")
