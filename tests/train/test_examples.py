"""Examples from the task itself, held apart from its test split."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from compatcheck.errors import InputError
from compatcheck_train.examples import Examples, content_key, load_examples
from tests.factories import write_rows


def rows_of(fixtures: Path, task: str, split: str) -> list[dict[str, Any]]:
    with gzip.open(fixtures / "data" / task / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture
def piqa(fixtures: Path, tmp_path: Path) -> Path:
    """A data folder with twenty training and ten validation rows of piqa."""
    write_rows(tmp_path / "piqa" / "train.jsonl", rows_of(fixtures, "piqa", "train")[:20])
    write_rows(tmp_path / "piqa" / "validation.jsonl", rows_of(fixtures, "piqa", "validation")[:10])
    return tmp_path


def test_choices_as_lm_eval_makes_them(piqa: Path, fixtures: Path) -> None:
    found = load_examples("piqa", data=piqa)
    assert (found.kind, found.split, len(found.train), len(found.validation)) == ("choice", "train", 16, 4)
    rows = rows_of(fixtures, "piqa", "train")
    for example in (*found.train, *found.validation):
        row = rows[int(example.doc_id)]
        context = f"Question: {row['goal']}\nAnswer:"
        assert example.pairs == ((context, f" {row['sol1']}"), (context, f" {row['sol2']}"))
        assert example.gold == row["label"]


def test_targets_of_generated_answers(fixtures: Path, tmp_path: Path) -> None:
    rows = rows_of(fixtures, "gsm8k", "train")[:6]
    write_rows(tmp_path / "gsm8k" / "train.jsonl", rows)
    write_rows(tmp_path / "gsm8k" / "test.jsonl", rows_of(fixtures, "gsm8k", "test")[:3])
    found = load_examples("gsm8k", data=tmp_path)
    assert (found.kind, len(found.train), len(found.validation)) == ("text", 5, 1)
    for example in found.train:
        row = rows[int(example.doc_id)]
        assert example.pairs == ((f"Question: {row['question']}\nAnswer:", f" {row['answer']}"),)
        assert example.gold == 0
    shots = load_examples("gsm8k", data=tmp_path, num_fewshot=1)
    assert all(example.pairs[0][0].count("Question:") == 2 for example in shots.train)
    assert {e.key for e in shots.train} == {e.key for e in found.train}, "the key is that of the document alone"


def test_the_parting_depends_on_the_seed_alone(piqa: Path) -> None:
    def parts(found: Examples) -> tuple[list[str], list[str]]:
        return [e.doc_id for e in found.train], [e.doc_id for e in found.validation]

    first = load_examples("piqa", data=piqa, seed=1)
    assert parts(first) == parts(load_examples("piqa", data=piqa, seed=1))
    assert parts(first) != parts(load_examples("piqa", data=piqa, seed=2))
    assert first.fingerprint == load_examples("piqa", data=piqa, seed=1).fingerprint
    assert len(load_examples("piqa", data=piqa, limit=10).train) == 8


def test_a_training_row_of_the_test_split_is_an_error(piqa: Path, fixtures: Path) -> None:
    rows = rows_of(fixtures, "piqa", "train")[:20]
    stolen = dict(rows_of(fixtures, "piqa", "validation")[3])
    stolen["sol1"], stolen["sol2"], stolen["label"] = stolen["sol2"], stolen["sol1"], 1 - stolen["label"]
    write_rows(piqa / "piqa" / "train.jsonl", [*rows, stolen])
    with pytest.raises(
        InputError, match=r"holds some documents too, 1 in all \(document 20 is test document 3\).*--drop-overlap"
    ):
        load_examples("piqa", data=piqa)
    found = load_examples("piqa", data=piqa, overlap="drop")
    assert "20" not in {e.doc_id for e in (*found.train, *found.validation)}
    assert any("documents left out that the test split holds too: 1." in note for note in found.notes)


def test_repeated_rows_are_left_out_and_counted(piqa: Path, fixtures: Path) -> None:
    rows = rows_of(fixtures, "piqa", "train")[:20]
    write_rows(piqa / "piqa" / "train.jsonl", [*rows, rows[0], rows[1]])
    found = load_examples("piqa", data=piqa)
    assert len(found.train) + len(found.validation) == 20
    assert found.notes == ("Training documents left out that repeat others exactly: 2.",)


def test_unlabelled_inputs_in_both_forms(piqa: Path, fixtures: Path, tmp_path: Path) -> None:
    row = {k: v for k, v in rows_of(fixtures, "piqa", "train")[30].items() if k != "label"}
    path = write_rows(tmp_path / "more.jsonl", [{"input": "Fix a chair", "choices": ["Glue it.", "Burn it."]}, row])
    found = load_examples("piqa", data=piqa, unlabelled=path)
    first, second = found.unlabelled
    assert first.pairs == (("Fix a chair", " Glue it."), ("Fix a chair", " Burn it."))
    assert second.pairs[0] == (f"Question: {row['goal']}\nAnswer:", f" {row['sol1']}")
    assert (first.gold, second.gold) == (None, None)
    write_rows(path, [{"input": "Fix a chair"}])
    with pytest.raises(InputError, match=r"more.jsonl:1: a choice task needs a list 'choices'"):
        load_examples("piqa", data=piqa, unlabelled=path)
    write_rows(path, [{"question": "?"}])
    with pytest.raises(InputError, match=r"more.jsonl:1: neither a row with 'input' nor one that task piqa can read"):
        load_examples("piqa", data=piqa, unlabelled=path)
    write_rows(path, [rows_of(fixtures, "piqa", "validation")[0]])
    with pytest.raises(InputError, match="the test split holds some documents too"):
        load_examples("piqa", data=piqa, unlabelled=path)


def test_what_cannot_be_trained_on_is_refused(piqa: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="split 'validation' is the one that is evaluated"):
        load_examples("piqa", data=piqa, split="validation")
    with pytest.raises(InputError, match=r"no piqa/other.jsonl\[.gz\] to train on"):
        load_examples("piqa", data=piqa, split="other")
    with pytest.raises(InputError, match="cannot be parted"):
        load_examples("piqa", data=piqa, limit=1)
    plain = tmp_path / "plain.yaml"
    plain.write_text("task: plain\noutput_type: generate_until\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n")
    with pytest.raises(InputError, match="has no training split"):
        load_examples(str(plain), data=piqa)


def test_the_key_is_blind_to_the_order_of_choices() -> None:
    assert content_key([("q", " a"), ("q", " b")]) == content_key([("q", "b"), ("q", "a ")])
    assert content_key([("q", " a")]) == content_key([("q ", " other target")])
    assert content_key([("Question: é \nAnswer:", " a")]) == content_key([("Question:   e\u0301\r\nAnswer:", " b")])
    assert content_key([("q", " a"), ("q", " b")]) != content_key([("q", " a"), ("q", " c")])


def test_further_inputs_that_bring_nothing(fixtures: Path, tmp_path: Path) -> None:
    """Those that repeat each other or a labelled document are left out and counted; a file without any is an error."""
    own, empty = tmp_path / "own.jsonl", tmp_path / "empty.jsonl"
    new, other = ({"goal": f"Paint a door {n}", "sol1": "Use a brush.", "sol2": "Use a fork."} for n in (1, 2))
    whole = load_examples("piqa", data=fixtures / "data")
    known = rows_of(fixtures, "piqa", "train")[int(whole.validation[0].doc_id)]
    write_rows(own, [new, {**new, "sol1": new["sol2"], "sol2": new["sol1"]}, known, other])
    found = load_examples("piqa", data=fixtures / "data", unlabelled=own)
    assert [example.doc_id for example in found.unlabelled] == ["unlabelled:1", "unlabelled:4"]
    assert f"{own}: inputs left out that repeat others or labelled documents: 2." in found.notes
    empty.write_text("\n")
    with pytest.raises(InputError, match=rf"--unlabelled {empty}: no rows in it"):
        load_examples("piqa", data=fixtures / "data", unlabelled=empty)
