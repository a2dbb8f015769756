"""The benchmark's generator, and tools of which the score is known: one does nothing, one wipes all, one obeys."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from benchmarks.score import key, tools
from benchmarks.score.__main__ import main
from benchmarks.score.key import ACTIONS
from benchmarks.score.people import make_patient, research_words
from benchmarks.score.run import generate, with_tool
from benchmarks.score.scorer import PASSED, Score
from benchmarks.score.studies import KINDS, patient_instances

Made = list[tuple[list[Path], list[key.Answer]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One patient for each kind of study."""
    return generate("unit", len(KINDS), tmp_path_factory.mktemp("made"))


def run(tool: tools.Tool, folder: Path, made: Made) -> Score:
    total = Score()
    for number, (sources, answers) in enumerate(made):
        total.add(with_tool(tool, sources, answers, folder / str(number)).score)
    return total


def test_a_seed_always_makes_the_same_and_another_seed_something_else() -> None:
    first, again, other = ([(i.data, i.answer) for i in patient_instances(seed, 1)] for seed in ("a", "a", "b"))
    assert first == again
    assert first != other


def test_every_seed_has_all_kinds_and_all_actions(made: Made) -> None:
    every = [answer for _, answers in made for answer in answers]
    modalities = {"CT", "MR", "US", "CR", "DX", "MG", "PT", "SR", "RTSTRUCT", "RTPLAN", "RTDOSE"}
    assert {answer.modality for answer in every} == modalities
    assert {check.action for answer in every for check in answer.checks} == set(ACTIONS)


def test_studies_of_a_patient_share_identity_and_files_do_not_tell_it_by_their_names(made: Made) -> None:
    sources, answers = made[0]
    assert not any(answers[0].patient in source.name for source in sources)
    assert len({answer.study for answer in answers}) > 1
    assert len({answer.patient for answer in answers}) == 1


def test_identifiers_are_no_words_of_the_research_text() -> None:
    for number in range(60):
        patient = make_patient("words", number)
        assert patient.person.family.lower() not in research_words()
        assert patient.town.lower() not in research_words()


def test_the_key_survives_its_file_and_has_the_published_form(tmp_path: Path, made: Made) -> None:
    answers = made[2][1]
    key.write(tmp_path / "answers.db", answers)
    assert key.read(tmp_path / "answers.db") == answers
    base = sqlite3.connect(tmp_path / "answers.db")
    row = base.execute("SELECT * FROM answer_data").fetchone()
    names = [column[1] for column in base.execute("PRAGMA table_info(answer_data)")]
    base.close()
    assert names == [
        *("index", "group", "Modality", "SOPClassUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"),
        *("SOPInstanceUID", "Digest", "AnswerData"),
    ]
    checks = json.loads(row[-1])
    assert {"scope", "tag", "tag_ds", "tag_name", "value", "action", "action_text"} <= set(checks["0"])
    assert set(checks["0"]["answer_category_v2"]) == {"hipaa", "dicom", "tcia"}
    assert list(checks) == [str(number) for number in range(len(checks))]


def test_a_tool_that_changes_nothing_fails_every_check_of_removal(tmp_path: Path, made: Made) -> None:
    score = run(tools.identity, tmp_path, made)
    for action in ("text_removed", "date_shifted", "uid_changed", "pixels_hidden"):
        assert score.counts[action].total() > 0
        assert score.counts[action][PASSED] == 0, action


def test_a_tool_that_wipes_everything_fails_every_check_of_retention(tmp_path: Path, made: Made) -> None:
    score = run(tools.wipe, tmp_path, made)
    left = {"<(0008,0016)>", "<(0008,0018)>", "<(0020,000d)>", "<(0020,000e)>", "<(0010,0020)>"}
    checks = [check for _, answers in made for answer in answers for check in answer.checks]
    for action in ("tag_retained", "text_notnull", "text_retained", "pixels_retained"):
        assert score.counts[action].total() > 0
        may_pass = sum(1 for check in checks if check.action == action and check.path in left)
        assert score.counts[action][PASSED] == may_pass, action
    assert score.counts["text_retained"][PASSED] == score.instances, "only the SOP Class UID"
    assert score.counts["pixels_retained"][PASSED] == 0
    assert score.counts["text_removed"][PASSED] == score.counts["text_removed"].total()


def test_the_key_can_be_met(tmp_path: Path, made: Made) -> None:
    score = run(tools.oracle, tmp_path, made)
    assert [f for f in score.failures if f.check.action != "pixels_hidden"] == []


def test_the_command_scores_what_another_tool_wrote(
    tmp_path: Path, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "0"
    result = with_tool(tools.oracle, *made[0], folder)
    arguments = ["judge", *(str(folder / n) for n in ("answers.db", "out", "uid_mapping.csv", "patid_mapping.csv"))]
    assert main(arguments) == 0
    assert f"{result.score.total()} checks, score 100.000 %" in capsys.readouterr().out
    (folder / "uid_mapping.csv").write_text("id_old,id_new\n")
    assert main(arguments) == 1
    assert "LOST" in capsys.readouterr().out


def test_generate_writes_files_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(tmp_path / "set"), "--seed", "7", "--patients", "1"]) == 0
    assert len(key.read(tmp_path / "set" / "answers.db")) == len(list((tmp_path / "set" / "data").iterdir()))
    assert "seed 7" in capsys.readouterr().out


def test_the_product_leaves_no_identifier_and_little_else_goes(tmp_path: Path, made: Made) -> None:
    score = run(tools.engine("research", bytes(range(32))), tmp_path, [made[0], made[1], made[7], made[8]])
    leaks = {"text_removed", "date_shifted", "uid_changed", "uid_consistent", "patid_consistent", "pixels_retained"}
    assert [f for f in score.failures if f.check.action in leaks] == []
    assert score.percentage() > 99
    assert not score.lost
