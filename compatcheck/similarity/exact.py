"""Exact match and its kin: the prediction is the target, or holds it; letter by letter, or with less strictness."""

from __future__ import annotations

import functools
import operator
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from compatcheck.similarity.base import References, Scorer, accepted, scorer, several
from compatcheck.similarity.numbers import EXACTLY, Tolerance, number_of, numbers_in, tolerance
from compatcheck.text import composed, plain_minus, plain_number

EXACT, CHANGED = "exact_match", "changed"
CASE, PUNCTUATION, STRIP = "ignore_case", "ignore_punctuation", "strip"
OPTIONS = (CASE, PUNCTUATION, STRIP)
_LOOSER: tuple[tuple[str, ...], ...] = ((CASE,), (PUNCTUATION,), (CASE, PUNCTUATION))
_NUMBER_SIGN = r"(?<!\w)[-−+](?=[.,]?\d)"
_INSIDE_NUMBER = r"(?<=\d)[.,:/](?=\d)|(?<![\w.,])[.,](?=\d)"
_UNSPACED = (  # scripts in which no white space stands around a word: Thai, Burmese, Khmer, kana, Han, Hangul
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
)
_JOINER, _VARIANTS = "\u200d", "\ufe0e\ufe0f"
"""What joins emoji into one, and what chooses how one looks."""
_NUMBER_BEGINS, _NUMBER_ENDS = re.compile(r"(?<!\d[.,])(?<!^[-−])(?<!\W[-−])"), re.compile(r"(?![.,]\d)")
_MARKS = re.compile(rf"{_NUMBER_SIGN}|{_INSIDE_NUMBER}|(?P<mark>[^\w\s])")
_KINDS_OF_MARKS = ("P", "C", "Sc", "Sk")
"""Unicode's categories of what does not count with ``ignore_punctuation``: punctuation, what is not seen, currencies,
signs such as `` ` ``. Vowel signs and accents, emoji and mathematical symbols say something."""
_SEPARATED = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\w,])", re.ASCII)


def same_text(prediction: str, target: str) -> bool:
    """Whether two texts are equal but for white space at the ends and, in numbers, thousands separators and the form of
    the minus. One letter is the same in one sign or two (``é``)."""
    prediction, target = composed(prediction.strip()), composed(target.strip())
    if prediction == target:
        return True
    if not any(sign in text for text in (prediction, target) for sign in ",−"):
        return False
    number = plain_number(prediction)
    return number is not None and number == plain_number(target)


def plainer(text: str, *, ignore_case: bool, ignore_punctuation: bool) -> str:
    """A text without what does not count. Marks that belong to a number stay: ``-5`` is not ``5``; so does a text of
    marks alone: ``?`` is not ``!``."""
    if ignore_case:
        text = text.casefold()
    if ignore_punctuation and not text.isalnum():
        text = " ".join(_MARKS.sub(lambda found: "" if _ignored(found["mark"]) else found[0], text).split()) or text
    return text


@functools.lru_cache(maxsize=4096)
def _ignored(mark: str | None) -> bool:
    return mark is not None and (mark in "|~" or unicodedata.category(mark).startswith(_KINDS_OF_MARKS))


def _matching(ignore_case: bool, ignore_punctuation: bool, near: Tolerance = EXACTLY) -> Callable[[str, str], bool]:
    plain = functools.partial(plainer, ignore_case=ignore_case, ignore_punctuation=ignore_punctuation)

    def match(prediction: str, target: str) -> bool:
        both = prediction + target
        if both.isalnum() and both.isascii() and not near:  # nothing but case to make plainer: the rest is slow
            return prediction == target or (ignore_case and prediction.lower() == target.lower())
        if same_text(prediction, target) or (near and _near(prediction, target, near)):
            return True
        if not (ignore_case or ignore_punctuation):
            return False
        prediction, target = plain(prediction), plain(target)
        return same_text(prediction, target) or (bool(near) and _near(prediction, target, near))

    return match


