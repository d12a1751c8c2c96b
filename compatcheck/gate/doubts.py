"""Why a verdict does not stand although its bounds do: rows that show nothing, a scoring rule that does not fit, noise.

A pass becomes inconclusive where too few rows were compared, or where the scores cannot show what the budget is about.
A pass or a failure becomes inconclusive where another reading of the scores, of which nobody has said whether it is
meant, gives another verdict. A budget that reruns of OLD use up by themselves is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from compatcheck.compare.readings import HINT
from compatcheck.compare.result import Absent, Comparison, Estimate, Gate, Reading
from compatcheck.errors import InputError
from compatcheck.gate.rules import CRITICAL, NAMES, Rule, rows, share_of, writer
from compatcheck.records import KL

MAX_MISSING = 0.02  # share of the larger side's rows that may show nothing; more of them, and no budget passes
NOTHING_RIGHT, ALL_RIGHT = 0.02, 0.995  # shares of right answers beyond which a scoring rule does not seem to fit
_NEEDS_OLD_RIGHT = frozenset({"nfr", "relative_nfr", "btc", "both_correct_changed", "m_r", "mean_regression"})
"""Figures that no NEW could spoil where OLD gets nothing right."""
_OF_CHANGE = frozenset({"nfr_mc", "inconsistency", "agreement"})
"""Figures of changed answers, whatever is right."""
_OTHER_UNIT = 300
"""No model answers so many times faster than the one before."""
_EXACT = ("exact_match",)
_WORDS = {
    "ignore_case": "if case is ignored", "ignore_punctuation": "if punctuation is ignored",
    "strip": "without the white space around them",
}  # fmt: skip


def doubt(
    gate: Gate,
    rule: Rule,
    comparison: Comparison,
    judge_again: Callable[[Rule, Comparison], str],
    max_missing: float,
    absent: Sequence[Absent],
) -> str | None:
    """Why a verdict does not stand, or why more rows alone would not settle an open one; None else.

    ``judge_again`` gives the verdict of another reading."""
    if gate.verdict == "inconclusive":
        return _uncovered(rule, comparison, max_missing, absent)
    why = _shows_little(rule, comparison, max_missing, absent) if gate.verdict == "pass" else None
    if why is not None or rule.is_count:
        return why
    for one in comparison.readings:
        exact = one.way == _EXACT
        if one.way == HINT or (exact and (rule.metric or gate.verdict == "fail")):
            continue  # a rule with a metric has named the score that is meant; and a failure is not green
        other = replace(comparison, kind="discrete", quadrants=one.quadrants, metrics=one.metrics)
        verdict = judge_again(rule, other) if rule.covers(other) else gate.verdict
        if verdict != gate.verdict and (verdict == "fail" or not exact):
            as_it_is = f"--metric {comparison.metric}" if exact else "=false"
            return f"{_in_words(one)} the verdict is {verdict}; say which is meant: {_option(one)}, or {as_it_is}"
    return None


def doubts_of(
    comparisons: Sequence[Comparison], max_missing: float = MAX_MISSING, absent: Sequence[Absent] = ()
) -> tuple[str, ...]:
    """Why the figures of comparisons do not show what they seem to, whatever the budget; a sentence for each."""
    net = Rule("net", "", "", "net", 0.0)
    found = ((each, _shows_little(net, each, max_missing, absent)) for each in comparisons)
    several = len(comparisons) > 1
    return tuple(f"{each.name}: {why}" if several else why for each, why in found if why is not None)


def _shows_little(rule: Rule, comparison: Comparison, max_missing: float, absent: Sequence[Absent]) -> str | None:
    """Why too few of the rows were compared, or the scoring rule does not seem to fit; None else."""
    if (why := _uncovered(rule, comparison, max_missing, absent)) is not None:
        return why
    empty = comparison.pairing.targets_empty or 0
    if empty > max_missing * comparison.n and not (rule.is_beside or rule.is_count or rule.name in (*_OF_CHANGE, KL)):
        return _too_many(empty, comparison.n, max_missing, {"with an empty target, which no answer is": empty})
    if rule.is_beside or rule.is_count or rule.name == KL:
        return _unknown(rule, comparison, max_missing)
    if (unread := comparison.pairing.targets_unread or 0) > max_missing * comparison.n:
        return (
            f"{comparison.metric} reads no letters but those of ASCII, and {rows(unread, comparison.n)} are written in "
            "others; say --metric chrf"
        )
    return _unfit(rule, comparison)


def _uncovered(rule: Rule, comparison: Comparison, max_missing: float, absent: Sequence[Absent]) -> str | None:
    """Why too few of the rows were compared; None where enough were."""
    p = comparison.pairing
    unanswered = 0 if rule.is_count else p.no_answer_both  # a budget on answers counts those that are none
    missing = p.missing - p.no_answer_both + unanswered
    if p.larger and missing > max_missing * p.larger:
        parts = {
            "only in OLD": p.only_old,
            "only in NEW": p.only_new,
            "with changed content": p.target_changed,
            "in error in OLD": p.errors_old,
            "in error in NEW": p.errors_new,
            "without an answer on both sides": unanswered,
        }
        return _too_many(missing, p.larger, max_missing, parts)
    if (part := rule.part(comparison)) is not None:
        parts = {"not scored": part.unscored or 0, "without an answer on both sides": part.unanswered or 0}
        of = part.n + parts["not scored"]
        if sum(parts.values()) > max_missing * of:
            return f"of {'='.join((part.field, part.value))} {_too_many(sum(parts.values()), of, max_missing, parts)}"
    alone = dict.fromkeys(one.metric for one in absent if max_missing < 1 and rule.would_cover(one))
    if alone:
        return (
            f"OLD is scored by {', '.join(map(str, alone))} too, which NEW lacks: not compared; score NEW by it, or "
            f"say which the budget is on, such as {comparison.metric}.{rule.name}"
        )
    absent = [one for one in absent if one.metric is None]
    lacking = sum(one.rows for one in absent)
    if lacking and lacking > max_missing * (lacking + p.larger):
        names = (f"{one.task} ({one.filter}): {one.rows:,} rows only in {one.side.upper()}" for one in absent[:3])
        return (
            f"tasks or filters of one side alone were not compared, more than --max-missing {share_of(max_missing)}: "
            f"{', '.join(names)}{f' and {len(absent) - 3} more' if len(absent) > 3 else ''}"
        )
    return None


def _too_many(missing: int, of: int, max_missing: float, parts: Mapping[str, int]) -> str:
    return (
        f"{rows(missing, of)} ({share_of(missing / of)}) show nothing, more than --max-missing "
        f"{share_of(max_missing)}: {', '.join(f'{count:,} {what}' for what, count in parts.items() if count)}"
    )


def _unknown(rule: Rule, comparison: Comparison, max_missing: float) -> str | None:
    """Of how many of the scored pairs nobody knows what the budget is about, where they are too many."""
    p = comparison.pairing
    count, what = 0, f"the {rule.name} of both answers"
    if rule.is_beside:
        beside = (comparison.beside or {})[rule.name]
        old, new = beside.old.value or 0.0, beside.new.value or 0.0
        if beside.unit == "seconds" and old > _OTHER_UNIT * new > 0:
            return f"OLD's {rule.name} is {old:.3g} on average and NEW's {new:.3g}: one seems to be in milliseconds"
        count = p.paired - rule.figure(comparison)[1]
    elif rule.name == KL and comparison.kl is not None:
        count, what = p.paired - comparison.kl.documents, "how far apart both models are on their text"
    elif rule.name == "cut_off":
        count, what = p.ends_unknown_new or 0, "how the answer ended"
    elif rule.name == "no_answer":
        count, what = p.answers_unknown_new or 0, "what was answered"
    if count <= max_missing * p.larger:
        return None
    return (
        f"{rows(count, p.paired)} ({share_of(count / p.paired)}) do not say {what}, more than --max-missing "
        f"{share_of(max_missing)}"
    )


def _unfit(rule: Rule, comparison: Comparison) -> str | None:
    """Why the scoring rule does not seem to fit, so that scores cannot show what the budget is about; None else."""
    if rule.name in _OF_CHANGE or not comparison.n or comparison.reference is not None:
        return None
    metrics = comparison.metrics
    if (why := _other_scale(comparison)) is not None or _changed(comparison) == 0:
        return why
    if comparison.kind != "discrete":
        means = [metrics[name].value for name in ("score_old", "score_new") if name in metrics]
        flips = comparison.quadrants.get("positive_flip", 0) + comparison.quadrants.get("negative_flip", 0)
        if means != [0, 0] or flips:
            return None
        return f"every score of both sides is 0: {comparison.metric} does not fit these answers, or the targets do not"
    old, new = (metrics[f"accuracy_{side}"].value or 0.0 for side in ("old", "new"))
    if old < NOTHING_RIGHT and new < NOTHING_RIGHT:
        return (
            f"only {share_of(old)} of OLD's and {share_of(new)} of NEW's answers are right: the scoring rule does not "
            f"seem to fit them{_likely(comparison)}"
        )
    if old < NOTHING_RIGHT and rule.name in _NEEDS_OLD_RIGHT:
        return (
            f"only {share_of(old)} of OLD's answers are right, so that no NEW could break this budget: the scoring "
            f"rule does not seem to fit OLD's{_likely(comparison)}"
        )
    reworded = metrics["both_correct_changed"].value or 0.0 if "both_correct_changed" in metrics else 0.0
    of_right = rule.name in ("net", "accuracy", "accuracy_new", "regression")
    if old > ALL_RIGHT and new > ALL_RIGHT and of_right and reworded > NOTHING_RIGHT:
        return (
            f"{share_of(old)} of OLD's and {share_of(new)} of NEW's answers are right, {share_of(reworded)} with other "
            f"texts: {comparison.metric} tells hardly any answers apart"
        )
    return None


def _other_scale(comparison: Comparison) -> str | None:
    """Why one side's scores seem to be percent and the other's shares; None else."""
    scores = {side.upper(): comparison.metrics.get(f"score_{side}", Estimate(None)) for side in ("old", "new")}
    means = {side: score.value or 0.0 for side, score in scores.items()}
    share, percent = sorted(means, key=means.__getitem__)
    least, most = comparison.score_range or (-1.0, 1.0)
    if least < 0 or most > 100 or not 0 < means[share] <= 1 or means[percent] <= 10:
        return None
    return (
        f"{share}'s scores are {means[share]:.3g} on average and {percent}'s {means[percent]:.3g}: one side seems to "
        "be in percent; bring both to one scale"
    )


def _changed(comparison: Comparison) -> int | None:
    """How many answers differ; None where no answers were recorded."""
    agreement = comparison.metrics.get("agreement")
    if agreement is None or agreement.value is None or agreement.count is None or agreement.of is None:
        return None
    return agreement.of - agreement.count


def _likely(comparison: Comparison) -> str:
    """The option that most likely fixes it, after a semicolon."""
    best = max(comparison.readings, key=lambda one: one.changed_old + one.changed_new, default=None)
    if best is None:
        return "; look at the answers, and name what is right with --target-field, --extract or --metric"
    share = max(best.changed_old, best.changed_new) / best.of
    if best.way == HINT:
        return (
            f"; many of them hold their target (at least {share_of(share)} of a side): say --metric contains, or take "
            "the answer out with --extract"
        )
    return f"; up to {share_of(share)} of a side would be right {_in_words(best)}: say {_option(best)}"


def _option(reading: Reading) -> str:
    """The options that say that a reading is meant."""
    if reading.way == _EXACT:
        return "--metric exact_match"
    return " ".join(f"--metric-arg exact_match.{name}=true" for name in reading.way)


def _in_words(reading: Reading) -> str:
    """The condition of a reading."""
    if reading.way == _EXACT:
        return "by exact match"
    words = [_WORDS[name] for name in reading.way]
    return " and ".join([words[0], *(word.removeprefix("if ") for word in words[1:])])


def remarks(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """What is said at the top of a report: of scores in another unit on one side, of readings that would change many
    scores, and of answers all alike."""
    notes = [f"{each.name}: {why}" for each in comparisons if (why := _other_scale(each)) is not None]
    notes += [
        f"{each.name}: {one.changed_old:,} of OLD's and {one.changed_new:,} of NEW's {one.of:,} answers are wrong as "
        f"scored and right {_in_words(one)}; say which is meant: {_option(one)}, or =false"
        for each in comparisons
        for one in each.readings
        if one.way not in (HINT, _EXACT)
    ]
    answered = any(each.pairing.no_answer_both < each.n for each in comparisons)
    if answered and all(_changed(each) == 0 and each.n == each.pairing.larger for each in comparisons):
        read = [each.metric for each in comparisons if each.reference is not None and each.metric != "changed"]
        by = f"by {' and '.join(dict.fromkeys(read))} " if read else ""
        said = f"{by}every answer of NEW is that of OLD: if NEW is another model, see that it was the one that ran"
        notes.append(said)
    return tuple(notes)


def noise_remarks(comparisons: Sequence[Comparison], rules: Sequence[Rule]) -> tuple[str, ...]:
    """Hold every budget against the measured noise floor; a sentence for each that is within its interval.

    A budget that reruns of OLD against OLD are shown to use up by themselves says nothing of NEW, so it is no verdict
    but an error: where the noise's one-sided bound on the good side is beyond it. One that the measured noise, or its
    other bound, reaches is noted, and so is an advisory one. A measured noise of none forbids no budget.
    Raises InputError: a critical budget within the noise floor."""
    found = []
    for rule, each in itertools.product(rules, [each for each in comparisons if each.noise is not None]):
        key = rule.key(each) if rule.covers(each) and rule.slice is None else None
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
                f"{rule.as_option}: the budget is within the noise floor of {each.name} ({known.label} "
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
