"""Every kind of bad input gives one line that names file, line and field."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from compatcheck.errors import InputError
from compatcheck.readers import Layout, load_recorded
from tests.factories import write_rows

GOOD = {"id": "a", "target": "1", "prediction": "1"}


def write(path: Path, *rows: object) -> Path:
    return write_rows(path, rows)


def message(path: Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        load_recorded(path, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(f"{path}", "FILE")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_malformed_json_line(file: Path) -> None:
    write(file, GOOD, '{"id": "b", "target": 1,}', GOOD)
    assert message(file) == ("FILE:2: not JSON (Expecting property name enclosed in double quotes at column 25)")


def test_malformed_line_behind_blank_lines(file: Path) -> None:
    write(file, GOOD, "", "   ", '{"id": ')
    assert message(file) == "FILE:4: not JSON (Expecting value at column 8)"


def test_two_objects_on_a_line_and_half_of_one(file: Path) -> None:
    write(file, '{"id": "a"', '"target": "1", "prediction": "1"}')
    assert message(file) == "FILE:1: not JSON (Expecting ',' delimiter at column 11)"
    write(file, GOOD, json.dumps(GOOD) + "," + json.dumps(GOOD))
    assert message(file) == "FILE:2: not JSON (Extra data at column 46)"


def test_nested_too_deeply(file: Path) -> None:
    write(file, GOOD, '{"id":' + "[" * 100_000)
    assert message(file) == "FILE:2: not JSON (nested too deeply)"


def test_a_line_that_is_no_object(file: Path) -> None:
    write(file, GOOD, "17")
    assert message(file) == "FILE:2: one JSON object per line is needed, not a number"


def test_missing_id(file: Path) -> None:
    write(file, GOOD, {"key": "b", "target": "1", "meta": {"x": 1, "y": 2}})
    assert message(file) == "FILE:2: no field `id` (fields: key, target, meta.x, meta.y); name it with --id-field"
    assert message(file, layout=Layout(id_field="meta.z")).startswith("FILE:1: no field `meta.z` (fields: id, target")


def test_missing_prediction(file: Path) -> None:
    write(file, {"id": "a", "target": "1", "x": "1"})
    assert message(file, side="old") == (
        "FILE:1: no field `prediction` (fields: id, target, x); name it with --prediction-field or "
        "--old-prediction-field"
    )
    write(file, GOOD, {"id": "b", "target": "1"})
    assert message(file) == (
        "FILE:2: no field `prediction` (fields: id, target); name it with --prediction-field, or write null where "
        "there is no answer"
    )


def test_missing_target(file: Path) -> None:
    write(file, {"id": "a", "prediction": "1"})
    assert message(file) == (
        "FILE:1: no field `target` (fields: id, prediction); name it with --target-field, give --targets, score by a "
        "recorded `score`, or compare answers alone: diff OLD NEW --reference old"
    )
    write(file, GOOD, {"id": "b", "target": None, "prediction": "1"})
    assert message(file) == (
        "FILE:2: no target, which metric 'exact_match' needs; name the field with --target-field, give the targets in "
        "a file of their own with --targets, score by a recorded `score`, or compare answers alone: diff OLD NEW "
        "--reference old"
    )


def test_null_id(file: Path) -> None:
    write(file, GOOD, GOOD | {"id": None})
    assert message(file) == "FILE:2: `id` is null, but it must be a text or a number"


def test_duplicate_ids_that_differ(file: Path) -> None:
    write(file, GOOD, GOOD | {"id": "b"}, GOOD | {"prediction": "2"})
    assert message(file) == (
        "FILE:3: the id 'a' again, with another `prediction` than in line 1; an id stands for one row: correct the "
        "data or name another --id-field"
    )


def test_empty_file(file: Path) -> None:
    for text in ("", "\n \n"):
        file.write_text(text)
        assert message(file) == "FILE: no rows in this file"


def test_mixed_types_in_target(file: Path) -> None:
    write(file, GOOD, GOOD | {"id": "b", "target": 1})
    assert message(file) == ("FILE:2: `target` is a number, but a text in line 1; write all targets the same way")
    write(file, GOOD | {"target": None}, GOOD | {"id": "b", "target": ["x"]}, GOOD | {"id": "c", "target": True})
    assert message(file) == "FILE:3: `target` is a boolean, but a list in line 2; write all targets the same way"
    write(file, GOOD | {"target": ["x", 1]})
    assert (
        message(file)
        == "FILE:1: `target` is a list with a number and a text in it; it must be a text, or a list of texts (or say "
        "--metric json)"
    )
    write(file, GOOD | {"target": []})
    assert (
        message(file)
        == "FILE:1: `target` is an empty list; it must be a text, or a list of texts (or say --metric json)"
    )
    write(file, GOOD | {"target": {"text": "x"}})
    assert message(file) == (
        "FILE:1: `target` is an object; compare it as JSON with --metric json (or tool_call), or name a field in it, "
        "e.g. --target-field target.text"
    )


def test_prediction_that_is_a_list(file: Path) -> None:
    write(file, GOOD, GOOD | {"id": "b", "prediction": ["x"]})
    assert message(file) == "FILE:2: `prediction` is a list, but it must be a text, a number or null"


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        ("NaN", "NaN; scores must be finite numbers"),
        ("Infinity", "infinite; scores must be finite numbers"),
        ("-Infinity", "infinite; scores must be finite numbers"),
        ("1e999", "infinite; scores must be finite numbers"),
        ("1" + "0" * 400, "a number beyond all bounds; scores must be finite numbers"),
        ("-1e308", "-1e+308; scores must be within ±1e+50, or their sums overflow"),
        ('"good"', "the text 'good'; scores must be numbers"),
        ('"nan"', "NaN; scores must be finite numbers"),
        ("[1]", "a list; scores must be numbers"),
    ],
)
def test_scores_that_are_none(file: Path, score: str, shown: str) -> None:
    write(file, GOOD | {"score": 1}, f'{{"id": "b", "target": "1", "prediction": "1", "score": {score}}}')
    assert message(file) == f"FILE:2: `score` is {shown}"


def test_a_score_beyond_all_sums_in_parquet(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    pd.DataFrame({"id": ["a", "b"], "target": "1", "prediction": "1", "score": [1.0, 1e60]}).to_parquet(file)
    with pytest.raises(InputError, match=r"row 2: `score` is 1e\+60; scores must be within ±1e\+50"):
        load_recorded(file)


def test_missing_score(file: Path) -> None:
    write(file, GOOD | {"score": 1}, GOOD | {"id": "b"})
    assert message(file) == "FILE:2: no `score`; every row without an error needs one"
    write(file, GOOD)
    assert message(file, metrics=["score"]) == (
        "FILE:1: no field `score` (fields: id, target, prediction); name it with another --metric"
    )


def test_invalid_utf8(file: Path) -> None:
    file.write_bytes(json.dumps(GOOD).encode() + b'\n\n{"id": "b\xff"}\n')
    assert message(file) == "FILE:3: not UTF-8 (byte 0xff); save the file as UTF-8"
    file.write_bytes(json.dumps(GOOD | {"id": "ç"}, ensure_ascii=False).encode() + b'\n{"id": "b\xe9"}\n')
    assert message(file) == "FILE:2: not UTF-8 (byte 0xe9); save the file as UTF-8"
    file.write_bytes(json.dumps(GOOD).encode("utf-16")[:-1])
    assert message(file) == "FILE: not the UTF-16 that its beginning says; save the file as UTF-8"


def test_truncated_and_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    data = gzip.compress("".join(json.dumps(GOOD | {"id": str(i)}) + "\n" for i in range(2000)).encode())
    path.write_bytes(data[: len(data) // 2])
    assert message(path) == "FILE:1: the gzip stream is cut off somewhere after this line; copy the file again"
    path.write_bytes(data[:200] + bytes(100) + data[300:])
    assert message(path) == "FILE:1: the gzip stream is damaged somewhere after this line; copy the file again"


def test_files_that_are_not_there_or_of_no_known_kind(tmp_path: Path) -> None:
    assert message(tmp_path / "none.jsonl") == "FILE: no such file"
    assert message(write(tmp_path / "rows.txt", GOOD)) == (
        "FILE: recorded outputs are *.jsonl[.gz], *.json, *.csv, *.tsv, *.xlsx or *.parquet files"
    )
    assert message(tmp_path) == "FILE: no samples_*.jsonl files; run lm-eval with --log_samples"


def test_json_files_that_are_no_list_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"rows": []}')
    assert message(path) == "FILE: a JSON list of objects is needed, not an object"
    path.write_text('[{"id": 1}, 2]')
    assert message(path) == "FILE: item 2: an object is needed, not a number"
    path.write_text('[{"id": 1},\n {"id": }]')
    assert message(path) == "FILE:2: not JSON (Expecting value at column 9)"
    path.write_text("[]")
    assert message(path) == "FILE: no rows in this file"


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('id,target,prediction\na,1,"two\nlines"\nb,1\n')
    assert message(path) == ("FILE:4: 2 cells, but the header has 3; cells with commas or line breaks need quotes")
    path.write_text('id,target,prediction\na,1,"open\n')
    assert message(path) == "FILE:2: not CSV (unexpected end of data)"
    path.write_text("id,id,prediction\na,1,2\n")
    assert message(path) == "FILE:1: column 'id' is there twice"
    path.write_text("id,target,prediction\n")
    assert message(path) == "FILE: no rows in this file"
    path.write_text("id,target,prediction,score\na,1,1,inf\n")
    assert message(path) == "FILE:2: `score` is infinite; scores must be finite numbers"


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    assert message(path).startswith("FILE: not a readable Parquet file (")


def test_options(file: Path) -> None:
    write(file, GOOD | {"filter": "strict"})
    assert message(file, limit=0) == "--limit 0: must be 1 or more"
    assert message(file, metrics=["rogue1"]).startswith(
        "unknown metric 'rogue1' (did you mean 'rouge1'?); metrics are "
    )
    assert message(file, layout=Layout(filter="stict")) == (
        "no rows with filter 'stict' (did you mean 'strict'?); filters there: strict"
    )
    with pytest.raises(InputError, match=r"^--extract '\(' is not a regular expression: missing \), unterminated"):
        Layout(extract="(")


def test_extract_that_misses_some_targets(file: Path) -> None:
    write(file, GOOD | {"target": "A: 1"}, GOOD | {"id": "b", "target": "none"})
    assert message(file, layout=Layout(extract=r"A: (\d)")) == (
        "FILE:2: --extract finds nothing in `target`, though it does in other rows; change the pattern or the target"
    )


def test_targets_file(file: Path, tmp_path: Path) -> None:
    write(file, GOOD, GOOD | {"id": "b"})
    targets = write(tmp_path / "targets.jsonl", {"id": "a", "target": "1"})
    layout = Layout(targets=targets)
    assert message(file, layout=layout) == f"FILE:2: no target in {targets} for the id 'b'"
    write(targets, {"id": "a", "target": "1"}, {"id": "a", "target": "2"})
    assert message(targets, layout=layout) == "FILE:2: the id 'a' again, with another `target` than in line 1"
    write(targets, {"id": "a", "x": "1"})
    assert message(targets, layout=layout) == "FILE:1: no field `target` (fields: id, x); name it with --target-field"
    write(targets, {"id": "a", "target": "1"}, {"id": "b", "target": None})
    assert (
        message(targets, layout=layout) == "FILE:2: `target` is null (fields: id, target); name it with --target-field"
    )


def test_rows_of_another_task(file: Path) -> None:
    write(file, GOOD | {"task": "gsm8k"})
    assert message(file, tasks=["gsm8"]) == "FILE: recorded for task gsm8k, not for gsm8 (did you mean 'gsm8k'?)"
