"""The compose file brought up, wherever a container engine answers."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest
import requests

from tests import deployments
from tests.builders import study, to_bytes
from tests.orthancs import free_port, until


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """A deployment of this test's own."""
    return deployments.make(tmp_path / "deployment")


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
        command = [*deployments.compose_command(), "--project-name", project, *words]
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
