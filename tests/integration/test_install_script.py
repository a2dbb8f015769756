"""The image's install script, run in the Debian under test as the image's build runs it; then Orthanc on its result."""

from __future__ import annotations

import dataclasses
import json
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


def install(prefix: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script on this machine, with the system's Python and not with that of the tests."""
    return subprocess.run(
        ["sh", str(SCRIPT), str(prefix)],
        env=os.environ | {"PYTHON": SYSTEM_PYTHON} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Source, str]]:
    """Where the servers come from, and the folder in which the script installs before Orthanc starts."""
    here = source()
    if here.name == "machine":
        prefix = tmp_path / "opt/orthanc-deid"
        done = install(prefix)
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


def test_a_second_call_keeps_the_environment_and_replaces_the_package(tmp_path: Path) -> None:
    if source().name != "machine":
        pytest.skip("the same on every Debian; proven on the machine itself")
    prefix = tmp_path / "opt"
    assert install(prefix).returncode == 0
    stale = prefix / "orthanc_deid/of_an_older_version.py"
    stale.touch()
    made = (prefix / "venv/installed").stat().st_mtime_ns
    again = install(prefix, PIP_NO_INDEX="1")  # nothing may be downloaded
    assert again.returncode == 0, again.stderr
    assert not stale.exists()
    assert (prefix / "venv/installed").stat().st_mtime_ns == made
    command = [str(prefix / "bin/orthanc-deid"), "validate", str(prefix / "orthanc_deid/profiles/basic.yaml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    writable = [path for path in prefix.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert not writable, "another user could replace what Orthanc runs"


def test_an_interrupted_environment_is_made_again(tmp_path: Path) -> None:
    if source().name != "machine":
        pytest.skip("the same on every Debian; proven on the machine itself")
    failed = install(tmp_path / "opt", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert failed.returncode != 0
    assert (tmp_path / "opt/venv/bin/python").exists()
    assert not (tmp_path / "opt/venv/installed").exists()
    assert not (tmp_path / "opt/orthanc_deid").exists()


@pytest.mark.parametrize(
    ("version", "said"),
    [("3.10", "3.11 or later is needed"), ("", "no-such-python")],
)
def test_an_unfit_python_is_named_before_anything_is_written(tmp_path: Path, version: str, said: str) -> None:
    python = tmp_path / "no-such-python"
    if version:
        python.write_text(f"#!/bin/sh\ncase $2 in *print*) echo {version};; *) exit 1;; esac\n")
        python.chmod(0o755)
    refused = install(tmp_path / "opt", PYTHON=str(python))
    assert refused.returncode == 1
    assert said in refused.stderr
    assert not (tmp_path / "opt").exists()


def test_a_relative_prefix_is_refused() -> None:
    refused = install(Path("somewhere"))
    assert refused.returncode == 1
    assert "absolute path" in refused.stderr
    assert not Path("somewhere").exists()


def test_the_configuration_that_the_script_prints_is_json(tmp_path: Path) -> None:
    text = SCRIPT.read_text().split("needs:\n\n")[1].split("\n\nThe command")[0]
    section = json.loads("{" + text.replace("$prefix", str(tmp_path)) + "}")
    assert section["PythonScript"] == f"{tmp_path}/orthanc_deid_plugin.py"
    assert section["Deid"]["Python"] == f"{tmp_path}/venv/bin/python"
