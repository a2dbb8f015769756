"""Lets a route that takes JSON take a table too: the table is the cohort, the query's parameters are the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from orthanc_deid.pipeline.cohort import read_csv


class TableRoute(APIRoute):
    """A route whose body may come as `text/csv`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Turn a table into the body that the route knows."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "text/csv":
                body = json.dumps(_body(request.query_params, read_csv(await request.body()))).encode()
                others = [
                    pair for pair in request.scope["headers"] if pair[0] not in (b"content-type", b"content-length")
                ]
                headers = [
                    *others,
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                ]
                request = Request({**request.scope, "headers": headers, "query_string": b""}, _receive(body))
            return await handler(request)

        return handle


def _body(parameters: Mapping[str, str], cohort: list[dict[str, str]]) -> dict[str, Any]:
    body: dict[str, Any] = {"Cohort": cohort}
    for name, text in parameters.items():
        if name in ("Modality", "DicomWeb"):
            body.setdefault("From", {})[name] = text
        elif name != "Cohort":
            body[name] = (
                json.loads(text) if text in ("true", "false") or (text.isdecimal() and text.isascii()) else text
            )
    return body


def _receive(body: bytes) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
