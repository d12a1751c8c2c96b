"""Files as people have them: values of other types, other names, other formats, and nothing that is quietly wrong."""

from __future__ import annotations

import bz2
import decimal
import gzip
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import compatcheck
from compatcheck.compare import compare
from compatcheck.errors import InputError
from compatcheck.readers import Layout, load_recorded
from compatcheck.records import TaskRun
from compatcheck.table import files
from tests.factories import write_rows

ROWS = [{"id": str(i), "target": str(i % 3), "prediction": str(i % 2)} for i in range(12)]


def load(path: Path, rows: list[dict[str, Any]], **layout: Any) -> TaskRun:
    metrics = layout.pop("metrics", ())
    (run,) = load_recorded(write_rows(path / "rows.jsonl", rows), layout=Layout(**layout), metrics=metrics)
    return run


def texts(run: TaskRun, name: str) -> list[Any]:
    return [None if pd.isna(value) else value for value in run.records[name]]


@pytest.mark.parametrize(
    ("target", "prediction", "text", "right"),
    [
        ("5.0", 5.0, "5.0", 1), ("5.00", 5, "5.00", 1), ("5.0", 6.0, "6.0", 0), ("5", 5.0, "5", 1),
        ("1,234", 1234, "1,234", 1), ("True", True, "True", 1), ("True", False, "False", 0), ("true", True, "true", 1),
        (5, "5.0", "5", 1), (5, "five", "five", 0), (5.5, "5.50", "5.5", 1), (True, "True", "true", 1),
        (1, True, "1", 1), ("nan", float("nan"), None, 0), ("x", None, None, 0), ("x", 7.0, "7", 0),
        ([5, 6], "6.0", "6", 1), (["a", "5.0"], 5, "5.0", 1), ("5.0", "5", "5", 0), (1e3, 1000, "1000", 1),
        (5, f"1e{10**20}", f"1e{10**20}", 0),
    ],
)  # fmt: skip
def test_values_of_two_types_are_compared_by_value(
    tmp_path: Path, target: Any, prediction: Any, text: str | None, right: int
) -> None:
    run = load(tmp_path, [{"id": 1, "target": target, "prediction": prediction}])
    assert texts(run, "prediction") == [text]
    assert run.records["score:exact_match"].tolist() == [right]


def test_decimals_dates_and_gaps_of_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": [1, 2, 3],
            "target": pa.array([decimal.Decimal("5.00"), decimal.Decimal("2.50"), None], pa.decimal128(5, 2)),
            "prediction": ["5", "2.5", "x"],
            "score:own": pa.array([decimal.Decimal("0.5"), decimal.Decimal("1"), decimal.Decimal("0")]),
            "price": pa.array([decimal.Decimal("1.5")] * 3),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    (run,) = load_recorded(tmp_path / "rows.parquet", metrics=["own"])
    assert texts(run, "target") == ["5", "2.5", None]
    assert run.records["score:own"].tolist() == [0.5, 1.0, 0.0]
    assert run.records["price"].tolist() == [1.5] * 3
    pq.write_table(pa.table({"id": [1.0, float("nan")], "target": ["1", "2"], "prediction": [1.0, float("nan")]}),
                   tmp_path / "gaps.parquet")  # fmt: skip
    with pytest.raises(InputError, match="`id` is NaN"):
        load_recorded(tmp_path / "gaps.parquet")


