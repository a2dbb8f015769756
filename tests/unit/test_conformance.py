"""The conformance statement: what it says of a profile, how it is written, and the command that writes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from orthanc_deid.cli import main
from orthanc_deid.core.conformance import Statement, statement
from orthanc_deid.core.conformance_tables import Section, Table
from orthanc_deid.core.conformance_view import as_html, as_text
from orthanc_deid.core.profile import Profile

PROFILES = Path(__file__).parents[2] / "profiles"


def parsed(**content: Any) -> Profile:
    return Profile.parse({"name": "test", **content})


def section(profile: Profile, title: str) -> Section:
    (found,) = [one for one in statement(profile).sections if title in one.title]
    return found


def rows(profile: Profile, title: str) -> dict[str, tuple[str, ...]]:
    table = section(profile, title).table
    return {} if table is None else {row[1]: row for row in table.rows}


def test_facts_identify_what_is_signed() -> None:
    profile = parsed(description="made for this test")
    facts = dict(statement(profile).facts)
    assert profile.digest in facts.values()
    assert facts["Profile"] == "test"
    assert facts["Product"].startswith("orthanc-deid ")
    assert "2026d" in facts["Standard"]
    assert statement(profile).subtitle == "made for this test"
    assert len(statement(profile).signatures) == 3


def test_a_deviation_is_shown_beside_what_would_happen_without_it() -> None:
    profile = parsed(
        attributes=[
            {"attribute": "SeriesDate", "action": "dummy", "reason": "viewers want one"},
            {"attribute": "StationName", "action": "set", "value": "SCANNER", "reason": "one word for all"},
            {"attribute": "Manufacturer", "action": "remove", "reason": "few makers here"},
        ]
    )
    found = rows(profile, "Deviations")
    assert found["SeriesDate"][2:] == ("remove or empty or dummy", "dummy", "viewers want one")
    assert found["StationName"][3] == "set to SCANNER"
    assert found["Manufacturer"][2:4] == ("keep", "remove")
    assert rows(parsed(), "Deviations") == {}
    assert section(parsed(), "Deviations").paragraphs[0].startswith("None")


def test_references_that_are_kept_are_deviations() -> None:
    assert rows(parsed(references="keep"), "Deviations")["SourceImageSequence"][3] == "keep, UIDs mapped"


def test_a_private_attribute_that_is_kept_is_a_deviation() -> None:
    entry = {"attribute": "(0019,xx0C)", "creator": "SOME MAKER", "vr": "DS", "action": "keep", "reason": "a number"}
    found = rows(parsed(attributes=[entry]), "Deviations")
    assert found["private, SOME MAKER"] == (
        "(0019,xx0c)",
        "private, SOME MAKER",
        "by the options",
        "keep, cleaned",
        "a number",
    )


def test_decided_conflicts_are_shown_with_both_options() -> None:
    found = rows(Profile.load(PROFILES / "radiotherapy.yaml"), "Conflicts")
    assert len(found) == 11
    assert found["DateOfManufacture"][2:4] == (
        "retain-device-identity K, retain-longitudinal-modified-dates C",
        "remove",
    )
    assert found["BeamHoldTransitionDateTime"][3] == "shift"
    assert not [one for one in statement(parsed()).sections if "Conflicts" in one.title]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "removed, emptied or replaced by constants"),
        ({"options": ["retain-longitudinal-full-dates"]}, "Dates and times: as they are"),
        (
            {"options": ["retain-longitudinal-modified-dates"], "dates": {"times": "keep", "whole-weeks": True}},
            "whole weeks only",
        ),
        ({"options": ["retain-longitudinal-modified-dates"], "dates": {"times": "shift"}}, "Times of day move too"),
        ({"options": ["retain-longitudinal-modified-dates"], "dates": {"times": "round"}}, "Times of day are rounded"),
        ({"options": ["retain-patient-characteristics"], "ages": {"cap": 89}}, "all over 89 years as 090Y"),
        (
            {"options": ["retain-patient-characteristics"], "ages": {"band": 5, "representative": "lower"}},
            "bands of 5 years, given as the lower one",
        ),
        ({"options": ["clean-descriptors"], "text": {"allow": ["qux"]}}, "Allowed besides by this profile: qux."),
        ({"options": ["clean-descriptors"], "text": {"deny": ["quux"]}}, "Denied by it: quux."),
        ({"encapsulated": "keep"}, "Encapsulated documents: kept as they are"),
        ({"raw-data": "keep"}, "Raw data: kept as they are"),
        ({"options": ["retain-uids"]}, "UIDs: as they are"),
    ],
)  # fmt: skip
def test_every_choice_is_said(content: dict[str, Any], words: str) -> None:
    assert words in " ".join(section(parsed(**content), "How dates").points)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"options": ["retain-longitudinal-full-dates"]}, "It keeps real dates"),
        ({"options": ["retain-device-identity"]}, "identity of devices"),
        ({"options": ["retain-institution-identity"]}, "identity of the institution"),
        ({"options": ["retain-uids"]}, "It keeps UIDs"),
        ({"encapsulated": "keep"}, "nobody has looked into them"),
        ({"raw-data": "keep"}, "nobody can say what is in them"),
    ],
)
def test_what_makes_outputs_less_safe_is_said(content: dict[str, Any], words: str) -> None:
    assert words in " ".join(section(parsed(**content), "does not do").points)
    assert words not in " ".join(section(parsed(), "does not do").points)


def test_pixels_and_faces_are_never_claimed() -> None:
    for path in PROFILES.glob("*.yaml"):
        points = " ".join(section(Profile.load(path), "does not do").points)
        assert "does not clean pixels" in points and "faces" in points


def test_private_attributes_that_stay_are_listed_with_their_provenance() -> None:
    profile = parsed(options=["retain-safe-private"])
    table = section(profile, "Private attributes that stay").table
    assert table is not None
    assert {row[-1] for row in table.rows} >= {"E.3.10-1", "TCIA"}
    siemens = [row for row in table.rows if row[0] == "SIEMENS MR HEADER" and row[1] == "0019"]
    assert any("0C IS" in row[3].split(", ") for row in siemens)
    assert not [one for one in statement(parsed()).sections if "Private attributes that stay" in one.title]


def test_what_goes_along_encrypted_makes_outputs_re_identifiable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipient = certificate(tmp_path / "recipient.pem", "Trust Centre & Sons")
    out = tmp_path / "out.html"
    arguments = ["conformance", str(PROFILES / "basic.yaml"), "--encrypt-to", str(tmp_path / "recipient.pem")]
    assert main([*arguments, "--out", str(out)]) == 0
    page = out.read_text("utf-8")
    assert "THE OUTPUTS CAN BE RE-IDENTIFIED" in page
    assert recipient.fingerprint(hashes.SHA256()).hex() in page
    assert "Trust Centre &amp; Sons" in page
    assert recipient.not_valid_after_utc.date().isoformat() in page
    plain = as_text(statement(parsed()))
    assert "RE-IDENTIFIED" not in plain and "sends nothing along that was removed" in " ".join(plain.split())
    assert main(["conformance", str(PROFILES / "basic.yaml"), "--encrypt-to", str(out)]) == 2
    assert "is no certificate" in capsys.readouterr().err


def certificate(path: Path, name: str) -> x509.Certificate:
    """Write a certificate as a recipient has it; its key is not needed."""
    key = rsa.generate_private_key(65537, 2048)
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    made = builder.not_valid_before(now).not_valid_after(now + timedelta(days=9)).sign(key, hashes.SHA256())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return made


HOSTILE = Statement(
    title="a <b> & 'c'",
    subtitle='"<script>alert(1)</script>"',
    facts=(("<i>", "</table>"),),
    sections=(
        Section("</h2><img src=x>", ("<p onclick=x>",), ("</ul>",), Table(("<th>",), (("</td><a href=x>",), ("",)))),
    ),
    signatures=("</section>",),
)


def test_html_is_escaped_everywhere() -> None:
    page = as_html(HOSTILE)
    for text in ("<b>", "<script", "<img", "<i>", "<p onclick", "<a href=x", "</ul></ul>"):
        assert text not in page
    assert page.count("</section>") == 2
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_text_has_every_cell_and_breaks_long_ones() -> None:
    long = "word " * 60
    text = as_text(Statement("T", "", (("a", "b"),), (Section("S", table=Table(("x", "y"), ((long, "end"),))),), ()))
    assert text.count("word") == 60
    assert max(map(len, text.splitlines())) < 130
    assert "end" in text
    empty = as_text(Statement("T", "", (("a", "b"),), (Section("S", table=Table(("x",), ())),), ()))
    assert "(none)" in empty


def test_command_writes_text_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", str(PROFILES / "basic.yaml")]) == 0
    assert capsys.readouterr().out == as_text(statement(Profile.load(PROFILES / "basic.yaml")))


@pytest.mark.parametrize(
    ("name", "arguments", "is_html"),
    [
        ("basic.html", [], True),
        ("basic.txt", [], False),
        ("basic.txt", ["--format", "html"], True),
        ("basic.html", ["--format", "text"], False),
    ],
)
def test_command_writes_a_file(tmp_path: Path, name: str, arguments: list[str], is_html: bool) -> None:
    out = tmp_path / name
    assert main(["conformance", str(PROFILES / "basic.yaml"), "--out", str(out), *arguments]) == 0
    assert out.read_text("utf-8").startswith("<!DOCTYPE html>") is is_html
    assert list(tmp_path.iterdir()) == [out]


def test_command_refuses_a_profile_with_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: X\nextra: 1\n")
    assert main(["conformance", str(broken), "--out", str(tmp_path / "out.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--before", "."], "belong together"),
        (["--after", "."], "belong together"),
        (["--report", "x"], "belong to --before and --after"),
        (["--key-file", "x"], "belong to --before and --after"),
        (["--encrypt-to", "x", "--before", ".", "--after", "."], "belongs to the statement"),
        (["--before", ".", "--after", "no-such-folder"], "no such folder"),
    ],
)
def test_command_refuses_half_a_comparison(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conformance", str(PROFILES / "basic.yaml"), *arguments]) == 2
    assert complaint in capsys.readouterr().err
