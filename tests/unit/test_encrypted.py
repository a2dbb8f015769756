"""What was removed goes along only where recipients are named, and only they can open it."""

from __future__ import annotations

import io
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from orthanc_deid.cli import main
from orthanc_deid.config import Config, ConfigError
from orthanc_deid.core import encrypted
from orthanc_deid.core.deidentify import deidentify as run
from orthanc_deid.core.errors import Quarantined
from orthanc_deid.core.sinks import BytesSink
from orthanc_deid.core.source import Source
from orthanc_deid.identity import envelope

from tests import builders
from tests.engine import PROFILES, SUBJECT, basic
from tests.objects.base import origin
from tests.objects.documents import sr_comprehensive
from tests.objects.images import ct

PASSWORD = b"not the patient's"


class Recipient:
    """Somebody with a key and a certificate, in files."""

    def __init__(self, folder: Path, name: str, days: int = 9, bits: int = 2048, elliptic: bool = False) -> None:
        self.key = rsa.generate_private_key(65537, bits)
        signer = ec.generate_private_key(ec.SECP256R1()) if elliptic else self.key
        who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(who)
            .issuer_name(who)
            .public_key(signer.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=99))
            .not_valid_after(now + timedelta(days=days))
            .sign(signer, hashes.SHA256())
        )
        self.certificate_file, self.key_file = folder / f"{name}.pem", folder / f"{name}.key"
        self.certificate_file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        self.key_file.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(PASSWORD),
            )
        )
        self.password_file = folder / f"{name}.password"
        self.password_file.write_bytes(PASSWORD + b"\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipients")


@pytest.fixture(scope="module")
def owner(folder: Path) -> Recipient:
    return Recipient(folder, "owner")


@pytest.fixture(scope="module")
def other(folder: Path) -> Recipient:
    return Recipient(folder, "other")


def sealed(data: bytes, *recipients: Recipient) -> bytes:
    source, sink = Source.from_bytes(data), BytesSink()
    encrypt = envelope.encryptor([one.certificate for one in recipients])
    run(source, basic().plan(source.facts.sop_class), SUBJECT, sink, encrypt)
    return sink.getvalue()


@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("make", [ct, sr_comprehensive])
def test_a_recipient_gets_back_what_was_removed(make: object, syntax: str, owner: Recipient, other: Recipient) -> None:
    data = builders.to_bytes(make(origin(1, 1, 1, 1)), syntax)  # type: ignore[operator]
    source = pydicom.dcmread(io.BytesIO(data))
    out = sealed(data, owner, other)
    assert str(source.PatientName).encode() not in out
    for one in (owner, other):
        ((inner, content),) = encrypted.contents(Source.from_bytes(out))
        plain = envelope.decrypt(content, one.certificate, one.key)
        file = io.BytesIO(encrypted.attributes(plain, inner))
        back = pydicom.filereader.read_dataset(file, inner.endswith("1.2"), not inner.endswith("1.2.2"))
        assert back.PatientName == source.PatientName and back.PatientID == source.PatientID
        assert back.SOPInstanceUID == source.SOPInstanceUID
        # What came out as it was is not there a second time, and pixels never are.
        assert "Rows" not in back and "PixelData" not in back and "Modality" not in back


def test_nothing_goes_along_without_recipients() -> None:
    source, sink = Source.from_bytes(builders.to_bytes(ct(origin(1, 1, 1, 1)))), BytesSink()
    run(source, basic().plan(source.facts.sop_class), SUBJECT, sink)
    assert encrypted.contents(Source.from_bytes(sink.getvalue())) == []


def test_encrypted_attributes_of_the_input_go(owner: Recipient) -> None:
    again = sealed(sealed(builders.to_bytes(ct(origin(1, 1, 1, 1))), owner), owner)
    assert len(encrypted.contents(Source.from_bytes(again))) == 1


def test_nobody_else_can_open_it(owner: Recipient, other: Recipient) -> None:
    ((_, content),) = encrypted.contents(Source.from_bytes(sealed(builders.to_bytes(ct(origin(1, 1, 1, 1))), owner)))
    with pytest.raises(envelope.EnvelopeError):
        envelope.decrypt(content, other.certificate, other.key)
    with pytest.raises(envelope.EnvelopeError):
        envelope.decrypt(content[:-40], owner.certificate, owner.key)


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"days": -1}, "not valid at this time"),
        ({"bits": 1024}, "at least 2048 bits"),
        ({"elliptic": True}, "needs an RSA key"),
    ],
)
def test_certificates_that_cannot_be_used_are_refused(tmp_path: Path, how: dict[str, int], complaint: str) -> None:
    bad = Recipient(tmp_path, "bad", **how)
    section = {
        "Projects": {
            "lung": {
                "Profile": "basic",
                "Destinations": [{"Peer": "a"}],
                "EncryptTo": [str(bad.certificate_file), str(tmp_path / "none")],
            }
        }
    }
    with pytest.raises(ConfigError) as caught:
        Config.parse(section)
    first, second = caught.value.errors
    assert first.startswith("Deid.Projects.lung.EncryptTo[0]") and complaint in first
    assert second.startswith("Deid.Projects.lung.EncryptTo[1]") and "cannot be read" in second


def test_too_much_is_held(owner: Recipient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encrypted, "MAX_CONTENT", 100)
    with pytest.raises(Quarantined, match="too-large"):
        sealed(builders.to_bytes(ct(origin(1, 1, 1, 1))), owner)


def test_the_commands(tmp_path: Path, owner: Recipient, other: Recipient, capsys: pytest.CaptureFixture[str]) -> None:
    source = ct(origin(1, 1, 1, 1))
    (tmp_path / "in.dcm").write_bytes(builders.to_bytes(source))
    words = ["deidentify", "--profile", str(PROFILES / "basic.yaml"), "--names", "source", "--out", str(tmp_path / "o")]
    assert main([*words, "--encrypt-to", str(owner.certificate_file), str(tmp_path / "in.dcm")]) == 0
    (line,) = (tmp_path / "o.report.jsonl").read_text().splitlines()
    assert json.loads(line)["outcome"] == "deidentified"
    opener = ["decrypt", "--certificate", str(owner.certificate_file), "--key", str(owner.key_file)]
    opener += ["--password-file", str(owner.password_file)]
    capsys.readouterr()
    assert main([*opener, str(tmp_path / "o" / "in.dcm")]) == 0
    assert str(source.PatientName) in capsys.readouterr().out
    assert main([*opener, "--out", str(tmp_path / "back"), str(tmp_path / "o" / "in.dcm")]) == 0
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) == 0o600
    assert pydicom.dcmread(tmp_path / "back", force=True).PatientName == source.PatientName
    stranger = ["decrypt", "--certificate", str(other.certificate_file), "--key", str(other.key_file)]
    stranger += ["--password-file", str(other.password_file)]
    assert main([*stranger, str(tmp_path / "o" / "in.dcm")]) == 1
    assert main([*opener, str(tmp_path / "in.dcm")]) == 1
    said = capsys.readouterr().err
    assert "not encrypted for this certificate" in said and "carries no encrypted attributes" in said
    assert str(source.PatientName) not in said
    assert main([*words, "--encrypt-to", str(tmp_path / "none"), str(tmp_path / "in.dcm")]) == 2
