"""The application that the plugin forwards requests to: routes, their guard, their errors, their description."""

from __future__ import annotations

from fastapi import FastAPI

from orthanc_deid import __version__
from orthanc_deid.api import (
    errors,
    routes_deliveries,
    routes_jobs,
    routes_projects,
    routes_quarantine,
    routes_service,
    routes_spool,
)
from orthanc_deid.api.guard import Guard
from orthanc_deid.api.host import Service

DESCRIPTION = """De-identification jobs, projects and quarantine of an Orthanc server.
All routes stand under Orthanc's own root and behind its authentication."""


def create_app(service: Service, secret: str) -> FastAPI:
    """Build the application. Only requests that carry `secret` in X-Deid-Secret are served."""
    app = FastAPI(
        title="orthanc-deid",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/deid/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    for routes in (routes_jobs, routes_projects, routes_deliveries, routes_quarantine, routes_spool, routes_service):
        app.include_router(routes.router)
    errors.install(app)
    app.add_middleware(Guard, secret=secret)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """Correct the OpenAPI document: a body that does not fit is answered with 400 here, not with FastAPI's 422."""
    for path in app.openapi()["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
