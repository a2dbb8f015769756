"""What a job is: the request it was made from, what its row remembers, and how it is shown.

A job is shown like Orthanc's own (`/jobs`), which Python plugins cannot extend. Its request names resources, a query or
a cohort of the hospital's, so the database holds it sealed; what is shown are counts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orthanc_deid.identity.keys import ProjectKeys
from orthanc_deid.identity.vault import Vault
from orthanc_deid.orthanc.resources import PART, Cursor
from orthanc_deid.orthanc.sources import Origin
from orthanc_deid.pipeline import job_pace
from orthanc_deid.store.jobs import JobRow

TYPE = "Deidentify"
TYPE_DRY = "DeidentifyDryRun"

PENDING, RUNNING, SUCCESS, FAILURE, PAUSED = "Pending", "Running", "Success", "Failure", "Paused"
ACTIVE = (PENDING, RUNNING)
"""States in which a job is being worked on."""

CODE_SUCCESS, CODE_PLUGIN, CODE_INEXISTENT, CODE_CANCELED = 0, 1, 7, 37
"""Orthanc's own error codes: success, error within a plugin, inexistent item, canceled job."""

IN_HAND = ("queued", "working", "paused")
"""Ledger states of an instance whose outcome is still open."""

CAME_OUT = ("ready", "released", "confirmed")
"""Ledger states of an instance that was de-identified."""

PARKED = ("quarantined", "rejected", "refused", "conflict", "source-lost")
"""Ledger states of an instance that did not come out, or did not arrive."""

HIGHEST = 10
"""The highest priority of a job: its instances go with what arrives now. 0 is that of a back-fill, which yields to
all else."""
PRIORITY_ONE = 5
"""Priority of a job over resources that somebody named, unless the request says otherwise."""


def ledger_priority(priority: int) -> int:
    """Return what the ledger knows a job's priority as: there the smaller number goes first."""
    return HIGHEST - priority


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What to de-identify for a project: resources as (level, id), a query of /tools/find with its level, or a cohort
    that is fetched from elsewhere.

    An empty query stands for everything. `dry_run` only says what would happen (`sample`: to so many instances);
    without `push` nothing is sent to the project's destinations; without `keep_originals` what was fetched is deleted
    again when it is confirmed.
    """

    project: str
    resources: tuple[tuple[str, str], ...] = ()
    query: Mapping[str, str] | None = None
    level: str = "Study"
    dry_run: bool = False
    push: bool = True
    priority: int = 0
    sample: int | None = None
    origin: Origin | None = None
    cohort: Sequence[Mapping[str, str]] = field(default=(), repr=False)
    keep_originals: bool = True

    def content(self, keys: ProjectKeys, now: float) -> dict[str, Any]:
        """Return the content of a new job's row."""
        counted = None if self.query is not None or self.origin else len(self.resources)
        asked = {"query": self.query, "level": self.level}
        return {
            "Request": seal(keys, asked),
            "DryRun": self.dry_run,
            "Push": self.push,
            "Resources": counted,
            "Sample": self.sample,
            "From": None if self.origin is None else self.origin.shown(),
            "Lines": len(self.cohort),
            "KeepOriginals": self.keep_originals,
            "Listed": 0 if counted is None else counted,
            **fresh(now),
        }

    def parts(self, keys: ProjectKeys) -> Iterator[bytes]:
        """Yield the resources, sealed, in parts."""
        return sealed_parts(keys, self.resources)

    def lines(self, keys: ProjectKeys) -> Iterator[bytes]:
        """Yield the lines of the cohort, sealed."""
        vault = Vault(keys)
        return (vault.seal_bytes("job", json.dumps(dict(line)).encode()) for line in self.cohort)


def seal(keys: ProjectKeys, what: Any) -> str:
    """Seal what identifies, for the content of a job's row."""
    return base64.b64encode(Vault(keys).seal_bytes("job", json.dumps(what).encode())).decode()


def unseal(keys: ProjectKeys, sealed: str) -> Any:
    """Read what was sealed into a job's row. Raises SealError."""
    return json.loads(Vault(keys).open_bytes("job", base64.b64decode(sealed)))


def sealed_parts(keys: ProjectKeys, resources: Sequence[tuple[str, str]]) -> Iterator[bytes]:
    """Yield resources as (level, id), sealed, in parts."""
    vault = Vault(keys)
    for start in range(0, len(resources), PART):
        yield vault.seal_bytes("job", json.dumps(resources[start : start + PART]).encode())


def open_part(keys: ProjectKeys, sealed: bytes) -> list[tuple[str, str]]:
    """Read a part of a job's resources. Raises SealError."""
    return [(level, resource) for level, resource in json.loads(Vault(keys).open_bytes("job", sealed))]


def cursor(row: JobRow, keys: ProjectKeys) -> Cursor:
    """Return where the expansion of a job goes on."""
    sealed = row.content.get("Cursor")
    found: Cursor = unseal(keys, sealed) if sealed else {}
    return found


