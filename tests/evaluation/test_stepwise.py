"""A few documents at a time give what all of them at once give, with the models loaded once."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from compatcheck.evaluation import bridge
from compatcheck.evaluation.evaluate import Stepwise, evaluate_jobs, merged
from compatcheck.evaluation.grouping import EngineOptions, Job
from compatcheck.records import TaskRun
from compatcheck.references import resolve
from compatcheck.tasks import LoadedTask, TaskOptions, load_tasks

STEPS = ([5, 1, 9], [0], [2, 3, 4, 6, 7, 8, 10, 11])


def load(fixtures: Path, name: str) -> LoadedTask:
    (task,) = load_tasks([name], TaskOptions(data=fixtures / "data", limit=12, num_fewshot=2))
    return task


def jobs(fixtures: Path, task: LoadedTask, options: EngineOptions) -> list[Job]:
    adapters = fixtures / "adapters"
    return [
        Job(side, resolve(str(adapters / f"{task.name}-{version}")), task, options)
        for side, version in (("old", "v1"), ("new", "v2"))
    ]


@pytest.mark.parametrize("name", ["gsm8k", "piqa"])
def test_in_steps_as_all_at_once(fixtures: Path, name: str) -> None:
    options = EngineOptions(engine="hf", batch_size=1)
    whole = evaluate_jobs(jobs(fixtures, load(fixtures, name), options))
    said: list[str] = []
    stepwise = Stepwise(jobs(fixtures, load(fixtures, name), options), said.append)
    try:
        for places in STEPS:
            for side in ("old", "new"):
                runs = stepwise.evaluate(side, name, places)
                assert all(sorted(map(int, run.records["doc_id"])) == sorted(places) for run in runs)
        found = stepwise.finish()
    finally:
        stepwise.close()
    assert sum(line.startswith("loading") for line in said) == 2
    assert [one.answers for one in found] == [one.answers for one in whole]
    for mine, theirs in zip(found, whole, strict=True):
        assert len(mine.runs) == len(theirs.runs)
        for run, other in zip(mine.runs, theirs.runs, strict=True):
            assert (run.filter, run.metrics, run.settings) == (other.filter, other.metrics, other.settings)
            columns = [name for name in run.records if "loglikelihoods" not in str(name)]
            assert list(run.records) == list(other.records)
            pd.testing.assert_frame_equal(run.records[columns], other.records[columns])


def test_texts_of_both_sides_are_in_memory_once(fixtures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "CHUNK", 5)
    done = evaluate_jobs(jobs(fixtures, load(fixtures, "piqa"), EngineOptions(engine="hf")))
    old, new = (one.runs[0].records for one in done)
    for name in ("doc_id", "input", "doc_hash", "target"):
        mine, theirs = (side[name].array.__arrow_array__().chunks for side in (old, new))
        assert len(mine) == 3
        assert [each.buffers()[-1].address for each in mine] == [each.buffers()[-1].address for each in theirs], name
    assert old["prediction"].tolist() != new["prediction"].tolist()


@pytest.mark.parametrize("name", ["gsm8k", "piqa"])
def test_a_task_in_parts_as_in_one(fixtures: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts with few-shot examples too, which are drawn from document to document."""
    options = EngineOptions(engine="hf", batch_size=1)
    whole = evaluate_jobs(jobs(fixtures, load(fixtures, name), options))
    monkeypatch.setattr(bridge, "CHUNK", 5)
    parts = evaluate_jobs(jobs(fixtures, load(fixtures, name), options))
    for mine, theirs in zip(parts, whole, strict=True):
        assert mine.answers == theirs.answers
        for run, other in zip(mine.runs, theirs.runs, strict=True):
            assert (run.filter, run.metrics, run.settings) == (other.filter, other.metrics, other.settings)
            columns = [name for name in run.records if "loglikelihoods" not in str(name)]
            assert list(run.records) == list(other.records)
            assert "full_prompt" in columns
            pd.testing.assert_frame_equal(run.records[columns], other.records[columns])


def test_what_steps_differ_in() -> None:
    def step(ids: list[str], scores: list[float], kind: str, **fields: list[object]) -> TaskRun:
        from compatcheck.records import Metric

        records = pd.DataFrame({"doc_id": ids, "prediction": ids, "score:f": scores, **fields})
        return TaskRun("t", "none", (Metric("f", kind),), records)

    first = step(["10", "2"], [0, 1], "discrete", length=[1, 2], name=["a", "b"])
    second = step(["1"], [0.5], "smooth", length=[3], error=["broken"])
    run = merged([first, second])
    assert run.metrics[0].kind == "smooth"
    assert list(run.records["doc_id"]) == ["1", "2", "10"]
    assert list(run.records["length"]) == [3, 2, 1]
    assert "name" not in run.records, "not a field of every step"
    assert list(run.records["error"].isna()) == [False, True, True]
