from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import compatcheck
from compatcheck.errors import InputError
from compatcheck.readers import Layout, is_recorded, load_recorded, score_records
from compatcheck.readers.large import load_large
from compatcheck.records import TaskRun
from compatcheck.scratch import Scratch
from compatcheck.table.reading import shortest
from tests.factories import write_rows


def load(folder: Path, rows: list[dict[str, Any]], **options: Any) -> list[TaskRun]:
    path = write_rows(folder / "rows.jsonl", rows)
    return load_recorded(path, **options)


def values(column: pd.Series) -> list[Any]:
    return [None if pd.isna(value) else value for value in column]


def test_plain_rows(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "target": 18, "prediction": 18.0, "input": "2 · 9?", "level": 3},
        {"id": 2, "target": 7.5, "prediction": "7.5"},
        {"id": 3, "target": 1234, "prediction": "1,234", "level": 1},
        {"id": "x", "target": 4, "prediction": None, "level": 1},
    ]
    (run,) = load(tmp_path, rows)
    assert (run.task, run.filter, run.duplicates, dict(run.settings)) == ("recorded", "none", 0, {})
    assert [(m.name, m.kind) for m in run.metrics] == [("exact_match", "discrete")]
    records = run.records
    assert list(records) == ["doc_id", "input", "target", "prediction", "doc_hash", "level", "score:exact_match"]
    assert values(records["doc_id"]) == ["1", "2", "3", "x"]
    assert values(records["target"]) == ["18", "7.5", "1234", "4"]
    assert values(records["prediction"]) == ["18", "7.5", "1,234", None]
    assert values(records["level"]) == [3, None, 1, 1]
    assert records["score:exact_match"].tolist() == [1.0, 1.0, 1.0, 0.0]
    assert records["doc_hash"].notna().tolist() == [True, False, False, False]


def test_recorded_scores_come_first(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "target": "x", "prediction": "y", "score": True},
        {"id": "b", "target": "x", "prediction": None, "score": None},
        {"id": "c", "target": "x", "prediction": "x", "score": 0},
    ]
    (run,) = load(tmp_path, rows)
    assert [(m.name, m.kind, m.signature) for m in run.metrics] == [("score", "discrete", "score|as recorded")]
    assert run.records["score:score"].tolist() == [1.0, 0.0, 0.0]
    (smooth,) = load(tmp_path, [rows[0], rows[2] | {"score": 0.5}])
    assert smooth.metrics[0].kind == "smooth"
    (both,) = load(tmp_path, rows, metrics=["exact_match", "score"])
    assert [m.name for m in both.metrics] == ["exact_match", "score"]
    assert both.records["score:exact_match"].tolist() == [0.0, 0.0, 1.0]


def test_scores_without_predictions(tmp_path: Path) -> None:
    (run,) = load(tmp_path, [{"id": "a", "score": 1}, {"id": "b", "score": 0.25}])
    assert list(run.records) == ["doc_id", "score:score"]
    assert run.records["score:score"].tolist() == [1.0, 0.25]


def test_named_scores_and_their_predictions(tmp_path: Path) -> None:
    row = {"id": "a", "target": "x", "prediction": "x", "score:acc": 1, "score:acc_norm": 0, "prediction:acc_norm": "y"}
    (run,) = load(tmp_path, [row | {"loglikelihoods": [-1, -2.5]}])
    assert [m.name for m in run.metrics] == ["acc", "acc_norm"]
    assert run.records["prediction:acc_norm"].tolist() == ["y"]
    assert list(run.records["loglikelihoods"][0]) == [-1.0, -2.5]


def test_rows_with_an_error_are_the_fifth_bucket(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "target": "x", "prediction": "x", "error": None},
        {"id": "b", "target": "x", "error": {"code": 429}},
        {"id": "c", "target": "x", "prediction": "y", "error": ""},
        {"id": "d", "prediction": "y", "error": "timeout"},
    ]
    (run,) = load(tmp_path, rows)
    assert values(run.records["error"]) == [None, '{"code": 429}', None, "timeout"]
    scores = run.records["score:exact_match"].tolist()
    assert scores[0] == 1.0 and math.isnan(scores[1]) and scores[2] == 0.0 and math.isnan(scores[3])


