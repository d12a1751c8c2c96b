"""Damaged outputs of every tool: one clear line or the right count, never a traceback, never rows that vanish."""

from __future__ import annotations

import copy
import gzip
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compatcheck.compare import compare
from compatcheck.errors import InputError
from compatcheck.readers import Layout, load_recorded
from compatcheck.records import TaskRun
from tests.readers.cases import BY_NAME, CASES, PLAIN, Case, NoColumn, Rows, csv_file, drop, helm_folder, put
from tests.readers.foreign_samples import inspect_log, lighteval_tree

every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
with_ids = pytest.mark.parametrize("case", [case for case in CASES if case.identity], ids=lambda case: case.name)


def refused(case: Case, folder: Path, value: Any) -> str:
    with pytest.raises(InputError) as caught:
        case.load(folder, value)
    text = str(caught.value)
    assert "\n" not in text and str(folder) in text, text
    return text


def count(runs: list[TaskRun]) -> int:
    return sum(len(run.records) + run.duplicates for run in runs)


def mine(case: Case, value: Any) -> Rows:
    """The rows that are read: of promptfoo those of one provider."""
    rows = case.rows(value)
    return [row for row in rows if row["provider"]["label"] == "new"] if case.name.startswith("promptfoo") else rows


@with_ids
def test_shuffled_rows_are_the_same_rows(case: Case, tmp_path: Path) -> None:
    value = case.value()
    (before,) = case.load(tmp_path, value)
    random.Random(3).shuffle(case.rows(value))
    (after,) = case.load(tmp_path, value)
    order = ["doc_id"]
    one, other = (run.records.sort_values(order).reset_index(drop=True) for run in (before, after))
    assert one[sorted(one)].astype(str).equals(other[sorted(one)].astype(str))
    assert len(before.records) == len(mine(case, value))


@with_ids
def test_a_row_that_is_there_twice_is_counted(case: Case, tmp_path: Path) -> None:
    value = case.value()
    (before,) = case.load(tmp_path, value)
    case.rows(value).append(copy.deepcopy(mine(case, value)[0]))
    (after,) = case.load(tmp_path, value)
    assert (after.duplicates, before.duplicates) == (1, 0)
    assert after.records["doc_id"].tolist() == before.records["doc_id"].tolist()


@with_ids
def test_a_row_that_is_missing_on_one_side_is_counted(case: Case, tmp_path: Path) -> None:
    value = case.value()
    (whole,) = case.load(tmp_path, value)
    rows = case.rows(value)
    rows.remove(mine(case, value)[0])
    if case.name == "helm":  # two files that must agree
        assert "which was not asked" in refused(case, tmp_path, value)
        del value["stats"][0]
    (shorter,) = case.load(tmp_path, value)
    found = compare(whole, shorter, metric=whole.metrics[0].name).pairing
    assert (found.only_old, found.only_new, found.duplicates, found.target_changed) == (1, 0, 0, 0)
    assert found.paired + found.errors_old == len(whole.records) - 1
    found = compare(shorter, whole, metric=whole.metrics[0].name).pairing
    assert (found.only_old, found.only_new) == (0, 1)


@with_ids
def test_an_id_that_stands_for_two_rows_is_refused(case: Case, tmp_path: Path) -> None:
    value = case.value()
    rows = mine(case, value)
    other = copy.deepcopy(rows[1])
    first: Any = rows[0]
    for part in case.identity.split("."):
        first = first[part]
    put(other, case.identity, first)
    if case.name.startswith(
        "promptfoo"
    ):  # a test is its variables; the number of the test tells repeats from duplicates
        other["vars"], other["testCase"], other["testIdx"] = rows[0]["vars"], rows[0]["testCase"], rows[0]["testIdx"]
    case.rows(value).append(other)
    assert "again" in refused(case, tmp_path, value)


@with_ids
def test_a_row_without_its_id_is_refused(case: Case, tmp_path: Path) -> None:
    if case.name.startswith("promptfoo"):
        pytest.skip("a test of promptfoo is known by its variables")
    value = case.value()
    drop(case.rows(value)[1], case.identity)
    if case.columns:
        assert "`id`" in refused(case, tmp_path, value)  # null in the column
    else:
        assert f"no field `{case.identity.split('.')[-1]}`" in refused(case, tmp_path, value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "good", [1], None])
