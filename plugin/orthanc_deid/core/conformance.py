"""The conformance statement of a profile: what a privacy officer reads, and signs, before data may leave.

It says in full what is done to which attribute and why, what is claimed of PS3.15 Annex E and what is not, where the
profile deviates and how it decided where two options disagree. It is data here (`Statement`); `conformance_view` writes
it as text or HTML. The same profile and tables give the same statement, to the byte: it carries no date of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from orthanc_deid import __version__
from orthanc_deid.core import conformance_tables, explain, lexicon, standard
from orthanc_deid.core.conformance_tables import Section, Table
from orthanc_deid.core.errors import tag_text
from orthanc_deid.core.profile import Profile
from orthanc_deid.core.resolution import Choices, decide


@dataclass(frozen=True)
class Statement:
    """A conformance statement: its title, what it is about, and its parts."""

    title: str
    subtitle: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    signatures: tuple[str, ...]


SIGNATURES = ("Made by (imaging informatics)", "Checked by (privacy officer)", "Approved by (data custodian)")


@dataclass(frozen=True)
class Recipient:
    """Somebody who can open what was removed, as the certificate says it."""

    subject: str
    fingerprint: str
    valid_until: str


def statement(profile: Profile, recipients: tuple[Recipient, ...] = ()) -> Statement:
    """Make the conformance statement of a profile, and of what goes along encrypted where there are recipients."""
    spec = profile.spec
    facts = (
        ("Product", f"orthanc-deid {__version__}"),
        ("Standard", f"DICOM PS3.15 Annex E, edition {standard.EDITION}; Types of PS3.3, edition 2026b"),
        ("Profile", profile.name),
        ("Options", ", ".join(sorted(profile.options)) or "none"),
        ("Profile digest (SHA-256)", profile.digest),
        ("Tables digest (SHA-256)", standard.digest()),
        *((("Vocabulary digest (SHA-256)", lexicon.digest()),) if spec.cleans else ()),
        ("Longitudinal Temporal Information Modified (0028,0303)", spec.temporal),
    )
    sections = (
        _purpose(profile),
        _claims(profile),
        _settings(profile),
        _encrypted(recipients),
        _deviations(profile),
        _conflicts(profile),
        _limits(profile, recipients),
        _verification(),
        *conformance_tables.sections(profile),
    )
    return Statement(
        title=f"Conformance statement: profile {profile.name}",
        subtitle=profile.description,
        facts=facts,
        sections=tuple(section for section in sections if section is not None),
        signatures=SIGNATURES,
    )


def _purpose(profile: Profile) -> Section:
    return Section("Purpose", (profile.purpose or "The profile states none.",))


def _claims(profile: Profile) -> Section:
    """What outputs say of themselves, and which options are not claimed."""
    spec = profile.spec
    names = {"113100": "Basic Profile"} | {option.code: name for name, option in standard.options().items()}
    claimed = ({"113100"} if spec.is_basic else set()) | {standard.options()[name].code for name in profile.options}
    rows = []
    for code, _scheme, meaning in sorted(standard.method_codes().values()):
        rows.append((code, meaning, "claimed" if code in claimed else "not claimed", names.get(code, "")))
    if spec.is_basic:
        first = (
            "Outputs conform to the Basic Application Level Confidentiality Profile with the options claimed below: "
            "nothing that it removes, empties or replaces is kept but what those options keep."
        )
    else:
        first = (
            "Outputs do not claim the Basic Application Level Confidentiality Profile (113100): the profile keeps what "
            "that profile removes and no option keeps. Section “Deviations” lists it. Where no deviation says "
            "otherwise the Basic Profile is applied in full, with the options claimed below."
        )
    if claimed:
        marks = "De-identification Method Code Sequence (0012,0064) with the codes claimed here"
    else:
        marks = "no De-identification Method Code Sequence (0012,0064), since no code is claimed"
    second = (
        "Each output says so itself: Patient Identity Removed (0012,0062) YES; De-identification Method (0012,0063) "
        f"with product, version and profile; {marks}; Longitudinal Temporal Information Modified (0028,0303) "
        f"{spec.temporal}; and an item of Contributing Equipment Sequence (0018,A001), De-identifying Equipment "
        "(109104, DCM), with version, digest of the plan and a keyed mark."
    )
    third = (
        "Conformance to PS3.15 is not conformance to a law. Whether an output is anonymous enough for a purpose "
        "depends on what else is known, and is for people to judge."
    )
    table = Table(("CID 7050", "meaning", "claim", "name in a profile"), tuple(rows))
    return Section("What is claimed, and what is not", (first, second, third), table=table)


def _encrypted(recipients: tuple[Recipient, ...]) -> Section | None:
    if not recipients:
        return None
    text = (
        "THE OUTPUTS CAN BE RE-IDENTIFIED. The attributes of the top level that were removed or changed go along in "
        "each output, encrypted (CMS enveloped data, AES-256) in the Encrypted Attributes Sequence (0400,0500). "
        "Whoever has the private key of one of these certificates, now or later, can tell whose they are. Whether "
        "such outputs count as de-identified is for the privacy officer to say, and the receiver should know of it."
    )
    rows = tuple((one.subject, one.fingerprint, one.valid_until) for one in recipients)
    table = Table(("recipient", "SHA-256 of the certificate", "valid until"), rows)
    return Section("What goes along, encrypted", (text,), table=table)


def _settings(profile: Profile) -> Section:
    return Section("How dates, ages, text and references are treated", points=tuple(_setting_points(profile)))


def _setting_points(profile: Profile) -> Iterator[str]:
    spec = profile.spec
    options = profile.options
    if "retain-longitudinal-full-dates" in options:
        yield "Dates and times: as they are."
    elif "retain-longitudinal-modified-dates" in options:
        weeks = ", whole weeks only" if spec.whole_weeks else ""
        times = {
            "keep": "Times of day stay as they are.",
            "shift": "Times of day move too, by a number of seconds of the subject's.",
            "round": "Times of day are rounded to the hour.",
        }[spec.times]
        yield (
            f"Dates move by a number of days of the subject's, between 366 and 3650 days back{weeks}: derived with "
            f"the project's key, the same in all of a subject's studies for ever. Intervals stay. {times} Dates of "
            "the standard, of a coding scheme or of a device are never moved, since they would tell the offset."
        )
    else:
        yield "Dates and times: removed, emptied or replaced by constants, but for the deviations."
    if spec.ages is not None:
        how = []
        if spec.ages.band:
            how.append(f"in bands of {spec.ages.band} years, given as the {spec.ages.representative} one of the band")
        if spec.ages.cap is not None:
            how.append(f"all over {spec.ages.cap} years as {spec.ages.cap + 1:03d}Y")
        yield f"Ages, where they stay: {'; '.join(how)}."
    if spec.cleans:
        allow, deny = sorted(spec.text.allow), sorted(spec.text.deny)
        words = f" Allowed besides by this profile: {', '.join(allow)}." if allow else ""
        words += f" Denied by it: {', '.join(deny)}." if deny else ""
        moved = "retain-longitudinal-modified-dates" in options
        dates = " move where it is certain what they say, and go where not" if moved else " go"
        yield (
            "Cleaned text: the subject's own values (names and their parts, ids, telephone numbers, addresses, "
            "physicians, institution, found in any of the subject's objects) go; telephone numbers, addresses and long "
            f"numbers go by their form; dates{dates}; of the rest only the words of a reviewed vocabulary stay. What "
            f"goes becomes ***.{words}"
        )
    kept = "kept, with mapped UIDs" if spec.keep_references else "removed as Table E.1-1 has it"
    yield f"Sequences of references that the Basic Profile removes: {kept}."
    yield "UIDs: " + (
        "as they are."
        if "retain-uids" in options
        else "mapped, with the project's key; references between outputs resolve."
    )
    yield "Patient's Name and Patient ID: the subject's pseudonym in the project."
    yield "Encapsulated documents: " + ("kept as they are." if spec.keep_encapsulated else "held.")
    yield "Raw data: " + ("kept as they are." if spec.keep_raw_data else "rejected.")


def _deviations(profile: Profile) -> Section:
    """Every deviation with its reason, beside what would happen without it. Conflicts have a section of their own."""
    spec = profile.spec
    without = replace(spec.choices, deviations={}, keep_references=False)
    values = dict(spec.values)
    decided = conflicts(profile)
    rows = []
    for tag, _code, reason in spec.deviations:
        if tag not in decided:
            _vr, decision = explain.decision_for(profile, tag)
            what = explain.CODE_WORDS[decision.code] + (f" to {values[tag]}" if tag in values else "")
            rows.append((tag_text(tag), explain.keyword(tag), _before(tag, without), what, reason))
    if spec.keep_references:
        for tag, reason in sorted(standard.references().items()):
            if tag not in spec.choices.deviations:
                rows.append((tag_text(tag), explain.keyword(tag), _before(tag, without), "keep, UIDs mapped", reason))
    for one in spec.private:
        place = f"({one.group:04x},xx{one.element:02x})"
        kept = "keep, cleaned" if one.code != "X" else "remove"
        rows.append((place, f"private, {one.creator}", "by the options", kept, one.reason))
    if not rows:
        return Section("Deviations", ("None: the profile is the columns of the table as they are.",))
    text = "Where the profile does something else than the columns of Table E.1-1 that it takes, and why."
    columns = ("tag", "attribute", "without the deviation", "profile", "reason")
    return Section("Deviations", (text,), table=Table(columns, tuple(rows)))


def _before(tag: int, choices: Choices) -> str:
    """What is done without the deviation; where the Type decides, the choices."""
    entry = standard.attribute(tag)
    vr = entry.vr if entry is not None else "UN"
    code = decide(tag, vr, at_root=True, choices=choices).code
    words = {explain.word(code, vr, type_): None for type_ in reversed(explain.TYPES)}
    return " or ".join(words)


def conflicts(profile: Profile) -> dict[int, dict[str, str]]:
    """Attributes on which options that the profile takes disagree: the options' codes, by tag."""
    found = {}
    for tag, row in sorted(standard.confidentiality_table().items()):
        codes = {name: row.options.get(standard.options()[name].column) for name in sorted(profile.options)}
        said = {name: code for name, code in codes.items() if code is not None}
        if len(set(said.values())) > 1:
            found[tag] = said
    return found


