"""Makes english.csv, common.csv and unaccented.csv: words that occur in descriptors, in medicine or in everyday use.

    python profiles/text/generate.py SOURCE_FOLDER

SOURCE_FOLDER holds, as they were obtained (README.md names the sources), one word a line:
allowlist.csv            words seen in radiology descriptors
words-LANGUAGE           a spelling dictionary; proper names (in German, nouns too) have a capital
words-british            the spelling of Great Britain
words-medical            English medical terms
words-german-medical     German medical terms
frequencies-LANGUAGE     word and frequency (zipf: the logarithm of how often among 10^9 words)
dist.all.last, dist.female.first, dist.male.first    names of a census and their share in per cent
people-of-many-countries, places                     names of people and places

A word is left out if it is the name of people or of places first. Which of those are needed all the same is judged one
by one below; they stay with a mark, and go where they stand like a name.
"""

from __future__ import annotations

import bisect
import csv
import re
import sys
import unicodedata
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Words that are names too: judged one by one to be needed. They stay with a mark, and go where they stand like a name.
_NAMES_KEPT = """
    add ally among anon ante ants apple arch are arts ash asks baby bald ball ban banks banner bare barrier bath
    bay beach bean bear beat beer belt bent best beta bias bill bills binder bins bird bite bitten blank blaze
    bloom blow board bolt bond bones book borders bore born boss bounds bowling box brace brake brand brands
    breeding brick bridge broom brush bud bull bump bunch bunker burden burr butcher butt button cable call cam
    can canal candy cant cap car cares carrier carry cases cash cave central chambers champion chance char
    cheeks cherry chew chip cis clear click cliff close cloud coats coffee coffin comfort comment company con
    constant contractor cook cool cop cope copper core cork corn cotton council cover covert coward craft crane
    crisp crow cruise crystal curl curry cutter danish dare date deal dear deck deep den desire dial die doc
    doll dollar dot drink drive driver drives drop drum duck dusty duty dye each eagle east edit else english
    essence ether ever fair fall fan fang far farmer favors fears feather fed fee fell fever fish fit fix flick
    flood floor flower flowers fog font food foot fore forget fortune fountain freely fresh friend front frost
    gale gall gang garlic gates gauge gene general ginger glass glasses glory golden good gore grab grand grass
    gravel grim grove grow guard guess guest gum gun gut guy hack hacker hair halls ham hammer handler handy
    hang harden harder harm harness hash hatch hawk hay hazard heard hedge held helm her herb herd hind holiday
    honey hook hooks hoop horn house hug humble hung hunger hunt hurt infant iron irons ivory jet job joke judge
    jug jump just justice keen keys kick kidney kind kit kitchen kite ladder lake lamb lamp land languages laser
    lash law laws lawyer lay lean lemon lent less lie lies line link lips list lock loop loss lot love lovely
    loving luck lucky lung mach mad made marble marine marry marvel mast master masters mat mate mats maze means
    media mentor messenger meta metro mile miles milk million miracle mist mix mock mold money moon moss mould
    mount mountain mouse music must mustard nation nickel nil north northern nova null numbers nut nuts oak oats
    odd odds olive omega oral orange owe pace pack painter pan para parent parts patience paw pea peace peach
    pear peel penny pepper per person petty pickle pierce pike pin pine pink pins pitcher plank plant plants
    player pleasant plum pointer pole pond pool pop poppy pork potter pounds power powers precious press price
    pride priest prince purity put queen race raid rails rain read reader ready reason reel refs rib rice rich
    riddle rider ridge rim river rock rod roll roller roof room root roots rope rounds royal rush rust rusty sad
    sage said sale sales salmon samples sand sans scales seal see self sell sen sessions settle shade she sheets
    shields shine shore shorter showers shrimp silk sing sink slack slate slaughter sleep sneeze snow soap solar
    sole song soon south southern soy sparks speaks spear spell spider spikes spoon spring stamps staples starch
    stay stays steel steer steward stock stocks storm storms story stout strange straw strong struck stump
    styles such sugar sun sung sunshine sweat sweet swim swords tab tank the thorn thumb tick ties till tin
    tobacco tone too tore tours tower toy trace treat tree trout tuck tuna turkey twin twins unique unknown
    urban utter valid valley valves velvet vest vice viking wages waits walker walnut warmer wash wasp water
    watt wax way weed were west western wheat wheel wheels whey wick wild wind wine wing winner wisdom wise wood
    wooden wool word worker working works worm worth worthy yeast yoga younger"""
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
EVERYDAY = 3.9  # the same for other languages: function words and what everybody says
FUNCTION = 5.3  # so frequent that they are needed although somebody is called so
SURELY = 3.3  # so frequent that a rare name does not count
GENERATED = ("english", "common", "unaccented")
IDEOGRAPHS = "chinese_japanese_korean"
ROMANCE = ("french", "italian", "portuguese", "spanish")
INFLECTED = ("norwegian", "polish")  # dictionaries with every form: of those only what is in use is taken
OTHERS = ("danish", "dutch", "french", "german", "italian", "norwegian", "polish", "portuguese", "spanish", "swedish")
PLURALS = (("s", ""), ("es", ""), ("ies", "y"), ("ae", "a"), ("i", "us"), ("a", "um"))
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
    spelling += _lines(folder / "words-british")
    spelling = [word for word in spelling if word.islower() and word.isalpha() and word.isascii()]
    medical = [
        word for word in _lines(folder / "words-medical") if word.islower() and word.isalpha() and word.isascii()
    ]
    zipf = _frequencies(folder, "english")
    words = {*spelling, *medical}
    taken = words & seen
    taken |= {word for word in spelling if len(word) >= 3 and zipf.get(word, 0) >= OFTEN["english"]}
    taken |= {word for word in medical if len(word) >= 4 and zipf.get(word, 0) >= OFTEN["medical"]}
    plain = taken | set(_own("radiology"))
    taken |= {
        word for word in words if any(word[: -len(end)] + one in plain for end, one in PLURALS if word.endswith(end))
    }
    with (HERE.parent / "standard" / "code_meanings.csv").open(encoding="utf-8", newline="") as file:
        meant = {word.casefold() for row in csv.reader(file) for word in re.findall(r"[A-Za-z]{4,}", row[0])}
    taken |= meant - capitals
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


