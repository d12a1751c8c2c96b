"""Answers that are JSON or tool calls: compared value by value, so that layout, key order and fences never flip one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compatcheck.errors import InputError, did_you_mean
from compatcheck.records import CALL_ARGUMENTS
from compatcheck.similarity.base import References, Scorer, UnfitTarget, accepted, scorer, several
from compatcheck.similarity.numbers import EXACTLY, Tolerance, tolerance
from compatcheck.text import composed

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n`]*\n(.*?)```", re.DOTALL)
_LANGUAGES = ("json", "json5", "jsonc")
_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_LIKE_CALL = re.compile(r"[{]|\A\s*[\[<]|\A\s*[\w.]+\(.*\)\s*\Z|\A\s*null\s*\Z", re.DOTALL)
"""What may be meant as a call, so that a text which cannot be read as calls does not show that none was made."""
ABSENT = object()
"""The value of a key that is not there."""
DEEPEST = 200
"""Values that are nested deeper are no answer."""


class _TooDeep(ValueError):
    def __init__(self) -> None:
        super().__init__(f"nested more than {DEEPEST} deep")


NOTHING_READ, WHOLE = "(nothing that can be read)", "(all of it)"


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is beyond the numbers of JSON")
    return value


def _not_json(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


_DECODER = json.JSONDecoder(parse_float=_number, parse_constant=_not_json, object_pairs_hook=_unique)


def parse(text: str) -> Any:
    """The JSON value that a text is, or that stands in it: in a code fence, or as its only object or list.
    Raises ValueError: there is none, or several that differ.
    """
    text = text.strip().removeprefix("\ufeff")
    try:
        return _decode(text)
    except _TooDeep:
        raise
    except ValueError:
        fenced = _fenced(text)
        found = [_decode(each) for each in fenced] if fenced else list(_values(text))
    if not found:
        raise ValueError("no JSON in it")
    if any(differing(found[0], other) for other in found[1:]):
        raise ValueError("several JSON values in it, which differ")
    return found[0]


def _fenced(text: str) -> list[str]:
    """What stands in code fences that say they are JSON, or where none does in those that say nothing."""
    found = [(language.lower(), inner.strip()) for language, inner in _FENCE.findall(text)]
    return [inner for language, inner in found if language in _LANGUAGES] or [
        inner for language, inner in found if not language
    ]


def _decode(text: str) -> Any:
    try:
        value, end = _DECODER.raw_decode(text)
    except RecursionError:
        raise _TooDeep() from None
    if text[end:].strip():
        raise ValueError("more than one value")
    if _deep(value):
        raise _TooDeep()
    return value


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [one for each in level if isinstance(each, dict | list)
                 for one in (each.values() if isinstance(each, dict) else each)]  # fmt: skip
        if not level:
            return False
    return True


def _values(text: str) -> Iterator[Any]:
    """The objects and lists in running text, from left to right; a text that opens one and never ends it has none."""
    at = 0
    while (start := next((i for i in range(at, len(text)) if text[i] in "{["), -1)) >= 0:
        try:
            value, at = _DECODER.raw_decode(text, start)
            if _deep(value):
                return
            yield value
        except RecursionError:
            return
        except ValueError:
            if text[start] == "{":
                return  # what follows would be a part of it
            at = start + 1  # a bracket of plain text, such as a footnote


def differing(found: Any, wanted: Any, near: Tolerance = EXACTLY, at: str = "") -> list[str]:
    """Paths (``items[0].price``) at which two JSON values differ; empty where they are equal.

    Types count: ``"5"`` is not ``5`` and ``true`` is not ``1``; ``5`` and ``5.0`` are one number. Lists are in order.
    """
    pairs: list[tuple[str, Any, Any]]
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [*wanted, *(key for key in found if key not in wanted)]
        pairs = [(f"{at}.{key}" if at else key, found.get(key, ABSENT), wanted.get(key, ABSENT)) for key in keys]
    elif isinstance(found, list) and isinstance(wanted, list):
        longest = range(max(len(found), len(wanted)))
        pairs = [
            (f"{at}[{i}]", found[i] if i < len(found) else ABSENT, wanted[i] if i < len(wanted) else ABSENT)
            for i in longest
        ]
    elif _is_number(found) and _is_number(wanted):
        return [] if near.close(found, wanted) else [at]
    elif isinstance(found, str) and isinstance(wanted, str):
        return [] if composed(found) == composed(wanted) else [at]
    else:
        return [] if type(found) is type(wanted) and found == wanted else [at]
    return [path for name, one, other in pairs for path in differing(one, other, near, name)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pick(value: Any, field: str) -> Any:
    for key in field.split("."):
        if not isinstance(value, dict) or key not in value:
            return ABSENT
        value = value[key]
    return value


@scorer("json")
def json_match(
    name: str, fields: str | int | None = None, number_tolerance: float | str = 0.0, ignore_extra: bool = False
) -> Scorer:
    """1 where prediction and target are the same JSON value, else 0; a prediction without JSON is wrong.

    Args:
        fields: names of the fields that count, divided by commas, dotted where nested (``total,customer.id``); all
            without it, and of a target that has none of them.
        number_tolerance: how far numbers may lie apart: a number, or a share of the right one such as ``1%``.
        ignore_extra: keys that the target lacks do not count.
    """
    near = tolerance(name, number_tolerance)
    chosen = [field.strip() for field in str(fields).split(",") if field.strip()] if fields is not None else None
    if chosen == []:
        raise InputError(f"--metric-arg {name}.fields={fields}: names no field; leave it out to compare all of them")

    def wrong(found: Any, wanted: Any) -> list[str]:
        if chosen is not None and any(_pick(wanted, field) is not ABSENT for field in chosen):
            return [field for field in chosen if differing(_pick(found, field), _pick(wanted, field), near, field)]
        return differing(_without_extra(found, wanted) if ignore_extra else found, wanted, near)

    signature = f"json|fields:{','.join(chosen) if chosen else 'all'}|tolerance:{near}"
    signature += "|extra-keys:ignored" if ignore_extra else ""
    parts = lambda found, wanted: [_plain(at) for at in wrong(found, wanted)]  # noqa: E731
    return _scorer(name, signature, parse, wrong, parts, _Fields(chosen or ()))


class _Fields:
    """Holds chosen fields against the first values that are given: one that none of them has counts nothing."""

    def __init__(self, chosen: Sequence[str]) -> None:
        self._left = list(chosen)

    def __call__(self, values: Sequence[Any]) -> None:
        left, self._left = (self._left, []) if values else ([], self._left)
        for field in left:
            if all(_pick(value, field) is ABSENT for value in values):
                there = list(dict.fromkeys(key for value in values if isinstance(value, dict) for key in value))
                raise InputError(
                    f"--metric-arg json.fields: no target has a field '{field}'{did_you_mean(field, there)}; there are "
                    f"{', '.join(there[:20]) or 'none'} (dotted where nested)"
                )


def _plain(path: str) -> str:
    """A path without the places in lists: ``items[].price``."""
    return re.sub(r"\[\d+\]", "[]", path) or WHOLE


def _without_extra(found: Any, wanted: Any) -> Any:
    if isinstance(found, dict) and isinstance(wanted, dict):
        return {key: _without_extra(value, wanted[key]) for key, value in found.items() if key in wanted}
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return [_without_extra(one, other) for one, other in zip(found, wanted, strict=True)]
    return found


def calls(text: str) -> list[dict[str, Any]]:
    """The tool calls that a text holds, each with ``name`` and ``arguments``; an empty list where it says none.

    Read are a list of calls or one, as OpenAI's API writes them (``function``, arguments as JSON text) or plainly, an
    object with ``tool_calls`` or ``function_call``, and calls between ``<tool_call>`` marks.
    Raises ValueError: no tool calls.
    """
    marked = _CALL.findall(text)
    value = [_decode(each.strip()) for each in marked] if marked else parse(text)
    if isinstance(value, dict) and "tool_calls" in value:
        value = value["tool_calls"] or []
    elif isinstance(value, dict) and "function_call" in value:
        value = value["function_call"] or []
    return [_call(each) for each in (value if isinstance(value, list) else [value])]


def _call(value: Any) -> dict[str, Any]:
    inner = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise ValueError("a call without a name")
    said = [key for key in CALL_ARGUMENTS if key in inner]
    if not said and (held := [key for key, each in inner.items() if isinstance(each, dict)]):
        raise ValueError(f"a call without `arguments`, but with `{held[0]}`")
    arguments = inner[said[0]] if said else {}
    if isinstance(arguments, str):
        arguments = _decode(arguments.strip()) if arguments.strip() else {}
    return {"name": inner["name"], "arguments": {} if arguments is None else arguments}


@scorer("tool_call")
def tool_call(name: str, number_tolerance: float | str = 0.0, ignore_order: bool = False) -> Scorer:
    """1 where the prediction makes the calls of the target: the same names with equal arguments, none missing or extra.
    Where the target is an empty list, a text without a call is right.

    Args:
        number_tolerance: how far numbers of the arguments may lie apart, as for ``json``.
        ignore_order: the order of the calls does not count.
    """
    near = tolerance(name, number_tolerance)

    def wrong(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[str]:
        if not ignore_order:
            return differing(found, wanted, near)
        more, left = _unmatched(found, wanted, near)
        return [f"extra:{call['name']}" for call in more] + [f"missing:{call['name']}" for call in left]

    signature = f"tool_call|tolerance:{near}" + ("|order:ignored" if ignore_order else "")
    return _scorer(name, signature, calls, wrong, partial(_faulty_calls, near), none=_makes_no_call)


def _makes_no_call(text: str) -> bool:
    return bool(text.strip()) and _LIKE_CALL.search(text) is None


def _unmatched(
    found: list[dict[str, Any]], wanted: list[dict[str, Any]], near: Tolerance
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The calls on both sides that have no partner where as many as possible have one (augmenting paths)."""
    of: dict[int, int] = {}

    def place(call: int, tried: set[int]) -> bool:
        for other, each in enumerate(wanted):
            if other not in tried and not differing(found[call], each, near):
                tried.add(other)
                if other not in of or place(of[other], tried):
                    of[other] = call
                    return True
        return False

    more = [each for call, each in enumerate(found) if not place(call, set())]
    return more, [each for other, each in enumerate(wanted) if other not in of]


