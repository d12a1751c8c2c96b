"""JSON answers and tool calls from files to slices: what flips is counted here by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from compatcheck.cli.app import run

Rows = list[dict[str, Any]]


@pytest.fixture
def diff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)

    def compare(targets: list[Any], old: list[Any], new: list[Any], *options: str) -> tuple[int, dict[str, Any]]:
        for name, answers in (("old", old), ("new", new)):
            rows = [
                {"id": i, "target": t, "prediction": p} for i, (t, p) in enumerate(zip(targets, answers, strict=True))
            ]
            Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        code = run(["diff", "old.jsonl", "new.jsonl", *options, "--out", "out", "--overwrite"])
        return code, json.loads(Path("out/report.json").read_text(encoding="utf-8"))["comparisons"][0]

    return compare


def bill(i: int) -> dict[str, Any]:
    return {"total": i + 0.5, "currency": "EUR", "lines": [{"name": "tea", "price": i}]}


def test_layout_is_no_flip_and_the_fields_that_flipped_are_slices(diff: Any) -> None:
    """Of 200 bills 155 are only written otherwise, and 21 have a field that is wrong now."""
    targets = [bill(i) for i in range(200)]
    old = [json.dumps(each) for each in targets]
    new, wrong = list(old), Counter[str]()
    for i in range(176):
        made = dict(reversed(bill(i).items()))
        if i < 12:
            made["total"] += 1
            wrong["total"] += 1
        if 8 <= i < 18:
            made["lines"] = [{"name": "tea", "price": i, "n": 1}]
            wrong["lines[].n"] += 1
        if 18 <= i < 20:
            del made["currency"]
            wrong["currency"] += 1
        new[i] = f"```json\n{json.dumps(made, indent=2)}\n```" if i != 20 else "I cannot read this bill."
    wrong["(nothing that can be read)"] += 1
    _, plain = diff([json.dumps(each) for each in targets], old, new, "--metric", "exact_match")
    assert plain["quadrants"]["negative_flip"] == 176
    code, found = diff(targets, old, new, "--metric", "json", "--fail-on", "json=total/nfr:2%", "--fail-on", "nfr:20%")
    assert found["quadrants"] == {"both_correct": 179, "positive_flip": 0, "negative_flip": 21, "both_wrong": 0}
    assert {part["value"]: part["negative_flips"] for part in found["slices"]} == dict(wrong)
    assert {part["value"]: (part["nfr"]["count"], part["nfr"]["of"]) for part in found["slices"]}["total"] == (12, 200)
    assert (code, [gate["verdict"] for gate in found["gates"]]) == (1, ["fail", "pass"])
    kept = pd.read_parquet("out/instances.parquet")["json flipped"]
    assert kept[8] == "lines[].n, total"
    assert kept.notna().sum() == 21
    _, chosen = diff(targets, old, new, "--metric", "json", "--metric-arg", "json.fields=total,currency")
    assert chosen["quadrants"]["negative_flip"] == 15
    assert {part["value"] for part in chosen["slices"]} == {"total", "currency", "(nothing that can be read)"}


def test_missing_and_extra_calls_are_counted_apart(diff: Any) -> None:
    def call(name: str, **arguments: Any) -> dict[str, Any]:
        return {"name": name, "arguments": arguments}

    both = [call("search", q="tea"), call("order", n=1)]
    forms: list[tuple[Any, list[str]]] = [
        (json.dumps(both), []),
        ({"tool_calls": [{"function": {**each, "arguments": json.dumps(each["arguments"])}} for each in both]}, []),
        (both[:1], ["missing call"]),
        ([*both, call("pay")], ["extra call"]),
        ([both[0], call("order", n=2)], ["arguments"]),
        ([call("find", q="tea"), both[1]], ["missing call", "extra call"]),
        (both[::-1], ["order"]),
        ("Shall I order?", ["(nothing that can be read)"]),
        (None, ["(no answer)"]),
        ([], ["missing call"]),
    ]
    made = [form for form, _ in forms] * 3
    _, found = diff([both] * 30, [both] * 30, made, "--metric", "tool_call")
    expected = Counter(fault for _, faults in forms for fault in faults)
    assert found["quadrants"]["negative_flip"] == 24
    assert {part["value"]: part["negative_flips"] for part in found["slices"]} == {
        k: 3 * n for k, n in expected.items()
    }
    _, back = diff([both] * 30, made, [both] * 30, "--metric", "tool_call")
    assert {part["value"]: part["positive_flips"] for part in back["slices"]} == {k: 3 * n for k, n in expected.items()}
    _, changed = diff([both] * 30, [both] * 30, made, "--metric", "tool_call", "--reference", "old")
    assert {part["value"]: part["changed"]["count"] for part in changed["slices"]} == {
        fault: 3 * count for fault, count in expected.items()
    }
    loose = ("--metric", "tool_call", "--metric-arg", "tool_call.ignore_order=true")
    _, unordered = diff([both] * 30, [both] * 30, made, *loose)
    assert unordered["quadrants"]["negative_flip"] == 21
