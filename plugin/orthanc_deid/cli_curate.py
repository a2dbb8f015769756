"""`orthanc-deid curate`: lists the words that a profile masks in text, for a person to judge and to allow."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from orthanc_deid.core import standard
from orthanc_deid.core.curation import harvested, masked_words
from orthanc_deid.core.profile import Profile, ProfileError
from orthanc_deid.core.source import Source
from orthanc_deid.core.values import Known

_SUBJECTS = 2  # a word of one subject alone may be that subject's name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--profile", type=Path, required=True, metavar="FILE", help="the profile (YAML)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the table (CSV; default: stdout)")
    parser.add_argument(
        "--min-subjects",
        type=int,
        default=_SUBJECTS,
        metavar="N",
        help=f"list words seen with at least N subjects (default {_SUBJECTS}: a word of one subject may be a name)",
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="files, and folders with all below them")


def run(args: argparse.Namespace) -> int:
    """Run the command: 0 when the table is written, 2 for wrong use."""
    try:
        profile = Profile.load(args.profile)
        files = list(_files(args.paths))
    except (ProfileError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    survey = Survey(profile)
    for file in files:
        survey.meet(file)
    for file in files:
        survey.listen(file)
    listed = survey.table(args.min_subjects)
    if args.out is None:
        _write(listed, sys.stdout)
    else:
        fd = os.open(args.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        os.fchmod(fd, 0o600)  # words that nobody has judged yet
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as out:
            _write(listed, out)
    print(
        f"{len(files) - survey.unread} files of {len(survey.known)} subjects read, {survey.unread} not read; "
        f"{len(listed)} words listed; withheld: {survey.rare} seen with fewer than {args.min_subjects} subjects, "
        f"{survey.named} that are values of some subject",
        file=sys.stderr,
    )
    return 0


@dataclass
class Survey:
    """What was met in the files: values by subject, and masked words with the subjects and attributes they stand in."""

    profile: Profile
    known: dict[str, Known] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    subjects: dict[str, set[str]] = field(default_factory=dict)
    attributes: dict[str, set[int]] = field(default_factory=dict)
    unread: int = 0
    rare: int = 0
    named: int = 0

    def meet(self, path: Path) -> None:
        """Harvest the subject's values of one file, before any word is listed."""
        try:
            with path.open("rb") as file:
                source = Source.from_file(file)
                found = harvested(source, self.profile.plan(source.facts.sop_class))
                subject = _subject(source)
        except Exception:
            # Whatever is wrong with a file (the engine will say so) its words are not listed.
            self.unread += 1
            return
        self.known[subject] = self.known.get(subject, Known()).merge(found)

    def listen(self, path: Path) -> None:
        """Count the masked words of one file; one that was not read has been counted as such."""
        try:
            with path.open("rb") as file:
                source = Source.from_file(file)
                subject = _subject(source)
                words = masked_words(source, self.profile.plan(source.facts.sop_class), self.known[subject])
        except Exception:
            return  # counted as not read when it was met
        for (word, tag), number in words.items():
            self.counts[word] += number
            self.subjects.setdefault(word, set()).add(subject)
            self.attributes.setdefault(word, set()).add(tag)

    def table(self, least: int) -> list[tuple[str, int, int, str]]:
        """Return (word, how often, subjects, attributes), the most frequent first; count what is withheld."""
        people = frozenset(one for known in self.known.values() for one in known.values if one[0] in ("name", "phrase"))
        values = Known(people).needles
        rows = []
        for word, number in sorted(self.counts.items(), key=lambda one: (-one[1], one[0])):
            if values.hit(word, "LO", 0):
                self.named += 1
            elif len(self.subjects[word]) < least:
                self.rare += 1
            else:
                tags = " ".join(_keyword(tag) for tag in sorted(self.attributes[word]))
                rows.append((word, number, len(self.subjects[word]), tags))
        return rows


def _subject(source: Source) -> str:
    """Tell subjects apart: by Patient ID, else by study."""
    return source.facts.patient_id or f"study {source.facts.study}"


def _keyword(tag: int) -> str:
    known = standard.attribute(tag)
    return known.keyword if known is not None and known.keyword else f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.is_file():
            yield path
        else:
            raise FileNotFoundError(f"no such file or folder: {path}")


def _write(rows: list[tuple[str, int, int, str]], out: TextIO) -> None:
    table = csv.writer(out, lineterminator="\n")
    table.writerow(("word", "count", "subjects", "attributes"))
    table.writerows(rows)