def test_objects_and_lists_are_kept_as_text(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    row = {"target": "a", "prediction": "a"}
    rows: list[dict[str, Any]] = [
        row | {"id": 1, "input": chat, "response": {"choices": []}},
        row | {"id": 2, "input": {"messages": chat[:1]}, "response": "plain"},
        row | {"id": 3, "input": {"question": "q"}, "response": ["a"]},
    ]
    run = load(tmp_path, rows)
    assert texts(run, "input") == ["system: Be brief.\nuser: Hi", "system: Be brief.", '{"question": "q"}']
    assert texts(run, "response") == ['{"choices": []}', "plain", '["a"]']
    with pytest.raises(InputError, match="`prediction` is a list"):
        load(tmp_path, [{"id": 1, "target": "a", "prediction": ["a"]}])


@pytest.mark.parametrize("score", [{"value": 1}, [1], "good"])
def test_a_score_that_is_no_number(tmp_path: Path, score: Any) -> None:
    rows = [row | {"score": score} for row in ROWS]
    run = load(tmp_path, rows, metrics=["exact_match"])
    assert [metric.name for metric in run.metrics] == ["exact_match"]
    assert any("`score` is no number" in note for note in run.notes)
    if isinstance(score, str):
        with pytest.raises(InputError, match="`score` is the text 'good'"):
            load(tmp_path, rows)
    else:
        assert [metric.name for metric in load(tmp_path, rows).metrics] == ["exact_match"]
    with pytest.raises(InputError, match="`score` is"):
        load(tmp_path, rows, metrics=["score"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("question_id", "gold", "output"), "`question_id` is taken as the id; `gold` is taken as the target"),
        (("idx", "reference", "response"), "`response` is taken as the prediction"),
        (("ID", "Target", "Prediction"), "`ID` is taken as the id"),
        (("id", "answer", "output"), "`answer` is taken as the target"),
        (("id", "target", "answer"), "`answer` is taken as the prediction"),
        (("id", "ground_truth", "answer"), "`answer` is taken as the prediction"),
    ],
)
def test_obvious_names_are_taken_and_said(tmp_path: Path, fields: tuple[str, ...], said: str) -> None:
    rows = [dict(zip(fields, row.values(), strict=True)) for row in ROWS]
    run = load(tmp_path, rows)
    assert texts(run, "doc_id") == [row["id"] for row in ROWS]
    assert texts(run, "target") == [row["target"] for row in ROWS]
    assert texts(run, "prediction") == [row["prediction"] for row in ROWS]
    assert said in run.notes[0]


def test_answer_beside_another_candidate_is_not_guessed(tmp_path: Path) -> None:
    rows = [{"id": i, "gold": "a", "answer": "a", "output": "b"} for i in range(3)]
    with pytest.raises(InputError, match="--prediction-field"):
        load(tmp_path, rows)
    rows = [{"id": i, "question": "q", "answer": "a", "output": "b"} for i in range(3)]  # here it is the target
    assert texts(load(tmp_path, rows), "target") == ["a"] * 3


def test_a_pattern_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compatcheck.table.layout.MATCH_SECONDS", 0.2)
    with pytest.raises(InputError, match=r"--extract .* takes more than 0.2 s on one text"):
        Layout(extract=r"(?:a|aa)+\b$").extracted("a" * 60 + "!")
    assert Layout(extract=r"is (\d+)").extracted("it is 1, no, it is 22") == "22"


def test_all_missing_fields_in_one_message_with_a_proposal(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "rows.jsonl", [{"nr": 1, "question_id": 2, "gold": "a", "v1_answer": "a", "v2_answer": "b"}]
    )
    with pytest.raises(InputError) as caught:
        load_recorded(path, side="old")
    assert str(caught.value) == (
        f"{path}:1: no field `prediction` (fields: nr, question_id, gold, v1_answer, v2_answer); did you mean "
        "--old-prediction-field v1_answer --new-prediction-field v2_answer?"
    )
    write_rows(path, [{"row_number": 1, "label_a": "x", "model_text": "x"}])
    with pytest.raises(InputError, match=r"no field `target` and no field `pred.*did you mean --id-field row_n"):
        load_recorded(path)
    write_rows(path, [{"id": 1, "target": "a", "output": "a", "response": "b"}])
    with pytest.raises(InputError, match="did you mean --prediction-field output"):
        load_recorded(path)


def test_rows_without_ids_are_known_by_what_was_asked(tmp_path: Path) -> None:
    old = [{"question": f"What is {i}?", "target": str(i), "prediction": str(i)} for i in range(60)]
    new = [row | {"prediction": "0" if i < 10 else row["target"]} for i, row in enumerate(reversed(old))]
    write_rows(tmp_path / "old.jsonl", old)
    write_rows(tmp_path / "new.jsonl", new[5:])
    c = compatcheck.diff(tmp_path / "old.jsonl", tmp_path / "new.jsonl").only
    assert (c.pairing.paired, c.pairing.only_old, c.quadrants["negative_flip"]) == (55, 5, 5)
    write_rows(tmp_path / "new.jsonl", [{"target": "1", "prediction": "1"}])
    with pytest.raises(InputError, match="no field `id`"):
        compatcheck.diff(tmp_path / "old.jsonl", tmp_path / "new.jsonl")


