"""Makes english.csv and common.csv: words of dictionaries that occur in descriptors, in medicine or in everyday use,
and that name nobody.

    python profiles/text/generate.py SOURCE_FOLDER

SOURCE_FOLDER holds, as they were obtained (README.md names the sources), one word a line:
allowlist.csv            words seen in radiology descriptors
words-LANGUAGE           a spelling dictionary; proper names (in German, nouns too) have a capital
words-medical            English medical terms
frequencies-LANGUAGE     word and frequency (zipf: the logarithm of how often among 10^9 words)
dist.all.last, dist.female.first, dist.male.first    names of a census and their share in per cent
people-of-many-countries, places                     names of people and places

A word is left out if it is the name of people or of places first. Which of those are needed all the same is judged one
by one below; they stay with a mark, and go where they stand like a name.
"""

from __future__ import annotations

import bisect
import csv
import sys
import unicodedata
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Words that are names too: judged one by one to be needed. They stay with a mark, and go where they stand like a name.
_NAMES_KEPT = """
    strong english best good read call south east link hook hooks wing way root stock box button nickel null see
    word spring roll sink blow brace treat brush core constant reader fix cover mix board lock bump cool bridge
    ready born omega dot drum just book self numbers keys deal fair person pack blank pool burden stump soon
    rounds dial shorter parent borders younger hair mast her samples glass horn ball shields rod dye chambers
    pace belt meta nova mach gall fore held bounds ridge said such house company story means else million west
    north northern southern heard chance price land guess miles sale sell beat lucky winner driver guard steel
    power powers banks boss holiday snow storm cook urban lay strange bird hang mile dollar bunch harder tank
    rice roof cable pounds fed fee tower rush sessions languages struck comfort cloud bath plant plants fish
    apple coffee beer cherry bean barrier beach bath bare flower flowers stay stays fall walker wheel wheels
    works worker working close pin pins pine cotton copper cork corn crystal duck ether feather fever flood fog
    fountain frost gale garlic ginger grass gum guest ham honey hunger iron ivory jump laser lemon loss milk
    mold moon moss mould mouse mustard nut nuts oats olive orange pea peach pear pepper pike plum poppy pork
    potter prince queen rain rib rock rope rust sage salmon sand shrimp silk slack sleep soap soy spider spoon
    starch straw sugar sunshine sweet swim thorn thumb tick tin tobacco tree trout tuna turkey twin twins walnut
    wasp wax wheat whey wind wine wise wood wool worm yeast yoga sneeze carry drink drive drives food foot"""
NAMES_KEPT = frozenset(_NAMES_KEPT.split())
_INSTITUTIONS = """
    hospital hospitals clinic clinics university college institute institution school church county city town
    village saint parish avenue street road lane drive boulevard highway square district borough embassy
    ministry cathedral abbey monastery prison jail regiment battalion academy foundation charity hospice
    infirmary sanatorium"""
INSTITUTIONS = frozenset(_INSTITUTIONS.split())
# What stands together with other words in names of series, though it is short.
_SHORT = """
    ax cor sag tra rt lt wo w fs mr ct pd ap pa pe us hr bh st ir se gr fse tse gre epi dwi adc mip mpr pre pet cta
    mra mri mrv fat sat abd pel neck art ven del iv ce iac hd lat obl bi and to of in with no per sub cow uro cap ped
    chst ser loc ref dyn pos neg min max avg std low lo hi res non one two head"""
SHORT = frozenset(_SHORT.split())
FREQUENT = 0.002  # per cent of people: a rarer name that is a word is kept with a mark
OFTEN = {"english": 3.3, "medical": 1.05}  # zipf of words that are taken although nobody has seen them in descriptors
EVERYDAY = 4.3  # the same for other languages: function words and what everybody says
FUNCTION = 5.3  # so frequent that they are needed although somebody is called so
SURELY = 4.0  # so frequent that a rare name does not count
OTHERS = ("danish", "dutch", "french", "german", "italian", "norwegian", "polish", "portuguese", "spanish", "swedish")
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


class Names:
    """Judges words as names of people and of places."""

    def __init__(self, folder: Path) -> None:
        self.shares = _names(folder)
        self.people = {word.casefold() for word in _lines(folder / "people-of-many-countries")}
        self.places = {word.casefold() for word in _lines(folder / "places")}

    def mark(self, word: str, zipf: float) -> str | None:
        """Return None for a name first of all, "y" for one that is needed or rare, "" for a mere word."""
        plain = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
        share = max(self.shares.get(word, 0), self.shares.get(plain, 0))
        if word in INSTITUTIONS:
            return None
        if share >= FREQUENT or word in self.people:
            return "y" if word in NAMES_KEPT else None
        return "y" if (share or word in self.places) and zipf < SURELY else ""


