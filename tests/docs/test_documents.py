"""All documents: links lead somewhere, codes and states are explained, nothing of anybody's machine has slipped in."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from orthanc_deid.core.errors import QUARANTINE_REASONS, REJECT_REASONS
from orthanc_deid.metrics import render
from orthanc_deid.store import Store, ledger
from ruamel.yaml import YAML

CHECKOUT = Path(__file__).resolve().parents[2]


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the project that exists, as git lists them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    paths = [CHECKOUT / name for name in listed.stdout.split("\0") if name]
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


DOCUMENTS = [path for path in tracked() if path.suffix == ".md"]


def anchors(text: str) -> set[str]:
    """The anchors that a Markdown viewer gives to headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name) if name else document
        assert path.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(path.read_text()), f"{target}: no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_json_in_documents_is_json(document: Path) -> None:
    for block in re.findall(r"^ *```json\n(.*?)```", document.read_text(), re.M | re.S):
        json.loads(block)


def test_no_file_names_a_machine_or_a_persons_folder() -> None:
    places = {f"{CHECKOUT.resolve()}/", f"{Path.home()}/"} - {"//"}
    found = []
    for path in tracked():
        data = path.read_bytes()
        found += [f"{path.relative_to(CHECKOUT)}: {place}" for place in places if place.encode() in data]
    assert not found


def explained(text: str) -> set[str]:
    """The codes in the first column of a document's tables."""
    return {
        code
        for line in text.splitlines()
        if line.startswith("|")
        for code in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }


def test_every_reason_and_state_is_explained() -> None:
    known = explained((CHECKOUT / "docs/operations.md").read_text())
    missing = (set(QUARANTINE_REASONS) | set(REJECT_REASONS) | set(ledger.STATES)) - known
    assert not missing, f"docs/operations.md does not explain {sorted(missing)}"


def metrics(tmp_path: Path) -> set[str]:
    """The names of all metrics."""
    lines = rendered(tmp_path).splitlines()
    return {line.split()[2] for line in lines if line.startswith("# TYPE") and "_created" not in line}


def rendered(tmp_path: Path) -> str:
    """The metrics of a service that has a project `lung` and has done nothing yet."""
    store = Store.open(tmp_path / "deid.sqlite3")
    workers = {"Alive": 1, "Restarts": 0}
    health = {
        "Workers": workers,
        "Troubles": [],
        "Tasks": {"series": 0},
        "Orthanc": {"Answers": 0, "Seconds": 0.0},
        "Free": {"outbox": 1},
        "PeersDown": ["peer:research"],
        "LastReconciled": 0.0,
        "DestinationsWaiting": {},
        "Flow": {"Stage": 0, "LatencySeconds": 0.0, "OutboxBytes": 0, "Paused": "", "BackfillWaits": ["lung"]},
    }
    sizes = {"Size": 0, "MaximumSize": 0, "Discarded": 0, "Refused": 0}
    health["Gateway"] = {"Files": {"new": 0}, "Unmatched": {"unmatched": 0}, **sizes}
    text = render(store, health, ["lung"]).decode()
    store.close()
    return text


def test_what_never_happened_is_told_as_well(tmp_path: Path) -> None:
    text = rendered(tmp_path)
    told = set(re.findall(r'^deid_events_total\{project="lung",state="([a-z-]+)"\} 0\.0$', text, re.M))
    assert told == set(ledger.STATES), "an alarm on an increase would miss the first of its kind"


def test_every_metric_is_explained(tmp_path: Path) -> None:
    shown = metrics(tmp_path)
    assert shown
    explained = set(re.findall(r"^\| `(deid_\w+)` \|", (CHECKOUT / "docs/operations.md").read_text(), re.M))
    assert explained == shown


def test_alert_rules_name_metrics_that_exist_and_say_what_to_do(tmp_path: Path) -> None:
    rules = YAML(typ="safe").load((CHECKOUT / "docs/alerts.yml").read_text())["groups"]
    known = metrics(tmp_path)
    alerts = [rule for group in rules for rule in group["rules"]]
    assert len(alerts) > 5
    text = (CHECKOUT / "docs/operations.md").read_text()
    for alert in alerts:
        assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}, alert["alert"]
        assert set(alert["annotations"]) == {"summary"} and alert["labels"]["severity"] in {"page", "ticket"}
        assert re.fullmatch(r"[0-9]+[smhd]", alert["for"])
        asked = set(re.findall(r"\bdeid_\w+", alert["expr"]))
        assert asked and asked <= known, f"{alert['alert']} asks for {sorted(asked - known)}"
        assert alert["expr"].count("(") == alert["expr"].count(")")
        assert f"| `{alert['alert']}` |" in text, f"{alert['alert']} is not in docs/operations.md"
    names = [alert["alert"] for alert in alerts]
    assert len(names) == len(set(names))


def test_the_changelog_has_an_unreleased_section_of_known_kinds() -> None:
    text = (CHECKOUT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text
    kinds = set(re.findall(r"^### (.*)$", text, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_licence_is_the_whole_agpl() -> None:
    text = (CHECKOUT / "LICENSE").read_text()
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "13. Remote Network Interaction" in text