@pytest.mark.parametrize("name", [case.name for case in CASES if case.score])
def test_a_score_that_is_none(name: str, bad: Any, tmp_path: Path) -> None:
    case = BY_NAME[name]
    value = case.value()
    put(mine(case, value)[0], case.score, bad)
    if case.columns and not isinstance(bad, float | None):
        return  # a column of numbers holds no texts
    nan = isinstance(bad, float) and bad != bad
    if (name, bad) == ("annotations", None) or (name.startswith("inspect") and nan):
        (run,) = case.load(tmp_path, value)  # these tools' own mark of what was not scored
        assert run.records["error"].notna().sum() == 1
        assert count([run]) == len(mine(case, value))
        return
    if bad is None and name in ("langsmith", "braintrust"):  # their mark of what a scorer left out
        (run,) = case.load(tmp_path, value)
        assert [f"score:{metric.name}" for metric in run.metrics] == [name for name in run.records if "score:" in name]
        assert "is scored in 3 of 4 rows; the others are errors" in run.notes[-1]
        assert run.records["error"].notna().sum() == 1
        return
    text = refused(case, tmp_path, value)
    assert "score" in text or "preference" in text or "mean" in text or "exact" in text


@every
def test_every_field_missing_or_of_a_wrong_type(case: Case, tmp_path: Path) -> None:
    """Each field of the second row in turn: read with nothing lost, or one line."""
    whole = case.value()
    paths = list(_paths(mine(case, whole)[1]))
    assert len(paths) >= 3
    number = len(mine(case, whole))
    for path in paths:
        for change in ("drop", None, "x", 7, True, [], {}, [{}], float("nan")):
            value = case.value()
            row = mine(case, value)[1]
            if change == "drop":
                drop(row, path)
            else:
                put(row, path, change)
            _survives(
                case,
                tmp_path,
                value,
                {number} if not path.startswith(("provider", "parentObservationId")) else {number, number - 1},
            )


def _paths(value: Any, before: str = "", depth: int = 4) -> Iterator[str]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield f"{before}{key}"
        if depth > 1:
            yield from _paths(inner, f"{before}{key}.", depth - 1)


def _survives(case: Case, folder: Path, value: Any, numbers: set[int]) -> None:
    try:
        runs = case.load(folder, value)
    except InputError as error:
        assert "\n" not in str(error) and str(folder) in str(error), error
        return
    except NoColumn:
        return
    assert count(runs) in numbers, [run.records for run in runs]


@every
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_anything_anywhere(case: Case, data: st.DataObject) -> None:
    """Random changes in the whole value: one line, or rows; whatever else is a bug."""
    value = case.value()
    for _ in range(data.draw(st.integers(1, 3))):
        paths = list(_paths(value, depth=7))
        path = data.draw(st.sampled_from(paths)) if paths else ""
        odd = st.sampled_from(
            [None, "", "x", 0, -1, 1e400, float("nan"), True, [], {}, [[]], [None], {"": 1}, "\ud800"]
        )
        change = data.draw(st.one_of(st.just("drop"), odd))
        if path:
            drop(value, path) if change == "drop" else put(value, path, change)
    with tempfile.TemporaryDirectory() as name:
        try:
            runs = case.load(Path(name), value)
        except InputError as error:
            assert "\n" not in str(error), error
        except NoColumn:
            pass
        else:
            assert all(len(run.records) for run in runs)


