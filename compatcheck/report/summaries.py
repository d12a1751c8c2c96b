"""What commands other than ``diff`` print: a run, a noise floor, a plan, what was blessed. Plain text, and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from compatcheck.report import figures
from compatcheck.report.text import safe_text, trim_middle
from compatcheck.text import aligned

if TYPE_CHECKING:
    from compatcheck.compare.noise import Measurements
    from compatcheck.compare.plan import Plan, SequentialPlan
    from compatcheck.compare.scores import Score
    from compatcheck.records import Blessed, Run


def render_history(name: str, entries: Sequence[Blessed]) -> str:
    """Newest first, as ``@name~k``: when, what, the verdict it was blessed with, and its scores."""
    if not entries:
        return f"@{name}: nothing was blessed under this name"
    lines = []
    for back, entry in enumerate(reversed(entries)):
        label = f"@{name}" + (f"~{back}" if back else "")
        verdict = "first" if back == len(entries) - 1 and entry.verdict == "none" else entry.verdict
        about = f"{safe_text(verdict)}{', forced' * entry.forced}"
        time = safe_text(entry.time[:16].replace("T", " "))
        lines.append(f"{label}  {time}  {safe_text(entry.reference)}  ({about})")
        for score in entry.scores:
            where = "/".join(each for each in (score.task, score.filter, score.metric) if each not in ("none", ""))
            value = "undefined" if score.value is None else f"{score.value:.4f}"
            lines.append(f"    {safe_text(where)}  {value}  of {score.n:,}")
    return "\n".join(lines)


def render_run(run: Run, scores: Sequence[Score]) -> str:
    """A line on the reference, a table of every metric's mean, and the notes."""
    about = run.manifest
    facts = (about.kind, about.fingerprint, str(about.engine.get("engine", "")))
    rows: list[tuple[str, ...]] = [("task", "filter", "metric", "score", "95 % interval", "n", "errors", "no answer")]
    for score in scores:
        name = figures.score_name(score.metric.kind, "old")  # for its unit
        rows.append(
            (
                *(trim_middle(safe_text(each), 40) for each in (score.task, score.filter, score.metric.name)),
                figures.estimate(name, score.mean),
                figures.interval(name, score.mean),
                *(f"{count:,}" for count in (score.n, score.errors, score.no_answer)),
            )
        )
    head = f"{safe_text(about.reference)}  ({', '.join(safe_text(fact) for fact in facts if fact)})"
    return "\n".join([head, "", *aligned(rows), *(f"! {safe_text(note)}" for note in run.notes)])


def run_to_json(manifest: Mapping[str, Any], scores: Sequence[Score]) -> str:
    """The manifest of the kept run and, under ``scores``, the mean of every metric; undefined is null with its why."""
    rows = [
        {
            "task": score.task, "filter": score.filter, "metric": score.metric.name, "kind": score.metric.kind,
            "value": score.mean.value, "low": score.mean.low, "high": score.mean.high, "of": score.mean.of,
            "n": score.n, "errors": score.errors, "no_answer": score.no_answer,
            **({"why": score.mean.why} if score.mean.value is None else {}),
        }
        for score in scores
    ]  # fmt: skip
    return json.dumps({**manifest, "scores": rows}, indent=2, ensure_ascii=True)


def noise_text(report: Measurements) -> str:
    """For 80 columns: each rate with its interval and denominator, and what a budget must be above."""
    lines = ["Flips without any change", *(f"  {safe_text(name)}" for name in report.references)]
    lines += [f"! {safe_text(note)}" for note in report.notes]
    for each in report.measured:
        floor = each.floor
        lines += ["", f"{trim_middle(safe_text(each.name), 60)}  ({floor.n:,} instances; {safe_text(floor.source)})"]
        for name in ("nfr", "pfr", "nfr_mc", "agreement"):
            if (figure := floor.metrics.get(name)) is None:
                continue
            label = f"  {figures.metric_info(name).label:<24}"
            if figure.value is None:
                lines.append(f"{label}undefined: {safe_text(figure.why or '')}")
            else:
                bounds, of = figures.interval(name, figure), figures.denominator(figure)
                lines.append(f"{label}{figures.estimate(name, figure):>7}   95 %: {bounds:<16}{of}")
        bound = floor.metrics["nfr"]
        if bound.value is not None and bound.upper is not None:
            lines.append(f"  a budget of NFR means something above {figures.number(bound.upper, 'share')}")
    return "\n".join(lines)


