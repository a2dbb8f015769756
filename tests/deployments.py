"""A deployment as an administrator makes it: the compose file, what its image needs, and secrets of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
SHIPPED = ("docker-compose.yml", ".dockerignore", "LICENSE", "requirements.txt", "plugin", "profiles", "orthanc-config")
"""What compose needs of the checkout."""


def compose_command() -> list[str]:
    """Compose as a plugin of docker, or Debian's docker-compose; one of them is installed by ./test."""
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    assert shutil.which("docker-compose"), "apt-get install docker-compose"
    return ["docker-compose"]


def make(folder: Path) -> Path:
    """Fill a new folder with what compose needs and secrets of its own; a checkout's own secrets stay untouched."""
    folder.mkdir()
    for name in SHIPPED:
        source = CHECKOUT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    subprocess.run(["sh", "plugin/make-secrets.sh"], cwd=folder, check=True, capture_output=True)
    return folder
