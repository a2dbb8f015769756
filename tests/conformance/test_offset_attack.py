"""An attacker who has what came out for two patients of one scanner, and its service log, tries to find their offsets.

Each attribute that Table E.1-1 modifies has a value: dates of the patient's own, and dates that are the same for both
(calibration, installation, versions of templates and protocols, clocks that were never set). What comes out is what
the plan and `shift_value` let out. The attacker knows every shared date, and compares. The same attacks on a release
that moves whatever the table names have to succeed, else they would prove nothing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache

import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.dates import Shift, dated_text, shift_text, shift_value
from orthanc_deid.core.resolution import Choices, decide
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.identity.pseudonyms import date_offset, subject_id, time_offset

MODIFIED = "retain_longitudinal_modified_dates"
# By their names, not by the list under test: what a scanner, a site or a publisher sets for everybody.
SHARED = re.compile(
    r"Calibration|Manufacture|Installation|GroupVersion|GroupLocalVersion|TemplateVersion|TemplateLocalVersion"
    r"|EthicsCommittee|HangingProtocol|Selector|SourceStrength|ProductExpiration|^EffectiveDateTime|InformationIssue|Assertion"
)
NEVER_SET = [date(1970, 1, 1), date(1980, 1, 1), date(2000, 1, 1), date(1900, 1, 1), date(1901, 1, 1), date(1, 1, 1)]
TEXTS = {
    # attribute → what every patient of the scanner gets
    "ProtocolName": "Abdomen {:%d.%m.%Y}",
    "SeriesDescription": "T2 TSE {:%Y-%m-%d}",
    "StudyDescription": "CT routine {:%d %B %Y}",
    "SoftwareVersions": "VB10 {:%Y%m%d}",
    "AcquisitionProtocolDescription": "as agreed on {:%d %b %Y}",
    "TextValue": "Report template of {:%d.%m.%Y}. Calibrated: {:%Y-%m-%d}. Version {:%d %B %Y}.",
    "ImageComments": "System installed {:%Y-%m-%d}; software of {:%d.%m.%Y}",
}


@dataclass
class Patient:
    """What is true of a patient, and what came out: attribute → value."""

    shift: Shift
    own: date
    values: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def moved_by_the_table() -> Iterator[tuple[int, str, str]]:
    for tag, row in standard.confidentiality_table().items():
        known = standard.attribute(tag)
        if row.options.get(MODIFIED) == "C" and known is not None and known.vr in ("DA", "DT", "TM"):
            yield tag, known.keyword, known.vr


def written(vr: str, when: datetime) -> bytes:
    return when.strftime({"DA": "%Y%m%d", "TM": "%H%M%S", "DT": "%Y%m%d%H%M%S+0200"}[vr]).encode()


Release = Callable[[int, str, bytes, Shift], bytes | None]
Words = Callable[[int, str, Shift], str]


def careful(tag: int, vr: str, value: bytes, shift: Shift) -> bytes | None:
    """What the plan does: the row of the table unless the attribute is a constant."""
    options = frozenset({"retain-longitudinal-modified-dates"})
    choices = Choices(options=options, keep_times=shift.times == "keep")
    code = decide(tag, vr, at_root=False, choices=choices).code
    if code == "K":
        return value
    return shift_value(vr.encode(), value, shift) if code == "SHIFT" else None


def careful_words(tag: int, text: str, shift: Shift) -> str:
    return shift_text(text, shift if tag in dated_text() else None)


def naive(tag: int, vr: str, value: bytes, shift: Shift) -> bytes | None:
    """What the table says, to the letter."""
    if vr == "DA" and value < b"1000":
        return None  # that much before the first day there is none
    form = {"DA": "%Y%m%d", "TM": "%H%M%S", "DT": "%Y%m%d%H%M%S"}[vr]
    when = datetime.strptime(value[:14].decode(), form) + timedelta(shift.days if vr != "TM" else 0, shift.seconds)
    return when.strftime(form).encode() + value[14:]


def naive_words(tag: int, text: str, shift: Shift) -> str:
    def move(found: re.Match[str]) -> str:
        when = read_words(found[0])
        return f"{when + timedelta(shift.days):%Y-%m-%d}" if when is not None else found[0]

    return re.sub(r"\d{4}-\d\d-\d\d|\d\d\.\d\d\.\d{4}|\d\d [A-Z][a-z]+ \d{4}|\d{8}", move, text)


def read_words(text: str) -> date | None:
    for form in ("%Y-%m-%d", "%d.%m.%Y", "%d %B %Y", "%d %b %Y", "%Y%m%d"):
        try:
            return datetime.strptime(text, form).date()
        except ValueError:
            continue
    return None


@cache
def world(seed: int, times: str, release: Release, words: Words) -> tuple[Patient, Patient, dict[str, datetime]]:
    """Two patients of one scanner; the third is what its service log and the standard's pages say."""
    rng = random.Random(seed)
    log = {
        keyword: datetime(2012, 3, 5) + timedelta(rng.randrange(1500), rng.randrange(1, 86400))
        for _, keyword, _ in moved_by_the_table()
        if SHARED.search(keyword)
    }
    for keyword in TEXTS:
        log[keyword] = datetime(2012, 3, 5) + timedelta(rng.randrange(1500))
    keys = MasterKey({1: rng.randbytes(32)}).project("attacked")
    patients = []
    for index in range(2):
        subject = subject_id("default", f"{seed}-{index}-{rng.randrange(10**8)}")
        shift = Shift(date_offset(keys, subject), time_offset(keys, subject), times, 60)
        own = date(2018, 2, 3) + timedelta(rng.randrange(400) + 1000 * index)
        patient = Patient(shift, own)
        for tag, keyword, vr in moved_by_the_table():
            day = datetime(own.year, own.month, own.day) + timedelta(rng.randrange(30), rng.randrange(30000, 70000))
            out = release(tag, vr, written(vr, log.get(keyword, day)), shift)
            if out:
                patient.values[keyword] = out
        for place, never in enumerate(NEVER_SET):
            out = release(0x00080022, "DA", b"%04d%02d%02d" % (never.year, never.month, never.day), shift)
            if out:
                patient.values[f"clock {place}"] = out
        for keyword, text in TEXTS.items():
            said = text.format(*[log[keyword]] * 3)
            patient.texts[keyword] = words(standard.tags_by_keyword()[keyword], said, shift)
        patients.append(patient)
    return patients[0], patients[1], log


