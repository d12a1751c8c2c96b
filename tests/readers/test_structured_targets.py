"""Targets and predictions that are objects and lists in the file, for the metrics that compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compatcheck
from compatcheck.errors import InputError
from compatcheck.readers import load_recorded
from tests.factories import write_rows

BILL = {"total": 12.5, "currency": "EUR"}
FENCED = f"```json\n{json.dumps(BILL)}\n```"
CALLS = [{"name": "search", "arguments": {"q": "tea"}}]
WIRE = {"tool_calls": [{"function": {"name": "search", "arguments": '{"q": "tea"}'}}]}


def file(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "jsonl":
        write_rows(path, rows)
    else:
        texts = [{k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()} for row in rows]
        pd.DataFrame(texts).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("metric", "target", "predictions"),
    [
        ("json", BILL, [BILL, '{"currency":"EUR","total":12.50}', FENCED, {"total": 1}]),
        ("json", [1, 2], [[1, 2], "[1,2]", "[1, 2.0]", [2, 1]]),
        ("json", ["a", "b"], [["a", "b"], '["a", "b"]', '[ "a","b" ]', ["b", "a"]]),
        ("tool_call", CALLS, [CALLS, CALLS[0], WIRE, []]),
        ("tool_call", [], [[], "[]", {"tool_calls": []}, CALLS]),
    ],
)  # fmt: skip
def test_they_are_compared_as_json(tmp_path: Path, kind: str, metric: str, target: Any, predictions: list[Any]) -> None:
    rows = [{"id": i, "target": target, "prediction": each} for i, each in enumerate(predictions)]
    (run,) = load_recorded(file(tmp_path, kind, rows), metrics=[metric])
    assert run.records[f"score:{metric}"].tolist() == [1, 1, 1, 0]


def test_mixed_forms_of_targets_and_the_order_of_keys(tmp_path: Path) -> None:
    targets = [BILL, json.dumps(BILL), dict(reversed(BILL.items())), ['{"total": 0}', json.dumps(BILL)]]
    rows = [{"id": i, "target": each, "prediction": json.dumps(BILL)} for i, each in enumerate(targets[:3])]
    (run,) = load_recorded(file(tmp_path, "jsonl", rows), metrics=["json"])
    assert run.records["score:json"].tolist() == [1, 1, 1]
    assert run.records["target"][0] == run.records["target"][2]
    rows = [{"id": 1, "target": targets[3], "prediction": json.dumps(BILL)}]
    (run,) = load_recorded(file(tmp_path, "jsonl", rows), metrics=["json"])
    assert run.records["score:json"].tolist() == [1]


@pytest.mark.parametrize("other", ["objects", "csv", "compact", "parquet"])
def test_both_sides_ask_the_same_however_their_targets_are_laid_out(tmp_path: Path, other: str) -> None:
    """JSON text was held against an object's letter by letter: as other data, it was refused."""
    rows = [{"id": n, "target": {"total": n, "currency": "€"}, "prediction": {"total": n}} for n in range(3)]
    texts = [row | {"target": json.dumps(row["target"]), "prediction": "{}"} for row in rows]
    short = (json.dumps(row["target"], ensure_ascii=False, separators=(",", ":")) for row in rows)
    compact = [row | {"target": target} for row, target in zip(texts, short, strict=True)]
    new = tmp_path / "new.parquet"
    if other == "parquet":
        pd.DataFrame(compact).to_parquet(new)
    else:
        found = {"objects": rows[::-1], "csv": texts, "compact": compact}[other]
        (tmp_path / "new").mkdir()
        new = file(tmp_path / "new", "csv" if other == "csv" else "jsonl", found)
    old = file(tmp_path, "jsonl", texts)
    assert compatcheck.diff(old, new, metric="json").only.pairing.paired == 3
    sides = write_rows(tmp_path / "o.jsonl", texts), write_rows(tmp_path / "n.jsonl", compact)
    with pytest.raises(InputError, match="differ in content or target"):
        compatcheck.diff(*sides, metric="exact_match")


def test_without_such_a_metric_it_is_proposed(tmp_path: Path) -> None:
    path = file(tmp_path, "jsonl", [{"id": 1, "target": BILL, "prediction": "x"}])
    with pytest.raises(InputError, match="`target` is an object; compare it as JSON with --metric json"):
        load_recorded(path)


def test_the_row_of_a_target_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    rows = [{"id": i, "target": "{}" if i != 2 else "EUR 5", "prediction": None if i == 0 else "{}"} for i in range(4)]
    with pytest.raises(InputError, match=r"rows.jsonl:3: metric json: the target 'EUR 5' cannot be read"):
        load_recorded(file(tmp_path, "jsonl", rows), metrics=["json"])
