"""Thinking models by their server: reasoning is kept apart, not scored, and texts cut within it are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compatcheck
from compatcheck import report
from tests.engines.endpoint.scripted import Reply, Scripted
from tests.engines.endpoint.servers import serving
from tests.evaluation.served import number, sums
from tests.factories import write_rows

COUNT = 12


class Thinks(Scripted):
    """OLD answers plainly. NEW thinks: in the text, after a template's mark, in a field; two are cut while it does."""

    @staticmethod
    def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
        n = number(asked)
        right = f"The answer is {2 * n}."
        if model == "old":
            return Reply(right, finish_reason="length" if n == 3 else "stop")
        thought = f"First {n}, then 99."
        if n == 0:
            return Reply(f"<think>{thought}", finish_reason="length")
        if n == 1:
            return Reply(None, thought, finish_reason="length")
        ways = (Reply(f"<think>{thought}</think>\n{right}"), Reply(f"{thought}</think>{right}"), Reply(right, thought),
                Reply(f"{right}\n<think>{thought}</think>"))  # fmt: skip
        return ways[n % 4]


def _diff(tmp_path: Path, *options: dict[str, Any]) -> list[compatcheck.results.Diff]:
    """One comparison for each set of options, all with the same server and store."""
    with serving(Thinks) as server:
        return [
            compatcheck.diff(
                f"{server.url}#old", f"{server.url}#new", task=sums(tmp_path, COUNT), engine_args={"api": "chat"},
                store=tmp_path / "store", **each,
            )
            for each in options
        ]  # fmt: skip


def test_reasoning_is_kept_apart_and_the_cut_are_counted(tmp_path: Path) -> None:
    (found,) = _diff(tmp_path, {})
    (only,) = found.comparisons
    assert dict(only.quadrants) == {"both_correct": 10, "positive_flip": 0, "negative_flip": 2, "both_wrong": 0}
    p = only.pairing
    assert (p.cut_off_old, p.cut_off_new, p.thinking_old, p.thinking_new, p.no_answer_new) == (1, 2, None, 2, 2)
    rows = only.instances.set_index("doc_id")
    assert rows["reasoning_old"].isna().all()
    assert rows["reasoning_new"].tolist() == [f"First {n}, then 99." for n in range(COUNT)]
    assert not rows["response_new"].dropna().str.contains("think|99").any()
    assert rows["prediction_new"].isna().tolist() == [True, True] + [False] * 10
    assert [(one.kind, one.count) for one in only.kinds] == [("cut_off", 2)]
    text = report.render(found, "markdown")
    assert "cut off: 1 old, 2 new (0 and 2 of them while still thinking)" in text
    saved = compatcheck.load(found.save(tmp_path / "out"))
    assert saved.comparisons[0].pairing == p
    assert saved.comparisons[0].instances["reasoning_new"].tolist() == rows["reasoning_new"].tolist()


def test_kept_reasoning_is_scored_by_the_same_stored_answers(tmp_path: Path) -> None:
    """What is stored is what the model wrote, so that either way of reading it costs nothing more."""
    _, kept = _diff(tmp_path, {}, {"reasoning": "keep"})
    (only,) = kept.comparisons
    # Cut in its text, the last number is one that it thought of; so it is where the reasoning stands at the end.
    assert dict(only.quadrants) == {"both_correct": 7, "positive_flip": 0, "negative_flip": 5, "both_wrong": 0}
    assert "reasoning:keep" in only.signature
    assert (only.pairing.cut_off_new, only.pairing.thinking_new) == (2, None)
    assert any("12 of 12 answers from the store" in note for note in kept.notes)


def test_a_stop_string_within_the_reasoning_is_said(tmp_path: Path) -> None:
    class Stops(Thinks):
        @staticmethod
        def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
            return Reply("<think>one\n\ntwo</think>4" if model == "new" else "4")

    task = Path(sums(tmp_path, 4))
    task.write_text(
        task.read_text(encoding="utf-8").replace("until: []", "until: ['\\n\\n']").replace("'\\n\\n'", '"\\n\\n"')
    )
    with serving(Stops) as server:
        found = compatcheck.diff(
            f"{server.url}#old", f"{server.url}#new", task=str(task), engine_args={"api": "chat"}, store=False
        )
    assert found.comparisons[0].pairing.thinking_new == 4
    assert any("4 of 4 answers to sums ended within their reasoning at a stop string" in note for note in found.notes)


ROWS = [
    {"id": 1, "target": "4", "prediction": "<think>2 + 2</think>4"},
    {"id": 2, "target": "6", "prediction": "six?</think>6", "reasoning": "Hm."},
    {"id": 3, "target": "8", "prediction": "<think>no end", "finish_reason": "length"},
    {"id": 4, "target": "10", "prediction": "10", "finish_reason": "stop"},
    {"id": 5, "target": "12", "prediction": None},
]


def _written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        write_rows(path, rows)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("stream", [False, True])
def test_recorded_reasoning_is_taken_out_where_that_is_said(tmp_path: Path, kind: str, stream: bool) -> None:
    old = _written(tmp_path / f"old.{kind}", [{**row, "prediction": row["target"]} for row in ROWS])
    new = _written(tmp_path / f"new.{kind}", ROWS)
    plain = compatcheck.diff(old, new, stream=stream)
    assert plain.comparisons[0].quadrants["negative_flip"] == 4
    assert [note for note in plain.notes if "--reasoning strip keeps it apart" in note and "new." in note]
    kept = compatcheck.diff(old, new, reasoning="keep", stream=stream)
    assert not [note for note in kept.notes if "--reasoning strip" in note]
    (only,) = compatcheck.diff(old, new, reasoning="strip", stream=stream).comparisons
    assert (only.quadrants["both_correct"], only.quadrants["negative_flip"]) == (3, 2)
    assert (only.pairing.thinking_new, only.pairing.no_answer_new) == (1, 2)
    rows = only.instances.sort_values("doc_id")
    assert rows["prediction_new"].fillna("∅").tolist() == ["4", "6", "∅", "10", "∅"]
    assert rows["reasoning_new"].fillna("∅").tolist() == ["2 + 2", "Hm.\n\nsix?", "no end", "∅", "∅"]
    assert "reasoning:strip" in only.signature


def test_extract_sees_the_text_without_its_reasoning(tmp_path: Path) -> None:
    row = {"id": 1, "target": "4", "prediction": "The answer: 4\n<think>or is the answer: 5?</think>"}
    file, other = (
        _written(tmp_path / "a.jsonl", [row]),
        _written(tmp_path / "b.jsonl", [{**row, "prediction": "answer: 4"}]),
    )
    both = compatcheck.diff(other, file, extract=r"answer: (\d)", reasoning="strip")
    assert both.comparisons[0].quadrants["both_correct"] == 1
    assert compatcheck.diff(other, file, extract=r"answer: (\d)").comparisons[0].quadrants["negative_flip"] == 1
