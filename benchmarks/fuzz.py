"""Fuzzes the engine: mutated DICOM in, and only a refusal with a reason or a clean, well-formed output may come out.

    .venv/bin/python benchmarks/fuzz.py [--inputs N | --minutes M] [--processes P] [--seed S] [--profile NAME …]
    .venv/bin/python benchmarks/fuzz.py --seed S --replay NUMBER [--save FILE]

Sources: samples/, the tests' synthetic objects, pydicom's bundled files, and the folders named. Every input follows
from its seed and number alone (and from the corpus, whose digest is printed). A failure is: an exception that is no
refusal, a dead worker, more than a second of CPU time, more memory than the limit, an output that the engine's own
walker, a strict reader or pydicom cannot read, an output in which a planted canary stands, another output when the same
bytes are read as a file in small parts. The summary is in the last three lines; exits 1 on any failure.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugin")]

from orthanc_deid.core.profile import Profile  # noqa: E402

from benchmarks.fuzzing.corpus import Corpus  # noqa: E402
from benchmarks.fuzzing.mutate import make  # noqa: E402
from benchmarks.fuzzing.oracle import Oracle, Verdict  # noqa: E402

BLOCK = 200
"""Inputs between two words of a worker."""
EACH_TWICE = 8
"""One input in so many is also given as a file that is read in small parts."""
GIVE_UP = 20.0
"""CPU seconds after which an input is broken off: it has failed long before."""
SILENT = 600.0
"""Seconds without a word after which a worker is taken to hang where Python cannot break it off."""
SHOWN_OF_A_KIND = 3


class _BrokenOff(BaseException):
    """An input took too long. Not an Exception, so that nobody on the way takes it for one."""


def _break_off(_signal: int, _frame: Any) -> None:
    raise _BrokenOff


@dataclass
class Tally:
    """What was seen: inputs by outcome, failures by number, where unknown canaries stayed for a reason."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    stayed: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)  # CPU seconds, and of which input
    cpu: float = 0.0
    peak: int = 0

    def add(self, other: Tally) -> None:
        """Take over what another tally has."""
        self.outcomes += other.outcomes
        self.faults += other.faults
        self.stayed += other.stayed
        self.slowest = max(self.slowest, other.slowest)
        self.cpu += other.cpu
        self.peak = max(self.peak, other.peak)

    @property
    def inputs(self) -> int:
        """How many inputs were judged."""
        return sum(self.outcomes.values())


def judge(oracle: Oracle, number: int, data: bytes) -> Verdict:
    """Judge one input within its limit of CPU time."""
    signal.setitimer(signal.ITIMER_VIRTUAL, GIVE_UP)
    try:
        return oracle.judge(data, twice=number % EACH_TWICE == 0)
    except _BrokenOff:
        return Verdict("hang", f"hang: broken off after {GIVE_UP:.0f} s of CPU time", GIVE_UP)
    except MemoryError:
        return Verdict("memory", "memory: more than the limit")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def oracles(names: list[str]) -> dict[str, Oracle]:
    """Return an oracle for each profile, by name."""
    return {name: Oracle(Profile.load(ROOT / "profiles" / f"{name}.yaml"), strict=name == "basic") for name in names}