@pytest.mark.parametrize("field", ["question", "prompt", "query", "asked"])
def test_questions_that_changed_under_one_id_are_counted(tmp_path: Path, field: str) -> None:
    old = [row | {field: f"Question {row['id']}?"} for row in ROWS]
    new = [row | {field: f"Question {row['id']}{'!' if row['id'] < '2' else '?'}", "x": 1} for row in ROWS]
    one, other = write_rows(tmp_path / "old.jsonl", old), write_rows(tmp_path / "new.jsonl", new)
    layout = Layout(input_field=field if field == "asked" else None)
    (before,), (after,) = (load_recorded(path, layout=layout) for path in (one, other))
    c = compare(before, after, metric="exact_match")
    assert c.pairing.target_changed == sum(row["id"] < "2" for row in ROWS)


def _table(path: Path, text: str, encoding: str = "utf-8") -> TaskRun:
    path.write_bytes(text.encode(encoding))
    (run,) = load_recorded(path)
    return run


def test_tables_as_programs_write_them(tmp_path: Path) -> None:
    plain = "id,target,prediction,size\n1,é,é,7\n2,b,c,10.5\n"
    for name, text, encoding in (
        ("a.csv", plain, "utf-8"),
        ("a.csv", plain, "utf-16"),
        ("a.csv", plain, "utf-16-le"),
        ("a.csv", plain, "cp1252"),
        ("a.csv", plain.replace(",", ";"), "utf-8"),
        ("a.tsv", plain.replace(",", "\t"), "utf-8"),
        ("a.csv", plain.replace(",", "\t"), "utf-8"),
        ("a.csv", plain.replace(",", ", ").replace("id", " id "), "utf-8"),
        ("a.csv", plain.replace("id,", ",id,").replace("\n1", "\n0,1").replace("\n2", "\n1,2"), "utf-8"),
    ):
        run = _table(tmp_path / name, text, encoding)
        assert texts(run, "doc_id") == ["1", "2"], text
        assert texts(run, "target") == ["é", "b"]
        assert run.records["score:exact_match"].tolist() == [1.0, 0.0]
        assert run.records["size"].tolist() == [7.0, 10.5]
    assert any("cp1252" in note for note in _table(tmp_path / "a.csv", plain, "cp1252").notes)


def test_numbers_in_csv_are_numbers(tmp_path: Path) -> None:
    run = _table(tmp_path / "a.csv", "id,target,prediction,zip,age\n1,5,5.0,007,7\n2,6,7.0,010,10\n3,5,,011,\n")
    assert texts(run, "prediction") == ["5", "7", None]
    assert run.records["score:exact_match"].tolist() == [1.0, 0.0, 0.0]
    assert texts(run, "zip") == ["007", "010", "011"]
    assert texts(run, "age") == [7, 10, None]
    run = _table(tmp_path / "a.csv", "id,target,prediction\n1,5,5.0\n2,6,six\n")
    assert run.records["score:exact_match"].tolist() == [1.0, 0.0]  # a text among them changes no other row
    run = _table(tmp_path / "a.csv", "id,target,prediction\n1,5,5.0\n2,six,six\n")
    assert run.records["score:exact_match"].tolist() == [0.0, 1.0]  # texts among the targets: as they are written


