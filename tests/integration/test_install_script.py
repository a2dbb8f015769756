"""The image's install script, run in the Debian under test as the image's build runs it; then Orthanc on its result."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import trees
from tests.builders import study, to_bytes
from tests.orthancs import Source, clinical_orthanc, deid_section, research_orthanc, source, until

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "plugin/install.sh"
SYSTEM_PYTHON = "/usr/bin/python3"

# The image is a Debian whose Python cannot make virtual environments yet; trixie is made such a one. (In sid the
# archive may have moved on since the tree was made, and would bring half a system along.)
BARE = """
set -e
if [ "$1" = trixie ]; then
  apt-get remove --quiet --yes python3-venv python3.13-venv
  ! python3 -c 'import ensurepip' 2>/dev/null
fi
shift; script=$1; prefix=$2; shift 2
sh "$script" "$prefix"
exec "$@"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Source, str]]:
    """Where the servers come from, and the folder in which the script installs before Orthanc starts."""
    here = source()
    if here.name == "machine":
        prefix = tmp_path / "opt/orthanc-deid"
        environment = os.environ | {"PYTHON": SYSTEM_PYTHON}
        done = subprocess.run(["sh", str(SCRIPT), str(prefix)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "PythonScript" in done.stdout
        yield here, str(prefix)
        shutil.rmtree(prefix)
        return
    tree = trees.prepare(here.name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", tree.wheels)
    monkeypatch.setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")

    def command(argv: list[str], binds: list[Path]) -> list[str]:
        script = ["/bin/sh", "-c", BARE, "sh", here.name, str(SCRIPT), "/opt/orthanc-deid", *argv]
        return tree.command(script, binds, scratch=True)

    yield dataclasses.replace(here, command=command), "/opt/orthanc-deid"


@pytest.mark.integration
def test_orthanc_runs_with_what_the_script_installed(installed: tuple[Source, str], tmp_path: Path) -> None:
    where, prefix = installed
    deid = deid_section(Python=f"{prefix}/venv/bin/python")
    with (
        research_orthanc(tmp_path / "research") as research,
        clinical_orthanc(tmp_path / "clinical", {"research": research}, deid, start=False) as clinical,
    ):
        clinical.source = where
        clinical.configuration["PythonScript"] = f"{prefix}/orthanc_deid_plugin.py"
        clinical.start(seconds=180)
        clinical.wait_ready()
        sent = clinical.store(to_bytes(study(1)[0]))
        assert sent["Status"] == "Success"
        until(research.instances, 60, "the de-identified instance at the peer")
        arrived = research.datasets()[0]
        assert arrived.PatientIdentityRemoved == "YES"

        # What the image's health check says of it, run with the Python that has nothing installed.
        probe = [SYSTEM_PYTHON, str(CHECKOUT / "plugin/healthcheck.py"), str(clinical.folder / "orthanc.json")]
        shown = subprocess.run(probe, capture_output=True, text=True, check=False)
        assert (shown.returncode, shown.stdout) == (0, "healthy\n")
