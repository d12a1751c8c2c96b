"""Budgets against the noise floor: what reruns of OLD use up by themselves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from compatcheck.compare.result import Comparison
from compatcheck.errors import InputError
from compatcheck.gate.rules import CRITICAL, NAMES, Rule
from compatcheck.gate.verdict import writer


def noise_remarks(comparisons: Sequence[Comparison], rules: Sequence[Rule]) -> tuple[str, ...]:
    """Hold every budget against the measured noise floor; a sentence for each that is within its interval.

    A budget that reruns of OLD against OLD are shown to use up by themselves says nothing of NEW, so it is no verdict
    but an error: where the noise's one-sided bound on the good side is beyond it. One that the measured noise, or its
    other bound, reaches is noted, and so is an advisory one. A measured noise of none forbids no budget.

    Raises:
        InputError: a critical budget within the noise floor.
    """
    found = []
    for rule, each in itertools.product(rules, comparisons):
        key = rule.key(each) if rule.covers(each) else None
        noise = each.noise.metrics.get(key) if each.noise is not None and key is not None else None
        if noise is None or noise.value is None or not NAMES[key or ""].rate:
            continue
        assert each.noise is not None and key is not None and noise.lower is not None and noise.upper is not None
        known, budget = NAMES[key], rule.threshold
        least, most = (noise.lower, noise.upper) if known.upper else (noise.upper, noise.lower)
        write = writer(known.percent, budget, (noise.value, least, most))
        sign, way = ("above", "at least") if known.upper else ("below", "at most")
        if rule.tier == CRITICAL and (budget < least if known.upper else budget > least):
            raise InputError(
                f"--fail-on {rule.text!r}: the budget is within the noise floor of {each.name} ({known.label} "
                f"{write(noise.value)}, by its bound {way} {write(least)}; {each.noise.source}): the old model breaks "
                f"it against itself, so it can tell nothing of the new one; set one {sign} {write(most)}"
            )
        if noise.value != (0.0 if known.upper else 1.0) and (budget <= most if known.upper else budget >= most):
            found.append(
                f"{each.name}: the budget {rule.text} is not shown to be {sign} the noise floor ({known.label} "
                f"{write(noise.value)}, by its bounds {write(noise.lower)} to {write(noise.upper)}; "
                f"{each.noise.source}); its verdict may be noise"
            )
    return tuple(found)
