"""Damaged outputs of every tool: one clear line or the right count, never a traceback, never rows that vanish."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compatcheck.errors import InputError
from compatcheck.records import TaskRun
from compatcheck.runs.importers import Layout, load_recorded
from tests.runs.importers.foreign_samples import (
    ALPACA,
    ANNOTATIONS,
    DATA,
    HELM_STATES,
    HELM_STATS,
    helm_run,
    inspect_log,
    lighteval_tree,
)

Rows = list[dict[str, Any]]
PLAIN = [
    {"id": "a", "target": "1", "prediction": "1", "score": 1.0, "meta": {"level": 1}},
    {"id": "b", "target": "2", "prediction": None, "score": 0.0, "meta": {"level": 2}},
    {"id": "c", "target": "3", "error": "timeout", "meta": {"level": 2}},
]
SAMPLES = [
    {
        "doc_id": n,
        "doc": {"question": f"What is {n} plus {n}?", "level": n},
        "target": str(2 * n),
        "arguments": {"gen_args_0": {"arg_0": f"What is {n} plus {n}?", "arg_1": {"until": ["\n"]}}},
        "resps": [[f"It is {2 * n}"]],
        "filtered_resps": [str(2 * n)],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": f"{n:064d}",
        "prompt_hash": f"{n:064d}",
        "target_hash": f"{n:064d}",
        "exact_match": 1.0,
    }
    for n in range(3)
]


def _gzipped(name: str) -> Any:
    return json.loads(gzip.decompress((DATA / "promptfoo" / name).read_bytes()))


def _inspect_json() -> Any:
    return json.loads(inspect_log("old", "sums-small").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Case:
    """A kind of file: a value with rows in it, how it is written, and where in the value its rows are."""

    name: str
    value: Callable[[], Any]
    write: Callable[[Path, Any], Path]
    rows: Callable[[Any], Rows]
    identity: str
    """Dotted field that says which row is which."""
    score: str = ""
    """Dotted field of a score."""
    layout: Layout = field(default_factory=Layout)

    def load(self, folder: Path, value: Any) -> list[TaskRun]:
        return load_recorded(self.write(folder, value), layout=self.layout)


def _file(name: str) -> Callable[[Path, Any], Path]:
    def write(folder: Path, value: Any) -> Path:
        text = json.dumps(value)
        if ".jsonl" in name:
            text = "".join(json.dumps(row) + "\n" for row in value)
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return write


class NoColumn(Exception):
    """A fault that a file of columns cannot have."""


def _parquet(folder: Path, value: Any) -> Path:
    try:
        pq.write_table(pa.Table.from_pylist(value), folder / "details_t|0_2026-01-01T00-00-00.parquet")
    except (pa.ArrowException, UnicodeEncodeError):
        raise NoColumn from None
    return folder / "details_t|0_2026-01-01T00-00-00.parquet"


def _csv(folder: Path, value: Any) -> Path:
    names = list(dict.fromkeys(key for row in value if isinstance(row, dict) for key in row))
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    writer.writerows(value)
    (folder / "rows.csv").write_text(file.getvalue(), encoding="utf-8")
    return folder / "rows.csv"


def _helm(folder: Path, value: Any) -> Path:
    shutil.rmtree(folder / "run", ignore_errors=True)
    return helm_run(folder / "run", value.get("states", []), value.get("stats", []))


def _itself(value: Any) -> Any:
    return value


def _lighteval_rows() -> Rows:
    rows: Rows = pq.read_table(DATA / "lighteval" / "choosing.old.parquet").to_pylist()
    return rows


CASES = [
    Case("jsonl", lambda: copy.deepcopy(PLAIN), _file("rows.jsonl"), _itself, "id", "score"),
    Case("json", lambda: copy.deepcopy(PLAIN), _file("rows.json"), _itself, "id", "score"),
    Case("lm-eval", lambda: copy.deepcopy(SAMPLES), _file("samples_t.jsonl"), _itself, "doc_id", "exact_match"),
    Case("inspect", _inspect_json, _file("2026_t_x.json"), lambda v: v["samples"], "id", "scores.pattern.value"),
    Case(
        "promptfoo",
        lambda: _gzipped("sums.json.gz"),
        _file("out.json"),
        lambda v: v["results"]["results"],
        "vars.a",
        "namedScores.exact",
        Layout(part="new"),
    ),
    Case(
        "helm",
        lambda: {"states": copy.deepcopy(HELM_STATES), "stats": copy.deepcopy(HELM_STATS)},
        _helm,
        lambda v: v["states"],
        "instance.id",
    ),
    Case("helm-lines", lambda: copy.deepcopy(HELM_STATES), _file("states.jsonl"), _itself, "instance.id"),
    Case(
        "helm-stats",
        lambda: copy.deepcopy(HELM_STATS),
        _file("per_instance_stats.json"),
        _itself,
        "instance_id",
        "stats.0.mean",
    ),
    Case(
        "alpaca",
        lambda: copy.deepcopy(ALPACA),
        _file("outputs.json"),
        _itself,
        "instruction",
        layout=Layout(targets=DATA / "alpaca_targets.json"),
    ),
    Case(
        "annotations",
        lambda: copy.deepcopy(ANNOTATIONS),
        _file("annotations.json"),
        _itself,
        "instruction",
        "preference",
    ),
    Case("lighteval", _lighteval_rows, _parquet, _itself, "doc.id", "metric.acc"),
]
LONE = "\ud800"
"""Half of a surrogate pair, which JSON can hold and UTF-8 cannot."""
BY_NAME = {case.name: case for case in CASES}
every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def put(row: Any, path: str, value: Any) -> None:
    *way, last = path.split(".")
    for part in way:
        row = row[int(part)] if isinstance(row, list) else row[part]
    row[int(last) if isinstance(row, list) else last] = value


def drop(row: Any, path: str) -> None:
    *way, last = path.split(".")
    for part in way:
        row = row[int(part)] if isinstance(row, list) else row[part]
    del row[int(last) if isinstance(row, list) else last]


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
    return [row for row in rows if row["provider"]["label"] == "new"] if case.name == "promptfoo" else rows


@every
def test_shuffled_rows_are_the_same_rows(case: Case, tmp_path: Path) -> None:
    value = case.value()
    (before,) = case.load(tmp_path, value)
    random.Random(3).shuffle(case.rows(value))
    (after,) = case.load(tmp_path, value)
    order = ["doc_id"]
    one, other = (run.records.sort_values(order).reset_index(drop=True) for run in (before, after))
    assert one[sorted(one)].astype(str).equals(other[sorted(one)].astype(str))
    assert len(before.records) == len(mine(case, value))


@every
def test_a_row_that_is_there_twice_is_counted(case: Case, tmp_path: Path) -> None:
    value = case.value()
    (before,) = case.load(tmp_path, value)
    case.rows(value).append(copy.deepcopy(mine(case, value)[0]))
    (after,) = case.load(tmp_path, value)
    assert (after.duplicates, before.duplicates) == (1, 0)
    assert after.records["doc_id"].tolist() == before.records["doc_id"].tolist()


@every
def test_an_id_that_stands_for_two_rows_is_refused(case: Case, tmp_path: Path) -> None:
    value = case.value()
    rows = mine(case, value)
    other = copy.deepcopy(rows[1])
    first: Any = rows[0]
    for part in case.identity.split("."):
        first = first[part]
    put(other, case.identity, first)
    if case.name == "promptfoo":  # a test is its variables; the number of the test tells repeats from duplicates
        other["vars"], other["testCase"], other["testIdx"] = rows[0]["vars"], rows[0]["testCase"], rows[0]["testIdx"]
    case.rows(value).append(other)
    assert "again" in refused(case, tmp_path, value)


@every
def test_a_row_without_its_id_is_refused(case: Case, tmp_path: Path) -> None:
    if case.name == "promptfoo":
        pytest.skip("a test of promptfoo is known by its variables")
    value = case.value()
    drop(case.rows(value)[1], case.identity)
    if case.name == "lighteval":
        assert "`id`" in refused(case, tmp_path, value)  # null in the column
    else:
        assert f"no field `{case.identity.split('.')[-1]}`" in refused(case, tmp_path, value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "good", [1], None])
@pytest.mark.parametrize("name", [case.name for case in CASES if case.score])
def test_a_score_that_is_none(name: str, bad: Any, tmp_path: Path) -> None:
    case = BY_NAME[name]
    value = case.value()
    put(mine(case, value)[0], case.score, bad)
    if name == "lighteval" and not isinstance(bad, float | None):
        return  # a column of numbers holds no texts
    nan = isinstance(bad, float) and bad != bad
    if (name, bad) == ("annotations", None) or (name == "inspect" and nan):
        (run,) = case.load(tmp_path, value)  # these tools' own mark of what was not scored
        assert run.records["error"].notna().sum() == 1
        assert count([run]) == len(mine(case, value))
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
            _survives(case, tmp_path, value, {number} if not path.startswith("provider") else {number, number - 1})


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


def _whole_files(folder: Path) -> Iterator[tuple[str, Path, Path, Layout]]:
    """Name, what is read, the file in it that is cut, and the layout; files that are whole or nothing."""
    for name in ("json", "inspect", "promptfoo", "helm-stats", "alpaca", "annotations", "lighteval"):
        case = BY_NAME[name]
        (folder / name).mkdir()
        path = case.write(folder / name, case.value())
        yield name, path, path, case.layout
    helm = _helm(folder, BY_NAME["helm"].value())
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


@pytest.mark.parametrize("name", ["jsonl", "lm-eval", "helm-lines"])
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
    (run,) = load_recorded(_csv(tmp_path, rows))
    assert run.records["prediction"].isna().tolist() == [False, True]
    for bad in ("NaN", "inf", "good"):
        with pytest.raises(InputError, match=r"rows\.csv:3: `score`"):
            load_recorded(_csv(tmp_path, [rows[0], rows[1] | {"score": bad}]))
    (run,) = load_recorded(_csv(tmp_path, [*rows, rows[0]]))
    assert (len(run.records), run.duplicates) == (2, 1)
    with pytest.raises(InputError, match="again"):
        load_recorded(_csv(tmp_path, [*rows, rows[0] | {"prediction": "2"}]))
