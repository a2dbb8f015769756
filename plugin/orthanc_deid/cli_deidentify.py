"""`orthanc-deid deidentify`: files and folders in, de-identified files and a report out, without any server."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from orthanc_deid.core.deidentify import Report, deidentify
from orthanc_deid.core.encrypted import Encrypt
from orthanc_deid.core.errors import DeidError, Quarantined, Rejected, tag_text
from orthanc_deid.core.profile import Profile, ProfileError
from orthanc_deid.core.sinks import FileSink
from orthanc_deid.core.source import Source
from orthanc_deid.core.values import Known
from orthanc_deid.identity.envelope import EnvelopeError, encryptor, recipients
from orthanc_deid.identity.keys import MasterKey, ProjectKeys
from orthanc_deid.identity.pseudonyms import DEFAULT_DOMAIN
from orthanc_deid.identity.subjects import SubjectSeen, make_subject
from orthanc_deid.tuning import settle


class Usage(Exception):
    """What was asked for cannot be done as asked; nothing has been written."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the contract."""
    parser.add_argument("--profile", type=Path, required=True, metavar="FILE", help="the profile (YAML)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the output")
    parser.add_argument("--project", default="default", metavar="NAME", help="project that keys derive from")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="master key; made where there is none")
    parser.add_argument(
        "--names",
        choices=("derived", "source"),
        default="derived",
        help="names of output files: derived from pseudonym and UIDs, or as the sources are called",
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="report, a line per source (default: DIR.report.jsonl)"
    )
    parser.add_argument(
        "--encrypt-to",
        type=Path,
        action="append",
        default=[],
        metavar="CERT",
        help="certificate of somebody who may open what was removed, which then goes along encrypted; may be repeated",
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="files, and folders with all below them")


