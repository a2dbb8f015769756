"""Invented people, places and numbers, drawn from a seed: no value is taken from a list of real persons.

Family names, streets and towns are put together from syllables of a locale; given names are common ones, so that no
pair of given and family name is anybody's on purpose. What is made is never a word of the benchmark's research text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from random import Random

from benchmarks.score import tables


@dataclass(frozen=True)
class Locale:
    """How people are called somewhere, and the Specific Character Set (0008,0005) that writes it."""

    name: str
    language: str
    character_set: str
    parts: dict[str, tuple[str, ...]]

    @property
    def ideographic(self) -> bool:
        return self.name in {"ja", "zh", "ko"}


@cache
def locales() -> tuple[tuple[Locale, int], ...]:
    """All locales with their weights."""
    names = ("onset", "nucleus", "coda", "family_end", "street_end", "town_end", "hospital")
    return tuple(
        (
            Locale(
                row["locale"],
                row["language"],
                row["character_set"],
                {name: tuple(row[name].split("|")) for name in names},
            ),
            int(row["weight"]),
        )
        for row in tables.rows("words/locales.csv")
    )


@cache
def research_words() -> frozenset[str]:
    """Words of research text, in lower case: no identifier may be one of them."""
    words: set[str] = set()
    for name, columns in (("atoms", ("values",)), ("phrases", ("text",)), ("templates", ("text",))):
        for row in tables.rows(f"words/{name}.csv"):
            for column in columns:
                cleaned = "".join(c if c.isalnum() else " " for c in row[column].lower())
                words.update(cleaned.split())
    return frozenset(words)


class Maker:
    """Makes identifiers of one locale; equal seeds make equal ones."""

    def __init__(self, rng: Random, locale: Locale) -> None:
        self.rng = rng
        self.locale = locale

    def word(self, end: str, least: int = 5) -> str:
        """Return a capitalised word of syllables with one of the locale's endings."""
        parts = self.locale.parts
        while True:
            made = self.rng.choice(parts["onset"]) + self.rng.choice(parts["nucleus"])
            if self.locale.ideographic:
                word = made
            else:
                made += self.rng.choice(parts["coda"])
                word = (made + self.rng.choice(parts[end])).capitalize()
            if word.lower() not in research_words() and (self.locale.ideographic or len(word) >= least):
                return word

    def family(self) -> str:
        return self.word("family_end")

    def given(self) -> str:
        names = [row["names"] for row in tables.rows("words/given.csv") if row["locale"] == self.locale.name]
        if self.locale.ideographic:
            return "".join(self.rng.sample(self.locale.parts["coda"], 2))
        return self.rng.choice((names[0] if names else "Ada|Emil").split("|"))

    def town(self) -> str:
        return self.word("town_end")

    def street(self) -> tuple[str, str]:
        """Return the street's own name and its kind: ("Kelvovay", "Street")."""
        return self.word("family_end"), self.rng.choice(self.locale.parts["street_end"])

    def institution(self) -> tuple[str, str]:
        """Return the institution's own name, which may be a double one, and its kind."""
        name = self.word("town_end")
        if self.locale.name == "en" and self.rng.random() < 0.3:
            name = f"{self.family()}-{name}"
        return name, self.rng.choice(self.locale.parts["hospital"])

    def digits(self, number: int) -> str:
        return str(self.rng.randint(1, 9)) + "".join(str(self.rng.randint(0, 9)) for _ in range(number - 1))

    def mrn(self) -> str:
        style = self.rng.randrange(6)
        if style == 0:
            return "MR" + self.digits(7)
        if style == 1:
            return f"{self.digits(2)}-{self.digits(3)}-{self.digits(3)}"
        if style == 2:
            return self.rng.choice("ABCDEHKPX") + self.digits(8)
        return self.digits(self.rng.choice((6, 7, 8, 8, 9, 10, 12)))

    def accession(self) -> str:
        if self.rng.random() < 0.15:
            day = f"20{self.rng.randint(10, 22)}{self.rng.randint(1, 12):02}{self.rng.randint(1, 28):02}"
            return f"{day}E{self.digits(6)}"
        return self.rng.choice(("", "A", "CT", "RAD-", "ACC")) + self.digits(self.rng.choice((8, 8, 9, 10, 12)))

    def phone(self) -> str:
        a, b, c = self.digits(3), self.digits(3), self.digits(4)
        return self.rng.choice(
            (f"({a}) {b}-{c}", f"{a}-{b}-{c}", f"{a}.{b}.{c}", f"+49 {a} {b}{c}", f"+1 {a} {b} {c}", f"0{a}/{b}{c}")
        )

    def serial(self) -> str:
        return self.rng.choice(("SN", "", "E-")) + self.digits(self.rng.choice((5, 6, 7)))

    def ssn(self) -> str:
        return f"9{self.digits(2)}-{self.digits(2)}-{self.digits(4)}"

    def uid(self) -> str:
        return f"1.2.826.0.1.3680043.10.{self.digits(4)}.{self.digits(9)}.{self.digits(8)}"


