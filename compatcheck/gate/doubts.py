"""Why a verdict does not stand although its bounds do: rows that show nothing, a scoring rule that does not fit.

A pass becomes inconclusive where too few rows were compared, or where the scores cannot show what the budget is about.
A pass or a failure becomes inconclusive where another reading of the scores, of which nobody has said whether it is
meant, gives another verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from compatcheck.compare.readings import HINT
from compatcheck.compare.result import Absent, Comparison, Gate, Reading
from compatcheck.gate.rules import Rule, is_count
from compatcheck.gate.writing import percent, rows

MAX_MISSING = 0.02
"""Share of the larger side's rows that may show nothing; more of them, and no budget passes."""
NOTHING_RIGHT, ALL_RIGHT = 0.02, 0.995
"""Shares of right answers beyond which a scoring rule does not seem to fit."""
_NEEDS_OLD_RIGHT = frozenset({"nfr", "relative_nfr", "btc", "both_correct_changed", "m_r", "mean_regression"})
"""Figures that no NEW could spoil where OLD gets nothing right."""
_OF_CHANGE = frozenset({"nfr_mc", "inconsistency", "agreement"})
"""Figures that count changed answers, whatever is right."""
_OPTIONS = {
    "ignore_case": "exact_match.ignore_case", "ignore_punctuation": "exact_match.ignore_punctuation",
    "strip": "exact_match.strip",
}  # fmt: skip
_WORDS = {
    "ignore_case": "if case is ignored", "ignore_punctuation": "if punctuation is ignored",
    "strip": "without the white space around them",
}  # fmt: skip


def doubted(
    gate: Gate,
    rule: Rule,
    comparison: Comparison,
    judge_again: Callable[[Rule, Comparison], str],
    max_missing: float = MAX_MISSING,
    absent: Sequence[Absent] = (),
) -> Gate:
    """The gate, inconclusive where its verdict does not stand. ``judge_again`` gives the verdict of another reading."""
    if is_count(rule) or gate.verdict == "inconclusive":
        return gate
    why = None
    if gate.verdict == "pass":
        why = too_few(comparison, max_missing) or lacking(absent, comparison, max_missing) or unfit(rule, comparison)
    why = why or _turned(gate, rule, comparison, judge_again)
    if why is None:
        return gate
    return replace(gate, verdict="inconclusive", reason=f"{gate.reason}; but {why}", needed_n=None)


def doubts_of(
    comparisons: Sequence[Comparison], max_missing: float = MAX_MISSING, absent: Sequence[Absent] = ()
) -> tuple[str, ...]:
    """Why the figures of comparisons do not show what they seem to, whatever the budget; a sentence for each."""
    net = Rule("net", "", "", "net", 0.0)
    found = []
    for each in comparisons:
        why = too_few(each, max_missing) or lacking(absent, each, max_missing) or unfit(net, each)
        if why is not None:
            found.append(f"{each.name}: {why}" if len(comparisons) > 1 else why)
    return tuple(found)


def too_few(comparison: Comparison, max_missing: float) -> str | None:
    """Why the rows of a comparison are too few of those there are; None where they are not."""
    p = comparison.pairing
    if not p.larger or p.missing <= max_missing * p.larger:
        return None
    parts = [
        f"{count:,} {what}"
        for count, what in (
            (p.only_old, "only in OLD"),
            (p.only_new, "only in NEW"),
            (p.target_changed, "with changed content"),
            (p.errors_old, "in error in OLD"),
            (p.errors_new, "in error in NEW"),
            (p.no_answer_both, "without an answer on both sides"),
        )
        if count
    ]
    return (
        f"{rows(p.missing, p.larger)} ({percent(p.missing / p.larger)}) show nothing, more than --max-missing "
        f"{percent(max_missing)}: {', '.join(parts)}"
    )


def lacking(absent: Sequence[Absent], comparison: Comparison, max_missing: float) -> str | None:
    """Why tasks that one side lacks are too many of the rows; None where they are not."""
    count = sum(one.rows for one in absent)
    of = count + comparison.pairing.larger
    if not count or count <= max_missing * of:
        return None
    names = ", ".join(f"{one.task} ({one.filter}): {one.rows:,} rows only in {one.side.upper()}" for one in absent[:3])
    more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
    return f"tasks or filters of one side alone were not compared, more than --max-missing {percent(max_missing)}: " + (
        f"{names}{more}"
    )


