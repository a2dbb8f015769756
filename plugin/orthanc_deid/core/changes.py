"""Makes new values out of the source's: cleaned text, shifted dates, capped ages. Rewriter and verifier ask here."""

from __future__ import annotations

from dataclasses import dataclass

from .ages import Ages, change_age
from .dates import Shift, dated_text, partner_of, shift_value, whole_weeks, year_value
from .descriptors import NO_POLICY, TextPolicy, clean_value
from .meanings import CODE_MEANING, is_standard
from .plan import Act, PlanSpec, Rule
from .values import CONTENT_DATES, NOTHING_KNOWN, Needles
from .walk import Element

MAX_VALUES = 1000
"""Values of one attribute that are cleaned one by one; text with more of them is no descriptor, and goes."""
NO_SHIFT = Shift(0, 0, "keep", None)


@dataclass(frozen=True, slots=True)
class Changer:
    """What the changes of one instance depend on: its subject, its profile, and its time zone."""

    shift: Shift = NO_SHIFT
    text_shift: Shift | None = None  # dates in text about the subject are moved by it; None: all are masked
    ages: Ages | None = None
    policy: TextPolicy = NO_POLICY
    needles: Needles = NOTHING_KNOWN.needles

    def change(
        self, rule: Rule, vr: bytes, value: bytes, charset: tuple[str, ...], partner: bytes | None
    ) -> bytes | None:
        """Return the new value, unpadded, or the very same object where nothing has to change; None where nothing of it
        may stay. `partner` is the time that belongs to a date."""
        if rule.act is Act.CLEAN:
            if rule.tag == CODE_MEANING and is_standard(value):
                return value
            if value.count(b"\\") > MAX_VALUES:
                return None
            shift = self.text_shift if rule.tag in dated_text() else None
            return clean_value(vr, rule.tag, value, charset, self.needles, self.policy, shift)
        if rule.act is Act.SHIFT:
            if rule.tag in CONTENT_DATES and value[:8] in self.needles.births:
                return None  # a moved date of birth beside a moved study tells the age, whatever its cap
            return shift_value(vr, value, self.shift, partner)
        if rule.act is Act.AGE:
            return change_age(value, self.ages) if self.ages is not None else None
        return year_value(vr, value)

    def partner(self, rule: Rule, level: list[Element], buf: bytes) -> bytes | None:
        """Return the time that belongs to a date of the same level, where times move too."""
        if self.shift.times != "shift" or rule.act is not Act.SHIFT or rule.vr != "DA":
            return None
        tag = partner_of(rule.tag)
        for element in level:
            if element[0] == tag:
                return buf[element[3] : element[4]]
        return None


def changer(spec: PlanSpec, date_offset: int, time_offset: int, zone: int | None, needles: Needles) -> Changer:
    """Return the changes of one instance; offsets in days and seconds, `zone` in minutes east of UTC."""
    shift = Shift(whole_weeks(date_offset) if spec.whole_weeks else date_offset, time_offset, spec.times, zone)
    modified = "retain-longitudinal-modified-dates" in spec.options
    return Changer(shift, shift if modified else None, spec.ages, spec.text, needles)
