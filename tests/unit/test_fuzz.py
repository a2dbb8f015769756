"""The fuzzer makes the same inputs again, and would see a leak, a crash, a malformed output and a slow answer."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from orthanc_deid.core.deidentify import deidentify
from orthanc_deid.core.errors import DeidError, Quarantined
from orthanc_deid.core.sinks import BytesSink
from orthanc_deid.core.source import Source

from benchmarks.fuzzing import oracle as oracle_module
from benchmarks.fuzzing import planted
from benchmarks.fuzzing.corpus import Corpus
from benchmarks.fuzzing.mutate import make
from benchmarks.fuzzing.oracle import SUBJECT, Oracle, Verdict, well_formed
from tests import builders
from tests.engine import basic

ROOT = Path(__file__).parents[2]


@cache
def corpus() -> Corpus:
    return Corpus()


@cache
def judge() -> Oracle:
    return Oracle(basic(), strict=True)


def good() -> bytes:
    return builders.to_bytes(builders.mr(rows=8, columns=8))


def test_inputs_follow_from_seed_and_number() -> None:
    again = Corpus()
    made = [make(7, number, corpus()) for number in range(60)]
    assert made == [make(7, number, again) for number in range(60)] and again.digest == corpus().digest
    assert len(set(made)) == 60
    assert made != [make(8, number, corpus()) for number in range(60)]


def test_mutations_reach_all_kinds_of_answers() -> None:
    outcomes = {judge().judge(make(1, number, corpus()), twice=False).outcome for number in range(400)}
    assert {"deidentified", "unparsable", "truncated", "pixels-not-cleaned", "not-dicom"} <= outcomes


def test_sources_are_there_and_small() -> None:
    names = {base.name.split("/")[0] for base in corpus().bases}
    assert {"made", "files", "test_files"} <= names
    assert len(corpus().trees) > 100


def answered(monkeypatch: pytest.MonkeyPatch, answer: object) -> Verdict:
    """The verdict on an engine that answers so."""
    monkeypatch.setattr(oracle_module, "deidentify", answer)
    return judge().judge(good(), twice=False)


@pytest.mark.parametrize("token", [planted.PATIENT[0], planted.SECRET, planted.SECRET_UID])
def test_a_leak_is_seen(token: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token in place of Convolution Kernel's neighbour: an attribute that `basic` removes."""

    def leaky(source: Source, plan: object, subject: object, sink: BytesSink) -> None:
        made = BytesSink()
        deidentify(source, plan, subject, made)  # type: ignore[arg-type]
        value = token + b" " * (len(token) % 2)
        study = b"\x08\0\x30\x10LO" + len(value).to_bytes(2, "little") + value
        output = made.getvalue()
        at = output.index(b"\x08\0\x90\x10LO")
        sink.write(output[:at] + study + output[at:])

    fault = answered(monkeypatch, leaky).fault
    assert fault is not None and fault.startswith("leak: ") and "(0008,1030)" in fault
    assert token.decode() not in fault


def test_a_crash_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    assert (answered(monkeypatch, broken).fault or "").startswith("crash: KeyError")


def test_a_reason_that_is_none_or_tells_a_value_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(reason: str, detail: str) -> object:
        def refuse(*_: object) -> None:
            raise Quarantined(reason, detail)

        return refuse

    assert answered(monkeypatch, refuses("unparsable", "broken")).fault is None
    assert answered(monkeypatch, refuses("whatever", "broken")).fault
    assert answered(monkeypatch, refuses("unparsable", planted.PATIENT[0].decode())).fault


def test_slow_and_malformed_answers_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.5])
    with monkeypatch.context() as patched:
        patched.setattr(oracle_module.time, "process_time", lambda: next(clock))
        assert (judge().judge(good(), twice=False).fault or "").startswith("slow: 2.50")
    source, sink = Source.from_bytes(good()), BytesSink()
    plan = basic().plan(source.facts.sop_class)
    deidentify(source, plan, SUBJECT, sink)
    output = sink.getvalue()
    assert well_formed(output, plan) is None
    for broken in (
        output[:-5],
        output.replace(SUBJECT.pseudonym.encode(), b"X" * 16),
        output.replace(b"YES ", b"NO  "),
    ):
        assert (well_formed(broken, plan) or "").startswith("malformed: ")


def test_another_answer_for_a_file_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def differs(source: Source, plan: object, subject: object, sink: BytesSink) -> None:
        if source.fd is not None:
            raise Quarantined("unparsable", "as a file")
        deidentify(source, plan, subject, sink)  # type: ignore[arg-type]

    monkeypatch.setattr(oracle_module, "deidentify", differs)
    assert (judge().judge(good(), twice=True).fault or "").startswith("read in parts: unparsable")


def test_a_short_campaign_finds_nothing_and_can_be_replayed(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "fuzz.py", "--seed", "3", "--processes", "1"]
    done = subprocess.run([*command, "--inputs", "400"], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("met: 0 failures")
    saved = tmp_path / "input.dcm"
    replayed = [*command, "--replay", "17", "--save", saved]
    done = subprocess.run(replayed, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0 and "fine" in done.stdout
    assert saved.read_bytes() == make(3, 17, corpus())
    try:
        Source.from_bytes(saved.read_bytes())
    except DeidError as no:
        assert no.reason in done.stdout
