"""What is mutated: the samples, the tests' synthetic objects, pydicom's bundled files, and folders that are named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzzing.trees import Node, from_raw, shrink
from tests import builders, codestreams, raw

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 24 << 10
"""Sources that stay larger than this once their values are cut are left out: each input would cost too much."""


@dataclass(frozen=True)
class Base:
    """One source: its tree, or only its bytes where it is too damaged for a strict reader."""

    name: str
    syntax: str
    nodes: tuple[Node, ...]
    data: bytes = b""


class Corpus:
    """All sources, in an order that depends on them alone; `digest` tells two corpora apart."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        self.bases = [*_synthetic(), *_files(ROOT / "samples" / "files"), *_files(codestreams.FILES)]
        for folder in folders:
            self.bases += _files(folder)
        self.trees = [base for base in self.bases if base.nodes]
        told = "\n".join(f"{base.name} {base.syntax} {len(base.nodes)} {len(base.data)}" for base in self.bases)
        self.digest = hashlib.sha256(told.encode()).hexdigest()[:12]


def _synthetic() -> Iterator[Base]:
    for name, make in builders.ALL.items():
        small = {"rows": 8, "columns": 8} if name == "ct" else {}
        nodes = from_raw(raw.from_dataset(make(**small)))
        shrink(nodes)
        yield Base(f"made/{name}", str(builders.NATIVE[0]), tuple(nodes))
    for syntax in builders.COMPRESSED:
        nodes = from_raw(raw.from_dataset(builders.compress(builders.mr(), syntax)))
        yield Base(f"made/mr {syntax}", str(syntax), tuple(nodes))


def _files(folder: Path) -> Iterator[Base]:
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.stat().st_size > 64 << 20:
            continue
        base = _read(f"{folder.name}/{path.relative_to(folder)}", path.read_bytes())
        if base is not None:
            yield base


def _read(name: str, data: bytes) -> Base | None:
    try:
        _, elements, syntax = raw.parse(data)
    except Exception:  # whatever a strict reader says of a damaged file
        return Base(name, "", (), data) if 0 < len(data) <= LARGEST else None
    nodes = from_raw(elements)
    shrink(nodes)
    return Base(name, syntax, tuple(nodes)) if nodes and _size(nodes) <= LARGEST else None


def _size(nodes: Iterable[Node]) -> int:
    total = 0
    for node in nodes:
        total += 12 + len(node.value) + sum(len(part) + 8 for part in node.fragments or ())
        total += sum(_size(item) for item in node.items or ())
    return total
