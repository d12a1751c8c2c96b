"""Release advice: which part of a model's version number the evidence asks for, patch, minor or major.

Read from the finished comparisons and the verdict: what is not shown is left open, and never counts as good news. A
comparison is

- *regressed* where a critical budget is broken, or its net change (PFR − NFR, or the mean difference of the scores) is
  shown to be below zero,
- *improved* where it is shown to be above zero,
- *unchanged* where net change, NFR and PFR are shown to lie within a margin (two one-sided tests, Schuirmann 1987),
- *changed* where NFR is shown to be above the measured noise floor, and the net change not to fall by the margin,
- *kept* where the latter alone is shown,
- else *open*.

What is shown holds over all comparisons together (Holm). The margin is one point above the noise floor, or one point
where none was measured; of a smooth metric's mean it is that share of the range of the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compatcheck.compare.result import Advice, Comparison, Estimate
from compatcheck.compare.significance import holm, p_beyond

MARGIN = 0.01
"""What a net change or a rate of flips may be beyond the noise without counting as a change."""


@dataclass(frozen=True)
class Noise:
    """The share of flips that OLD has against itself; None where it was not measured."""

    share: float | None = None

    @property
    def margin(self) -> float:
        return MARGIN + (self.share or 0.0)

    def __str__(self) -> str:
        if self.share is None:
            return f"{_percent(self.margin)}; no noise floor was measured"
        return f"{_percent(self.margin)}, 1 point above the noise floor of {_percent(self.share)}"


def measured(comparison: Comparison) -> Noise:
    """The noise of a comparison: the larger of NFR and PFR without any change, as it was seen."""
    floor = comparison.noise
    rates = [floor.metrics[name].value for name in ("nfr", "pfr")] if floor is not None else []
    known = [rate for rate in rates if rate is not None]
    return Noise(max(known) if len(known) == 2 else None)


def advise(comparisons: Sequence[Comparison], verdict: str, doubts: Sequence[str] = ()) -> Advice:
    """The advice for a judged result. ``doubts`` say why its figures do not show what they seem to.

    ``major``: a regression is shown. ``undecided``: a budget or a change is open, so that more instances are needed.
    ``minor``: better, or other answers, and no comparison falls by the margin. ``patch``: unchanged within the margin
    in every comparison.
    """
    if not comparisons:
        return Advice("undecided", "nothing was compared")
    if verdict != "fail" and any(each.sequential for each in comparisons):
        return Advice(
            "undecided",
            "the evaluation stopped as soon as its budgets were decided; what else changed takes a number of instances "
            "that was fixed beforehand",
        )

    states = _states(comparisons)

    def of(*names: str) -> list[Comparison]:
        return [each for each, state in zip(comparisons, states, strict=True) if state in names]

    def named(each: Comparison) -> str:
        return f"{each.name}: " if len(comparisons) > 1 else ""

    def more(those: Sequence[Comparison]) -> str:
        return f" (and {len(those) - 1} more)" if len(those) > 1 else ""

    if worse := of("regressed"):
        first = worse[0]
        return Advice("major", f"a regression is shown: {named(first)}{_regression(first)}{more(worse)}")
    if doubts:
        return Advice("undecided", f"{doubts[0]}{f' (and {len(doubts) - 1} more)' if len(doubts) > 1 else ''}")
    if verdict == "inconclusive":
        unsure = [each for each in comparisons if _open_rules(each)]
        first = unsure[0]
        return Advice(
            "undecided",
            f"a budget is open: {named(first)}{_open_rules(first)[0]}{more(unsure)}; more instances would settle it",
        )
    if unsure := of("open"):
        first = unsure[0]
        return Advice(
            "undecided",
            f"neither a change nor its absence is shown: {named(first)}{_flips(first)}, {_reach(first)} against a "
            f"margin of {measured(first)}{more(unsure)}; more instances would settle it",
        )
    if better := of("improved"):
        first = better[0]
        return Advice("minor", f"better, and no regression is shown: {named(first)}{_change(first)}{more(better)}")
    if changed := of("changed"):
        first = changed[0]
        return Advice(
            "minor",
            f"more answers changed than without any change (NFR against the noise floor: p = "
            f"{first.tests['noise_p']:.2g}), and no regression is shown: {named(first)}{_flips(first)}{more(changed)}",
        )
    if kept := of("kept"):
        first = kept[0]
        hint = "" if measured(first).share is not None else "; --noise-floor says how many flip without any change"
        return Advice(
            "undecided",
            f"no regression is shown, and not that answers are the same: {named(first)}{_flips(first)}, "
            f"{_reach(first)} against a margin of {measured(first)}{more(kept)}{hint}",
        )
    each = max(comparisons, key=_most)
    return Advice(
        "patch",
        f"behaviour is unchanged within a margin of {measured(each)}: {named(each)}at most {_bounds(each)} flip",
    )


def _states(comparisons: Sequence[Comparison]) -> list[str]:
    errors = [1 - each.confidence for each in comparisons]
    nets = [_net(each) for each in comparisons]
    worse = holm([p_beyond(net, 0.0, error, above=False) for net, error in zip(nets, errors, strict=True)])
    better = [p_beyond(net, 0.0, error, above=True) for net, error in zip(nets, errors, strict=True)]
    moved = [each.tests.get("noise_p") for each in comparisons]
    claims = holm([*better, *(p for p in moved if p is not None)])
    better, rest = claims[: len(better)], iter(claims[len(better) :])
    changed = [1.0 if p is None else next(rest) for p in moved]
    found = []
    for place, each in enumerate(comparisons):
        error = errors[place] * (1 + 1e-9)
        if any(gate.verdict == "fail" and gate.tier == "critical" for gate in each.gates) or worse[place] <= error:
            found.append("regressed")
        elif better[place] <= error:
            found.append("improved")
        elif not _keeps(each):
            found.append("open")
        elif _unchanged(each):
            found.append("unchanged")
        else:
            found.append("changed" if changed[place] <= error else "kept")
    return found


def _keeps(comparison: Comparison) -> bool:
    """Whether the net change is shown not to fall by the margin."""
    net = _net(comparison)
    return net.lower is not None and net.lower >= -_margin(comparison)


def _unchanged(comparison: Comparison) -> bool:
    net, margin = _net(comparison), measured(comparison).margin
    same = net.upper is not None and net.upper <= _margin(comparison) and _most(comparison) <= margin
    return same and _answers_kept(comparison, 2 * margin)  # either way


def _answers_kept(comparison: Comparison, margin: float) -> bool:
    """Whether the answers are shown to be equal but for the margin: equal scores do not say so. Unknown ones may be."""
    agreement = comparison.metrics.get("agreement", Estimate(None))
    return agreement.value is None or (agreement.lower is not None and 1 - agreement.lower <= margin)


def _margin(comparison: Comparison) -> float:
    """The margin in the units of the net change."""
    least, most = comparison.score_range or (0.0, 1.0)
    return measured(comparison).margin * (1.0 if comparison.kind == "discrete" else most - least)


def _rates(comparison: Comparison) -> list[Estimate]:
    return [comparison.metrics.get(name, Estimate(None)) for name in ("nfr", "pfr")]


def _net(comparison: Comparison) -> Estimate:
    name = "net" if comparison.kind == "discrete" else "mean_difference"
    return comparison.metrics.get(name, Estimate(None))


def _most(comparison: Comparison) -> float:
    """The greatest share that may flip one way; all of them where nothing was scored."""
    return max(1.0 if figure.upper is None else figure.upper for figure in _rates(comparison))


def _open_rules(comparison: Comparison) -> list[str]:
    return [gate.rule for gate in comparison.gates if gate.verdict == "inconclusive" and gate.tier == "critical"]


def _regression(comparison: Comparison) -> str:
    broken = [gate for gate in comparison.gates if gate.verdict == "fail" and gate.tier == "critical"]
    return f"budget {broken[0].rule} is broken" if broken else _change(comparison)


def _change(comparison: Comparison) -> str:
    figure = _net(comparison)
    assert figure.value is not None and figure.low is not None and figure.high is not None
    if comparison.kind == "discrete":
        values = [f"{100 * value:+.2g}".replace("-", "−") for value in (figure.value, figure.low, figure.high)]
        return f"net change {values[0]} points (95 %: {values[1]} to {values[2]})"
    values = [f"{value:+.3g}".replace("-", "−") for value in (figure.value, figure.low, figure.high)]
    return f"mean difference {values[0]} (95 %: {values[1]} to {values[2]})"


def _reach(comparison: Comparison) -> str:
    """The bounds that are held against the margin."""
    net = _net(comparison)
    if net.lower is None:
        return "nothing was scored"
    lower = f"{100 * net.lower:.2g} points" if comparison.kind == "discrete" else f"{net.lower:.3g}"
    return f"net change at least {lower}, flips up to {_bounds(comparison)}".replace("-", "−")


def _flips(comparison: Comparison) -> str:
    worse, better = (comparison.quadrants.get(name, 0) for name in ("negative_flip", "positive_flip"))
    return f"{worse:,} of {comparison.n:,} got worse, {better:,} got better"


def _bounds(comparison: Comparison) -> str:
    return _percent(_most(comparison))


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
