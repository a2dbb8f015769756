"""Lets a route that takes JSON take a table too: the table is the cohort, the rest are parameters of its Content-Type.

Orthanc hands no query of a POST on to its plugins; the media type is what there is beside the body.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable
from email.message import Message
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from orthanc_deid.pipeline.cohort import read_csv

NAMES = ("Project", "Modality", "DicomWeb", "DryRun", "Push", "Priority", "KeepOriginals")
_NAMES = {name.lower(): name for name in NAMES}


class TableRoute(APIRoute):
    """A route whose body may come as `text/csv`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Turn a table into the body that the route knows."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            message = Message()
            message["Content-Type"] = request.headers.get("content-type", "")
            if message.get_content_type() == "text/csv":
                parameters = [(name, text) for name, text in (message.get_params() or [])[1:] if name != "charset"]
                body = json.dumps(_body(parameters, read_csv(await request.body()))).encode()
                own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
                headers = [*(pair for pair in request.scope["headers"] if pair[0] not in dict(own)), *own]
                request = Request({**request.scope, "headers": headers}, _receive(body))
            return await handler(request)

        return handle


def _body(parameters: Iterable[tuple[str, str]], cohort: list[dict[str, str]]) -> dict[str, Any]:
    body: dict[str, Any] = {"Cohort": cohort}
    for given, text in parameters:
        name = _NAMES.get(given, given)
        if name in ("Modality", "DicomWeb"):
            body.setdefault("From", {})[name] = text
        else:
            plain = text in ("true", "false") or (text.isdecimal() and text.isascii() and len(text) < 10)
            body[name] = json.loads(text) if plain and name != "Project" else text
    return body


def _receive(body: bytes) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
