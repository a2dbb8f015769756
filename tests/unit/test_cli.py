"""The command `orthanc-deid`: its subcommands, exit codes and errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from orthanc_deid import __version__
from orthanc_deid.cli import COMMANDS, EX_CONFIG, main
from orthanc_deid.core.profile import Profile

CHECKOUT = Path(__file__).resolve().parents[2]
BASIC = CHECKOUT / "profiles" / "basic.yaml"


def configuration(folder: Path, **project: object) -> Path:
    """A file with a configuration of Orthanc."""
    path = folder / "orthanc.json"
    lung = {"Profile": "basic", "Destinations": [{"Peer": "research"}], **project}
    path.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "db"),
                "OrthancPeers": {"research": ["http://127.0.0.1:1/"]},
                "Deid": {"Projects": {"lung": lung}},
            }
        )
    )
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert command in capsys.readouterr().out


def test_the_console_script_and_the_module_are_the_same() -> None:
    for command in ([str(Path(sys.executable).parent / "orthanc-deid")], [sys.executable, "-m", "orthanc_deid"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, cwd="/")
        assert done.stdout == f"orthanc-deid {__version__}\n"


def test_help_loads_no_library_of_the_service() -> None:
    code = "import sys; sys.argv[1:] = ['--help']\nimport orthanc_deid.cli as cli\n"
    code += "try: cli.main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'pydicom', 'fastapi', 'dbos', 'sqlalchemy', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "[]\n"


def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["nonsense"], ["check"], ["serve", "--nonsense"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2


def test_check_accepts_what_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(configuration(tmp_path))]) == 0
    assert "lung" in capsys.readouterr().out


def test_check_tells_every_fault_and_exits_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, Release="never", Quiet=1, Destinations=[{"Peer": "nobody"}])
    assert main(["check", "--config", str(path)]) == EX_CONFIG
    told = capsys.readouterr().err
    assert {line.split(":")[0] for line in told.splitlines()} >= {
        "Deid.Projects.lung.Release",
        "Deid.Projects.lung.Quiet",
    }
    assert main(["check", "--config", str(tmp_path / "none.json")]) == EX_CONFIG


def test_validate_accepts_the_shipped_profiles_and_names_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(BASIC)]) == 0
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("nonsense: 1\n")
    assert main(["validate", str(BASIC), str(wrong)]) == 1
    shown = capsys.readouterr()
    assert f"{BASIC}: valid" in shown.out
    assert f"{wrong}: " in shown.err


def test_explain_speaks_of_every_action_of_a_sop_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(BASIC), "--sop-class", "CT Image Storage"]) == 0
    assert "(0010,0010)" in capsys.readouterr().out
    assert Profile.load(BASIC)
