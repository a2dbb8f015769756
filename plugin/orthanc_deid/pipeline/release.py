"""Lets studies go, and looks after what nobody else wakes up for.

By instance, an output is released as soon as it is verified (the recorder does that); by study, when nothing has
arrived for QuietSeconds and every instance has an outcome; manually, when a person says so. Late arrivals reopen a
study. The keeper finds in the ledger what needs a task: deliveries whose wait is over, and series that a crash has
left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from sqlalchemy.exc import SQLAlchemyError

from orthanc_deid import logs
from orthanc_deid.pipeline.clock import Clock
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.tasks import DELIVERY, SERIES
from orthanc_deid.store import counting, deliveries, knowledge, ledger, studies, waits

log = logs.get(__name__)

LOOK_SECONDS = 0.5
"""How often due studies and deliveries are looked for."""
LOOK_SHARE = 20
"""So many times as long as a look took passes before the next."""
BACKLOG_SECONDS = 5.0
"""How often series without a task are looked for, unless somebody nudges."""
SHARED_BACKLOG_SECONDS = 1.0
"""The same where another service takes in: nobody tells this one."""
FORGOTTEN_SECONDS = 8.0
"""How often claims that nobody has in hand are looked for, and how old they are by then."""
TIDY_SECONDS = 900.0
"""How often finished tasks are forgotten."""


class Keeper:
    """One thread that releases studies and starts tasks for what is due."""

    def __init__(
        self,
        shared: Shared,
        resting: Callable[[], Iterable[str]],
        clock_was_set: Callable[[float], None] = lambda by: None,
    ) -> None:
        """`resting` names the destinations that are down, and left alone for the moment; `clock_was_set` is told by how
        many seconds the clock was set."""
        self._shared = shared
        self._resting = resting
        self._clock_was_set = clock_was_set
        self._wake = threading.Event()
        self._backlog_at = self._tidy_at = self._forgotten_at = 0.0
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._tidy_at = time.monotonic() + TIDY_SECONDS
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop; `shared.stopping` is set by now."""
        self._wake.set()
        self._thread.join(timeout)

    def nudge(self) -> None:
        """Look now, at the backlog too."""
        self._backlog_at = 0.0
        self._wake.set()

    def release(self, project: str, out_study: str) -> bool:
        """Release a study of a project by its output UID; False when there is no such study."""
        with self._shared.store.begin() as conn:
            if studies.row(conn, project, out_study) is None:
                return False
            released = studies.release_out(
                conn, project, out_study, self._shared.destinations(project), self._shared.clock()
            )
        log.info("a study was released by hand", project=project, count=len(released))
        self._wake.set()
        return True

    def hold(self, project: str, out_study: str) -> bool:
        """Hold a study until it is released by hand; False when there is no such study."""
        with self._shared.store.begin() as conn:
            return studies.hold(conn, project, out_study, self._shared.clock())

    def _run(self) -> None:
        while not self._shared.stopping.is_set():
            began = time.monotonic()
            try:
                if self._shared.leads.is_set():
                    self._follow_the_clock()
                    self._release_due()
                self._give_back_forgotten()
                self._start_due()
                if time.monotonic() >= self._tidy_at and self._shared.leads.is_set():
                    self._tidy_at = time.monotonic() + TIDY_SECONDS
                    self._shared.tasks.tidy()
                    with self._shared.store.begin() as conn:
                        counting.tidy(conn, self._shared.clock())
                self._shared.troubles.clear("keeper")
            except (SQLAlchemyError, OSError) as error:
                if self._shared.troubles.note("keeper", type(error).__name__):
                    log.error("the keeper waits", error=type(error).__name__)
                self._shared.stopping.wait(5.0)
            except Exception as error:
                log.error("the keeper failed", error=type(error).__name__, exc_info=True)
                self._shared.troubles.note("keeper", type(error).__name__)
                self._shared.stopping.wait(5.0)
            # Looking costs a share of the time only, however much waits.
            self._wake.wait(max(LOOK_SECONDS, LOOK_SHARE * (time.monotonic() - began)))
            self._wake.clear()

    def _follow_the_clock(self) -> None:
        """Move what waits along when somebody has set the machine's clock."""
        clock = self._shared.clock
        if not isinstance(clock, Clock) or not (by := clock.jump()):
            return
        longest = max((project.quiet_seconds for project in self._shared.config.projects.values()), default=0.0)
        with self._shared.store.begin() as conn:
            waits.shift(conn, by, clock() + by, longest)
        clock.follow(by)
        self._clock_was_set(by)
        log.warning("the machine's clock was set: what waits was moved along", seconds=round(by))

    def _release_due(self) -> None:
        now = self._shared.clock()
        for name, project in self._shared.config.projects.items():
            if project.release != "study":
                continue
            with self._shared.store.read() as conn:
                due = studies.due(conn, name, now, project.quiet_seconds, incomplete=project.incomplete)
            for study in due:
                with self._shared.store.begin() as conn:
                    behind = knowledge.outdated_in_study(conn, name, study.study_index)
                    again = ledger.renew(conn, behind, now)
                if again:  # a study goes as a whole: it comes due again when they are ready
                    self._shared.renew(again)
                    continue
                with self._shared.store.begin() as conn:
                    released = studies.release(conn, name, study.study_index, self._shared.destinations(name), now)
                log.info("a study was released", project=name, count=len(released))

    def _give_back_forgotten(self) -> None:
        """Give back what this service has claimed without knowing it: the database took a claim, and its answer was
        lost on the way."""
        shared = self._shared
        if time.monotonic() < self._forgotten_at or not shared.held():
            return
        self._forgotten_at = time.monotonic() + FORGOTTEN_SECONDS
        before = shared.clock() - FORGOTTEN_SECONDS  # a claim that was made just now is not in hand yet
        with shared.store.read() as conn:
            works = set(ledger.claimed(conn, shared.owner, before)) - shared.in_hand
            sends = set(deliveries.claimed(conn, shared.owner, before)) - shared.sending
        if works or sends:
            with shared.store.begin() as conn:
                ledger.give_back(conn, sorted(works), shared.clock(), owner=shared.owner)
                deliveries.give_back(conn, sorted(sends), shared.clock(), owner=shared.owner)
            log.warning("claims whose answer was lost are given back", count=len(works), total=len(sends))

    def _start_due(self) -> None:
        if not self._shared.held():
            return
        now = self._shared.clock()
        with self._shared.store.read() as conn:
            due = deliveries.due(conn, now, self._resting(), self._shared.here)
            backlog = []
            if time.monotonic() >= self._backlog_at:
                shared = self._shared.store.shared
                self._backlog_at = time.monotonic() + (SHARED_BACKLOG_SECONDS if shared else BACKLOG_SECONDS)
                backlog = ledger.backlog(conn, self._shared.config.projects)
        for delivery in due:
            if delivery.project not in self._shared.config.projects:
                continue
            if delivery.priority <= self._shared.gates.worst(delivery.project, delivery.destination, now):
                key = (delivery.project, delivery.destination, delivery.out_study)
                self._shared.tasks.ask(DELIVERY, *key, priority=delivery.priority)
        for series in backlog:
            if series.priority <= self._shared.worst(series.project):
                self._shared.tasks.ask(SERIES, series.project, series.series_index, priority=series.priority)
