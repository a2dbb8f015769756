"""Peers as administrators have them: with TLS of their own authority, passwords that change, and a way only through
Orthanc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import flow
from tests.certificates import Authority, Front
from tests.orthancs import Orthanc, clinical_orthanc, research_orthanc, until

pytestmark = [pytest.mark.integration, pytest.mark.one_orthanc]

USER, PASSWORD = "gateway", "swordfish-of-the-peer"


@contextmanager
def secure_peer(folder: Path, authority: Authority, name: str = "127.0.0.1") -> Iterator[tuple[Orthanc, str]]:
    """A peer that asks for a password, and its address with TLS, by a certificate for `name`."""
    with research_orthanc(folder, AuthenticationEnabled=True, RegisteredUsers={USER: PASSWORD}) as peer:
        front = Front(*authority.issue(name), peer.http_port)
        try:
            yield peer, f"https://127.0.0.1:{front.port}/"
        finally:
            front.close()


def trouble(clinical: Orthanc) -> Any:
    """What the service says of its peer."""
    service = clinical.health().get("Service") or {}
    return next((one["Reason"] for one in service.get("Troubles", []) if one["Part"] == "peer:research"), None)


def test_a_peer_with_tls_of_its_own_authority_and_a_password_that_changes(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    files = flow.ct_series(1, slices=3)
    with secure_peer(tmp_path / "r", authority) as (peer, url):
        settings = {"Url": url, "Username": USER, "Password": PASSWORD, "HttpHeaders": {"Token": "seal-of-peer"}}
        with clinical_orthanc(
            tmp_path / "c", OrthancPeers={"research": settings}, HttpsCACertificates=str(authority.file)
        ) as clinical:
            clinical.store(files[0])
            flow.settled(clinical, 1)
            # Wrong from now on: everything waits, and it is said why.
            peer.stop()
            peer.configuration["RegisteredUsers"] = {USER: "another"}
            peer.start()
            clinical.store(files[1])
            until(lambda: trouble(clinical) == "unauthorized", 60, "the wrong password to be told from a dead peer")
            assert len(peer.instances()) == 1
            # Dead: told from that.
            peer.stop()
            until(lambda: trouble(clinical) == "down", 60, "the dead peer to be told from a wrong password")
            clinical.store(files[2])
            peer.configuration["RegisteredUsers"] = {USER: PASSWORD}
            peer.start()
            rows = flow.settled(clinical, 3)
            outputs = flow.expected(clinical, files)
            flow.check_ledger(rows, outputs)
            flow.check_peer(peer, outputs)
            assert trouble(clinical) is None
            # The settings stay where they are.
            hidden = {"password": PASSWORD, "header": "seal-of-peer"}
            flow.sweep(flow.identifying((1,)) | hidden, clinical, peer)
            arguments = Path(f"/proc/{clinical.service_pid}/cmdline").read_bytes()
            environment = Path(f"/proc/{clinical.service_pid}/environ").read_bytes()
            answers = [clinical.get_bytes(path) for path in ("/deid/projects", "/deid/openapi.json", "/deid/jobs")]
            for where in (arguments, environment, *answers):
                assert not [value for value in hidden.values() if value.encode() in where]


@pytest.mark.parametrize("what", ["nobody vouches for it", "another name"])
def test_a_peer_whose_certificate_is_not_trusted_gets_nothing(tmp_path: Path, what: str) -> None:
    authority = Authority(tmp_path / "ca")
    name = "localhost" if what == "another name" else "127.0.0.1"
    with secure_peer(tmp_path / "r", authority, name) as (peer, url):
        trusted = {"HttpsCACertificates": str(authority.file)} if what == "another name" else {}
        with clinical_orthanc(
            tmp_path / "c",
            OrthancPeers={"research": [url, USER, PASSWORD]},
            **trusted,
        ) as clinical:
            clinical.store(flow.ct_series(2, slices=1)[0])
            until(lambda: trouble(clinical) == "untrusted", 60, "the certificate to be refused")
            assert [row.state for row in flow.ledger(clinical)] == ["released"]
            assert not peer.instances()


def test_a_peer_in_orthancs_database_is_reached_through_orthanc(tmp_path: Path) -> None:
    files = flow.ct_series(3, slices=2)
    with (
        research_orthanc(tmp_path / "r", AuthenticationEnabled=True, RegisteredUsers={USER: PASSWORD}) as peer,
        clinical_orthanc(tmp_path / "c", OrthancPeersInDatabase=True) as clinical,
    ):
        place = "/peers/research"
        assert clinical.request("PUT", place, json={"Url": peer.url, "Username": USER, "Password": "wrong"}).ok
        clinical.store(files[0])
        until(lambda: trouble(clinical) == "down", 60, "the peer to let nobody in")
        assert clinical.request("PUT", place, json={"Url": peer.url, "Username": USER, "Password": PASSWORD}).ok
        clinical.store(files[1])
        rows = flow.settled(clinical, 2)
        outputs = flow.expected(clinical, files)
        flow.check_ledger(rows, outputs)
        flow.check_peer(peer, outputs)
        assert '"reason": "not-configured"' in clinical.log.read_text()
