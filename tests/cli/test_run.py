"""``compatcheck run`` on the fixtures' models and on recorded outputs, and lm-eval's log of an evaluation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compatcheck
from compatcheck.cli.app import run
from tests.factories import write_rows

pytestmark = pytest.mark.slow

LIMIT = 12


def arguments(fixtures: Path, version: str, out: Path, *more: str) -> list[str]:
    return [
        "run", f"{fixtures}/adapters/{{task}}-{version}", "--task", "piqa", "--task", "gsm8k", "--data",
        f"{fixtures}/data", "--limit", str(LIMIT), "--num-fewshot", "0", "--out", str(out), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def kept(fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    assert run([*arguments(fixtures, "v1", root / "v1"), "--lm-eval-log", "-q"]) == 0
    assert run([*arguments(fixtures, "v2", root / "v2"), "-q"]) == 0
    return root


def comparable(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what may differ: how the sides were written, how long they took, and the command."""
    for side in ("old", "new"):
        report[side] = {k: v for k, v in report[side].items() if k not in ("reference", "settings")}
    report["notes"] = [note for note in report["notes"] if "from the store" not in note]
    return {key: value for key, value in report.items() if key != "command"}


def test_a_diff_of_kept_runs_is_the_diff_of_the_models(fixtures: Path, kept: Path, tmp_path: Path) -> None:
    options = ["--slice-by", "skill", "--fail-on", "nfr:50%", "--format", "json"]
    models = [f"{fixtures}/adapters/{{task}}-{version}" for version in ("v1", "v2")]
    rest = arguments(fixtures, "v1", tmp_path)[2:-2]
    of_models = run(["diff", *models, *rest, *options, "--out", str(tmp_path / "models")])
    of_kept = run(["diff", str(kept / "v1"), str(kept / "v2"), *options, "--out", str(tmp_path / "kept")])
    assert of_models == of_kept
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("models", "kept")]
    assert len(reports[0]["comparisons"]) == 4
    assert reports[0]["comparisons"][0]["slices"]
    assert comparable(reports[0]) == comparable(reports[1])
    tables = [pd.read_parquet(tmp_path / name / "instances.parquet") for name in ("models", "kept")]
    pd.testing.assert_frame_equal(*tables)


def test_a_kept_run_against_a_model(fixtures: Path, kept: Path) -> None:
    new = fixtures / "adapters" / "piqa-v2"
    options: dict[str, Any] = {"task": "piqa", "data": fixtures / "data", "limit": 5}
    got = compatcheck.diff(kept / "v1", new, **options)
    expected = compatcheck.diff(fixtures / "adapters" / "piqa-v1", new, **options)
    for one, other in zip(expected.comparisons, got.comparisons, strict=True):
        assert one == other
        pd.testing.assert_frame_equal(one.instances, other.instances)


def test_metrics_that_the_run_lacks_are_computed(kept: Path) -> None:
    got = compatcheck.diff(kept / "v1", kept / "v2", task="gsm8k", metric="rouge1")
    assert [c.name for c in got.comparisons] == ["gsm8k/strict-match/rouge1", "gsm8k/flexible-extract/rouge1"]


