"""The whole section is checked at once, every fault with its path; what is not built yet is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from orthanc_deid.config import Config, Destination
from orthanc_deid.errors import ConfigError


def project(**keys: Any) -> dict[str, Any]:
    return {"Profile": "basic", "Destinations": [{"Peer": "research"}]} | keys


def section(**keys: Any) -> dict[str, Any]:
    return {"Projects": {"lung": project(**keys)}}


def errors(value: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Config.parse(value, load_profiles=False)
    assert str(caught.value) == "\n".join(caught.value.errors)
    return list(caught.value.errors)


def test_defaults_are_the_contracts(tmp_path: Path) -> None:
    config = Config.parse(section(), data_directory=tmp_path)
    assert config.service == "spawn"
    assert config.python is None
    assert (config.database, config.key_file) == (tmp_path / "deid.sqlite3", tmp_path / "master.key")
    assert config.workers >= 1
    assert (config.profiles / "basic.yaml").is_file()
    lung = config.projects["lung"]
    assert lung.profile is not None
    assert lung.destinations == (Destination("peer", "research"),)
    assert lung.match.empty
    assert (lung.release, lung.quiet_seconds, lung.incomplete) == ("study", 60.0, "release-rest")
    assert (lung.keep_research_copy, lung.keep_original, lung.pseudonyms) == (False, True, "keyed")


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine")
    config = Config.parse(
        {
            "Python": "/usr/bin/python3",
            "Service": "spawn",
            "Database": str(tmp_path / "db"),
            "KeyFile": str(tmp_path / "key"),
            "Profiles": str(tmp_path),
            "Workers": 3,
            "Projects": {
                "lung": {
                    "Profile": "mine.yaml",
                    "Match": {
                        "RemoteAET": "CT1|CT2",
                        "CalledAET": "DEID",
                        "Modality": ["CT", "MR"],
                        "0008,1030": "LUNG.*",
                    },
                    "Destinations": [{"Peer": "a"}, {"Peer": "b"}],
                    "KeepResearchCopy": True,
                    "KeepOriginal": True,
                    "Release": "instance",
                    "QuietSeconds": 0.5,
                    "Incomplete": "hold",
                    "Pseudonyms": "keyed",
                    "Domains": {"SITE_A": "a", "*": "rest"},
                }
            },
        },
        load_profiles=False,
    )
    assert (config.python, config.workers) == ("/usr/bin/python3", 3)
    assert (config.database, config.key_file) == (tmp_path / "db", tmp_path / "key")
    lung = config.projects["lung"]
    assert lung.profile_path == tmp_path / "mine.yaml"
    assert [(item.kind, item.tag) for item in lung.match.conditions] == [
        ("remote_aet", None),
        ("called_aet", None),
        ("attribute", 0x00080060),
        ("attribute", 0x00081030),
    ]
    assert [item.name for item in lung.destinations] == ["a", "b"]
    assert (lung.release, lung.quiet_seconds, lung.incomplete, lung.keep_research_copy) == (
        "instance",
        0.5,
        "hold",
        True,
    )
    assert [lung.domain(title) for title in ("SITE_A", "SITE_A ", "OTHER", None)] == ["a", "a", "rest", "rest"]


def test_the_default_domain_stays_where_only_some_are_named() -> None:
    lung = Config.parse(section(Domains={"SITE_A": "a"}), load_profiles=False).projects["lung"]
    assert [lung.domain(title) for title in ("SITE_A", "X", None)] == ["a", "default", "default"]
    assert lung.domains == {"*": "default", "SITE_A": "a"}, "workers look callers up here"


@pytest.mark.parametrize(
    ("pattern", "value", "matched"),
    [
        ("CT1", "CT1", True),
        ("CT1", "CT10", False),
        ("CT.*", "CT10", True),
        ("LUNG", "LUNG CA", False),
        ("a|b", "b", True),
    ],
)
def test_a_condition_matches_whole_values(pattern: str, value: str, matched: bool) -> None:
    lung = Config.parse(section(Match={"RemoteAET": pattern}), load_profiles=False).projects["lung"]
    assert lung.match.conditions[0].matches([value]) is matched
    assert lung.match.conditions[0].matches(["nothing", value]) is matched
    assert not lung.match.conditions[0].matches([])


def test_all_faults_are_told_at_once_with_their_paths() -> None:
    told = errors(
        {
            "Wrong": 1,
            "Workers": 0,
            "Profiles": "/nowhere/at all",
            "Projects": {
                "a b": project(),
                "one": project(Release="never", QuietSeconds="soon", Extra=1, Match={"Modal": "CT", "StudyDate": "("}),
                "two": {},
                "three": {"Profile": "basic"},
                "four": project(Domains={"much too long for an AE title": "x"}, Profile="../basic"),
                "five": project(Destinations=[{"Peer": ""}, {"Pear": "x"}]),
                "six": project(Destinations=[{"Peer": "x"}, {"Peer": "x"}], Match={"Modality": []}),
            },
        }
    )
    paths = {line.split(": ")[0] for line in told}
    assert paths == {
        "Deid.Wrong",
        "Deid.Workers",
        "Deid.Profiles",
        "Deid.Projects.a b",
        "Deid.Projects.one.Release",
        "Deid.Projects.one.QuietSeconds",
        "Deid.Projects.one.Extra",
        "Deid.Projects.one.Match.Modal",
        "Deid.Projects.one.Match.StudyDate",
        "Deid.Projects.two.Profile",
        "Deid.Projects.three.Destinations",
        "Deid.Projects.four.Domains.much too long for an AE title",
        "Deid.Projects.four.Profile",
        "Deid.Projects.five.Destinations[0].Peer",
        "Deid.Projects.five.Destinations[1].Pear",
        "Deid.Projects.six.Destinations[1]",
        "Deid.Projects.six.Match.Modality",
    }
    assert len(told) == len(set(told))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (section(KeepOriginal=False), "Deid.Projects.lung.KeepOriginal"),
        (section(Pseudonyms="sequential"), "Deid.Projects.lung.Pseudonyms"),
        (section(Pseudonyms={"Table": "pairs.csv"}), "Deid.Projects.lung.Pseudonyms"),
    ],
)
def test_what_is_not_built_yet_is_refused_by_name(value: dict[str, Any], path: str) -> None:
    (line,) = errors(value)
    assert line.startswith(f"{path}: not supported yet")
    assert "s3cret-77" not in line


@pytest.mark.parametrize("value", [None, [], "Deid", 3])
def test_a_section_that_is_no_object_is_refused(value: Any) -> None:
    assert errors(value) == ["Deid: has to be an object"]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"Projects": []}, "Deid.Projects: has to be an object"),
        ({"Projects": {"lung": "basic"}}, "Deid.Projects.lung: has to be an object"),
        (section(KeepResearchCopy="yes"), "Deid.Projects.lung.KeepResearchCopy: has to be true or false"),
        (section(KeepOriginal=1), "Deid.Projects.lung.KeepOriginal: not supported yet: this release knows true only"),
        (section(Match={"PixelData": "x"}), "Deid.Projects.lung.Match.PixelData: neither RemoteAET, CalledAET, nor an "
         "attribute of DICOM that holds text"),
        (section(QuietSeconds=-1), "Deid.Projects.lung.QuietSeconds: input should be greater than or equal to 0"),
        ({"Workers": "2"}, "Deid.Workers: has to be a whole number"),
    ],
)  # fmt: skip
def test_faults_are_told_in_words(value: dict[str, Any], line: str) -> None:
    assert line in errors(value)


def test_every_kind_of_destination_is_read_and_shown() -> None:
    given = [
        {"Peer": "research"},
        {"Modality": "PACS", "StorageCommitment": True, "CommitmentSeconds": 60},
        {"Modality": "XNAT", "Xnat": {"Project": "LUNG_1"}},
        {"DicomWeb": "server"},
        {"Folder": "/srv/out", "Layout": "bids"},
        {"Folder": "/srv/other", "Name": "second"},
    ]
    lung = Config.parse(section(Destinations=given), load_profiles=False).projects["lung"]
    assert [one.key for one in lung.destinations] == [
        "peer:research", "modality:PACS", "modality:XNAT", "dicomweb:server", "folder:out", "folder:second",
    ]  # fmt: skip
    pacs, xnat, out = lung.destinations[1], lung.destinations[2], lung.destinations[4]
    assert (pacs.commitment, pacs.commitment_seconds, xnat.commitment) == (True, 60.0, False)
    assert (xnat.xnat_project, out.layout, out.path) == ("LUNG_1", "bids", Path("/srv/out"))
    shown = lung.public()["Destinations"]
    assert shown[:4] == [
        {"Peer": "research"},
        {"Modality": "PACS", "StorageCommitment": True, "CommitmentSeconds": 60.0},
        {"Modality": "XNAT", "Xnat": {"Project": "LUNG_1"}},
        {"DicomWeb": "server"},
    ]


@pytest.mark.parametrize(
    ("destination", "told"),
    [
        ({}, "has to have one of Peer, Modality, DicomWeb or Folder"),
        ({"Peer": "a", "Modality": "b"}, "has to have one of Peer, Modality, DicomWeb or Folder"),
        ({"Peer": "a", "StorageCommitment": True}, "StorageCommitment is for a Modality only"),
        ({"DicomWeb": "a", "Xnat": {"Project": "P"}}, "Xnat is for a Modality only"),
        ({"Modality": "a", "Layout": "bids"}, "Layout is for a Folder only"),
        ({"Modality": "a", "CommitmentSeconds": 60}, "CommitmentSeconds is for StorageCommitment only"),
        ({"Folder": "relative"}, ".Folder: "),
        ({"Folder": "/"}, ".Name: give one"),
        ({"Folder": "/x", "Layout": "nifti"}, ".Layout: has to be"),
        ({"Modality": "a", "Xnat": {"Project": "two words"}}, ".Xnat.Project: "),
    ],
)
def test_a_destination_that_is_none(destination: dict[str, Any], told: str) -> None:
    (line,) = errors(section(Destinations=[destination]))
    assert line.startswith("Deid.Projects.lung.Destinations[0]") and told in line


def test_one_name_stands_for_one_folder() -> None:
    two = {
        "one": project(Destinations=[{"Folder": "/a/out"}]),
        "two": project(Destinations=[{"Folder": "/b/out"}]),
        "three": project(Destinations=[{"Folder": "/a/out", "Name": "other"}]),
        "four": project(Destinations=[{"Folder": "/a/out", "Layout": "bids"}]),
    }
    told = errors({"Projects": two})
    assert [line.partition(":")[0] for line in told] == [
        f"Deid.Projects.{name}.Destinations[0]" for name in ("two", "three", "four")
    ]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("11114", ("", 11114)),
        ("127.0.0.1:11114", ("127.0.0.1", 11114)),
        ("deid.services.example:104", ("deid.services.example", 104)),
        (None, None),
    ],
)
def test_where_answers_about_commitment_are_taken(text: str | None, address: Any) -> None:
    assert Config.parse({"CommitmentListen": text} if text else {}).commitment_listen == address
    assert (
        errors({"CommitmentListen": "here"})
        and errors({"CommitmentListen": "a host:1"})
        and errors({"CommitmentListen": "0"})
    )


def test_a_profile_is_read_and_its_faults_are_told(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: Not A Name\nunknown: 1\n")
    with pytest.raises(ConfigError) as caught:
        Config.parse({"Profiles": str(tmp_path)} | section(Profile="bad"))
    assert len(caught.value.errors) >= 2
    assert all(line.startswith("Deid.Projects.lung.Profile: bad.yaml: ") for line in caught.value.errors)
    with pytest.raises(ConfigError, match=r"Deid.Projects.lung.Profile: no file .*none.yaml"):
        Config.parse({"Profiles": str(tmp_path)} | section(Profile="none"))


def test_no_project_is_a_configuration_too() -> None:
    assert Config.parse({}).projects == {}


def test_settings_can_be_shown_as_json() -> None:
    shown = json.loads(json.dumps(Config.parse(section(Match={"Modality": "CT"})).public()))
    assert shown["Projects"]["lung"]["Match"] == {"Modality": ["CT"]}
    assert shown["Projects"]["lung"]["Destinations"] == [{"Peer": "research"}]


def test_limits_of_a_destination(tmp_path: Path) -> None:
    destination: dict[str, Any] = {"Peer": "research", "Window": "22:00-06:00", "BackfillOnly": True}
    destination["Rate"] = {"InstancesPerSecond": 2, "MegabytesPerSecond": 0.5}
    project: dict[str, Any] = {"Profile": "basic", "Destinations": [destination], "BackfillWindow": ["20:00-07:00"]}
    section: dict[str, Any] = {"Python": "python3", "Projects": {"lung": project}, "OutboxLimit": 5, "LatencyBudget": 0}
    config = Config.parse(section, data_directory=tmp_path, load_profiles=False)
    limits = config.projects["lung"].limits["peer:research"]
    assert (limits.instances_per_second, limits.bytes_per_second, limits.backfill_only) == (2, 500_000, True)
    assert limits.windows.spans == ((1320, 360),) and config.outbox_limit == 5_000_000
    assert config.projects["lung"].public()["Destinations"] == [{**destination, "Window": ["22:00-06:00"]}]
    assert config.projects["lung"].public()["BackfillWindow"] == ["20:00-07:00"]
    destination |= {"Window": ["6-22"], "Rate": {}}
    project["BackfillWindow"] = "07:00-07:00"
    project["Destinations"] = [destination, {"Peer": "other", "BackfillOnly": True}]
    with pytest.raises(ConfigError) as caught:
        Config.parse(section | {"FreeDisk": -1}, data_directory=tmp_path, load_profiles=False)
    where = {error.split(": ")[0] for error in caught.value.errors}
    path = "Deid.Projects.lung"
    assert where == {f"{path}.Destinations[0].Window", f"{path}.Destinations[0].Rate", "Deid.FreeDisk",
                     f"{path}.Destinations[1].BackfillOnly", f"{path}.BackfillWindow"}  # fmt: skip


def test_every_key_of_the_contract_is_described() -> None:
    rows = {row.key: row for row in Config.describe()}
    outer = {"Python", "Service", "Database", "KeyFile", "Profiles", "Workers", "Projects", "CommitmentListen"}
    outer |= {"DatabasePasswordFile", "ServiceTokenFile", "ServiceCa", "Listen", "Orthanc", "DataDirectory"}
    outer |= {"Gateway"} | {f"Gateway.{key}" for key in ("Spool", "MaximumSize", "MinimumFree", "Unmatched")}
    outer |= {"LatencyBudget", "Niceness", "OutboxLimit", "FreeDisk"}
    inner = {"Profile", "Match", "Destinations", "KeepResearchCopy", "KeepOriginal", "Release", "QuietSeconds"}
    inner |= {"Incomplete", "Pseudonyms", "Domains", "EncryptTo", "BackfillWindow"}
    kinds = {
        "Rate",
        "Window",
        "BackfillOnly",
        "Peer",
        "Modality",
        "DicomWeb",
        "Folder",
        "Name",
        "Layout",
        "StorageCommitment",
        "CommitmentSeconds",
        "Xnat",
    }
    inner |= {f"Destinations[].{key}" for key in kinds}
    assert set(rows) == outer | {f"Projects.<name>.{key}" for key in inner}
    assert all(row.default and row.meaning.endswith(".") for row in rows.values())
    assert rows["Projects.<name>.Release"].default == "study"
    assert rows["Projects.<name>.KeepResearchCopy"].default == "false"


def test_a_postgresql_is_told_by_its_address_and_its_password_by_a_file(tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text("secret")
    value = {"Database": "postgresql://deid@db.example.org:5433/deid?sslmode=verify-full"} | section()
    config = Config.parse(value | {"DatabasePasswordFile": str(word)}, data_directory=tmp_path)
    assert config.database == value["Database"]
    assert config.database_password_file == word
    assert config.key_file == tmp_path / "master.key"
    assert Config.parse({"Database": "postgres://db/deid"} | section()).database == "postgresql://db/deid"
    assert errors({"DatabasePasswordFile": str(tmp_path / "none")}) == [
        f"Deid.DatabasePasswordFile: no file {tmp_path / 'none'}"
    ]


@pytest.mark.parametrize(
    "url",
    ["postgresql://deid:s3cret-77@db/deid", "postgresql://db/deid?password=s3cret-77", "postgres://a:s3cret-77@b/c"],
)
def test_a_password_does_not_stand_in_the_database_s_address(url: str) -> None:
    (line,) = errors({"Database": url})
    assert line.startswith("Deid.Database: no password here")
    assert "s3cret-77" not in line


@pytest.mark.parametrize("url", ["mysql://db/deid", "postgresql://db", "postgresql://[db/x"])
def test_another_database_is_refused(url: str) -> None:
    (line,) = errors({"Database": url})
    assert line.startswith("Deid.Database: ")


def test_a_service_elsewhere_is_reached_safely_or_not_at_all(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t" * 32)
    for url in ("https://deid.example.org:8443", "http://127.0.0.1:8500", "http://[::1]:8500"):
        assert Config.parse({"Service": url, "ServiceTokenFile": str(token)}).service == url
    given = {"ServiceTokenFile": str(token)}
    (line,) = errors({"Service": "http://deid.example.org:8500"} | given)
    assert line == "Deid.Service: http:// is for the loopback; give https://"
    (line,) = errors({"Service": "elsewhere"} | given)
    assert line.startswith("Deid.Service: has to be 'spawn', or a URL")
    (line,) = errors({"Service": "https://deid.example.org:8443"})
    assert line.startswith("Deid.ServiceTokenFile: has to be given")


def test_a_service_listens_safely_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    given = {"ServiceTokenFile": str(file)}
    config = Config.parse({"Listen": {"Address": "127.0.0.1:8500"}} | given)
    assert config.listen is not None
    assert (config.listen.host, config.listen.port, config.listen.certificate) == ("127.0.0.1", 8500, None)
    tls = {"Address": "0.0.0.0:8500", "Certificate": str(file), "CertificateKey": str(file)}
    assert Config.parse({"Listen": tls} | given).listen is not None
    assert errors({"Listen": {"Address": "0.0.0.0:8500"}} | given) == [
        "Deid.Listen.Certificate: has to be given where Address is not the loopback"
    ]
    assert errors({"Listen": {"Address": "127.0.0.1:8500"}}) == ["Deid.ServiceTokenFile: has to be given with Listen"]
    assert errors({"Listen": {"Address": "8500"}} | given) == ["Deid.Listen.Address: has to be host:port"]


def test_an_orthanc_elsewhere_is_asked_safely_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    user = {"Username": "service", "PasswordFile": str(file)}
    for url in ("https://orthanc.example.org", "http://127.0.0.1:8042"):
        config = Config.parse({"Orthanc": {"Url": url, **user}})
        assert config.orthanc is not None
        assert config.orthanc.url == url
    assert errors({"Orthanc": {"Url": "https://o", "Username": "service"}}) == [
        "Deid.Orthanc: Username and PasswordFile belong together"
    ]
    (line,) = errors({"Orthanc": {"Url": "http://orthanc.example.org", **user}})
    assert line.startswith("Deid.Orthanc.Url: http:// is for the loopback")
    (line,) = errors({"Orthanc": {"Url": "https://a:s3cret-77@o", **user}})
    assert line.startswith("Deid.Orthanc.Url: no password here")
    assert "s3cret-77" not in line


def test_gateway_mode_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert Config.parse({}, data_directory=tmp_path).gateway is None
    mode = Config.parse({"Gateway": {}}, data_directory=tmp_path).gateway
    assert mode is not None
    assert (mode.spool, mode.maximum_size, mode.minimum_free) == (tmp_path / "spool", 20480 << 20, 1 << 30)
    assert mode.unmatched == "quarantine"
    with pytest.raises(ConfigError) as caught:
        Config.parse({"Gateway": {"Spool": "here", "MaximumSize": 0, "Unmatched": "lose"}}, data_directory=tmp_path)
    told = "\n".join(caught.value.errors)
    for key in ("MaximumSize", "Unmatched"):
        assert f"Deid.Gateway.{key}: " in told
    with pytest.raises(ConfigError, match="not supported with a Service elsewhere"):
        Config.parse({"Gateway": {}, "Service": "https://deid.example.org:8443"}, data_directory=tmp_path)
    with pytest.raises(ConfigError, match="has to be an absolute path"):
        Config.parse({"Gateway": {"Spool": "here"}}, data_directory=tmp_path)


@pytest.mark.parametrize(
    ("project", "asks"),
    [
        ({"Match": {"Modality": "CT"}}, False),
        ({"Match": {"Modality": "CT", "CalledAET": "LUNG"}}, True),
        ({"Match": {"RemoteAET": "CT1"}}, True),
        ({"Match": {"Modality": "CT"}, "Domains": {"CT1": "east", "*": "west"}}, True),
        ({"Match": {}, "Domains": {"CT1": "east", "*": "west"}}, False),
    ],
)
def test_ae_titles_are_asked_for_by_rules_and_domains(tmp_path: Path, project: dict[str, Any], asks: bool) -> None:
    section = {"Projects": {"lung": {"Profile": "basic", "KeepResearchCopy": True, **project}}}
    assert Config.parse(section, data_directory=tmp_path).by_titles is asks