def _frequencies(folder: Path, language: str) -> dict[str, float]:
    pairs = (line.split() for line in _lines(folder / f"frequencies-{language}"))
    return {word: float(zipf) for word, zipf in pairs}


def _write(name: str, words: dict[str, str]) -> None:
    with (HERE / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("word", "name"))
        table.writerows(sorted(words.items()))
    print(f"{name}: {len(words)} words")


def english(folder: Path, names: Names, written: set[str]) -> dict[str, str]:
    """Return the words of descriptors, of medicine and of everyday English, with their marks."""
    seen = {word.casefold() for word in _lines(folder / "allowlist.csv") if word.isalpha() and word.isascii()}
    seen = {word for word in seen if len(word) >= 3 and not set(word) <= set("abcdef")}
    spelling = _lines(folder / "words-english")
    capitals = {word.casefold() for word in spelling if word[0].isupper()}
    spelling = [word for word in spelling if word.islower() and word.isalpha() and word.isascii()]
    medical = [
        word for word in _lines(folder / "words-medical") if word.islower() and word.isalpha() and word.isascii()
    ]
    zipf = _frequencies(folder, "english")
    words = {*spelling, *medical}
    taken = words & seen
    taken |= {word for word in spelling if len(word) >= 3 and zipf.get(word, 0) >= OFTEN["english"]}
    taken |= {word for word in medical if len(word) >= 4 and zipf.get(word, 0) >= OFTEN["medical"]}
    own = _own("radiology", "vendors", "units", "dicom")
    found: dict[str, str] = {}
    for word in taken - written:
        mark = names.mark(word, zipf.get(word, 0))
        if mark is not None:
            found[word] = mark
    found.update(dict.fromkeys(_variants(seen - written - words, words & seen, own, names, capitals), ""))
    return found


def _variants(unknown: set[str], words: set[str], own: dict[str, str], names: Names, capitals: set[str]) -> set[str]:
    """Return what is written together from words of our lists, is cut off, or is misspelt."""
    radiology = {word for word in _own("radiology") if word.isascii()}
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

    targets = sorted({w for w in radiology if len(w) >= 7} | {w for w in words if len(w) >= 8})
    found = set()
    for word in unknown:
        if names.mark(word, 0) != "":
            continue
        cut = parts(word) if len(word) >= 6 else None
        if cut and 2 <= len(cut) <= 4 and any(len(part) >= 4 for part in cut):
            found.add(word)
        elif len(word) >= 5 and word not in capitals:
            at = bisect.bisect(targets, word)
            cut_off = at < len(targets) and targets[at].startswith(word)
            if cut_off or (len(word) >= 7 and not _one_edit(word).isdisjoint(targets)):
                found.add(word)
    return found


def everyday(folder: Path, names: Names, known: set[str]) -> dict[str, str]:
    """Return the words that everybody uses, of the other languages."""
    spelling = _lines(folder / "words-english")
    lower = {word for word in spelling if word.islower()}
    capitals = {word.casefold() for word in spelling if word[0].isupper()} - lower
    found: dict[str, str] = {}
    for language in OTHERS:
        dictionary = _lines(folder / f"words-{language}")
        words = {word for word in dictionary if word.islower() and word.isalpha()}
        if language == "german":
            words |= {word.casefold() for word in dictionary if word.istitle()} - capitals
        for word, zipf in _frequencies(folder, language).items():
            if zipf < EVERYDAY or word not in words or word in known or len(word) < 2:
                continue
            if word in names.places and zipf < FUNCTION:
                continue
            mark = names.mark(word, zipf)
            if mark is None and zipf >= FUNCTION and word not in capitals and len(word) <= 5:
                mark = "y"
            if mark is not None:
                found[word] = mark
    return found


def main(folder: Path) -> None:
    """Write the two lists."""
    names = Names(folder)
    written = set(_own(*(path.stem for path in HERE.glob("*.csv") if path.stem not in ("english", "common"))))
    words = english(folder, names, written)
    _write("english", words)
    _write("common", everyday(folder, names, written.union(words)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
