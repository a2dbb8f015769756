"""Cleans descriptors and free text (PS3.15 section E.3.5, Clean Descriptors): what is not known to be harmless goes.

In this order: the subject's own values; dates (`dates.shift_text`); what has the pattern of a telephone number, an
address, a number of a patient or the name behind a title; then every word that is on no list (`lexicon`). What stays is
not touched: a text of nothing but allowed words comes back as it is, bit by bit.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from . import lexicon
from .dates import MASK, Shift, shift_text
from .identifiers import contexts, date_like, patterns
from .lexicon import NAME, UNKNOWN, WORD
from .text import decode, encode, readings
from .tokens import IDEOGRAPHS, LETTERS, MASKED, Token, tokens
from .values import PARTING, Needles

__all__ = ["MASK", "NO_POLICY", "TextPolicy", "clean_value", "masked_tokens"]

_LIMITS = {b"AE": 16, b"CS": 16, b"SH": 16, b"LO": 64, b"ST": 1024, b"LT": 10240}
"""Characters that a value may have (PS3.5 table 6.2-1); UC and UT have no limit."""
_SINGLE = frozenset({b"ST", b"LT", b"UT", b"UR"})  # a backslash does not part their values
_UNMASKED = frozenset({b"AE", b"CS"})  # a mask is no legal value: what would have one is left out
_ROUNDS = 8
_CACHED = 1024
"""Longer values are seldom met twice."""
_LONGEST = 80  # letters that any word has; to take apart what is longer takes too long
_ONE_MASK = re.compile(r"\*{3,}(?:[ \t.,_^/'’:-]*\*{3,})+|\*{4,}")
_BESIDE = re.compile(r"[ \t.,_^/'’=-]{0,3}")
_INITIAL = re.compile(r" {0,2}[.,]? {0,2}")
_DECIMAL = re.compile(r"(?<![\w.,])\d{1,3}\.$")
_UNIT = re.compile(r" ?(%|[^\W\d_]{2,5})(?![^\W_])")


@dataclass(frozen=True, slots=True)
class TextPolicy:
    """What a profile adds to the lists and takes away: casefolded words."""

    allow: frozenset[str]
    deny: frozenset[str]


NO_POLICY = TextPolicy(frozenset(), frozenset())


def clean_value(
    vr: bytes,
    tag: int,
    value: bytes,
    charset: tuple[str, ...],
    needles: Needles,
    policy: TextPolicy,
    shift: Shift | None,
) -> bytes | None:
    """Return a text value without what may identify: `value` itself where nothing had to go.

    Otherwise new bytes in the same character set, unpadded, within the length that the VR allows; None where nothing
    worth keeping is left. Whatever is returned holds none of the needles. Masked text comes back as it is when it is
    cleaned again (moved dates, if it has any, would be moved again).
    """
    if not value:
        return value
    clean = _cached if len(value) <= _CACHED else _clean
    made = clean(vr, tag, value, charset, needles, policy, shift)
    return value if made == value else made


def masked_tokens(
    vr: bytes,
    tag: int,
    value: bytes,
    charset: tuple[str, ...],
    needles: Needles,
    policy: TextPolicy,
    shift: Shift | None,
) -> tuple[str, ...]:
    """Return the words of a value that go for no other reason than that they are on no list: for curation.

    Neither values of the subject's nor what has a pattern of numbers or names are among them.
    """
    found: list[str] = []
    for part in _parts(vr, decode(value, _reading(value, charset))):
        text = shift_text(_without_values(_composed(part), needles, dated=False), shift)
        text = _without_values(text, needles, dated=True)
        work = _Text(text, policy, dated=shift is not None)
        work.judge()
        for token in work.unlisted:
            word = text[token.begin : token.end].casefold()
            if len(word) >= 2 and not any(c.isdigit() for c in word):
                found.append(word)
    return tuple(found)


def _clean(
    vr: bytes,
    tag: int,
    value: bytes,
    charset: tuple[str, ...],
    needles: Needles,
    policy: TextPolicy,
    shift: Shift | None,
) -> bytes | None:
    if vr == b"PN":
        return value if not value.strip(b" \0^=*") else None  # a name is never harmless
    as_read = _reading(value, charset)
    parts = _parts(vr, decode(value, as_read))
    cleaned = [_clean_text(vr, part, needles, policy, shift) for part in parts]
    if all(one == part for one, part in zip(cleaned, parts, strict=True)):
        if not _tells(value, vr, tag, charset, needles):
            return value
        cleaned = [_unworthy(vr) for _ in parts]  # in another reading than its own
    cleaned = [_shortened(vr, one, needles, policy, shift) for one in cleaned]
    if not any(map(_worthy, cleaned)):
        return None
    made = encode("\\".join(cleaned), as_read)
    if made is None or _tells(made, vr, tag, charset, needles):
        ascii_only = [_clean_text(vr, _ascii(one), needles, policy, shift, again=True) for one in cleaned]
        made = encode("\\".join(ascii_only), as_read)
        if made is None or not any(map(_worthy, ascii_only)) or _tells(made, vr, tag, charset, needles):
            return None
    return made


_cached = lru_cache(maxsize=8192)(_clean)


def _reading(value: bytes, charset: tuple[str, ...]) -> tuple[str, ...]:
    """Return the character set that a value is really in: UTF-8 under another name, or none, is common."""
    if (
        value.isascii()
        or b"\x1b" in value
        or not charset[0].lower().startswith(("ascii", "iso8859", "latin", "iso_ir"))
    ):
        return charset
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return charset
    return ("utf-8",)


def _parts(vr: bytes, text: str) -> list[str]:
    text = text.rstrip("\0")
    return [text] if vr in _SINGLE else text.split("\\")


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _tells(value: bytes, vr: bytes, tag: int, charset: tuple[str, ...], needles: Needles) -> bool:
    """The question that the engine will ask about what is kept (search.find)."""
    return any(needles.hit(text.strip(" \0"), vr.decode("ascii"), tag) for text in readings(value, charset))


def _unworthy(vr: bytes) -> str:
    return "" if vr in _UNMASKED else MASK


def _worthy(text: str) -> bool:
    return any(token.kind != MASKED for token in tokens(text))


def _ascii(text: str) -> str:
    return "".join(
        text[token.begin : token.end] if token is not None and text[token.begin : token.end].isascii() else gap
        for token, gap in _with_gaps(text)
    )


def _with_gaps(text: str) -> list[tuple[Token | None, str]]:
    """Return tokens and what is between them, each with what stands for it in ASCII."""
    found: list[tuple[Token | None, str]] = []
    at = 0
    for token in tokens(text):
        found += [(None, "".join(c if c.isascii() else " " for c in text[at : token.begin])), (token, MASK)]
        at = token.end
    return [*found, (None, "".join(c if c.isascii() else " " for c in text[at:]))]


def _clean_text(
    vr: bytes, text: str, needles: Needles, policy: TextPolicy, shift: Shift | None, *, again: bool = False
) -> str:
    """Return one value without what goes; the very same text where nothing does."""
    composed = _composed(text)
    changed = composed if again else _without_values(composed, needles, dated=False)
    if not again or shift is None:
        changed = shift_text(changed, shift)
    for _ in range(_ROUNDS):
        before = changed
        changed = _without_values(changed, needles, dated=True)
        changed = _Text(changed, policy, dated=shift is not None).masked()
        if shift is None:
            changed = shift_text(changed, None)
        if changed != composed:
            changed = _within(vr, _ONE_MASK.sub(MASK, changed))
        if changed == before:
            break
    if changed == composed:
        return text
    if MASK in changed and (vr in _UNMASKED or not _worthy(changed)):
        return _unworthy(vr)
    return changed


def _shortened(vr: bytes, text: str, needles: Needles, policy: TextPolicy, shift: Shift | None) -> str:
    """Bring an untouched value of several to its length too; a number may lose its unit by that."""
    short = _within(vr, text)
    return text if short == text else _clean_text(vr, short, needles, policy, shift, again=True)


def _within(vr: bytes, text: str) -> str:
    """Shorten a text to what its VR allows, word by word."""
    text = text.rstrip() if vr in _SINGLE else text.strip()
    limit = _LIMITS.get(vr)
    if limit is None or len(text) <= limit:
        return text
    end = limit
    for token in tokens(text):
        if token.begin < limit < token.end:
            end = token.begin
    return text[:end].rstrip(" .,_^/'’:;-([{+=&")


# --- the subject's values ------------------------------------------------------------------------------------------


def _without_values(text: str, needles: Needles, *, dated: bool) -> str:
    """Mask the subject's values; dates only where `dated`, since before they are moved they are no find."""
    if text.isascii() and not needles.wide and not needles.candidates(text.lower().encode()):
        return text
    folded, places = _folded(text)
    spans = []
    for needle in needles.all:
        if (dated or needle.kind != "date") and needle.text in folded:
            spans += [(places[begin], places[end - 1] + 1) for begin, end in needle.spans(folded)]
    if needles.squeezed:
        tight = [(c, place) for c, place in zip(folded, places, strict=True) if not PARTING.match(c)]
        packed = "".join(c for c, _ in tight)
        for raw in needles.squeezed:
            sought = raw.decode()
            at = packed.find(sought)
            while at >= 0:
                spans.append((tight[at][1], tight[at + len(sought) - 1][1] + 1))
                at = packed.find(sought, at + 1)
    widened: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if not widened or end > widened[-1][1]:  # a word is widened to once, however often a value stands in it
            widened.append(_whole_words(text, begin, end))
    return _mask(text, widened) if widened else text


