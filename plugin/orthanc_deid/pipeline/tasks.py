"""Durable tasks: one per series to de-identify, one per study and destination to deliver, kept by DBOS.

A task is asked for by kind and key, and does whatever the ledger holds for its key when it runs; so asking twice, or
running a task again after a crash, is harmless. Asked for while it runs, it looks again before it ends. DBOS keeps
what was asked for across crashes; the ledger is the truth, and the keeper asks again for what was forgotten.

DBOS writes the text of an exception to its log and its database: nothing that a task does may leave it as an exception.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig
from sqlalchemy.engine import Engine

from orthanc_deid import logs
from orthanc_deid.pipeline.turns import Key, Turns
from orthanc_deid.store.rows import FRESH

log = logs.get(__name__)

SERIES = "series"
DELIVERY = "delivery"

VERSION = "1"
"""Version of the tasks' schema (names and arguments). Pinned: pending work is resumed only for the same version."""
EXECUTOR = "orthanc-deid"
SCHEMA = "deid_tasks"
"""Where DBOS has its tables in a PostgreSQL that is shared."""
CONCURRENCY = {SERIES: 16, DELIVERY: 16}
"""Tasks of a kind that run at a time; others wait here for their turn (turns.py).

A queue of DBOS's would keep the turn too, but looking into two of them every 50 ms costs 12 % of a core when there is
nothing to do, and 50 ms before each task. What waits here is in the ledger: a crash loses nothing.
"""
UNHURRIED = 10
"""Tasks of a kind that run at a time of what is not fresh."""
MOST_WAITING = 2000
"""Tasks of a kind that wait here."""
LINGER_SECONDS = 0.4
"""How long a task waits for more before it ends: instances of one series come one after the other."""
START_SECONDS = 60.0
"""A task that was started and has not begun by then is started again."""
KEPT_SECONDS = 3600.0
"""Finished tasks are forgotten after this time."""


class Running:
    """One running task, as its body sees it."""

    def __init__(self, tasks: Tasks, kind: str, key: Key, priority: int) -> None:
        self.key = key
        self.priority = priority
        """The best that it was asked for with; the body corrects it by what it finds."""
        self._tasks = tasks
        self._id = (kind, *key)
        self._asked = True
        self.wake: Callable[[], None] | None = None
        """Called when the task is asked for while it runs."""

    def again(self, linger: float = LINGER_SECONDS) -> bool:
        """Whether the body has to look again: it was asked for since the last look, or is asked for soon.

        False also ends the task's life: whoever asks after that starts a new one.
        """
        return self._tasks._again(self, linger)

    @property
    def stopping(self) -> bool:
        """Whether the service stops: the body returns as soon as it can, the work is resumed at the next start."""
        return self._tasks.stopping.is_set()


Body = Callable[[Running], None]


