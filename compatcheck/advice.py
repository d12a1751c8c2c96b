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

from compatcheck.compare.result import Advice, Comparison, Estimate, Gate
from compatcheck.compare.significance import holm, p_beyond
from compatcheck.text import significant

MARGIN = 0.01  # what a net change or a rate of flips may be beyond the noise without counting as a change


def noise_share(comparison: Comparison) -> float | None:
    """The larger of NFR and PFR (or what changed) without any change, as it was seen; None where not measured."""
    floor, names = comparison.noise, ("nfr", "pfr") if comparison.reference is None else ("changed",)
    rates = [floor.metrics[name].value for name in names] if floor is not None else []
    known = [rate for rate in rates if rate is not None]
    return max(known) if len(known) == len(names) else None


def margin_of(comparison: Comparison) -> float:
    """What a rate of flips may be without counting as a change."""
    return MARGIN + (noise_share(comparison) or 0.0)


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
    if any(each.reference is not None for each in comparisons):
        return _of_changes(comparisons, verdict, doubts)
    states = list(zip(comparisons, _states(comparisons), strict=True))

    def name(each: Comparison) -> str:
        return f"{each.name}: " if len(comparisons) > 1 else ""

    for state, bump, lead, tail in (
        ("regressed", "major", "a regression is shown", ""),
        ("doubted", "", "", ""),
        ("unsettled", "undecided", "a budget is open", "; more instances would settle it"),
        ("open", "undecided", "neither a change nor its absence is shown", "; more instances would settle it"),
        ("improved", "minor", "better, and no regression is shown", ""),
        ("changed", "minor", "", ""),
        ("kept", "undecided", "no regression is shown, and not that answers are the same", ""),
    ):
        those = [each for each, own in states if own == state]
        if state == "doubted" and doubts:
            return Advice("undecided", f"{doubts[0]}{_more(doubts, 'reason')}")
        if state == "unsettled" and verdict == "inconclusive":
            those = [each for each in comparisons if _gates(each, "inconclusive")]
        if not those:
            continue
        first = those[0]
        if state == "changed":
            p = first.tests["noise_p"]
            lead = f"more answers changed than without any change (NFR against the noise floor: p = {p:.2g}), and no "
            lead += "regression is shown"
        if state == "kept" and noise_share(first) is None:
            tail = "; --noise-floor says how many flip without any change"
        return Advice(bump, f"{lead}: {name(first)}{_shown(first, state)}{_more(those, 'comparison')}{tail}")
    each = max(comparisons, key=_most)
    flips = f"at most {_percent(_most(each))} flip"
    return Advice("patch", f"behaviour is unchanged within a margin of {_margin_text(each)}: {name(each)}{flips}")


def _of_changes(comparisons: Sequence[Comparison], verdict: str, doubts: Sequence[str]) -> Advice:
    """Where OLD's answers are the reference: that hardly any changed can be shown, and nothing of what is right."""
    broken = [gate for each in comparisons for gate in _gates(each, "fail")]
    if verdict == "fail" and broken:
        return Advice("major", f"budget {broken[0].rule} is broken{_more(broken, 'budget')}")
    if doubts:
        return Advice("undecided", f"{doubts[0]}{_more(doubts, 'reason')}")
    bounds = [each.metrics.get("changed", Estimate(None)).upper for each in comparisons]
    most = max(1.0 if bound is None else bound for bound in bounds)
    if most <= min(margin_of(each) for each in comparisons):
        return Advice("patch", f"answers are the same within a margin: at most {_percent(most)} change")
    return Advice(
        "undecided",
        f"up to {significant(100 * most, 3)} % of the answers change, and without targets nothing says whether for the "
        "better",
    )


def _more(those: Sequence[object], word: str) -> str:
    count = len(those) - 1
    return f" (and {count} more {word}{'' if count == 1 else 's'})" if count > 0 else ""


def _shown(each: Comparison, state: str) -> str:
    """The figures that put a comparison into its state."""
    if state == "unsettled":
        return _gates(each, "inconclusive")[0].rule
    if state == "regressed" and (broken := _gates(each, "fail")):
        return f"budget {broken[0].rule} is broken"
    net, discrete = _net(each), each.kind == "discrete"
    if state in ("regressed", "improved"):
        side, bound = ("at most", net.upper) if state == "regressed" else ("at least", net.lower)
        value, least = (
            "unknown" if one is None else _two(100 * one, "+") if discrete else significant(one, 3, "+")
            for one in (net.value, bound)
        )
        said = f"net change {value} points" if discrete else f"mean difference {value}"
        return f"{said}, with 95 % confidence {side} {least}".replace("-", "−")
    worse, better = (each.quadrants.get(name, 0) for name in ("negative_flip", "positive_flip"))
    flips = f"{worse:,} of {each.n:,} got worse, {better:,} got better"
    if state == "changed":
        return flips
    reach = "nothing was scored"
    if net.lower is not None:
        lower = f"{_two(100 * net.lower)} points" if discrete else significant(net.lower, 3)
        reach = f"net change at least {lower}, flips up to {_percent(_most(each))}".replace("-", "−")
    return f"{flips}, {reach} against a margin of {_margin_text(each)}"


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
    for place, (each, net) in enumerate(zip(comparisons, nets, strict=True)):
        error, margin = errors[place] * (1 + 1e-9), margin_of(each)
        least, most = each.score_range or (0.0, 1.0)
        fall = margin * (1.0 if each.kind == "discrete" else most - least)  # the margin in the units of the net change
        # Equal scores do not say that answers are equal; unknown ones may be. They may change either way.
        agreement = each.metrics.get("agreement", Estimate(None))
        same = agreement.lower is not None and 1 - agreement.lower <= 2 * margin
        if _gates(each, "fail") or worse[place] <= error:
            found.append("regressed")
        elif better[place] <= error:
            found.append("improved")
        elif net.lower is None or net.lower < -fall:
            found.append("open")
        elif (
            net.upper is not None and net.upper <= fall and _most(each) <= margin and (agreement.value is None or same)
        ):
            found.append("unchanged")
        else:
            found.append("changed" if changed[place] <= error else "kept")
    return found


def _net(comparison: Comparison) -> Estimate:
    name = "net" if comparison.kind == "discrete" else "mean_difference"
    return comparison.metrics.get(name, Estimate(None))


def _most(comparison: Comparison) -> float:
    """The greatest share that may flip one way; all of them where nothing was scored."""
    bounds = [comparison.metrics.get(name, Estimate(None)).upper for name in ("nfr", "pfr")]
    return max(1.0 if bound is None else bound for bound in bounds)


def _gates(comparison: Comparison, verdict: str) -> list[Gate]:
    return [gate for gate in comparison.critical_gates if gate.verdict == verdict]


def _margin_text(comparison: Comparison) -> str:
    share, margin = noise_share(comparison), _percent(margin_of(comparison))
    if share is None:
        return f"{margin}; no noise floor was measured"
    return f"{margin}, 1 point above the noise floor of {_percent(share)}"


def _percent(share: float) -> str:
    return f"{_two(100 * share)} %"


def _two(value: float, sign: str = "") -> str:
    return significant(value, 2 if abs(value) < 99.5 else 3, sign)
