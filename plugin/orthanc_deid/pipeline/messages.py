"""What a service and its workers say to each other over a pipe, and the name by which both know a content.

What a worker says carries keyed hashes, sealed values, pseudonyms and reason codes, never a value of an attribute.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from orthanc_deid.identity.keys import ProjectKeys
from orthanc_deid.identity.subjects import SubjectSeen
from orthanc_deid.identity.vault import Ref, Vault


def source_digest(keys: ProjectKeys, name: str) -> str:
    """Return the ledger's name for a content (its MD5, or what OrthancClient.content_name says): keyed, so that who
    has a file cannot find its pseudonym by it."""
    return Vault(keys).index("instance", "md5 " + name)


@dataclass(frozen=True, slots=True)
class ProjectSetup:
    """What a worker needs of a project."""

    name: str
    profile: Path
    keys: ProjectKeys
    domains: dict[str, str]
    encrypt_to: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker is started with. It carries secrets: it goes through a pipe, never into argv or the environment."""

    orthanc_url: str
    authorization: str | None
    ca: str | None
    outbox: Path
    projects: dict[str, ProjectSetup]
    spool: Path | None = None
    """Where originals are in gateway mode."""
    niceness: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """One instance to do: its ledger row, its Orthanc id, the digest of the content that the ledger means, and the name
    of its file where it is in the spool."""

    row: int
    instance: str
    digest: str
    spool: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Instances of one project; `dry`: tell what would come out and keep nothing."""

    project: str
    items: tuple[Item, ...]
    dry: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Go through the pipe as plain tuples (as Done does)."""
        return _chunk, (
            self.project,
            [(item.row, item.instance, item.digest, item.spool) for item in self.items],
            self.dry,
        )


def _chunk(project: str, items: list[tuple[int, str, str, str | None]], dry: bool) -> Chunk:
    return Chunk(project, tuple(Item(*item) for item in items), dry)


@dataclass(frozen=True, slots=True)
class Made:
    """A verified output in the outbox; every identifier in it is derived."""

    patient: str
    study: str
    series: str
    sop: str
    orthanc_id: str
    orthanc_series: str
    orthanc_study: str
    digest: str
    size: int
    plan_digest: str


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one item. `state`: ready, quarantined, rejected, source-lost, `changed` (the content is not the
    one that was asked for), `wait` (Orthanc or the disk cannot now; reason `orthanc` or `disk`) or `unreadable`
    (Orthanc can, but not this file; `findings` as in Unreadable).

    `revision`, `known` and `knew` as in store.rows.Outcome.
    """

    row: int
    state: str
    reason: str | None = None
    tag: int | None = None
    findings: dict[str, Any] | None = None
    made: Made | None = None
    subject: SubjectSeen | None = None
    revision: int = 0
    known: tuple[Ref, ...] = ()
    knew: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Go through the pipe as plain tuples: pickle looks up the fields of each dataclass by itself, each time."""
        made = None if self.made is None else _of_made(self.made)
        subject = None if self.subject is None else _of_subject(self.subject)
        known = tuple((ref.index, ref.sealed) for ref in self.known)
        what = (self.row, self.state, self.reason, self.tag, self.findings, made, subject)
        return _done, (*what, self.revision, known, self.knew)


_of_made = attrgetter(*(field.name for field in dataclasses.fields(Made)))
_of_subject = attrgetter(*(field.name for field in dataclasses.fields(SubjectSeen)))


def _done(row: int, state: str, reason: Any, tag: Any, findings: Any, made: Any, subject: Any, *rest: Any) -> Done:
    revision, known, knew = rest
    return Done(
        row,
        state,
        reason,
        tag,
        findings,
        made and Made(*made),
        subject and SubjectSeen(*subject),
        revision,
        tuple(Ref(*ref) for ref in known),
        knew,
    )


@dataclass(frozen=True, slots=True)
class End:
    """A chunk is done; with the most memory that the process has ever held, in bytes."""

    memory: int


@dataclass(frozen=True, slots=True)
class GiveWay:
    """The service asks a worker to end its chunk after the item in hand: something more urgent waits."""


@dataclass(frozen=True, slots=True)
class AskKnown:
    """A worker asks for the revision of a subject, and for the sealed values that came after the one it has."""

    project: str
    subject: str
    revision: int
