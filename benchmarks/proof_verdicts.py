"""How often `fix` says "proven better", by simulation: of adapters that are not, and of good ones.

    python -m benchmarks.proof_verdicts [--draws 4000]

`simulate` is called by benchmarks.bench_statistics. Every document falls into a group of old → new; what the adapter
and the control do with it depends on its group alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SIZES = (100, 300, 1000, 3000)
GROUPS = ("both_correct", "negative_flip", "positive_flip", "both_wrong")
Rates = tuple[float, float, float, float]
"""By group: how often a model is right."""
AS_NEW: Rates = (1, 0, 1, 0)
AS_OLD: Rates = (1, 1, 0, 0)


@dataclass(frozen=True)
class Case:
    """``shares`` of the groups, and how often adapter and control are right in each; ``wrong``: better would be."""

    name: str
    shares: Rates
    adapter: Rates
    control: Rates | None = None
    wrong: bool = True


_UPDATE: Rates = (0.73, 0.05, 0.07, 0.15)
_WIDE: Rates = (0.63, 0.08, 0.17, 0.12)


def _keeping(shares: Rates, back: float, gained: float) -> Rates:
    """A model with NEW's NFR in the long run: it gets back a share of the flips and loses as many others."""
    return (1 - back * shares[1] / shares[0], back, 1 - gained, gained * shares[2] / shares[3])


CASES = (
    Case("a copy of OLD, 2 points below NEW", _UPDATE, AS_OLD),
    Case("a copy of OLD, 9 points below NEW", _WIDE, AS_OLD),
    Case("a third of the flips gone, 1 point below NEW", _UPDATE, (1, 0.333, 1 - 0.02667 / 0.07, 0)),
    Case("NEW's flips, NEW's score", _UPDATE, _keeping(_UPDATE, 0.3, 0.3)),
    Case("NEW's flips, 5 points above NEW", _UPDATE, (*_keeping(_UPDATE, 0.3, 0.1)[:3], 0.38)),
    Case(
        "the same, and a control of that kind", _UPDATE, (*_keeping(_UPDATE, 0.3, 0.1)[:3], 0.38),
        (*_keeping(_UPDATE, 0.3, 0.1)[:3], 0.38),
    ),
    Case("half of the flips gone, 3 points above NEW", _WIDE, (1, 0.5, 1 - 0.03 / 0.17, 0.02 / 0.12), wrong=False),
    Case("a third of the flips gone, NEW's score", _UPDATE, (1, 0.35, 1 - 0.0175 / 0.07, 0), wrong=False),
    Case(
        "half of the flips gone, a control that is better", _WIDE, (1, 0.5, 1 - 0.03 / 0.17, 0.02 / 0.12),
        (1, 0.52, 1, 0.3), wrong=False,
    ),
)  # fmt: skip


def simulate(
    draws: int = 2000, seed: int = 0, sizes: tuple[int, ...] = SIZES, wrong_only: bool = False
) -> dict[str, dict[int, dict[str, float]]]:
    """By case and number of documents: shares of ``better``, ``not better`` and of the control delivered."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for number, case in enumerate(CASES):
        if wrong_only and not case.wrong:
            continue
        found[case.name] = {}
        for n in sizes:
            rng = np.random.default_rng([seed, number, n])
            verdicts = [_verdict(case, n, rng) for _ in range(draws)]
            found[case.name][n] = {
                "better": float(np.mean([verdict == "better" for verdict, _ in verdicts])),
                "not better": float(np.mean([verdict == "not better" for verdict, _ in verdicts])),
                "control": float(np.mean([delivered == "control" for _, delivered in verdicts])),
            }
    return found


def _verdict(case: Case, n: int, rng: np.random.Generator) -> tuple[str, str]:
    from compatcheck_train.fix.change import rate_change
    from compatcheck_train.fix.verdict import judge

    group = rng.choice(4, size=n, p=case.shares)
    old, new = group != 2, np.isin(group, (0, 2))
    old &= group != 3
    lost = old & ~new

    def right(rates: Rates) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        return rng.random(n) < np.array(rates)[group]

    def against(before: np.ndarray, after: np.ndarray) -> Mapping[str, object]:  # type: ignore[type-arg]
        return {"nfr": rate_change(old & ~before, old & ~after), "score": rate_change(before, after)}

    adapter = right(case.adapter)
    changes = {"nfr": rate_change(lost, old & ~adapter), "score": rate_change(new, adapter)}
    if case.control is None:
        judged = judge(changes)
    else:
        control = right(case.control)
        judged = judge(changes, against(control, adapter), against(new, control))  # type: ignore[arg-type]
    return judged.verdict, judged.delivered


def table(figures: Mapping[str, Mapping[int, Mapping[str, float]]]) -> str:
    """Markdown: "better" in percent of the draws, by number of documents."""
    sizes = list(next(iter(figures.values())))
    lines = ["| the adapter is | " + " | ".join(f"n = {n:,}" for n in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for case in CASES:
        cells = []
        for n in sizes:
            each = figures[case.name][n]
            cells.append(
                f"{100 * each['better']:.1f} %" + (f" ({100 * each['control']:.0f} %)" if case.control else "")
            )
        lines.append(f"| {case.name}{' (wrong)' if case.wrong else ''} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000)
    given = parser.parse_args()
    print(table(simulate(given.draws)))
    print("\nIn brackets: how often the control's adapter is what is delivered.")


if __name__ == "__main__":
    main()
