"""Samples files of lm-eval: which are read, and what their rows become."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compatcheck.errors import InputError
from compatcheck.readers import Layout, load_recorded
from compatcheck.records import TaskRun
from tests.factories import write_rows

STAMP = "2025-01-02T03-04-05.000001"


def choice_row(doc_id: int, values: list[float], target: str, **more: Any) -> dict[str, Any]:
    choices = more.pop("choices", ["a long first choice", "short", "the third"])
    delimiter = more.pop("delimiter", " ")
    arguments = {f"gen_args_{i}": {"arg_0": "Q: what now?\nA:", "arg_1": delimiter + c} for i, c in enumerate(choices)}
    return {
        "doc_id": doc_id,
        "doc": {"query": "what now?", "level": doc_id % 2},
        "target": target,
        "arguments": arguments,
        "resps": [[[str(v), "False"]] for v in values],
        "filtered_resps": [[str(v), "False"] for v in values],
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "doc_hash": "d" * 64,
        "target_hash": "e" * 64,
        "acc": 0.0,
        "acc_norm": 1.0,
    } | more


def text_row(doc_id: int, response: str, filtered: str, name: str = "none") -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "doc": {"question": "how many ducks?", "answer": "#### 3"},
        "target": "#### 3",
        "arguments": {
            "gen_args_0": {"arg_0": "Q: how many cats?\nA: 2\n\nQ: how many ducks?\nA:", "arg_1": {"until": []}}
        },
        "resps": [[response]],
        "filtered_resps": [filtered],
        "filter": name,
        "metrics": ["exact_match"],
        "exact_match": float(filtered == "3"),
    }


def write(path: Path, *rows: dict[str, Any]) -> Path:
    return write_rows(path, rows)


def one(path: Path, *rows: dict[str, Any], **options: Any) -> TaskRun:
    (run,) = load_recorded(write(path, *rows), **options)
    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / f"samples_my_task_{STAMP}.jsonl"


def test_the_predicted_choice_is_recomputed(file: Path) -> None:
    # -8 / 19 letters is more than -5 / 5 letters: normalised by length, the long choice wins.
    run = one(file, choice_row(7, [-8.0, -5.0, -9.0], "0"))
    assert (run.task, run.filter) == ("my_task", "none")
    assert [(m.name, m.kind) for m in run.metrics] == [("acc", "discrete"), ("acc_norm", "discrete")]
    row = run.records.iloc[0]
    assert (row["doc_id"], row["input"], row["level"]) == ("7", "Q: what now?\nA:", 1)
    assert (row["prediction"], row["prediction:acc_norm"]) == ("short", "a long first choice")
    assert row["target"] == "a long first choice"
    assert list(row["loglikelihoods"]) == [-8.0, -5.0, -9.0]
    assert (row["doc_hash"], row["target_hash"]) == ("d" * 16, "e" * 16)
    assert (row["score:acc"], row["score:acc_norm"]) == (0.0, 1.0)


def test_choices_without_what_stands_before_them(file: Path, tmp_path: Path) -> None:
    # The document lists choices that begin with a space: not a delimiter.
    listed = [" x", " yy"]
    row = choice_row(1, [-1.0, -2.0], "1", choices=listed, delimiter="", doc={"choices": {"text": listed}})
    run = one(file, row)
    assert (run.records["prediction"][0], run.records["target"][0]) == (" x", " yy")
    # The results file names the delimiter.
    results = {
        "configs": {"my_task": {"target_delimiter": "\n"}},
        "n-shot": {"my_task": 3},
        "versions": {"my_task": 1.0},
    }
    results |= {"higher_is_better": {"my_task": {"acc": True, "acc_norm": False}}}
    (tmp_path / f"results_{STAMP}.json").write_text(json.dumps(results))
    run = one(file, choice_row(1, [-1.0, -2.0], "1", choices=["x", "yy"], delimiter="\n"))
    assert (run.records["prediction"][0], run.records["target"][0]) == ("x", "yy")
    assert run.settings == {"num_fewshot": 3, "version": 1.0}
    assert [m.higher_is_better for m in run.metrics] == [True, False]


def test_choices_that_differ_in_the_context(file: Path) -> None:
    row = choice_row(1, [-3.0, -2.0], "1", metrics=["acc"])
    contexts = ["Sarah beat Maria since Sarah", "Sarah beat Maria since Maria"]
    row["arguments"] = {f"gen_args_{i}": {"arg_0": c, "arg_1": " was better."} for i, c in enumerate(contexts)}
    run = one(file, row)
    assert (run.records["prediction"][0], run.records["target"][0]) == ("Maria", "Maria")


def test_mutual_information(file: Path) -> None:
    row = choice_row(
        1, [-3.0, -2.0, -9.0, -1.0], "0", choices=["x", "y"], acc_mutual_info=1.0, metrics=["acc_mutual_info"]
    )
    row["arguments"] |= {f"gen_args_{i + 2}": {"arg_0": "", "arg_1": f" {c}"} for i, c in enumerate("xy")}
    records = one(file, row).records
    assert (records["prediction"][0], records["prediction:acc_mutual_info"][0]) == ("y", "x")
    assert list(records["loglikelihoods"][0]) == [-3.0, -2.0]


def test_several_right_choices_and_older_logs(file: Path) -> None:
    row = choice_row(1, [-3.0, -2.0, -4.0], "[0, 2]")
    del row["metrics"]
    row["arguments"] = [["Q:", f" {c}"] for c in "xyz"]
    row["filtered_resps"] = [[-3.0, False], [-2.0, True], [-4.0, False]]
    run = one(file, row)
    assert [m.name for m in run.metrics] == ["acc", "acc_norm"]
    assert (run.records["prediction"][0], run.records["target"][0]) == ("y", "x | z")


def test_a_single_continuation(file: Path) -> None:
    row = choice_row(1, [-3.0], "word", choices=["word"], metrics=["acc", "perplexity"], perplexity=-3.0)
    run = one(file, row, choice_row(2, [-1.0], "word", choices=["word"], metrics=["acc", "perplexity"], perplexity=-1.0)
              | {"filtered_resps": [["-1.0", "True"]]})  # fmt: skip
    assert run.records["prediction"].tolist() == ["(another continuation)", "word"]
    assert [(m.name, m.kind, m.higher_is_better) for m in run.metrics] == [
        ("acc", "discrete", True), ("perplexity", "smooth", True),
    ]  # fmt: skip


def test_generated_texts_one_run_per_filter(file: Path) -> None:
    rows = [text_row(i, text, text[-1] if name == "flexible" else "[invalid]", name)
            for name in ("strict", "flexible") for i, text in enumerate(["it is 3", "it is 4"])]  # fmt: skip
    strict, flexible = load_recorded(write(file, *rows))
    assert (strict.filter, flexible.filter) == ("strict", "flexible")
    assert strict.records["prediction"].isna().all()
    assert strict.records["response"].tolist() == ["it is 3", "it is 4"]
    assert flexible.records["prediction"].tolist() == ["3", "4"]
    assert flexible.records["score:exact_match"].tolist() == [1.0, 0.0]
    assert flexible.records["input"][0] == "Q: how many ducks?\nA:"
    assert flexible.records["answer"].tolist() == ["#### 3", "#### 3"]
    (only,) = load_recorded(file, layout=Layout(filter="flexible"))
    assert only.filter == "flexible"


def test_a_right_choice_that_is_named_by_its_text(file: Path) -> None:
    """lm-eval writes an index and a text alike; the document tells, whatever was predicted."""
    docs: list[dict[str, Any]] = [{"label": "1"}, {"label": 1}, {"label": 1, "level": "1"}, {}]
    more = {"choices": ["1", "2", "3"], "metrics": ["acc"]}
    rows = [choice_row(n, [-1.0, -2.0, -3.0], "1", doc=doc, **more) for n, doc in enumerate(docs)]
    assert one(file, *rows).records["target"].tolist() == ["1", "2", "2", "2"]


@pytest.mark.parametrize("packed", [gzip, lzma, bz2])
def test_packed_samples_in_a_folder(packed: Any, tmp_path: Path) -> None:
    ending = {"gzip": "gz", "lzma": "xz", "bz2": "bz2"}[packed.__name__]
    write(tmp_path / f"samples_plain_{STAMP}.jsonl", text_row(0, "3", "3"))
    (tmp_path / f"samples_other_{STAMP}.jsonl.{ending}").write_bytes(
        packed.compress(json.dumps(text_row(0, "3", "3")).encode())
    )
    assert [run.task for run in load_recorded(tmp_path)] == ["other", "plain"]


def test_several_right_texts_are_accepted(file: Path) -> None:
    """lm-eval writes a list of targets as Python shows it."""
    several = {"target": "['two dogs', \"the dog's pups\"]"}
    rows = [text_row(n, said, said) | several for n, said in enumerate(("the dog's pups", "two dogs", "a cat"))]
    for name, scores in (("exact_match", [1, 1, 0]), ("rouge1", [1, 1, 0]), ("contains", [1, 1, 0])):
        run = one(file, *[{k: v for k, v in row.items() if k != "exact_match"} for row in rows], metrics=[name])
        assert run.records["target"][0] == json.dumps(["two dogs", "the dog's pups"])
        assert run.records[f"score:{name}"].tolist() == scores
    itself = text_row(1, "x", "x") | several | {"doc": {"answer": several["target"]}}
    assert one(file, itself).records["target"][0] == several["target"]


def test_extract_reads_documents_of_which_only_another_filter_is_there(file: Path) -> None:
    rows = [text_row(i, "it is 1", "1", "strict" if i < 2 else "flexible") for i in range(3)]
    run = one(file, *rows, layout=Layout(extract=r"is (\d)"))
    assert (run.filter, len(run.records)) == ("extract", 3)


def test_extract_reads_the_whole_response_once(file: Path) -> None:
    rows = [text_row(0, "it is 3", "x", name) for name in ("strict", "flexible")]
    run = one(file, *rows, layout=Layout(extract=r"(?:is|####) (\d)"))
    assert (run.filter, [m.name for m in run.metrics]) == ("extract", ["exact_match"])
    row = run.records.iloc[0]
    assert (row["prediction"], row["target"], row["response"]) == ("3", "3", "it is 3")
    assert row["score:exact_match"] == 1.0


def test_field_options_reach_into_the_row(file: Path) -> None:
    row = text_row(0, "it is 3", "3") | {"doc": {"key": "k7", "gold": "it is 3"}}
    layout = Layout(id_field="doc.key", target_field="doc.gold", prediction_field="resps.0.0")
    run = one(file, row, layout=layout)
    assert run.records["doc_id"].tolist() == ["k7"]
    assert run.records["score:exact_match"].tolist() == [1.0]
    with pytest.raises(InputError, match=r":1: no field `doc.nope` \(fields: doc_id, doc.key, doc.gold, "):
        load_recorded(file, layout=Layout(id_field="doc.nope"))


def test_the_newest_file_of_every_task(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "model"
    old, new = "2025-01-01T00-00-00.5", "2025-02-01T00-00-00.5"
    write(folder / f"samples_t_a_{old}.jsonl", text_row(0, "old", "old"))
    write(folder / f"samples_t_a_{new}.jsonl", text_row(0, "new", "new"))
    write(folder / f"samples_t_{old}.jsonl", text_row(0, "other", "other"))
    runs = load_recorded(tmp_path / "out")
    assert [(run.task, run.records["prediction"][0]) for run in runs] == [("t", "other"), ("t_a", "new")]
    assert [run.task for run in load_recorded(tmp_path / "out", tasks=["t_a"])] == ["t_a"]
    with pytest.raises(InputError, match=r"out: no samples of task t_b \(did you mean 't_a'\?\); tasks there: t, t_a$"):
        load_recorded(tmp_path / "out", tasks=["t_b"])
    write(tmp_path / "out" / "model2" / f"samples_t_{old}.jsonl", text_row(0, "x", "x"))
    with pytest.raises(InputError, match=r"outputs of several models or runs \(model, model2\); name one"):
        load_recorded(tmp_path / "out")


def test_a_renamed_file_is_known_by_its_rows(tmp_path: Path) -> None:
    run = one(tmp_path / "mine.jsonl", text_row(0, "it is 3", "3"), tasks=["gsm8k"])
    assert run.task == "gsm8k"
    assert run.records["score:exact_match"].tolist() == [1.0]


def test_rows_that_cannot_be_used(file: Path) -> None:
    with pytest.raises(InputError, match=r":1: `filtered_resps` has a log-likelihood that is NaN$"):
        one(file, choice_row(1, [float("nan"), 0.0, 0.0], "0"))
    with pytest.raises(InputError, match=r":1: 2 log-likelihoods in `filtered_resps`, but 3 choices in `arguments`$"):
        one(file, choice_row(1, [-1.0, -2.0], "0"))
    row = text_row(0, "x", "x") | {"metrics": ["f1"], "f1": [0, 1]}
    with pytest.raises(InputError, match=r"none of its metrics \(f1\) has a score per document"):
        one(file, row)
    with pytest.raises(InputError, match=r":2: the id '0' again, with another `prediction` than in line 1"):
        one(file, text_row(0, "x", "x"), text_row(0, "x", "y"))
    row = text_row(1, "x", "x")
    del row["resps"]
    with pytest.raises(InputError, match=r":2: no field `resps` \(fields: doc_id, "):
        one(file, text_row(0, "x", "x"), row)


CHOICE_TASK = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: gold
doc_to_choice: "{{{{options}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
metadata: {{version: 2.0}}
"""
TEXT_TASK = """
task: tiny_text
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: generate_until
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: word
generation_kwargs: {{until: ["\\n"]}}
filter_list:
  - {{name: first, filter: [{{function: regex, regex_pattern: "^(l.l)$"}}, {{function: take_first}}]}}
  - {{name: digits, filter: [{{function: regex, regex_pattern: "([0-9]+)"}}, {{function: take_first}}]}}
metric_list: [{{metric: exact_match}}]
metadata: {{version: 1.0}}
"""


