"""`compatcheck diff --stream`: the same report, the instances on disk."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.compare import overview, parts
from compatcheck.compare.kinds import KindCount
from compatcheck.errors import InputError
from compatcheck.report.store import telling_instances


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(parts, "PART_ROWS", 7)
    monkeypatch.setattr(overview.WorstFlips.__init__, "__defaults__", (16,))
    paths = []
    for name, order, step in (("old", range(60), 3), ("new", range(59, -1, -1), 4)):
        rows = [
            {
                "id": f"d{n:02d}", "input": f"question {n}", "target": "4", "prediction": "5" if n % step == 0 else "4",
                "score": round((n * step % 11) / 10, 2), "error": "timeout" if n == 7 else None, "topic": "xyz"[n % 3],
            }
            for n in order
        ]  # fmt: skip
        paths.append(str(tmp_path / f"{name}.parquet"))
        pq.write_table(pa.Table.from_pylist(rows), paths[-1])
    return paths


def report(folder: Path) -> dict[str, Any]:
    data = json.loads((folder / "report.json").read_text())
    for name in ("command", "notes"):
        data.pop(name)
    return data | {"comparisons": [{k: v for k, v in one.items() if k != "overview"} for one in data["comparisons"]]}


@pytest.mark.parametrize("metric", ["exact_match", "score"])
def test_the_report_is_that_of_memory(
    metric: str, sides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--metric", metric, "--slice-by", "topic", "--fail-on", "nfr:90%", "--format", "html"]
    for way in ("stream", "no-stream"):
        assert run(["diff", *sides, *options, f"--{way}", "--out", str(tmp_path / way), "-q"]) == 0
    assert report(tmp_path / "stream") == report(tmp_path / "no-stream")
    whole, streamed = (pd.read_parquet(tmp_path / way / "instances.parquet") for way in ("no-stream", "stream"))
    for column in whole.columns:
        assert streamed[column].astype(object).where(streamed[column].notna(), None).tolist() == (
            whole[column].astype(object).where(whole[column].notna(), None).tolist()
        ), column
    page = (tmp_path / "stream" / "report.html").read_text()
    assert "16 of 60 instances are embedded, flips and errors first; all are in instances.parquet." in page
    gc.collect()  # a rendered page refers to itself, and to the result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.parquet", "no-stream", "old.parquet", "stream"]
    capsys.readouterr()
    assert run(["report", str(tmp_path / "stream")]) == 0
    shown = capsys.readouterr().out
    assert "compared as a stream; 16 of 60 instances are shown" in " ".join(shown.split())


@pytest.mark.parametrize("kept", [False, True])
def test_choices_by_log_likelihoods_are_choices_on_disk_too(kept: bool, sides: list[str], tmp_path: Path) -> None:
    """Near ties, margins, how sure OLD was, and what kind of failure a flip is."""
    files = []
    for name, step in (("old", 3), ("new", 4)):
        rows = [
            {"id": f"d{n}", "input": f"q{n}", "target": "a", "prediction": "ab"[n % step == 0],
             "loglikelihoods": [-1.0 - n / 40, -2.0 - n % step / 60, *([-3.0] if n % 2 else [])] if n != 5 else None}
            for n in range(30)
        ]  # fmt: skip
        (file := tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        files.append(str(file))
        if kept:
            files[-1] = str(tmp_path / f"{name}-run")
            assert run(["run", str(file), "--out", files[-1], "-q"]) == 0
    found = []
    for way in ("stream", "no-stream"):
        assert run(["diff", *files, "--slice-by", "auto", f"--{way}", "--out", str(tmp_path / way), "-q"]) == 0
        found.append(report(tmp_path / way)["comparisons"])
        for one in found[-1]:
            one.pop("beside", None)  # lengths and refusals are told on disk where they are asked for
    assert found[0] == found[1]
    (one,) = found[0]
    assert one["near_ties"]["negative"] and one["margins"]["n"] == 29 and one["kinds"]
    assert any(part["field"] == "auto:old_confidence" for part in one["slices"])


def test_a_flip_without_any_answer_is_of_no_kind_on_disk_either(sides: list[str], tmp_path: Path) -> None:
    """Whether a part of the rows has answers says nothing of a row without."""
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file, score in zip(files, (1.0, 0.5), strict=True):
        rows = [{"id": f"{n}", "target": "4", "prediction": "4" if n > 14 and score == 1 else None, "score": score}
                for n in range(16)]  # fmt: skip
        file.write_text("\n".join(map(json.dumps, rows)))
    for way in (True, False):
        made = compatcheck.diff(*map(str, files), metric=["score"], stream=way)
        assert made.comparisons[0].kinds == (KindCount("empty", 1),)


def test_a_kept_stream_is_read_back_the_same(sides: list[str], tmp_path: Path) -> None:
    made = compatcheck.diff(*sides, metric=["score", "exact_match"], stream=True)
    made.save(tmp_path / "one")
    again = compatcheck.load(tmp_path / "one")
    assert again == made
    for before, after in zip(made.comparisons, again.comparisons, strict=True):
        assert len(before.instances) == 16
        assert before.rows == after.rows == 60
        assert before.instances["doc_id"].tolist() == after.instances["doc_id"].tolist()
        assert before.instances["gain"].tolist() == pytest.approx(after.instances["gain"].tolist(), nan_ok=True)
    for folder in ("one", "two"):  # over itself, and elsewhere
        again.save(tmp_path / folder)
        assert len(pd.read_parquet(tmp_path / folder / "instances.parquet")) == 120
        assert sorted(p.name for p in (tmp_path / folder).iterdir()) == [
            "instances.parquet", "report.html", "report.json", "report.md"
        ]  # fmt: skip


def test_the_worst_flips_are_held(sides: list[str], tmp_path: Path) -> None:
    made = compatcheck.diff(*sides, metric="score", stream=True)
    whole = compatcheck.diff(*sides, metric="score", stream=False)
    worst = whole.negative_flips["doc_id"].tolist()
    held = made.negative_flips["doc_id"].tolist()
    assert held == worst[: len(held)]
    counted = made.only.instances["quadrant"].fillna("error").value_counts().to_dict()
    assert counted == {"negative_flip": 9, "positive_flip": 4, "error": 1, "unchanged": 2}
    assert made.only.quadrants == whole.only.quadrants


def test_temporary_files_go_with_the_result(sides: list[str], tmp_path: Path) -> None:
    made = compatcheck.diff(*sides, metric="score", stream=True, scratch=tmp_path / "later")
    hidden = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert len(hidden) == 1
    del made
    assert not hidden[0].exists()


def test_a_damaged_file_of_instances_is_named(tmp_path: Path) -> None:
    path = tmp_path / "instances.parquet"
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(compatcheck.errors.InputError, match=r"instances\.parquet: cannot be read as Parquet"):
        telling_instances(path)
    pq.write_table(pa.table({"id": [1]}), path)
    with pytest.raises(compatcheck.errors.InputError, match=r"instances\.parquet: has no column"):
        telling_instances(path)


def test_what_cannot_be_streamed_is_refused(sides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", *sides, "--stream", "--extract", "([0-9])"]) == 2
    said = "error: --stream: --extract reads all targets before it decides what they are; leave out --stream\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("right", ["{} ", "{}"])
def test_other_readings_of_new_use_its_own_targets(right: str, tmp_path: Path) -> None:
    """2 and 2 with a space pair as one target, and NEW's answers are held against NEW's."""
    rows = [(n, n % 5, str(n % 5) + ".0" * (n % 3 == 0)) for n in range(300)]
    for name, write in (("old", "{}"), ("new", right)):
        made = [{"id": n, "target": write.format(t), "prediction": p if name == "new" else str(t)} for n, t, p in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    found = [
        compatcheck.diff(tmp_path / "old.jsonl", tmp_path / "new.jsonl", stream=stream, fail_on="nfr:2%")
        for stream in (False, True)
    ]
    assert found[0].only.readings == found[1].only.readings
    assert [each.verdict for each in found] == ["fail", "fail"]


def test_what_flips_in_json_answers_is_counted_of_kept_runs_too(tmp_path: Path) -> None:
    for name, step in (("old", 400), ("new", 10)):
        rows = [
            {"id": n, "target": {"a": n, "b": 1}, "prediction": {"a": n if n % step else -1, "b": 1}}
            for n in range(1, 301)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [tmp_path / "old.jsonl", tmp_path / "new.jsonl"]
    with pytest.raises(InputError, match="--stream: --metric json counts in memory what flips; leave out --stream"):
        compatcheck.diff(*files, metric="json", stream=True)
    kept = [compatcheck.evaluate(file, metric="json").save(tmp_path / file.stem) for file in files]
    for stream in (False, True):
        c = compatcheck.diff(*kept, stream=stream, fail_on="json=a/nfr:2%")
        assert c.verdict == "fail"
        assert [(one.field, one.value) for one in c.only.slices] == [("json", "a")]
