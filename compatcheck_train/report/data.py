"""``fix_report.json`` (schema ``compatcheck.fix/1``, documented in docs/fix.md): plain data of a finished fix.

Every other form of the report renders this and computes nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compatcheck.compare.result import Comparison, Estimate
from compatcheck.errors import InputError
from compatcheck.references import read_json
from compatcheck_train.fix.judging import Scores
from compatcheck_train.fix.proof import MetricProof
from compatcheck_train.fix.request import AUTO
from compatcheck_train.fix.run import Fixed
from compatcheck_train.folders import write
from compatcheck_train.report.html import render_html
from compatcheck_train.report.markdown import render_card, render_markdown
from compatcheck_train.report.names import elsewhere, on_hub
from compatcheck_train.training.run import Trained

SCHEMA = "compatcheck.fix/1"
ID_LIMIT = 1000
"""So many ids of undone and appeared flips are listed; the counts are whole."""


def plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        shown = {name: getattr(value, name) for name in ("value", "low", "high", "count", "of")}
        return shown | ({"why": value.why} if value.why else {})
    if isinstance(value, Comparison):
        return {name: plain(getattr(value, name)) for name in ("signature", "quadrants", "metrics")}
    if isinstance(value, Trained):
        fields = {name: plain(each) for name, each in vars(value).items() if name != "folder"}
        return fields | {"seconds": round(value.seconds, 1)}
    if isinstance(value, Scores):
        return {**dataclasses.asdict(value), "fall": value.fall}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def fix_to_dict(fixed: Fixed, command: str = "") -> dict[str, Any]:
    """Plain dicts, lists, strings and finite numbers. Rates are proportions; undefined is None with its ``why``."""
    from compatcheck import __version__

    request, judgement, frontier = fixed.request, fixed.proof.judgement, fixed.frontier
    return {
        "schema": SCHEMA, "version": __version__, "command": command, **plain(judgement),
        "exit_code": int(judgement.exit_code), "margin": request.margin,
        "task": request.judge.task, "reference": request.chosen.reference,
        "old": request.old, "new": request.new, "adapter": str(fixed.adapter),
        "strategy": fixed.final.candidate.name, "chosen_by": _chosen_by(fixed),
        "settings": plain(fixed.final.candidate.settings(request.settings)), "documents": fixed.documents,
        "proof": [_metric(each) for each in fixed.proof.metrics], "bound": plain(fixed.bound),
        "standings": plain(list(fixed.scores.values())),
        "trials": [
            {
                "strategy": trial.candidate.strategy, "changes": plain(trial.candidate.changes),
                "first": trial.candidate.first, "steps": trial.trained.steps,
                "seconds": round(trial.trained.seconds, 1), **plain(trial.scores),
            }
            for trial in fixed.trials
        ],
        "finals": [plain(each.scores) for each in fixed.finals],
        "frontier": None if frontier is None else {
            "method": request.chosen.blend_method, "chosen": frontier.chosen.share,
            "points": [{"share": point.share, **plain(point.scores)} for point in frontier.points],
        },
        "training": plain(fixed.final.trained.trained), "first_stage": plain(fixed.final.trained.first),
        "control": plain(fixed.control), "averaged": fixed.averaged or None,
        "seconds": fixed.seconds, "estimated_seconds": fixed.estimated_seconds, "notes": list(fixed.notes),
        "seeds": _seeds(fixed),
    }  # fmt: skip


def _chosen_by(fixed: Fixed) -> str:
    return "trials" if fixed.trials else "auto" if fixed.request.chosen.strategy == AUTO else "asked for"


def _seeds(fixed: Fixed) -> dict[str, Any] | None:
    seeds, picked = fixed.proof.metrics[0].seeds, fixed.picked
    if seeds is None or picked is None:
        return None
    each, controls = (
        [{"seed": number, **own} for number, own in zip(seeds.numbers, found, strict=False)]
        for found in (seeds.each, seeds.each_control)
    )
    return plain(seeds) | {
        "delivered": picked.compat.seed,
        "control_delivered": None if picked.control is None else picked.control.seed,
        "each": [{**one, "standing": plain(scores)} for one, scores in zip(each, picked.scores, strict=True)],
        "each_control": controls,
    }


def _metric(proof: MetricProof) -> dict[str, Any]:
    names = ("task", "filter", "metric", "kind", "n", "changes", "against_control", "control_changes")
    judgement = plain(proof.judgement)
    return {name: plain(getattr(proof, name)) for name in names} | {
        "name": proof.comparisons["new"].name,
        "against_control_verdict": judgement.pop("against_control"),
        **judgement,
        "sides": plain(proof.comparisons),
        "flow": [{"new": here, "compat": there, "count": n} for (here, there), n in proof.flow.items()],
        **{
            name: {"count": len(ids), "ids": list(ids[:ID_LIMIT])}
            for name, ids in (("undone", proof.undone), ("appeared", proof.appeared))
        },
    }


def save(fixed: Fixed, out: Path, command: str = "") -> dict[str, Any]:
    """Write fix_report.json, .md and .html to ``out`` and README.md to the adapter; returns the report."""
    report = fix_to_dict(fixed, command)
    base = str(read_json(fixed.adapter / "adapter_config.json").get("base_model_name_or_path", ""))
    try:
        write(out / "fix_report.json", json.dumps(report, indent=1, ensure_ascii=True, allow_nan=False) + "\n")
        write(out / "fix_report.md", render_markdown(report))
        write(out / "fix_report.html", render_html(report))
        sides = {side: elsewhere(report[side]) for side in ("old", "new")}
        write(fixed.adapter / "README.md", render_card(report | sides, elsewhere(base), on_hub(base)))
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error})") from None
    return report
