"""No attribute value reaches a log line, whichever way it tries."""

from __future__ import annotations

import ast
import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orthanc_deid
import pytest
import structlog
from orthanc_deid import logs

PACKAGE = Path(orthanc_deid.__file__).parent
PLANTED = "Plantedname^Given"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook)
    stream = io.StringIO()
    logs.configure(stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = before
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_its_fields(stream: io.StringIO) -> None:
    logs.get("orthanc_deid.test").info("instances were queued", project="lung", count=3, seconds=0.25, reason=None)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "instances were queued",
        "level": "info",
        "logger": "orthanc_deid.test",
        "project": "lung",
        "count": 3,
        "seconds": 0.25,
        "reason": None,
    }


@pytest.mark.parametrize("field", ["patient", "name", "value", "uid", *sorted(logs.FIELDS.keys() - {"level"})])
def test_a_value_passes_in_no_field(stream: io.StringIO, field: str) -> None:
    logs.get("orthanc_deid.test").warning("a line", **{field: PLANTED})
    assert PLANTED not in stream.getvalue()
    assert lines(stream)[0][field] == logs.WITHHELD


@pytest.mark.parametrize("value", [[PLANTED], {"a": PLANTED}, PLANTED.encode(), (1, PLANTED), "1.2.826.0.1.3680043", 5])
def test_nor_does_another_form_of_it(stream: io.StringIO, value: Any) -> None:
    logs.get("orthanc_deid.test").warning("a line", reason=value, unknown=value)
    (line,) = lines(stream)
    assert (line["reason"], line["unknown"]) == (logs.WITHHELD, logs.WITHHELD)


def test_an_exception_shows_where_and_not_what(stream: io.StringIO) -> None:
    try:
        try:
            raise ValueError(PLANTED)
        except ValueError as error:
            raise KeyError(f"no {PLANTED}") from error
    except KeyError:
        logs.get("orthanc_deid.test").exception("the work failed", error="KeyError")
    assert PLANTED not in stream.getvalue()
    (line,) = lines(stream)
    assert [cause["class"] for cause in line["exception"]] == ["KeyError", "ValueError"]
    assert all("test_logs.py:" in cause["places"][-1] for cause in line["exception"])


def test_lines_of_other_packages_show_their_place(stream: io.StringIO) -> None:
    logger = logging.getLogger("dbos")
    logger.error(f"workflow failed: {PLANTED}")
    logger.error("workflow %s failed", PLANTED)
    try:
        raise ValueError(PLANTED)
    except ValueError:
        logging.getLogger("uvicorn.error").exception(PLANTED)
        logging.getLogger("some.library").warning("it failed", extra={"data": PLANTED}, exc_info=True, stack_info=True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"invalid value {PLANTED}", stacklevel=1)
    assert PLANTED not in stream.getvalue()
    found = lines(stream)
    assert [line["logger"] for line in found] == ["dbos", "dbos", "uvicorn.error", "some.library", "py.warnings"]
    assert found[1]["event"] == "workflow %s failed"
    assert all(line["line"].startswith("test_logs.py:") for line in found[:4])


def test_other_packages_cannot_bring_their_own_handlers() -> None:
    logger = logging.getLogger("dbos")
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    root = logging.getLogger()
    before = root.handlers[:]
    try:
        logs.configure(io.StringIO())
        assert logger.handlers == []
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        structlog.reset_defaults()


@pytest.mark.parametrize("where", ["raise_it()", "threading.Thread(target=raise_it).start()"])
def test_what_nobody_catches_shows_no_text_either(where: str) -> None:
    program = (
        "import sys, threading\n"
        "from orthanc_deid import logs\n"
        "logs.configure()\n"
        f"def raise_it(): raise ValueError({PLANTED!r})\n"
        f"{where}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(PACKAGE.parent)},
    )
    assert PLANTED not in done.stdout + done.stderr
    assert json.loads(done.stderr)["exception"][0]["class"] == "ValueError"


def log_calls() -> list[tuple[str, ast.Call]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"debug", "info", "warning", "error", "exception", "critical"}
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in {"log", "logger"}
            ):
                found.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", node))
    return found


def test_every_line_of_the_package_is_a_constant_with_known_fields() -> None:
    calls = log_calls()
    assert calls
    for place, call in calls:
        texts = [isinstance(argument, ast.Constant) and isinstance(argument.value, str) for argument in call.args]
        assert texts == [True], f"{place}: the text of a line is one constant"
        for keyword in call.keywords:
            assert keyword.arg == "exc_info" or keyword.arg in logs.FIELDS, f"{place}: unknown field {keyword.arg}"
            if keyword.arg == "error":
                assert ast.unparse(keyword.value).endswith(".__name__"), f"{place}: error is the name of a class"