# Stems that medical words of the languages share; a word with one of them is taken however rare it is.
_STEMS = """
    cardi kardi hepat nefr nephr neur pulmon arteri tromb thromb osteo artro arthro gastr bronqu bronch bronk
    oskrzel pleur crani krani cerebr cérebr zerebr encefal encéphal enzephal mening vertebr vertèbr muskul muscul
    músc carcin karzin karcin sarcom sarkom lymph linf limf lymf metast métast metást fractur fraktur frattur fratur
    radiolog radiogra röntgen tomogra tomodens sonogra ecogra écogra ekogra échogra scintig szinti scyntyg cintilo
    resonan rezonans contrast kontrast biops endosc endosk laparo kirurg cirurg chirurg anestes anästh allerg alergi
    diabet hypert hipert ipertens anemi anämi anémi hemorr hémorr emorrag hämorr isch[eéä]m isqu[eé]m infarc infarkt
    infart embol stenos sténos stenoz aneur anévr an[eé]vris aneurys venös veneu venos vascul vasku naczyn thyr
    tiroid tireoid tarczyc pancre pankre trzust prostat vagin placent mammogr mamogr becken bekken abdom thora torác
    tórax torace torac lumb lędź cervic cervik zervik sacral sakral femor tibi fibul humer clavic klavik scapul patell
    menisc menisk meniscal ligament tendin sehnen cartil knorpel gelenk knochen hirn lungen leber niere njur lever
    hersen hjern hjärn mózg płuc wątrob nerk kręg bryst bröst quist kyst zyst ödem ødem oedem œdem cirr[oh]
    zirrh herni hérni ulcer ulcèr abszess absces infec infekt infekc inflam entzünd betænd bakteri bactér pneum polmon
    neumon asthm dyspn disnea syndrom síndrom sindrom pathol patolog diagnos symptom síntom sintom therap terap
    chemoth chimioth quimio chemiot pharm farmac farmak injec injek inyec iniez inieci catét cathét kathet katet prothe
    prótes protes transplant trasplant transfus dialys diális dializ dializz ektom ectom ektomi oscop oskop"""
