"""The README says what the code says: settings, routes, commands and variables, none missing and none made up."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from orthanc_deid.api.app import create_app
from orthanc_deid.cli import COMMANDS
from orthanc_deid.cli import main as cli
from orthanc_deid.config import Config

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text()


def section(title: str) -> str:
    """The text below a heading, up to the next one of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", README, re.M | re.S)
    assert found, f"README has no section {title!r}"
    return found[2]


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def codes(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def settings_table() -> str:
    """The table of settings as the README must have it."""

    def cell(text: object) -> str:
        return str(text).replace("|", "\\|")

    lines = ["| setting | default | is |", "|---|---|---|"]
    lines += [f"| `{row.key}` | {cell(row.default)} | {cell(row.meaning)} |" for row in Config.describe()]
    return "\n".join(lines)


def test_every_setting_is_documented_as_the_configuration_describes_it() -> None:
    table = settings_table()
    assert table in section("Configuration"), f"put this into README.md:\n{table}"


def test_the_example_section_is_accepted(tmp_path: Path) -> None:
    examples = [json.loads(text) for text in re.findall(r"^ *```json\n(.*?)```", README, re.M | re.S)]
    sections = [example["Deid"] for example in examples if "Deid" in example]
    assert sections
    for example in sections:
        config = Config.parse(example, data_directory=tmp_path)
        assert config.projects


def test_every_route_is_documented_and_no_other() -> None:
    document = create_app(None, "secret").openapi()  # type: ignore[arg-type]
    served = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if method in ("get", "post", "put", "delete")
    }
    served.add(("GET", "/deid/openapi.json"))
    documented = set()
    for cells in rows(section("REST")):
        for entry in codes(cells[0]):
            method, path = entry.split(" ")
            documented.add((method, path))
    rename = {(method, re.sub(r"\{[^}]*\}", "{}", path)) for method, path in served}
    assert {(method, re.sub(r"\{[^}]*\}", "{}", path)) for method, path in documented} == rename


def shown_help(*words: str) -> str:
    output = io.StringIO()
    with redirect_stdout(output), pytest.raises(SystemExit) as stopped:
        cli([*words, "--help"])
    assert stopped.value.code == 0
    return output.getvalue()


def test_every_command_is_documented_in_its_own_words() -> None:
    documented = {codes(cells[0])[0].split()[0]: cells[1] for cells in rows(section("Command line"))}
    assert documented == {name: text for name, (text, _) in COMMANDS.items()}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_of_a_command_is_documented_and_no_other(command: str) -> None:
    (synopsis,) = [
        code for cells in rows(section("Command line")) for code in codes(cells[0]) if code.split()[0] == command
    ]
    offered = set(re.findall(r"--[a-z][a-z-]+", shown_help(command))) - {"--help"}
    assert set(re.findall(r"--[a-z][a-z-]+", synopsis)) == offered


def test_every_variable_of_run_is_documented() -> None:
    used = set(re.findall(r"\b(?:DEID|PEER)_[A-Z_]+\b", (CHECKOUT / "run").read_text()))
    documented = {name for cells in rows(section("Quick start")) for name in codes(cells[0])}
    contract = {"DEID_HTTP_PORT", "DEID_DICOM_PORT", "PEER_HTTP_PORT", "PEER_DICOM_PORT", "DEID_DATA", "DEID_SAMPLE"}
    assert contract <= used
    assert documented == contract


def test_what_is_not_built_is_refused_and_said() -> None:
    base = {"Profile": "basic", "Destinations": [{"Peer": "research"}]}
    for change in (
        {"KeepOriginal": False},
        {"Pseudonyms": "sequential"},
    ):
        with pytest.raises(Exception, match="not supported yet"):
            Config.parse({"Python": "/usr/bin/python3", "Projects": {"lung": base | change}})
    assert "not supported yet" in section("What it does not do yet")
