"""The service itself: health, metrics, and the plugin's nudge."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from orthanc_deid.api.host import Service, service_of

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Host = Annotated[Service, Depends(service_of)]

router = APIRouter(tags=["service"])


@router.get("/deid/health", response_model=dict[str, Any])
def health(service: Host) -> dict[str, Any]:
    """Tell how the service is. (Through Orthanc, the plugin answers this route and puts this answer into its own.)"""
    return service.health()


@router.get("/deid/metrics", response_class=Response, responses={200: {"content": {METRICS_TYPE: {}}}})
def metrics(service: Host) -> Response:
    """Give the metrics in Prometheus' text format."""
    return Response(service.render_metrics(), headers={"Content-Type": METRICS_TYPE})


@router.post("/deid/internal/nudge", status_code=204, include_in_schema=False)
def nudge(service: Host) -> None:
    """Look for new work now: Orthanc has stored something. (The plugin does not forward this route from outside.)"""
    service.stored()
