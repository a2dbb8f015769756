"""A plain client for an ASGI application in this process: one request, one answer, no server and no port."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx


class Client:
    """Sends each request in an event loop of its own, with these headers unless told otherwise."""

    def __init__(self, app: Any, headers: dict[str, str] | None = None) -> None:
        self._app = app
        self._headers = headers or {}

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, as httpx takes it."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://orthanc.local:8042", headers=self._headers
            ) as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """POST."""
        return self.request("POST", path, **options)
