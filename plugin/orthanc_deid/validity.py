"""Validity of instances before and after, judged by Debian's dciodvfy: only what differs is told, and no value.

Sources have errors of their own; what counts is what de-identification adds (or takes away). dciodvfy's messages quote
values, so they are never passed on: of each message only the attributes' names, the tool's own words before the first
quotation, and the module are left.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TOOL = "dciodvfy"
PACKAGE = "dicom3tools"
_SECONDS = 120  # for one file; a file that takes longer is not judged


class Finding(NamedTuple):
    """An error or a warning of the validator, without values and item numbers."""

    level: str  # 'Error' or 'Warning'
    place: str  # keywords, with slashes between; '(private)' for private attributes
    text: str


@dataclass(frozen=True)
class Comparison:
    """What the validator says of one instance before and after; None where it could not judge."""

    before: Counter[Finding] | None
    after: Counter[Finding] | None

    @property
    def added(self) -> Counter[Finding]:
        """What the output has and the source has not, or less often."""
        return Counter() if self.before is None or self.after is None else self.after - self.before

    @property
    def gone(self) -> Counter[Finding]:
        """What the source has and the output has not, or less often."""
        return Counter() if self.before is None or self.after is None else self.before - self.after


def tool() -> str | None:
    """The validator's path, None where it is not installed."""
    return shutil.which(TOOL)


def version(path: str) -> str:
    """The validator's version as it says it itself."""
    done = subprocess.run([path, "-version"], capture_output=True, timeout=_SECONDS, check=False)
    found = re.search(rb"Version: ([\w.]+)", done.stdout + done.stderr)
    return found[1].decode() if found else "of an unknown version"


def compare(path: str, pairs: Iterable[tuple[Path, Path]]) -> Iterator[Comparison]:
    """Judge each pair of source and output, in order, a few at a time."""

    def one(pair: tuple[Path, Path]) -> Comparison:
        return Comparison(_findings(path, pair[0]), _findings(path, pair[1]))

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        yield from pool.map(one, pairs)


def _findings(tool_path: str, file: Path) -> Counter[Finding] | None:
    try:
        done = subprocess.run([tool_path, "-new", file.resolve()], capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode < 0:  # died of a signal: what it said until then is not all
        return None
    return parse(done.stderr.decode("utf-8", "replace"))


def parse(output: str) -> Counter[Finding]:
    """Read the validator's messages. What is no message (the rest of a value that has line breaks) is left out."""
    found: Counter[Finding] = Counter()
    for line in output.splitlines():
        match = _LINE.match(line)
        if match is not None:
            found[Finding(match["level"], _place(match["place"] or ""), _words(match["text"]))] += 1
    return found


_LINE = re.compile(r"(?P<level>Error|Warning) - (?:</?(?P<place>[^>]*)>)?(?: - )?(?P<text>.*)$")
_STEP = re.compile(r"(?P<keyword>[A-Z][A-Za-z0-9]*)?\((?P<group>[0-9a-fA-F]{4}),[0-9a-fA-F]{4}")
_MODULE = re.compile(r"Module=<([A-Za-z0-9]+)>")


def _place(path: str) -> str:
    """'A(0008,1115)[1]/(0009,1001,"X")' → 'A/(private)': names of attributes, without creators and item numbers."""
    steps = []
    for step in _STEP.finditer(path):
        private = int(step["group"], 16) & 1
        steps.append("(private)" if private else step["keyword"] or "(unknown)")
    return "/".join(steps)


def _words(text: str) -> str:
    """The tool's own words up to the first quotation, numbers of more than two digits masked, and the module."""
    own = re.split(r'[<="]', text, maxsplit=1)[0]
    own = re.sub(r"\d{3,}|\d+\.\d+", "…", re.sub(r"[^A-Za-z0-9 ,.()\[\]/'-]", " ", own))
    module = _MODULE.search(text)
    own = " ".join(own.split()).strip(" -")
    own = own.removesuffix("Module").strip(" -")
    return f"{own}, module {module[1]}" if module else own