def unfit(rule: Rule, comparison: Comparison) -> str | None:
    """Why the scoring rule does not seem to fit, so that scores cannot show what the budget is about; None else."""
    changed = _changed(comparison)
    if changed == 0 or rule.name in _OF_CHANGE or not comparison.n:
        return None
    if comparison.kind != "discrete":
        means = [comparison.metrics[name].value for name in ("score_old", "score_new") if name in comparison.metrics]
        flips = comparison.quadrants.get("positive_flip", 0) + comparison.quadrants.get("negative_flip", 0)
        if means == [0, 0] and not flips:
            return (
                f"every score of both sides is 0: {comparison.metric} does not fit these answers, or the targets do not"
            )
        return None
    old, new = (comparison.metrics[f"accuracy_{side}"].value or 0.0 for side in ("old", "new"))
    if old < NOTHING_RIGHT and new < NOTHING_RIGHT:
        return (
            f"only {percent(old)} of OLD's and {percent(new)} of NEW's answers are right: the scoring rule does not "
            f"seem to fit them{likely(comparison)}"
        )
    if old < NOTHING_RIGHT and rule.name in _NEEDS_OLD_RIGHT:
        return (
            f"only {percent(old)} of OLD's answers are right, so that no NEW could break this budget: the scoring rule "
            f"does not seem to fit OLD's{likely(comparison)}"
        )
    reworded = comparison.metrics.get("both_correct_changed")
    all_right = old > ALL_RIGHT and new > ALL_RIGHT and rule.name in ("net", "accuracy", "accuracy_new", "regression")
    other_texts = 0.0 if reworded is None else reworded.value or 0.0
    if all_right and other_texts > NOTHING_RIGHT:
        return (
            f"{percent(old)} of OLD's and {percent(new)} of NEW's answers are right, {percent(other_texts)} with other "
            f"texts: {comparison.metric} tells hardly any answers apart"
        )
    return None


def likely(comparison: Comparison) -> str:
    """The option that most likely mends it, after a semicolon."""
    best = max(comparison.readings, key=lambda one: one.changed_old + one.changed_new, default=None)
    if best is None:
        return "; look at the answers, and name what is right with --target-field, --extract or --metric"
    share = max(best.changed_old, best.changed_new) / best.of
    if best.way == HINT:
        return (
            f"; many of them hold their target (at least {percent(share)} of a side): say --metric contains, or take "
            "the answer out with --extract"
        )
    return f"; up to {percent(share)} of a side would be right {in_words(best)}: say {option(best)}"


def option(reading: Reading, meant: str = "true") -> str:
    """The options that say that a reading is meant."""
    if reading.way == ("exact_match",):
        return "--metric exact_match"
    return " ".join(f"--metric-arg {_OPTIONS[name]}={meant}" for name in reading.way)


def in_words(reading: Reading) -> str:
    """The condition of a reading."""
    if reading.way == ("exact_match",):
        return "by exact match"
    words = [_WORDS[name] for name in reading.way]
    return " and ".join([words[0], *(word.removeprefix("if ") for word in words[1:])])


def reading_note(comparison: Comparison, reading: Reading) -> str | None:
    """What is said at the top of a report of a reading that would change many scores."""
    if reading.way in (HINT, ("exact_match",)):
        return None
    counts = [f"{count:,} of {side}'s" for side, count in (("OLD", reading.changed_old), ("NEW", reading.changed_new))]
    return (
        f"{comparison.name}: {' and '.join(counts)} {reading.of:,} answers are wrong as scored and right "
        f"{in_words(reading)}; say which is meant: {option(reading)}, or =false"
    )


def remarks(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """What is said at the top of a report: of readings that would change many scores, and of answers all alike."""
    notes = [reading_note(each, one) for each in comparisons for one in each.readings]
    if comparisons and all(_changed(each) == 0 and each.n == each.pairing.larger for each in comparisons):
        notes.append("every answer of NEW is that of OLD: if NEW is another model, see that it was the one that ran")
    return tuple(note for note in notes if note is not None)


def _changed(comparison: Comparison) -> int | None:
    """How many answers differ; None where no answers were recorded."""
    agreement = comparison.metrics.get("agreement")
    if agreement is None or agreement.value is None or agreement.count is None or agreement.of is None:
        return None
    return agreement.of - agreement.count


def _turned(
    gate: Gate, rule: Rule, comparison: Comparison, judge_again: Callable[[Rule, Comparison], str]
) -> str | None:
    for one in comparison.readings:
        by_exact_match = one.way == ("exact_match",)
        if one.way == HINT or (by_exact_match and (rule.metric or gate.verdict == "fail")):
            continue  # a rule with a metric has named the score that is meant; and a failure is not green
        other = replace(comparison, kind="discrete", quadrants=one.quadrants, metrics=one.metrics)
        if not rule.covers(other):
            continue
        verdict = judge_again(rule, other)
        if verdict != gate.verdict and (verdict == "fail" or not by_exact_match):
            other_one = f"--metric {comparison.metric}" if by_exact_match else "=false"
            return f"{in_words(one)} the verdict is {verdict}; say which is meant: {option(one)}, or {other_one}"
    return None
