from __future__ import annotations

from pathlib import Path

import pytest

import compatcheck
from compatcheck.errors import InputError
from tests.factories import write_rows


def samples(folder: Path, right: int) -> Path:
    """lm-eval's logged samples of a generated task with one metric per document and one over the corpus."""
    rows = [
        {
            "doc_id": i, "doc": {"question": f"q{i}"}, "target": "yes", "filter": "none",
            "metrics": ["exact_match", "f1"], "arguments": {"gen_args_0": {"arg_0": f"q{i}", "arg_1": {}}},
            "resps": [["yes" if i < right else "no"]],
            "filtered_resps": ["yes" if i < right else "no"], "doc_hash": f"{i:064x}", "target_hash": "0" * 64,
            "exact_match": float(i < right), "f1": [1, int(i < right)],
        }
        for i in range(10)
    ]  # fmt: skip
    folder.mkdir()
    return write_rows(folder / "samples_mine.jsonl", rows)


def test_a_metric_without_a_score_per_document_is_said_not_skipped(tmp_path: Path) -> None:
    old, new = samples(tmp_path / "old", 6), samples(tmp_path / "new", 8)
    c = compatcheck.diff(old, new)
    assert [one.metric for one in c.comparisons] == ["exact_match"]
    assert c.only.quadrants["positive_flip"] == 2
    assert any("f1 gives no score per document and is not compared" in note for note in c.notes)
    assert not any("f1" in note for note in compatcheck.diff(old, new, metric="exact_match").notes)


def test_a_random_sample_of_recorded_outputs_is_refused(tmp_path: Path) -> None:
    old = samples(tmp_path / "old", 6)
    with pytest.raises(InputError, match="--sample does not apply to recorded outputs"):
        compatcheck.diff(old, old, sample=3, allow_same=True)
    assert compatcheck.diff(old, old, limit=3, allow_same=True).only.n == 3