def test_a_file_without_types_spells_what_is_no_error(tmp_path: Path) -> None:
    spelled = ["False", "0", "None", "nan", "", "true", "timeout", "no"]
    text = "id,target,prediction,error\n" + "".join(f"{n},x,x,{word}\n" for n, word in enumerate(spelled))
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    (run,) = load_recorded(tmp_path / "rows.csv")
    assert values(run.records["error"]) == [None] * 5 + ["true", "timeout", "no"]


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])
@pytest.mark.parametrize(
    ("head", "row", "changed"),
    [
        ("id,prediction", "{n},{p}", 1),
        ("id,target,prediction", "{n},{n},{p}", 1),
        ("id,target,prediction", "{n},{n}.0,{p}", 1),
        ("id,target,prediction", "{n},word,{p}", 100),  # with targets that are words, answers are texts
    ],
)
def test_whole_numbers_that_pandas_made_floats_are_the_same_answers(
    head: str, row: str, changed: int, stream: bool, tmp_path: Path
) -> None:
    """A single missing answer makes ``7.0`` of every ``7``: all of them counted as changed."""
    for name, form in (("old", "{}"), ("new", "{}.0")):
        lines = [row.format(n=n, p="" if (name, n) == ("new", 7) else form.format(n)) for n in range(100)]
        (tmp_path / f"{name}.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    found = compatcheck.diff(tmp_path / "old.csv", tmp_path / "new.csv", reference="old", stream=stream).only
    assert found.metrics["changed"].count == changed
    if "target" in head and changed == 1:
        scored = compatcheck.diff(tmp_path / "old.csv", tmp_path / "new.csv", stream=stream).only
        assert (scored.quadrants["both_correct"], scored.metrics["agreement"].count) == (99, 99)
        assert scored.metrics["both_correct_changed"].count == 0


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])
@pytest.mark.parametrize("form", ["{}", "{}.0", "{}.50"])
@pytest.mark.parametrize("other", ["unknown", "7.50", "7"])
def test_one_answer_written_otherwise_changes_no_other_row_of_a_csv(
    form: str, other: str, stream: bool, tmp_path: Path
) -> None:
    """Whether a column is numbers is decided for each file: one side was read as floats, the other as texts."""
    for name in ("old", "new"):
        rows = [f"{n},{other if (name, n) == ('new', 3) else form.format(n)}" for n in range(100)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,prediction", *rows]) + "\n", encoding="utf-8")
    found = compatcheck.diff(tmp_path / "old.csv", tmp_path / "new.csv", reference="old", stream=stream).only
    assert found.metrics["changed"].count == 1


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])
@pytest.mark.parametrize("form", ["{}.0", "{}.00", "{}"])
def test_one_answer_in_words_changes_no_other_row_of_a_csv(form: str, stream: bool, tmp_path: Path) -> None:
    """Its side was read letter by letter, the other one by value: ``7.0`` was right in OLD and wrong in NEW."""
    for name in ("old", "new"):
        answers = [form.format(n if n % 4 else n + 1) for n in range(100)]
        rows = [f"{n},{n},{'unknown' if (name, n) == ('new', 7) else said}" for n, said in enumerate(answers)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,target,prediction", *rows]) + "\n", encoding="utf-8")
    found = compatcheck.diff(tmp_path / "old.csv", tmp_path / "new.csv", stream=stream).only
    assert found.quadrants == {"both_correct": 74, "positive_flip": 0, "negative_flip": 1, "both_wrong": 25}
    assert found.metrics["agreement"].count == 99


@pytest.mark.parametrize("kind", ["float16", "float32"])
@pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])
def test_narrow_floats_are_the_numbers_that_other_formats_hold(stream: bool, kind: str, tmp_path: Path) -> None:
    """Equal scores differed by 1e-8, so that all of them flipped, half of them negatively."""
    rows = pd.DataFrame({"id": range(90), "target": "x", "score": [n / 90 for n in range(90)], "part": 0.1})
    rows["score"] = rows["score"].round(3)
    rows.to_csv(tmp_path / "old.csv", index=False)
    rows.astype({"score": kind, "part": kind}).to_parquet(tmp_path / "new.parquet", index=False)
    slices = {"metric": ["score"], "slice_by": "part"}
    found = compatcheck.diff(tmp_path / "old.csv", tmp_path / "new.parquet", stream=stream, **slices).only
    assert found.quadrants == {"positive_flip": 0, "negative_flip": 0, "unchanged": 90}
    assert [(part.value, part.n) for part in found.slices] == [("0.1", 90)]


