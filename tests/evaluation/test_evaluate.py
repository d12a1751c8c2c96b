"""Models of the fixtures, as `compatcheck diff` runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import compatcheck
from compatcheck import similarity
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from compatcheck.evaluation.grouping import Job, group_by_base
from compatcheck.references import resolve
from compatcheck.tasks import TaskOptions, load_tasks
from tests.factories import write_rows

LIMIT = 24


@pytest.fixture(scope="module")
def piqa(fixtures: Path) -> compatcheck.Diff:
    return compatcheck.diff(
        fixtures / "adapters" / "piqa-v1",
        fixtures / "adapters" / "piqa-v2",
        task="piqa",
        data=fixtures / "data",
        limit=LIMIT,
        slice_by="skill",
    )


def test_two_adapters_on_two_bases(piqa: compatcheck.Diff) -> None:
    assert [c.name for c in piqa.comparisons] == ["piqa/acc", "piqa/acc_norm"]
    assert piqa.old.kind == piqa.new.kind == "adapter"
    assert piqa.old.fingerprint != piqa.new.fingerprint
    assert piqa.old.engine["engine"] == "hf"
    acc = piqa["acc"]
    assert acc.n == LIMIT
    assert sum(acc.quadrants.values()) == LIMIT
    assert acc.slices
    for part in ("piqa|", "|metric:acc|", "|n:24|", "|limit:first:24|", "|split:validation|", "|fewshot:0|"):
        assert part in acc.signature
    binary = acc.metrics
    assert binary["nfr_mc"].value == binary["nfr"].value, (
        "with two choices a wrong answer differs from a right one only"
    )


def test_a_model_against_itself_never_flips(fixtures: Path) -> None:
    same = fixtures / "adapters" / "gsm8k-v2"
    c = compatcheck.diff(same, same, task="gsm8k", data=fixtures / "data", num_fewshot=0, sample=8, allow_same=True)
    for comparison in c.comparisons:
        assert comparison.quadrants["negative_flip"] == comparison.quadrants["positive_flip"] == 0
        assert comparison.metrics["agreement"].value == 1.0
        assert "random:8" in comparison.signature


def test_of_several_right_texts_the_best_counts(fixtures: Path, tmp_path: Path) -> None:
    task = tmp_path / "listed.yaml"
    task.write_text(
        "task: listed\ndataset_path: json\noutput_type: generate_until\ntest_split: test\n"
        "doc_to_text: '{{question}}'\ndoc_to_target: answers\ngeneration_kwargs: {until: [\"\\n\"], max_gen_toks: 8}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    rows = [{"question": f"Question {n}:", "answers": [f"one {n}", f"number {n} is two"]} for n in range(4)]
    data = write_rows(tmp_path / "listed.jsonl", rows)
    same = fixtures / "adapters" / "gsm8k-v2"
    c = compatcheck.diff(same, same, task=str(task), data=data, metric="rouge1", allow_same=True)
    right = [row["answers"] for row in rows]
    instances = c.only.instances
    assert instances["target"].tolist() == [json.dumps(each) for each in right]
    expected = similarity.get("rouge1").score(instances["prediction_old"].tolist(), right)
    assert instances["score_old"].tolist() == expected.tolist()


def test_rows_without_labels_are_errors_and_let_nothing_pass(fixtures: Path, tmp_path: Path) -> None:
    """lm-eval counts them as wrong, on both sides: no flips, whatever the models say."""
    rows = [
        {"goal": f"goal {number}", "sol1": "do this", "sol2": "do that", "label": number % 2 if number < 12 else -1}
        for number in range(24)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    sides = [fixtures / "adapters" / f"piqa-v{number}" for number in (1, 2)]
    c = compatcheck.diff(*sides, task="piqa", data=tmp_path / "rows.jsonl", metric="acc", fail_on="nfr:90%")
    assert (c.only.n, c.only.pairing.errors_old, c.only.pairing.errors_new, c.verdict) == (12, 12, 12, "inconclusive")
    assert any("its label (-1) is none of its 2 choices" in note for note in c.notes)


def test_a_shared_base_is_loaded_once(fixtures: Path) -> None:
    (task,) = load_tasks(["piqa"], TaskOptions(data=fixtures / "data", limit=1))
    base = resolve(str(fixtures / "models" / "base-v1"))
    adapter = resolve(str(fixtures / "adapters" / "piqa-v1"))
    other = resolve(str(fixtures / "adapters" / "piqa-v2"))
    groups = group_by_base([Job("old", base, task), Job("new", adapter, task), Job("new", other, task)])
    assert [(list(g.adapters), [(j.side, name) for j, name in g.jobs]) for g in groups] == [
        (["piqa-v1"], [("old", None), ("new", "piqa-v1")]),
        (["piqa-v2"], [("new", "piqa-v2")]),
    ]


def test_base_against_its_adapter_says_what_each_alone_says(fixtures: Path, piqa: compatcheck.Diff) -> None:
    """One load with the adapter switched off and on gives the figures of two loads."""
    c = compatcheck.diff(
        fixtures / "models" / "base-v1",
        fixtures / "adapters" / "piqa-v1",
        task="piqa",
        data=fixtures / "data",
        limit=LIMIT,
    )
    assert c["acc"].metrics["accuracy_new"].count == piqa["acc"].metrics["accuracy_old"].count
    assert c["acc"].instances["prediction_new"].tolist() == piqa["acc"].instances["prediction_old"].tolist()


def test_a_model_against_recorded_outputs(fixtures: Path, tmp_path: Path, piqa: compatcheck.Diff) -> None:
    acc = piqa["acc"].instances
    rows = [
        {"id": row.doc_id, "input": "said otherwise", "target": row.target, "prediction": row.prediction_old}
        for row in acc.itertuples()
    ]
    recorded = write_rows(tmp_path / "old.jsonl", rows)
    c = compatcheck.diff(
        recorded,
        fixtures / "adapters" / "piqa-v2",
        task="piqa",
        metric="exact_match",
        data=fixtures / "data",
        limit=LIMIT,
    )
    assert c.only.quadrants == piqa["acc"].quadrants


def test_one_adapter_per_task(fixtures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "diff", f"{fixtures}/adapters/{{task}}-v1", f"{fixtures}/adapters/{{task}}-v2", "--task", "hellaswag",
        "--task", "piqa", "--data", str(fixtures / "data"), "--limit", "6", "--format", "json",
    ]  # fmt: skip
    assert run(arguments) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert {c["task"] for c in report["comparisons"]} == {"hellaswag", "piqa"}
    assert captured.err.count("loading ") == 2, "each base once, for both tasks"
    with pytest.raises(InputError, match="needs --task"):
        compatcheck.diff("{task}-v1", "x")


def test_a_yaml_of_ones_own(fixtures: Path, tmp_path: Path) -> None:
    yaml = tmp_path / "mine.yaml"
    yaml.write_text(
        "task: mine\ndataset_path: json\noutput_type: multiple_choice\nvalidation_split: validation\n"
        'doc_to_text: "Question: {{goal}}\\nAnswer:"\ndoc_to_target: label\ndoc_to_choice: "{{[sol1, sol2]}}"\n'
        "metric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
    )
    data = fixtures / "data" / "piqa" / "validation.jsonl.gz"
    adapters = fixtures / "adapters"
    c = compatcheck.diff(adapters / "piqa-v1", adapters / "piqa-v2", task=str(yaml), data=data, limit=LIMIT)
    assert [one.name for one in c.comparisons] == ["mine/acc"]
    assert c.only.n == LIMIT


@pytest.mark.slow
def test_real_rows_run_through_and_every_count_is_right(fixtures: Path, shared: Path) -> None:
    """Scores of tiny models on real texts are poor; pairs, quadrants and means must add up all the same."""
    tasks = ["samsum", "gsm8k", "hellaswag", "piqa"]
    c = compatcheck.diff(
        f"{fixtures}/adapters/{{task}}-v1",
        f"{fixtures}/adapters/{{task}}-v2",
        task=tasks,
        data=shared,
        num_fewshot=0,
        limit=16,
    )
    assert {comparison.task for comparison in c.comparisons} == set(tasks)
    for comparison in c.comparisons:
        table = comparison.instances
        assert comparison.n == len(table) == 16
        assert table["quadrant"].value_counts().to_dict() == {k: v for k, v in comparison.quadrants.items() if v}
        assert table["gain"].tolist() == pytest.approx((table["score_new"] - table["score_old"]).tolist())
        names = ("accuracy_old", "accuracy_new") if comparison.kind == "discrete" else ("score_old", "score_new")
        for name, column in zip(names, ("score_old", "score_new"), strict=True):
            assert comparison.metrics[name].value == pytest.approx(table[column].mean())
