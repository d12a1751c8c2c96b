"""A streamed comparison says what one in memory says, to the last digit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compatcheck.compare import compare, comparison, parts
from compatcheck.compare.comparison import compare_stored
from compatcheck.compare.result import Comparison
from compatcheck.compare.settings import Settings
from compatcheck.compare.slices import text_of
from compatcheck.errors import InputError
from compatcheck.readers import Layout, load_recorded
from compatcheck.readers.large import load_large
from compatcheck.records import Metric, TaskRun
from compatcheck.scratch import Scratch
from compatcheck.table import reading, stored

TEXTS = st.sampled_from(["4", "5", " 4", "1,234", "1234", "the cat sat", "a cat sat down", ""])
SCHEMA = pa.schema(
    {
        "id": pa.string(), "input": pa.string(), "target": pa.string(), "prediction": pa.string(),
        "error": pa.string(), "doc_hash": pa.string(), "target_hash": pa.string(), "task": pa.string(),
        "filter": pa.string(), "score": pa.float64(), "score:own": pa.float64(), "topic": pa.string(),
        "length": pa.int64(), "weight": pa.float64(), "hard": pa.bool_(), "doc_id": pa.int64(),
    }
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is cut is cut often."""
    monkeypatch.setattr(reading, "CHUNK_ROWS", 3)
    monkeypatch.setattr(stored, "BUFFER_ROWS", 4)
    monkeypatch.setattr(parts, "PART_ROWS", 2)
    monkeypatch.setattr(parts, "PART_BYTES", 1_000)