def test_a_narrow_float_that_is_null_stays_null() -> None:
    for kind in (pa.float16(), pa.float32()):
        column = pa.array([np.float16(0.5), None], pa.float16()).cast(kind)
        assert shortest(pa.record_batch({"score": column})).to_pydict() == {"score": [0.5, None]}


@pytest.mark.parametrize("score", ["1,234", "-12,345"])
def test_a_score_that_may_be_two_numbers_is_refused(score: str, tmp_path: Path) -> None:
    """It was read as 1.234, whatever the other rows hold."""
    (tmp_path / "rows.csv").write_text(f'id,score\na,0.5\nb,"{score}"\n', encoding="utf-8")
    one, other = score.replace(",", "."), score.replace(",", "")
    with pytest.raises(InputError, match=f"rows.csv:3: `score` is '{score}', which may be {one} or {other}"):
        load_recorded(tmp_path / "rows.csv")
    (tmp_path / "rows.csv").write_text("id;score\na;0,875\nb;1,5\n", encoding="utf-8")
    (run,) = load_recorded(tmp_path / "rows.csv")
    assert run.records["score:score"].tolist() == [0.875, 1.5]


def test_exact_repeats_are_dropped_and_counted(tmp_path: Path) -> None:
    row = {"id": "a", "target": "x", "prediction": "x", "note": None}
    (run,) = load(tmp_path, [row, row | {"id": "b"}, row, row])
    assert run.duplicates == 2
    assert values(run.records["doc_id"]) == ["a", "b"]


def test_split_by_task_and_filter(tmp_path: Path) -> None:
    row = {"target": "x", "prediction": "x"}
    rows = [
        row | {"id": 1, "task": "t2", "filter": "strict"},
        row | {"id": 1, "task": "t2", "filter": "flexible"},
        row | {"id": 1, "task": "t1"},
        row | {"id": 2, "filter": "strict"},
    ]
    found = [(run.task, run.filter, len(run.records)) for run in load(tmp_path, rows)]
    assert found == [("t2", "strict", 1), ("t2", "flexible", 1), ("t1", "none", 1), ("recorded", "strict", 1)]
    assert [(run.task, run.filter) for run in load(tmp_path, rows, tasks=["given"])] == [("given", "strict")]
    only = load(tmp_path, rows, layout=Layout(filter="strict"))
    assert [(run.task, run.filter) for run in only] == [("t2", "strict"), ("recorded", "strict")]
    assert [run.task for run in load(tmp_path, rows[:3], tasks=["t1"])] == ["t1"]


def test_limit_keeps_the_first_of_each(tmp_path: Path) -> None:
    row = {"target": "x", "prediction": "x"}
    rows = [row | {"id": i, "filter": name} for i in range(5) for name in ("f", "g")]
    runs = load(tmp_path, rows, limit=2)
    assert [values(run.records["doc_id"]) for run in runs] == [["0", "1"], ["0", "1"]]
    assert runs[0].settings == {"limit": 2}