def test_what_is_kept_and_what_is_printed(
    fixtures: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(fixtures, "v1", tmp_path / "again")) == 0
    captured = capsys.readouterr()
    table = captured.out.splitlines()
    loaded = compatcheck.load_run(tmp_path / "again")
    assert captured.out == f"{loaded}\n"
    assert table[0] == f"{fixtures}/adapters/{{task}}-v1  (adapter, {loaded.manifest.fingerprint}, hf)"
    assert table[2].split() == [
        "task",
        "filter",
        "metric",
        "score",
        "95",
        "%",
        "interval",
        "n",
        "errors",
        "no",
        "answer",
    ]
    piqa = loaded.tasks[0].records
    right = int(piqa["score:acc"].sum())
    acc = loaded.scores[0]
    assert (acc.task, acc.metric.name, acc.n, acc.mean.count, acc.mean.of) == ("piqa", "acc", LIMIT, right, LIMIT)
    assert table[3].split()[:5] == ["piqa", "none", "acc", f"{100 * right / LIMIT:.1f}", "%"]
    assert captured.err.splitlines()[-1] == f"kept in {tmp_path / 'again'}"
    assert loaded.made.command.startswith("compatcheck run ")
    assert loaded.made.started.endswith("+00:00")
    assert loaded.made.seconds is not None
    assert loaded.records.columns[:3].tolist() == ["task", "doc_id", "filter"]
    assert len(loaded.records) == 3 * LIMIT
    # again with the same models: the same records, byte for byte
    assert (tmp_path / "again" / "records.parquet").read_bytes() == (kept / "v1" / "records.parquet").read_bytes()


def test_recorded_outputs_are_scored_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": 1, "target": "a cat", "prediction": "a cat", "kind": "pet"},
        {"id": 2, "target": "a dog", "prediction": None, "kind": "pet"},
        {"id": 3, "target": "an owl", "prediction": "x", "error": "timed out", "kind": "bird"},
        {"id": 4, "target": "a wren", "prediction": "\x1b[31mred", "kind": "bird"},
    ]
    recorded = write_rows(tmp_path / "old.jsonl", rows)
    out = tmp_path / "kept"
    assert run(["run", str(recorded), "--metric", "exact_match", "--metric", "rouge1", "--out", str(out), "--format",
                "json"]) == 0  # fmt: skip
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == "compatcheck.run/1"
    assert printed["kind"] == "recorded"
    exact = printed["scores"][0]
    assert {key: exact[key] for key in ("metric", "value", "of", "n", "errors", "no_answer")} == {
        "metric": "exact_match", "value": 1 / 3, "of": 3, "n": 4, "errors": 1, "no_answer": 1,
    }  # fmt: skip
    assert (exact["low"], exact["high"]) == pytest.approx((0.06149, 0.79234), abs=1e-5)
    assert printed["scores"][1]["value"] == pytest.approx(1 / 3)
    got, expected = (
        compatcheck.diff(one, recorded, metric=["exact_match", "rouge1"], slice_by="kind", allow_same=True)
        for one in (out, recorded)
    )
    assert got.comparisons == expected.comparisons
    assert got.old.fingerprint == expected.old.fingerprint
    assert run(["run", str(out), "--metric", "rouge1", "--limit", "2", "-q", "--out", str(tmp_path / "part")]) == 0
    assert capsys.readouterr() == (f"kept in {tmp_path / 'part'}\n", "")
    assert compatcheck.load_run(tmp_path / "part").scores[0].n == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--out", "{tmp}"], "error: {tmp}: holds notes.txt, which is no kept run of compatcheck; name an empty"),
        (["--out", "{tmp}/notes.txt"], "error: --out {tmp}/notes.txt: is a file; name a folder"),
        ([], "error: Missing option '--out'"),
        (["--out", "{tmp}/new", "--format", "html"], "error: --format html: unknown format; known: terminal, json"),
        (["--out", "{tmp}/new", "--lm-eval-log"], "error: --lm-eval-log needs a model to evaluate; "),
        (["--out", "{tmp}/new", "--task", "other"], "recorded for task recorded, not for other"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str) -> None:
    recorded = tmp_path.parent / f"{tmp_path.name}.jsonl"
    recorded.write_text('{"id": 1, "target": "a", "prediction": "a", "task": "recorded"}\n')
    (tmp_path / "notes.txt").write_text("mine")
    assert run(["run", str(recorded), *(one.replace("{tmp}", str(tmp_path)) for one in more)]) == 2
    assert message.replace("{tmp}", str(tmp_path)) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_log_is_read_back_as_the_run(kept: Path) -> None:
    """Our own importer takes the log for what lm-eval writes, and finds in it what the run holds."""
    of_run = compatcheck.load_run(kept / "v1")
    for task in ("piqa", "gsm8k"):
        (folder,) = (kept / "v1" / "lm-eval").glob(f"*{task}-v1")
        imported = compatcheck.evaluate(folder, task=task)
        expected = {one.filter: one for one in of_run.tasks if one.task == task}
        assert [one.filter for one in imported.tasks] == list(expected)
        for one in imported.tasks:
            mine, theirs = expected[one.filter].records, one.records
            shared = ["doc_id", "target", "prediction", "doc_hash", "target_hash"]
            shared += [name for name in theirs if str(name).startswith(("score:", "prediction:", "loglik"))]
            for name in shared:
                assert mine[name].tolist() == theirs[name].tolist(), name