def _conflicts(profile: Profile) -> Section | None:
    deviations = profile.spec.choices.deviations
    rows = []
    for tag, said in conflicts(profile).items():
        both = ", ".join(f"{name} {code}" for name, code in said.items())
        code, reason = deviations[tag]  # a profile that does not decide is refused
        rows.append((tag_text(tag), explain.keyword(tag), both, explain.CODE_WORDS[code], reason))
    if not rows:
        return None
    text = "Options that the profile takes disagree on these attributes. A profile that does not decide is refused."
    columns = ("tag", "attribute", "options", "profile", "reason")
    return Section("Conflicts between options, decided", (text,), table=Table(columns, tuple(rows)))


def _limits(profile: Profile, recipients: tuple[Recipient, ...]) -> Section:
    """What the profile does not do: the reader must not believe more than is true."""
    points = [
        "It does not clean pixels. What may carry burned-in text is held, not sent; the last appendix lists by what "
        "it is recognised. Text in an image of a kind that is not on that list is not found.",
        "It does not remove recognisable faces, neither from photographs (which are held) nor from volumes of the "
        "head, from which a face can be rendered.",
        "It does not judge how rare a finding, an implant, an age or a combination of them is.",
        "It does not listen to sound, read encapsulated documents, or look into video: such objects are held.",
        "It cannot know values that nobody has recorded as the patient's: the name of a relative, a nickname, a rare "
        "profession in a free text go only because their words are not in the vocabulary, where text is cleaned at "
        "all.",
        "Pseudonyms are not anonymity: whoever has the project's key, and the ledger, can find the patient again.",
    ]
    if not recipients:
        points.append(
            "It sends nothing along that was removed. Where a project names recipients (EncryptTo) it does, "
            "encrypted, and the statement has to be made with their certificates (--encrypt-to)."
        )
    if "retain-longitudinal-full-dates" in profile.options:
        points.append("It keeps real dates: another list of the same hospital's examinations finds the patient again.")
    if "retain-device-identity" in profile.options:
        points.append("It keeps the identity of devices, and so in effect that of the hospital.")
    if "retain-institution-identity" in profile.options:
        points.append("It keeps the identity of the institution.")
    if "retain-uids" in profile.options:
        points.append("It keeps UIDs: whoever has access to the hospital's archive finds the originals by them.")
    if profile.spec.keep_encapsulated:
        points.append("It keeps encapsulated documents as they are: nobody has looked into them.")
    if profile.spec.keep_raw_data:
        points.append("It keeps raw data as they are: nobody can say what is in them.")
    return Section("What this profile does not do", points=tuple(points))


def _verification() -> Section:
    return Section(
        "How each output is verified",
        (
            "Before an output leaves it is walked again by code of its own. Each attribute must be what its rule "
            "makes of it; whatever was derived (UIDs, pseudonym, moved dates, cleaned text) is computed again; and "
            "everything that is kept and can carry text is searched for the subject's values. One find holds the "
            "instance. What cannot be parsed, what has an unknown SOP class and what may carry burned-in text is "
            "held too, with a reason that names no value. Nothing is released in doubt.",
        ),
    )
