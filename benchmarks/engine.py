"""What the engine costs: CPU time per CT slice against a plain copy and against pydicom, memory, false quarantine.

    .venv/bin/python benchmarks/engine.py [--rounds N]

All figures come from one run, minimum over interleaved rounds. The engine reads a file, de-identifies it with `basic`
or `research`, verifies it and writes a file; the ledger's digest of the output is timed apart. Exits 1 when a stated
ratio is missed: at most 3 × the CPU time of a copy with `basic` and 5 × with `research`, at most 64 MB above the idle
interpreter for a 220 MB multi-frame file, at most 0.1 % of clean CT and MR held.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugin")]

import pydicom  # noqa: E402
from orthanc_deid.core.deidentify import Subject, deidentify  # noqa: E402
from orthanc_deid.core.errors import DeidError  # noqa: E402
from orthanc_deid.core.profile import Profile  # noqa: E402
from orthanc_deid.core.sinks import BytesSink, FileSink  # noqa: E402
from orthanc_deid.core.source import Source  # noqa: E402
from orthanc_deid.core.values import NOTHING_KNOWN, Known  # noqa: E402
from orthanc_deid.tuning import settle  # noqa: E402

from tests import builders  # noqa: E402
from tests.objects.base import origin  # noqa: E402
from tests.objects.images import ct, mr  # noqa: E402

MAX_COPIES = {"basic": 3.0, "research": 5.0}
MAX_MEMORY = 64 << 20
MAX_FALSE = 0.001
PATIENTS, SLICES = 3, 50
SUBJECT = Subject("BENCHMARK7X4QK9M", bytes(range(32)), date_offset=-1000)
BASIC, RESEARCH = (Profile.load(ROOT / "profiles" / f"{name}.yaml") for name in ("basic", "research"))


def run(source: Path, target: Path, profile: Profile = BASIC, known: Known = NOTHING_KNOWN) -> Known:
    """De-identify one file, as the command line and the workers do; return what is known of the subject then."""
    with source.open("rb") as file, target.open("wb", buffering=0) as made:
        opened = Source.from_file(file)
        subject = replace(SUBJECT, known=known)
        report = deidentify(opened, profile.plan(opened.facts.sop_class), subject, FileSink(made))
    return known.merge(report.harvested)


def slices(folder: Path) -> list[Path]:
    """Write CT slices of about 530 KB with 160 elements."""
    paths = []
    for patient in range(1, PATIENTS + 1):
        for number in range(1, SLICES + 1):
            path = folder / f"{patient}-{number:03}.dcm"
            path.write_bytes(builders.to_bytes(ct(origin(patient, 1, 1, number))))
            paths.append(path)
    return paths


def cpu(work: Callable[[], None]) -> float:
    """Return the CPU seconds of this process and its children."""

    def now() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    before = now()
    work()
    return now() - before


def speed(folder: Path, rounds: int) -> dict[str, float]:
    """Print CPU milliseconds per slice; return the engine's ratio to a copy, by profile."""
    sources = slices(folder)
    target = folder / "target"
    copies = folder / "copies"
    copies.mkdir()

    def copy() -> None:
        for source in sources:
            shutil.copyfile(source, target)

    def copy_program() -> None:
        subprocess.run(["cp", *map(str, sources), str(copies)], check=True)

    def engine(profile: Profile = BASIC) -> None:
        known: dict[str, Known] = {}
        for source in sources:
            patient = source.name.partition("-")[0]
            known[patient] = run(source, target, profile, known.get(patient, NOTHING_KNOWN))

    def research() -> None:
        engine(RESEARCH)

    def digest() -> None:
        for source in sources:
            with source.open("rb") as file:
                hashlib.file_digest(file, "sha256")

    def pydicom_copy() -> None:
        for source in sources[::5]:
            pydicom.dcmread(source).save_as(target)

    works = {
        "copy (shutil.copyfile)": copy,
        "copy (cp, one process)": copy_program,
        "engine, basic, verified": engine,
        "engine, research, verified": research,
        "digest of the output": digest,
        "pydicom read + write": pydicom_copy,
    }
    engine()
    research()
    settle()
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, work in works.items():
            number = len(sources[::5]) if work is pydicom_copy else len(sources)
            best[name] = min(best.get(name, 1e9), cpu(work) / number * 1000)
    elements = sum(1 for _ in pydicom.dcmread(sources[0]).iterall())
    size = sources[0].stat().st_size / 1000
    print(
        f"{len(sources)} CT slices of {size:.0f} KB with {elements} elements; CPU ms a slice, best of {rounds} rounds"
    )
    for name, value in best.items():
        print(f"  {name:26} {value:6.3f}")
    copied = best["copy (shutil.copyfile)"]
    print(f"  engine / pydicom: {best['engine, basic, verified'] / best['pydicom read + write']:.2f}")
    return {profile: best[f"engine, {profile}, verified"] / copied for profile in MAX_COPIES}


