"""A headless Chromium on real Orthanc pages, with answers that the test writes."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.builders import Origin, ct, person, to_bytes
from tests.orthancs import CHECKOUT, Orthanc, until

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1200,900",
)


class Browser:
    """A Chromium, and what the tests ask of a page: everything is waited for, nothing slept for."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Load a page anew, also when only its fragment changes."""
        self.driver.get("about:blank")
        self.driver.get(url)

    def all(self, selector: str) -> list[WebElement]:
        """All elements that a CSS selector finds and that can be seen."""
        return [found for found in self.driver.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()]

    def one(self, selector: str, seconds: float = 20) -> WebElement:
        """The first such element, waited for."""
        return until(lambda: self.all(selector), seconds, f"{selector} on the page")[0]

    def text(self, selector: str = "#deid-dialog") -> str:
        """The text that can be seen in an element; empty when there is none."""
        return str(
            self.driver.execute_script(
                "const n = document.querySelector(arguments[0]); return n ? n.innerText : ''", selector
            )
        )

    def wait_text(self, wanted: str, selector: str = "#deid-dialog", seconds: float = 20) -> str:
        """Wait until an element shows a text; return all that it shows."""
        return until(
            lambda: (text := self.text(selector)) and wanted in text and text, seconds, f"“{wanted}” in {selector}"
        )  # type: ignore[return-value]

    def script_errors(self) -> list[str]:
        """What the console says was wrong in a script; failed requests and the missing icon are not scripts' errors."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["source"] == "javascript"]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests of this folder, with a fresh profile."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium and driver, "no chromium or chromedriver on this machine; ./test installs them (as root, on Debian)"
    options = Options()
    options.binary_location = chromium
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(chrome)
    finally:
        chrome.quit()


class Pages:
    """An Orthanc with one CT instance whose Explorer has the button; `answer` says what the routes behind it reply."""

    def __init__(self, server: Orthanc, folder: Path) -> None:
        self.server = server
        self._answers, self._log = folder / "answers.json", folder / "requests.jsonl"
        stored = server.store(to_bytes(ct(Origin(person(1)))))
        self.ids = {
            "patient": str(stored["ParentPatient"]),
            "study": str(stored["ParentStudy"]),
            "series": str(stored["ParentSeries"]),
        }
        self.answer({})

    def answer(self, answers: dict[str, list[tuple[int, Any]]]) -> None:
        """Set the answers of all routes and forget the requests so far."""
        # A page may ask while this is written: the routes take the same lock before they read, and write what is left.
        with self._answers.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._answers.write_text(json.dumps(answers))
            self._log.write_text("")

    def requests(self, route: str = "") -> list[dict[str, Any]]:
        """The requests since then, as the server saw them; only those of a route ("METHOD /path") if one is given."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line for line in lines if not route or f"{line['method']} {line['uri']}" == route]

    def url(self, level: str, root: str = "") -> str:
        """The address of a resource's page in Orthanc Explorer, below another root where one is given."""
        return f"{root or self.server.url}/app/explorer.html#{level}?uuid={self.ids[level]}"


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """One such Orthanc for all tests of this folder."""
    folder = tmp_path_factory.mktemp("orthanc")
    (folder / "answers.json").write_text("{}")
    (folder / "requests.jsonl").write_text("")
    section = {
        "Script": str(CHECKOUT / "plugin" / "explorer.js"),
        "Answers": str(folder / "answers.json"),
        "Log": str(folder / "requests.jsonl"),
    }
    configuration = {"PythonScript": str(CHECKOUT / "tests" / "browser" / "canned_routes.py"), "DeidTest": section}
    server = Orthanc(folder, "clinic", configuration, ["libOrthancPython.so"])
    try:
        server.start()
        yield Pages(server, folder)
    finally:
        server.close()


@pytest.fixture
def dialog(browser: Browser, pages: Pages) -> Callable[..., None]:
    """Opens a resource's page and clicks the button; the answers are those given."""

    def open_(answers: dict[str, list[tuple[int, Any]]], level: str = "study") -> None:
        pages.answer(answers)
        browser.open(pages.url(level))
        browser.one(f"#{level}-deidentify").click()

    return open_
