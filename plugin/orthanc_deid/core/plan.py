"""The plan: for one profile and one SOP class, what is done to each attribute in each nesting context.

A plan is compiled lazily and remembered: `node[tag]` gives the rule for an attribute, and after the first time it is a
plain dictionary look-up. Plans cross process borders by their ingredients (they are compiled again on arrival).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field
from functools import lru_cache
from typing import Any

from orthanc_deid.core import lexicon, standard
from orthanc_deid.core.ages import Ages
from orthanc_deid.core.descriptors import NO_POLICY, TextPolicy
from orthanc_deid.core.dummies import dummy_value
from orthanc_deid.core.errors import Quarantined
from orthanc_deid.core.private import Place, SafeElement, safe_elements
from orthanc_deid.core.private import root as safe_root
from orthanc_deid.core.resolution import (
    TEXT,
    Act,
    Choices,
    Decision,
    act_for,
    decide,
    may_be_absent,
    needs_value,
)
from orthanc_deid.core.structured import content_codes

__all__ = ["Act", "Node", "Plan", "PlanSpec", "Rule", "compile_plan"]

SEMANTICS = 2
"""Counts up when this code resolves the same tables differently; part of every plan's digest."""

Codes = tuple[tuple[int, str], ...]
"""Action codes by tag, of one kind of content item; hashable."""
NO_CODES: Mapping[int, str] = {}

_REMEMBERED = 20_000  # rules per node: far more than the dictionary has, but bounded where an input invents tags
_DUMMY_DEPTH = 6  # sequences within a made-up item; the deepest that any IOD demands is 3

CONTENT_SEQUENCES = frozenset((
    0x00240325, 0x00400440, 0x00400441, 0x00400555, 0x00400612, 0x00400620, 0x00409220, 0x0040A730, 0x00741210,
    0x00741212, 0x30020110, 0x30020131, 0x30020135, 0x300A062D, 0x300A065A, 0x300A065B, 0x300A073E, 0x300A0793,
    0x30100027, 0x30100070, 0x30100081,
))  # fmt: skip
"""Sequences whose items are content items with a Value Type: Content, Protocol Context and Acquisition Context
Sequence, the modifiers of content items, and what else includes their macro (PS3.3 section 10.2, C.17.3)."""


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
    safe: SafeElement | None = None  # of a private attribute: what is known of it


class Node(dict[int, Rule]):
    """One nesting context: rules by tag, made when they are first asked for.

    `required` are the elements of the item that stands in for the items of a sequence with the action DUMMY, in tag
    order: each with the action DUMMY (a value, or a sequence in its turn) or EMPTY.

    `private` gives the rule of a private element by tag, creator and VR as sent, None where it does not stay; it is
    None itself where no private element stays. `content` gives the context of a content item by Value Type and concept
    (code and scheme); it is None where the items are no content items.
    """

    __slots__ = ("_make", "_required", "_required_made", "content", "hot", "private")

    hot: dict[tuple[str, bool], Any]
    """The same rules in the engine's own form, by byte order and explicitness of the VR; the engine's to fill."""

    def __init__(self, make: Callable[[int], Rule], required: Callable[[], tuple[Rule, ...]]) -> None:
        super().__init__()
        self.hot = {}
        self.private: Callable[[int, str, bytes], Rule | None] | None = None
        self.content: Callable[[str, str, str], Node] | None = None
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


@dataclass(frozen=True, slots=True)
class PrivateChoice:
    """What a profile says about a private attribute: group, low byte of the element, creator, 'K' or 'X', VR, why."""

    group: int
    element: int
    creator: str
    code: str
    vr: str
    reason: str