class Tasks:
    """The durable tasks of one service. DBOS is one per process, so this is too."""

    def __init__(
        self,
        database: Path | Engine,
        bodies: Mapping[str, Body],
        stopping: threading.Event,
        executor: Callable[[], str] = lambda: EXECUTOR,
    ) -> None:
        """`database` is a file of our own, or an engine of the PostgreSQL that several services share; there `executor`
        tells them apart, and is the same at the next start of the same service."""
        self._database = database
        self._executor = executor
        self._bodies = dict(bodies)
        self._changed = threading.Condition()
        self._running: dict[Key, Running] = {}
        self._waiting = {kind: Turns(places, UNHURRIED, MOST_WAITING) for kind, places in CONCURRENCY.items()}
        self._starting: dict[Key, tuple[float, int]] = {}
        self._starter = threading.Thread(target=self._start_all, name="starter", daemon=True)
        self.stopping = stopping

    def start(self) -> None:
        """Open the task database, resume what was pending, and begin."""
        global _current
        _silence()
        config: DBOSConfig = {
            "name": "orthanc-deid",
            "executor_id": self._executor(),
            "application_version": VERSION,
            "enable_otlp": False,
            "log_level": "WARNING",
            "notification_listener_polling_interval_sec": 1.0,
            "max_executor_threads": 2 * sum(CONCURRENCY.values()),
        }
        if isinstance(self._database, Engine):
            # The address alone, without a password: the connections are the engine's.
            config["system_database_url"] = self._database.url.render_as_string(hide_password=True)
            config["system_database_engine"] = self._database
            config["dbos_system_schema"] = SCHEMA
            config["use_listen_notify"] = False  # nothing here is told by it, and it holds a connection
        else:
            self._database.touch(mode=0o600)
            config["system_database_url"] = f"sqlite:///{self._database}"
        _current = self
        DBOS(config=config)
        DBOS.launch()
        self._starter.start()

    def stop(self, timeout: float) -> None:
        """End the running tasks and close the task database."""
        global _current
        self.stopping.set()
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._running, timeout)
        self._starter.join(2.0)
        DBOS.destroy()
        if isinstance(self._database, Engine):
            self._database.dispose()
        _current = None

    def take_over(self, executors: list[str]) -> None:
        """Run what the tasks of dead services were at: they are queued anew, and any service that lives may take them.

        Asked twice it does nothing twice: what somebody has taken is not theirs any more.
        """
        count = len(DBOS._recover_pending_workflows(executors))
        if count:
            log.info("tasks of the dead are queued anew", count=count)

    def ask(self, kind: str, *key: str, priority: int = FRESH) -> None:
        """See to it that a task for this key runs, from now on, at least once.

        Where too many wait it is left to the keeper, which finds in the ledger what there is to do.
        """
        name = (kind, *key)
        with self._changed:
            running = self._running.get(name)
            if running is not None:
                running.priority = min(running.priority, priority)
                self._wake(running)
            elif self._waiting[kind].add(name, priority):
                self._changed.notify_all()

    # The starter: a thread of its own, because what is started from within a task would be that task's child

    def _start_all(self) -> None:
        while not self.stopping.is_set():
            with self._changed:
                name = self._next()
                if name is None:
                    self._changed.wait(1.0)
                    continue
                self._starting[name] = (time.monotonic(), self._waiting[name[0]].take(name))
            try:
                DBOS.start_workflow(_WORKFLOWS[name[0]], *name[1:])
            except Exception as error:  # the keeper finds in the ledger that it is needed, and asks again
                log.error("a task could not be started", error=type(error).__name__, stage=name[0])
                with self._changed:
                    self._starting.pop(name, None)

    def _next(self) -> Key | None:
        """Return a task that has its turn."""
        now = time.monotonic()
        for name in [name for name, (since, _) in self._starting.items() if now - since > START_SECONDS]:
            del self._starting[name]  # it was lost; whoever needs it asks again
        for kind, turns in self._waiting.items():
            taken = [running.priority for name, running in self._running.items() if name[0] == kind]
            taken += [priority for name, (_, priority) in self._starting.items() if name[0] == kind]
            turn = turns.next(taken, but=self._starting)
            if turn is not None:
                return turn
        return None

    def waiting(self, kind: str) -> int:
        """Return how many tasks of a kind wait for their turn."""
        with self._changed:
            return len(self._waiting[kind])

    def count(self) -> dict[str, int]:
        """Return how many tasks run, by kind."""
        with self._changed:
            return {kind: sum(name[0] == kind for name in self._running) for kind in CONCURRENCY}

    def tidy(self) -> None:
        """Forget finished tasks, so that the task database stays small."""
        until = time.time() - KEPT_SECONDS
        while True:
            old = DBOS.list_workflows(
                status=["SUCCESS", "ERROR", "CANCELLED"],
                completed_before=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(until)),
                limit=500,
                load_input=False,
                load_output=False,
            )
            if not old or self.stopping.is_set():
                return
            DBOS.delete_workflows([workflow.workflow_id for workflow in old])

    # Called by the workflows

    def _run(self, kind: str, key: Key) -> str:
        running = Running(self, kind, key, FRESH)
        with self._changed:
            _, running.priority = self._starting.pop((kind, *key), (0.0, FRESH))
            other = self._running.get((kind, *key))
            if other is not None:
                self._wake(other)
                return "joined"
            if self.stopping.is_set():
                return "stopping"
            self._running[kind, *key] = running
        try:
            self._bodies[kind](running)
            return "done"
        except Exception as error:
            log.error("a task failed", error=type(error).__name__, stage=kind, exc_info=True)
            return "error"
        finally:
            with self._changed:
                if self._running.get(running._id) is running:
                    del self._running[running._id]
                self._changed.notify_all()

    def _wake(self, running: Running) -> None:
        running._asked = True
        self._changed.notify_all()
        if running.wake is not None:
            running.wake()

    def _again(self, running: Running, linger: float) -> bool:
        with self._changed:
            if not running._asked:
                self._changed.wait_for(lambda: running._asked or self.stopping.is_set(), linger)
            if running._asked and not self.stopping.is_set():
                running._asked = False
                return True
            del self._running[running._id]
            return False


_current: Tasks | None = None


def _enter(kind: str, key: Key) -> str:
    return _current._run(kind, key) if _current is not None else "no service"


@DBOS.workflow(name="series-v1")  # type: ignore[untyped-decorator]
def _series(project: str, series_index: str) -> str:
    return _enter(SERIES, (project, series_index))


@DBOS.workflow(name="delivery-v1")  # type: ignore[untyped-decorator]
def _delivery(project: str, destination: str, out_study: str) -> str:
    return _enter(DELIVERY, (project, destination, out_study))


_WORKFLOWS: dict[str, Callable[..., Any]] = {SERIES: _series, DELIVERY: _delivery}


class _Reduced(logging.Handler):
    """Keeps of what DBOS logs the place only: its texts carry arguments and exceptions."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log level, module and line."""
        if record.levelno >= logging.WARNING:
            log.warning("the task engine reports", level=record.levelname, stage=f"{record.module}.{record.lineno}")


def _silence() -> None:
    logger = logging.getLogger("dbos")
    logger.handlers[:] = [_Reduced()]
    logger.propagate = False
