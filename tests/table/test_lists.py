"""Several right texts count the same in every format, in a kept run, on disk, and with any limit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

import compatcheck
from tests.factories import write_rows

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])
PARIS, ROME = ["Paris", "City of Light"], ["Rome"]


def write(path: Path, lists: int, texts: int, said: str = "Light") -> Path:
    """The file of so many targets that are two texts and so many that are one, of which lists come last."""
    typed = path.suffix == ".jsonl" and "texts" not in path.stem
    targets = [ROME] * texts + [PARIS] * lists
    shown = [one if typed else json.dumps(one) if len(one) > 1 else one[0] for one in targets]
    rows = [{"id": n, "target": target, "prediction": said} for n, target in enumerate(shown)]
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
        return path
    return write_rows(path, rows)


def scores(old: Path, new: Path, stream: bool, **more: object) -> Sequence[float]:
    found = compatcheck.diff(old, new, metric="rouge1", stream=stream, allow_same=True, **more).only
    return [round(found.metrics[f"score_{side}"].value, 3) for side in ("old", "new")]


@STREAM
@pytest.mark.parametrize("other", ["kept", "new.csv", "texts.jsonl"])
@pytest.mark.parametrize(("lists", "texts", "right"), [(50, 50, 0.25), (1, 99, 0.005)])
def test_lists_are_lists_in_every_format(
    other: str, lists: int, texts: int, right: float, stream: bool, tmp_path: Path
) -> None:
    """Below 2 % of lists a kept run, or the other file, was scored by the text of each list."""
    old = write(tmp_path / "old.jsonl", lists, texts)
    if other == "kept":
        new = compatcheck.evaluate(old, metric="exact_match").save(tmp_path / "kept")
    else:
        new = write(tmp_path / other, lists, texts)
    assert scores(old, new, stream) == scores(new, old, stream) == [right, right]


@STREAM
def test_one_list_among_texts_is_an_answer_of_its_own(stream: bool, tmp_path: Path) -> None:
    new = write(tmp_path / "texts.jsonl", 1, 99)
    assert scores(write(tmp_path / "old.csv", 1, 99), new, stream) == [0.004, 0.004]


@STREAM
def test_the_whole_file_says_it_not_the_rows_that_are_taken(stream: bool, tmp_path: Path) -> None:
    paths = [write(tmp_path / name, 1, 19) for name in ("old.csv", "texts.jsonl")]
    assert scores(*paths, stream) == [0.025, 0.025]
    paths = [write(tmp_path / name, 60, 5_000) for name in ("old.csv", "texts.jsonl")]  # in chunks: none, and all
    assert scores(*paths, stream) == [0.005, 0.005]
