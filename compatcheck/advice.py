"""Release advice: which part of a model's version number the evidence asks for, patch, minor or major.

Read from the finished comparisons and the verdict, with the same one rule as the gate: what the bounds do not show is
left open, and never counts as good news. A comparison is

- *unchanged* where the upper bounds of both flip rates lie within the noise,
- else *regressed* where a budget is broken or the interval of its net change (PFR − NFR, or the mean difference of the
  scores) lies wholly below zero,
- else *improved* where that interval lies wholly above zero,
- else *changed* where the lower bound of a flip rate is beyond the noise,
- else *open*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compatcheck.compare.result import Advice, Comparison, Estimate

ASSUMED_NOISE = 0.01
"""Share of instances that may flip either way without any change of the model, where no noise floor was measured."""


@dataclass(frozen=True)
class Noise:
    """The share of flips that counts as no change, and where it is from."""

    share: float = ASSUMED_NOISE
    source: str = "assumed, as no noise floor was measured"

    def __str__(self) -> str:
        return f"{_percent(self.share)} {self.source}"


def measured(comparison: Comparison) -> Noise | None:
    """The noise of a comparison whose noise floor was measured.

    It is the upper bound of the larger of NFR and PFR without any change; a measurement on few instances has a high
    bound, which must not excuse more than the larger of what was seen and :data:`ASSUMED_NOISE`.
    """
    floor = comparison.noise
    rates = [floor.metrics[name] for name in ("nfr", "pfr")] if floor is not None else []
    if floor is None or any(figure.value is None for figure in rates):
        return None
    bound = max(_known(figure.upper) for figure in rates)
    seen = max(figure.value or 0.0 for figure in rates)
    return Noise(min(bound, max(ASSUMED_NOISE, seen)), "measured without any change")


def advise(comparisons: Sequence[Comparison], verdict: str, noise: Noise | None = None) -> Advice:
    """The advice for a judged result.

    ``noise`` is by default what was measured of each comparison, else :data:`ASSUMED_NOISE`.
    ``major``: a regression is shown. ``undecided``: a budget or a change is open, so that more instances are needed.
    ``minor``: better, or other answers in no worse balance, without a regression that is shown. ``patch``: unchanged
    within the noise in every comparison.
    """
    if not comparisons:
        return Advice("undecided", "nothing was compared")
    if verdict != "fail" and any(each.sequential for each in comparisons):
        return Advice(
            "undecided",
            "the evaluation stopped as soon as its budgets were decided; what else changed takes a number of instances "
            "that was fixed beforehand",
        )

    def noise_of(each: Comparison) -> Noise:
        return noise or measured(each) or Noise()

    found = [(each, _state(each, noise_of(each))) for each in comparisons]

    def of(*states: str) -> list[Comparison]:
        return [each for each, state in found if state in states]

    def named(each: Comparison) -> str:
        return f"{each.name}: " if len(comparisons) > 1 else ""

    def more(those: Sequence[Comparison]) -> str:
        return f" (and {len(those) - 1} more)" if len(those) > 1 else ""

    if worse := of("regressed"):
        first = worse[0]
        return Advice("major", f"a regression is shown: {named(first)}{_regression(first)}{more(worse)}")
    if verdict == "inconclusive":
        unsure = [each for each in comparisons if any(gate.verdict == "inconclusive" for gate in each.gates)]
        first = unsure[0]
        rule = next(gate.rule for gate in first.gates if gate.verdict == "inconclusive")
        return Advice(
            "undecided", f"a budget is open: {named(first)}{rule}{more(unsure)}; more instances would settle it"
        )
    if better := of("improved"):
        first = better[0]
        return Advice("minor", f"better, and no regression is shown: {named(first)}{_change(first)}{more(better)}")
    if changed := of("changed"):
        first = changed[0]
        return Advice(
            "minor",
            f"answers changed beyond the noise ({noise_of(first)}), and no regression is shown: "
            f"{named(first)}{_flips(first)}{more(changed)}",
        )
    if unsure := of("open"):
        first = unsure[0]
        return Advice(
            "undecided",
            f"neither a change nor its absence is shown: {named(first)}{_flips(first)}, "
            f"bounds up to {_bounds(first)} against a noise of {noise_of(first)}{more(unsure)}; more instances would "
            "settle it",
        )
    each = max(comparisons, key=_most)
    return Advice(
        "patch",
        f"behaviour is unchanged within the noise ({noise_of(each)}): {named(each)}at most {_bounds(each)} flip",
    )


def _state(comparison: Comparison, noise: Noise) -> str:
    if any(gate.verdict == "fail" for gate in comparison.gates):
        return "regressed"
    rates = [figure for figure in _rates(comparison) if figure.value is not None]
    if len(rates) == 2 and all(_known(figure.upper) <= noise.share for figure in rates):
        return "unchanged"
    change = _net(comparison)
    if change is not None and change.low is not None and change.high is not None:
        if change.high < 0:
            return "regressed"
        if change.low > 0:
            return "improved"
    if any(figure.lower is not None and figure.lower > noise.share for figure in rates):
        return "changed"
    return "open"


def _known(bound: float | None) -> float:
    return float("inf") if bound is None else bound


def _rates(comparison: Comparison) -> list[Estimate]:
    return [comparison.metrics.get(name, Estimate(None)) for name in ("nfr", "pfr")]


def _net(comparison: Comparison) -> Estimate | None:
    return comparison.metrics.get("net" if comparison.kind == "discrete" else "mean_difference")


def _most(comparison: Comparison) -> float:
    """The greatest share that may flip one way; all of them where nothing was scored."""
    return max(1.0 if figure.upper is None else figure.upper for figure in _rates(comparison))


def _regression(comparison: Comparison) -> str:
    broken = next((gate for gate in comparison.gates if gate.verdict == "fail"), None)
    return f"budget {broken.rule} is broken" if broken is not None else _change(comparison)


def _change(comparison: Comparison) -> str:
    figure = _net(comparison)
    assert figure is not None and figure.value is not None and figure.low is not None and figure.high is not None
    if comparison.kind == "discrete":
        values = [f"{100 * value:+.2g}".replace("-", "−") for value in (figure.value, figure.low, figure.high)]
        return f"net change {values[0]} points (95 %: {values[1]} to {values[2]})"
    values = [f"{value:+.3g}".replace("-", "−") for value in (figure.value, figure.low, figure.high)]
    return f"mean difference {values[0]} (95 %: {values[1]} to {values[2]})"


def _flips(comparison: Comparison) -> str:
    worse, better = (comparison.quadrants.get(name, 0) for name in ("negative_flip", "positive_flip"))
    return f"{worse:,} of {comparison.n:,} got worse, {better:,} got better"


def _bounds(comparison: Comparison) -> str:
    return _percent(_most(comparison))


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
