"""Kinds of failure: what became of an answer that was right before, told from the texts alone by rules.

A flip is of one kind, the first of :data:`KINDS` whose rule holds. ``format`` is the right answer written another way,
or a text out of which no answer could be taken. "Right" is what OLD answered and the target: an
answer that got worse is held against both. The rules know no task; a flip of which none holds is ``other``.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from compatcheck.compare import numerals
from compatcheck.compare.languages import language, script
from compatcheck.compare.refusals import HEAD, REFUSALS, WITHHELD
from compatcheck.text import ends_of

KINDS: Mapping[str, str] = {
    "empty": "no answer",
    "refused": "refused",
    "cut_off": "cut off",
    "language": "another language or script",
    "spelling": "white space, case or punctuation only",
    "format": "answer in another form",
    "choice": "another choice",
    "number_scale": "number off by a factor, sign or unit",
    "number": "another number",
    "longer": "much longer",
    "shorter": "much shorter",
    "other": "another answer",
}
"""Every kind in words, in the order in which the rules are asked."""
LABELS = 50
"""Targets are labels, so that another of them is another choice, where there are at most so many different ones."""
PHRASE = 8
"""Words of an answer that another text may state; a longer one is a text, and that one a longer text."""
_READ = 4_000
"""Characters of a text that the rules read: of a longer one the beginning and the end."""
_SHORT = 100
"""Characters of a flip that may well come again: labels, choices, numbers."""
_INVALID = "[invalid]"
"""What lm-eval's filters give where they found no answer."""

_REFUSAL = re.compile("|".join(f"(?:{each})" for each in REFUSALS), re.IGNORECASE)
_BROKEN_OFF = re.compile(
    r"(?:[,;:(\[{]|[-–—]|\b(?:the|a|an|of|and|to|in|with|for|is|are|was|that|or|by|as|at|from|which|because|if|und|der|"
    r"die|das|le|la|les|de|el))$",
    re.IGNORECASE,
)
THINKING = "thinking"  # the ``finish_reason`` of a text that ended within its reasoning
CUT = frozenset(
    {"length", THINKING, "max_tokens", "max_output_tokens", "max_new_tokens", "max_gen_toks", "model_length"}
)
"""Why a text ended that was not at its end."""
_LETTER = re.compile(
    r"(?:the\s+)?(?:(?:correct\s+)?(?:option|choice|answer)\s*(?:is|:)?\s*)?[(\[*]*([A-J])(?:[)\].:*]+(?=\s|$)|$)",
    re.IGNORECASE,
)
_WORDS_OF_CHOICE = (
    {"yes", "no"}, {"true", "false"}, {"positive", "negative", "neutral"}, {"entailment", "contradiction", "neutral"},
    {"agree", "disagree"}, {"correct", "incorrect"}, {"pass", "fail"}, {"left", "right"}, {"spam", "ham"},
)  # fmt: skip
_ANY_CHOICE = set().union(*_WORDS_OF_CHOICE)
_TOKEN = re.compile(r"[^\W_]+(?:[.,'’/-][^\W_]+)*")


@dataclass(frozen=True)
class KindCount:
    """How many negative flips are of one kind of failure."""

    kind: str
    count: int


class Flip(NamedTuple):
    """An answer that got worse. ``text_…`` is the whole output where the answer was taken out of it."""

    target: str | None
    old: str | None
    new: str | None
    text_old: str | None = None
    text_new: str | None = None
    finish_reason: str | None = None
    chosen: bool = False
    """Whether the answers are choices of a list that the model was given."""


def counted(kinds: Iterable[str]) -> tuple[KindCount, ...] | None:
    """How many there are of each kind, the most frequent first; None where there is none at all."""
    found = Counter(kinds)
    order = sorted(found.items(), key=lambda each: (-each[1], [*KINDS].index(each[0])))
    return tuple(KindCount(kind, count) for kind, count in order) or None