@dataclass(frozen=True)
class PlanSpec:
    """What a profile says, as a value: plans of equal specs and SOP classes are equal."""

    name: str
    edition: str = standard.EDITION
    options: frozenset[str] = frozenset()
    deviations: tuple[tuple[int, str, str], ...] = ()  # (tag, action code, reason), by tag
    values: tuple[tuple[int, str], ...] = ()  # of the deviations with code SET, by tag
    private: tuple[PrivateChoice, ...] = ()
    times: str = "keep"  # of day, with modified dates: keep, shift, round
    whole_weeks: bool = False
    ages: Ages | None = None
    keep_references: bool = False
    keep_encapsulated: bool = False
    keep_raw_data: bool = False
    text: TextPolicy = NO_POLICY

    @property
    def digest(self) -> str:
        """SHA-256 in hex over tables and choices: equal digests treat every instance alike."""
        text = [sorted(self.text.allow), sorted(self.text.deny), lexicon.digest() if self.cleans else ""]
        ingredients = [SEMANTICS, standard.digest(), self.edition, sorted(self.options), self.deviations, self.values]
        ingredients += [[astuple(one) for one in self.private], self.times, self.whole_weeks]
        ingredients += [astuple(self.ages) if self.ages else None, self.keep_references]
        ingredients += [self.keep_encapsulated, self.keep_raw_data, text]
        return hashlib.sha256(json.dumps(ingredients).encode()).hexdigest()

    @property
    def choices(self) -> Choices:
        """Return what the action of an attribute depends on."""
        return Choices(
            options=self.options,
            deviations={tag: (code, reason) for tag, code, reason in self.deviations},
            keep_references=self.keep_references,
            keep_documents=self.keep_encapsulated,
            keep_times=self.times == "keep",
            change_ages=self.ages is not None,
        )

    @property
    def cleans(self) -> bool:
        """Whether text is cleaned, so that the subject's values have to be known before."""
        return bool(
            self.options & {"clean-descriptors", "clean-graphics", "clean-structured-content", "retain-safe-private"}
            or any(code == "C" for _tag, code, _reason in self.deviations)
        )

    @property
    def is_basic(self) -> bool:
        """Whether this may be called the Basic Profile (PS3.15 section E.1.1): it keeps nothing that that removes."""
        rows = ((code, standard.table_row(tag)) for tag, code, _reason in self.deviations)
        keeps = any(row is not None and code not in ("X", "Z", "D", "SET", row.basic) for code, row in rows)
        kept = self.keep_references or self.keep_encapsulated
        return not (keeps or kept or any(one.code != "X" for one in self.private))

    @property
    def temporal(self) -> str:
        """Longitudinal Temporal Information Modified (0028,0303): what the dates in the output are."""
        if "retain-longitudinal-full-dates" in self.options:
            return "UNMODIFIED"
        moved = any(code in ("SHIFT", "YEAR") for _tag, code, _reason in self.deviations)
        return "MODIFIED" if moved or "retain-longitudinal-modified-dates" in self.options else "REMOVED"


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
    cleans: bool  # PlanSpec.cleans
    temporal: str  # PlanSpec.temporal
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
        digest=plan_digest(spec, sop_class_uid),
        method_codes=_method_codes(spec),
        options=spec.options,
        cleans=spec.cleans,
        temporal=spec.temporal,
        spec=spec,
    )


def plan_digest(spec: PlanSpec, sop_class: str) -> str:
    """Return the digest that the plan for a SOP class has, without compiling it."""
    return hashlib.sha256(f"{spec.digest} {sop_class}".encode()).hexdigest()


def _method_codes(spec: PlanSpec) -> tuple[tuple[str, str, str], ...]:
    """Codes of the Basic Profile, where it may be called so, and of the options taken."""
    codes = ["113100"] if spec.is_basic else []
    codes += sorted(standard.options()[name].code for name in spec.options)
    return tuple(standard.method_codes()[code] for code in codes)


