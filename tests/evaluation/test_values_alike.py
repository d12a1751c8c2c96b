"""One value is the same in every format, as a number or a boolean and as a text: equal answers are equal and right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compatcheck
from compatcheck.api import noise
from compatcheck.errors import InputError
from compatcheck.text import value_text
from tests.factories import write_rows

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])


def write(path: Path, values: Sequence[tuple[Any, Any]]) -> Path:
    """Rows of these targets and answers."""
    rows = [{"id": f"r{n}", "target": target, "prediction": said} for n, (target, said) in enumerate(values)]
    frame = pd.DataFrame(rows)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".xlsx":
        frame.to_excel(path, index=False)
    else:
        write_rows(path, rows)
    return path


def diff(folder: Path, old: tuple[str, Any, Any], new: tuple[str, Any, Any], **options: Any) -> Any:
    """Twenty rows whose answers are right, and a last one whose answer is wrong on both sides."""
    paths = []
    for name, (kind, target, said) in (("old", old), ("new", new)):
        wrong = {bool: lambda value: not value, str: lambda _: "77"}.get(type(said), lambda _: 77)
        paths.append(write(folder / f"{name}.{kind}", [*[(target, said)] * 20, (target, wrong(said))]))
    return compatcheck.diff(*paths, **options).only


NUMBERS = [
    ("jsonl", 5.0, "5"), ("jsonl", 5.0, "5.0"), ("jsonl", 5, 5.0), ("jsonl", "5", 5.0), ("parquet", 5.0, 5.0),
    ("parquet", 5, "5.0"), ("csv", 5.0, 5.0), ("csv", 5, 5.0), ("xlsx", 5.0, 5.0), ("xlsx", "5.0", 5.0),
]  # fmt: skip
TEXTS = [("jsonl", "5.0", "5"), ("parquet", "5.0", "5.0"), ("jsonl", "5", "5.0")]
PAIRS = [(one, TEXTS[n % 3], False, n % 2 == 0) for n, one in enumerate(NUMBERS)]
PAIRS += [(one, other, True, n == 0) for n, one in enumerate(NUMBERS[:3]) for other in TEXTS]


@pytest.mark.parametrize(("one", "other", "turned", "stream"), PAIRS, ids=str)
def test_a_number_is_the_text_of_it(
    one: tuple[str, Any, Any], other: tuple[str, Any, Any], turned: bool, stream: bool, tmp_path: Path
) -> None:
    """``5`` was right where the file has the number 5.0, and wrong where it has its text: all of them flipped."""
    found = diff(tmp_path, *((other, one) if turned else (one, other)), stream=stream)
    assert found.quadrants == {"both_correct": 20, "positive_flip": 0, "negative_flip": 0, "both_wrong": 1}
    assert (found.metrics["agreement"].count, found.pairing.target_changed) == (21, 0)


@STREAM
@pytest.mark.parametrize("one", [("jsonl", True, True), ("parquet", True, "True"), ("xlsx", True, True)], ids=str)
@pytest.mark.parametrize(
    "other",
    [("jsonl", "True", "True"), ("jsonl", "true", "TRUE"), ("csv", True, True), ("csv", "TRUE", "true")],
    ids=str,
)
def test_a_boolean_is_the_text_of_it(
    one: tuple[str, Any, Any], other: tuple[str, Any, Any], stream: bool, tmp_path: Path
) -> None:
    paths = [write(tmp_path / f"{name}.{kind}", [(target, said)] * 20) for name, (kind, target, said) in
             (("old", one), ("new", other))]  # fmt: skip
    found = compatcheck.diff(*paths, stream=stream).only
    assert found.quadrants == {"both_correct": 20, "positive_flip": 0, "negative_flip": 0, "both_wrong": 0}
    assert found.metrics["agreement"].count == 20


@STREAM
@pytest.mark.parametrize("other", [("csv", "−5", "−5"), ("jsonl", "−5", "-5.0")], ids=str)
def test_a_typographic_minus_is_a_minus(other: tuple[str, Any, Any], stream: bool, tmp_path: Path) -> None:
    found = diff(tmp_path, ("jsonl", -5.0, "-5"), other, stream=stream)
    assert (found.quadrants["both_correct"], found.metrics["agreement"].count) == (20, 21)


@STREAM
@pytest.mark.parametrize("spelled", ["5.0", "5.00", "5e0"])
def test_numbers_that_are_texts_in_both_files(spelled: str, stream: bool, tmp_path: Path) -> None:
    """Each side was scored by its own spelling: the same answer was wrong in OLD and right in NEW."""
    found = diff(tmp_path, ("jsonl", spelled, "5"), ("jsonl", "5", "5"), stream=stream)
    assert found.quadrants["both_correct"] == 20


@STREAM
@pytest.mark.parametrize(
    ("one", "other"),
    [("05", "5"), (str(2**53), str(2**53 + 1)), (2**53, str(2**53 + 1)), (5, "05"), ("1e3", "1.0e4"), (True, "1")],
)
def test_targets_that_differ_stay_different(one: Any, other: Any, stream: bool, tmp_path: Path) -> None:
    same = ("7", "7") if isinstance(one, str) else (7, "7") if not isinstance(one, bool) else (False, "false")
    paths = [write(tmp_path / f"{name}.jsonl", [(value, "a"), (value, "b"), (extra, "c")]) for name, value, extra in
             (("old", one, same[0]), ("new", other, same[1]))]  # fmt: skip
    assert compatcheck.diff(*paths, stream=stream).only.pairing.target_changed == 2


@STREAM
def test_a_kept_run_says_whether_its_values_were_typed(stream: bool, tmp_path: Path) -> None:
    """Against a kept run of numbers, or a baseline, all texts of the same numbers flipped."""
    paths = [write(tmp_path / f"{name}.jsonl", [("5.00", said)] * 20) for name, said in (("old", 5.0), ("new", "5.0"))]
    kept = compatcheck.evaluate(paths[0]).save(tmp_path / "kept")
    assert compatcheck.diff(kept, paths[1], stream=stream).only.quadrants["both_correct"] == 20
    texts = [write(tmp_path / f"{n}.jsonl", [("1.10", "1.1"), ("9", n)]) for n in (7, 8)]
    kept = compatcheck.evaluate(texts[0]).save(tmp_path / "mixed")
    assert compatcheck.diff(kept, texts[1], stream=stream).only.quadrants["both_wrong"] == 2


def test_reruns_are_read_as_their_model_is(tmp_path: Path) -> None:
    """OLD was read by value as NEW's file has numbers, and its reruns as texts: all of it was noise."""
    said = {"old": "5.0", "again": "5.0", "new": 5.0}
    paths = {name: write(tmp_path / f"{name}.jsonl", [("5.00", one)] * 20) for name, one in said.items()}
    other = write(tmp_path / "other.jsonl", [("5.00", "7")] * 20)
    write(paths["again"], [("5.00", "5.0")] * 19 + [("5.00", "6")])
    found = compatcheck.diff(paths["old"], paths["new"], noise_run=[paths["again"]]).only
    assert found.noise.metrics["nfr"].count == 1
    several = compatcheck.diff(paths["old"], [paths["new"], other], noise_run=[paths["again"]])
    assert [one.comparisons[0].noise.metrics["nfr"].count for one in several.results] == [1, 1]
    (measured,) = noise([paths["old"], paths["new"]]).measured
    assert measured.floor.metrics["flips"].count == 0


