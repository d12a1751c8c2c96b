"""The same rows read the same from every format, and in chunks of any size."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compatcheck.readers import load_recorded
from compatcheck.table import files
from compatcheck.table.reading import read_rows

ROWS = [
    {"id": "a", "target": "1", "prediction": "1", "topic": "x, y"},
    {"id": "b", "target": "2", "prediction": None, "topic": 'say "hi"'},
    {"id": "ç", "target": "3\n4", "prediction": "3\n4", "topic": None},
]


def records(path: Path) -> list[dict[str, Any]]:
    (run,) = load_recorded(path)
    return run.records.astype(object).where(run.records.notna(), None).to_dict("records")


EXPECTED = [
    {"doc_id": "a", "target": "1", "prediction": "1", "topic": "x, y", "score:exact_match": 1.0},
    {"doc_id": "b", "target": "2", "prediction": None, "topic": 'say "hi"', "score:exact_match": 0.0},
    {"doc_id": "ç", "target": "3\n4", "prediction": "3\n4", "topic": None, "score:exact_match": 1.0},
]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.jsonl", JSONL.encode()),
        ("rows.jsonl", JSONL.rstrip("\n").encode()),
        ("rows.jsonl", b"\xef\xbb\xbf" + JSONL.replace("\n", "\r\n\r\n").encode()),
        ("rows.jsonl.gz", gzip.compress(JSONL.encode())),
        ("rows.jsonl", gzip.compress(JSONL.encode())),
        ("rows.jsonl.gz", JSONL.encode()),
        ("rows.json", json.dumps(ROWS, indent=1).encode()),
        ("rows.jsonl", json.dumps(ROWS, indent=1).encode()),
    ],
)
def test_json(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert records(tmp_path / name) == EXPECTED


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    assert records(path) == EXPECTED
    source = read_rows(path)
    assert [list(numbers) for numbers, _ in source.chunks] == [[2, 3, 6]]
    assert source.at(6) == f"{path}:6"


def test_csv_scores_filters_and_long_cells(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    long = "w" * 200_000
    path.write_text(f"id,target,prediction,score,filter\na,1,{long},true,\nb,1,,0.0,strict\n")
    plain, strict = load_recorded(path)
    assert (plain.filter, strict.filter) == ("none", "strict")
    assert plain.records["prediction"].tolist() == [long]
    assert plain.records["score:score"].tolist() == [1.0]
    assert strict.records["prediction"].isna().tolist() == [True]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame(ROWS).to_parquet(path)
    assert records(path) == EXPECTED
    assert read_rows(path).at(2) == f"{path}: row 2"


def test_parquet_of_other_types(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table(
        {
            "id": pa.array([1, 2]),
            "target": pa.array([["a", "b"], ["c"]]),
            "prediction": pa.array(["b", "c"]).dictionary_encode(),
            "when": pa.array([0, 1], pa.timestamp("s")),
            "blob": pa.array([b"\xff", b""]),
            "meta": pa.array([{"level": 1, "deep": {"x": True}}, {"level": 2, "deep": None}]),
        }
    )
    pq.write_table(table, path)
    (run,) = load_recorded(path)
    assert run.records["score:exact_match"].tolist() == [1.0, 1.0]
    assert run.records["when"].tolist() == ["1970-01-01 00:00:00", "1970-01-01 00:00:01"]
    assert run.records["meta.level"].tolist() == [1, 2]
    assert run.records["meta.deep.x"].iloc[0] and pd.isna(run.records["meta.deep.x"].iloc[1])
    assert "blob" not in run.records


def test_line_numbers_and_types_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 64)
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [{"id": str(i), "target": "x", "prediction": "x", "level": i} for i in range(20)]
    rows[7]["level"] = 1.5
    rows[9]["tag"] = "t"
    rows[15]["level"] = None
    path.write_text("\n".join(json.dumps(row) + ("\n" if i % 3 == 0 else "") for i, row in enumerate(rows)))
    source = read_rows(path)
    chunks = [(list(numbers), rows) for numbers, rows in source.chunks]
    assert len(chunks) > 5
    lines = path.read_text().split("\n")
    for numbers, part in chunks:
        assert [json.loads(lines[number - 1]) for number in numbers] == part
    (run,) = load_recorded(path)
    assert run.records["level"].dropna().tolist() == [i if i != 7 else 1.5 for i in range(20) if i != 15]
    assert run.records["tag"].notna().tolist() == [i == 9 for i in range(20)]


def test_a_field_that_is_a_label_at_first_and_a_list_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 64)
    path = tmp_path / "rows.jsonl"
    row = {"target": "x", "prediction": "x"}
    rows = [row | {"id": i, "tag": "t" if i < 9 else ["t"], "kind": i if i < 5 else "k"} for i in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = load_recorded(path)
    assert "tag" not in run.records
    assert run.records["kind"].tolist() == ["0", "1", "2", "3", "4", *["k"] * 7]


def test_text_that_utf8_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"id": "a", "target": "x", "prediction": "cut \\ud83d"}\n{"id": "b", "target": "x", "prediction": ""}\n'
    )
    (run,) = load_recorded(path)
    assert run.records["prediction"].tolist() == ["cut \ufffd", ""]


def test_integers_beyond_64_bits(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    big = 2**70
    path.write_text(json.dumps({"id": big, "target": big, "prediction": str(big), "seed": big}) + "\n")
    assert records(path) == [
        {"doc_id": str(big), "target": str(big), "prediction": str(big), "seed": str(big), "score:exact_match": 1.0}
    ]