def _cuts(size: int) -> list[int]:
    chosen = random.Random(7).sample(range(1, size), min(30, size - 1))
    return sorted({0, 1, size // 2, size - 2, size - 1, *chosen} & set(range(size)))


_OWN = ("langsmith", "deepeval", "opencompass")


def _whole_files(folder: Path) -> Iterator[tuple[str, Path, Path, Layout]]:
    """Name, what is read, the file in it that is cut, and the layout; files that are whole or nothing."""
    for name in ("json", "inspect", "promptfoo", "helm-stats", "alpaca", "annotations", "lighteval", *_OWN):
        case = BY_NAME[name]
        (folder / name).mkdir()
        path = case.write(folder / name, case.value())
        yield name, path, path, case.layout
    helm = helm_folder(folder, BY_NAME["helm"].value())
    for file in ("scenario_state.json", "per_instance_stats.json"):
        yield file, helm, helm / file, Layout()
    for log in ("old", "new"):
        path = folder / f"{log}.eval"
        shutil.copy(inspect_log(log, "sums"), path)
        yield f"eval-{log}", path, path, Layout()
    path = folder / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in PLAIN).encode()))
    yield "gzip", path, path, Layout()
    pq.write_table(pa.Table.from_pylist(PLAIN), folder / "rows.parquet")
    yield "parquet", folder / "rows.parquet", folder / "rows.parquet", Layout()
    tree = lighteval_tree(folder / "tree", "old")
    yield "lighteval-tree", tree, next(tree.rglob("details_choosing*")), Layout()
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(PLAIN[:2]).save_to_disk(folder / "hf")
    for file in ("state.json", "data-00000-of-00001.arrow"):
        yield f"datasets-{file}", folder / "hf", folder / "hf" / file, Layout()


def test_files_cut_anywhere(tmp_path: Path) -> None:
    for name, read, file, layout in _whole_files(tmp_path):
        whole = file.read_bytes()
        assert count(load_recorded(read, layout=layout)) >= 2, name
        for cut in _cuts(len(whole.rstrip())):
            file.write_bytes(whole[:cut])
            with pytest.raises(InputError) as caught:
                load_recorded(read, layout=layout)
            assert "\n" not in str(caught.value) and str(read) in str(caught.value), (name, cut, caught.value)
        file.write_bytes(whole)


@pytest.mark.parametrize("name", ["jsonl", "lm-eval", "helm-lines", "braintrust", "nemo_evaluator"])
def test_lines_cut_anywhere(name: str, tmp_path: Path) -> None:
    """Between two lines a cut file is a shorter file; anywhere else it is refused."""
    case = BY_NAME[name]
    path = case.write(tmp_path, case.value())
    whole = path.read_bytes()
    for cut in _cuts(len(whole) - 1):
        path.write_bytes(whole[:cut])
        try:
            runs = load_recorded(path)
        except InputError as error:
            assert "\n" not in str(error) and str(path) in str(error)
        else:
            complete = whole[:cut].splitlines()
            assert all(json.loads(line) for line in complete)
            assert count(runs) == len(complete)


def test_bytes_that_are_wrong(tmp_path: Path) -> None:
    """One byte changed: what can be checked is refused, the rest is read; never anything else."""
    source = random.Random(11)
    for name, read, file, layout in _whole_files(tmp_path):
        whole = file.read_bytes()
        for _ in range(12):
            damaged = bytearray(whole)
            damaged[source.randrange(len(whole))] ^= 1 << source.randrange(8)
            file.write_bytes(bytes(damaged))
            try:
                load_recorded(read, layout=layout)
            except InputError as error:
                assert "\n" not in str(error), (name, error)
        file.write_bytes(whole)


@every
def test_empty_files(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path, case.value())
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        whole = file.read_bytes()
        file.write_bytes(b"")
        with pytest.raises(InputError) as caught:
            load_recorded(path, layout=case.layout)
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)
        file.write_bytes(whole)


def test_csv_cells(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "target": "1", "prediction": "1", "score": "1"},
        {"id": "b", "target": "2", "prediction": "", "score": "0"},
    ]
    (run,) = load_recorded(csv_file(tmp_path, rows))
    assert run.records["prediction"].isna().tolist() == [False, True]
    for bad in ("NaN", "inf", "good"):
        with pytest.raises(InputError, match=r"rows\.csv:3: `score`"):
            load_recorded(csv_file(tmp_path, [rows[0], rows[1] | {"score": bad}]))
    (run,) = load_recorded(csv_file(tmp_path, [*rows, rows[0]]))
    assert (len(run.records), run.duplicates) == (2, 1)
    with pytest.raises(InputError, match="again"):
        load_recorded(csv_file(tmp_path, [*rows, rows[0] | {"prediction": "2"}]))