@STREAM
@pytest.mark.parametrize("metric", ["exact_match", "rouge1"])
def test_numbers_in_lists_of_targets_are_the_texts_of_them(metric: str, stream: bool, tmp_path: Path) -> None:
    """An answer was right by the list of numbers, wrong by that of their texts; and the lists were other targets."""
    old, new = ("jsonl", [5, 6], 5.0), ("jsonl", ["5.0", "6"], "5.00")
    for one, other in ((old, new), (new, old)):
        found = diff(tmp_path, one, other, stream=stream, metric=metric)
        assert (found.pairing.target_changed, found.metrics["agreement"].count) == (0, 21)
        assert found.quadrants["negative_flip"] == found.quadrants["positive_flip"] == 0
        right = "both_correct" if metric == "exact_match" else "unchanged"
        assert found.quadrants[right] == (20 if metric == "exact_match" else 21)


@STREAM
def test_texts_that_are_no_numbers_stay_as_they_are(stream: bool, tmp_path: Path) -> None:
    """Where both files have texts, ``5.0`` is no ``5``: numbers are compared as they are written."""
    found = diff(tmp_path, ("jsonl", "5", "5.0"), ("jsonl", "5", "5"), stream=stream)
    assert found.quadrants["positive_flip"] == 20
    found = diff(tmp_path, ("csv", "05", "05"), ("jsonl", "05", "5"), stream=stream)
    assert found.quadrants["negative_flip"] == 20


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", "5"), ("5.0", "5"), ("-5.00", "-5"), ("5e0", "5"), ("1.50e3", "1500"), ("-0.0", "0"), ("0.10", "0.1"),
        ("1e-3", "0.001"), (" 5.0\n", "5"), ("9007199254740993.0", "9007199254740993"), ("1e99", "1e99"),
        ("10e98", "1e99"), ("0.1e-98", "1e-99"), ("True", "true"), ("FALSE", "false"), ("−5.0", "-5"),
        *((text, text) for text in ("05", "+5", "5.", ".5", "1,234", "1e9999999999", "five", "", "nan", "٥", "yes")),
    ],
)  # fmt: skip
def test_the_one_spelling_of_a_value(text: str, value: str) -> None:
    assert value_text(text) == value


def test_a_number_is_the_text_of_it_where_answers_are_taken_out(tmp_path: Path) -> None:
    """The hashes of the whole targets were another, so that the files were refused as other data."""
    found = diff(tmp_path, ("jsonl", 5.0, "A: 5.0"), ("jsonl", "5.0", "A: 5"), extract="A: ([0-9.]+)|77")
    assert (found.quadrants["both_correct"], found.pairing.paired) == (20, 21)


def test_the_whole_answer_is_kept(tmp_path: Path) -> None:
    found = diff(tmp_path, ("jsonl", 5.0, 5.0), ("jsonl", "5.0", "5.00"))
    row = found.instances.iloc[0]
    assert (row["prediction_old"], row["prediction_new"], row["target"]) == ("5", "5", "5")
    assert row["response_new"] == "5.00"


def test_recorded_scores_are_left_alone(tmp_path: Path) -> None:
    for name, target in (("old", 5.0), ("new", "5.0")):
        rows = [{"id": n, "target": target, "prediction": "5", "score": n % 2} for n in range(10)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    found = compatcheck.diff(tmp_path / "old.jsonl", tmp_path / "new.jsonl").only
    assert found.metrics["accuracy_new"].count == 5


def test_all_targets_that_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="recorded for different data"):
        diff(tmp_path, ("jsonl", "05", "5"), ("jsonl", "5", "5"))
