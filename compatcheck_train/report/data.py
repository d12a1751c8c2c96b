"""``fix_report.json`` (schema ``compatcheck.fix/1``, documented in docs/fix.md): plain data of a finished fix.

Every other form of the report renders this and computes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compatcheck.compare.result import Comparison, Estimate
from compatcheck_train.fix.judging import Standing
from compatcheck_train.fix.proof import MetricProof
from compatcheck_train.fix.run import Fixed
from compatcheck_train.training.run import Trained

SCHEMA = "compatcheck.fix/1"
ID_LIMIT = 1000
"""So many ids of undone and appeared flips are listed; the counts are whole."""


def fix_to_dict(fixed: Fixed, command: str = "") -> dict[str, Any]:
    """Plain dicts, lists, strings and finite numbers. Rates are proportions; undefined is None with its ``why``."""
    from compatcheck.version import __version__

    request, judgement = fixed.request, fixed.proof.judgement
    return {
        "schema": SCHEMA,
        "version": __version__,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "against_control": judgement.against_control,
        "delivered": judgement.delivered,
        "margin": request.margin,
        "exit_code": int(judgement.exit_code),
        "command": command,
        "task": request.judge.task,
        "old": request.old,
        "new": request.new,
        "adapter": str(fixed.adapter),
        "strategy": fixed.candidate.name,
        "chosen_by": "trials" if fixed.trials else "asked for",
        "settings": _settings(fixed),
        "documents": fixed.documents,
        "proof": [_metric(each) for each in fixed.proof.metrics],
        "bound": None if fixed.bound is None else {
            f.name: _estimate(getattr(fixed.bound, f.name)) for f in dataclasses.fields(fixed.bound)
        },
        "standings": [_standing(each) for each in fixed.standings.values()],
        "trials": [
            {
                "strategy": trial.candidate.strategy,
                "changes": dict(trial.candidate.changes),
                "first": trial.candidate.first,
                "steps": trial.trained.steps,
                "seconds": round(trial.trained.seconds, 1),
                **_standing(trial.standing),
            }
            for trial in fixed.trials
        ],
        "finals": [_standing(each.standing) for each in fixed.finals],
        "frontier": None if fixed.frontier is None else {
            "method": fixed.frontier.method,
            "chosen": fixed.frontier.chosen.share,
            "points": [{"share": p.share, **_standing(p.standing)} for p in fixed.frontier.points],
        },
        "training": _training(fixed.trained),
        "first_stage": None if fixed.first is None else _training(fixed.first),
        "control": None if fixed.control is None else _training(fixed.control),
        "seconds": fixed.seconds,
        "notes": list(fixed.notes),
        "seeds": _seeds(fixed),
    }  # fmt: skip


def _seeds(fixed: Fixed) -> dict[str, Any] | None:
    """The trainings of the first proof, where there were several."""
    seeds, picked = fixed.proof.metrics[0].seeds, fixed.picked
    if seeds is None or picked is None:
        return None
    controls = seeds.each_control or (None,) * len(seeds.numbers)
    return {
        "numbers": list(seeds.numbers),
        "delivered": picked.compat.seed,
        "control_delivered": None if picked.control is None else picked.control.seed,
        **{
            name: {key: _estimate(each) for key, each in getattr(seeds, name).items()}
            for name in ("changes", "against_control", "control_changes")
        },
        "each": [
            {"seed": number, "nfr": own["nfr"], "score": own["score"], "standing": _standing(standing)}
            for number, own, standing in zip(seeds.numbers, seeds.each, picked.standings, strict=True)
        ],
        "each_control": [
            {"seed": number, "nfr": own["nfr"], "score": own["score"]}
            for number, own in zip(seeds.numbers, controls, strict=True) if own is not None
        ],
    }  # fmt: skip


def _metric(proof: MetricProof) -> dict[str, Any]:
    return {
        "name": proof.name,
        "task": proof.task,
        "filter": proof.filter,
        "metric": proof.metric,
        "kind": proof.kind,
        "n": proof.n,
        "verdict": proof.judgement.verdict,
        "reason": proof.judgement.reason,
        "against_control_verdict": proof.judgement.against_control,
        "delivered": proof.judgement.delivered,
        "sides": {side: _comparison(each) for side, each in proof.comparisons.items()},
        "changes": {name: _estimate(each) for name, each in proof.changes.items()},
        "against_control": {name: _estimate(each) for name, each in proof.against_control.items()},
        "control_changes": {name: _estimate(each) for name, each in proof.control_changes.items()},
        "flow": [dataclasses.asdict(each) for each in proof.flow],
        "undone": {"count": len(proof.undone), "ids": list(proof.undone[:ID_LIMIT])},
        "appeared": {"count": len(proof.appeared), "ids": list(proof.appeared[:ID_LIMIT])},
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "signature": comparison.signature,
        "quadrants": dict(comparison.quadrants),
        "metrics": {name: _estimate(each) for name, each in comparison.metrics.items()},
    }


def _estimate(figure: Estimate) -> dict[str, Any]:
    shown = {name: getattr(figure, name) for name in ("value", "low", "high", "count", "of")}
    return shown | ({"why": figure.why} if figure.why else {})


def _standing(standing: Standing) -> dict[str, Any]:
    return {**dataclasses.asdict(standing), "fall": standing.fall}


def _training(trained: Trained) -> dict[str, Any]:
    return {
        "strategy": trained.strategy,
        "steps": trained.steps,
        "best_epoch": trained.best_epoch,
        "parameters": trained.parameters,
        "tokens": trained.tokens,
        "seconds": round(trained.seconds, 1),
        "history": [dict(each) for each in trained.history],
        "notes": list(trained.notes),
    }


def _settings(fixed: Fixed) -> Mapping[str, Any]:
    settings = dataclasses.asdict(fixed.candidate.settings(fixed.request.settings))
    return {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in settings.items()
    }