def day_of(value: bytes) -> date | None:
    try:
        return datetime.strptime(value[:8].decode(), "%Y%m%d").date()
    except ValueError:
        return None


def dates_in(text: str) -> list[date]:
    found = re.findall(r"\d{4}-\d\d-\d\d|\d\d\.\d\d\.\d{4}|\d\d [A-Z][a-z]+ \d{4}|\d{8}", text)
    return [day for one in found if (day := read_words(one)) is not None]


# --- the attacks: each returns what it takes for the patient's offset ----------------------------------------------


def by_the_service_log(patient: Patient, log: dict[str, datetime]) -> set[int]:
    """An attribute that is known to be shared, less the date in the log."""
    guesses = set()
    for keyword, known in log.items():
        day = day_of(patient.values.get(keyword, b""))
        if day is not None:
            guesses.add((day - known.date()).days)
        guesses |= {(day - known.date()).days for day in dates_in(patient.texts.get(keyword, ""))}
    return {days for days in guesses if -3651 <= days <= -365}


def by_any_known_date(patient: Patient, log: dict[str, datetime]) -> set[int]:
    """Any date that came out, less any known one, whatever they are called: what turns up most often."""
    known = sorted({when.date() for when in log.values()} | set(NEVER_SET))
    out = {day for value in patient.values.values() if (day := day_of(value)) is not None}
    out |= {day for text in patient.texts.values() for day in dates_in(text)}
    votes: dict[int, int] = {}
    for day in out:
        for when in known:
            days = (day - when).days
            if -3650 <= days <= -366:
                votes[days] = votes.get(days, 0) + 1
    best = max(votes.values(), default=0)
    return {days for days, count in votes.items() if count == best} if best > 1 else set()


def by_clocks_never_set(patient: Patient, log: dict[str, datetime]) -> set[int]:
    """Dates that lie long before the scanner was built."""
    out = [day for value in patient.values.values() if (day := day_of(value)) is not None and day.year < 2001]
    return {(day - never).days for day in out for never in NEVER_SET if -3650 <= (day - never).days <= -366}


def by_comparison(one: Patient, two: Patient) -> set[int]:
    """The same attribute of both: what is shared shows the difference of the offsets."""
    differences = set()
    for keyword in one.values.keys() & two.values.keys():
        days = [day_of(patient.values[keyword]) for patient in (one, two)]
        if days[0] is not None and days[1] is not None:
            differences.add((days[0] - days[1]).days)
    for keyword in TEXTS:
        pairs = zip(dates_in(one.texts[keyword]), dates_in(two.texts[keyword]), strict=False)
        differences |= {(first - second).days for first, second in pairs}
    return differences


