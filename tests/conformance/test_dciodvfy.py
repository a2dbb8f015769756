"""Debian's dciodvfy finds no error in an output that it did not find in the source.

The sources have errors of their own (real files mostly); only what de-identification adds counts. Messages are compared
without values and item numbers, as a multiset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests import builders
from tests.codestreams import FILES
from tests.engine import outcome
from tests.validity import TOOL, errors

SAMPLES = Path(__file__).parents[2] / "samples" / "files"
pytestmark = pytest.mark.skipif(TOOL is None, reason="dciodvfy (Debian package dicom3tools) is not installed")


def added(data: bytes, folder: Path) -> Counter[str]:
    """Errors of the output that the source does not have, or has less often."""
    output, _ = outcome(data)
    if output is None:  # held: nothing comes out that could have an error
        return Counter()
    before, after = errors(data, folder), errors(output, folder)
    return after - before


@pytest.mark.parametrize("name", builders.PASS)
def test_no_new_error_in_a_made_object(name: str, tmp_path: Path) -> None:
    assert added(builders.to_bytes(builders.PASS[name]()), tmp_path) == Counter()


def real() -> Iterable[Path]:
    yield from sorted(SAMPLES.rglob("*.dcm"))
    yield from (path for path in sorted(FILES.rglob("*")) if path.is_file() and "TINY_ALPHA" not in path.parts)


@pytest.mark.parametrize("path", list(real()), ids=lambda path: "/".join(path.parts[-2:]))
def test_no_new_error_in_a_real_file(path: Path, tmp_path: Path) -> None:
    assert added(path.read_bytes(), tmp_path) == Counter()


def test_an_error_that_is_added_would_be_seen(tmp_path: Path) -> None:
    data = builders.to_bytes(builders.ct(rows=8, columns=8))
    broken = builders.ct(rows=8, columns=8)
    del broken.StudyInstanceUID
    broken.ImageType = []
    new = errors(builders.to_bytes(broken), tmp_path) - errors(data, tmp_path)
    assert any("StudyInstanceUID" in text for text in new) and any("ImageType" in text for text in new)