def _near(prediction: str, target: str, near: Tolerance) -> bool:
    """Whether both are numbers that lie close enough, in one unit; a currency may be missing in either."""
    found, wanted = number_of(prediction), number_of(target)
    if found is None or wanted is None:
        return False
    units = {found[1], wanted[1]}
    return near.close(found[0], wanted[0]) and (len(units) == 1 or ("" in units and "%" not in units))


def _holding(ignore_case: bool, ignore_punctuation: bool, near: Tolerance = EXACTLY) -> Callable[[str, str], bool]:
    """Whether the prediction holds the target as words of its own: ``12`` is not in ``120``."""
    plain = functools.partial(plainer, ignore_case=ignore_case, ignore_punctuation=ignore_punctuation)

    def holds(prediction: str, target: str) -> bool:
        wanted = number_of(target) if near else None
        if wanted is not None and not wanted[1]:
            return any(near.close(one, wanted[0]) for one in numbers_in(prediction))
        whole, part = (plain(plain_minus(composed(text.strip()))) for text in (prediction, target))
        if (number := plain_number(part)) is not None:
            part = number
            whole = _SEPARATED.sub(lambda found: found[0].replace(",", ""), whole) if "," in whole else whole
        if not part or part not in whole:
            return whole == part
        start = whole.find(part)
        while start >= 0 and not _apart(whole, part, start):
            start = whole.find(part, start + 1)
        return start >= 0

    return holds


def _apart(whole: str, part: str, start: int) -> bool:
    """Whether what stands at ``start`` is no piece of a longer word or number, nor of a letter with a sign on it."""
    end = start + len(part)
    if part[0].isdigit() and not _NUMBER_BEGINS.match(whole, start):
        return False
    if part[-1].isdigit() and not _NUMBER_ENDS.match(whole, end):
        return False
    last, next_one = whole[start - 1 : start] if start else "", whole[end : end + 1]
    joined = not next_one.isascii() and next_one not in _VARIANTS
    if joined and (unicodedata.category(next_one)[0] == "M" or next_one == _JOINER):
        return False
    return not (_of_word(part[0]) and _of_word(last)) and not (_of_word(part[-1]) and _of_word(next_one))


@functools.lru_cache(maxsize=4096)
def _of_word(sign: str) -> bool:
    """Whether a character is a part of a word, in scripts with white space between them."""
    if not sign or re.match(f"[{_UNSPACED}]", sign):
        return False
    return re.match(r"\w", sign) is not None or unicodedata.category(sign)[0] == "M"


def _fits(match: Callable[[str, str], bool], text: str, right: References) -> bool:
    return match(text, right) if isinstance(right, str) else any(match(text, one) for one in right)


def _scorer(name: str, signature: str, match: Callable[[str, str], bool]) -> Scorer:
    def score(predictions: list[str], targets: list[References]) -> NDArray[np.float64]:
        pairs = zip(predictions, targets, strict=True)
        found = (text == right or _fits(match, text, right) for text, right in pairs)
        return np.fromiter(found, dtype=np.float64, count=len(predictions))

    return Scorer(name, "discrete", signature, score, itself=True)


@scorer(EXACT)
def exact_match(
    name: str,
    ignore_case: bool | None = None,
    ignore_punctuation: bool | None = None,
    strip: bool | None = None,
    number_tolerance: float | str | None = None,
) -> Scorer:
    """1 where prediction and target are the same text, else 0.

    Case counts unless ``ignore_case``, punctuation unless ``ignore_punctuation`` (marks of a number always do). White
    space at both ends does not count, nor where both are numbers do thousands separators (``"1,234"`` matches
    ``"1234"``) and the form of the minus; with ``strip=False`` all do. Numbers are compared as written, ``"18.0"`` does
    not match ``"18"``, unless they may lie ``number_tolerance`` apart: a number, or a share of the right one such as
    ``"1%"``.
    """
    case, marks, near = bool(ignore_case), bool(ignore_punctuation), tolerance(name, number_tolerance)
    if strip is False and not (case or marks or near):
        return _scorer(name, "exact_match|letter-by-letter", operator.eq)
    signature = f"exact_match|strip|thousands-separators:ignored{_signed(case, marks, near)}"
    return _scorer(name, signature, _matching(case, marks, near))