def test_several_references(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "target": ["a", "b"], "prediction": "b"},
        {"id": 2, "target": ["a"], "prediction": "b"},
        {"id": 3, "target": [1000], "prediction": "1,000"},
    ]
    (run,) = load(tmp_path, rows, metrics=["exact_match", "rouge1"])
    assert run.records["score:exact_match"].tolist() == [1.0, 0.0, 1.0]
    assert run.records["score:rouge1"].tolist() == [1.0, 0.0, 0.0]
    assert values(run.records["target"]) == ['["a", "b"]', "a", "1000"]


def test_dotted_paths_lists_and_fields_whose_names_have_dots(tmp_path: Path) -> None:
    rows = [
        {"meta": {"key": "a"}, "gold.text": "x", "choices": [{"text": "x"}], "tag": {"kind": "k", "long": "w" * 81}},
        {"meta": {"key": "b"}, "gold.text": "x", "choices": None, "tag": {"kind": "l"}},
    ]
    layout = Layout(id_field="meta.key", target_field="gold.text", prediction_field="choices.0.text")
    (run,) = load(tmp_path, rows, layout=layout)
    assert list(run.records) == ["doc_id", "target", "prediction", "tag.kind", "score:exact_match"]
    assert values(run.records["prediction"]) == ["x", None]


def test_columns_of_the_row_that_a_record_needs_itself(tmp_path: Path) -> None:
    rows = [{"id": "a", "doc_id": 7, "target": "x", "prediction": "x", "doc_hash": "h", "target_hash": "g"}]
    (run,) = load(tmp_path, rows)
    assert run.records["field:doc_id"].tolist() == [7]
    assert run.records["doc_hash"].tolist() == ["h"]
    (other,) = load(tmp_path, rows, layout=Layout(id_field="doc_id"))
    assert values(other.records["doc_id"]) == ["7"]
    assert "field:doc_id" not in other.records


def test_extract_takes_the_last_match_on_both_sides(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "target": "so A: 5", "prediction": "A: 4, no, A: 5"},
        {"id": 2, "target": "A: 1,000", "prediction": "A: 1000"},
        {"id": 3, "target": "A: 5", "prediction": "five"},
        {"id": 4, "target": "A: 5", "prediction": None},
    ]
    (run,) = load(tmp_path, rows, layout=Layout(extract=r"A: ([\d,]*\d)"))
    assert values(run.records["prediction"]) == ["5", "1000", None, None]
    assert values(run.records["response"]) == ["A: 4, no, A: 5", "A: 1000", "five", None]
    assert values(run.records["target"]) == ["5", "1,000", "5", "5"]
    assert run.records["score:exact_match"].tolist() == [1.0, 1.0, 0.0, 0.0]
    hashes = run.records["target_hash"]
    assert hashes[2] == hashes[3] != hashes[0]  # the whole target counts, not what was taken out of it


def test_extract_takes_the_first_group_that_took_part(tmp_path: Path) -> None:
    rows = [{"id": 1, "target": "4", "prediction": "a: 4"}, {"id": 2, "target": "5", "prediction": "b: 5"}]
    (run,) = load(tmp_path, rows, layout=Layout(extract=r"a: (\d)|b: (\d)"))
    assert values(run.records["prediction"]) == ["4", "5"]


def test_extract_leaves_targets_whole_that_are_answers(tmp_path: Path) -> None:
    rows = [{"id": 1, "target": "5", "prediction": "A: 5", "score": 0}]
    (run,) = load(tmp_path, rows, layout=Layout(extract=r"A: (\d+)"))
    assert run.records["target"].tolist() == ["5"]
    assert [m.name for m in run.metrics] == ["exact_match"]  # the recorded score was of another prediction
    assert run.records["score:exact_match"].tolist() == [1.0]
    (whole,) = load(tmp_path, rows, layout=Layout(extract=r"\d"))
    assert whole.records["prediction"].tolist() == ["5"]
    lists = [{"id": 1, "target": ["A: 5", "A: 6"], "prediction": "A: 6"}]
    (several,) = load(tmp_path, lists, layout=Layout(extract=r"A: (\d+)"))
    assert several.records["score:exact_match"].tolist() == [1.0]
    assert several.records["target"].tolist() == ["5 | 6"]


