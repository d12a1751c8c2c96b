"""Several samples of one document are one record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.compare import compare
from compatcheck.errors import InputError
from compatcheck.evaluation.rows import sample_scores
from compatcheck.records import Metric, TaskRun
from compatcheck.table.repeats import average_records, error_of_shares
from tests.factories import write_rows

EXACT = Metric("exact_match", "discrete", signature="exact")


def test_scores_are_averaged_and_failed_samples_take_no_part() -> None:
    records = pd.DataFrame(
        {
            "doc_id": ["a", "b", "a", "b", "a", "c"],
            "prediction": ["1", None, "2", "5", "3", None],
            "error": [None, "timeout", None, None, None, "timeout"],
            "score:exact_match": [1.0, None, 0.0, 1.0, 0.0, None],
        }
    )
    found, (metric,), spread = average_records(records, [EXACT])
    assert found["doc_id"].tolist() == ["a", "b", "c"]
    assert found["prediction"].tolist()[:2] == ["1", "5"]
    assert found["score:exact_match"].tolist()[:2] == [pytest.approx(1 / 3), 1.0]
    assert pd.isna(found["score:exact_match"][2])
    assert found["error"].tolist()[2] == "timeout"
    assert (metric.kind, metric.signature, spread) == ("smooth", "exact|mean of 1 to 3 samples", (1, 3))


def test_single_rows_stay_as_they_are() -> None:
    records = pd.DataFrame({"doc_id": ["a", "b"], "score:exact_match": [1.0, 0.0]})
    found, metrics, spread = average_records(records, [EXACT])
    assert found is records
    assert (metrics, spread) == ((EXACT,), (1, 1))


def test_samples_have_one_target() -> None:
    records = pd.DataFrame({"doc_id": ["a", "a"], "target": ["1", "2"], "score:exact_match": [1.0, 0.0]})
    with pytest.raises(InputError, match="the rows of id 'a' differ in `target`"):
        average_records(records, [EXACT])


def write(path: Path, samples: dict[str, str]) -> Path:
    """One row for each letter: a sample of the document, whose target is ``a``."""
    rows = [{"id": name, "target": "a", "prediction": one} for name, all_ in samples.items() for one in all_]
    return write_rows(path, rows)


def test_recorded_samples_are_averaged_before_they_are_paired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand: d1 1 → 1/2, d2 1/2 → 1/2, d3 0 → 1; gains −1/2, 0, +1."""
    old = write(tmp_path / "old.jsonl", {"d1": "aa", "d2": "ab", "d3": "bb"})
    new = write(tmp_path / "new.jsonl", {"d1": "ba", "d2": "ba", "d3": "aa"})
    assert run(["diff", str(old), str(new)]) == 2  # as ever: an id twice with other answers is an error
    assert "d2" in capsys.readouterr().err
    c = compatcheck.diff(old, new, repeats="average", epsilon=0.0).only
    assert (c.kind, c.n, dict(c.quadrants)) == (
        "smooth", 3, {"positive_flip": 1, "negative_flip": 1, "unchanged": 1},
    )  # fmt: skip
    assert c.instances["gain"].tolist() == [-0.5, 0.0, 1.0]
    assert c.metrics["mean_difference"].value == pytest.approx(1 / 6)
    assert "|repeats:2|" in c.signature
    assert "mean of 2 samples" in c.signature
    assert compatcheck.diff(old, new, repeats="average", limit=2).only.n == 2
    most = compatcheck.diff(old, new, repeats="average", correct_at=0.5).only
    assert dict(most.quadrants) == {"both_correct": 2, "positive_flip": 1, "negative_flip": 0, "both_wrong": 0}
    with pytest.raises(InputError, match="--repeats average gathers the rows"):
        compatcheck.diff(old, new, repeats="average", stream=True)


def sampling_task(folder: Path, filters: str = "") -> str:
    rows = "".join(json.dumps({"q": f"{n} + {n} =", "a": str(2 * n)}) + "\n" for n in range(4))
    (folder / "hot.jsonl").write_text(rows, encoding="utf-8")
    path = folder / "hot.yaml"
    path.write_text(
        "task: hot\ndataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {folder / 'hot.jsonl'}\n"
        "test_split: test\noutput_type: generate_until\nrepeats: 3\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\n"
        "generation_kwargs:\n  until: ['\\n']\n  do_sample: true\n  temperature: 1.5\n  max_gen_toks: 8\n"
        f"metric_list:\n  - metric: exact_match\n{filters}",
        encoding="utf-8",
    )
    return str(path)