def _faulty_calls(near: Tolerance, found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[str]:
    """What is wrong with calls: missing and extra ones, other arguments of the same tool, another order."""
    extra, left = _unmatched(found, wanted, near)
    more, faults = [each["name"] for each in extra], []
    for name in [each["name"] for each in left]:
        if name in more:
            more.remove(name)
            faults.append("arguments")
        else:
            faults.append("missing call")
    faults += ["extra call"] * len(more)
    return faults or (["order"] if differing(found, wanted, near) else [])


def _scorer(
    name: str,
    signature: str,
    read: Callable[[str], Any],
    wrong: Callable[[Any, Any], list[str]],
    parts: Callable[[Any, Any], list[str]],
    check: Callable[[Sequence[Any]], None] = lambda _: None,
    none: Callable[[str], bool] = lambda _: False,
) -> Scorer:
    """``none`` says of an answer that cannot be read whether it is right where the target is an empty list."""

    def faults(prediction: str, target: str) -> list[str]:
        listed = accepted(target, False)
        texts = listed if isinstance(listed, list) and _all_read(listed, read) else [target]
        try:
            found = read(prediction)
        except (ValueError, RecursionError):
            return [NOTHING_READ]
        return min((sorted(set(parts(found, read(text)))) for text in texts), key=len)

    return Scorer(
        name, "discrete", signature, _scoring(name, read, wrong, check, none), lists=False, faults=faults,
        between=_between(read, wrong, check),
    )  # fmt: skip


def _all_read(texts: list[str], read: Callable[[str], Any]) -> bool:
    try:
        return all(read(text) is not None for text in texts)
    except ValueError:
        return False


def _scoring(
    name: str,
    read: Callable[[str], Any],
    wrong: Callable[[Any, Any], list[str]],
    check: Callable[[Sequence[Any]], None],
    none: Callable[[str], bool],
) -> Callable[[list[str], list[References]], NDArray[np.float64]]:
    def values(row: int, target: References) -> list[Any]:
        texts = several(target)
        try:
            return [read(text) for text in texts]
        except ValueError as error:
            if not isinstance(target, str):  # a JSON list of texts is one value, not several of equal standing
                try:
                    return [read(json.dumps(texts))]
                except ValueError:
                    pass
            shown = texts[0] if len(texts[0]) <= 60 else texts[0][:57] + "..."
            raise UnfitTarget(f"metric {name}: the target {shown!r} cannot be read: {error}", row) from None

    def score(predictions: list[str], targets: list[References]) -> NDArray[np.float64]:
        scores = np.zeros(len(predictions))
        right = [values(i, target) for i, target in enumerate(targets)]
        check([one for wanted in right for one in wanted])
        for i, (text, wanted) in enumerate(zip(predictions, right, strict=True)):
            try:
                found = read(text)
                scores[i] = any(not wrong(found, one) for one in wanted)
            except (ValueError, RecursionError):  # no JSON, or nested too deeply to be an answer
                scores[i] = [] in wanted and none(text)
        return scores

    return score


def _between(
    read: Callable[[str], Any], wrong: Callable[[Any, Any], list[str]], check: Callable[[Sequence[Any]], None]
) -> Callable[[list[str], list[References]], NDArray[np.float64]]:
    """The same for two answers, of which either may be no JSON: two that are none are equal as texts alone."""

    def score(texts: list[str], others: list[References]) -> NDArray[np.float64]:
        scores, known = np.zeros(len(texts)), []
        for i, (text, other) in enumerate(zip(texts, others, strict=True)):
            try:
                known.append(read(str(other)))
                scores[i] = not wrong(read(text), known[-1])
            except (ValueError, RecursionError):
                scores[i] = text == other
        check(known)
        return scores

    return score
