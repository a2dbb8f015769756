"""The trees' own rules; the trees themselves are proven by the integration tests that run in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import trees

TREE_LOCK = """\
# Locked.
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
    # via example
rich==14.0 \\
    --hash=sha256:dd
"""


def test_requirements_are_chosen_by_the_trees_python_and_keep_their_hashes() -> None:
    chosen = trees._without_markers(TREE_LOCK, {"python_full_version": "3.14.1"})
    assert chosen.splitlines() == ["numpy==2.5.5 --hash=sha256:bb --hash=sha256:cc", "rich==14.0 --hash=sha256:dd"]
    older = trees._without_markers(TREE_LOCK, {"python_full_version": "3.11.2"})
    assert older.startswith("numpy==2.4.6 --hash=sha256:aa\n")


@pytest.mark.parametrize(
    ("said", "suite", "expected"),
    [
        ("The following packages have unmet dependencies:\n orthanc", "sid", trees.TreeUnavailable),
        ("E: Package 'orthanc-python' has no installation candidate", "sid", trees.TreeUnavailable),
        ("The following packages have unmet dependencies:\n orthanc-python", "trixie", trees.TreeError),
        ("Err:1 Temporary failure resolving the mirror", "sid", trees.TreeError),
        ("E: Failed getting release file", "sid", trees.TreeError),
    ],
)
def test_only_a_sid_that_debian_cannot_install_is_unavailable(
    tmp_path: Path, said: str, suite: str, expected: type[Exception]
) -> None:
    log = tmp_path / "log"
    failing = [sys.executable, "-c", f"import sys; print({said!r}); sys.exit(100)"]
    with log.open("w") as out, pytest.raises(expected):
        trees._step(failing, suite, "apt-get install", out, log)


def test_a_half_made_tree_or_one_of_another_recipe_is_not_taken_for_a_tree(tmp_path: Path) -> None:
    assert trees._stamp(tmp_path) is None
    (tmp_path / "orthanc-deid-tree.json").write_text('{"recipe": "older"}')
    assert trees._stamp(tmp_path) is None
    (tmp_path / "orthanc-deid-tree.json").write_text(f'{{"recipe": "{trees._recipe()}", "python": "3.13"}}')
    assert trees._stamp(tmp_path) is not None


def test_trees_lie_outside_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DEID_CACHE", raising=False)
    assert trees.CHECKOUT not in trees.cache().parents
    monkeypatch.setenv("DEID_CACHE", str(tmp_path))
    assert trees.cache() == tmp_path / "trees"


def test_a_folder_inside_another_is_bound_once(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    argv = trees.enter(Path("/tree"), ["/bin/true"], [inner, tmp_path / "a", tmp_path / "a"])
    assert argv[argv.index("/tree") :] == ["/tree", "no", "1", str((tmp_path / "a").resolve()), "/bin/true"]


def test_the_command_line_names_its_uses() -> None:
    shown = subprocess.run([sys.executable, trees.__file__], capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert "build" in shown.stderr