def _folded(text: str) -> tuple[str, list[int]]:
    """Return a text casefolded, and for each letter of that the place of the letter it comes from."""
    if text.isascii():
        return text.casefold(), list(range(len(text)))
    letters = [(folded, place) for place, c in enumerate(text) for folded in c.casefold()]
    return "".join(c for c, _ in letters), [place for _, place in letters]


def _whole_words(text: str, begin: int, end: int) -> tuple[int, int]:
    """Widen a find to the whole words it stands in, where words are parted by blanks."""
    while begin and _joined(text[begin - 1]) and _joined(text[begin]):
        begin -= 1
    while end < len(text) and _joined(text[end]) and _joined(text[end - 1]):
        end += 1
    return begin, end


def _joined(sign: str) -> bool:
    found = tokens(sign)
    return bool(found) and found[0].kind == LETTERS


def _mask(text: str, spans: list[tuple[int, int]]) -> str:
    out = []
    at = 0
    for begin, end in sorted(spans):
        if end <= at:
            continue
        if begin >= at:
            out += [text[at:begin], MASK]
        at = end
    return "".join(out) + text[at:]


# --- words ---------------------------------------------------------------------------------------------------------


class _Text:
    """A text whose dates and values of the subject are dealt with: judges its tokens."""

    def __init__(self, text: str, policy: TextPolicy, *, dated: bool) -> None:
        self.text = text
        self.policy = policy
        self.dated = dated
        self.tokens = tokens(text)
        self.unlisted: list[Token] = []
        self.going: list[tuple[int, int]] = []

    def masked(self) -> str:
        """Return the text with masks for what goes."""
        self.judge()
        return _mask(self.text, self.going) if self.going else self.text

    def judge(self) -> None:
        """Find what goes."""
        text = self.text
        self.going = patterns(text, dated=self.dated)
        taken = bytearray(len(text))
        for begin, end in self.going:
            taken[begin:end] = b"\1" * (end - begin)
        expected = bytearray(len(text))
        for begin, end in contexts(text):
            expected[begin:end] = b"\1" * (end - begin)
        state: list[int] = []  # for each token: whether it goes, stays, or stays unless it stands like a name
        for token in self.tokens:
            begin, end, kind = token
            if kind == MASKED or any(taken[begin:end]):
                if kind != MASKED:
                    self.going.append((begin, end))
                state.append(UNKNOWN)
            elif kind == IDEOGRAPHS:
                state.append(self._ideographs(token))
            else:
                found = self._word(token)
                if found == UNKNOWN:
                    self.unlisted.append(token)
                    self.going.append((begin, end))
                elif found == NAME and expected[begin]:
                    found = UNKNOWN
                    self.going.append((begin, end))
                state.append(found)
        if UNKNOWN in state:
            self._neighbours(state)

    def _word(self, token: Token) -> int:
        word = self.text[token.begin : token.end]
        folded = word.casefold()
        if folded in self.policy.deny:
            return UNKNOWN
        if folded in self.policy.allow:
            return WORD
        found = lexicon.known(word) if len(word) <= _LONGEST else UNKNOWN
        if found == UNKNOWN and word.isdecimal() and word.isascii() and self._measured(token):
            return WORD
        return found

    def _measured(self, token: Token) -> bool:
        """Whether a number of five or more digits says what it measures, is the fraction of one, or a moved date."""
        begin, end, _ = token
        text = self.text
        if self.dated and date_like(text[begin:end]):
            return True
        if end - begin <= 8 and _DECIMAL.search(text[max(0, begin - 5) : begin]):
            return not text[end : end + 2].lstrip(".,").isdigit()
        unit = _UNIT.match(text, end)
        return (
            unit is not None and end - begin <= 6 and (unit[1] == "%" or unit[1].casefold() in lexicon.lexicon().units)
        )

    def _ideographs(self, token: Token) -> int:
        """Chinese, Japanese and Korean: what is no word of the list goes, and the rest of the run stays."""
        begin, end, _ = token
        run = self.text[begin:end]
        kept = lexicon.divide(run) if run.casefold() not in self.policy.allow else [(0, len(run))]
        if run.casefold() in self.policy.deny:
            kept = []
        if kept == [(0, len(run))]:
            return WORD
        at = 0
        for start, stop in [*kept, (len(run), len(run))]:
            if at < start:
                self.going.append((begin + at, begin + start))
                self.unlisted.append(Token(begin + at, begin + start, IDEOGRAPHS))
            at = stop
        return WORD if kept else UNKNOWN

    def _neighbours(self, state: list[int]) -> None:
        """Mask what stands beside a mask as first names, initials and parts of numbers do, until nothing more does."""
        text, found = self.text, self.tokens
        waiting = [index for index, one in enumerate(state) if one == UNKNOWN]
        while waiting:
            index = waiting.pop()
            for other in (index - 1, index + 1):
                if not 0 <= other < len(found) or state[other] == UNKNOWN:
                    continue
                begin, end, _ = found[other]
                first, second = sorted((found[index], found[other]))
                between = text[first.end : second.begin]
                name = state[other] == NAME and _BESIDE.fullmatch(between)
                initial = (
                    end - begin == 1
                    and text[begin].isalpha()
                    and text[end : end + 1] == "."
                    and _INITIAL.fullmatch(between)
                    and text[begin].casefold() not in self.policy.allow
                )
                number = between in ("-", "/") and text[begin:end].isdecimal()  # the code before a telephone number
                if name or initial or number:
                    state[other] = UNKNOWN
                    self.going.append((begin, end))
                    waiting.append(other)
