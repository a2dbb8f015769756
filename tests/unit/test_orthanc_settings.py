"""Peers, modalities and DICOMweb servers as Orthanc's configuration writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from orthanc_deid.orthanc.settings import Modality, WebService, modalities, web_services


def services(**entries: Any) -> tuple[dict[str, WebService], list[str]]:
    """What is read of a section of web services, and its faults."""
    faults: list[str] = []
    return web_services(entries, "OrthancPeers", faults), faults


def test_a_list_and_an_object_say_the_same() -> None:
    found, faults = services(
        bare=["http://peer:8042"],
        list=["http://peer/", "user", "word"],
        object={"Url": "http://peer", "Username": "user", "Password": "word"},
        old={"URL": "peer:8042"},
    )
    assert faults == []
    assert found["bare"] == WebService("bare", "http://peer:8042/")
    assert found["old"].url == "http://peer:8042/"
    assert found["list"] == WebService("list", "http://peer/", "user", "word")
    assert found["object"] == WebService("object", "http://peer/", "user", "word")


def test_everything_of_an_object_is_read() -> None:
    found, faults = services(
        one={
            "Url": "https://peer/",
            "HttpHeaders": {"Token": "x"},
            "CertificateFile": "/etc/client.crt",
            "CertificateKeyFile": "/etc/client.key",
            "CertificateKeyPassword": "word",
            "Pkcs11": True,
            "Timeout": 42,
            "HasDelete": False,
        }
    )
    assert faults == []
    one = found["one"]
    assert (one.certificate, one.key, one.key_password) == (Path("/etc/client.crt"), Path("/etc/client.key"), "word")
    assert (one.pkcs11, one.timeout, one.headers, one.properties) == (True, 42, {"Token": "x"}, {"HasDelete": False})


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("http://peer/", ": has to be a list"),
        ([], ": has to be [URL]"),
        (["http://peer/", "user"], ": has to be [URL]"),
        (["gopher://peer/"], ": has no address"),
        ({}, ": has no address"),
        ({"Url": 3}, ".Url: has to be a text"),
        ({"Url": "http://peer/", "Timeout": "60"}, ".Timeout: "),
        ({"Url": "http://peer/", "Timeout": -1}, ".Timeout: "),
        ({"Url": "http://peer/", "Pkcs11": "no"}, ".Pkcs11: "),
        ({"Url": "http://peer/", "HttpHeaders": ["x"]}, ".HttpHeaders: "),
    ],
)
def test_what_orthanc_refuses_is_a_fault_that_shows_no_value(entry: Any, fault: str) -> None:
    found, faults = services(one=entry)
    assert not found
    assert [text[: len("OrthancPeers.one" + fault)] for text in faults] == ["OrthancPeers.one" + fault]
    assert "gopher" not in faults[0]


def test_a_modality_in_both_forms() -> None:
    faults: list[str] = []
    found = modalities(
        {
            "short": ["PACS", "pacs.example", "104"],
            "long": {
                "AET": "PACS",
                "Host": "pacs.example",
                "Port": 104,
                "Manufacturer": "Vitrea",
                "AllowStore": False,
                "AllowNAction": False,
                "AllowTranscoding": False,
                "UseDicomTls": True,
                "LocalAet": "GATEWAY",
                "Timeout": 5,
                "RetrieveMethod": "C-GET",
            },
        },
        "DicomModalities",
        faults,
    )
    assert faults == []
    assert found["short"] == Modality("short", "PACS", "pacs.example", 104)
    one = found["long"]
    assert (one.allow_store, one.allow_storage_commitment, one.allow_transcoding, one.allow_find) == (
        *(False, False, False),
        True,
    )
    assert (one.use_dicom_tls, one.local_aet, one.timeout, one.manufacturer) == (True, "GATEWAY", 5, "Vitrea")
    assert one.properties == {"RetrieveMethod": "C-GET"}


@pytest.mark.parametrize(
    "entry", ["x", ["PACS", "host"], ["", "host", 104], ["PACS", "host", 70000], ["PACS", "host", True], {"AET": 3}]
)
def test_a_modality_that_orthanc_refuses_is_a_fault(entry: Any) -> None:
    faults: list[str] = []
    assert modalities({"one": entry}, "DicomModalities", faults) == {}
    assert len(faults) == 1


def test_a_section_of_another_kind_is_a_fault() -> None:
    faults: list[str] = []
    assert web_services([], "OrthancPeers", faults) == {}
    assert web_services(None, "OrthancPeers", faults) == {}
    assert faults == ["OrthancPeers: has to be an object"]


def test_nothing_but_names_is_shown() -> None:
    found, _ = services(one=["http://user:inner@peer/", "user", "the password"])
    assert repr(found["one"]) == "WebService(name='one')"
