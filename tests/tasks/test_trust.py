"""A task's YAML is data of others: its templates reach nothing, and its code runs where the user says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compatcheck.cli.app import run
from compatcheck.errors import InputError
from compatcheck.tasks import TaskOptions, load_tasks
from tests.evaluation.store.conftest import CountingEngine, build_requests

ROWS = [{"question": f"q{n}", "answer": "yes"} for n in range(3)]
PLAIN = """task: theirs
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: answer
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""


def task(folder: Path, text: str, code: str = "") -> str:
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "theirs.yaml").write_text(text)
    (folder / "theirs.py").write_text(f"from pathlib import Path\n{code}\nPath({str(folder / 'ran')!r}).touch()\n")
    return str(folder / "theirs.yaml")


@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ question.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.format.__globals__ }}",
        "{% set x = [] %}{% set y = x.append(1) %}{{ x }}",
    ],
)
def test_a_template_reaches_nothing_but_its_document(tmp_path: Path, template: str) -> None:
    name = task(tmp_path, PLAIN.replace("{{question}}", template))
    with pytest.raises(InputError, match=r"a template of (the task|it) reaches too far"):
        (loaded,) = load_tasks([name], TaskOptions(data=tmp_path))
        build_requests(CountingEngine(), loaded)


CODE = [
    (PLAIN + "process_docs: !function theirs.docs\n", r"theirs\.yaml:8: !function theirs\.docs runs code"),
    (PLAIN + "class: !function theirs.Task\n", r"theirs\.yaml:8: class runs code"),
    (PLAIN.replace("exact_match", "!function theirs.score"), r"theirs\.yaml:7: !function theirs\.score runs code"),
    (PLAIN.replace("exact_match", "./theirs"), r"metric \./theirs, which is none of lm-eval's, runs code"),
    (PLAIN.replace("exact_match,", "exact_match, hf_evaluate: true,"), "metric exact_match, which is none"),
    ("include: part.yaml\n" + PLAIN, r"part\.yaml:1: !function theirs\.docs runs code"),
    ("include: [part.yaml]\n" + PLAIN, r"part\.yaml:1: !function theirs\.docs runs code"),
]


@pytest.mark.parametrize(("text", "message"), CODE)
def test_code_of_a_task_is_not_run_unasked(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "part.yaml").write_text("process_docs: !function theirs.docs\n")
    name = task(tmp_path, text, "docs = score = Task = None")
    with pytest.raises(InputError, match=f"{message}.*; read it, then say --trust-task"):
        load_tasks([name], TaskOptions(data=tmp_path))
    assert not (tmp_path / "ran").exists()


def test_code_that_is_trusted_runs(tmp_path: Path) -> None:
    text = PLAIN + "process_docs: !function theirs.docs\n"
    name = task(tmp_path, text, "def docs(dataset):\n    return dataset.select([0])\n")
    (loaded,) = load_tasks([name], TaskOptions(data=tmp_path, trust_task=True))
    assert loaded.size == 1
    assert (tmp_path / "ran").exists()


def test_a_task_that_only_includes_lm_evals_own_code_needs_no_trust(tmp_path: Path) -> None:
    from compatcheck.tasks.index import lm_eval_tasks_dir

    rows = [{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["d", "e"], "label": "1"}]
    (tmp_path / "validation.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (tmp_path / "mine.yaml").write_text(f"include: {lm_eval_tasks_dir()}/hellaswag/hellaswag.yaml\ntask: mine\n")
    (loaded,) = load_tasks([str(tmp_path / "mine.yaml")], TaskOptions(data=tmp_path))
    assert loaded.task.doc_to_text(loaded.task.eval_docs[0]).startswith("a: b C")


def test_recorded_outputs_are_scored_by_a_task_that_is_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "def score(references, predictions):\n    return float(references[0][0] == predictions[0][0])\n"
    text = PLAIN.replace("exact_match", "!function theirs.score")
    name = task(tmp_path, text, code)
    for side, answers in (("old", ["yes", "yo", "no"]), ("new", ["yes", "no", "no"])):
        rows = [{"id": n, "target": "yes", "prediction": text} for n, text in enumerate(answers)]
        (tmp_path / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["diff", str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl"), "--task", name]
    assert run(command) == 2
    assert "theirs.yaml:7: !function theirs.score runs code that comes with the task" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert run([*command, "--trust-task", "--out", str(tmp_path / "out"), "-q"]) == 0
    (one,) = json.loads((tmp_path / "out" / "report.json").read_text())["comparisons"]
    assert (one["metric"], one["n"]) == ("score", 3)
