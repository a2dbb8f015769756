"""What a job is: the request it was made from, what its row remembers, and how it is shown.

A job is shown like Orthanc's own (`/jobs`), which Python plugins cannot extend. Its request names resources or a query
of the hospital's, so the row holds it sealed; what is shown are counts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orthanc_deid.identity.keys import ProjectKeys
from orthanc_deid.identity.vault import Vault
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


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What to de-identify for a project: resources as (level, id), or a query of /tools/find with its level.

    An empty query stands for everything. `dry_run` only says what would happen; without `push` nothing is sent to the
    project's destinations.
    """

    project: str
    resources: tuple[tuple[str, str], ...] = ()
    query: Mapping[str, str] | None = None
    level: str = "Study"
    dry_run: bool = False
    push: bool = True

    def sealed(self, keys: ProjectKeys) -> str:
        """Return what identifies anybody in this request, sealed for the job's row."""
        data = json.dumps({"resources": self.resources, "query": self.query, "level": self.level}).encode()
        return base64.b64encode(Vault(keys).seal_bytes("job", data)).decode()

    @classmethod
    def opened(cls, row: JobRow, keys: ProjectKeys) -> JobRequest:
        """Read the request of a job's row. Raises SealError."""
        data = json.loads(Vault(keys).open_bytes("job", base64.b64decode(row.content["Request"])))
        return cls(
            project=row.project,
            resources=tuple((level, resource) for level, resource in data["resources"]),
            query=data["query"],
            level=data["level"],
            dry_run=row.content["DryRun"],
            push=row.content["Push"],
        )

    def content(self, keys: ProjectKeys) -> dict[str, Any]:
        """Return the content of a new job's row."""
        return {
            "Request": self.sealed(keys),
            "DryRun": self.dry_run,
            "Push": self.push,
            "Resources": len(self.resources) if self.query is None else None,
            **fresh(),
        }


def fresh() -> dict[str, Any]:
    """Return the part of a row's content that tells how far the job is, as it is at its start."""
    return {"Expanded": False, "Position": 0.0, "Skipped": 0, "Dry": {}, "Waiting": None, "ErrorCode": CODE_SUCCESS}


@dataclass(frozen=True, slots=True)
class Tally:
    """How the instances of a job stand: counts by ledger state and by reason, and the research studies they made."""

    states: Mapping[str, int]
    reasons: Mapping[str, int]
    studies: tuple[Mapping[str, str], ...] = ()

    def count(self, states: tuple[str, ...]) -> int:
        """Return how many instances are in any of these states."""
        return sum(self.states.get(state, 0) for state in states)

    @property
    def total(self) -> int:
        """Return how many instances the job has."""
        return sum(self.states.values())


def show(row: JobRow, tally: Tally, now: float) -> dict[str, Any]:
    """Return a job as Orthanc shows its own."""
    code = row.content["ErrorCode"]
    shown = {
        "ID": row.id,
        "Type": row.type,
        "State": row.state,
        "Progress": progress(row, tally),
        "Priority": 0,
        "CreationTime": orthanc_time(row.created),
        "Timestamp": orthanc_time(now),
        "EffectiveRuntime": round((row.completed or now) - row.created, 3),
        "ErrorCode": code,
        "ErrorDescription": row.error or "Success",
        "Content": _content(row, tally),
    }
    if row.completed is not None:
        shown["CompletionTime"] = orthanc_time(row.completed)
    return shown


def progress(row: JobRow, tally: Tally) -> int:
    """Return percent: the share of the resources that was expanded, times the share of those instances that is done."""
    if row.state == SUCCESS:
        return 100
    position = 1.0 if row.content["Expanded"] else row.content["Position"]
    if row.content["DryRun"]:
        return min(99, int(100 * position))
    done = tally.total - tally.count((*IN_HAND, "ready", "released"))
    came_out = tally.count(("ready", "released"))
    # Half of the way of an instance is done when it is de-identified, the other half when it has arrived.
    return min(99, int(100 * position * (done + came_out / 2) / tally.total)) if tally.total else 0


def _content(row: JobRow, tally: Tally) -> dict[str, Any]:
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
    if content["DryRun"]:
        shown["Actions"] = content["Dry"].get("actions", {})
    if tally.studies:
        shown["ResearchStudies"] = list(tally.studies)
    if content["Waiting"] and row.state in ACTIVE:
        shown["Waiting"] = content["Waiting"]
    return shown


def orthanc_time(epoch: float) -> str:
    """Write a time as Orthanc's jobs do: UTC, `20260105T094530.000000`."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%dT%H%M%S.%f")