def fresh(now: float) -> dict[str, Any]:
    """Return the part of a row's content that tells how far the job is, as it is at its start."""
    return {
        "Expanded": False,
        "Position": 0.0,
        "Cursor": None,
        "Again": None,
        "Skipped": 0,
        "Dry": {},
        "Expected": None,
        "Studies": [],
        "Waiting": None,
        "ErrorCode": CODE_SUCCESS,
        "Pace": job_pace.begin(now),
    }


@dataclass(frozen=True, slots=True)
class Tally:
    """How the instances of a job stand: counts by ledger state and by reason, the research studies they made, and how
    many lines of its cohort are in which state."""

    states: Mapping[str, int]
    reasons: Mapping[str, int]
    studies: tuple[Mapping[str, str], ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)

    def count(self, states: tuple[str, ...]) -> int:
        """Return how many instances are in any of these states."""
        return sum(self.states.get(state, 0) for state in states)

    @property
    def total(self) -> int:
        """Return how many instances the job has."""
        return sum(self.states.values())

    @property
    def done(self) -> int:
        """Return how many instances wait neither for a worker nor for a destination."""
        return self.total - self.count((*IN_HAND, "released"))


def show(row: JobRow, tally: Tally, now: float) -> dict[str, Any]:
    """Return a job as Orthanc shows its own."""
    code = row.content["ErrorCode"]
    pace = row.content.get("Pace")
    runtime = (row.completed or now) - row.created if pace is None else job_pace.runtime(pace, now)
    shown = {
        "ID": row.id,
        "Type": row.type,
        "State": row.state,
        "Progress": progress(row, tally),
        "Priority": row.priority,
        "CreationTime": orthanc_time(row.created),
        "Timestamp": orthanc_time(now),
        "EffectiveRuntime": round(runtime, 3),
        "ErrorCode": code,
        "ErrorDescription": row.error or "Success",
        "Content": _content(row, tally, now),
    }
    if row.completed is not None:
        shown["CompletionTime"] = orthanc_time(row.completed)
    return shown


def position(row: JobRow) -> float:
    """Return how far a job's resources are expanded, 0 to 1."""
    return 1.0 if row.content["Expanded"] else float(row.content["Position"])


def progress(row: JobRow, tally: Tally) -> int:
    """Return percent: the share of the resources that was expanded, times the share of those instances that is done."""
    if row.state == SUCCESS:
        return 100
    if row.content["DryRun"]:
        return min(99, int(100 * position(row)))
    done = tally.total - tally.count((*IN_HAND, "ready", "released"))
    came_out = tally.count(("ready", "released"))
    # Half of the way of an instance is done when it is de-identified, the other half when it has arrived.
    return min(99, int(100 * position(row) * (done + came_out / 2) / tally.total)) if tally.total else 0


def expected(row: JobRow, tally: Tally) -> int | None:
    """Return how many instances the job will have had, as far as that can be told by now."""
    total: int = tally.total + row.content["Skipped"]
    if row.content.get("Sample"):
        return row.content.get("Expected")
    if row.content["Expanded"]:
        return total
    if row.content.get("Expected") is not None:
        return max(total, int(row.content["Expected"]))
    return round(total / position(row)) if total and position(row) else None


def remaining(row: JobRow, tally: Tally) -> int | None:
    """Return how many instances are still to be done, as far as that can be told by now."""
    sample = row.content.get("Sample")
    whole = expected(row, tally)
    if sample and whole is not None:
        whole = min(whole, sample)
    done = tally.total if row.content["DryRun"] else tally.done
    return None if whole is None else max(0, whole - row.content["Skipped"] - done)


def _content(row: JobRow, tally: Tally, now: float) -> dict[str, Any]:
    content = row.content
    shown: dict[str, Any] = {
        "Project": row.project,
        "DryRun": content["DryRun"],
        "Push": content["Push"],
        "Instances": tally.total,
        "Expanded": content["Expanded"],
        "Outcomes": dict(sorted(tally.states.items())),
        "Reasons": dict(sorted(tally.reasons.items())),
        "Skipped": content["Skipped"],
    }
    if content["Resources"] is not None:
        shown["Resources"] = content["Resources"]
    if tally.studies:
        shown["ResearchStudies"] = list(tally.studies)
    if row.state in ACTIVE or row.state == PAUSED:
        left = remaining(row, tally)
        if left is not None:
            shown["Remaining"] = left
        if row.state in ACTIVE:
            shown |= job_pace.shown(content.get("Pace") or {}, left, now)
        if content["Waiting"] and row.state in ACTIVE:
            shown["Waiting"] = content["Waiting"]
    if content.get("From"):
        shown["From"] = content["From"]
        shown["Lines"] = dict(sorted(tally.lines.items()))
        shown["KeepOriginals"] = content["KeepOriginals"]
        shown["OriginalsDeleted"] = content.get("OriginalsDeleted", 0)
    return shown


def orthanc_time(epoch: float) -> str:
    """Write a time as Orthanc's jobs do: UTC, `20260105T094530.000000`."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%dT%H%M%S.%f")
