"""Finds in text what has the pattern of something identifying, whatever the lists of words say.

Telephone numbers, addresses of mail, web and streets, numbers of patients and orders, ages over 89, names behind a
title; and the places where a name is to be expected.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .datetext import shift_text
from .datevalues import Shift
from .lexicon import WORD, known

_PHONE_WORD = (
    r"(?:tel(?:ephone|efon|[ée]fono|efone|efoon|éphone)?|phone|fon|fax|mobile|mobil|handy|cell(?:ulare)?|gsm|pager"
    r"|beeper|durchwahl|m[óo]vil)"
)
_ID_WORD = (
    r"(?:mrn|pid|pat(?:ient(?:en)?)?[ ._-]?(?:id|nr|no|number|nummer)|fall(?:nummer|[ -]?nr)|case[ -]?(?:no|number)"
    r"|accession(?:[ -]?(?:no|number|nr))?|acc[ -]?(?:no|nr|num|number)|ssn|nhs(?:[ -]?no)?|order[ -]?(?:no|nr|id)"
    r"|order ?number|auftrag(?:snummer|s-?nr)|visit[ -]?(?:no|number|id)|req(?:uest|uisition)?[ -]?(?:no|number|id)"
    r"|(?:chart|policy)[ -]?no|hosp(?:ital)?[ -]?(?:no|number|id)|versicherten-?(?:nr|nummer)|bsn|dni|nif|cpf"
    r"|n[°º] ?(?:dossier|patient|de dossier)|ipp|nhc|historia)"
)
_ID_SHORT = r"(?:id|nr|no|acc|case|order|account|acct|ref|visit|chart|encounter|policy|req|fall|auftrag|dossier)"
_NUMBERED = r"(?:[A-Za-z]{0,6}[-/.]?)?\d[\w]*(?:[-/.]\w+)*"
_NAME_PARTS = r"(?:von|van|vom|der|den|de|del|della|di|da|do|dos|la|le|el|ten|ter|zu|zum|zur|al|bin|mc|st)"
_TITLES = (
    r"(?:prof(?:essor|\.)?|dra|srta|se[ñn]or(?:a|ita)?|mrs|mister|herrn?|frau|fräulein|monsieur|madame|mme|mlle"
    r"|mademoiselle|dott(?:\.ssa|ore|oressa)?|signor[ae]?|dhr|mevr(?:ouw)?|meneer|senhora?|docteur|doktor|dokter"
    r"|doctor|doctora|doutora?|sig\.(?:ra)?|sr\.|sra\.?|mr\.|ms\.|dr\.|drs\.|hr\.|fr\.)"
)
_SOFT_TITLES = r"(?:Dr|Drs|Mr|Ms|Sr)"
_GRADES = r"(?:med|dent|vet|habil|rer|nat|phil|dipl|ing|univ|priv|doz|pd|h|c)"
_NOT_NAMED = r"(?:mit|with|and|und|avec|con|et|y|e|in|of|for|zum|bei|a|o|or|ou|en|met|com|sans|ohne|without|has|is|ist)"

# Nothing here may look through a text again from each of its letters: lengths are bounded, or begin where words begin.
_PATTERNS = [
    # mail, web, computers
    re.compile(r"[\w.+%-]{1,64}@[\w-]+(?:\.[\w-]+)+|(?<!\w)[^\W\d][\w.+-]{1,64}@[^\W\d][\w-]+"),
    re.compile(r"(?:https?|ftp|file|ldap|smb)://[^\s\\]+|(?<!\w)www\.[^\s\\]+", re.IGNORECASE),
    re.compile(
        r"(?<![\w.])[\w-]{1,63}(?:\.[\w-]{1,63}){0,9}\.(?:com|org|net|edu|gov|mil|info|local|lan)(?![\w])(?:/[^\s\\]*)?",
        re.I,
    ),
    re.compile(r"(?<!\d)\d++(?:\.\d++){3,}"),  # addresses of computers, UIDs
    re.compile(r"(?<!\w)(?:[0-9a-f]{1,4}:){4,7}[0-9a-f:]{1,20}(?!\w)", re.IGNORECASE),
    # telephones, with a word that says so, international, North American, national with a leading 0
    re.compile(
        rf"(?<![^\W_]){_PHONE_WORD}\b[ .:#]{{0,9}}(?:no|nr|number)?[ .:#]{{0,9}}(\+?[(\d](?:[ ()/.-]{{0,9}}\d){{3,}})",
        re.I,
    ),
    re.compile(r"(?<![\w.])(?:\+|00)[1-9]\d{0,2}[ ./()-]*\d(?:[ ./()-]{0,3}\d){5,13}(?!\w)"),
    re.compile(r"(?<![\w.])(?:1[-. ])?\(?[2-9]\d{2}\)?[-. ]{1,2}\d{3}[-.]\d{4}(?!\w)"),
    re.compile(r"\(\d{3,5}\) ?\d{3,}(?:[- ]\d{2,})*(?!\w)"),
    re.compile(r"(?<![\w.,])\(?0[1-9]\d{0,4}\)?(?=(?:\D{0,3}\d){7,12}(?!\d))(?:[ ./-]{1,3}\d{2,8})+(?!\w)"),
    # numbers of people and of orders
    re.compile(rf"(?<![^\W_]){_ID_WORD}(?![^\W\d_])[ .:#=]*({_NUMBERED})", re.IGNORECASE),
    re.compile(rf"(?<![^\W_]){_ID_SHORT} ?[:#=][ .:#=]*({_NUMBERED})", re.IGNORECASE),
    re.compile(r"(?<![\w.-])\d{3}-\d{2}-\d{4}(?![\w-])|(?<![\w.-])[12] \d\d \d\d \d\d \d{3} \d{3}(?: \d\d)?(?!\w)"),
    re.compile(r"(?<![\w.])\d+(?:\.\d+){2}(?:-\d+)?(?![\w.])"),
    re.compile(r"(?<!\w)(?:[^\W\d_][-/])?(?:\d{1,4}[-/]){1,3}\d{5,}(?:[-/]\w+)*(?!\w)"),
    # streets
    re.compile(
        r"(?<!\w)\d{1,5}[a-z]? (?:[^\W\d_]+\.? ){1,3}"
        r"(?:street|avenue|ave|road|blvd|boulevard|lane|drive|highway)(?!\w)",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?<![^\W\d_])[^\W\d_]*?(?:stra(?:ß|ss)e|platz|allee|gasse|laan|straat) \d{1,4}[a-z]?(?!\w)", re.IGNORECASE
    ),
    re.compile(
        r"(?<!\w)(?:\d{1,4},? )?(?:rue|avenue|calle|avenida|rua|viale|piazza|corso)"
        r"(?: [^\W\d_]+){1,3}(?:,? \d{1,4})?(?!\w)",
        re.IGNORECASE,
    ),
]
_THREE_PARTS = re.compile(r"\d+(?:\.\d+){2}(?:-\d+)?")
_SPACED_PHONE = re.compile(r"(?<![\w.,])(?<!\d )([2-9]\d{2}) (\d{3}) (\d{4})(?![\w.,])")
_CHAIN = re.compile(r"(?<![\w.,-])\d{2,}(?:[-/]\d{2,}){1,4}(?![\w.,-])")
_DATE = re.compile(
    r"(?:18|19|20|21)\d\d([-./ ]?)(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])"
    r"(?:[t _-]?(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?)?"
    r"|(?:0?[1-9]|[12]\d|3[01])([-./ ])(?:0?[1-9]|[12]\d|3[01])\2(?:18|19|20|21)?\d\d"
    r"|(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|[12]\d|3[01])(?:18|19|20|21)\d\d",
    re.IGNORECASE,
)
_OLD = [
    re.compile(
        r"(?<![\w.,])((?:9\d|1[0-4]\d)) ?-? ?"
        r"(?:(?:y(?:/?o|rs?|ears?)?|jahre?|jährig\w*|jaehrig\w*|j\.(?!,? ?\w)|ans|años|anni|jaar|anos|year|år|lat|let"
        r"|éves|vuotta|vuotias|yaş\w*|лет|года?|ετών)(?!\w)|[岁歳歲세])",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?<![^\W_])(?:aged?|alter|âgée? de|âge|edad|età|idade|leeftijd|ålder|alder|wiek|возраст)[ :=]{1,3}"
        r"(9\d|1[0-4]\d)(?![\w%])(?![.,]\d)",
        re.IGNORECASE,
    ),
    # 92F, 95 M: with the sex behind it; but 99M is an isomer
    re.compile(r"(?<![\w.,-])(?!99 ?M)(9\d|1[01]\d) ?[MFW](?!\w)"),
]
_TITLE = re.compile(
    rf"(?<![^\W_])(?:(?i:{_TITLES})(?![^\W\d_])|(?P<soft>{_SOFT_TITLES})(?![^\W\d_.]))"
    rf"(?P<name>(?:[ .]{{1,2}}(?i:{_GRADES}|{_TITLES}|dr|{_NAME_PARTS})(?![^\W\d_]))*"
    rf"(?:[ .]{{1,2}}[^\W\d_](?![^\W\d_]))*[ .]{{1,2}}(?:[^\W\d_]+(?:[-'’][^\W\d_]+)*|\*{{3,}}))"
)
_CONTEXT = re.compile(
    r"(?<![^\W_])(?:(?:patient(?:in|e)?(?:'?s)?|pt|pat|paciente|paziente|patiënt)?[ ._-]?(?:name|nom|nome|nombre|naam"
    r"|surname|vorname|nachname|prénom|cognome|apellidos?|achternaam|voornaam)|patient(?:in|e)?|pt|pat|paciente|paziente"
    r"|patiënt|physician|doctor|arzt|ärztin|médecin|médico|medico|radiologist|operator|tech|technologist|mtra|mta|mtr"
    r"|überweiser|zuweiser|untersucher|befunder|opérateur|prescripteur|verwijzer|attn|referrer) ?[:=]"
    r"|(?<![^\W_])(?:ref(?:erred)?|req(?:uested)?|ordered|performed|read|reported|dictated|signed|interpreted|verified"
    r"|approved|done|scanned|transcribed|entered|discussed|called|attn|cc|überwiesen|zugewiesen|befundet|gez|adressé"
    r"|remitido|solicitado|inviato|richiesto|verwezen|aangevraagd|encaminhado|for|seen)[ .]+"
    r"(?:by|to|with|von|vom|durch|par|por|da|dal|door)(?![^\W_])",
    re.IGNORECASE,
)
_CONTEXT_ENDS = re.compile(r"[;|\n\r\f)]|\d")


def patterns(text: str, *, dated: bool) -> list[tuple[int, int]]:
    """Return the places of what goes whatever the lists say. `dated`: dates in the text were moved, and may stay."""
    found: list[tuple[int, int]] = []
    digits = any(c.isdigit() for c in text)
    if digits or "@" in text or "." in text:
        for pattern in _PATTERNS:
            for match in pattern.finditer(text):
                place = match.span(1) if pattern.groups and match[1] is not None else match.span()
                if (
                    _THREE_PARTS.fullmatch(match[0])
                    and sum(c.isdigit() for c in match[0]) < 7
                    and match[0].count(".") < 3
                ):
                    continue  # version 1.2.3
                if not (dated and _movable(text[slice(*place)].strip())):
                    found.append(place)
    if digits:
        found += [m.span() for m in _SPACED_PHONE.finditer(text) if any(int(part) % 10 for part in m.groups())]
        found += [m.span() for m in _CHAIN.finditer(text) if _numbered(m[0]) and not (dated and _movable(m[0]))]
        found += [m.span(1) for old in _OLD for m in old.finditer(text)]
    for match in _TITLE.finditer(text):
        begin, end = match.span("name")
        if not _only_title(match):
            found.append((begin + 1, end))
    return found


def _numbered(chain: str) -> bool:
    """Whether numbers joined by hyphens or slashes are one number: not ranges or lists of round values."""
    parts = re.split("[-/]", chain)
    long = len(parts) > 2 or any(len(part) >= 4 for part in parts)
    return long and sum(map(len, parts)) >= 7 and any(int(part) % 10 for part in parts)


def _only_title(match: re.Match[str]) -> bool:
    name = match["name"].split()[-1].lstrip(".")
    if re.fullmatch(_NOT_NAMED, name) or name.startswith("*"):
        return True
    # "Dr Thorax" is Digital Radiography where nobody wrote a full stop.
    return match["soft"] is not None and (name.islower() or known(name) == WORD)


def contexts(text: str) -> list[tuple[int, int]]:
    """Return the places where a name is to be expected: behind 'Patient:', 'Ref. by' and the like."""
    found: list[tuple[int, int]] = []
    for match in _CONTEXT.finditer(text):
        if found and match.end() <= found[-1][1]:
            continue  # within the place before
        stop = _CONTEXT_ENDS.search(text, match.end())
        found.append((match.end(), stop.start() if stop else len(text)))
    return found


def date_like(token: str) -> bool:
    """Whether a token of digits is a date, with or without a time."""
    return len(token) in (8, 12, 14) and _movable(token)


@lru_cache(maxsize=4096)
def _movable(token: str) -> bool:
    """Whether a token is a date that `shift_text` has moved: what that leaves alone is a number like any other."""
    return _DATE.fullmatch(token) is not None and shift_text(token, _A_DAY) != token


_A_DAY = Shift(days=-1, seconds=0, times="keep", zone=None)