def rows(kind: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows of one side: ids in any order, gaps, errors, changed targets, numbers with and without gaps."""
    own = st.floats(-2, 2).map(lambda x: round(x, 3)) if kind == "smooth" else st.sampled_from([0.0, 1.0])
    target = st.one_of(st.just("4"), st.just("4"), TEXTS)
    row = st.fixed_dictionaries(
        {
            "input": st.sampled_from([None, "one?", "two?"]),
            "target": st.one_of(target, target, target, st.none()) if kind != "computed" else target,
            "prediction": st.one_of(st.none(), TEXTS),
            "error": st.sampled_from([None, None, None, "", "timeout"]),
            "doc_hash": st.sampled_from(["a", "a", None, "input:b"]),
            "target_hash": st.sampled_from([None, "t", "t", "u"]),
            "score": own,
            "score:own": own,
            "topic": st.sampled_from([None, "x", "y", "10 %"]),
            "length": st.one_of(st.none(), st.integers(0, 30)),
            "weight": st.sampled_from([None, 0.5, 1.5, float("nan")]),
            "hard": st.sampled_from([None, True, False]),
            "doc_id": st.integers(0, 3),
        }
    )

    def numbered(made: list[dict[str, Any]], order: list[int], repeats: list[int]) -> list[dict[str, Any]]:
        named = [{"id": f"d{order[place]}", **each} for place, each in enumerate(made)]
        for repeat in repeats:
            named.append(dict(named[repeat % len(named)]))
        return named

    return st.integers(1, 12).flatmap(
        lambda size: st.builds(
            numbered,
            st.lists(row, min_size=size, max_size=size),
            st.permutations(range(14)).map(lambda order: order[:size]),
            st.lists(st.integers(0, 50), max_size=3),
        )
    )


def written(made: list[dict[str, Any]], path: Path, columns: list[str]) -> Path:
    table = pa.Table.from_pylist(made, schema=SCHEMA).select(["id", *columns])
    pq.write_table(table, path)
    return path


def both_ways(
    old: Path, new: Path, folder: Path, *, metrics: tuple[str, ...], slice_by: tuple[str, ...] = (), **options: Any
) -> tuple[list[Comparison] | str, list[Comparison] | str, pd.DataFrame | None]:
    """The comparisons in memory, and streamed; or the error of either as text."""
    wanted = Settings(slice_by=slice_by, seed=3, resamples=120, **options)

    def in_memory() -> list[Comparison]:
        sides = [load_recorded(path, metrics=metrics, side=side) for path, side in ((old, "old"), (new, "new"))]
        return [
            compare(
                one, other, metric=shared(metric, other.metrics), slice_by=slice_by, seed=3, resamples=120, **options
            )
            for one in sides[0]
            for other in sides[1]
            if (one.task, one.filter) == (other.task, other.filter)
            for metric in one.metrics
        ]

    found: pd.DataFrame | None = None

    def streamed() -> list[Comparison]:
        nonlocal found
        scratch = Scratch(folder)
        try:
            sides = [
                load_large(path, scratch, layout=Layout(), metrics=metrics, side=side)
                for path, side in ((old, "old"), (new, "new"))
            ]
            jobs = [
                (one, other, [shared(metric, other.metrics) for metric in one.metrics])
                for one in sides[0]
                for other in sides[1]
                if (one.task, one.filter) == (other.task, other.filter)
            ]
            comparisons, file = compare_stored(jobs, wanted, scratch)
            found = pd.read_parquet(file.path)
        finally:
            scratch.close()
        return comparisons

    results = []
    for way in (in_memory, streamed):
        try:
            results.append(way())
        except InputError as error:
            results.append(str(error))
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")], "temporary files are gone"
    return results[0], results[1], found


def shared(metric: Metric, others: tuple[Metric, ...]) -> Metric:
    other = next(each for each in others if each.name == metric.name)
    return metric if other.kind == "discrete" else other


def plain(instances: pd.DataFrame) -> list[dict[str, Any]]:
    """Values as they read, whatever type the column has."""

    def value(one: Any) -> Any:
        if one is None or one is pd.NA or one != one:
            return None
        return float(one) if isinstance(one, int | float) and not isinstance(one, bool) else text_of(one)

    return [{str(name): value(one) for name, one in row.items()} for row in instances.to_dict("records")]


def assert_same(memory: Any, streamed: Any, stored: pd.DataFrame | None) -> None:
    if isinstance(memory, str) or isinstance(streamed, str):
        assert streamed == memory
        return
    assert streamed == [replaced(one, other) for one, other in zip(memory, streamed, strict=True)]
    assert stored is not None
    for one, other in zip(memory, streamed, strict=True):
        whole = plain(one.instances)
        assert plain(other.instances) == whole
        assert other.rows == len(whole)
        mine = (stored["task"] == one.task) & (stored["filter"] == one.filter) & (stored["metric"] == one.metric)
        assert plain(stored[mine][list(one.instances.columns)]) == whole


def replaced(memory: Comparison, streamed: Comparison) -> Comparison:
    """The comparison in memory with what only a streamed one has."""
    return replace(memory, overview=streamed.overview)


COLUMNS = ["input", "target", "prediction", "error", "doc_hash", "target_hash", "topic", "length", "weight", "hard"]


@pytest.mark.parametrize("kind", ["discrete", "smooth", "computed"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_streamed_is_what_memory_says(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    old, new = data.draw(rows(kind), "old"), data.draw(rows(kind), "new")
    columns = [name for name in COLUMNS if data.draw(st.integers(0, 5), name) or name in ("target", "prediction")]
    scores = [] if kind == "computed" else ["score", "score:own"]
    slices = tuple(name for name in ("topic", "length", "weight", "hard", "target") if name in columns)
    other = [
        name for name in columns if data.draw(st.integers(0, 9), f"new {name}") or name in ("target", "prediction")
    ]
    paths = (
        written(old, tmp_path / "old.parquet", [*columns, *scores, "doc_id"]),
        written(new, tmp_path / "new.parquet", [*other, *scores]),
    )
    metrics = ("exact_match", "rouge1") if kind == "computed" else ("score", "own")
    options: dict[str, Any] = {}
    if kind == "smooth":
        options = {
            "epsilon": data.draw(st.sampled_from([0.0, 0.25])),
            "correct_at": data.draw(st.sampled_from([None, 0.5])),
        }
    assert_same(*both_ways(*paths, tmp_path, metrics=metrics, slice_by=slices, **options))


def test_a_judge_agrees_with_itself_as_often(tmp_path: Path) -> None:
    """NEW's verdicts are its own, though OLD's are complete."""
    runs = []
    for agreed in ([1, 1, 0, 1], [0, 1, 0, None]):
        judged = {"doc_id": list("abcd"), "prediction": list("wxyz"), "agreed:judge": pd.Series(agreed, dtype=float)}
        records = pd.DataFrame(judged | {"score:judge": [1.0, 0.0, 1.0, 1.0]})
        runs.append(TaskRun("t", "none", (Metric("judge", "discrete"),), records))
    memory = compare(*runs, metric="judge", seed=3)
    scratch = Scratch(tmp_path)
    on_disk = [stored.stored([run], scratch) for run in runs]
    (streamed,), _ = compare_stored([(*on_disk, runs[0].metrics)], Settings(seed=3), scratch)
    scratch.close()
    assert streamed.metrics == memory.metrics
    assert (streamed.metrics["self_agreement_old"].count, streamed.metrics["self_agreement_new"].of) == (3, 3)


def row(number: int, **other: Any) -> dict[str, Any]:
    return {"id": f"d{number}", "target": "4", "prediction": "4" if number % 3 else "5", **other}


def test_tasks_and_filters_of_one_file_are_kept_apart(tmp_path: Path) -> None:
    made = [row(n, task=("a", "b", None)[n % 3], filter=("strict", None)[n % 2], topic="xyz"[n % 3]) for n in range(30)]
    old = written(made, tmp_path / "old.parquet", ["target", "prediction", "task", "filter", "topic"])
    new = written(made[::-1], tmp_path / "new.parquet", ["target", "prediction", "task", "filter"])
    memory, streamed, stored = both_ways(old, new, tmp_path, metrics=(), slice_by=("topic", "auto"))
    assert isinstance(streamed, list)
    assert [one.name for one in streamed] == [
        "a/strict/exact_match", "a/exact_match", "b/exact_match", "b/strict/exact_match",
        "recorded/strict/exact_match", "recorded/exact_match",
    ]  # fmt: skip
    assert_same(memory, streamed, stored)


def test_kinds_of_failure_are_those_of_all_pairs_and_of_no_other_row(tmp_path: Path) -> None:
    """The first parts hold no answer at all, and only rows without a partner make the targets many."""
    colours = ("red", "blue")
    made = [row(n, target=colours[n % 2], score=1.0, prediction=colours[n % 2] if n > 5 else None) for n in range(12)]
    worse = [one | {"score": 0.0, "prediction": colours[1 - n % 2] if n > 5 else None} for n, one in enumerate(made)]
    lonely = [row(n, target=f"t{n}", score=1.0) for n in range(12, 40)]
    old = written([*lonely, *made], tmp_path / "old.parquet", ["target", "prediction", "score"])
    new = written(worse, tmp_path / "new.parquet", ["target", "prediction", "score"])
    memory, streamed, stored = both_ways(old, new, tmp_path, metrics=("score",))
    assert isinstance(streamed, list)
    assert {one.kind: one.count for one in streamed[0].kinds or ()} == {"choice": 6}
    assert_same(memory, streamed, stored)


@pytest.mark.parametrize("end", ["jsonl", "csv", "json"])
def test_other_files_are_streamed_too(end: str, tmp_path: Path) -> None:
    made = [row(n, topic="x" if n % 2 else None, level=n if n < 5 else n / 2) for n in range(12)]
    made[3]["meta"] = {"source": "web"}
    paths = []
    for name, each in (("old", made), ("new", made[::-1])):
        paths.append(tmp_path / f"{name}.{end}")
        frame = pd.DataFrame(each)
        if end == "csv":
            frame.drop(columns="meta").to_csv(paths[-1], index=False)
        else:
            text = [json.dumps(one) for one in each]
            paths[-1].write_text("\n".join(text) if end == "jsonl" else f"[{','.join(text)}]")
    assert_same(*both_ways(*paths, tmp_path, metrics=("exact_match", "rouge1"), slice_by=("topic", "level")))


def test_rows_with_nested_fields_and_several_references(tmp_path: Path) -> None:
    made = [row(n) | {"target": ["4", "four"], "meta": {"level": n % 3, "tags": [1]}} for n in range(9)]
    paths = [tmp_path / f"{name}.parquet" for name in ("old", "new")]
    pq.write_table(pa.Table.from_pylist(made), paths[0])
    pq.write_table(pa.Table.from_pylist([one | {"prediction": "four"} for one in made]), paths[1])
    memory, streamed, stored = both_ways(*paths, tmp_path, metrics=(), slice_by=("meta.level",))
    assert_same(memory, streamed, stored)
    assert isinstance(streamed, list)
    assert streamed[0].quadrants["positive_flip"] == 3


def test_data_that_was_numbered_anew_is_paired_by_content(tmp_path: Path) -> None:
    made = [row(n, doc_hash=f"h{n}", target_hash=f"t{n}") for n in range(11)]
    moved = [one | {"id": f"d{(n + 1) % 11}", "prediction": "4"} for n, one in enumerate(made)]
    paths = (
        written(made, tmp_path / "old.parquet", ["target", "prediction", "doc_hash", "target_hash"]),
        written(moved[::-1][1:], tmp_path / "new.parquet", ["target", "prediction", "doc_hash", "target_hash"]),
    )
    memory, streamed, stored = both_ways(*paths, tmp_path, metrics=())
    assert_same(memory, streamed, stored)
    assert isinstance(streamed, list)
    pairing = streamed[0].pairing
    assert (pairing.key, pairing.paired, pairing.only_old) == ("content hash", 10, 1)


@pytest.mark.parametrize(
    "columns",
    [["prediction"], ["target"], ["target", "prediction", "score"]],
)
def test_bad_rows_are_refused_in_the_same_words(columns: list[str], tmp_path: Path) -> None:
    made = [row(n, score=1.0 if n != 4 else float("nan")) for n in range(6)]
    paths = [written(made, tmp_path / f"{name}.parquet", columns) for name in ("old", "new")]
    memory, streamed, _ = both_ways(*paths, tmp_path, metrics=())
    assert isinstance(memory, str)
    assert streamed == memory


def test_one_id_with_two_contents_is_refused_with_its_place(tmp_path: Path) -> None:
    made = [row(n) for n in range(9)] + [row(2) | {"prediction": "other"}]
    path = written(made, tmp_path / "old.parquet", ["target", "prediction"])
    memory, streamed, _ = both_ways(path, path, tmp_path, metrics=())
    assert streamed == memory
    assert "row 10: the id 'd2' again, with another `prediction` than in row 3" in str(streamed)


def test_a_field_with_too_many_values_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "MOST_VALUES", 5)
    path = written(
        [row(n, topic=f"t{n}") for n in range(9)], tmp_path / "old.parquet", ["target", "prediction", "topic"]
    )
    _, streamed, _ = both_ways(path, path, tmp_path, metrics=(), slice_by=("topic",))
    assert str(streamed).startswith("--slice-by topic: it has more than 5 different values")


def test_a_full_disk_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written([row(n) for n in range(9)], tmp_path / "old.parquet", ["target", "prediction"])
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    _, streamed, _ = both_ways(path, path, tmp_path, metrics=())
    assert re.search(r"needs about 0\.0 GB of disk and 0\.0 GB are free; make room, or name", str(streamed))


def test_the_first_documents_of_a_stream(tmp_path: Path) -> None:
    made = [row(n, score=0.5 if n > 5 else 1.0) for n in [0, 0, 1, 2, 3, 4, 5, 6, 7]]
    path = written(made, tmp_path / "old.parquet", ["target", "prediction", "score"])
    scratch = Scratch(tmp_path)
    (memory,) = load_recorded(path, limit=5)
    (streamed,) = load_large(path, scratch, layout=Layout(), limit=5)
    names = [*streamed.kinds, "score:score"]
    records = pd.concat(streamed.table.read(names), ignore_index=True)
    assert plain(records) == plain(memory.records[names])
    assert (streamed.rows, streamed.duplicates, streamed.metrics) == (5, 1, memory.metrics)
    assert memory.metrics[0].kind == "discrete", "the scores that are none lie beyond the limit"