TASK = """task: choices
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {data}}}}}
output_type: multiple_choice
validation_split: validation
doc_to_text: "Question: {{{{goal}}}}\\nAnswer:"
doc_to_target: label
doc_to_choice: "{{{{[sol1, sol2]}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""


@pytest.mark.slow
def test_the_log_is_what_lm_eval_itself_writes(fixtures: Path, tmp_path: Path) -> None:
    data = fixtures / "data" / "piqa" / "validation.jsonl.gz"
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "choices.yaml").write_text(TASK.format(data=data))
    model = fixtures / "models" / "base-v1"
    theirs_out, ours_out = tmp_path / "theirs", tmp_path / "ours"
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32",
        "--tasks", "choices", "--include_path", str(tmp_path / "tasks"), "--log_samples", "--output_path",
        str(theirs_out), "--limit", "6", "--batch_size", "4", "--device", "cpu",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"HF_HOME": str(tmp_path / "hf")})
    ours = ["run", str(model), "--task", str(tmp_path / "tasks" / "choices.yaml"), "--limit", "6", "--out"]
    assert run([*ours, str(ours_out), "--lm-eval-log", "--dtype", "float32", "--batch-size", "4", "-q"]) == 0
    (theirs,), (mine,) = ([*root.glob("*")] for root in (theirs_out, ours_out / "lm-eval"))
    assert theirs.name == mine.name
    rows = [
        [json.loads(line) for line in next(folder.glob("samples_choices_*.jsonl")).read_text().splitlines()]
        for folder in (theirs, mine)
    ]
    assert len(rows[0]) == len(rows[1]) == 6
    for one, other in zip(*rows, strict=True):
        assert list(one) == list(other)
        for key in one:
            if key in ("resps", "filtered_resps"):  # log-likelihoods, written as texts
                flat = [[float(pair[0] if key == "filtered_resps" else pair[0][0]) for pair in row[key]]
                        for row in (one, other)]  # fmt: skip
                assert flat[0] == pytest.approx(flat[1], abs=2e-4)
            else:
                assert one[key] == other[key], key
    results = [json.loads(next(folder.glob("results_*.json")).read_text()) for folder in (theirs, mine)]
    assert list(results[0]) == list(results[1])
    metadata = results[0]["configs"]["choices"]["metadata"]  # lm-eval's command line adds the model's arguments
    assert metadata.keys() == {"version", "pretrained", "dtype", "config_source"}
    results[0]["configs"]["choices"]["metadata"] = {"version": metadata["version"]}
    for key in ("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples",
                "task_hashes", "model_source", "model_name", "model_name_sanitized", "eot_token_id", "max_length",
                "tokenizer_eos_token", "lm_eval_version", "transformers_version"):  # fmt: skip
        assert results[0][key] == results[1][key], key
    assert list(results[0]["config"]) == list(results[1]["config"])
    for key in ("model", "model_num_parameters", "model_dtype", "model_revision", "bootstrap_iters", "fewshot_seed"):
        assert results[0]["config"][key] == results[1]["config"][key], key
