"""Who may ask at all: the plugin's secret, no other site's pages, JSON only."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from orthanc_deid.api.guard import SECRET_HEADER, Guard, Headers, from_another_site
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.asgi import Client

SECRET = "s3cret"


@pytest.fixture
def client() -> Client:
    """A guarded application of one route that says what it was sent."""

    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({"got": (await request.body()).decode()})

    app = Starlette(routes=[Route("/x", echo, methods=["GET", "POST", "DELETE"])])
    app.add_middleware(Guard, secret=SECRET)
    return Client(app)


def send(client: Client, method: str = "POST", body: bytes = b"{}", **headers: str) -> httpx.Response:
    """One request with the secret; header names with _ for -."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request(method, "/x", content=body, headers={SECRET_HEADER: SECRET, **names})


@pytest.mark.parametrize("given", [None, "", "S3cret", "s3cret2", "s3cre", "ß"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "HEAD"])
def test_without_the_secret_nothing_is_served(client: Client, method: str, given: str | None) -> None:
    headers = {} if given is None else {SECRET_HEADER.encode(): given.encode()}
    assert client.request(method, "/x", headers=headers).status_code == 403


def test_a_secret_given_twice_counts_as_none(client: Client) -> None:
    pairs = [(SECRET_HEADER, SECRET), (SECRET_HEADER, "other")]
    assert client.get("/x", headers=httpx.Headers(pairs)).status_code == 403


def test_an_empty_secret_is_no_secret() -> None:
    with pytest.raises(ValueError, match="secret"):
        Guard(Starlette(), secret="")


@pytest.mark.parametrize(
    ("headers", "other"),
    [
        ({}, False),
        ({"Host": "a:8042"}, False),
        ({"Host": "a:8042", "Origin": "http://a:8042"}, False),
        ({"Host": "A:8042", "Origin": "http://a:8042"}, False),
        ({"Host": "a", "Origin": "https://a"}, False),
        ({"Host": "a:443", "Origin": "https://a"}, False),
        ({"Host": "inner", "X-Forwarded-Host": "a, b", "Origin": "https://a"}, False),
        ({"Host": "inner", "Origin": "https://a", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Host": "a", "Sec-Fetch-Site": "none"}, False),
        ({"Host": "a", "Origin": "http://b"}, True),
        ({"Host": "a:8042", "Origin": "http://a:8043"}, True),
        ({"Host": "a", "Origin": "http://a.evil.example"}, True),
        ({"Host": "a", "Origin": "null"}, True),
        ({"Host": "a", "Origin": ""}, True),
        ({"Host": "", "Origin": ""}, True),
        ({"Host": "a", "Origin": "http://a:port"}, True),
        ({"Host": "a", "Origin": "http://a", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Host": "a", "Origin": "http://a", "Sec-Fetch-Site": "same-site"}, True),
        ({"Host": "a", "Sec-Fetch-Site": ""}, True),
    ],
)
def test_pages_of_other_sites_are_told_apart(headers: dict[str, str], other: bool) -> None:
    assert from_another_site(Headers((k.encode(), v.encode()) for k, v in headers.items())) is other


def test_a_header_given_twice_is_not_believed() -> None:
    pairs = [(b"host", b"a"), (b"origin", b"http://a"), (b"origin", b"http://evil")]
    assert from_another_site(Headers(pairs))
    assert from_another_site(Headers([*pairs[:2], (b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"none")]))


def test_only_what_changes_something_is_kept_from_other_sites(client: Client) -> None:
    for method in ("POST", "DELETE"):
        answer = send(client, method, Origin="http://evil.example", Content_Type="application/json")
        assert answer.status_code == 403 and answer.json()["error"] == "forbidden"
    assert send(client, "GET", b"", Origin="http://evil.example").status_code == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=UTF-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/json; charset=latin-1", 415),
        ("text/plain; application/json", 415),
        ("", 415),
    ],
)
def test_a_body_must_be_json(client: Client, kind: str, status: int) -> None:
    answer = send(client, Content_Type=kind)
    assert answer.status_code == status
    if status != 200:
        assert set(answer.json()) == {"error", "detail"}


def test_without_a_body_no_type_is_needed(client: Client) -> None:
    assert send(client, body=b"").status_code == 200


def test_a_body_of_unknown_length_is_refused(client: Client) -> None:
    async def parts() -> Any:
        yield json.dumps({}).encode()

    headers = {SECRET_HEADER: SECRET, "Content-Type": "application/json"}
    assert client.post("/x", content=parts(), headers=headers).status_code == 411


def test_answers_are_not_cached_sniffed_or_framed(client: Client) -> None:
    for answer in (send(client, "GET", b""), client.get("/x")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
