"""Scores of tools that say which way they point, whatever they are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from tests.factories import write_rows

N = 4


def braintrust(path: Path, name: str, score: float) -> Path:
    spans = [{"id": f"{n}", "span_id": f"{n}", "root_span_id": f"{n}", "span_parents": None} for n in range(N)]
    said = [{"input": f"q{n}", "output": "x", "expected": "y", "scores": {name: score}} for n in range(N)]
    return write_rows(path, [span | row for span, row in zip(spans, said, strict=True)])


def promptfoo(path: Path, name: str, score: float) -> Path:
    result = {"promptIdx": 0, "provider": "p", "prompt": {"raw": "p"}, "response": {"output": "x"}, "success": True}
    result |= {"score": 1.0, "namedScores": {name: score}, "failureReason": 0}
    found = [result | {"testIdx": n, "vars": {"n": n}} for n in range(N)]
    path.write_text(json.dumps({"evalId": "e", "results": {"results": found}, "config": {}}))
    return path


def inspect(path: Path, name: str, score: float) -> Path:
    score = {"value": "C" if score == 1 else "I"}  # type: ignore[assignment]
    samples = [
        {"id": n, "epoch": 1, "input": "q", "target": "a", "output": {"completion": "x"}, "scores": {name: score}}
        for n in range(N)
    ]
    about = {"task": "t", "model": "m", "dataset": {"samples": N}, "config": {}}
    path.write_text(json.dumps({"version": 2, "status": "success", "eval": about, "samples": samples}))
    return path


def nemo(path: Path, name: str, score: float) -> Path:
    row = {"repeat": 0, "model_response": "x", "expected_answer": "y", "reward": 1.0}
    return write_rows(path, [row | {"problem_idx": n, "scorer_rewards": {f"scorer:{name}": score}} for n in range(N)])


@pytest.mark.parametrize("name", ["Levenshtein", "toxicity", "latency_ok", "hallucination"])
@pytest.mark.parametrize("tool", [braintrust, promptfoo, inspect, nemo])
def test_a_tool_whose_scores_are_better_the_higher_they_are(
    tool: Callable[[Path, str, float], Path], name: str, tmp_path: Path
) -> None:
    suffix = ".json" if tool in (promptfoo, inspect) else ".jsonl"
    old, new = tool(tmp_path / f"old{suffix}", name, 1.0), tool(tmp_path / f"new{suffix}", name, 0.0)
    found = compatcheck.diff(old, new, metric=name).only
    assert (found.quadrants["negative_flip"], found.quadrants["positive_flip"]) == (N, 0)


def deepeval(path: Path, name: str, scores: list[float], **more: Any) -> Path:
    metrics = [{"name": name, "score": score, "threshold": 0.5, **more} for score in scores]
    cases = [{"input": f"q{n}", "actualOutput": "x", "metricsData": [metric]} for n, metric in enumerate(metrics)]
    path.write_text(json.dumps({"testCases": cases, "conversationalTestCases": []}))
    return path


@pytest.mark.parametrize(
    ("name", "more", "worse"),
    [
        ("Bias", {}, True),
        ("Misuse", {}, True),
        ("Seconds needed", {"success": True}, True),  # below its threshold, and a success
        ("Role Violation", {"success": False}, False),
        ("Hallucination", {"success": False}, False),  # as a later version may have it
        ("Tone [GEval]", {}, False),
    ],
)
def test_deepeval_metrics_point_as_their_thresholds_say(
    name: str, more: dict[str, bool], worse: bool, tmp_path: Path
) -> None:
    old, new = (deepeval(tmp_path / side, name, [score] * N, **more) for side, score in (("o", 0.1), ("n", 0.4)))
    old, new = old.rename(tmp_path / "o.json"), new.rename(tmp_path / "n.json")
    assert compatcheck.diff(old, new).only.quadrants["negative_flip"] == (N if worse else 0)