def test_packed_files_and_json_lines_in_json(tmp_path: Path) -> None:
    data = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    packed = {"a.jsonl.xz": lzma.compress(data), "a.jsonl.bz2": bz2.compress(data), "a.json": data,
              "a.jsonl.zst": pa.compress(data, codec="zstd", asbytes=True)}  # fmt: skip
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
        (run,) = load_recorded(tmp_path / name)
        assert len(run.records) == len(ROWS), name
    for name in ("a.jsonl.xz", "a.jsonl.zst", "a.jsonl.bz2"):
        (tmp_path / name).write_bytes(packed[name][: len(packed[name]) // 2])
        with pytest.raises(InputError, match=r"copy it again|copy the file again|cannot be read|no rows"):
            load_recorded(tmp_path / name)


def test_merged_cells_and_formulas_without_a_value(tmp_path: Path) -> None:
    """Below the first of merged cells nothing stood; an answer that begins with = was no answer."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (
        ["id", "target", "prediction", "topic", "sum"],
        *([n, "a", "a", "x" if n == 1 else None, None] for n in range(1, 5)),
    ):
        book.active.append(row)
    book.active.merge_cells("D2:D4")
    book.active.merge_cells("A7:C7")
    book.save(tmp_path / "a.xlsx")
    (run,) = load_recorded(tmp_path / "a.xlsx")
    assert texts(run, "topic") == ["x", "x", "x", None]
    book.active["C3"] = "== Answer =="
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match=r"a.xlsx: row 3: `prediction` is a formula that was never calculated"):
        load_recorded(tmp_path / "a.xlsx")


def test_a_formula_of_another_sheet_is_none_of_this_one(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "notes"
    sheet = book.create_sheet("old & new")
    for row in (["id", "target", "prediction"], [1, "a", "a"], [2, "a", None]):
        sheet.append(row)
    book["notes"]["C3"] = "=1+1"
    book["notes"]["A1"] = "x"
    book.save(tmp_path / "a.xlsx")
    file = tmp_path / "a.xlsx"
    (run,) = load_recorded(file, layout=Layout(part="old & new"))
    assert texts(run, "prediction") == ["a", None]
    sheet["C3"] = "=1+1"
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match=r"a.xlsx: row 3: `prediction` is a formula that was never calculated"):
        load_recorded(file, layout=Layout(part="old & new"))


def test_excel(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["id", "target", "prediction", None], [1, 5, "5", None], [2, "yes", True, None], [3, 2.5, 2.5, None]):
        book.active.append(row)
    book.active["B3"] = 7
    book.save(tmp_path / "a.xlsx")
    (run,) = load_recorded(tmp_path / "a.xlsx")
    assert run.records["score:exact_match"].tolist() == [1.0, 0.0, 1.0]
    book.create_sheet("other").append(["id"])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match=r"several sheets; name one as .*#SHEET: Sheet, other"):
        load_recorded(tmp_path / "a.xlsx")
    (run,) = load_recorded(tmp_path / "a.xlsx", layout=Layout(part="Sheet"))
    assert len(run.records) == 3


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for name in ("a.jsonl", "a.parquet", "a.csv", "a.json"):
        pointer = "version https://git-lfs.example/spec/v1\noid sha256:0\nsize 3\n"
        (tmp_path / name).write_text(pointer)
        with pytest.raises(InputError, match="a pointer of Git LFS, not the file itself"):
            load_recorded(tmp_path / name)
    path.write_text('{"id": 1, "target": "a", "prediction": "a"}\n{"id": 2, "target": "a", "prediction": 1, "id": 3}\n')
    with pytest.raises(InputError, match=r"a\.jsonl:2: the field `id` is there twice"):
        load_recorded(path)
    write_rows(path, [{"id": 1, "model": m, "target": "a", "prediction": m} for m in ("march", "june")])
    with pytest.raises(InputError, match=r"name the rows of one model as .*a\.jsonl#june \(--model-field model\)"):
        load_recorded(path)


def test_models_in_a_column(tmp_path: Path) -> None:
    rows = [
        {"id": i, "release": m, "target": "a", "prediction": p} for m, p in (("v1", "a"), (2, "b")) for i in range(40)
    ]
    path = write_rows(tmp_path / "both.jsonl", rows)
    (before,), (after,) = (load_recorded(path, layout=Layout(part=v, model_field="release")) for v in ("v1", "2"))
    c = compare(before, after, metric="exact_match")
    assert c.quadrants["negative_flip"] == 40


def _samples(n: int = 4, **fields: Any) -> list[dict[str, Any]]:
    return [
        {
            "doc_id": i, "doc": {"q": f"What is {i} plus 1?", "answer": str(i + 1)}, "target": str(i + 1),
            "arguments": {"gen_args_0": {"arg_0": f"Q: What is {i} plus 1?", "arg_1": {}}},
            "resps": [[str(i + 1)]], "filtered_resps": [str(i + 1 if i else 0)], **fields,
        }
        for i in range(n)
    ]  # fmt: skip


def test_lm_eval_predict_only(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "samples_t_2026-01-01T00-00-00.jsonl", _samples(filter="none", metrics=["bypass"], bypass=None)
    )
    for metrics in ((), ("exact_match",)):
        (run,) = load_recorded(path, metrics=metrics)
        assert run.records["score:exact_match"].tolist() == [0.0, 1.0, 1.0, 1.0]
    assert any("--predict_only" in note for note in load_recorded(path)[0].notes)


def test_lm_eval_filters_without_names(tmp_path: Path) -> None:
    strict = _samples(exact_match=1.0)
    loose = [row | {"filtered_resps": ["x"], "exact_match": 0.0} for row in _samples()]
    path = write_rows(tmp_path / "samples_t_2024-01-01T00-00-00.jsonl", [*strict, *loose])
    found = load_recorded(path)
    assert [(run.filter, run.records["score:exact_match"].sum()) for run in found] == [("filter 1", 4), ("filter 2", 0)]
    results = {"results": {"t": {"exact_match,strict-match": 1, "exact_match,flexible-extract": 0}}}
    (tmp_path / "results_2024-01-01T00-00-00.json").write_text(json.dumps(results))
    assert [run.filter for run in load_recorded(path)] == ["strict-match", "flexible-extract"]
    write_rows(path, [*strict, loose[0]])
    with pytest.raises(InputError, match="the id '0' again"):
        load_recorded(path)


def test_alpaca_eval_of_two_annotators(tmp_path: Path) -> None:
    row = {"instruction": "q", "output_1": "a", "generator_1": "b", "output_2": "c", "generator_2": "d"}
    rows = [row | {"annotator": name, "preference": p} for name, p in (("gpt", 1.0), ("claude", 2.0))]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(InputError, match=r"another annotator; name one of them as .*#NAME: claude, gpt"):
        load_recorded(path)
    (run,) = load_recorded(path, layout=Layout(part="claude"))
    assert run.records["score:win"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("reducer", "score"),
    [(None, 0.75), (["mean"], 0.75), ("max", 1.0), (["mode"], 1.0), ("median", 1.0), ("at_least_4", 0.0),
     (["at_least_2"], 1.0), ("pass_at_2", 1.0), ("pass_at_1", 0.75)],
)  # fmt: skip
def test_inspect_epochs_reducer(tmp_path: Path, reducer: Any, score: float) -> None:
    samples = [
        {"id": 1, "epoch": n + 1, "input": "q", "target": "a", "output": {"completion": "a", "choices": []},
         "scores": {"match": {"value": value, "answer": "a"}}}
        for n, value in enumerate("CCIC")
    ]  # fmt: skip
    config = {} if reducer is None else {"epochs_reducer": reducer}
    log = {"version": 2, "status": "success", "samples": samples,
           "eval": {"task": "t", "model": "m", "dataset": {}, "config": config}}  # fmt: skip
    (tmp_path / "2026_t_x.json").write_text(json.dumps(log))
    (run,) = load_recorded(tmp_path / "2026_t_x.json")
    assert run.records["score:match"].tolist() == [score]
    log["eval"]["config"] = {"epochs_reducer": "best_of"}  # type: ignore[index]
    (tmp_path / "2026_t_x.json").write_text(json.dumps(log))
    with pytest.raises(InputError, match="`epochs_reducer` is 'best_of'"):
        load_recorded(tmp_path / "2026_t_x.json")


def test_a_member_of_an_archive_and_a_line_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPATCHECK_MAX_ROW_MIB", "1")
    path = tmp_path / "2026_t_x.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"status": "success", "x": "y" * (2 << 20)}))
    limit = r"is larger than 1 MiB; COMPATCHECK_MAX_ROW_MIB in the environment raises that limit"
    with pytest.raises(InputError, match=rf"header\.json {limit}"):
        load_recorded(path)
    monkeypatch.setattr(files, "CHUNK_BYTES", 1 << 16)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"id": "' + b"a" * (4 << 20)))
    with pytest.raises(InputError, match=rf"a\.jsonl\.gz:1: this line {limit}"):
        load_recorded(tmp_path / "a.jsonl.gz")
