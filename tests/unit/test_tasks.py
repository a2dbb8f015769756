"""Durable tasks on the real DBOS: each key runs, one at a time, again when asked again, and again after a crash."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from orthanc_deid import logs
from orthanc_deid.pipeline import tasks as module
from orthanc_deid.pipeline.tasks import DELIVERY, SERIES, Running, Tasks

from tests.orthancs import until
from tests.postgres import Postgres


class Bodies:
    """Counts the looks of each task and how many of one key run at a time."""

    def __init__(self) -> None:
        self.looks: Counter[tuple[str, ...]] = Counter()
        self.now: Counter[tuple[str, ...]] = Counter()
        self.most: Counter[tuple[str, ...]] = Counter()
        self.gate = threading.Event()
        self.gate.set()

    def run(self, running: Running) -> None:
        self.now[running.key] += 1
        self.most[running.key] = max(self.most[running.key], self.now[running.key])
        try:
            while running.again(0.05):
                self.looks[running.key] += 1
                if running.key[1] == "fails":
                    raise ValueError("SECRET^VALUE")
                while not self.gate.wait(0.01) and not running.stopping:
                    pass
        finally:
            self.now[running.key] -= 1


@pytest.fixture
def bodies() -> Bodies:
    return Bodies()


@pytest.fixture
def tasks(tmp_path: Path, bodies: Bodies) -> Iterator[Tasks]:
    tasks = Tasks(tmp_path / "dbos.sqlite3", {SERIES: bodies.run, DELIVERY: bodies.run}, threading.Event())
    tasks.start()
    yield tasks
    tasks.stop(5)


def test_each_key_runs(tasks: Tasks, bodies: Bodies) -> None:
    for number in range(5):
        tasks.ask(SERIES, "p", f"s{number}")
    tasks.ask(DELIVERY, "p", "peer:x", "study")
    until(lambda: len(bodies.looks) == 6, 20, "six keys")
    until(lambda: tasks.count() == {SERIES: 0, DELIVERY: 0}, 20, "their end")


def test_asked_again_while_it_runs_it_looks_again_and_never_runs_twice(tasks: Tasks, bodies: Bodies) -> None:
    bodies.gate.clear()
    tasks.ask(SERIES, "p", "s")
    until(lambda: bodies.looks["p", "s"] == 1, 20, "the first look")
    for _ in range(10):
        tasks.ask(SERIES, "p", "s")
    bodies.gate.set()
    until(lambda: bodies.looks["p", "s"] == 2, 20, "the second look")
    until(lambda: tasks.count()[SERIES] == 0, 20, "the end")
    tasks.ask(SERIES, "p", "s")
    until(lambda: bodies.looks["p", "s"] == 3, 20, "a new task")
    assert bodies.most["p", "s"] == 1


def test_only_so_many_run_at_a_time_and_deliveries_do_not_wait_for_series(tasks: Tasks, bodies: Bodies) -> None:
    bodies.gate.clear()
    for number in range(40):
        tasks.ask(SERIES, "p", f"s{number}")
    until(lambda: tasks.count()[SERIES] == module.CONCURRENCY[SERIES], 20, "a full house")
    tasks.ask(DELIVERY, "p", "peer:x", "study")
    until(lambda: bodies.looks["p", "peer:x", "study"], 20, "the delivery")
    assert tasks.count()[SERIES] == module.CONCURRENCY[SERIES]
    bodies.gate.set()
    until(lambda: len(bodies.looks) == 41, 30, "all of them")


def test_a_fault_in_a_task_leaves_no_text_behind(
    tasks: Tasks, bodies: Bodies, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure()  # as the service does
    tasks.ask(SERIES, "p", "fails")
    until(lambda: bodies.looks["p", "fails"], 20, "the fault")
    until(lambda: tasks.count()[SERIES] == 0, 20, "the end")
    tasks.ask(SERIES, "p", "s")
    until(lambda: bodies.looks["p", "s"], 20, "another task")
    tasks.stop(5)
    said = capfd.readouterr()
    assert "SECRET" not in said.out + said.err
    for path in tmp_path.iterdir():
        assert b"SECRET" not in path.read_bytes(), path.name


def test_finished_tasks_are_forgotten(
    tasks: Tasks, bodies: Bodies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_SECONDS", -2.0)
    tasks.ask(SERIES, "p", "s")
    until(lambda: bodies.looks["p", "s"] and tasks.count()[SERIES] == 0, 20, "the end")

    def left() -> int:
        tasks.tidy()
        with closing(sqlite3.connect(tmp_path / "dbos.sqlite3")) as database:
            return int(database.execute("SELECT count(*) FROM workflow_status").fetchone()[0])

    until(lambda: left() == 0, 20, "an empty table")


CRASH = """
import os, sys, threading, time
sys.path[:0] = {path!r}
from pathlib import Path
from orthanc_deid.pipeline.tasks import SERIES, DELIVERY, Tasks
def body(running):
    while running.again(0.05):
        print(*running.key, flush=True)
        if {die}:
            os._exit(9)
tasks = Tasks(Path({file!r}), {{SERIES: body, DELIVERY: body}}, threading.Event())
tasks.start()
if {die}:
    tasks.ask(SERIES, "p", "interrupted")
time.sleep({wait})
tasks.stop(2)
"""


def test_what_a_crash_interrupted_runs_again(tmp_path: Path) -> None:
    def run(die: bool, wait: float) -> subprocess.CompletedProcess[str]:
        code = CRASH.format(path=sys.path[:2], file=str(tmp_path / "dbos.sqlite3"), die=die, wait=wait)
        code = code.replace(repr(sys.path[:2]), repr([str(Path(p).resolve()) for p in ("plugin", ".")]))
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    first = run(True, 20)
    assert (first.returncode, first.stdout) == (9, "p interrupted\n")
    began = time.monotonic()
    second = run(False, 4)
    assert second.returncode == 0, second.stderr
    assert second.stdout == "p interrupted\n"
    assert time.monotonic() - began < 30


SHARED = """
import os, sys, threading, time
sys.path[:0] = {path!r}
from orthanc_deid.pipeline.tasks import SERIES, DELIVERY, Tasks
from orthanc_deid.store.database import tasks_engine
def body(running):
    while running.again(0.05):
        print(*running.key, flush=True)
        if {die}:
            os._exit(9)
tasks = Tasks(tasks_engine({url!r}, None), {{SERIES: body, DELIVERY: body}}, threading.Event(), lambda: {name!r})
tasks.start()
if {die}:
    tasks.ask(SERIES, "p", "interrupted")
    time.sleep(30)
tasks.take_over(["dead"])
tasks.take_over(["dead"])
time.sleep(4)
tasks.ask(SERIES, "p", "own")
time.sleep(2)
tasks.stop(2)
"""


def test_a_living_service_runs_what_a_dead_one_was_at_once(postgres_server: Postgres) -> None:
    url = postgres_server.url(postgres_server.new())

    def run(name: str, die: bool) -> subprocess.CompletedProcess[str]:
        path = [str(Path(part).resolve()) for part in ("plugin", ".")]
        code = SHARED.format(path=path, url=url, name=name, die=die)
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False)

    first = run("dead", True)
    assert (first.returncode, first.stdout) == (9, "p interrupted\n"), first.stderr
    second = run("living", False)
    ran = [line for line in second.stdout.splitlines() if line.startswith("p ")]
    assert (second.returncode, ran) == (0, ["p interrupted", "p own"]), second.stderr
