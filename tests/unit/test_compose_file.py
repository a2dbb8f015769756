"""The compose file and its image, as far as they can be judged without an engine. (With one: tests/integration.)"""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from orthanc_deid import startup
from ruamel.yaml import YAML

from tests import deployments

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """A deployment of this test's own."""
    return deployments.make(tmp_path / "deployment")


@pytest.fixture
def composed(whole: dict[str, Any]) -> dict[str, Any]:
    """What is started without a profile."""
    services = {name: service for name, service in whole["services"].items() if not service.get("profiles")}
    return {**whole, "services": services}


@pytest.fixture
def scaled(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the profile `scale` adds."""
    return {name: service for name, service in whole["services"].items() if service.get("profiles") == ["scale"]}


@pytest.fixture
def whole(deployment: Path) -> dict[str, Any]:
    """The compose file as docker-compose itself reads it."""
    # The settings of whoever runs the tests must not decide what the file says.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DEID_", "PEER_"))}
    shown = subprocess.run(
        [*deployments.compose_command(), "--profile", "scale", "config"],
        cwd=deployment,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
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

    result: dict[str, Any] = {"StorageDirectory": "/var/lib/orthanc/db"}  # the image's own default
    for source, target in mounted(service):
        if target.startswith("/etc/orthanc/"):
            merge(result, startup.load(Path(source)))
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
    begun = startup.from_configuration(orthanc)
    config = begun.configure()
    assert any(project.destinations for project in config.projects.values()), "nothing would reach the research server"
    kept = {target for _, target in mounted(clinical)}
    assert {str(config.data_directory), str(config.key_file.parent)} <= kept, "lost with the container"


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


# The profile `scale`


def test_the_profile_adds_a_database_two_orthancs_on_one_index_and_two_more_services(
    scaled: dict[str, dict[str, Any]], whole: dict[str, Any]
) -> None:
    assert set(scaled) == {"postgres", "scaled-1", "scaled-2", "service-3", "service-4"}
    kept = {name: {target: source for source, target in mounted(service)} for name, service in scaled.items()}
    both = [kept["scaled-1"], kept["scaled-2"]]
    assert len({volumes["/var/lib/orthanc/db"] for volumes in both}) == 1, "one storage"
    four = [kept[name] for name in scaled if name != "postgres"]
    assert len({volumes["/var/lib/orthanc/orthanc-deid-key"] for volumes in four}) == 1, "one master key"
    assert len({volumes["/var/lib/orthanc/orthanc-deid"] for volumes in four}) == 4, "an outbox for each service"
    for volumes in kept.values():
        assert {source for source in volumes.values() if not source.startswith(("/", "."))} <= set(whole["volumes"])
    assert kept["postgres"]["/var/lib/postgresql/data"] in whole["volumes"]
    for service in scaled.values():
        assert service["restart"] == "unless-stopped", "a service that lost its lease ends, and has to be started again"
        for address, _ in published({"ports": service.get("ports", [])}):
            assert address == "127.0.0.1"
    assert {scaled[name]["network_mode"] for name in ("service-3", "service-4")} == {
        "service:scaled-1",
        "service:scaled-2",
    }


def test_the_scaled_orthancs_and_services_get_configurations_that_hold(
    scaled: dict[str, dict[str, Any]], deployment: Path
) -> None:
    secrets = deployment / "secrets"
    text = (deployment / "orthanc-config/scale.json").read_text()
    # Within the containers the secrets stand where the file says.
    for service in ("scaled-1", "service-3"):
        targets = {secret["target"]: secret["source"] for secret in scaled[service]["secrets"]}
        assert (targets["database"], targets["orthanc"]) == ("deid-database", "orthanc-service")
    text = text.replace("/run/secrets/database", str(secrets / "deid-database"))
    text = text.replace("/run/secrets/orthanc", str(secrets / "orthanc-service"))
    folder = deployment / "etc"
    folder.mkdir()
    (folder / "scale.json").write_text(text)
    (folder / "secrets.json").write_text((secrets / "scale.json").read_text())
    begun = startup.read(str(folder))
    config = begun.configure()
    assert config.database == "postgresql://deid@postgres:5432/deid"
    assert begun.url == "http://127.0.0.1:8042"
    word = (secrets / "orthanc-service").read_text()
    assert begun.authorization == "Basic " + base64.b64encode(f"service:{word}".encode()).decode()
    users = json.loads((secrets / "scale.json").read_text())["RegisteredUsers"]
    assert users["service"] == word
    assert scaled["service-3"]["entrypoint"][-1] == "/etc/orthanc-deid"
    orthanc = configuration(
        {"volumes": [f"{deployment}/orthanc-config/scale.json:/etc/orthanc/scale.json:ro"]}, {}, secrets / "scale.json"
    )
    assert orthanc["PostgreSQL"]["EnableIndex"] is True
    assert orthanc["PostgreSQL"]["Lock"] is False, "the second Orthanc would not start"
    assert orthanc["PostgreSQL"]["Password"] == (secrets / "orthanc-database").read_text()


def test_the_secrets_of_the_profile_are_random_and_private_and_stand_in_no_other_file(
    whole: dict[str, Any], deployment: Path
) -> None:
    names = ("postgres", "deid-database", "orthanc-database", "orthanc-service")
    words = [(deployment / "secrets" / name).read_text() for name in names]
    assert len(set(words)) == len(words)
    assert all(len(word) >= 32 for word in words)
    for name in (*names, "scale.json"):
        mode = stat.S_IMODE((deployment / "secrets" / name).stat().st_mode)
        # PostgreSQL's image makes the databases as a user of its own, and a container sees the mode that stands here.
        assert mode == (0o644 if name.endswith("-database") else 0o600)
    assert stat.S_IMODE((deployment / "secrets").stat().st_mode) == 0o700
    assert not [word for word in words if word in json.dumps(whole)]
    given = {source for service in whole["services"].values() for source in _sources(service)}
    assert given == set(whole["secrets"])


def _sources(service: dict[str, Any]) -> list[str]:
    return [secret if isinstance(secret, str) else secret["source"] for secret in service["secrets"]]