def test_targets_from_another_file(tmp_path: Path) -> None:
    targets = tmp_path / "third.csv"
    targets.write_text("question,output\nq1,yes\nq2,no\nq3,perhaps\n")
    rows = [{"question": "q2", "output": "no"}, {"question": "q1", "output": "no"}]
    layout = Layout(id_field="question", prediction_field="output", targets=targets)
    (run,) = load(tmp_path, rows, layout=layout)
    assert values(run.records["target"]) == ["no", "yes"]
    assert run.records["score:exact_match"].tolist() == [1.0, 0.0]


def test_is_recorded(tmp_path: Path) -> None:
    named = ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet", "A.JSONL", "a.json", "a.csv.gz"]
    assert all(is_recorded(tmp_path / name) for name in named)
    assert not any(is_recorded(tmp_path / name) for name in ("model", "a.safetensors", "a.txt"))
    assert not is_recorded(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "samples_t_2025-01-01T00-00-00.0.jsonl").touch()
    assert is_recorded(str(tmp_path))


def test_score_records_adds_what_is_missing() -> None:
    records = pd.DataFrame(
        {"doc_id": ["1", "2"], "target": ["a", "b"], "prediction": ["a", None], "score:own": [0.5, 1]}
    )
    scored, metrics = score_records(records, ["exact_match", "own"])
    assert scored["score:exact_match"].tolist() == [1.0, 0.0]
    assert [(m.name, m.kind) for m in metrics] == [("exact_match", "discrete"), ("own", "smooth")]
    assert "score:exact_match" not in records
    several, _ = score_records(records, ["exact_match"], references=[["x", "a"], "b"])
    assert several["score:exact_match"].tolist() == [1.0, 0.0]
    stemmed, (metric,) = score_records(records, ["rouge1"], options={"rouge1": {"use_stemmer": True}})
    assert "stemmer:yes" in metric.signature
    assert stemmed["score:rouge1"].tolist() == [1.0, 0.0]


def test_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "target": "a b", "prediction": "a"}\n')
    code = (
        "import sys; from pathlib import Path; from compatcheck.readers import load_recorded; "
        "load_recorded(Path('rows.jsonl'), metrics=['exact_match', 'rougeL', 'bleu', 'chrf']); "
        "print(sorted({'torch', 'lm_eval', 'transformers', 'datasets'} & sys.modules.keys()))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("large", [False, True])
def test_targets_of_which_there_is_no_row_are_told(large: bool, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"id": n, "prediction": "a"} for n in range(3)])
    targets = write_rows(tmp_path / "targets.jsonl", [{"id": n, "target": "a"} for n in range(5)])
    layout = Layout(targets=targets)
    if large:
        (run,) = load_large(rows, Scratch(tmp_path), layout=layout)
    else:
        (run,) = load_recorded(rows, layout=layout)
    assert f"{targets}: 2 of its 5 ids have no row here, such as 3, 4" in run.notes


def test_targets_left_by_another_tools_rows_are_told_too(tmp_path: Path) -> None:
    body = {"choices": [{"message": {"content": "a"}}], "object": "chat.completion"}
    batch = [{"custom_id": f"{n}", "response": {"status_code": 200, "body": body}} for n in range(3)]
    rows = write_rows(tmp_path / "batch_output.jsonl", batch)
    targets = write_rows(tmp_path / "targets.jsonl", [{"id": f"{n}", "target": "a"} for n in range(4)])
    (run,) = load_recorded(rows, layout=Layout(targets=targets))
    assert [note for note in run.notes if "have no row here" in note] == [
        f"{targets}: 1 of its 4 ids have no row here, such as 3"
    ]
