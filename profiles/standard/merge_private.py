"""Merge what is known about safe private attributes into safe_private_merged.csv and safe_private_conflicts.csv.

    python merge_private.py KNOWLEDGE_BASE.csv [TARGET_FOLDER]

Merged are safe_private.csv (PS3.15 Table E.3.10-1, wherever the element stands), the TCIA private-tag knowledge base
(CC BY 4.0; bound to the place that it names) and safe_private_excluded.csv (ours, by hand: what neither may keep).
Where they disagree, the careful one wins, and the disagreement is written down. The rules stand in
docs/decisions/0008-safe-private.md.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent

TEXT = ("UT", "UC", "LT", "ST", "LO", "SH")  # the roomiest first: the VR to read a value by where several were seen
WORDS = frozenset((*TEXT, "CS", "DS", "IS"))
DATES = ("DT", "DA", "TM")
NUMBERS = ("SS", "US", "SL", "UL", "FL", "FD", "AT")
BLOBS = ("OB", "OW", "OF", "UN")

Step = tuple[int, str, int]  # group, creator ('' of a public attribute), element (its low byte, of a private one)
ANYWHERE: tuple[Step, ...] = ((0, "*", 0),)


@dataclass
class Seen:
    """What the sources say about one attribute at one place."""

    vrs: dict[str, str] = field(default_factory=dict)  # disposition at TCIA by VR
    table_vr: str | None = None  # of Table E.3.10-1


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)


def parse(pattern: str) -> tuple[Step, ...]:
    """Take apart '(0019,"CREATOR",0c)[<0>](0008,1155)'; its quotes are often unpaired, and creators hold commas."""
    steps: list[Step] = []
    for part in re.split(r"\[<\d+>\]", pattern):
        public = re.fullmatch(r"\(([0-9a-f]{4}),([0-9a-f]{4})\)", part)
        private = re.fullmatch(r"\(([0-9a-f]{4}),(.*),([0-9a-f]{2})\)", part)
        if public:
            steps.append((int(public[1], 16), "", int(public[2], 16)))
        elif private:
            creator = private[2].strip('"').strip()
            steps.append((int(private[1], 16), creator or "?", int(private[3], 16)))
        else:
            raise ValueError(f"not a pattern: {pattern}")
    return tuple(steps)


def text(step: Step) -> str:
    """'52009229' of a public attribute, '0021xxFE SIEMENS MR SDS 01' of a private one."""
    group, creator, element = step
    return f"{group:04X}xx{element:02X} {creator}" if creator else f"{group:04X}{element:04X}"


def place(steps: tuple[Step, ...]) -> str:
    return "*" if steps == ANYWHERE else " > ".join(text(step) for step in steps)


def gather(knowledge: Path) -> dict[tuple[tuple[Step, ...], Step], Seen]:
    seen: dict[tuple[tuple[Step, ...], Step], Seen] = defaultdict(Seen)
    for row in rows(knowledge):
        *parents, last = parse(row["element_sig_pattern"])
        disposition = row["private_disposition"].strip().lower() or "blank"
        known = seen[tuple(parents), last].vrs
        if known.get(row["vr"], "k") in ("k", disposition):  # of two for one VR the one that does not keep
            known[row["vr"]] = disposition
    for row in rows(HERE / "safe_private.csv"):
        step = (int(row["tag"][:4], 16), row["private_creator"], int(row["tag"][6:], 16))
        seen[ANYWHERE, step].table_vr = row["vr"]
    return seen


def exclusions() -> list[tuple[re.Pattern[str], str]]:
    return [
        (re.compile(re.escape(row["attribute"]).replace(r"\*", ".*")), row["reason"])
        for row in rows(HERE / "safe_private_excluded.csv")
    ]


def judge(vrs: dict[str, str]) -> tuple[str, str, list[str], bool]:
    """Return code, VR to read by, VRs that a file may state, and whether it must state one; code '' does not stay."""
    kept = {vr for vr, disposition in vrs.items() if disposition in ("k", "h", "o")}
    what = {vrs[vr] for vr in kept}
    # 'd' for UN and 'k' for a VR: it stays where the file says that it is of that VR, and nowhere else.
    stated = bool(set(vrs) - kept)
    if "SQ" in kept:
        return "K", "SQ", ["SQ"], stated
    kept -= {"", *BLOBS}
    if "h" in what or "UI" in kept:  # a UID is a UID where its VR says so: in LO it could be a name
        return ("U", "UI", ["UI"], stated) if "UI" in kept else ("", "", [], False)
    dates = [vr for vr in DATES if vr in kept]
    if "o" in what or dates:
        return ("SHIFT", dates[0], dates[:1], stated) if dates else ("", "", [], False)
    kept -= {"PN", "AE", "UR"}  # a person, a station or an address, whatever else it is
    if not kept:
        return "", "", [], False
    numbers = [vr for vr in NUMBERS if vr in kept]
    words = sorted(kept & WORDS)
    stated |= bool(numbers and words)  # without a VR nobody knows whether its bytes are letters
    roomiest = [vr for vr in TEXT if vr in kept]
    if roomiest:
        return "C", roomiest[0], sorted(kept), stated
    return "K", (numbers or words)[0], sorted(kept), stated


def merge(knowledge: Path) -> tuple[list[list[str]], list[list[str]]]:
    seen = gather(knowledge)
    unwanted = exclusions()
    table = {step: known.table_vr or "" for (steps, step), known in seen.items() if steps == ANYWHERE}
    decided: dict[tuple[tuple[Step, ...], Step], list[str]] = {}
    conflicts: list[list[str]] = []

    def reason_against(steps: tuple[Step, ...], step: Step) -> str:
        own = text(step)
        path = f"{place(steps)} > {own}" if steps and steps != ANYWHERE else own
        return next((why for pattern, why in unwanted if pattern.fullmatch(path) or pattern.fullmatch(own)), "")

    def add(steps: tuple[Step, ...], step: Step, judged: tuple[str, str, list[str], bool], source: str) -> None:
        code, vr, vrs, stated = judged
        others = " ".join(one for one in vrs if one != vr)
        decided[steps, step] = [place(steps), text(step), vr, others, "Y" if stated else "", code, source]

    for (steps, step), known in sorted(seen.items()):
        if steps == ANYWHERE or step[1] == "":
            continue
        code, vr, vrs, stated = judge(known.vrs)
        against = sorted({f"{of or 'no VR'} {d}" for of, d in known.vrs.items() if d not in ("k", "h", "o")})
        if step in table and against:
            own = table[step]
            stays = known.vrs.get(own) == "k"
            verdict = f"stays where the file states {own}" if stays else "goes" + (" there" if steps else " everywhere")
            conflicts.append([text(step), place(steps), own, "; ".join(against), verdict])
        if step in table and not steps:
            if not against:
                continue  # they agree, and the table's row holds wherever the element stands
            own = table[step]
            if known.vrs.get(own) == "k":
                code, vr, vrs, stated = judge({**known.vrs, "": "d"})
                add(ANYWHERE, step, (code, own, [own], True), "E.3.10-1; TCIA: not where its VR is unknown")
            else:
                table.pop(step)
                decided.pop((ANYWHERE, step), None)
            continue
        if code and not reason_against(steps, step):
            add(steps, step, (code, vr, vrs, stated), "TCIA" if step not in table else "E.3.10-1 and TCIA")
        elif step in table:
            add(steps, step, ("X", "", [], False), "TCIA against E.3.10-1")
    for step, own in table.items():
        if (ANYWHERE, step) in decided or reason_against(ANYWHERE, step):
            continue
        vrs = own.replace("/", " ").split()
        if not vrs:
            continue  # the table gives no VR, so nobody knows what its bytes are
        judged = ("K", vrs[0], vrs, False) if set(vrs) & set(BLOBS) else judge(dict.fromkeys(vrs, "k"))
        add(ANYWHERE, step, judged, "E.3.10-1")
    for (steps, step), known in seen.items():  # public attributes inside private sequences
        if step[1] or step[0] == 0x7FE0 or not known.vrs.keys() - {""} or reason_against(steps, step):
            continue
        if set(known.vrs.values()) <= {"k", "h", "o"} and set(known.vrs) - {"", "UN", "PN"}:
            add(steps, step, ("K", "", [], False), "TCIA, by its own rule")
    return _reachable(decided), conflicts


def _reachable(decided: dict[tuple[tuple[Step, ...], Step], list[str]]) -> list[list[str]]:
    """Leave out what stands in sequences that go, and then the sequences that nothing would be left of."""
    while True:
        parents = {steps for steps, _ in decided if steps != ANYWHERE}
        gone = []
        for (steps, step), row in decided.items():
            above = [(steps[:depth], steps[depth]) for depth in range(len(steps))] if steps != ANYWHERE else []
            private = [(at, one) for at, one in above if one[1] or any(before[1] for before in at)]
            missing = any(key not in decided and (ANYWHERE, key[1]) not in decided for key in private)
            sequence = row[2] == "SQ" and steps != ANYWHERE
            if missing or (sequence and (*steps, step) not in parents):
                gone.append((steps, step))
        if not gone:
            return sorted(decided.values(), key=lambda row: (row[0] != "*", row[0], row[1][9:], row[1]))
        for key in gone:
            del decided[key]


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    target = Path(sys.argv[2]) if len(sys.argv) == 3 else HERE
    merged, conflicts = merge(Path(sys.argv[1]))
    header = ["place", "attribute", "vr", "other_vrs", "stated", "code", "provenance"]
    write(target / "safe_private_merged.csv", header, merged)
    write(target / "safe_private_conflicts.csv", ["attribute", "place", "vr", "tcia", "decision"], sorted(conflicts))
    print(f"{len(merged)} attributes, {len(conflicts)} conflicts")


if __name__ == "__main__":
    main()
