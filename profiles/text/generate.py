"""Makes english.csv: words of a radiology word list that are words of the language, and name nobody.

    python profiles/text/generate.py SOURCE_FOLDER

SOURCE_FOLDER holds, as they were obtained (README.md names the sources):
allowlist.csv        words seen in radiology descriptors, one a line
american-english     a spelling dictionary, one word a line, proper names with a capital
medical-terms.txt    medical terms, one a line
dist.all.last, dist.female.first, dist.male.first   names and their frequency in per cent

A word stays if it is a word of one of the dictionaries in lower case, or a word of our own lists written together,
cut off or misspelt; and if it is no name, or one that names.txt below judges to be a word first.
"""

from __future__ import annotations

import bisect
import csv
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Words that are names too: judged one by one to be needed. They stay with a mark, and go where they stand like a name.
_NAMES_KEPT = """
    strong english best good read call south east link hook hooks wing way root stock box button nickel null see
    word spring roll sink blow brace treat brush core constant reader fix cover mix board lock bump cool bridge ready
    born omega dot drum just book self numbers keys deal fair person pack blank pool burden stump soon rounds dial
    shorter parent borders younger hair mast her samples glass horn ball shields rod dye chambers pace belt meta nova
    mach gall fore held bounds ridge"""
NAMES_KEPT = frozenset(_NAMES_KEPT.split())
# What stands together with other words in names of series, though it is short.
_SHORT = """
    ax cor sag tra rt lt wo w fs mr ct pd ap pa pe us hr bh st ir se gr fse tse gre epi dwi adc mip mpr pre pet cta
    mra mri mrv fat sat abd pel neck art ven del iv ce iac hd lat obl bi and to of in with no per sub cow uro cap ped
    chst ser loc ref dyn pos neg min max avg std low lo hi res non one two head"""
SHORT = frozenset(_SHORT.split())
FREQUENT = 0.002  # per cent of people: a rarer name that is a word is kept with a mark
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]


def _names(folder: Path) -> dict[str, float]:
    names: dict[str, float] = {}
    for file in ("dist.all.last", "dist.female.first", "dist.male.first"):
        for line in _lines(folder / file):
            name, share = line.split()[:2]
            names[name.casefold()] = max(float(share), names.get(name.casefold(), 0.0))
    return names


def _own(*files: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in files:
        with (HERE / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            found.update((row["word"], row["name"]) for row in csv.DictReader(file))
    return found


def _one_edit(word: str) -> set[str]:
    """Return what one letter more, less, other or swapped makes of a word."""
    found = set()
    for at in range(len(word) + 1):
        head, tail = word[:at], word[at:]
        if tail:
            found.add(head + tail[1:])
            found |= {head + letter + tail[1:] for letter in ALPHABET}
        if len(tail) > 1:
            found.add(head + tail[1] + tail[0] + tail[2:])
        found |= {head + letter + tail for letter in ALPHABET}
    return found


def main(folder: Path) -> None:
    """Write english.csv."""
    seen = {word.casefold() for word in _lines(folder / "allowlist.csv") if word.isalpha() and word.isascii()}
    seen = {word for word in seen if len(word) >= 3 and not set(word) <= set("abcdef")}
    spelling = _lines(folder / "american-english")
    capitals = {word.casefold() for word in spelling if word[0].isupper()}
    words = {word for word in spelling if word.islower() and word.isalpha()}
    words |= {word for word in _lines(folder / "medical-terms.txt") if word.islower() and word.isalpha()}
    names = _names(folder)
    radiology = _own("radiology")
    own = radiology | _own("vendors", "units", "dicom")
    unknown = seen - set(own)

    english = {word: "y" if word in names else "" for word in unknown & words}
    english = {w: m for w, m in english.items() if names.get(w, 0) < FREQUENT or w in NAMES_KEPT}

    pieces = SHORT | {w for w, mark in own.items() if len(w) >= 4 and w.isalpha() and w.isascii() and not mark}

    @cache
    def parts(word: str) -> tuple[str, ...] | None:
        if not word:
            return ()
        for end in range(len(word), 1, -1):
            if word[:end] in pieces:
                rest = parts(word[end:])
                if rest is not None:
                    return (word[:end], *rest)
        return None

    targets = sorted({w for w in radiology if len(w) >= 7 and w.isascii()} | {w for w in words & seen if len(w) >= 8})
    for word in unknown - words:
        if word in names:
            continue
        cut = parts(word) if len(word) >= 6 else None
        if cut and 2 <= len(cut) <= 4 and any(len(part) >= 4 for part in cut):
            english[word] = ""
        elif len(word) >= 5 and word not in capitals:
            at = bisect.bisect(targets, word)
            cut_off = at < len(targets) and targets[at].startswith(word)
            if cut_off or (len(word) >= 7 and not _one_edit(word).isdisjoint(targets)):
                english[word] = ""

    with (HERE / "english.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("word", "name"))
        table.writerows(sorted(english.items()))
    print(f"{len(english)} words")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
