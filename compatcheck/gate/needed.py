"""About how many instances would settle a budget that is open: with 80 % power, as ``compatcheck plan`` counts."""

from __future__ import annotations

import math

from compatcheck.compare.intervals import z_values
from compatcheck.compare.means import FEW
from compatcheck.compare.power import needed_for_change, needed_to_settle
from compatcheck.compare.result import Comparison, Estimate
from compatcheck.gate.rules import Name

POWER = 0.8
_MOST = 1_000_000_000


def needed(known: Name, key: str, figure: Estimate, threshold: float, comparison: Comparison) -> tuple[int | None, str]:
    """How many instances settle the rule four times in five if the observed value holds, and that in words."""
    value = figure.value
    assert value is not None
    if known.rate and ((known.upper and threshold == 0) or (not known.upper and threshold == 1)) and value == threshold:
        return None, "no sample, however large, proves a budget that leaves no room"
    if value == threshold:
        return None, "the observed value is the budget itself, so it cannot be said how many instances would settle it"
    if known.rate:
        scale = _of_rate(figure, threshold, known.upper, comparison.confidence)
    elif key == "mean_difference" and _few_gains(comparison) and value > threshold:
        least, most = comparison.score_range or (0.0, 1.0)
        scale = _of_rate(comparison.metrics["nfr"], -threshold / (most - least), True, comparison.confidence)
    else:
        scale = _of_mean(key, figure, threshold, comparison)
    if scale is None or comparison.n * scale > _MOST:
        return None, "the observed value is too close to the budget to say how many instances would settle it"
    count = max(comparison.n + 1, math.ceil(comparison.n * scale))
    return count, (
        f"about {count:,} instances would settle it {100 * POWER:g} % of the time if it stays so "
        f"(there are {comparison.n:,})"
    )


def _of_mean(key: str, figure: Estimate, threshold: float, comparison: Comparison) -> float:
    """The same of a mean or a difference; a bound that allows for what was not seen takes some more to clear."""
    assert figure.value is not None and figure.low is not None and figure.high is not None
    averaged = figure.count if key.startswith("mean_") and figure.count else comparison.n
    gap = abs(threshold - figure.value)
    unseen = 0.0
    if key == "net":
        flips = comparison.metrics["nfr"].value, comparison.metrics["pfr"].value
        error = math.sqrt(max(0.0, sum(each or 0.0 for each in flips) - figure.value**2) / comparison.n)
        error *= math.sqrt(comparison.n / figure.effective) if figure.effective else 1.0
    else:
        error = (figure.high - figure.low) / 2 / z_values(comparison.confidence)[0]
    if key != "relative_nfr" and (key != "net" or figure.value > threshold):
        least, most = comparison.score_range or (0.0, 1.0)
        unseen = -math.log(1 - comparison.confidence) * (most - least) / gap / averaged
    return needed_for_change(error / gap, POWER, comparison.confidence) + unseen


def _few_gains(comparison: Comparison) -> bool:
    return sum(comparison.quadrants.get(name, 0) for name in ("positive_flip", "negative_flip")) < FEW


def _of_rate(figure: Estimate, threshold: float, upper: bool, confidence: float) -> float | None:
    """By what factor the sample must grow; of clustered instances so many effective ones are wanted."""
    assert figure.value is not None and figure.of is not None
    budget, rate = (threshold, figure.value) if upper else (1 - threshold, 1 - figure.value)
    if not 0 < budget < 1:
        return None
    found = needed_to_settle(budget, rate, POWER, confidence)
    return None if found is None else found / (figure.of if figure.effective is None else figure.effective)
