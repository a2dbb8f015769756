"""The worker processes, each with a thread that feeds it.

Own code instead of concurrent.futures: when a process of an executor dies, all that was handed to it is lost and nobody
knows which instance did it. Here each process does one chunk and answers item by item, so exactly the item that was
being worked on is blamed, the rest goes to another process, and an answer is used as soon as it is there.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from orthanc_deid import logs
from orthanc_deid.limits import NOTHING
from orthanc_deid.pipeline import worker
from orthanc_deid.pipeline.messages import AskKnown, Chunk, Done, End, GiveWay, Item, Setup
from orthanc_deid.pipeline.pressure import STAGES, Share
from orthanc_deid.store.rows import ANY_PRIORITY, FRESH

log = logs.get(__name__)

ITEM_SECONDS = 3600.0
"""A worker that is silent for this long over one item is killed, as if it had crashed."""
STOPPED_SECONDS = 60.0
"""So is one that somebody has stopped (SIGSTOP) for so long: it will not go on by itself."""
LOOK_SECONDS = 5.0
"""How often a silent worker is looked at."""
MAX_MEMORY = 400 << 20
"""A process that has ever held more is replaced after its chunk."""
TRICKLE_SECONDS = 1.0
"""Between two chunks while work gives way as far as it can; of each only an item or two is done."""
RESTART_PAUSE = 0.5
"""Before a process is started again after it died, so that a fault that strikes at once does not spin."""


@dataclass(frozen=True, slots=True)
class Work:
    """A chunk on its way: `done` is called for each item (from a thread of the pool), `crashed` for the item whose
    worker died; exactly one of the two for each item, unless the pool is stopped. The smallest priority goes first."""

    chunk: Chunk
    done: Callable[[Done], None]
    crashed: Callable[[Item], None]
    priority: int = FRESH


class Queue:
    """Chunks that wait: the smallest priority first, and of one priority the oldest.

    One in PATIENCE goes to whoever waits longest, whatever its priority: what is not urgent is slow on a busy day, but
    it never stands still.
    """

    PATIENCE = 20

    def __init__(self) -> None:
        self._lanes: dict[int, deque[tuple[int, Work]]] = {}
        self._put = self._taken = 0

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    def put(self, work: Work) -> None:
        """Let a chunk wait."""
        self._put += 1
        self._lanes.setdefault(work.priority, deque()).append((self._put, work))

    def take(self, worst: int = ANY_PRIORITY) -> Work | None:
        """Return the next one of no worse priority than that; None when there is none."""
        lanes = [priority for priority, lane in self._lanes.items() if lane and priority <= worst]
        if not lanes:
            return None
        self._taken += 1
        if self._taken % self.PATIENCE == 0:
            oldest = min(lanes, key=lambda lane: self._lanes[lane][0][0])
            # As urgent as what it is let before: it is not asked to give way to that.
            return replace(self._lanes[oldest].popleft()[1], priority=min(lanes))
        return self._lanes[min(lanes)].popleft()[1]

    def better(self, priority: int) -> bool:
        """Whether something more urgent waits."""
        return any(lane and other < priority for other, lane in self._lanes.copy().items())

    def clear(self) -> None:
        """Forget all."""
        self._lanes.clear()


class Pool:
    """A fixed number of worker processes."""

    def __init__(
        self,
        size: int,
        setup: Setup,
        known: Callable[[str, str, int], tuple[int, list[bytes]]],
        main: Callable[[Connection, Setup], None] = worker.main,
    ) -> None:
        """`known` tells a subject's revision and the sealed values since another; `main` is what runs in a process."""
        self.size = size
        self._main = main
        self._setup = setup
        self._known = known
        # Explicit: the default differs between Python versions, and fork in a process with threads may hang.
        self._context = multiprocessing.get_context("forkserver")
        # The engine imports the last two when it first needs them; here that is done once, for all workers.
        self._context.set_forkserver_preload([worker.__name__, "numpy", "pydicom"])
        self._queue = Queue()
        self._ready = threading.Condition()
        self._stopping = False
        self._halt = threading.Event()
        self._threads: list[threading.Thread] = []
        self._processes: dict[int, BaseProcess] = {}
        self._share = STAGES[0]
        self._busy: dict[bool, int] = {True: 0, False: 0}  # at what is fresh, and at what is not
        self._trickle_at = 0.0
        self.restarts = 0

    def start(self) -> None:
        """Start the threads; each starts its process at once, so that the first instance does not wait for it."""
        for number in range(self.size):
            thread = threading.Thread(target=self._feed, args=(number,), name=f"worker-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(self, work: Work) -> None:
        """Hand a chunk over."""
        with self._ready:
            self._queue.put(work)
            self._ready.notify()

    @property
    def waiting(self) -> int:
        """Chunks that no process has taken yet."""
        return len(self._queue)

    def narrow(self, share: Share) -> None:
        """Let only a share of the workers be busy at a time; with none, one does an item now and then."""
        with self._ready:
            self._share = share
            self._ready.notify_all()

    @property
    def busy(self) -> int:
        """Workers that have something to do."""
        return sum(self._busy.values())

    def alive(self) -> int:
        """Return how many processes live."""
        alive = 0
        for process in list(self._processes.values()):
            with suppress(ValueError):  # closed by its thread a moment ago
                alive += process.is_alive()
        return alive

    def pids(self) -> list[int]:
        """Return the process ids of the workers."""
        pids = []
        for process in list(self._processes.values()):
            with suppress(ValueError):
                pids.append(process.pid or 0)
        return pids

    def stop(self, timeout: float) -> None:
        """Give the workers `timeout` seconds for the items in hand, then end them; what was not done stays undone."""
        with self._ready:
            self._stopping = True
            self._halt.set()
            self._queue.clear()
            self._ready.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for process in list(self._processes.values()):
            with suppress(ValueError):
                process.kill()
        for thread in self._threads:
            thread.join(2.0)

    # One thread per process

    def _next(self) -> Work | None:
        with self._ready:
            while not self._stopping:
                work = self._queue.take(self._worst()) if self._queue else None
                if work is not None:
                    self._busy[work.priority <= FRESH] += 1
                    if self._trickles(work.priority):
                        self._trickle_at = time.monotonic() + TRICKLE_SECONDS
                    return work
                # A trickle has its time; else somebody notifies.
                self._ready.wait(TRICKLE_SECONDS / 4 if self._queue else None)
            return None

    def _trickles(self, priority: int) -> bool:
        return not (self._share.fresh if priority <= FRESH else self._share.other)

    def _worst(self) -> int:
        """Return the worst priority of which a chunk may be begun now."""
        waits = time.monotonic() < self._trickle_at
        if self.busy >= max(1, round(self._share.fresh * self.size)) or (not self._share.fresh and waits):
            return NOTHING
        others = max(1, round(self._share.other * self.size))
        return FRESH if self._busy[False] >= others or (not self._share.other and waits) else ANY_PRIORITY

    def _feed(self, number: int) -> None:
        pipe = self._launch(number)
        while (work := self._next()) is not None:
            try:
                healthy = self._run(number, pipe, work)
            finally:
                with self._ready:
                    self._busy[work.priority <= FRESH] -= 1
                    self._ready.notify()
            if not healthy:
                self._end(number, pipe)
                if self._stopping:
                    return
                pipe = self._launch(number)
        self._end(number, pipe)

    def _launch(self, number: int) -> Connection:
        while True:
            here, there = self._context.Pipe()
            process = self._context.Process(
                target=self._main, args=(there, self._setup), name=f"worker-{number}", daemon=True
            )
            try:
                process.start()
            except (OSError, EOFError) as error:  # no memory, no processes left: later, perhaps
                here.close()
                log.error("a worker process cannot be started", error=type(error).__name__)
                if self._halt.wait(5.0):
                    return here
                continue
            finally:
                there.close()
            self._processes[number] = process
            return here

    def _end(self, number: int, pipe: Connection) -> None:
        pipe.close()
        process = self._processes.pop(number, None)
        if process is None:
            return
        process.join(2.0)
        if process.is_alive():
            process.kill()
            process.join(2.0)
        process.close()

    def _again(self, work: Work, left: Iterable[Item]) -> None:
        """Hand in again what was not done of a chunk."""
        self.submit(replace(work, chunk=replace(work.chunk, items=tuple(left))))

    def _speaks(self, number: int, pipe: Connection) -> bool:
        """Wait for the next word of a worker; False when none will come."""
        deadline = time.monotonic() + ITEM_SECONDS
        running = time.monotonic()
        while not pipe.poll(LOOK_SECONDS):
            now = time.monotonic()
            if not _is_stopped(self._processes[number].pid):
                running = now
            if now > deadline or now - running > STOPPED_SECONDS:
                log.warning("a worker process hangs", seconds=round(now - deadline + ITEM_SECONDS))
                return False
        return True

    def _run(self, number: int, pipe: Connection, work: Work) -> bool:
        """Do one chunk; False when the process died or shall be replaced."""
        left = deque(work.chunk.items)
        asked = False
        try:
            pipe.send(work.chunk)
        except OSError:  # it died while it had nothing to do: nobody is to blame
            self.submit(work)
            return False
        try:
            while True:
                if not self._speaks(number, pipe):
                    raise EOFError
                match pipe.recv():
                    case Done() as done:
                        left.popleft()
                        work.done(done)
                        if self._stopping:
                            return False
                        if left and not asked and (self._queue.better(work.priority) or self._trickles(work.priority)):
                            asked = True
                            pipe.send(GiveWay())
                    case AskKnown(project, subject, revision):
                        pipe.send(self._known(project, subject, revision))
                    case End(memory):
                        if left:  # it gave way to something more urgent
                            self._again(work, left)
                        return memory <= MAX_MEMORY
        except (EOFError, OSError):
            if self._stopping:
                return False
            self.restarts += 1
            log.warning("a worker process died", restarts=self.restarts, project=work.chunk.project)
            if left:
                work.crashed(left.popleft())
            if left:
                self._again(work, left)
            with suppress(OSError):
                pipe.close()
            self._halt.wait(RESTART_PAUSE)
            return False


def _is_stopped(pid: int | None) -> bool:
    """Whether a process was stopped by a signal (state T of proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:
        return False
