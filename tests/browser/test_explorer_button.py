"""The button on Orthanc Explorer's pages: it asks, starts, shows progress and outcome, and trusts nothing it shows."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.browser.conftest import Browser, Pages
from tests.orthancs import until

pytestmark = [pytest.mark.browser, pytest.mark.integration]

LEVELS = {"patient": "patients", "study": "studies", "series": "series"}
EVIL = "<img src=x onerror=\"document.title='broken in'\"><b>bold</b>"


def project(name: str, **settings: Any) -> dict[str, Any]:
    """A project as GET /deid/projects gives it."""
    defaults = {
        "Profile": "basic",
        "Destinations": [{"Peer": "research"}],
        "Release": "study",
        "KeepResearchCopy": True,
    }
    return {"Name": name, "Settings": {**defaults, **settings}}


def job(state: str, progress: int, outcomes: dict[str, int], **more: Any) -> dict[str, Any]:
    """A job as GET /deid/jobs/{id} gives it."""
    content = {"Instances": sum(outcomes.values()), "Outcomes": outcomes, "Reasons": {}, "Skipped": 0}
    content |= more.pop("content", {})
    return {
        "ID": "job-1",
        "State": state,
        "Progress": progress,
        "ErrorDescription": "Success",
        "Content": content,
        **more,
    }


def flow(pages: Pages, level: str, *jobs: dict[str, Any]) -> dict[str, list[tuple[int, Any]]]:
    """The answers of a job that goes through these states."""
    return {
        "GET /deid/projects": [(200, [project("lung")])],
        f"POST /{LEVELS[level]}/{pages.ids[level]}/deidentify": [(200, {"ID": "job-1", "Path": "/deid/jobs/job-1"})],
        "GET /deid/jobs/job-1": [(200, state) for state in jobs],
    }


@pytest.mark.parametrize("level", LEVELS)
def test_the_button_starts_a_job_over_the_resource_that_the_page_shows(
    browser: Browser, pages: Pages, dialog: Callable[..., None], level: str
) -> None:
    dialog(flow(pages, level, job("Success", 100, {"confirmed": 1})), level)
    assert f"De-identify this {level} for the project lung?" in browser.wait_text("lung")
    browser.one("#deid-start").click()
    browser.wait_text("Done: 1 instance.")
    (started,) = pages.requests(f"POST /{LEVELS[level]}/{pages.ids[level]}/deidentify")
    assert json.loads(started["body"]) == {"Project": "lung"}
    assert started["headers"]["content-type"] == "application/json"
    assert started["headers"]["origin"] == pages.server.url
    assert browser.script_errors() == []


def test_it_looks_like_its_neighbours(browser: Browser, pages: Pages) -> None:
    browser.open(pages.url("study"))
    classes = [
        browser.one(f"#study-{name}").find_element("xpath", "ancestor::li").get_attribute("class").split()
        for name in ("deidentify", "anonymize")
    ]
    assert "ui-btn" in classes[0] and "ui-li" in classes[0]
    assert set(classes[0]) - set(classes[1]) <= {"ui-corner-bottom", "ui-li-last"}


def test_one_of_several_projects_is_chosen(browser: Browser, pages: Pages, dialog: Callable[..., None]) -> None:
    answers = flow(pages, "study", job("Success", 100, {"confirmed": 1}))
    other = project("liver", Profile="strict", Destinations=[], KeepResearchCopy=True)
    dialog({**answers, "GET /deid/projects": [(200, [project("lung"), other])]})
    assert "Profile basic; goes to research" in browser.wait_text("Profile basic")
    browser.one("#deid-project").find_element("xpath", "option[2]").click()
    assert "goes to" not in browser.wait_text("Profile strict; a research copy is kept here.")
    browser.one("#deid-start").click()
    browser.wait_text("Done")
    (started,) = pages.requests(f"POST /studies/{pages.ids['study']}/deidentify")
    assert json.loads(started["body"]) == {"Project": "liver"}


def test_progress_is_shown_until_the_end_with_counts_and_reasons(
    browser: Browser, pages: Pages, dialog: Callable[..., None]
) -> None:
    running = job("Running", 40, {"queued": 12, "confirmed": 8}, content={"Waiting": "Orthanc does not answer"})
    answers = flow(pages, "study", job("Pending", 0, {}), running)
    dialog(answers)
    browser.one("#deid-start").click()
    seen = browser.wait_text("8 de-identified and confirmed")
    assert "12 waiting" in seen and "Orthanc does not answer" in seen
    assert browser.one("#deid-progress").get_attribute("value") == "40"
    done = job("Success", 100, {"confirmed": 19, "quarantined": 1}, content={"Reasons": {"pixels-not-cleaned": 1}})
    pages.answer({**answers, "GET /deid/jobs/job-1": [(200, done)]})
    seen = browser.wait_text("Done: 20 instances.")
    assert "1 held in quarantine" in seen and "1 pixels-not-cleaned" in seen


def test_the_link_leads_to_the_research_study_that_is_kept(
    browser: Browser, pages: Pages, dialog: Callable[..., None]
) -> None:
    gone = "0" * 8 + "-00000000" * 4
    studies = [{"ID": gone}, {"ID": pages.ids["study"]}, {"ID": "javascript:alert(1)"}]
    dialog(flow(pages, "study", job("Success", 100, {"confirmed": 1}, content={"ResearchStudies": studies})))
    browser.one("#deid-start").click()
    link = browser.one("#deid-links a")
    assert len(browser.all("#deid-links a")) == 1, "only what Orthanc has is linked"
    assert link.get_attribute("href") == pages.url("study")
    link.click()
    until(lambda: not browser.all("#deid-dialog") and browser.all("#study-deidentify"), 20, "the study's page, anew")


def test_a_failed_job_says_why(browser: Browser, pages: Pages, dialog: Callable[..., None]) -> None:
    failed = job("Failure", 0, {"quarantined": 3}, ErrorDescription="no instance came out (pixels-not-cleaned 3)")
    dialog(flow(pages, "study", failed))
    browser.one("#deid-start").click()
    browser.wait_text("The job failed: no instance came out (pixels-not-cleaned 3)")
    browser.one("#deid-close").click()
    until(lambda: not browser.all("#deid-dialog"), 10, "the dialog to close")


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (
            404,
            {"error": "unknown project", "detail": "no project of this name is configured"},
            "unknown project: no project",
        ),
        (
            400,
            {"error": "bad request", "detail": ["body.Project: too long", "body.X: unknown key"]},
            "body.X: unknown key",
        ),
        (503, {"error": "service unavailable", "detail": "it is being restarted"}, "service unavailable: it is being"),
        (500, {}, "Orthanc answered with status 500"),
    ],
)
def test_errors_are_readable(
    browser: Browser, pages: Pages, dialog: Callable[..., None], status: int, body: Any, shown: str
) -> None:
    answers = flow(pages, "study")
    answers[f"POST /studies/{pages.ids['study']}/deidentify"] = [(status, body)]
    dialog(answers)
    browser.one("#deid-start").click()
    assert shown in browser.wait_text(shown, ".deid-error")


def test_without_projects_it_says_so(browser: Browser, pages: Pages, dialog: Callable[..., None]) -> None:
    dialog({"GET /deid/projects": [(200, [])]})
    browser.wait_text("No project is configured")


def test_a_service_that_is_down_for_a_moment_does_not_end_the_watch(
    browser: Browser, pages: Pages, dialog: Callable[..., None]
) -> None:
    answers = flow(pages, "study")
    down = (503, {"error": "service unavailable", "detail": "it is being restarted"})
    dialog({**answers, "GET /deid/jobs/job-1": [down]})
    browser.one("#deid-start").click()
    browser.wait_text("service unavailable: it is being restarted; trying again")
    pages.answer({**answers, "GET /deid/jobs/job-1": [(200, job("Success", 100, {"confirmed": 2}))]})
    browser.wait_text("Done: 2 instances.")


def test_the_job_can_be_cancelled(browser: Browser, pages: Pages, dialog: Callable[..., None]) -> None:
    answers = flow(pages, "study", job("Running", 1, {"queued": 5}))
    dialog({**answers, "POST /deid/jobs/job-1/cancel": [(200, {})]})
    browser.one("#deid-start").click()
    browser.one("#deid-cancel").click()
    until(lambda: pages.requests("POST /deid/jobs/job-1/cancel"), 10, "the cancellation")
    cancelled = job("Failure", 0, {"cancelled": 5}, ErrorDescription="Canceled job")
    pages.answer({"GET /deid/jobs/job-1": [(200, cancelled)]})
    browser.wait_text("The job failed: Canceled job")


def test_what_the_server_says_is_text_and_never_html(
    browser: Browser, pages: Pages, dialog: Callable[..., None]
) -> None:
    evil = job("Success", 100, {EVIL: 1}, content={"Reasons": {EVIL: 1}, "ResearchStudies": [{"ID": EVIL}]})
    answers = flow(pages, "study", job("Running", 5, {EVIL: 1}, content={"Waiting": EVIL}), evil)
    settings = {"Profile": EVIL, "Destinations": [{"Peer": EVIL}], "Release": EVIL}
    dialog({**answers, "GET /deid/projects": [(200, [project(EVIL, **settings), project("b")])]})
    browser.wait_text(f"Profile {EVIL}; goes to {EVIL}")
    browser.one("#deid-start").click()
    browser.wait_text(f"1 {EVIL}")
    browser.wait_text("Done: 1 instance.")
    assert browser.driver.title != "broken in"
    assert browser.driver.find_elements("css selector", "#deid-dialog img, #deid-dialog b") == []
    answers[f"POST /studies/{pages.ids['study']}/deidentify"] = [(400, {"error": EVIL, "detail": EVIL})]
    dialog(answers)
    browser.one("#deid-start").click()
    browser.wait_text(EVIL, ".deid-error")
    assert browser.driver.find_elements("css selector", "#deid-dialog img, #deid-dialog b") == []


def test_every_request_stays_below_orthancs_own_address(
    browser: Browser, pages: Pages, dialog: Callable[..., None]
) -> None:
    dialog(flow(pages, "study", job("Success", 100, {"confirmed": 1})))
    browser.one("#deid-start").click()
    browser.wait_text("Done")
    loaded = browser.driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert loaded and all(address.startswith(pages.server.url + "/") for address in loaded)


@contextlib.contextmanager
def behind_a_prefix(port: int) -> Iterator[str]:
    """A reverse proxy that shows the server on a port as /hospital/orthanc, and knows no other path."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/hospital/orthanc/"):
                self.send_error(404)
                return
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            upstream.request(self.command, self.path.removeprefix("/hospital/orthanc"), body or None, headers)
            answer = upstream.getresponse()
            data = answer.read()
            upstream.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "keep-alive"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hospital/orthanc"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_works_behind_a_path_prefix(browser: Browser, pages: Pages) -> None:
    studies = {"ResearchStudies": [{"ID": pages.ids["study"]}]}
    pages.answer(flow(pages, "study", job("Success", 100, {"confirmed": 1}, content=studies)))
    with behind_a_prefix(pages.server.http_port) as root:
        browser.open(pages.url("study", root))
        browser.one("#study-deidentify").click()
        browser.one("#deid-start").click()
        assert browser.one("#deid-links a").get_attribute("href") == pages.url("study", root)
        browser.open("about:blank")