VOTES = """filter_list:
  - name: digits
    filter:
      - function: regex
        regex_pattern: '(\\d+)'
      - function: take_first
  - name: vote
    filter:
      - function: majority_vote
      - function: take_first
"""


def samples_of(task: Any, answers: list[list[str]], name: str) -> list[dict[str, Any]]:
    docs = list(task.test_docs())[: len(answers)]
    return [{"doc": doc, "resps": [each], "filter": name} for doc, each in zip(docs, answers, strict=True)]


def test_every_sample_goes_through_the_filter_and_the_tasks_own_score(tmp_path: Path) -> None:
    """Targets 0 and 2: right are 1 of 3 and 2 of 3 answers, once the digits are taken out."""
    from compatcheck.tasks import TaskOptions, load_tasks

    (loaded,) = load_tasks([sampling_task(tmp_path, VOTES)], TaskOptions())
    answers = [["is 0", "7", "no"], ["2", "it is 2!", "3"]]
    found = sample_scores(loaded.task, "digits", samples_of(loaded.task, answers, "digits"))
    assert found == [{"exact_match": pytest.approx(1 / 3)}, {"exact_match": pytest.approx(2 / 3)}]
    assert sample_scores(loaded.task, "vote", samples_of(loaded.task, answers, "vote")) is None
    once = samples_of(loaded.task, [["0"], ["2"]], "digits")
    assert sample_scores(loaded.task, "digits", once) is None


def test_a_task_with_repeats_is_averaged_when_a_model_answers_it(fixtures: Path, tmp_path: Path) -> None:
    from compatcheck.api import evaluate

    done = evaluate(fixtures / "models" / "base-v1", task=sampling_task(tmp_path))
    (task,) = done.tasks
    assert len(task.records) == 4
    assert task.settings["repeats"] == 3
    (metric,) = task.metrics
    assert (metric.kind, metric.signature.endswith("|mean of 3 samples")) == ("smooth", True)
    assert set(task.records["score:exact_match"] * 3) <= {0.0, 1.0, 2.0, 3.0}


def averaged(seed: int, samples: int, documents: int = 400) -> TaskRun:
    """The same model: every document has its own chance of a right answer, the same on every call."""
    chances = np.random.default_rng(0).beta(0.5, 0.5, documents)
    right = np.random.default_rng(seed).random((documents, samples)) < chances[:, None]
    records = pd.DataFrame({"doc_id": np.repeat([f"d{n}" for n in range(documents)], samples)})
    records["score:acc"] = right.ravel().astype(float)
    found, metrics, _ = average_records(records, (Metric("acc", "discrete"),))
    return TaskRun("t", "none", metrics, found)


@pytest.mark.parametrize("samples", [2, 4, 16, 64])
def test_an_unchanged_model_has_few_flips_however_many_samples(samples: int) -> None:
    """Without a dead-band its NFR grows from 17 to 39 %, as averages of more samples are rarely equal."""
    old, new = averaged(1, samples), averaged(2, samples)
    assert compare(old, new, metric="acc").metrics["nfr"].value <= 0.06
    assert compare(old, new, metric="acc", epsilon=0.0).metrics["nfr"].value > 0.12


def test_the_error_of_an_average_is_that_of_its_samples() -> None:
    """Two documents by hand: 0, 1, 1, 1 and 0, 0: (1/4 / 4 + 0) / 2."""
    records = pd.DataFrame({"doc_id": ["a"] * 4 + ["b"] * 2, "score:acc": [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]})
    _, (metric,), spread = average_records(records, (Metric("acc", "discrete"),))
    assert spread == (2, 4)
    assert metric.error == pytest.approx(np.sqrt(0.25 / 4 / 2))
    assert error_of_shares(np.array([0.75, 0.0]), 4) == pytest.approx(np.sqrt(0.25 * 0.75 / 3 / 2))
    assert error_of_shares(np.array([0.75]), 1) == error_of_shares(np.array([3.0]), 4) == 0.0


def test_the_dead_band_of_samples_is_said_and_can_be_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(4)
    for name in ("old", "new"):
        rows = [
            {"id": n, "target": "a", "prediction": "a" if rng.random() < 0.6 else "b", "k": k}
            for n in range(50)
            for k in range(4)
        ]
        write_rows(tmp_path / f"{name}.jsonl", rows)
    arguments = ["diff", str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl"), "--repeats", "average"]
    assert run(arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "is an average of samples; a gain within ±0." in said and "--epsilon sets another dead-band" in said
    assert run([*arguments, "--epsilon", "0.1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "is an average of samples; a gain" not in said and "|eps:0.1|" in said.replace(" ", "")
