from __future__ import annotations

from pathlib import Path

import pytest

from compatcheck.errors import InputError
from compatcheck.tasks import TaskOptions, load_tasks
from compatcheck.tasks.description import label_fault
from tests import tiny
from tests.factories import write_rows

PIQA = [{"goal": f"goal {i}", "sol1": "do this", "sol2": "do that", "label": i % 2} for i in range(10)]


def load(name: str, **options) -> object:
    return load_tasks([name], TaskOptions(**options))[0]


def test_local_folder_in_place_of_hub_data(tmp_path: Path) -> None:
    write_rows(tmp_path / "piqa" / "validation.jsonl.gz", PIQA)
    task = load("piqa", data=tmp_path)
    assert task.size == 10
    assert task.task.doc_to_text(task.task.eval_docs[3]) == "Question: goal 3\nAnswer:"
    assert task.settings["split"] == "validation"
    assert task.settings["num_fewshot"] == 0
    assert "limit" not in task.settings


def test_local_file_and_flat_folder(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "mine.jsonl", PIQA[:4])
    assert load("piqa", data=file).size == 4
    write_rows(tmp_path / "flat" / "validation.jsonl", PIQA[:3])
    assert load("piqa", data=tmp_path / "flat").size == 3


def test_documents_of_examples_are_held_only_where_some_are_drawn(tmp_path: Path) -> None:
    write_rows(tmp_path / "piqa" / "train.jsonl", PIQA)
    write_rows(tmp_path / "piqa" / "validation.jsonl", PIQA[:2])
    bare, shown = (load("piqa", data=tmp_path, num_fewshot=count).task for count in (0, 2))
    assert (bare.sampler.df, len(shown.sampler.df)) == ([], len(PIQA))
    doc = bare.eval_docs[0]
    assert bare.fewshot_context(doc, 0) == bare.doc_to_text(doc)
    assert shown.fewshot_context(doc, 2).count("Question:") == 3


def test_split_limit_and_sample(tmp_path: Path) -> None:
    write_rows(tmp_path / "piqa" / "train.jsonl", PIQA)
    write_rows(tmp_path / "piqa" / "validation.jsonl", PIQA[:2])
    first = load("piqa", data=tmp_path, split="train", limit=4)
    assert first.indices == [0, 1, 2, 3]
    assert first.settings["limit"] == "first:4"
    assert first.settings["split"] == "train"
    drawn = load("piqa", data=tmp_path, split="train", sample=4, seed=7)
    again = load("piqa", data=tmp_path, split="train", sample=4, seed=7)
    other = load("piqa", data=tmp_path, split="train", sample=4, seed=8)
    assert drawn.indices == again.indices == sorted(drawn.indices)
    assert drawn.indices != other.indices
    assert drawn.settings["limit"] == "random:4"
    assert load("piqa", data=tmp_path, split="train", limit=100).indices is None


def test_few_shot_examples_come_from_the_local_train_split(tmp_path: Path) -> None:
    shots = [{"question": f"q{i}", "answer": f"#### {i}"} for i in range(8)]
    write_rows(tmp_path / "gsm8k" / "test.jsonl", [{"question": "x", "answer": "#### 1"}] * 2)
    with pytest.raises(InputError, match="the 5 few-shot examples of gsm8k come from split 'train'"):
        load("gsm8k", data=tmp_path)
    assert load("gsm8k", data=tmp_path, num_fewshot=0).settings["num_fewshot"] == 0
    write_rows(tmp_path / "gsm8k" / "train.jsonl", shots)
    task = load("gsm8k", data=tmp_path)
    task.task.build_all_requests()
    assert task.task.instances[0].args[0].count("Question:") == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "--limit 0: must be at least 1"),
        ({"sample": 0}, "--sample 0: must be at least 1"),
        ({"limit": 1, "sample": 1}, "exclude each other"),
        ({"split": "nope"}, r"no piqa/nope\.jsonl\[\.gz\] \(found: validation\.jsonl\)"),
        ({"num_fewshot": -1}, "--num-fewshot -1: must be 0 or more"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict, message: str) -> None:
    write_rows(tmp_path / "piqa" / "validation.jsonl", PIQA)
    with pytest.raises(InputError, match=message):
        load("piqa", data=tmp_path, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"validation\.jsonl: no rows"),
        (b'{"goal": "a"}\n{"goal": \n', r"validation\.jsonl:2: not JSON"),
        (b'{"goal": "a"}\n[1]\n', r"validation\.jsonl:2: expected a JSON object, found list"),
        (b'{"goal": "a"}\n{"goal": "\xff"}\n', r"validation\.jsonl:2: not UTF-8"),
        (b'{"goal": "a"}\n{"goal": 3}\n', r"validation\.jsonl:2: field 'goal' is number here and str in line 1"),
        (b'{"text": "a"}\n', "needs a field that the rows lack"),
    ],
)
def test_bad_local_data_names_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "piqa" / "validation.jsonl"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load("piqa", data=tmp_path)


