"""What breaks, for longer than a test may take: kills, a clock that jumps, huge instances, a huge study, a soak.

    .venv/bin/python benchmarks/faults.py [--part NAME …]
        --part kill   [--kills 200] [--instances 2000] [--seed N]
        --part clock  needs Debian's package faketime
        --part large  instances of 1 GB and 2.2 GB; takes 10 GB of memory for the two Orthancs, and 15 GB of disk
        --part many   [--study 70000]
        --part soak   [--minutes 60] [--soak 100000]: whichever comes first

Two real Orthancs on this machine, the clinical one with the plugin. Always: no source is lost, each has one outcome,
nothing that identifies is found anywhere, nothing stands twice at the peer. Figures are printed on the way, the summary
in the last three lines; exits 1 when any of it does not hold.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugin")]

from benchmarks.faulting import clocks, kills, large, many, soak  # noqa: E402

PARTS = ["kill", "clock", "large", "many", "soak"]


def main() -> int:
    """Run the parts that were asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="run only this part; may be repeated")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--instances", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None, help="of what is killed when; a random one by default")
    parser.add_argument("--study", type=int, default=70_000, help="instances of the huge study")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the soak, at most")
    parser.add_argument("--soak", type=int, default=100_000, help="instances of the soak, at most")
    parser.add_argument("--folder", type=Path, default=None, help="where the servers keep their files (made, removed)")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else secrets.randbelow(1_000_000)
    parts: dict[str, Callable[[Path], bool]] = {
        "kill": lambda folder: kills.run(folder, args.kills, args.instances, seed),
        "clock": clocks.run,
        "large": large.run,
        "many": lambda folder: many.run(folder, args.study),
        "soak": lambda folder: soak.run(folder, args.soak, args.minutes),
    }
    failed, passed = [], []
    for name in args.part or list(parts):
        with tempfile.TemporaryDirectory(prefix=f"deid-faults-{name}-", dir=args.folder) as folder:
            try:
                good = parts[name](Path(folder))
            except Exception:
                traceback.print_exc()
                good = False
            (passed if good else failed).append(name)
    print(f"seed: {seed}")
    print(f"passed: {', '.join(passed) or 'none'}")
    print(f"failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
