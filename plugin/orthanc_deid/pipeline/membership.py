"""A service among others on one database: its beat, its lease, who leads, and the end of one that was thought dead.

Every service writes its beat every two seconds. One that has not for LEASE_SECONDS is dead to the others: whoever leads
takes its work over. So a service that could not write for that long (stopped, cut off, its database away) sends nothing
and claims nothing until a beat has gone through again; and if it was buried meanwhile, it ends, and whoever runs it
starts it anew. Time is measured by the clock that goes on while the machine sleeps, and told by the database's clock.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from orthanc_deid import logs
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.store import services

log = logs.get(__name__)

BEAT_SECONDS = 2.0
LEASE_SECONDS = 15.0
"""A service whose beat is older is dead to the others."""
MARGIN_SECONDS = 3.0
"""So much before the end of its lease a service that cannot write its beat begins nothing more."""
INHERIT_SECONDS = 10.0
"""How often the leader looks for claims of nobody who lives, besides whenever somebody died."""


def elapsed() -> float:
    """Return seconds that go on while this process is stopped and while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Membership:
    """One thread that beats; `held` says whether what this service has claimed is its own still."""

    def __init__(self, shared: Shared, take_over: Callable[[list[str]], None]) -> None:
        """`take_over` gets the outboxes of services that died, when this one leads."""
        self._shared = shared
        self._take_over = take_over
        self._beat_at = self._steady_since = self._inherited_at = float("-inf")
        self._offset = 0.0
        self._thread = threading.Thread(target=self._run, name="membership", daemon=True)
        self.lost = threading.Event()
        """Set when the others have buried this service: it has to end."""

    def join(self) -> None:
        """Become one of the services, and give back what the runs before this one have left in its folder."""
        shared = self._shared
        with shared.store.aside() as conn:
            services.register(conn, shared.owner, shared.outbox.name, socket.gethostname())
        self._beat()
        with shared.store.begin() as conn:
            works, sends, _ = services.inherit(conn, shared.clock())
        if works or sends:
            log.info("work of a former run is resumed", count=works, total=sends)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Leave in order, so that another one leads at once; `shared.stopping` is set by now."""
        self._thread.join(timeout)
        self._shared.leads.clear()
        try:
            with self._shared.store.aside() as conn:
                services.leave(conn, self._shared.owner)
        except SQLAlchemyError as error:  # the others see it by the beat that does not come
            log.warning("the others could not be told of the end", error=type(error).__name__)

    def held(self) -> bool:
        """Whether this service may send and claim: its last beat is young enough that nobody has buried it."""
        return not self.lost.is_set() and elapsed() - self._beat_at < LEASE_SECONDS - MARGIN_SECONDS

    def clock(self) -> float:
        """Return the time of the database's clock, the same for all services."""
        return elapsed() + self._offset

    def _run(self) -> None:
        while not self._shared.stopping.wait(BEAT_SECONDS) and not self.lost.is_set():
            try:
                self._beat()
                self._shared.troubles.clear("membership")
            except (SQLAlchemyError, OSError) as error:
                if self._shared.troubles.note("membership", type(error).__name__):
                    log.warning("the beat cannot be written", error=type(error).__name__)
            except Exception as error:
                log.error("the beat failed", error=type(error).__name__, exc_info=True)
                self._shared.troubles.note("membership", type(error).__name__)
            if not self.held():
                self._shared.leads.clear()

    def _beat(self) -> None:
        began = elapsed()
        if began - self._beat_at > LEASE_SECONDS / 2:
            self._steady_since = began
        with self._shared.store.aside() as conn:
            beat = services.beat(conn, self._shared.owner, LEASE_SECONDS)
        if not beat.lives:
            log.error("this service was taken for dead: its work is with the others, and it ends")
            self.lost.set()
            self._shared.leads.clear()
            return
        if not beat.leads:  # before the beat counts: who asks for both must not find both
            self._shared.leads.clear()
        # From before the beat: the others count from when it was written.
        self._beat_at, self._offset = began, beat.now - (began + elapsed()) / 2
        if not beat.leads:
            return
        if not self._shared.leads.is_set():
            log.info("this service leads")
            self._inherited_at = float("-inf")
            self._shared.leads.set()
        # After a time without a database everybody's beat is old: the others get as long as a lease to beat again.
        if beat.stale and began - self._steady_since >= LEASE_SECONDS:
            self._bury(beat.stale)
        elif began - self._inherited_at >= INHERIT_SECONDS:
            self._inherit()

    def _bury(self, outboxes: tuple[str, ...]) -> None:
        with self._shared.store.aside() as conn:
            buried = services.bury(conn, LEASE_SECONDS)
        log.warning("services have died", count=buried)
        self._inherit()
        self._take_over(list(outboxes))

    def _inherit(self) -> None:
        with self._shared.store.begin() as conn:
            works, sends, outputs = services.inherit(conn, self._shared.clock())
        self._inherited_at = elapsed()
        if works or sends or outputs:
            log.warning("work of the dead is taken over", count=works, total=sends + outputs)
