"""The install script on this machine: what it leaves, what it refuses. (With an Orthanc: tests/integration.)"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "plugin/install.sh"
SYSTEM_PYTHON = "/usr/bin/python3"


def install(prefix: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script on this machine, with the system's Python and not with that of the tests."""
    return subprocess.run(
        ["sh", str(SCRIPT), str(prefix)],
        env=os.environ | {"PYTHON": SYSTEM_PYTHON} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_environment_that_fits_is_kept_and_the_package_replaced(tmp_path: Path) -> None:
    prefix = tmp_path / "opt"
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--without-pip", str(prefix / "venv")], check=True)
    python = "import sys; print('%d.%d' % sys.version_info[:2])"
    mark = f'echo "$({SYSTEM_PYTHON} -c "{python}") $(cksum <{CHECKOUT}/requirements.txt)" >{prefix}/venv/installed'
    subprocess.run(["sh", "-c", mark], check=True)
    stale = prefix / "orthanc_deid/of_an_older_version.py"
    stale.parent.mkdir()
    stale.touch()

    again = install(prefix, PIP_NO_INDEX="1")  # there is no pip in it, and nothing may be downloaded
    assert again.returncode == 0, again.stderr
    assert "virtual environment" not in again.stdout
    assert not stale.exists()
    assert (prefix / "orthanc_deid/profiles/basic.yaml").is_file()
    shown = subprocess.run([prefix / "bin/orthanc-deid", "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert shown.stdout.startswith("orthanc-deid ")
    writable = [path for path in prefix.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert not writable, "another user could replace what Orthanc runs"


def test_an_interrupted_environment_is_made_again(tmp_path: Path) -> None:
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
