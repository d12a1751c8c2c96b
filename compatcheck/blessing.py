"""Bless a run: keep it under a name, after its gate against the run blessed before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from compatcheck import baselines, gate
from compatcheck.api import diff_of_runs
from compatcheck.baselines import Blessed
from compatcheck.errors import InputError
from compatcheck.evaluated import Evaluation, load_run
from compatcheck.finished import Diff


@dataclass(frozen=True)
class Blessing:
    """What came of it. ``entry`` is None where the gate failed and it was not forced: nothing was kept then."""

    name: str
    entry: Blessed | None
    diff: Diff | None
    """Against the run blessed before; None for the first."""
    folder: Path | None
    """Where the run is kept."""


def bless(
    run: Evaluation,
    name: str,
    *,
    fail_on: Sequence[str] = (),
    max_missing: float | str = gate.MAX_MISSING,
    force: bool = False,
    seed: int = 1234,
) -> Blessing:
    """Keep ``run`` as ``@name``, unless it fails its budgets against the present ``@name``.

    Raises:
        InputError: a name or budget that cannot be used, or a run that shares nothing with the baseline.
    """
    name = baselines.check_name(name)
    root = baselines.root()
    rules = gate.parse_rules(fail_on)
    most_missing = gate.parse_share("--max-missing", max_missing)
    compared = None
    if baselines.history(name, root):
        before = load_run(baselines.locate(f"@{name}"))
        try:
            compared = diff_of_runs(before, run, rules=rules, max_missing=most_missing, seed=seed)
        except InputError:
            if not force:
                raise
    verdict = compared.verdict if compared is not None else "none"
    if verdict == "fail" and not force:
        return Blessing(name, None, compared, None)
    now = datetime.now(UTC)
    stem = f"{now:%Y%m%dT%H%M%S}-{run.manifest.fingerprint.rpartition(':')[2][:12] or 'run'}"
    place = next(p for p in (stem, *(f"{stem}-{k}" for k in range(2, 1000))) if not (root / name / p).exists())
    folder = run.save(root / name / place)
    entry = Blessed(
        run=place,
        time=now.isoformat(timespec="seconds"),
        reference=run.manifest.reference,
        fingerprint=run.manifest.fingerprint,
        verdict=verdict,
        reason=_reason(compared),
        forced=verdict == "fail",
        scores=tuple(
            {
                "task": score.task,
                "filter": score.filter,
                "metric": score.metric.name,
                "kind": score.metric.kind,
                "value": score.mean.value,
                "low": score.mean.low,
                "high": score.mean.high,
                "n": score.n,
            }
            for score in run.scores
        ),
    )
    baselines.add(name, entry, root)
    return Blessing(name, entry, compared, folder)


def _reason(compared: Diff | None) -> str:
    gates = [each for comparison in compared.comparisons for each in comparison.gates] if compared else []
    worst = next((g for verdict in ("fail", "inconclusive") for g in gates if g.verdict == verdict), None)
    return f"{worst.rule}: {worst.reason}" if worst else ""
