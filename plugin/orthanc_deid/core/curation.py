"""Listens to what a profile would mask in text only because it is on no list, so that a person can judge the words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from . import markers, pixels
from .actions import Rewriter
from .changes import Changer, changer
from .dates import parse_zone
from .descriptors import masked_tokens
from .plan import Act, Plan, Rule
from .source import Source
from .values import NOTHING_KNOWN, Known

_KEY = bytes(32)  # nothing is written, so nothing has to be secret
_OFFSET = -400  # days: dates only have to be recognised


@dataclass(frozen=True, slots=True)
class _Listener(Changer):
    """A Changer that notes the words which cleaning masks, by (word, tag of the attribute)."""

    heard: Counter[tuple[str, int]] = field(default_factory=Counter)

    def change(
        self, rule: Rule, vr: bytes, value: bytes, charset: tuple[str, ...], partner: bytes | None
    ) -> bytes | None:
        if rule.act is Act.CLEAN:
            words = masked_tokens(vr, rule.tag, value, charset, self.needles, self.policy, self.text_shift)
            self.heard.update((word, rule.tag) for word in words)
        return Changer.change(self, rule, vr, value, charset, partner)


def harvested(source: Source, plan: Plan) -> Known:
    """Return the values of the subject's in one instance. Raises Quarantined for what cannot be read."""
    return _run(source, plan, changer(plan.spec, _OFFSET, 0, None, NOTHING_KNOWN.needles))


def masked_words(source: Source, plan: Plan, known: Known) -> Counter[tuple[str, int]]:
    """Count the words of one instance that go since they are on no list, by word and attribute.

    `known` are the values of the subject's, from all objects: they are not among the words, nor is what has a pattern
    (dates, numbers, names behind titles).
    """
    zone = parse_zone(source.facts.raw(0x00080201) or b"")
    change = changer(plan.spec, _OFFSET, 0, zone, known.needles)
    listener = _Listener(change.shift, change.text_shift, change.ages, change.policy, change.needles)
    _run(source, plan, listener)
    return listener.heard


def _run(source: Source, plan: Plan, change: Changer) -> Known:
    marks = markers.elements(plan, source.syntax, _KEY, "2.25.1")
    rewriter = Rewriter(source, plan, _KEY, b"CURATION", marks, dict(pixels.prepare(source)), changer=change)
    rewriter.run()
    return rewriter.harvest.known()