def noise_json(report: Measurements) -> str:
    """An object of ``schema: "compatcheck.noise/1"``; rates are proportions, undefined is null with its why."""
    measured = []
    for each in report.measured:
        rates = {
            name: {key: value for key, value in vars(figure).items() if key != "one_sided"}
            for name, figure in each.floor.metrics.items()
        }
        measured.append(vars(each) | {"floor": vars(each.floor) | {"metrics": rates}})
    about = {"references": list(report.references), "notes": list(report.notes)}
    return json.dumps({"schema": "compatcheck.noise/1", **about, "measured": measured}, indent=2)


def plan_json(plan: Plan | SequentialPlan) -> str:
    """The plan as a JSON object (``schema: "compatcheck.plan/1"``); rates are proportions."""
    return json.dumps({"schema": "compatcheck.plan/1", **asdict(plan)}, indent=2)


def plan_text(plan: Plan) -> str:
    """The plan for a terminal of 80 columns."""
    chance = f"{_percent(plan.power)} of the time"
    needed = "no number of instances settles it: the expected rate is too close to the budget"
    if plan.needed is not None:
        word = "passes" if plan.expected < plan.budget else "fails"
        needed = f"{plan.needed:,} instances: then the gate {word} {chance}"
    lines = [
        f"Budget nfr:{_percent(plan.budget, '')}%, judged by one-sided {_percent(plan.confidence)} bounds",
        "",
        f"  It can pass from      {plan.least:,} instances on, if not one of them is a negative flip",
        f"  If NFR is {_percent(plan.expected):<11} {needed}",
        f"  Accuracy −{_percent(plan.fall):<11} {plan.for_fall:,} instances show it {chance}, "
        f"at {_percent(plan.flip_rate)} flips",
        "",
        f"  {'instances':>10}  {'passes to':>9}  {'fails from':>10}  {'settled':>7}  accuracy fall seen",
    ]
    for size in plan.table:
        found = size.decision
        lines.append(
            f"  {found.n:>10,}  {'never' if found.passes_to is None else found.passes_to:>9}  "
            f"{'never' if found.fails_from is None else found.fails_from:>10}  "
            f"{'–' if size.chance is None else f'{size.chance:.0%}':>7}  "
            f"{'none' if size.fall is None else _percent(size.fall)}"
        )
    lines += [
        "",
        "passes to, fails from: so many negative flips; in between it is inconclusive",
        f"settled: how often the gate is, if the NFR is {_percent(plan.expected)}",
        f"accuracy fall seen: the smallest that is shown {chance}",
    ]
    return "\n".join(lines)


def sequential_plan_text(plan: SequentialPlan) -> str:
    """What to expect of ``--until-decided``, for a terminal of 80 columns."""
    lines = [
        f"Budget nfr:{_percent(plan.budget, '')}%, judged every {plan.step:,} documents until decided, at most "
        f"{plan.most:,}",
        "",
        f"  It can pass from      {plan.least:,} instances on, if not one of them is a negative flip",
        "",
        f"  {'if NFR is':>10}  {'half decided by':>15}  {'90 % by':>9}  {'pass':>6}  {'fail':>6}  {'open':>6}",
    ]
    for each in plan.table:
        half, ninety = ("–" if n is None else f"{n:,}" for n in (each.median, each.ninety))
        shares = (each.passes, each.fails, max(0.0, 1 - each.passes - each.fails))
        verdicts = "  ".join(f"{share:>6.1%}" for share in shares)
        lines.append(f"  {_percent(each.rate):>10}  {half:>15}  {ninety:>9}  {verdicts}")
    lines += [
        "",
        f"{plan.runs:,} simulated evaluations each, seed {plan.seed}",
        f"at the budget itself pass and fail are errors, each at most {_percent(1 - plan.confidence)} of the time",
        f"–: more than {plan.most:,}; open: not decided by then",
    ]
    return "\n".join(lines)


def _percent(share: float, unit: str = " %") -> str:
    return f"{100 * share:.3g}{unit}"
