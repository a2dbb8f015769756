"""The command `orthanc-deid`: finds the subcommand and calls it.

Every subcommand is imported when it is called and not before, so that `check`, which Orthanc waits for at its start,
and `--help` do not load the libraries of the others. Exit codes: 0 done, 1 not done or a finding, 2 wrong usage,
78 wrong configuration.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from orthanc_deid import __version__
from orthanc_deid.errors import SetupError

EX_CONFIG = 78  # sysexits.h: what the plugin reads as "do not start this again, it is configured wrongly"


class _Lazy:
    """A subcommand in a module of its own, which offers `add_arguments(parser)` and `run(args) -> int`."""

    def __init__(self, module: str) -> None:
        self.module = module

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        importlib.import_module(self.module).add_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        return int(importlib.import_module(self.module).run(args))


def _explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", type=Path, metavar="PROFILE", help="a profile (YAML)")
    parser.add_argument("--sop-class", metavar="NAME", help="resolve every action for this SOP class (name or UID)")


def _explain(args: argparse.Namespace) -> int:
    from orthanc_deid.core.explain import explain
    from orthanc_deid.core.profile import ProfileError

    try:
        print(explain(args.profile, args.sop_class))
    except ProfileError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profiles", type=Path, nargs="+", metavar="PROFILE", help="profiles (YAML) to check")


def _validate(args: argparse.Namespace) -> int:
    from orthanc_deid.core.explain import validate

    wrong = 0
    for path in args.profiles:
        errors = validate(path)
        wrong += bool(errors)
        for error in errors:
            print(f"{path}: {error}", file=sys.stderr)
        if not errors:
            print(f"{path}: valid")
    return 1 if wrong else 0


class _Inline:
    """A subcommand whose few lines stand on this page."""

    def __init__(
        self, add_arguments: Callable[[argparse.ArgumentParser], None], run: Callable[[argparse.Namespace], int]
    ) -> None:
        self.add_arguments = add_arguments
        self.run = run


COMMANDS: dict[str, tuple[str, _Lazy | _Inline]] = {
    "deidentify": ("de-identify files and folders without any server", _Lazy("orthanc_deid.cli_deidentify")),
    "explain": ("say what a profile does to each attribute, and why", _Inline(_explain_arguments, _explain)),
    "validate": ("check profiles and list every error", _Inline(_validate_arguments, _validate)),
    "curate": ("list the words that a profile masks in text, to be judged", _Lazy("orthanc_deid.cli_curate")),
    "conformance": ("write the statement about a profile, or about outputs", _Lazy("orthanc_deid.cli_conformance")),
    "decrypt": ("open what was removed from an output, as one of its recipients", _Lazy("orthanc_deid.cli_decrypt")),
    "serve": ("run the service (Orthanc's plugin starts it)", _Lazy("orthanc_deid.serve")),
    "check": ("check a configuration and list every error", _Lazy("orthanc_deid.check")),
    "doctor": ("look for what would keep an installation from working", _Lazy("orthanc_deid.doctor")),
}


def _parser(command: str | None) -> argparse.ArgumentParser:
    """The parser; only the arguments of `command` are filled in, since the others are not asked for in this call."""
    parser = argparse.ArgumentParser(
        prog="orthanc-deid", description="De-identifies DICOM instances into research studies (DICOM PS3.15 Annex E)."
    )
    parser.add_argument("--version", action="version", version=f"orthanc-deid {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (text, what) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == command:
            what.add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and gives its exit code.

    A wrong configuration is a line per fault on stderr, a file that cannot be read or written is one; anything
    unforeseen keeps its traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    named = next((word for word in words if not word.startswith("-")), None)
    args = _parser(named).parse_args(words)
    try:
        return COMMANDS[args.command][1].run(args)
    except SetupError as error:
        print(error, file=sys.stderr)
        return EX_CONFIG
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1  # the reader (head, less) has gone
    except OSError as error:
        print(f"orthanc-deid {args.command}: {error}", file=sys.stderr)
        return 1
