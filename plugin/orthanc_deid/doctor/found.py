"""What the doctor looks at, and the lines that it writes."""

from __future__ import annotations

from dataclasses import dataclass

from orthanc_deid.config import Config
from orthanc_deid.orthanc.client import OrthancClient
from orthanc_deid.startup import Startup

OK, WARNING, ERROR = "ok", "warning", "error"
LEVELS = (OK, WARNING, ERROR)
"""From the best to the worst."""


@dataclass(frozen=True)
class Finding:
    """One line: how it is, of what, and what to do about it. Never a value, an id or a secret."""

    level: str
    what: str
    detail: str


@dataclass(frozen=True)
class Patient:
    """What is looked at; `thorough`: also what takes minutes on a large installation."""

    begun: Startup
    config: Config
    orthanc: OrthancClient
    thorough: bool = False