# Verbs of Romance languages have dozens of forms; nouns and adjectives suffice.
_NOMINAL = re.compile(
    "(?:ies?|iques?|aires?|[ae]ls?|ales|aux|[ae]is|omes?|ites?|oses?|i[ae]s?|ic[oai]s?|ich[ei]|ías?|is|mas?|mi|ci[óo]n|ciones"
    "|zion[ei]|ção|ções|ares?|os[oaie]s?|log[oi]s?|gramm?[aei]s?|tions?|tés?|dades?|tà|ismos?|ismes?|entos?|enti|ments?)$"
)
_MEDICAL = re.compile("|".join(_STEMS.split()))


def others(folder: Path, names: Names, known: set[str]) -> dict[str, str]:
    """Return the words of the other languages that everybody uses, and those of medicine."""
    spelling = _lines(folder / "words-english")
    lower = {word for word in spelling if word.islower()}
    capitals = {word.casefold() for word in spelling if word[0].isupper()} - lower
    found: dict[str, str] = {}
    for language in OTHERS:
        dictionary = _lines(folder / f"words-{language}")
        words = {word for word in dictionary if word.islower() and word.isalpha()}
        if language == "german":
            words |= {word.casefold() for word in dictionary if word.istitle()} - capitals
        zipf = _frequencies(folder, language)
        medical = {word for word in words if len(word) >= 6 and _MEDICAL.search(word)}
        if language in INFLECTED:
            medical &= zipf.keys()
        if language in ROMANCE:
            medical = {word for word in medical if word in zipf or _NOMINAL.search(word, len(word) - 5)}
        if language == "german":
            terms = _lines(folder / "words-german-medical")
            medical |= {word.casefold() for word in terms if len(word) >= 4 and word.isalpha()} - capitals
        for word in medical | {word for word in words & zipf.keys() if zipf[word] >= EVERYDAY}:
            often = zipf.get(word, 0)
            if word in known or len(word) < 2 or (word in names.places and often < FUNCTION):
                continue
            mark = names.mark(word, often)
            if mark is None and often >= FUNCTION and word not in capitals and len(word) <= 5:
                mark = "y"
            if mark is not None:
                found[unicodedata.normalize("NFC", word).casefold()] = mark
    return found


_SPELT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "æ": "ae", "ø": "oe"})
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "æ": "ae", "œ": "oe", "đ": "d", "ı": "i"})


def unaccented(words: dict[str, str], names: Names) -> dict[str, str]:
    """Return how words are written where umlauts and accents are not to be had, unless that is a name."""
    found: dict[str, str] = {}
    for word, mark in words.items():
        if word.isascii() or not word[0].casefold() < "\u0250":
            continue
        letters = unicodedata.normalize("NFD", word.translate(_LETTERS))
        for plain in (word.translate(_SPELT), "".join(c for c in letters if not unicodedata.combining(c))):
            judged = names.mark(plain, 0)
            if plain not in words and judged is not None:
                found[plain] = max(judged, mark, found.get(plain, ""))
    return found


def main(folder: Path) -> None:
    """Write the two lists."""
    names = Names(folder)
    written = set(_own(*(path.stem for path in HERE.glob("*.csv") if path.stem not in GENERATED)))
    words = english(folder, names, written)
    _write("english", words)
    foreign = others(folder, names, written.union(words))
    _write("common", foreign)
    everything = _own(*(path.stem for path in HERE.glob("*.csv") if path.stem not in ("unaccented", IDEOGRAPHS)))
    _write("unaccented", unaccented(everything, names))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
