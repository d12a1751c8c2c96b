"""A plan as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from compatcheck.compare.expectation import SequentialPlan
from compatcheck.compare.plan import Plan


def plan_json(plan: Plan | SequentialPlan) -> str:
    """The plan as a JSON object (``schema: "compatcheck.plan/1"``); rates are proportions."""
    return json.dumps({"schema": "compatcheck.plan/1", **asdict(plan)}, indent=2)


def plan_text(plan: Plan) -> str:
    """The plan for a terminal of 80 columns."""
    chance = f"{_percent(plan.power)} of the time"
    if plan.needed is None:
        needed = "no number of instances settles it: the expected rate is too close to the budget"
    else:
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
