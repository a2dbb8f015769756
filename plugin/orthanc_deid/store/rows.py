"""What goes into the store and comes out of it, as plain values (nothing of a database is imported here)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orthanc_deid.identity.subjects import SubjectSeen
    from orthanc_deid.identity.vault import Ref

LOCAL = "research-copy"
"""The destination that is this Orthanc itself. What is stored there has not left."""

QUEUED, WORKING, PAUSED, READY, RELEASED = "queued", "working", "paused", "ready", "released"
CONFIRMED, QUARANTINED, REJECTED, REFUSED, CONFLICT = "confirmed", "quarantined", "rejected", "refused", "conflict"
SOURCE_LOST, EXCLUDED, CANCELLED, SUPERSEDED = "source-lost", "excluded", "cancelled", "superseded"
RECALLED = "recalled"

ORTHANC, SPOOL = "orthanc", "spool"
"""Who has the bytes of a source: Orthanc's storage, or the spool of gateway mode."""

UNFINISHED = frozenset({QUEUED, WORKING, PAUSED})
"""States before an outcome: the source is still needed."""
GONE = frozenset({SUPERSEDED, SOURCE_LOST})
"""States whose source was not there any more; when it is there again, the row is queued again."""
TERMINAL = frozenset(
    {CONFIRMED, QUARANTINED, REJECTED, REFUSED, CONFLICT, SOURCE_LOST, EXCLUDED, CANCELLED, SUPERSEDED, RECALLED}
)
"""States that nothing but a person, a job or new content changes."""
SPENT = frozenset({CONFIRMED, REJECTED, EXCLUDED, CANCELLED, SUPERSEDED, RECALLED})
"""States after which a source that waits in the spool is not needed any more."""
HELD = frozenset({QUARANTINED, REJECTED, REFUSED, CONFLICT, SOURCE_LOST})
"""States of what did not get through and may need a person."""
WITH_OUTPUT = frozenset({READY, RELEASED, CONFIRMED, REFUSED, CONFLICT})
"""States of what came through the engine."""
OPEN = UNFINISHED | {READY, RELEASED}
"""States before the end of a row's way."""
STATES = UNFINISHED | {READY, RELEASED} | TERMINAL
"""All states of a row of the ledger; ledger.py says how one leads to the next."""

FRESH, CATCH_UP, BACKFILL = 0, 5, 10
"""Priorities, the smallest first: what has just arrived, what arrived before anybody looked, what a job brings in."""
ANY_PRIORITY = 32767

PENDING, SENDING, STORED = "pending", "sending", "stored"
"""States of a delivery before it is confirmed, refused or in conflict; stored: the receiver has yet to commit to it."""
RECALLING, TODO = "recalling", "todo"
"""States of a delivery that is being deleted at its destination, by this service or by a person."""
UNSETTLED = frozenset({PENDING, SENDING, STORED, RECALLING, TODO})
"""States of a delivery that keep its row from its end."""
RECALL, REPLACE = "recall", "replace"
"""Why: for good, or to send a newer output in its place."""


@dataclass(frozen=True, slots=True)
class NewSource:
    """An instance that arrived or that a job names. `digest` is of its bytes as Orthanc tells it, only compared.

    `version` names the file that holds the bytes (at most 16 characters; empty: not known). It was asked for before the
    digest, so it never stands for newer bytes than that.
    """

    instance: Ref
    series: Ref
    study: Ref
    digest: str
    version: str = ""
    spool: str | None = None
    """Name of the file in the spool that is the source; none: Orthanc has it."""


@dataclass(frozen=True, slots=True)
class KnownSource:
    """One content of a source instance that the ledger has a row for."""

    digest: str
    version: str | None
    state: str


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a NewSource; `new` when this very call queued it, so that somebody has to work on it."""

    id: int
    instance_index: str
    series_index: str
    study_index: str
    state: str
    new: bool


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed row: what a worker has to do. `attempt` counts this one."""

    id: int
    project: str
    instance_sealed: bytes
    digest: str
    series_index: str
    study_index: str
    attempt: int
    job_id: str | None
    push: bool
    origin: str
    spool: str | None
    priority: int = FRESH


