"""Outputs of lighteval, inspect_ai, promptfoo, HELM, AlpacaEval and datasets become the records they stand for."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compatcheck
from compatcheck.errors import InputError
from compatcheck.readers import Layout, load_recorded
from compatcheck.readers.detect import tool_of
from compatcheck.records import TaskRun
from compatcheck.references import resolve
from tests.readers.foreign_samples import (
    ALPACA,
    ANNOTATIONS,
    DATA,
    HELM_STATES,
    HELM_STATS,
    helm_run,
    helm_state,
    helm_stats,
    inspect_log,
    lighteval_tree,
)


def load(reference: str | Path, **options: Any) -> list[TaskRun]:
    found = resolve(str(reference))
    layout = Layout(tool=found.tool, part=found.part, **options.pop("layout", {}))
    assert found.recorded is not None
    return load_recorded(found.recorded, layout=layout, **options)


def message(reference: str | Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(reference, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values(column: pd.Series) -> list[Any]:
    return [None if pd.isna(value) else value for value in column]


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_inspect_log_with_two_scorers_and_an_error() -> None:
    (run,) = load(inspect_log("old", "sums"))
    assert (run.task, run.filter, run.notes) == ("sums", "none", ())
    assert [(m.name, m.kind) for m in run.metrics] == [
        ("graded.length", "smooth"), ("graded.right", "smooth"), ("pattern", "discrete"),
    ]  # fmt: skip
    records = run.records
    assert values(records["doc_id"]) == ["q1", "q2", "q3", "q4", "q5"]
    assert values(records["target"]) == ["2", "4", "6", "8", "10"]
    assert values(records["prediction"]) == ["2", "4", None, "9", None]  # what the pattern took out
    assert values(records["response"]) == ["ANSWER: 2", "I think ANSWER: 4", None, "ANSWER: 9", "no idea"]
    assert values(records["error"]) == [None, None, "ValueError('the server said no')", None, None]
    assert values(records["score:pattern"]) == [1.0, 1.0, None, 0.0, 0.0]
    assert values(records["score:graded.right"]) == [1.0, 1.0, None, 0.5, 0.0]  # C, C, failed, P, N
    assert values(records["level"]) == [1, 0, 1, 0, 1]


def test_inspect_json_epochs_and_folder() -> None:
    (small,) = load(inspect_log("old", "sums-small"))
    assert (small.task, values(small.records["score:pattern"])) == ("sums_small", [1.0, 0.0])
    (epochs,) = load(inspect_log("old", "sums-epochs"))
    assert values(epochs.records["doc_id"]) == ["q1", "q2"]
    assert values(epochs.records["score:match"]) == [1.0, 0.5]  # the mean of two epochs
    assert [(m.kind, m.signature) for m in epochs.metrics] == [("smooth", "match|as recorded|mean of 2 samples")]
    assert epochs.settings == {"repeats": 2}
    assert epochs.notes == (
        "sums_epochs: the epochs of an instance (up to 2) are averaged; texts are those of the first that worked",
    )
    assert [run.task for run in load(DATA / "inspect" / "old")] == ["sums", "sums_epochs", "sums_small"]
    assert [run.task for run in load(DATA / "inspect" / "old", tasks=["sums"])] == ["sums"]
    assert message(DATA / "inspect").endswith(": logs of several models; name one as "
        f"{DATA / 'inspect'}#MODEL: table/new, table/old")  # fmt: skip
    assert [run.task for run in load(f"{DATA / 'inspect'}#table/new")] == ["sums", "sums_epochs", "sums_small"]


def test_two_inspect_logs_compared() -> None:
    diff = compatcheck.diff(DATA / "inspect" / "old", DATA / "inspect" / "new", task="sums")
    found = diff["pattern"]
    assert found.quadrants == {"both_correct": 1, "positive_flip": 2, "negative_flip": 1, "both_wrong": 0}
    assert (found.pairing.paired, found.pairing.errors_old, found.pairing.errors_new) == (4, 1, 0)


def test_promptfoo_providers(tmp_path: Path) -> None:
    file = DATA / "promptfoo" / "sums.json.gz"
    (old,), (new,) = load(f"{file}#old"), load(f"{file}#new")
    assert old.task == new.task == "sums"
    assert [(m.name, m.kind) for m in old.metrics] == [
        ("exact", "discrete"), ("pass", "discrete"), ("score", "smooth"),
    ]  # fmt: skip
    by_a = old.records.sort_values("a")
    assert values(by_a["target"]) == ["2", "4", "6", "8", "10"]  # the templates of the assertions, filled in
    assert values(by_a["prediction"]) == ["2", "4", "7", None, "ten"]
    assert values(by_a["error"]) == [None, None, None, "the server said no", None]
    assert values(by_a["score:exact"]) == [1.0, 1.0, 0.0, None, 0.0]
    assert values(by_a["score:score"]) == [1.0, 1.0, 0.5, None, 0.0]
    assert values(by_a["level"]) == ["easy", "easy", "hard", "hard", "hard"]
    found = compatcheck.diff(f"{file}#old", f"{file}#new")["exact"]
    assert found.quadrants == {"both_correct": 1, "positive_flip": 2, "negative_flip": 1, "both_wrong": 0}
    assert (found.pairing.paired, found.pairing.errors_old) == (4, 1)
    lines, packed = DATA / "promptfoo" / "sums.jsonl.gz", tmp_path / "sums.jsonl.xz"
    packed.write_bytes(lzma.compress(gzip.decompress(lines.read_bytes())))
    for each in (lines, packed):
        (run,) = load(f"{each}#old", tasks=["sums"])
        pd.testing.assert_frame_equal(run.records, old.records)


def test_promptfoo_provider_that_is_not_named_or_not_there() -> None:
    file = DATA / "promptfoo" / "sums.json.gz"
    assert message(file) == f"{file}: results of several providers; name one as {file}#PROVIDER: old, new"
    assert message(f"{file}#olt") == (
        f"{file}: no provider or prompt 'olt' (did you mean 'old'?); providers there: old, new"
    )


def test_promptfoo_repeats_are_averaged() -> None:
    (run,) = load(f"{DATA / 'promptfoo' / 'repeats.json.gz'}#new")
    assert values(run.records["prediction"]) == ["2", "5"]
    assert run.notes == (
        "sums: the repeats of an instance (up to 2) are averaged; texts are those of the first that worked",
    )


def test_promptfoo_two_prompts_of_one_provider(tmp_path: Path) -> None:
    def result(prompt: str, n: int, said: str) -> dict[str, Any]:
        return {
            "testIdx": n, "promptIdx": 0, "promptId": prompt, "vars": {"n": n}, "provider": {"id": "p"},
            "prompt": {"raw": f"{prompt} {n}", "label": prompt}, "response": {"output": said}, "score": 1,
            "success": True, "namedScores": {"half": 0.5} if n else {}, "failureReason": 0,
        }  # fmt: skip

    rows = [result(prompt, n, f"{prompt}{n}") for n in (0, 1) for prompt in ("short", "long")]
    file = write(tmp_path / "out.json", {"evalId": "e", "results": {"results": rows}, "config": {}})
    (both,) = load(file)
    assert values(both.records["prompt"]) == ["short", "long", "short", "long"]
    assert both.records["doc_id"].is_unique
    assert both.notes == ("promptfoo: half is scored in 2 of 4 rows only and is not compared (--metric half)",)
    (long,) = load(f"{file}#long")
    assert values(long.records["prediction"]) == ["long0", "long1"]


def _promptfoo(file: Path, rows: list[dict[str, Any]]) -> Path:
    about = {"provider": {"id": "p"}, "response": {"output": "x"}, "namedScores": {}, "failureReason": 0}
    found = [about | {"score": float(row["success"])} | row for row in rows]
    return write(file, {"evalId": "e", "results": {"results": found}, "config": {}})


def test_promptfoo_results_in_another_order(tmp_path: Path) -> None:
    """promptfoo writes results in the order in which they come: neither prompts nor tests are known by it."""
    prompts = [
        {"testIdx": n, "promptIdx": i, "promptId": name, "vars": {"n": n}, "success": name == "a",
         "prompt": {"raw": f"{name} {n}", "label": name}} for n in range(4) for i, name in enumerate("ab")
    ]  # fmt: skip
    judged = [
        {"testIdx": 2 * n + i, "promptIdx": 0, "vars": {"n": n}, "success": kind == "is-json",
         "prompt": {"raw": f"{n}", "label": "p"}, "testCase": {"assert": [{"type": kind}]}}
        for n in range(4) for i, kind in enumerate(("is-json", "llm-rubric"))
    ]  # fmt: skip
    for rows in (prompts, judged):
        old = _promptfoo(tmp_path / "old.json", rows)
        new = _promptfoo(tmp_path / "new.json", [*rows[1::-1], *rows[2:]])
        found = compatcheck.diff(old, new)["pass"]
        assert found.quadrants == {"both_correct": 4, "positive_flip": 0, "negative_flip": 0, "both_wrong": 4}


def test_helm_run_with_its_statistics(tmp_path: Path) -> None:
    folder = helm_run(tmp_path / "sums:subject=easy,model=own_m", HELM_STATES, HELM_STATS)
    (run,) = load(folder)
    assert (run.task, run.settings) == ("sums:subject=easy", {"num_fewshot": 5})
    assert [(m.name, m.kind) for m in run.metrics] == [("exact_match", "discrete")]
    records = run.records
    assert values(records["doc_id"]) == ["id1", "id2", "id3"]
    assert values(records["prediction"]) == ["4", "5", None]
    assert values(records["target"]) == ["4", "4", "4"]
    assert values(records["error"]) == [None, None, "the server said no"]
    assert values(records["score:exact_match"]) == [1.0, 0.0, None]
    assert values(records["num_prompt_tokens"]) == [8, 9, None]
    (file,) = load(folder / "scenario_state.json")
    assert values(file.records["score:exact_match"]) == [1.0, 0.0, None]  # computed from the texts
    (stats,) = load(folder / "per_instance_stats.json")
    assert values(stats.records["score:exact_match"]) == [1.0, 0.0]


def test_helm_folder_of_several_runs_and_trials(tmp_path: Path) -> None:
    for model in ("a", "b"):
        helm_run(tmp_path / f"sums:model=own_{model}", HELM_STATES, HELM_STATS)
    states = [helm_state(1, "4", trial=0), helm_state(1, "5", trial=1)]
    helm_run(tmp_path / "more:model=own_a", states, [helm_stats(1, 1, 0), helm_stats(1, 0, 1)])
    assert message(tmp_path) == f"{tmp_path}: runs of several models; name one as {tmp_path}#MODEL: own_a, own_b"
    more, sums = load(f"{tmp_path}#own_a")
    assert (more.task, sums.task) == ("more", "sums")
    assert values(more.records["score:exact_match"]) == [0.5]
    assert "no run of task less; tasks there: sums" in message(f"{tmp_path}#own_b", tasks=["less", "fewer"])


def test_helm_statistics_that_do_not_fit_the_requests(tmp_path: Path) -> None:
    folder = helm_run(tmp_path / "one", HELM_STATES, HELM_STATS[:1])
    assert message(folder) == (
        f"{folder / 'per_instance_stats.json'}: no statistics of the instance 'id2', which was asked"
    )
    folder = helm_run(tmp_path / "two", HELM_STATES[:1], HELM_STATS)
    assert message(folder) == (
        f"{folder / 'per_instance_stats.json'}: item 2: statistics of the instance 'id2', which was not asked"
    )


def test_helm_choices_with_a_letter_and_with_requests_of_their_own(tmp_path: Path) -> None:
    letter = helm_state(1, " B", right="green") | {"output_mapping": {"A": "red", "B": "green"}}
    (run,) = load(helm_run(tmp_path / "letters", [letter], None))
    assert (run.records["prediction"][0], run.records["response"][0]) == ("green", " B")
    assert values(run.records["score:exact_match"]) == [1.0]
    separate = []
    for index, logprob, calibration in ((0, -3.0, -1.0), (1, -2.0, -1.5)):
        for mode, value in (("original", logprob), ("calibration", calibration)):
            state = helm_state(1) | {"reference_index": index, "request_mode": mode}
            state["result"]["completions"][0]["logprob"] = value
            separate.append(state)
    (run,) = load(helm_run(tmp_path / "separate", separate, None))
    assert values(run.records["prediction"]) == ["x"]  # -2.0 against -0.5
    assert run.records["loglikelihoods"][0] == [-2.0, -0.5]


def test_helm_on_real_logs(shared: Path) -> None:
    folder = shared / "outputs" / "helm_gsm"
    answer = r"(?s).*?(-?[0-9][0-9,]*)(?:\.0+)?(?!.*[0-9])"
    sides = [load(folder / f"Phi-3.5-mini-instruct.{n}shot.jsonl.gz", layout={"extract": answer}) for n in (5, 0)]
    assert [len(run.records) for (run,) in sides] == [100, 150]
    (few,), (none,) = sides
    assert few.records["error"].isna().all() if "error" in few.records else True
    assert set(few.records["doc_id"]) & set(none.records["doc_id"])
    assert 0.5 < few.records["score:exact_match"].mean() < 1


def test_alpaca_eval_outputs_against_a_third_model(tmp_path: Path) -> None:
    third = write(tmp_path / "third.json", [row | {"output": "Red.", "generator": "t"} for row in reversed(ALPACA)])
    (run,) = load(write(tmp_path / "out.json", ALPACA), layout={"targets": third})
    assert run.task == "alpaca_eval"
    assert values(run.records["prediction"]) == ["Red.", "Plum.", ""]
    assert values(run.records["score:exact_match"]) == [1.0, 0.0, 0.0]
    assert values(run.records["dataset"]) == ["own", "own", "own"]
    assert "no field `target`" in message(tmp_path / "out.json")


def test_alpaca_eval_annotations(tmp_path: Path) -> None:
    rows = [*ANNOTATIONS, ANNOTATIONS[0] | {"instruction": "Name a tree.", "preference": None}]
    (run,) = load(write(tmp_path / "annotations.json", rows))
    assert [(m.name, m.kind) for m in run.metrics] == [("win", "smooth")]
    assert values(run.records["score:win"]) == [1.0, 0.5, 0.0, None]
    assert values(run.records["error"]) == [None, None, None, "the annotator gave no preference"]


def test_alpaca_eval_with_several_generators(tmp_path: Path) -> None:
    file = write(tmp_path / "out.json", [*ALPACA, ALPACA[0] | {"generator": "m2", "output": "Blue."}])
    assert message(file) == f"{file}: item 4: another generator; name one of them as {file}#NAME: m1, m2"
    (run,) = load(f"{file}#m2", layout={"targets": write(tmp_path / "third.json", ALPACA)})
    assert values(run.records["prediction"]) == ["Blue."]
    assert message(f"{file}#m3") == f"{file}: no generator 'm3'; generators there: m1, m2"


def test_real_alpaca_eval_outputs(shared: Path) -> None:
    folder = shared / "outputs" / "alpaca_eval"
    layout = {"targets": folder / "gpt4_0613.jsonl.gz"}
    (old,) = load(folder / "phi-2.jsonl.gz", layout=layout, metrics=["exact_match"])
    (new,) = load(folder / "vicuna-7b.jsonl.gz", layout=layout, metrics=["exact_match"])
    assert (len(old.records), len(new.records)) == (803, 805)
    assert len(set(old.records["doc_id"]) & set(new.records["doc_id"])) == 803


def test_lighteval_choices_and_texts(tmp_path: Path) -> None:
    tree = lighteval_tree(tmp_path / "old", "old")
    choosing, saying = load(tree)
    assert (choosing.task, choosing.settings, saying.task) == ("choosing", {"num_fewshot": 0}, "saying")
    assert [(m.name, m.kind) for m in choosing.metrics] == [("acc", "discrete")]
    by_id = choosing.records.sort_values("doc_id")
    assert values(by_id["doc_id"]) == ["0", "1", "2", "3"]
    assert values(by_id["target"]) == [" 2", " 4", " 6", " 8"]
    assert values(by_id["prediction"]) == [" 2", " 4", " 6", " 44"]
    assert values(by_id["score:acc"]) == [1.0, 1.0, 1.0, 0.0]
    assert values(by_id["level"]) == [1, 2, 1, 2]
    assert [m.name for m in saying.metrics] == ["em", "rouge1"]
    assert values(saying.records["prediction"]) == ["random baseline"] * 4
    diff = compatcheck.diff(tree, lighteval_tree(tmp_path / "new", "new"), task="choosing")
    assert diff.only.n == 4
    assert diff.only.quadrants == {"both_correct": 1, "positive_flip": 0, "negative_flip": 2, "both_wrong": 1}


def test_lighteval_trees_of_several_models_and_times(tmp_path: Path) -> None:
    lighteval_tree(tmp_path, "old", "org/a")
    lighteval_tree(tmp_path, "new", "org/a", "2026-11-21T00-00-00.000001")
    lighteval_tree(tmp_path, "old", "org/b")
    assert message(tmp_path) == (f"{tmp_path}: details of several models; name one as {tmp_path}#MODEL: org/a, org/b")
    newest, _ = load(f"{tmp_path}#org/a")
    assert newest.records["score:acc"].sum() == 1  # the later one; 3 in the earlier
    assert "no details of task choosin (did you mean 'choosing'?)" in message(
        f"{tmp_path}#org/b", tasks=["choosin", "x"]
    )


def test_datasets_on_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"id": ["a", "b"], "target": ["1", "2"], "prediction": ["1", "3"], "level": [1, 2]}
    one = datasets.Dataset.from_dict(rows)
    one.save_to_disk(tmp_path / "one")
    (run,) = load(tmp_path / "one")
    assert values(run.records["score:exact_match"]) == [1.0, 0.0]
    assert values(run.records["level"]) == [1, 2]
    datasets.DatasetDict({"test": one, "dev": one.select([1])}).save_to_disk(tmp_path / "two")
    assert message(tmp_path / "two") == (
        f"{tmp_path / 'two'}: several splits; name one as {tmp_path / 'two'}#SPLIT: test, dev"
    )
    (dev,) = load(f"{tmp_path / 'two'}#dev")
    assert values(dev.records["doc_id"]) == ["b"]
    renamed = one.rename_columns({"id": "key", "prediction": "said"})
    renamed.save_to_disk(tmp_path / "three", num_shards=2)
    (other,) = load(tmp_path / "three", layout={"id_field": "key", "prediction_field": "said"})
    assert values(other.records["prediction"]) == ["1", "3"]
    arrow = next((tmp_path / "three").glob("*00001-of*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:-8])
    assert (
        message(tmp_path / "three", layout={"id_field": "key", "prediction_field": "said"})
        == f"{arrow}: the Arrow file is cut off; copy it again"
    )


def test_fields_and_patterns_of_the_user_come_first() -> None:
    (run,) = load(inspect_log("old", "sums"), layout={"extract": r"(\d+)"})
    assert [m.name for m in run.metrics] == ["exact_match"]
    assert values(run.records["prediction"]) == ["2", "4", None, "9", None]
    (run,) = load(inspect_log("old", "sums"), layout={"prediction_field": "output.completion"})
    assert values(run.records["prediction"])[:2] == ["ANSWER: 2", "I think ANSWER: 4"]


def test_what_the_user_says_of_the_tool(tmp_path: Path) -> None:
    file = write(tmp_path / "out.json", [row | {"id": row["instruction"], "target": "x"} for row in ALPACA])
    assert tool_of(file, Layout()) == "alpaca_eval"
    assert tool_of(file, Layout(id_field="instruction")) is None
    (rows,) = load(f"rows:{file}", layout={"prediction_field": "output"})
    assert values(rows.records["doc_id"]) == [row["instruction"] for row in ALPACA]
    assert message(f"alpaca_eval:{tmp_path / 'none.json'}").endswith("none.json")
    assert "nothing after the '#'" in message(f"{file}#")
    assert "`instruction`" in message(f"alpaca_eval:{write(tmp_path / 'other.json', [{'id': 1}])}")


def test_no_heavy_library_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom compatcheck.cli.app import run\n"
        f"code = run(['diff', {str(DATA / 'inspect' / 'old')!r}, {str(DATA / 'inspect' / 'new')!r}, '-q'])\n"
        "assert code == 0, code\n"
        "print(sorted({'torch', 'transformers', 'lm_eval', 'datasets', 'inspect_ai'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_whose_outputs_a_file_holds(tmp_path: Path) -> None:
    def tool(value: Any, name: str = "out.json") -> str | None:
        return tool_of(write(tmp_path / name, value), Layout())

    assert tool([row | {"id": 1, "prediction": "x"} for row in ALPACA]) is None
    assert tool({"results": {"t": {}}, "configs": {}, "config": {}, "versions": {}}) is None  # lm-eval's summary
    assert tool({"results": {"results": []}, "config": {}, "shareableUrl": None}) == "promptfoo"
    assert (
        tool({"evalId": "e", "results": {"results": ["x" * 2_000_000]}}) == "promptfoo"
    )  # longer than what is looked at
    assert tool({"version": 2, "status": "success", "eval": {}, "samples": []}) == "inspect"
    assert tool({"adapter_spec": {}, "request_states": []}) == "helm"
    assert tool([HELM_STATS[0]]) == "helm"
    assert tool([{"id": 1}]) is None
    assert tool_of(tmp_path / "none.json", Layout()) is None
    assert tool_of(tmp_path, Layout()) is None