@pytest.mark.slow
def test_what_lm_eval_itself_writes(tmp_path: Path) -> None:
    """The predicted choices agree with lm-eval's scores; its dummy model gives random log-likelihoods and "lol"."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    docs = [{"question": f"number {i}?", "options": ["one", "twenty two", "3" * (i + 1)], "gold": i % 3, "word": "lol"
             if i % 2 else "no"} for i in range(30)]  # fmt: skip
    data = write(tmp_path / "docs.jsonl", *docs)
    for name, text in (("choice", CHOICE_TASK), ("text", TEXT_TASK)):
        (tmp_path / f"{name}.yaml").write_text(text.format(data=data))
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    results = simple_evaluate(
        model="dummy", tasks=["tiny_choice", "tiny_text"], task_manager=manager, log_samples=True, bootstrap_iters=0
    )
    assert results is not None
    samples = results.pop("samples")
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    tracker.general_config_tracker.model_name_sanitized = "dummy"
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task_name=task, samples=rows)

    runs = load_recorded(tmp_path / "out")
    choice, first, digits = runs
    assert [(run.task, run.filter) for run in runs] == [
        ("tiny_choice", "none"), ("tiny_text", "first"), ("tiny_text", "digits"),
    ]  # fmt: skip
    assert choice.settings.items() >= {"num_fewshot": 0, "version": 2.0, "engine": "dummy"}.items()
    assert len(choice.settings["prompt"]) == 8
    records = choice.records
    right = [doc["options"][doc["gold"]] for doc in docs]
    assert records["target"].tolist() == right
    assert ((records["prediction"] == right) == (records["score:acc"] == 1)).all()
    assert ((records["prediction:acc_norm"] == right) == (records["score:acc_norm"] == 1)).all()
    assert (records["prediction"] != records["prediction:acc_norm"]).any()
    assert np.mean(records["score:acc"]) == results["results"]["tiny_choice"]["acc,none"]
    assert records["input"][4] == "Q: number 4?\nA:"
    assert first.records["prediction"].tolist() == ["lol"] * 30
    assert first.records["score:exact_match"].tolist() == [float(i % 2) for i in range(30)]
    assert digits.records["prediction"].isna().all()
    assert digits.records["response"].tolist() == ["lol"] * 30
