"""Real recorded outputs give the figures that were counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rouge_score import rouge_scorer

from compatcheck.compare import compare
from compatcheck.readers import Layout, load_recorded


def test_gsm8k_solutions_of_two_models(shared: Path) -> None:
    file = shared / "gsm8k" / "example_model_solutions.jsonl.gz"
    layout = Layout(
        id_field="question",
        target_field="ground_truth",
        prediction_field="6b_finetuning.solution",
        extract=r"A:\s*\$?(-?[0-9][0-9,]*(?:\.[0-9]+)?)",
    )
    (old,) = load_recorded(file, layout=layout, side="old")
    (new,) = load_recorded(file, layout=replace(layout, prediction_field="175b_finetuning.solution"), side="new")
    found = compare(old, new, metric="exact_match")
    assert found.quadrants == {"both_correct": 198, "positive_flip": 260, "negative_flip": 88, "both_wrong": 773}
    assert (found.pairing.paired, found.pairing.no_answer_old, found.pairing.no_answer_new) == (1319, 4, 5)
    assert (found.pairing.only_old, found.pairing.only_new, found.pairing.target_changed) == (0, 0, 0)


@pytest.mark.slow
def test_alpaca_eval_against_a_third_models_outputs(shared: Path) -> None:
    folder = shared / "outputs" / "alpaca_eval"
    layout = Layout(id_field="instruction", prediction_field="output", targets=folder / "gpt4_0613.jsonl.gz")
    (old,) = load_recorded(folder / "phi-2.jsonl.gz", layout=layout, metrics=["rouge1"])
    (new,) = load_recorded(folder / "vicuna-7b-v1.5.jsonl.gz", layout=layout, metrics=["rouge1"])
    scorer = rouge_scorer.RougeScorer(["rouge1"])
    for row in new.records.iloc[::50].to_dict("records"):
        assert row["score:rouge1"] == scorer.score(row["target"], row["prediction"])["rouge1"].fmeasure
    found = compare(old, new, metric="rouge1")
    assert (len(old.records), len(new.records), found.pairing.paired, found.pairing.only_new) == (803, 805, 803, 2)
    assert set(found.quadrants) == {"positive_flip", "negative_flip", "unchanged"}
    assert found.quadrants["positive_flip"] > 4 * found.quadrants["negative_flip"]


def test_samples_that_lm_eval_wrote(shared: Path) -> None:
    folder = shared / "outputs" / "lm_eval" / "Phi-3-mini-4k-instruct"
    runs = load_recorded(folder)
    assert [(run.task, run.filter, len(run.records)) for run in runs] == [
        ("gsm8k", "strict-match", 10),
        ("gsm8k", "flexible-extract", 10),
        ("hendrycks_math_algebra", "none", 1187),
        ("hendrycks_math_counting_and_prob", "none", 474),
        ("hendrycks_math_prealgebra", "none", 871),
    ]
    strict, flexible = runs[0].records, runs[1].records
    assert strict["prediction"].isna().sum() == 9  # "[invalid]" is no answer
    assert strict["score:exact_match"].sum() == 1
    assert flexible["prediction"].notna().all()
    assert flexible["score:exact_match"].sum() == 8
    assert strict["input"][0].startswith("Question: Janet’s ducks lay 16 eggs per day.")
    assert "Question: Steve" not in strict["input"][0]  # the few-shot examples are left out
    assert {"level", "type", "answer"} <= set(runs[2].records)
    assert "problem" not in runs[2].records


def test_samples_scored_again_from_the_responses(shared: Path) -> None:
    folder = shared / "outputs" / "lm_eval" / "Phi-3-mini-4k-instruct"
    layout = Layout(target_field="doc.answer", extract=r"\\boxed\{(.*)\}")
    (run,) = load_recorded(folder, layout=layout, tasks=["hendrycks_math_algebra"])
    assert (run.filter, run.metrics[0].name, len(run.records)) == ("extract", "exact_match", 1187)
    assert run.records["score:exact_match"].sum() == 511
    assert run.records["prediction"].isna().sum() == 395