def _signed(case: bool, marks: bool, near: Tolerance) -> str:
    signed = ("|case:ignored" if case else "") + ("|punctuation:ignored" if marks else "")
    return f"{signed}|tolerance:{near}" if near else signed


@scorer(CHANGED)
def changed(name: str) -> Scorer:
    """Whether NEW's answer is OLD's, letter by letter: 1 where it is. No target is needed."""
    return _scorer(name, "changed|letter-by-letter", operator.eq)


@scorer("contains")
def contains(
    name: str,
    ignore_case: bool | None = None,
    ignore_punctuation: bool | None = None,
    number_tolerance: float | str | None = None,
) -> Scorer:
    """1 where the prediction holds the target as words of its own, else 0: ``"Paris"`` in ``"It is Paris."``.

    ``"12"`` is not in ``"120"``, nor in ``"-12"``. Case and punctuation as for ``exact_match``; with a
    ``number_tolerance`` a target that is a number is held by any number that lies close enough.
    """
    case, marks, near = bool(ignore_case), bool(ignore_punctuation), tolerance(name, number_tolerance)
    signature = f"contains|whole-words{_signed(case, marks, near)}"
    return _scorer(name, signature, _holding(case, marks, near))


def other_readings(
    scores: NDArray[np.float64],
    predictions: Sequence[str | None],
    targets: Sequence[str | None],
    settled: Mapping[str, bool],
) -> dict[tuple[str, ...], NDArray[np.float64]]:
    """What a strict exact match would score if white space, case, punctuation, or the last two, did not count.

    Args:
        scores: 1 or 0, shape (n,); NaN where there is none. A 1 stays a 1: less strictness makes nothing wrong.
        targets: texts; a JSON list of texts stands for several of equal standing.
        settled: options of which the user has said whether they are meant.

    Returns the scores by the options that are added, without readings that change nothing.
    """
    wrong = [i for i in np.flatnonzero(scores == 0).tolist() if None not in (predictions[i], targets[i])]
    if settled.get(STRIP) is False:  # where white space counts, no other reading makes up for it
        wrong = [i for i in wrong if _edges(str(predictions[i])) == _edges(str(targets[i]))]
    case, marks = (settled.get(option) is True for option in (CASE, PUNCTUATION))
    plain = functools.partial(plainer, ignore_case=case, ignore_punctuation=marks)

    def right(match: Callable[[str, str], bool]) -> list[int]:
        return [i for i in wrong if _fits(match, str(predictions[i]), accepted(str(targets[i]), False))]

    wrong = right(_matching(True, True))  # what the loosest does not make right, no other reading does
    ways: dict[tuple[str, ...], list[int]] = {
        (STRIP,): right(lambda text, other: plain(text.strip()) == plain(other.strip()))
    }
    # What white space alone explains needs nothing else; and no option is about a number written otherwise.
    wrong = sorted({*wrong} - {*right(_matching(case, marks))})
    ways |= {way: right(_matching(case or CASE in way, marks or PUNCTUATION in way)) for way in _LOOSER}
    found: dict[tuple[str, ...], NDArray[np.float64]] = {}
    for way, rows in ways.items():
        if rows and not settled.keys() & set(way):
            found[way] = scores.copy()
            found[way][rows] = 1.0
    return found


def _edges(text: str) -> tuple[str, str]:
    """The white space at both ends."""
    return text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]


def references(target: str) -> list[str]:
    """The texts that a target column stands for: itself, or those of the JSON list it holds."""
    return several(accepted(target, False))
