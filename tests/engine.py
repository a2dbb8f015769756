"""The engine as the tests call it: bytes in, bytes out, with `basic` and a subject that never changes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from orthanc_deid.core.deidentify import Report, Subject
from orthanc_deid.core.deidentify import deidentify as run
from orthanc_deid.core.errors import DeidError
from orthanc_deid.core.plan import Plan
from orthanc_deid.core.profile import Profile
from orthanc_deid.core.sinks import BytesSink
from orthanc_deid.core.source import Source

PROFILES = Path(__file__).parents[1] / "profiles"
SUBJECT = Subject(pseudonym="PSEUDO7X4QK9M2TW", uid_key=bytes(range(32)), date_offset=-1234, time_offset=321)


@cache
def shipped(name: str) -> Profile:
    """A shipped profile."""
    return Profile.load(PROFILES / f"{name}.yaml")


@cache
def basic() -> Profile:
    """The shipped Basic Profile."""
    return Profile.load(PROFILES / "basic.yaml")


def plan_for(data: bytes) -> Plan:
    """The basic plan for a file's SOP class."""
    return basic().plan(Source.from_bytes(data).facts.sop_class)


def report(data: bytes, subject: Subject = SUBJECT, profile: Profile | None = None) -> tuple[bytes, Report]:
    """De-identify a file, with `basic` or another profile; raises what the engine raises."""
    source, sink = Source.from_bytes(data), BytesSink()
    made = run(source, (profile or basic()).plan(source.facts.sop_class), subject, sink)
    return sink.getvalue(), made


def deidentify(data: bytes, subject: Subject = SUBJECT, profile: Profile | None = None) -> bytes:
    """The output of a file; raises what the engine raises."""
    return report(data, subject, profile)[0]


def outcome(data: bytes, subject: Subject = SUBJECT, profile: Profile | None = None) -> tuple[bytes | None, str]:
    """The output and "", or None and the reason code."""
    try:
        return deidentify(data, subject, profile), ""
    except DeidError as no:
        return None, no.reason
