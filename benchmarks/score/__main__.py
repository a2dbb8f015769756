"""`python -m benchmarks.score [--seed N] [--profile NAME]`: print the score; exit status 1 below 99.95 %.

python -m benchmarks.score generate DIR [--seed N] [--patients N]      files (DIR/data) and key (DIR/answers.db)
python -m benchmarks.score judge KEY OUTPUT UID_MAPPING PATID_MAPPING  score the output of any tool
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "plugin")]

from benchmarks.score import key, scorer  # noqa: E402
from benchmarks.score.run import generate, outputs_by_uid, run  # noqa: E402
from benchmarks.score.scorer import Score  # noqa: E402

LEAST = 99.95
PATIENTS = 27


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="score", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="generate DIR | judge KEY OUTPUT UIDS PATIENTS")
    parser.add_argument("--seed", default=None, help="default: a new one, which is printed")
    parser.add_argument(
        "--profile", default="research", help="name of a profile that ships, or a file (default: research)"
    )
    parser.add_argument("--patients", type=int, default=PATIENTS, help=f"how many patients (default: {PATIENTS})")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep sources, outputs, key and mappings in DIR")
    args = parser.parse_args(arguments)
    seed = args.seed or str(secrets.randbelow(10**9))
    match args.command:
        case []:
            print(f"seed {seed}, profile {args.profile}, {args.patients} patients", flush=True)
            result = run(seed, args.profile, args.patients, args.keep)
            for reason, number in sorted(result.reasons.items()):
                print(f"held {number} x {reason}")
            return report(result.score)
        case ["generate", folder]:
            generate(seed, args.patients, Path(folder))
            print(f"seed {seed}: files in {Path(folder) / 'data'}, key in {Path(folder) / 'answers.db'}")
            return 0
        case ["judge", answers, output, uids, patients]:
            return report(
                scorer.score_all(
                    key.read(Path(answers)),
                    outputs_by_uid(Path(output)),
                    scorer.mapping(Path(uids)),
                    scorer.mapping(Path(patients)),
                )
            )
    parser.error("no such command")


def report(score: Score) -> int:
    """Print the score and judge it."""
    print(score.table())
    good = score.percentage() >= LEAST
    print(f"{'met' if good else 'MISSED'}: {score.percentage():.3f} % (at least {LEAST} %)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
