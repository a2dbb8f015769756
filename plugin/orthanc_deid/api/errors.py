"""How an error becomes an answer: `{"error": …, "detail": …}` with the status that says whose fault it is."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from orthanc_deid.orthanc.client import OrthancError
from orthanc_deid.pipeline.cohort import BadCohort
from orthanc_deid.pipeline.jobs import (
    BadQuery,
    JobError,
    UnknownJob,
    UnknownProject,
    UnknownResource,
    UnknownSource,
    WrongState,
)

MAX_ERRORS = 100
"""Errors of one body that are listed."""


class ApiError(Exception):
    """An answer other than success, raised by a route."""

    def __init__(self, status: int, error: str, detail: str) -> None:
        super().__init__(error)
        self.status, self.error, self.detail = status, error, detail


_JOB_ERRORS: dict[type[JobError], tuple[int, str]] = {
    UnknownProject: (404, "unknown project"),
    UnknownResource: (404, "unknown resource"),
    UnknownJob: (404, "unknown job"),
    UnknownSource: (404, "unknown source"),
    WrongState: (409, "wrong state"),
    BadQuery: (400, "bad query"),
}


def answer(status: int, error: str, detail: Any) -> JSONResponse:
    """Return an error as every route of this service gives it."""
    return JSONResponse({"error": error, "detail": detail}, status_code=status)


def install(app: FastAPI) -> None:
    """Give the application its answers to errors."""

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return answer(error.status, error.error, error.detail)

    @app.exception_handler(JobError)
    async def job_error(_: Request, error: JobError) -> JSONResponse:
        status, name = _JOB_ERRORS.get(type(error), (400, "bad request"))
        return answer(status, name, str(error))

    @app.exception_handler(BadCohort)
    async def cohort_error(_: Request, error: BadCohort) -> JSONResponse:
        return answer(400, "bad cohort", str(error))

    @app.exception_handler(OrthancError)
    async def orthanc_error(_: Request, error: OrthancError) -> JSONResponse:
        return answer(503, "Orthanc unavailable", str(error))

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        response = answer(error.status_code, HTTPStatus(error.status_code).phrase.lower(), "no such route")
        if error.status_code == 405:
            response = answer(405, "method not allowed", "this route does not know this method")
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(400, "bad request", described(error))


def described(error: RequestValidationError) -> list[str]:
    """Return each error as `path: what is wrong`, without the value that was given."""
    lines = []
    for item in error.errors()[:MAX_ERRORS]:
        where, *path = item["loc"]
        if item["type"] == "json_invalid":
            lines.append(f"body: not JSON (at character {path[0] if path else 0})")
            continue
        text = "unknown key" if item["type"] == "extra_forbidden" else _first_lower(item["msg"])
        lines.append(f"{where}{''.join(_step(step) for step in path)}: {text}")
    return lines


def _step(step: int | str) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{step[:64]}"


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]
