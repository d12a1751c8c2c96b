"""About how many instances would settle a budget that is open: with 80 % power, as ``compatcheck plan`` counts."""

from __future__ import annotations

import math

from compatcheck.compare.power import needed_for_change, needed_to_settle
from compatcheck.compare.result import Comparison, Estimate
from compatcheck.gate.rules import Name

POWER = 0.8
_MOST = 1_000_000_000


def needed(known: Name, figure: Estimate, threshold: float, comparison: Comparison) -> tuple[int | None, str]:
    """How many instances settle the rule four times in five if the observed value holds, and that in words."""
    value, lower, upper = figure.value, figure.lower, figure.upper
    assert value is not None and lower is not None and upper is not None
    if known.rate and ((known.upper and threshold == 0) or (not known.upper and threshold == 1)) and value == threshold:
        return None, "no sample, however large, proves a budget that leaves no room"
    if value == threshold:
        return None, "the observed value is the budget itself, so it cannot be said how many instances would settle it"
    if known.rate:
        scale = _of_rate(figure, threshold, known.upper, comparison.confidence)
    else:
        # The bound of a mean or a difference nears it with the square root of the number of instances.
        reach = upper - value if value < threshold else value - lower
        scale = needed_for_change(reach / abs(threshold - value), POWER, comparison.confidence)
    if scale is None or comparison.n * scale > _MOST:
        return None, "the observed value is too close to the budget to say how many instances would settle it"
    count = max(comparison.n + 1, math.ceil(comparison.n * scale))
    return count, (
        f"about {count:,} instances would settle it {100 * POWER:g} % of the time if it stays so "
        f"(there are {comparison.n:,})"
    )


def _of_rate(figure: Estimate, threshold: float, upper: bool, confidence: float) -> float | None:
    """By what factor the sample must grow; of clustered instances so many effective ones are wanted."""
    assert figure.value is not None and figure.of is not None
    budget, rate = (threshold, figure.value) if upper else (1 - threshold, 1 - figure.value)
    if not 0 < budget < 1:
        return None
    found = needed_to_settle(budget, rate, POWER, confidence)
    return None if found is None else found / (figure.of if figure.effective is None else figure.effective)