@dataclass(frozen=True, slots=True)
class Output:
    """A de-identified instance, all pseudonymous; `digest` is the SHA-256 of exactly the verified bytes."""

    patient: str
    study: str
    series: str
    sop: str
    orthanc_id: str
    digest: str
    size: int
    plan_digest: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the work on a row came to: ready (with output and subject), quarantined, rejected or source-lost.

    `findings` is JSON without values. `revision` is that of the subject's known values when the work began, `known` are
    sealed values of the subject's that were found in this object and not among them, and `knew` the indexes of all
    values, of this object and others, that were searched for beyond that revision.
    """

    id: int
    state: str
    reason: str | None = None
    tag: int | None = None
    findings: Any = None
    output: Output | None = None
    subject: SubjectSeen | None = None
    revision: int = 0
    known: Sequence[Ref] = ()
    knew: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """What an Outcome really became. Not `applied`: the row was no longer worked on, its output is to be dropped.

    `replaced` is the digest of an output that the row had before, if it was not the same.
    """

    id: int
    state: str
    reason: str | None
    applied: bool
    replaced: str | None = None
    priority: int = FRESH


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row of the ledger, whole."""

    id: int
    project: str
    source_index: str
    source_digest: str
    source_version: str | None
    source_sealed: bytes
    origin: str
    spool: str | None
    series_index: str
    study_index: str
    subject_index: str | None
    state: str
    reason: str | None
    tag: int | None
    findings: Any
    out_patient: str | None
    out_study: str | None
    out_series: str | None
    out_sop: str | None
    out_orthanc_id: str | None
    out_digest: str | None
    out_size: int | None
    plan_digest: str | None
    known_revision: int | None
    late: float | None
    attempt: int
    owner: str | None
    outbox: str | None
    push: bool
    priority: int
    job_id: str | None
    created: float
    updated: float
    confirmed: float | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """A series with queued rows: what needs a task; its best priority."""

    project: str
    series_index: str
    priority: int


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A row whose source is still needed."""

    id: int
    instance_sealed: bytes
    state: str


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """An instance that did not pass, for people to look at, without anything of its source."""

    id: int
    project: str
    state: str
    reason: str | None
    tag: int | None
    findings: Any
    created: float
    updated: float
    attempt: int
    out_study: str | None
    out_patient: str | None


@dataclass(frozen=True, slots=True)
class ToSend:
    """A claimed delivery. `history` is what the destination may hold under this UID from before this attempt: never
    (nothing of ours), same (these very bytes), other (other bytes). AlreadyStored confirms only after `same`."""

    id: int
    ledger_id: int
    project: str
    destination: str
    out_study: str
    out_series: str
    out_sop: str
    out_orthanc_id: str
    out_digest: str
    out_size: int
    attempts: int
    history: str
    out_patient: str = ""
    priority: int = FRESH


@dataclass(frozen=True, slots=True)
class Sent:
    """What a delivery came to: confirmed, stored (and not yet committed to), pending (again at `next_try`), refused or
    conflict.

    `left` False: certainly nothing reached the destination, so the attempt does not count as sent.
    """

    id: int
    state: str
    reason: str | None = None
    next_try: float | None = None
    left: bool = True


@dataclass(frozen=True, slots=True)
class ToCommit:
    """An output that a receiver has stored and not yet committed to keeping."""

    id: int
    ledger_id: int
    out_sop: str
    out_digest: str


@dataclass(frozen=True, slots=True)
class Due:
    """Deliveries of one study that may be tried now."""

    project: str
    destination: str
    out_study: str
    pending: int
    priority: int


@dataclass(frozen=True, slots=True)
class StudyDue:
    """A study with instances that may be released."""

    project: str
    study_index: str
    out_study: str
    ready: int
    quarantined: int
    unfinished: int
    last_arrival: float


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study for lists: pseudonymous, with its instances per state."""

    out_study: str
    out_patient: str
    state: str
    last_arrival: float
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """A subject for lists."""

    pseudonym: str
    studies: int
    instances: int
    first_seen: float


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A held row and what contradicts: birth, sex, study (two subjects), output (two sources)."""

    project: str
    ledger_id: int
    kind: str


@dataclass(frozen=True, slots=True)
class Expected:
    """An own research copy."""

    project: str
    digest: str


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job. States as Orthanc names them: Pending, Running, Success, Failure, Paused."""

    id: str
    type: str
    project: str
    state: str
    total: int
    created: float
    completed: float | None
    error: str
    content: dict[str, Any]
    priority: int = 0
    tidied: bool = False