def labels(targets: Iterable[str | None], rows: int) -> frozenset[str]:
    """The targets, made plain, where they are so few that they are labels; else none."""
    found: set[str] = set()
    for each in targets:
        if each is not None:
            found.add(_plain(each))
            if len(found) > min(LABELS, rows // 4):
                return frozenset()
    return frozenset(found) if len(found) > 1 else frozenset()


def failure_kind(flip: Flip, labels: frozenset[str] = frozenset()) -> str:
    """The first kind of :data:`KINDS` whose rule holds."""
    short = sum(map(len, filter(None, flip[:5]))) <= _SHORT
    return (_known_kind if short else _kind)(flip, labels)


def _kind(flip: Flip, labels: frozenset[str]) -> str:
    new = None if flip.new is None or flip.new.strip() == _INVALID else _read(flip.new)
    text = _read(flip.text_new if flip.text_new is not None else flip.new or "")
    before = _read(flip.text_old if flip.text_old is not None else flip.old or "")
    reason = (flip.finish_reason or "").strip().lower()
    if reason == THINKING:
        return "cut_off"
    if reason in WITHHELD:
        return "refused"
    if not text.strip() or text.strip() == _INVALID:
        return "empty"
    if flip.chosen:
        return "choice"
    known = dict.fromkeys(each for each in (flip.old, flip.target) if each is not None)  # mostly they are the same
    right = [each for each in known if each.strip() not in ("", _INVALID)]
    right = [_read(each) for each in right if each != flip.new]  # the right text, which only a score says is wrong
    if _refuses(text) and not any(map(_refuses, (before, *right))):
        return "refused"
    if reason in CUT or _broken_off(text, before):
        return "cut_off"
    if _other_language(text, list(dict.fromkeys([before, *right]))):
        return "language"
    if new is None or not new.strip():
        return "format"  # there is a text, and no answer could be taken out of it
    return _of_answer(new, text, right, labels) or _of_length(text, before)


_known_kind = lru_cache(maxsize=16_384)(_kind)


def _refuses(text: str) -> bool:
    return _REFUSAL.search(text[:HEAD].replace("’", "'")) is not None


def _of_answer(new: str, text: str, right: Sequence[str], labels: frozenset[str]) -> str | None:
    plain = _plain(new)
    if any(plain == _plain(each) for each in right):
        return "spelling"
    if any(_same(new, each) or (text != new and _stated(text, each)) for each in right):
        return "format"
    if right and _is_structured(right[0]) != _is_structured(new):
        return "format"
    if _other_choice(new, right, labels):
        return "choice"
    for each in right:
        if (expected := numerals.only(each)) is not None and (given := numerals.answer(new)) is not None:
            return "number_scale" if numerals.scaled(expected, given) else "number"
    return None


def _of_length(text: str, before: str) -> str:
    long, short = max(len(text), len(before)), min(len(text), len(before))
    if long >= 1.5 * max(short, 1) and len((text if len(text) == long else before).split()) >= 8:
        return "longer" if len(text) == long else "shorter"
    return "other"


def _read(text: str) -> str:
    return ends_of(text, _READ)


def _broken_off(text: str, before: str) -> bool:
    text, before = text.strip(), before.strip()
    if text.count("```") % 2 > before.count("```") % 2:
        return True
    if text[:1] in "{[" and not _is_structured(text) and _is_structured(before) and before.startswith(text[:1]):
        return text[-1] not in "]}"
    ended = text[-1:] in ".!?…\"'”’)]}。！？"
    begins = len(text) >= 10 and len(before) > len(text) and before.startswith(text) and not ended
    return begins or (len(text.split()) >= 5 and bool(_BROKEN_OFF.search(text)) and not _BROKEN_OFF.search(before))


def _other_language(text: str, others: Sequence[str]) -> bool:
    for known in (script, language):
        here = known(text)
        if here is None:
            continue
        there = [found for each in others if (found := known(each)) is not None]
        if there and here not in there:
            return True
    return False


@lru_cache(maxsize=2048)
def _plain(text: str) -> str:
    """Without case, white space, accents and punctuation; what tells numbers apart stays."""
    text = numerals.unaccented(text.casefold())
    text = re.sub(r"[\s!?;:\"'“”‘’«»…¿¡]+", "", text)
    return re.sub(r"(?<!\d)[.,]|[.,](?!\d)", "", text)


def _words(text: str) -> list[str]:
    text = numerals.unaccented(text.casefold())
    if not text.isascii():  # vowel signs are a part of words: each is written in letters
        text = "".join(f"ˑ{ord(one):x}" if unicodedata.category(one)[0] == "M" else one for one in text)
    return _TOKEN.findall(text)


def _same(new: str, right: str) -> bool:
    """Whether an answer is the right one in another form."""
    expected = numerals.only(right)
    if expected is not None:
        given = numerals.answer(new)
        return given is not None and numerals.equal(expected, given)
    if (date := numerals.date(right)) is not None and numerals.date(new) == date:
        return True
    letters = [_letter(each) for each in (right, new)]
    if letters[0] is not None and letters[0] == letters[1]:
        return True
    return _stated(new, right)


def _stated(text: str, right: str) -> bool:
    """Whether a text states an answer: anywhere where it is more than a short word, else in the place of an answer."""
    if (expected := numerals.only(right)) is not None:
        given = numerals.answer(text)
        return given is not None and numerals.equal(expected, given)
    words, wanted = _words(text), _words(right)
    size = len(wanted)
    if not wanted or size > len(words) or size > PHRASE:
        return False
    for start in range(len(words) - size + 1):
        if words[start : start + size] == wanted:
            before = words[start - 1] if start else ""
            if before in ("not", "no", "n't", "isn't", "never", "nor"):
                continue
            if (
                size > 1
                or len(right.strip()) >= 5
                or before in ("", "is", "answer", "answer's")
                or start == len(words) - 1
            ):
                return True
    return False


def _letter(text: str) -> str | None:
    """The letter of an option that a text begins with."""
    found = _LETTER.match(text.strip())
    return found[1].upper() if found else None


def _other_choice(new: str, right: Sequence[str], labels: frozenset[str]) -> bool:
    letters = [_letter(each) for each in (*right, new)]
    if letters[-1] is not None and any(letters[:-1]) and letters[-1] not in letters[:-1]:
        return True
    given, expected = _plain(new), {_plain(each) for each in right}
    if given in labels and expected & labels and numerals.only(new) is None:
        return True
    words = _words(new)
    first = {words[0], words[-1]} if words else set()
    if first.isdisjoint(_ANY_CHOICE):
        return False
    return any(first & group and expected & group and not first & expected for group in _WORDS_OF_CHOICE)


def _is_structured(text: str) -> bool:
    text = text.strip()
    if text[:1] not in ("{", "["):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
