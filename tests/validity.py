"""What Debian's dciodvfy says of a file: its errors, without values and numbers of items."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

TOOL = shutil.which("dciodvfy")


def errors(data: bytes, folder: Path) -> Counter[str]:
    """dciodvfy's errors for a file, without values."""
    file = folder / "file.dcm"
    file.write_bytes(data)
    assert TOOL is not None
    done = subprocess.run([TOOL, "-new", file], capture_output=True, timeout=60, check=False)
    found: Counter[str] = Counter()
    for line in done.stderr.decode("utf-8", "replace").splitlines():
        if line.startswith("Error"):
            text = re.sub(r"\[\d+\]", "[]", line)
            text = re.sub(r"<[^</>]*>(?= is| - (?:V|C|T)|$)", "<…>", text)
            text = re.sub(r"(?<==) ?<?[^<>]*>?$", "…", text)
            found[text] += 1
    return found
