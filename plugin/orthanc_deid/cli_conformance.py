"""`orthanc-deid conformance`: the statement that a privacy officer signs, and the report about outputs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from orthanc_deid.core.conformance import Recipient, Statement, statement
from orthanc_deid.core.conformance_view import as_html, as_text
from orthanc_deid.core.profile import Profile, ProfileError


class Usage(Exception):
    """What was asked for cannot be done as asked; nothing has been written."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("profile", type=Path, metavar="PROFILE", help="a profile (YAML)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: standard output)")
    parser.add_argument(
        "--format", choices=("text", "html"), help="default: html for a FILE that ends in .html, else text"
    )
    parser.add_argument(
        "--encrypt-to",
        type=Path,
        action="append",
        default=[],
        metavar="CERT",
        help="certificate that what was removed goes along encrypted for (EncryptTo of the project); may be repeated",
    )
    parser.add_argument(
        "--before", type=Path, metavar="DIR", help="sources: report on their validity before and after instead"
    )
    parser.add_argument("--after", type=Path, metavar="DIR", help="the outputs made of them")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="what deidentify reported, to pair by (default: DIR.report.jsonl)"
    )
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="master key, to pair by without a report")
    parser.add_argument("--project", default="default", metavar="NAME", help="project of the key")


def run(args: argparse.Namespace) -> int:
    """Run the command: 0 when done, 1 for a report with a finding, 2 for a profile or an argument that is wrong."""
    try:
        profile = Profile.load(args.profile)
        if args.before is None and args.after is None:
            if args.report or args.key_file:
                raise Usage("--report and --key-file belong to --before and --after")
            found, code = statement(profile, _recipients(args.encrypt_to)), 0
        else:
            if args.encrypt_to:
                raise Usage("--encrypt-to belongs to the statement, not to --before and --after")
            found, code = _compare(profile, args)
    except (ProfileError, Usage) as error:
        print(error, file=sys.stderr)
        return 2
    _write(found, args.out, args.format)
    return code


def _recipients(paths: list[Path]) -> tuple[Recipient, ...]:
    """What the statement says of each certificate."""
    if not paths:
        return ()
    from orthanc_deid.identity.envelope import EnvelopeError, describe

    try:
        return tuple(Recipient(*describe(path)) for path in paths)
    except EnvelopeError as error:
        raise Usage(str(error)) from None


def _compare(profile: Profile, args: argparse.Namespace) -> tuple[Statement, int]:
    from orthanc_deid import study_report, validity

    before, after = args.before, args.after
    if before is None or after is None:
        raise Usage("--before and --after belong together")
    for folder in (before, after):
        if not folder.is_dir():
            raise Usage(f"no such folder: {folder}")
    report = args.report or after.resolve().with_name(after.resolve().name + ".report.jsonl")
    if args.report is None and args.key_file is not None:
        from orthanc_deid.identity.keys import MasterKey

        keys = MasterKey.open(args.key_file).project(args.project)
        pairs = study_report.pair_by_key(keys.uid, before, after)
    elif args.report is not None or report.is_file():
        try:
            pairs = study_report.pair_by_report(report, before, after)
        except (ValueError, KeyError, TypeError):
            raise Usage(f"not a report of deidentify: {report}") from None
    else:
        pairs = study_report.pair_by_name(before, after)
    result = study_report.study_report(profile, pairs, validity.tool())
    return result.statement, 0 if result.clean else 1


def _write(found: Statement, out: Path | None, form: str | None) -> None:
    if form is None:
        form = "html" if out is not None and out.suffix.lower() in (".html", ".htm") else "text"
    text = as_html(found) if form == "html" else as_text(found)
    if out is None:
        sys.stdout.write(text)
        return
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