@dataclass(frozen=True)
class Person:
    """Somebody's name, in Latin letters and in the locale's own script where that is another."""

    family: str
    given: str
    middle: str
    ideographic: str = ""  # family^given in ideograms or Hangul

    @property
    def pn(self) -> str:
        """The value of a PN element."""
        latin = f"{self.family}^{self.given}" + (f"^{self.middle}" if self.middle else "")
        return f"{latin}={self.ideographic}" if self.ideographic else latin

    @property
    def written(self) -> tuple[str, str]:
        """Family and given name as free text of the locale writes them."""
        if self.ideographic:
            family, given = self.ideographic.split("^")
            return family, given
        return self.family, self.given


@dataclass
class Patient:
    """A patient with all that a hospital knows about the person; `own` are the identifiers in lower case."""

    number: int
    locale: Locale
    person: Person
    patient_id: str
    other_id: str
    birth: str  # YYYYMMDD
    sex: str
    phone: str
    street: tuple[str, str]
    house: str
    zip: str
    town: str
    country: str
    region: str
    insurance: str
    institution: tuple[str, str]
    hospital_street: tuple[str, str]
    people: dict[str, Person] = field(default_factory=dict)

    @property
    def own(self) -> frozenset[str]:
        """Names and other words that identify the patient or those around, in lower case."""
        words = {self.street[0], self.town, self.country, self.region, self.institution[0], self.hospital_street[0]}
        for person in (self.person, *self.people.values()):
            words.update((person.family, person.given, person.middle, *person.written))
        return frozenset(word.lower() for word in words if word)


ROLES = (
    "referring",
    "record",
    "performing",
    "reading",
    "operator",
    "requesting",
    "relative",
    "mother",
    "maiden",
    "other",
)


def common_names(locale: Locale, words: bool) -> list[str]:
    """Common family names of a locale; with `words` also those that are words."""
    rows = [row for row in tables.rows("words/common_names.csv") if row["locale"] == locale.name]
    names = [row[column] for row in rows for column in (("family", "words") if words else ("family",))]
    return [name for part in names for name in part.split("|") if name]


def make_person(rng: Random, locale: Locale, known: bool = False) -> Person:
    """Invent a name. Of people that attributes name (`known`), the family name may be a common one, or a word."""
    if not locale.ideographic:
        maker = Maker(rng, locale)
        common = common_names(locale, words=True)
        if known and common and rng.random() < 0.4:
            return Person(rng.choice(common), maker.given(), "")
        middle = rng.choice(("", "", maker.given()))
        given = maker.given()
        return Person(maker.family(), given, middle if middle != given else "")
    latin = Maker(rng, locales()[0][0])
    own = Maker(rng, locale)
    return Person(latin.family(), latin.given(), "", f"{own.family()}^{own.given()}")


def make_patient(seed: str, number: int) -> Patient:
    """Invent patient `number` of a seed."""
    rng = Random(f"{seed}/patient/{number}")
    every = locales()
    locale = every[rng.choices(range(len(every)), [weight for _, weight in every])[0]][0]
    maker = Maker(rng, locale)
    person = make_person(rng, locale, known=True)
    if locale.name == "en" and rng.random() < 0.2:
        # A name that is a word: the own one of a patient must be found, where a list of names would not help.
        chosen = rng.choice(tables.rows("words/word_names.csv"))
        person = Person(chosen["family"], chosen["given"], "")
    patient = Patient(
        number=number,
        locale=locale,
        person=person,
        patient_id=maker.mrn(),
        other_id=maker.mrn(),
        birth=f"{rng.randint(1918, 2012)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}",
        sex=rng.choice("MF"),
        phone=maker.phone(),
        street=maker.street(),
        house=str(rng.randint(101, 989)),
        zip=maker.digits(5),
        town=maker.town(),
        country=maker.town(),
        region=maker.town(),
        insurance=maker.family(),
        institution=maker.institution(),
        hospital_street=maker.street(),
    )
    patient.people.update({role: make_person(rng, locale, known=True) for role in ROLES})
    return patient
