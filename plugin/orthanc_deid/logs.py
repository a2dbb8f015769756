"""Log lines as JSON, closed by default: nothing that could be an attribute's value gets out.

- The text of a line is a constant of this program; what varies goes into fields.
- Only the fields of FIELDS pass, and only values of the form stated there; anything else reads "<withheld>".
- An exception shows its class and the places it came through, never its text: messages of codecs, of the database and
  of DBOS quote what they choke on.
- Lines of other packages show who spoke and where; their text only where it is a constant with its arguments left out.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import structlog

WITHHELD = "<withheld>"

_NUMBER = "number"
_CODE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PLACE = re.compile(r"(?:(?:peer|modality|dicomweb|folder):)?[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,79}")
_STATE = re.compile(r"Pending|Running|Paused|Success|Failure|[a-z][a-z-]{0,19}")
_VERSION = re.compile(r"[0-9]+(?:\.[0-9a-z]+){1,4}(?:[+-][0-9A-Za-z.]{1,20})?")
_TAG = re.compile(r"\([0-9a-f]{4},[0-9a-f]{4}\)")

FIELDS: Mapping[str, re.Pattern[str] | str] = {
    "attempt": _NUMBER,
    "count": _NUMBER,
    "destination": _PLACE,  # as configured
    "error": _CLASS,  # the class of an exception
    "job": _UUID,
    "level": _CODE,
    "limit": _NUMBER,
    "ms": _NUMBER,
    "path_kind": _CODE,
    "peer": _PLACE,  # as configured
    "pid": _NUMBER,
    "port": _NUMBER,
    "project": _NAME,  # as configured
    "queued": _NUMBER,
    "rate": _NUMBER,
    "ready": _NUMBER,
    "reason": _CODE,
    "restarts": _NUMBER,
    "row": _NUMBER,  # of the ledger
    "seconds": _NUMBER,
    "sequence": _NUMBER,
    "series_count": _NUMBER,
    "signal": _NUMBER,
    "since": _NUMBER,
    "size": _NUMBER,
    "stage": _CODE,
    "state": _STATE,  # of an instance, a delivery or a job
    "status": _NUMBER,
    "study_count": _NUMBER,
    "tag": _TAG,  # (gggg,eeee)
    "total": _NUMBER,
    "url_kind": _CODE,
    "version": _VERSION,
    "workers": _NUMBER,
}
"""The fields that a line may have, and the form of their values."""

_OWN = {"event", "timestamp", "logger", "line", "exception"}


def get(name: str) -> Any:
    """Return a logger: `log.info("a constant text", project=…, count=…)`."""
    return structlog.stdlib.get_logger(name)


def configure(stream: TextIO | None = None, level: str = "INFO") -> None:
    """Send all lines of this process to a stream (default: standard error), also those of other packages and of
    exceptions that nobody catches."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_foreign, *shared],
        pass_foreign_args=True,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            withhold,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
    )
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos", "alembic", "sqlalchemy"):
        # These bring handlers of their own, which print texts as they are.
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel("WARNING")
    logging.captureWarnings(True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def withhold(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Let only the known fields pass, with values of their form."""
    for name, value in event.items():
        if name not in _OWN and not _fits(FIELDS.get(name), value):
            event[name] = WITHHELD
    return event


def _fits(form: re.Pattern[str] | str | None, value: Any) -> bool:
    if value is None:
        return True
    if form == _NUMBER:
        return isinstance(value, int | float)
    return isinstance(form, re.Pattern) and isinstance(value, str) and form.fullmatch(value) is not None


def _exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write an exception as its class and the places it came through, with those that caused it."""
    info = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if info is True:
        info = sys.exc_info()
    error = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else None
    if error is not None:
        event["exception"] = describe(error)
    return event


def describe(error: BaseException) -> list[dict[str, Any]]:
    """Return classes and places of an exception and of its causes, the last one first; no texts, no values."""
    found: list[dict[str, Any]] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = traceback.extract_tb(current.__traceback__)
        places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-20:]]
        found.append({"class": type(current).__qualname__, "places": places})
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return found


def _foreign(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep of another package's line what cannot hold a value: a constant text, and the place that wrote it."""
    record: logging.LogRecord = event["_record"]
    # With arguments the text is the template; without, it may have been put together before.
    arguments = event.pop("positional_args", None)
    event["event"] = record.msg if arguments and isinstance(record.msg, str) else WITHHELD
    event["line"] = f"{Path(record.pathname).name}:{record.lineno}"
    if record.exc_info:
        event["exc_info"] = record.exc_info
    return event


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    get(__name__).critical("uncaught exception", exc_info=error.with_traceback(trace))


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not issubclass(arguments.exc_type, SystemExit):
        get(__name__).critical("uncaught exception in a thread", exc_info=arguments.exc_value)