class _Compiler:
    """Makes the nodes of one plan: one for each place that the IOD knows, and one for all others."""

    def __init__(self, spec: PlanSpec, iod: str) -> None:
        self._options = spec.options
        self._choices = spec.choices
        self._values = dict(spec.values)
        self._private = {(one.group, one.creator, one.element): one for one in spec.private}
        self._keeps_private = "retain-safe-private" in spec.options or bool(spec.private)
        self._context = standard.iod_context(iod)
        # Common Instance Reference lists what is referred to: without the references it would list nothing.
        self._lists_references = iod in standard.iods_listing_references()
        self._nodes: dict[tuple[int, int, Codes], Node] = {}
        self._generic = standard.Context()
        self._contents: dict[int, standard.Context] = {}  # of content items where the IOD knows none

    def root(self) -> Node:
        return self._node(self._context, safe_root() if self._keeps_private else None, at_root=True)

    def _node(
        self, context: standard.Context, place: Place | None, *, at_root: bool = False, codes: Codes = ()
    ) -> Node:
        """Make the node of a context; `codes` are the actions that a content item's concept asks for, by tag."""
        own = dict(codes)

        def make(tag: int) -> Rule:
            if place is not None and place.public is not None and tag not in place.public:
                return Rule(tag, "UN", Act.REMOVE, "3", Act.REMOVE, "not known to be safe in a private sequence")
            return self._rule(tag, context, place, at_root=at_root, own=own)

        def required() -> tuple[Rule, ...]:
            return self._required(context.tag, context, 0)

        node = Node(make, required)
        if place is not None:
            node.private = self._private_rules(place)
        if context.tag in CONTENT_SEQUENCES and "clean-structured-content" in self._options and not codes:

            def content(value_type: str, code: str, scheme: str) -> Node:
                return self._inner(context, place, content_codes(value_type, code, scheme, self._options))

            node.content = content
        return node

    def _inner(self, context: standard.Context, place: Place | None, codes: Codes = ()) -> Node:
        key = (id(context), id(place), codes)  # both live as long as the plan: their ids are theirs alone
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = self._node(context, place, codes=codes)
        return node

    def _child(self, context: standard.Context, place: Place | None, sequence: int) -> Node:
        inner = context.inside(sequence)
        if inner is None and sequence in CONTENT_SEQUENCES:
            inner = self._contents.setdefault(sequence, standard.Context(sequence))
        return self._inner(inner or self._generic, None if place is None else place.inside(sequence))

    def _private_rules(self, place: Place) -> Callable[[int, str, bytes], Rule | None]:
        """Return the rules of private elements at a place, by tag, creator and VR as sent (PS3.15 E.3.10)."""
        made: dict[tuple[int, str, bytes], Rule | None] = {}

        def rule(tag: int, creator: str, vr: bytes) -> Rule | None:
            key = (tag, creator, vr)
            if key not in made:
                if len(made) >= _REMEMBERED:
                    made.clear()
                made[key] = self._private_rule(tag, creator, vr, place)
            return made[key]

        return rule

    def _private_rule(self, tag: int, creator: str, vr: bytes, place: Place) -> Rule | None:
        group, low = tag >> 16, tag & 0xFF
        safe: SafeElement | None = None
        if "retain-safe-private" in self._options:
            safe = safe_elements(group, creator, place).get(low)
        choice = self._private.get((group, creator, low))
        if choice is not None and choice.code == "X":
            return None
        if choice is not None and safe is None:
            code = "C" if choice.vr in TEXT else "U" if choice.vr == "UI" else "K"
            code = "SHIFT" if choice.vr in ("DA", "DT", "TM") else code
            provenance = f"profile: {choice.reason}"
            safe = SafeElement(low, choice.vr, code, provenance, frozenset((choice.vr.encode(),)))
        if safe is None or not safe.admits(vr):
            return None
        own = vr.decode() if vr in safe.vrs else safe.vr
        act = self._private_act(safe, own)
        if act is None:
            return None
        child = None
        if act is Act.DESCEND:
            if safe.children is None:
                return None
            child = self._inner(self._generic, safe.children)
        return Rule(tag, own, act, "3", Act.REMOVE, f"safe private, {safe.provenance}", child, None, safe)

    def _private_act(self, safe: SafeElement, vr: str) -> Act | None:
        """Return what is done to a safe private attribute; None where the profile's options do not let it stay."""
        if safe.code == "SHIFT":
            if "retain-longitudinal-full-dates" in self._options:
                return Act.KEEP
            if "retain-longitudinal-modified-dates" not in self._options:
                return None
            return Act.KEEP if vr == "TM" and self._choices.keep_times else Act.SHIFT
        if safe.code == "U":
            return Act.KEEP if "retain-uids" in self._options else Act.UID
        if safe.code == "C":
            return Act.CLEAN
        return Act.DESCEND if vr == "SQ" else Act.KEEP

    def _type(self, tag: int, context: standard.Context, *, at_root: bool) -> tuple[str, str]:
        """Type and where it comes from. The well-known macros hold in every item, also where no IOD knows of it."""
        known = context.types.get(tag)
        if known is not None:
            return known
        if not at_root and tag in standard.macro_types():
            return standard.macro_types()[tag], "macro"
        return "3", ""

    def _rule(
        self,
        tag: int,
        context: standard.Context,
        place: Place | None = None,
        *,
        at_root: bool = False,
        own: Mapping[int, str] = NO_CODES,
    ) -> Rule:
        entry = standard.attribute(tag)
        vr = entry.vr if entry is not None else "UN"
        is_sequence = vr == "SQ"
        type_, module = self._type(tag, context, at_root=at_root)
        decision = decide(tag, vr, at_root=at_root, choices=self._choices)
        if decision.code.endswith("U*") and self._lists_references:
            decision = Decision("U", f"{decision.source}, as the IOD lists the references elsewhere")
        if tag in own:
            decision = Decision(own[tag], "content item (E.3.4-1 or by its Value Type)")
        act = act_for(decision.code, type_, is_sequence=is_sequence)
        on_hit = Act.REMOVE if may_be_absent(type_) else Act.DUMMY if needs_value(type_) else Act.EMPTY
        child: Node | None = None
        if is_sequence and act is Act.DESCEND:
            child = self._child(context, place, tag)
        elif is_sequence and act is Act.DUMMY:
            child = self._made_up(tag, context.inside(tag), 0)
            if not child.required and not needs_value(type_):
                act, child = Act.EMPTY, None  # nothing is known that an item could hold
        dummy: bytes | None = None
        if Act.DUMMY in (act, on_hit) and not is_sequence:
            set_ = self._values.get(tag) if decision.code == "SET" else None
            dummy = dummy_value(tag, vr) if set_ is None else set_.encode("ascii")
        return Rule(
            tag=tag,
            vr=vr,
            act=act,
            type=type_,
            on_hit=on_hit,
            provenance=f"{decision.source}, Type {type_}" + (f" in {module}" if module else ""),
            child=child,
            dummy=dummy,
        )

    def _made_up(self, sequence: int, context: standard.Context | None, depth: int) -> Node:
        known = context or standard.Context(sequence)

        def make(tag: int) -> Rule:
            return self._rule(tag, known)

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