def memory(folder: Path) -> int:
    """Return the bytes that a 220 MB multi-frame file takes above the idle interpreter, with the greedier profile."""
    dataset = ct(origin(9, 1, 1, 1), rows=512, columns=512)
    dataset.NumberOfFrames = "440"
    dataset.PixelData = b""
    big = folder / "big.dcm"
    frame = bytes(512 * 512 * 2)
    data = builders.to_bytes(dataset)
    at = data.rindex(b"\xe0\x7f\x10\x00OW\0\0\0\0\0\0")
    with big.open("wb") as file:
        file.write(data[: at + 8] + (len(frame) * 440).to_bytes(4, "little"))
        for _ in range(440):
            file.write(frame)
        file.write(data[at + 12 :])
    peaks = [
        int(
            subprocess.run(
                [sys.executable, __file__, "--child", what, "--profile", profile],
                capture_output=True,
                check=True,
                text=True,
            ).stdout
        )
        for what, profile in (("idle", "basic"), (str(big), "basic"), (str(big), "research"))
    ]
    big.unlink()
    return max(peaks) - peaks[0]


def child(what: str, profile: str) -> None:
    """Print this process's peak memory: idle, or after one file."""
    if what != "idle":
        path = Path(what)
        run(path, path.with_suffix(".out"), RESEARCH if profile == "research" else BASIC)
        path.with_suffix(".out").unlink()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def awkward() -> Iterator[bytes]:
    """Yield clean CT and MR of patients whose names and ids are everyday words and numbers."""
    for name, patient_id in (("Ray^Philips", "123"), ("Philips^May", "123"), ("May^Ray", "12"), ("Head^Li", "1")):
        for number in range(1, 126):
            for make in (ct, mr):
                dataset = make(origin(4, 1, 1, number), rows=16, columns=16)
                dataset.PatientName, dataset.PatientID = name, patient_id
                dataset.Manufacturer = "Philips Medical Systems"
                dataset.InstanceNumber = str(number)
                yield builders.to_bytes(dataset)


def held() -> tuple[int, int]:
    """Return how many of the awkward instances were held, and how many there were."""
    number = wrong = 0
    for data in awkward():
        number += 1
        try:
            source = Source.from_bytes(data)
            deidentify(source, BASIC.plan(source.facts.sop_class), SUBJECT, BytesSink())
        except DeidError as no:
            wrong += 1
            print(f"  held: {no}")
    return wrong, number


def main() -> int:
    """Run all parts and judge them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--profile", default="basic", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.profile)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ratios = speed(folder, args.rounds)
        peak = memory(folder)
    wrong, number = held()
    figures = [
        (
            ratio <= MAX_COPIES[profile],
            f"{ratio:.2f} x the CPU time of a copy, {profile} (at most {MAX_COPIES[profile]:.0f})",
        )
        for profile, ratio in ratios.items()
    ]
    figures.append((peak <= MAX_MEMORY, f"{peak / (1 << 20):.0f} MB above the idle interpreter, 220 MB (at most 64)"))
    figures.append((wrong <= MAX_FALSE * number, f"{wrong} of {number} clean CT and MR held (at most 0.1 %)"))
    for met, figure in figures:
        print(f"{'met' if met else 'MISSED'}: {figure}")
    return 0 if all(met for met, _ in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