def seconds_by_the_service_log(patient: Patient, log: dict[str, datetime]) -> set[int]:
    """Times of day that are known."""
    guesses = set()
    for keyword, known in log.items():
        found = re.fullmatch(rb"(?:\d{8})?(\d\d)(\d\d)(\d\d)(?:[+-]\d{4})?", patient.values.get(keyword, b""))
        if found is not None and len(patient.values[keyword]) != 8:
            clock = int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3])
            guesses.add((clock - known.hour * 3600 - known.minute * 60 - known.second) % 86400)
    return guesses


ATTACKS = [by_the_service_log, by_any_known_date, by_clocks_never_set]
SEEDS = range(12)


@pytest.mark.parametrize("times", ["keep", "shift", "round"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_offset_of_neither_patient_is_found(
    attack: Callable[[Patient, dict[str, datetime]], set[int]], times: str
) -> None:
    found = 0
    for seed in SEEDS:
        *patients, log = world(seed, times, careful, careful_words)
        for patient in patients:
            assert len(patient.values) > 50
            guesses = attack(patient, log)
            # A guess among the dates of the patient's own that is right by chance is one of very many.
            found += any(abs(patient.shift.days - days) <= 1 for days in guesses) and len(guesses) <= 20
    assert found <= (1 if attack is by_any_known_date else 0)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_attack_finds_it_where_everything_moves(
    attack: Callable[[Patient, dict[str, datetime]], set[int]],
) -> None:
    found = 0
    for seed in SEEDS:
        *patients, log = world(seed, "keep", naive_days, naive_words)
        found += sum(patient.shift.days in attack(patient, log) for patient in patients)
    assert found == 2 * len(SEEDS)


def naive_days(tag: int, vr: str, value: bytes, shift: Shift) -> bytes | None:
    return naive(tag, vr, value, Shift(shift.days, 0, "keep"))


@pytest.mark.parametrize("times", ["keep", "shift", "round"])
def test_the_patients_compared_do_not_show_the_difference_of_their_offsets(times: str) -> None:
    for seed in SEEDS:
        one, two, _ = world(seed, times, careful, careful_words)
        true = one.shift.days - two.shift.days
        # What is their own differs by more than a thousand days and is no help; a shared date would differ by `true`.
        assert not {true - 1, true, true + 1} & by_comparison(one, two)
        naively = world(seed, times, naive_days, naive_words)
        assert true in by_comparison(naively[0], naively[1])


def test_the_seconds_are_not_found() -> None:
    for seed in SEEDS:
        *patients, log = world(seed, "shift", careful, careful_words)
        for patient in patients:
            assert patient.shift.seconds % 86400 not in seconds_by_the_service_log(patient, log)
        *patients, log = world(seed, "shift", naive, naive_words)
        for patient in patients:
            assert patient.shift.seconds % 86400 in seconds_by_the_service_log(patient, log)


def test_summer_and_winter_do_not_show() -> None:
    """A suffix of +0200 would say that the true day is one in summer."""
    for times in ("keep", "shift", "round"):
        for patient in world(1, times, careful, careful_words)[:2]:
            assert not any(b"+" in value for value in patient.values.values())
        assert shift_text("2020-07-01T10:00:00+02:00", Shift(-1000, -1, times)).count("+") == 0


def test_days_of_the_week_do_not_show() -> None:
    for days in range(-3650, -3600):
        text = shift_text("Seen on Wednesday, 1 July 2020 and (Do) 02.07.2020", Shift(days, 0, "keep"))
        assert ("Wednesday" in text) is (days % 7 == 0)


def test_placeholder_times_do_not_show_the_seconds() -> None:
    shift = Shift(-1000, -4321, "shift")
    for value in (b"000000", b"00", b"0000", b"000000.0000"):
        assert shift_value(b"TM", value, shift) is None
        moved = shift_value(b"DT", b"20200102" + value, shift)
        assert moved == b"20170407"


def test_offsets_are_spread_over_their_range_and_apart_for_each_project() -> None:
    master = MasterKey({1: bytes(range(32))})
    offsets = [
        [date_offset(master.project(project), subject_id("default", f"P{number}")) for number in range(4000)]
        for project in ("lung", "brain")
    ]
    for found in offsets:
        assert min(found) < -3600 and max(found) > -420
        tenths = [
            sum(-366 - 328.5 * (tenth + 1) < days <= -366 - 328.5 * tenth for days in found) for tenth in range(10)
        ]
        assert all(320 < count < 480 for count in tenths), tenths  # 400 each, within four standard deviations
    assert sum(one == two for one, two in zip(*offsets, strict=True)) < 10
