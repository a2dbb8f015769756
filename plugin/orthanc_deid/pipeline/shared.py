"""What the parts of the pipeline share: the configuration, the ledger, Orthanc, the outbox, the tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orthanc_deid import logs
from orthanc_deid.config import Config, Project
from orthanc_deid.identity.keys import ProjectKeys
from orthanc_deid.identity.vault import Vault
from orthanc_deid.limits import NOTHING, Gates
from orthanc_deid.orthanc.client import OrthancClient
from orthanc_deid.orthanc.peers import Peers
from orthanc_deid.orthanc.settings import Receivers
from orthanc_deid.pipeline.clock import Clock
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.tasks import SERIES
from orthanc_deid.store import Store
from orthanc_deid.store.rows import ANY_PRIORITY, BACKFILL

if TYPE_CHECKING:
    from orthanc_deid.pipeline.tasks import Tasks

log = logs.get(__name__)


@dataclass
class Troubles:
    """What does not work now, by part of the service: reason code and since when. Shown by health, never with a
    value."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    now: dict[str, tuple[str, float]] = field(default_factory=dict)

    def note(self, part: str, reason: str) -> bool:
        """Note a trouble; True when it is new."""
        with self.lock:
            new = part not in self.now or self.now[part][0] != reason
            if new:
                self.now[part] = (reason, time.time())
            return new

    def clear(self, part: str) -> bool:
        """Note that a part works; True when it did not before."""
        with self.lock:
            return self.now.pop(part, None) is not None

    def show(self) -> list[dict[str, object]]:
        """Return the troubles for health."""
        with self.lock:
            return [{"Part": part, "Reason": reason, "Since": since} for part, (reason, since) in self.now.items()]


def _leading() -> threading.Event:
    alone = threading.Event()
    alone.set()
    return alone


@dataclass
class Shared:
    """One per service."""

    config: Config
    store: Store
    orthanc: OrthancClient
    outbox: Outbox
    keys: dict[str, ProjectKeys]
    owner: str
    """Names this run of the service in claimed rows: another one's claims are orphans after a crash."""
    clock: Callable[[], float] = field(default_factory=Clock)
    receivers: Receivers = field(default_factory=Receivers)
    """Whom Orthanc's configuration knows beside its peers."""
    stopping: threading.Event = field(default_factory=threading.Event)
    leads: threading.Event = field(default_factory=_leading)
    """Set while this service leads those that share a database: it alone takes in, releases, recalls and drives jobs. A
    service with a database of its own always leads."""
    troubles: Troubles = field(default_factory=Troubles)
    fresh: dict[int, str] = field(default_factory=dict)
    """Digests of the outputs that were made in this run, by row: their files need no look before they are sent."""
    held: Callable[[], bool] = lambda: True
    """Whether what this service has claimed is certainly its own still (pipeline.membership)."""
    in_hand: set[int] = field(default_factory=set)
    """Rows that this service has claimed and not yet written the outcome of."""
    sending: set[int] = field(default_factory=set)
    """The same of deliveries."""
    stored_here: dict[str, None] = field(default_factory=dict)
    """Orthanc ids of research copies that this run has stored and not yet seen in the change log."""
    rush: threading.Event = field(default_factory=threading.Event)
    """Set while instances arrive in a rush: nothing that can wait begins (governor.py)."""
    paused: str = ""
    """Why nothing new is de-identified: `outbox` or `disk` is full (governor.py); empty: it is."""
    tasks: Tasks = field(init=False)
    peers: Peers = field(init=False)
    gates: Gates = field(init=False)
    vaults: dict[str, Vault] = field(init=False)

    def __post_init__(self) -> None:
        self.vaults = {name: Vault(keys) for name, keys in self.keys.items()}
        self.gates = Gates(
            {
                (name, destination): limits
                for name, project in self.config.projects.items()
                for destination, limits in project.limits.items()
            }
        )

    def worst(self, project: str) -> int:
        """Return the worst priority that may be worked on now for a project; NOTHING for none at all."""
        if self.paused:
            return NOTHING
        return ANY_PRIORITY if self.project(project).backfill_window.open(self.clock()) else BACKFILL - 1

    def project(self, name: str) -> Project:
        """Return the settings of a configured project."""
        return self.config.projects[name]

    def renew(self, again: Sequence[tuple[int, str, str]]) -> None:
        """See to it that outputs are made anew that were behind what is known of their subjects; they are queued."""
        for _, project, series_index in again:
            self.tasks.ask(SERIES, project, series_index)
        if again:
            log.info("outputs are made anew, with what has been learnt of their subjects", count=len(again))

    @property
    def here(self) -> str | None:
        """Name this service's outbox where the ledger tells outboxes apart; a service of its own has but one."""
        return self.outbox.name if self.store.shared else None

    def destinations(self, project: str) -> list[str]:
        """Return the names that the ledger gives to a project's destinations outside of this Orthanc."""
        return [destination.key for destination in self.project(project).destinations]