def run(args: argparse.Namespace) -> int:
    """Run the command: 0 when every source has an outcome, 1 when the output cannot be written, 2 for wrong use."""
    try:
        profile = Profile.load(args.profile)
        out: Path = args.out.resolve()
        report_path = (args.report or out.with_name(out.name + ".report.jsonl")).resolve()
        if report_path.is_relative_to(out):
            raise Usage("--report must not lie inside --out: it names the sources")
        sources = list(_sources(args.paths, out, report_path))
        targets = _named_after_sources(sources, out) if args.names == "source" else [None] * len(sources)
        encrypt = encryptor(recipients(args.encrypt_to)) if args.encrypt_to else None
    except (ProfileError, EnvelopeError, Usage, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    keys = _keys(args.key_file).project(args.project)
    settle()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _private(report_path) as report, _progress(len(sources)) as progress:
            batch = Batch(profile, keys, out, encrypt)
            for (source, _), target in zip(sources, targets, strict=True):
                batch.one(source, target, report)
                progress()
    except OSError as error:
        print(f"{error.strerror}: {error.filename or out}", file=sys.stderr)
        return 1
    print(
        ", ".join(f"{number} {outcome}" for outcome, number in sorted(batch.outcomes.items())) or "no files",
        f"(report: {report_path})",
        file=sys.stderr,
    )
    return 0


@dataclass
class Batch:
    """One run: what is remembered of its subjects, so that contradictions are seen and values found everywhere."""

    profile: Profile
    keys: ProjectKeys
    out: Path
    encrypt: Encrypt | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    seen: dict[str, SubjectSeen] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    study_subjects: dict[str, str] = field(default_factory=dict)
    written: dict[Path, bytes] = field(default_factory=dict)

    def one(self, source: Path, target: Path | None, report: TextIO) -> None:
        """De-identify one file and write its line of the report."""
        line: dict[str, Any] = {"source": str(source), "output": None, "outcome": "deidentified", "reason": None}
        try:
            path, made = self._make(source, target)
            line["output"] = str(path)
            line["counts"] = made.counts
        except Rejected as no:
            line.update(outcome="rejected", reason=no.reason)
        except DeidError as no:
            line.update(outcome="quarantined", reason=no.reason)
            if no.detail:
                line["detail"] = no.detail
            if no.tag is not None:
                line["tag"] = tag_text(no.tag)
        self.outcomes[line["outcome"]] += 1
        report.write(json.dumps(line) + "\n")

    def _make(self, source: Path, target: Path | None) -> tuple[Path, Report]:
        temporary = self.out / f".{os.getpid()}.part"
        try:
            with source.open("rb") as file, temporary.open("w+b", buffering=0) as made:
                try:
                    opened = Source.from_file(file)
                    identity = make_subject(self.keys, DEFAULT_DOMAIN, opened.facts)
                    self._contradictions(identity.seen, opened.facts.study)
                    known = self.known.get(identity.seen.index, Known())
                    identity = make_subject(self.keys, DEFAULT_DOMAIN, opened.facts, known)
                    plan = self.profile.plan(opened.facts.sop_class)
                    report = deidentify(opened, plan, identity.subject, FileSink(made), self.encrypt)
                except (DeidError, OSError):
                    raise
                except Exception as error:
                    # Anything unforeseen parks the file. The text of the error may hold a value; its type does not.
                    raise Quarantined("error", f"unexpected {type(error).__name__}") from None
                made.seek(0)
                digest = hashlib.file_digest(made, "sha256").digest()
            self.known[identity.seen.index] = known.merge(report.harvested)
            if target is None:
                target = (
                    self.out
                    / identity.subject.pseudonym
                    / report.study_uid
                    / report.series_uid
                    / f"{report.sop_uid}.dcm"
                )
            if self.written.setdefault(target, digest) != digest:
                raise Quarantined("source-changed", "another source with the same SOP Instance UID was other content")
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)
            return target, report
        finally:
            temporary.unlink(missing_ok=True)

    def _contradictions(self, seen: SubjectSeen, study: str) -> None:
        """Hold what says two things of one patient id, or puts one study under two patient ids."""
        before = self.seen.setdefault(seen.index, seen)
        for tag, a, b in (
            (0x00100030, before.birth_hash, seen.birth_hash),
            (0x00100040, before.sex_hash, seen.sex_hash),
        ):
            if a is not None and b is not None and a != b:
                raise Quarantined("identity-contradiction", "differs from another object of the same Patient ID", tag)
        if study and self.study_subjects.setdefault(study, seen.index) != seen.index:
            raise Quarantined("identity-contradiction", "one study under two Patient IDs", 0x00100020)


def _sources(paths: list[Path], out: Path, report: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file with its path below what was named; what this command writes is no source."""
    for path in paths:
        if path.is_dir():
            for folder, folders, files in os.walk(path):
                folders[:] = sorted(name for name in folders if (Path(folder) / name).resolve() != out)
                for name in sorted(files):
                    file = Path(folder) / name
                    if file.is_file() and file.resolve() != report:
                        yield file, file.relative_to(path)
        elif path.is_file():
            yield path, Path(path.name)
        else:
            raise Usage(f"no such file or folder: {path}")


def _named_after_sources(sources: list[tuple[Path, Path]], out: Path) -> list[Path | None]:
    targets: list[Path | None] = []
    taken: dict[Path, Path] = {}
    for source, name in sources:
        target = out / name
        if target in taken and taken[target] != source:
            raise Usage(f"two sources for {target}: {taken[target]} and {source}")
        taken[target] = source
        targets.append(target)
    return targets


def _keys(path: Path | None) -> MasterKey:
    if path is None:
        print("no --key-file: pseudonyms and UIDs of this run cannot be made again", file=sys.stderr)
        return MasterKey.random()
    if not path.exists():
        print(f"new master key: {path}", file=sys.stderr)
    return MasterKey.open(path, create=True)


def _private(path: Path) -> TextIO:
    """Open a file that only its owner reads, whatever was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    os.fchmod(fd, 0o600)
    return os.fdopen(fd, "w", encoding="utf-8")


class _progress:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._bar: Any = None

    def __enter__(self) -> _progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task("de-identifying", total=self._total)
        return self

    def __call__(self) -> None:
        if self._bar is not None:
            self._bar.advance(self._task)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