def work(pipe: Connection, seed: int, profiles: list[str], corpus: Corpus, limit: int, current: Any) -> None:
    """Judge blocks of inputs until there are no more; `current` tells the parent which one is being judged."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGVTALRM, _break_off)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    judges = oracles(profiles)
    names = list(judges)
    for number in range(0, 40):  # tables are read and plans compiled once: not any input's time
        judges[names[number % len(names)]].judge(make(0, number, corpus), twice=False)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))
    gc.collect()
    gc.freeze()
    while (block := pipe.recv()) is not None:
        tally = Tally()
        before = time.process_time()
        for number in range(*block):
            current.value = number
            name = names[number % len(names)]
            verdict = judge(judges[name], number, make(seed, number, corpus))
            tally.outcomes[verdict.outcome] += 1
            tally.stayed.update(verdict.stayed)
            tally.slowest = max(tally.slowest, (verdict.seconds, number))
            if verdict.fault is not None:
                tally.faults.append((number, name, verdict.fault))
        tally.cpu = time.process_time() - before
        tally.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send(tally)


@dataclass
class Worker:
    """A process, the pipe to it, the block that it has, and the input that it is at."""

    process: Any
    pipe: Connection
    current: Any
    block: tuple[int, int] | None = None
    heard: float = 0.0


class Campaign:
    """Hands out blocks to workers, replaces those that die, and adds up."""

    def __init__(self, args: argparse.Namespace, corpus: Corpus) -> None:
        self.args = args
        self.corpus = corpus
        self.tally = Tally()
        self.context = multiprocessing.get_context("fork")
        self.next = args.first
        self.last = args.first + args.inputs if args.inputs else sys.maxsize
        self.until = time.monotonic() + args.minutes * 60 if not args.inputs else float("inf")
        self.workers: list[Worker] = []
        self.shown: Counter[str] = Counter()

    def run(self) -> Tally:
        """Run to the end, or until interrupted."""
        began = time.monotonic()
        said = began
        try:
            self.workers = [self._start() for _ in range(self.args.processes)]
            for worker in self.workers:
                self._give(worker)
            while busy := [worker for worker in self.workers if worker.block is not None]:
                for pipe in wait([worker.pipe for worker in busy], timeout=10):
                    self._hear(next(worker for worker in busy if worker.pipe is pipe))
                for worker in busy:
                    if worker.block is not None and time.monotonic() - worker.heard > SILENT:
                        self._lost(worker, "hang: no word, killed")
                if time.monotonic() - said > 60:
                    said = time.monotonic()
                    done = self.tally.inputs
                    print(
                        f"  {done} inputs, {len(self.tally.faults)} failures, {done / (said - began):.0f}/s",
                        file=sys.stderr,
                        flush=True,
                    )
        except KeyboardInterrupt:
            print("  interrupted", file=sys.stderr)
        finally:
            for worker in self.workers:
                worker.process.kill()
                worker.process.join()
        return self.tally

    def _start(self) -> Worker:
        ours, theirs = self.context.Pipe()
        current = self.context.Value("q", -1, lock=False)
        args = self.args
        process = self.context.Process(
            target=work,
            args=(theirs, args.seed, args.profile, self.corpus, args.memory << 20, current),
            daemon=True,
        )
        process.start()
        theirs.close()
        return Worker(process, ours, current)

    def _give(self, worker: Worker) -> None:
        end = min(self.next + BLOCK, self.last)
        if self.next >= end or time.monotonic() > self.until:
            worker.block = None
            return
        worker.block, worker.heard = (self.next, end), time.monotonic()
        self.next = end
        worker.pipe.send(worker.block)

    def _hear(self, worker: Worker) -> None:
        try:
            tally = worker.pipe.recv()
        except (EOFError, OSError):
            self._lost(worker, "crash: the process died")
            return
        self.tally.add(tally)
        for number, profile, fault in tally.faults:
            kind = fault.split(":")[0] if fault.startswith("read") else fault
            self.shown[kind] += 1
            if self.shown[kind] > SHOWN_OF_A_KIND:
                continue
            print(f"FAIL --seed {self.args.seed} --replay {number} ({profile}): {fault}", flush=True)
        self._give(worker)

    def _lost(self, worker: Worker, why: str) -> None:
        """Count the input that a worker died of, and let a new one go on behind it."""
        number = worker.current.value
        self.tally.faults.append((number, "", why))
        self.tally.outcomes["lost"] += 1
        print(f"FAIL --seed {self.args.seed} --replay {number}: {why}", flush=True)
        worker.process.kill()
        worker.process.join()
        fresh = self._start()
        self.workers[self.workers.index(worker)] = fresh
        if worker.block is not None and number + 1 < worker.block[1]:
            fresh.block, fresh.heard = (number + 1, worker.block[1]), time.monotonic()
            fresh.pipe.send(fresh.block)
        else:
            self._give(fresh)


def replay(args: argparse.Namespace, corpus: Corpus) -> int:
    """Make one input again, judge it and say what happened; keep it if asked to."""
    signal.signal(signal.SIGVTALRM, _break_off)
    data = make(args.seed, args.replay, corpus)
    if args.save:
        args.save.write_bytes(data)
    name = args.profile[args.replay % len(args.profile)]
    verdict = judge(oracles([name])[name], args.replay, data)
    print(f"{len(data)} bytes, {name}: {verdict.outcome}, {verdict.seconds * 1000:.1f} ms, {verdict.fault or 'fine'}")
    return 1 if verdict.fault else 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=0, help="how many; without it, as many as --minutes allow")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--profile", action="append", help="a shipped profile; may be given again (default: basic)")
    parser.add_argument("--memory", type=int, default=512, help="MB of address space above what a worker starts with")
    parser.add_argument("--replay", type=int, metavar="NUMBER")
    parser.add_argument("--save", type=Path, metavar="FILE")
    parser.add_argument("folders", nargs="*", type=Path)
    args = parser.parse_args()
    args.profile = list(dict.fromkeys(args.profile or ["basic"]))
    return args


def main() -> int:
    """Run the campaign and judge it."""
    args = arguments()
    corpus = Corpus(args.folders)
    if args.replay is not None:
        return replay(args, corpus)
    print(f"{len(corpus.bases)} sources (digest {corpus.digest}), seed {args.seed}, profiles {', '.join(args.profile)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    tally = Campaign(args, corpus).run()
    took = time.monotonic() - began
    for outcome, number in tally.outcomes.most_common():
        print(f"  {outcome:30} {number:9} {number / max(1, tally.inputs):7.2%}")
    for what, number in tally.stayed.most_common():
        print(f"  a canary stayed ({what}): {number}")
    for kind, number in Counter(fault for _, _, fault in tally.faults).most_common(25):
        print(f"  {number} x {kind}")
    print(
        f"{tally.inputs} inputs in {took:.0f} s, {tally.inputs / max(tally.cpu, 0.001):.0f} per CPU second,"
        f" numbers {args.first} to {args.first + tally.inputs - 1} of seed {args.seed}"
    )
    seconds, number = tally.slowest
    print(f"slowest {seconds * 1000:.0f} ms (input {number}), peak memory of a worker {tally.peak / 1024:.0f} MB")
    print(f"{'MISSED' if tally.faults else 'met'}: {len(tally.faults)} failures (none is allowed)")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
