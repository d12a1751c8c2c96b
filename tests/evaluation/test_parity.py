"""Scores equal lm-eval's own `hf` backend on the same task, model and filter, instance by instance."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rouge_score.rouge_scorer import RougeScorer

from compatcheck.evaluation.evaluate import evaluate_jobs
from compatcheck.evaluation.grouping import EngineOptions, Job
from compatcheck.records import TaskRun, score_column
from compatcheck.references import resolve
from compatcheck.tasks import LoadedTask, TaskOptions, load_tasks

LIMIT = int(os.environ.get("COMPATCHECK_PARITY_LIMIT", "60"))
"""Documents per task; the whole evaluated splits with 100000."""
TASKS = ("samsum", "gsm8k", "hellaswag", "piqa")
VERSIONS = ("v1", "v2")


def load(task: str, data: Path, **options) -> LoadedTask:
    settings = {"limit": LIMIT, "num_fewshot": 0} | options
    return load_tasks([task], TaskOptions(data=data, **settings))[0]


def ours(task: str, fixtures: Path, data: Path, **options) -> dict[str, dict[str, TaskRun]]:
    """version -> filter -> run, both adapters as `compatcheck diff` evaluates them."""
    loaded = load(task, data, **options)
    options = EngineOptions(engine="hf", dtype="float32")
    jobs = [Job(v, resolve(str(fixtures / "adapters" / f"{task}-{v}")), loaded, options) for v in VERSIONS]
    done = evaluate_jobs(jobs)
    return {one.job.side: {run.filter: run for run in one.runs} for one in done}


def theirs(task: str, version: str, fixtures: Path, data: Path, **options) -> dict[str, list[dict]]:
    """filter -> logged samples of lm-eval's own `hf` backend, unbatched so that no padding enters."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    loaded = load(task, data, **options)
    adapter = fixtures / "adapters" / f"{task}-{version}"
    base = (adapter / json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]).resolve()
    model = HFLM(pretrained=str(base), peft=str(adapter), dtype="float32", device="cpu", batch_size=1)
    loaded.task.set_fewshot_seed(seed=loaded.settings["seed"])
    results = evaluate(
        lm=model,
        task_dict={"tasks": {task: loaded.task}},
        samples={task: loaded.indices} if loaded.indices else None,
        bootstrap_iters=0,
    )
    found: dict[str, list[dict]] = {}
    for sample in results["samples"][task]:
        found.setdefault(sample["filter"], []).append(sample)
    return found


def assert_equal(run: TaskRun, samples: list[dict]) -> None:
    records = run.records
    assert records["doc_id"].tolist() == [str(sample["doc_id"]) for sample in samples]
    for metric in run.metrics:
        expected = np.array([float(sample[metric.name]) for sample in samples])
        np.testing.assert_array_equal(records[score_column(metric.name)].to_numpy(), expected, err_msg=metric.name)
    if "loglikelihoods" in records:
        for mine, sample in zip(records["loglikelihoods"], samples, strict=True):
            np.testing.assert_allclose(mine, [pair[0] for pair in sample["filtered_resps"]], atol=1e-3, rtol=0)
            assert int(np.argmax(mine)) == int(np.argmax([pair[0] for pair in sample["filtered_resps"]]))
        return
    for prediction, sample in zip(records["prediction"], samples, strict=True):
        expected_text = sample["filtered_resps"][0]
        assert (prediction if not pd.isna(prediction) else "[invalid]") == expected_text


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_instance_equals_lm_eval(task: str, fixtures: Path) -> None:
    mine = ours(task, fixtures, fixtures / "data")
    for version in VERSIONS:
        samples = theirs(task, version, fixtures, fixtures / "data")
        assert set(mine[version]) == set(samples)
        for name, run in mine[version].items():
            assert len(run.records) == min(LIMIT, run.settings["documents"])
            assert_equal(run, samples[name])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["gsm8k", "piqa"])
def test_few_shot_prompts_equal_lm_eval(task: str, fixtures: Path) -> None:
    options = {"num_fewshot": 3, "limit": 12, "split": "test" if task == "gsm8k" else "validation"}
    mine = ours(task, fixtures, fixtures / "data", **options)
    samples = theirs(task, "v2", fixtures, fixtures / "data", **options)
    for name, run in mine["v2"].items():
        assert run.settings["num_fewshot"] == 3
        assert_equal(run, samples[name])


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_real_rows_equal_lm_eval(task: str, fixtures: Path, shared: Path) -> None:
    """Real texts are long, contain every kind of character, and the tiny models know nothing of them."""
    options = {"limit": 8}
    mine = ours(task, fixtures, shared, **options)
    samples = theirs(task, "v1", fixtures, shared, **options)
    for name, run in mine["v1"].items():
        assert_equal(run, samples[name])


@pytest.mark.slow
def test_summaries_are_scored_as_the_rouge_library_does(fixtures: Path) -> None:
    run = ours("samsum", fixtures, fixtures / "data", limit=20)["v2"]["none"]
    scorer = RougeScorer(["rouge1"])
    for row in run.records.itertuples():
        expected = scorer.score(row.target, row.prediction)["rouge1"].fmeasure
        assert row[run.records.columns.get_loc(score_column("rouge1")) + 1] == pytest.approx(expected, abs=1e-12)
