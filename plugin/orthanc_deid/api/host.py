"""What the routes need of the service."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import Request

from orthanc_deid.config import Config
from orthanc_deid.pipeline.jobs import Jobs
from orthanc_deid.pipeline.recall import Recalls
from orthanc_deid.store import Store


class Service(Protocol):
    """The running service, as the routes see it."""

    config: Config
    store: Store
    jobs: Jobs
    recalls: Recalls

    def stored(self) -> None:
        """Something was stored in Orthanc: make room for what follows, and look."""

    def health(self) -> dict[str, Any]:
        """Return how the service is, without ids or values."""

    def render_metrics(self) -> bytes:
        """Return the metrics as Prometheus reads them."""

    def release(self, project: str, out_study: str) -> bool:
        """Release what is ready of a study, also one that is held; False when nothing was ready."""

    def hold(self, project: str, out_study: str) -> bool:
        """Keep a study back until it is released; False when there is no such study."""

    def retry(self, ledger_id: int) -> bool:
        """De-identify a held instance again, or offer it again to who did not take it; False when it is not held."""

    def exclude(self, ledger_id: int) -> bool:
        """Leave an instance from quarantine out for good; False when it is not held."""

    def unmatched(self, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """Return a page of what no project takes in gateway mode, by its random names."""

    def discard(self, name: str) -> bool:
        """Delete one of those; False when there is none of this name."""


def service_of(request: Request) -> Service:
    """Return the service of the application that a request came to."""
    service: Service = request.app.state.service
    return service