def test_a_target_that_is_none_of_the_choices(tmp_path: Path) -> None:
    write_rows(tmp_path / "piqa" / "validation.jsonl", [{**PIQA[0], "label": 7}])
    with pytest.raises(InputError, match="task piqa: its settings and the first row do not go together"):
        load("piqa", data=tmp_path)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_split_without_labels_is_refused(tmp_path: Path, label: int) -> None:
    write_rows(tmp_path / "piqa" / "validation.jsonl", [{**row, "label": label} for row in PIQA])
    with pytest.raises(InputError, match="task piqa"):
        load("piqa", data=tmp_path)


@pytest.mark.parametrize("label", [-1, 5, "7", "", None, [], {"a": 1}, [None], float("nan")])
def test_a_label_that_is_none_of_the_choices(tmp_path: Path, label: object) -> None:
    write_rows(tmp_path / "piqa" / "validation.jsonl", PIQA)
    task = load("piqa", data=tmp_path).task
    task.config.doc_to_target = lambda doc: doc["label"]
    assert label_fault(task, PIQA[1]) is None
    assert label_fault(task, {**PIQA[1], "label": "do this"}) is None
    assert label_fault(task, {**PIQA[1], "label": [9, 1]}) is None
    assert "is none of its 2 choices" in str(label_fault(task, {**PIQA[1], "label": label}))


@pytest.mark.parametrize("task", ["tinychoice", "tinygen"])
@pytest.mark.parametrize("key", ["doc_to_text", "doc_to_target", "doc_to_choice"])
def test_a_task_that_does_not_say_what_is_asked_or_right(key: str, task: str, tmp_path: Path) -> None:
    tiny.tasks(tmp_path, 4)
    file = tmp_path / f"{task}.yaml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(key)))
    if (task, key) == ("tinygen", "doc_to_choice"):
        load(str(file), data=tmp_path / "data")
    else:
        with pytest.raises(InputError, match=rf"{task}\.yaml: the key '{key}' is missing"):
            load(str(file), data=tmp_path / "data")


def test_choices_that_are_no_list(tmp_path: Path) -> None:
    tiny.tasks(tmp_path, 4)
    file = tmp_path / "tinychoice.yaml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join("doc_to_choice: one two\n" if "doc_to_choice" in line else line for line in lines))
    with pytest.raises(InputError, match=r"tinychoice\.yaml: doc_to_choice gives no list for the first row"):
        load(str(file), data=tmp_path / "data")


def test_rows_of_other_columns_are_named(tmp_path: Path) -> None:
    """Not the task's YAML alone, which is as it should be."""
    path = write_rows(tmp_path / "own.jsonl", [{"goal": "a", "answer": "b"}])
    with pytest.raises(InputError, match=rf"piqa\.yaml: .* \(first row of .*{path.name}\)"):
        load("piqa", data=path)


def test_truncated_gzip(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "piqa" / "validation.jsonl.gz", PIQA * 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged or cut off"):
        load("piqa", data=tmp_path)


def test_missing_data_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        load("piqa", data=tmp_path / "gone")
    file = write_rows(tmp_path / "one.jsonl", PIQA)
    with pytest.raises(InputError, match="one file serves one task"):
        load_tasks(["piqa", "gsm8k"], TaskOptions(data=file))


def test_hub_data_that_cannot_be_had_points_to_local_data() -> None:
    with pytest.raises(InputError, match=r"cannot be loaded .* give local files with --data"):
        load("piqa")
