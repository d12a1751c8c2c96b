"""What the user says of the figures beside quality: prices, settings, and budgets on what has to be measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from compatcheck.compare.answers import UNITS, WHY, How
from compatcheck.compare.refusals import REFUSALS
from compatcheck.compare.result import Comparison
from compatcheck.errors import InputError, did_you_mean
from compatcheck.gate import Rule, parse_rules
from compatcheck.options import Diff, Evaluate
from compatcheck.records import FIGURES, GREATEST

_SETTINGS = {"length": ("unit",), "refusal": ("patterns",)}
Chosen = TypeVar("Chosen", bound=Evaluate)


def of_quality(chosen: Chosen) -> Chosen:
    """The options without what they say of the figures beside quality, which are no scores."""
    metrics = tuple(name for name in chosen.metric if name not in UNITS)
    given = {name: each for name, each in (chosen.metric_args or {}).items() if name not in UNITS}
    return replace(chosen, metric=metrics, metric_args=given or None)


def read(chosen: Diff) -> How:
    """How the figures are made. Raises InputError: a setting or a price that cannot be meant."""
    rules = [*parse_rules(chosen.fail_on), *parse_rules(chosen.advisory)]
    given = {name: dict(each) for name, each in (chosen.metric_args or {}).items() if name in UNITS}
    for name, settings in given.items():
        for key in settings:
            known = _SETTINGS.get(name, ())
            if key not in known:
                there = f"; it has {', '.join(known)}" if known else "; it has none"
                raise InputError(f"--metric-arg {name}.{key}: no such setting{did_you_mean(key, known)}{there}")
    prices = {side: _price(side, text) for side, text in (chosen.price or {}).items()}
    asked = {name for name in chosen.metric if name in UNITS} | {rule.name for rule in rules if rule.is_beside}
    asked |= given.keys() | ({"cost"} if prices else set())
    unit = given.get("length", {}).get("unit", "characters")
    if unit not in ("characters", "words"):
        raise InputError(f"--metric-arg length.unit={unit}: characters or words")
    patterns = _patterns(given.get("refusal", {}).get("patterns"))
    return How(tuple(name for name in UNITS if name in asked), prices, unit == "words", patterns)


def _price(side: str, text: Any) -> tuple[float, float]:
    said = f"--price {side}={text}"
    if side not in ("old", "new"):
        raise InputError(f"{said}: a price is of old or of new: --price old=3/15 --price new=1/5")
    parts = str(text).split("/")
    try:
        found = tuple(float(part) for part in parts)
    except ValueError:
        found = ()
    if len(found) != 2 or not all(0 <= each <= GREATEST for each in found):
        raise InputError(f"{said}: dollars of a million tokens in and out, such as {side}=3/15")
    return found[0], found[1]


def _patterns(given: Any) -> tuple[str, ...]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if given is None:
        return REFUSALS
    flag = "--metric-arg refusal.patterns"
    if isinstance(given, str) and given.startswith("@"):
        try:
            given = [line for line in Path(given[1:]).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{flag}={given}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    patterns = [given] if isinstance(given, str) else given
    if (
        not isinstance(patterns, Sequence)
        or not patterns
        or not all(isinstance(each, str) and each for each in patterns)
    ):
        raise InputError(f"{flag}: a regular expression, a list of them, or @FILE with one a line")
    for pattern in patterns:
        try:
            pc.match_substring_regex(pa.array([""]), pattern, ignore_case=True)
        except pa.ArrowException as error:
            why = str(error).splitlines()[0].removeprefix("Invalid regular expression: ")
            raise InputError(f"{flag}: {pattern!r} is no regular expression as RE2 reads them ({why})") from None
    return tuple(patterns)


def check(chosen: Diff, rules: Sequence[Rule], how: How, side: Callable[[str], Any]) -> None:
    """Refuse a budget on what will not be measured, before anything is paid for.

    ``side`` gives OLD or NEW as :class:`compatcheck.evaluation.collect.Side`.
    Raises InputError: so it is, or the budget goes with an option that cannot have it.
    """
    for rule in (one for one in rules if one.is_beside):
        said = rule.as_option
        if chosen.until_decided:
            raise InputError(
                f"{said}: --until-decided draws documents until flips and scores are decided; leave it out"
            )
        if chosen.cluster_by is not None:
            raise InputError(f"{said}: it counts single instances, and --cluster-by does not; leave one of them away")
        for name in ("old", "new"):
            for reference in side(name).references.values():
                here = reference.recorded is None and reference.endpoint is None
                if here and rule.name in ("latency", "latency_first"):
                    raise InputError(
                        f"{said}: {reference.text} runs here, many texts at a time, so that an answer has no time of "
                        "its own; measure a server of it (http://…/v1#model)"
                    )
                if reference.recorded is None and rule.name == "cost" and name not in how.prices:
                    raise InputError(f"{said}: what an answer of {name.upper()} costs takes --price {name}=IN/OUT")
                streams = side(name).options.engine.engine_args.get("stream")
                if reference.endpoint is not None and rule.name == "latency_first" and not streams:
                    raise InputError(f"{said}: {WHY['latency_first']}")


def needed(rules: Sequence[Rule]) -> dict[str, str]:
    """The figures that recorded answers must say, each with the budget that asks for it."""
    return {rule.name: rule.as_option for rule in rules if rule.is_beside and rule.name in FIGURES}


def from_store(comparisons: Sequence[Comparison], *settings: Mapping[str, Any]) -> list[str]:
    """Notes on seconds that were measured earlier, from the settings of OLD's and NEW's runs."""
    if not any(name in (each.beside or {}) for each in comparisons for name in ("latency", "latency_first")):
        return []
    return [
        f"latency: {one['from_store']:,} of {side}'s {one['answers']:,} answers come from the store, with the seconds "
        "that were measured when they were asked; --no-store asks all of them now"
        for side, one in zip(("OLD", "NEW"), settings, strict=True)
        if one.get("from_store")
    ]
