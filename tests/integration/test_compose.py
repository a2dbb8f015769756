"""The compose file and its image: what can be judged without an engine, and the whole of it where one answers."""

from __future__ import annotations

import gc
import json
import os
import shutil
import stat
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
import requests
from orthanc_deid.config import Config
from ruamel.yaml import YAML

from tests.builders import study, to_bytes
from tests.orthancs import free_port, until

CHECKOUT = Path(__file__).resolve().parents[2]
SHIPPED = ("docker-compose.yml", ".dockerignore", "LICENSE", "requirements.txt", "plugin", "profiles", "orthanc-config")
"""What compose needs of the checkout."""


def compose_command() -> list[str]:
    """Compose as a plugin of docker, or Debian's docker-compose; one of them is installed by ./test."""
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    assert shutil.which("docker-compose"), "apt-get install docker-compose"
    return ["docker-compose"]


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """A folder with what compose needs and secrets of its own, so that a checkout's own secrets stay untouched."""
    folder = tmp_path / "deployment"
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


@pytest.fixture
def composed(deployment: Path) -> dict[str, Any]:
    """The compose file as docker-compose itself reads it."""
    # The settings of whoever runs the tests must not decide what the file says.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DEID_", "PEER_"))}
    shown = subprocess.run(
        [*compose_command(), "config"], cwd=deployment, env=environment, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    result = YAML(typ="safe").load(shown.stdout)
    assert isinstance(result, dict)
    return result


def published(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(host address, container port) of each published port, in either of compose's two spellings."""
    for port in service["ports"]:
        if isinstance(port, str):
            address, _, target = port.rsplit(":", 2)
            yield address, target.removesuffix("/tcp")
        else:
            yield port["host_ip"], str(port["target"])


def mounted(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(source, target) of each volume, in either of compose's two spellings."""
    for volume in service["volumes"]:
        if isinstance(volume, str):
            source, target, *_ = volume.split(":")
            yield source, target
        else:
            yield volume["source"], volume["target"]


def image_environment() -> dict[str, str]:
    """The ENV of plugin/Dockerfile."""
    text = (CHECKOUT / "plugin/Dockerfile").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line.startswith("ENV "):
            found.update(word.split("=", 1) for word in line.removeprefix("ENV ").split())
    return found


def configuration(service: dict[str, Any], environment: dict[str, str], secret: Path) -> dict[str, Any]:
    """What the image's entry point makes of its files, its environment and its secrets, in that order."""

    def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
        for key, value in more.items():
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                merge(into[key], value)
            else:
                into[key] = value

    result: dict[str, Any] = {}
    for source, target in mounted(service):
        if target.startswith("/etc/orthanc/"):
            merge(result, json.loads(Path(source).read_text()))
    merge(result, json.loads(secret.read_text()))
    for name, value in environment.items():
        if name.startswith("ORTHANC__"):
            path = ["".join(word.capitalize() for word in part.split("_")) for part in name.split("__")[1:]]
            leaf: dict[str, Any] = {path[-1]: json.loads(value) if value.isdigit() else value}
            for part in reversed(path[:-1]):
                leaf = {part: leaf}
            merge(result, leaf)
    return result


def test_the_compose_file_is_valid_and_starts_a_clinical_and_a_research_server(composed: dict[str, Any]) -> None:
    assert set(composed["services"]) == {"clinical", "research"}
    for service in composed["services"].values():
        assert service["restart"] == "unless-stopped"
        assert service["init"] is True


def test_ports_are_published_on_the_loopback_only(composed: dict[str, Any]) -> None:
    for service in composed["services"].values():
        ports = list(published(service))
        assert {target for _, target in ports} == {"8042", "4242"}
        assert {address for address, _ in ports} == {"127.0.0.1"}


def test_what_must_outlive_a_container_lies_on_volumes(composed: dict[str, Any]) -> None:
    kept = {name: dict(mounted(service)) for name, service in composed["services"].items()}
    targets = {target: source for source, target in kept["clinical"].items()}
    for target in ("/var/lib/orthanc/db", "/var/lib/orthanc/orthanc-deid", "/var/lib/orthanc/orthanc-deid-key"):
        assert targets[target] in composed["volumes"]
    assert "/var/lib/orthanc/db" in kept["research"].values()
    key = Path(image_environment()["ORTHANC__DEID__KEY_FILE"])
    assert str(key.parent) in targets, "the master key would be lost with the container"


def test_both_servers_have_a_health_check(composed: dict[str, Any]) -> None:
    assert "/probes/test-aliveness.py" in composed["services"]["research"]["healthcheck"]["test"]
    dockerfile = (CHECKOUT / "plugin/Dockerfile").read_text()
    assert "HEALTHCHECK" in dockerfile
    assert '["python3", "/opt/orthanc-deid/healthcheck.py"]' in dockerfile


def test_secrets_come_as_files_and_are_new_each_time(composed: dict[str, Any], deployment: Path) -> None:
    passwords = []
    for name, service in composed["services"].items():
        (secret,) = service["secrets"]
        path = Path(composed["secrets"][secret["source"]]["file"])
        assert secret["target"].endswith(".json"), "the image reads /run/secrets/*.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        users = json.loads(path.read_text())["RegisteredUsers"]
        assert all(len(password) >= 32 for password in users.values())
        passwords += [password for user, password in users.items() if (name, user) != ("research", "gateway")]
    peer = json.loads((deployment / "secrets/clinical.json").read_text())["OrthancPeers"]["research"]
    passwords.append(peer["Password"])
    assert len(set(passwords)) == len(passwords)
    users = json.loads((deployment / "secrets/research.json").read_text())["RegisteredUsers"]
    assert users[peer["Username"]] == peer["Password"]
    assert not [password for password in passwords if password in json.dumps(composed)]


def test_secrets_that_may_be_in_use_are_never_overwritten(deployment: Path) -> None:
    before = (deployment / "secrets/clinical.json").read_text()
    again = subprocess.run(["sh", "plugin/make-secrets.sh"], cwd=deployment, capture_output=True, text=True)
    assert again.returncode == 1
    assert "nothing was changed" in again.stderr
    assert (deployment / "secrets/clinical.json").read_text() == before


def test_orthanc_gets_the_plugin_and_a_section_that_the_service_accepts(
    composed: dict[str, Any], deployment: Path
) -> None:
    clinical = composed["services"]["clinical"]
    environment = image_environment() | clinical["environment"]
    orthanc = configuration(clinical, environment, deployment / "secrets/clinical.json")
    assert orthanc["PythonScript"] == "/opt/orthanc-deid/orthanc_deid_plugin.py"
    assert orthanc["HttpPort"] == 8042
    assert orthanc.get("AuthenticationEnabled", True) is True, "users are registered but would not be asked for"
    config = Config.parse(orthanc["Deid"])
    peers = {name for project in config.projects.values() for name in project.destinations}
    assert peers, "no project sends anything to the research server"
    assert peers <= set(orthanc["OrthancPeers"])


def test_everything_that_is_copied_into_the_image_reaches_the_engine(deployment: Path) -> None:
    allowed = [line[1:] for line in (deployment / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        source
        for line in (deployment / "plugin/Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    ]
    assert copied
    for source in copied:
        assert (deployment / source).exists()
        assert source in allowed
    assert not [name for name in allowed if name.startswith("secrets")]


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    """A container engine, where one answers."""
    reason = None
    # The library leaves the socket open on which nobody answered; it is collected here, where that is no error.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            client = docker.from_env()
        except docker.errors.DockerException as error:
            reason = str(error)[:120]
        gc.collect()
    if reason is not None:
        pytest.skip(f"no container engine answers: {reason}")
    yield client
    client.close()


@pytest.mark.compose
@pytest.mark.timeout(1800)
def test_compose_brings_up_both_servers_and_an_instance_reaches_the_peer(
    engine: docker.DockerClient, deployment: Path
) -> None:
    ports = {name: free_port() for name in ("DEID_HTTP_PORT", "DEID_DICOM_PORT", "PEER_HTTP_PORT", "PEER_DICOM_PORT")}
    project = f"deid-test-{os.getpid()}"
    environment = os.environ | {name: str(port) for name, port in ports.items()}

    def compose(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*compose_command(), "--project-name", project, *words]
        return subprocess.run(command, cwd=deployment, env=environment, capture_output=True, text=True, check=False)

    def sign_in(name: str, port: int) -> tuple[requests.Session, str]:
        session = requests.Session()
        users = json.loads((deployment / f"secrets/{name}.json").read_text())["RegisteredUsers"]
        session.auth = ("admin", users["admin"])
        return session, f"http://127.0.0.1:{port}"

    try:
        up = compose("up", "--build", "--detach")
        assert up.returncode == 0, up.stderr
        wanted = {"label": f"com.docker.compose.project={project}"}
        until(
            lambda: (
                [c.attrs["State"]["Health"]["Status"] for c in engine.containers.list(filters=wanted)]
                == ["healthy", "healthy"]
            ),
            seconds=300,
            what="both containers to be healthy",
        )
        clinical, clinical_url = sign_in("clinical", ports["DEID_HTTP_PORT"])
        research, research_url = sign_in("research", ports["PEER_HTTP_PORT"])
        with clinical, research:
            assert requests.get(f"{clinical_url}/system", timeout=10).status_code == 401
            clinical.post(
                f"{clinical_url}/instances", data=to_bytes(study(1, slices=1)[0]), timeout=30
            ).raise_for_status()
            until(
                lambda: research.get(f"{research_url}/instances", timeout=10).json(),
                seconds=120,
                what="the de-identified instance at the peer",
            )
    finally:
        compose("down", "--volumes", "--remove-orphans")
