"""Kept runs come back exactly, are replaced or refused, and say in one line what is wrong with them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import compatcheck
from compatcheck.errors import InputError
from compatcheck.records import Manifest, Metric, Run, TaskRun
from compatcheck.references import resolve
from compatcheck.table.kept import KeptRun, Made, check_folder, load_run, save_run
from compatcheck.table.kept_side import select
from compatcheck.tasks.load import TaskOptions

ACC = Metric("acc", "discrete", True, "lm-eval|task-version:1.0")
LOSS = Metric("loss", "smooth", False, "word edit distance")
ABOUT = Manifest("old/{task}", "sha256:0123456789abcdef", "adapter", {"engine": "hf", "dtype": "float32"}, {"seed": 7})


def choices(shift: int = 0) -> TaskRun:
    records = pd.DataFrame(
        {
            "doc_id": [str(i) for i in range(6)],
            "input": [f"question {i}\x1b[31m | ü 漢 😀" for i in range(6)],
            "target": list("aabbab"),
            "prediction": pd.Series(["a", "b", "b", None, "a", "b"], dtype=object),
            "prediction:acc_norm": list("bbaaba"),
            "doc_hash": [f"{i:016x}" for i in range(6)],
            "loglikelihoods": [[-1.25, float("-inf")], [-0.1, -2.0], [1e-300, -3.5], [-1.0], [], [-7.0, -8.0]],
            "score:acc": [1.0, 0.0, 1.0, 0.0, float(shift), 1.0],
            "level": [1, 2, 3, 1, 2, 3],
            "task": ["own field"] * 6,
            "flag": [True, False, True, True, False, False],
        }
    )
    settings = {"version": 1.0, "documents": 6, "seed": 1234, "data": "local"}
    return TaskRun("piqa", "none", (ACC,), records, settings, 2, ("piqa: f1 gives no score per document",))


def texts() -> TaskRun:
    records = pd.DataFrame(
        {
            "doc_id": ["x", "y", "z"],
            "target": ["18", "", "7"],
            "prediction": pd.Series(["18", None, "lone \ud83d surrogate"], dtype=object),
            "error": pd.Series([None, "timed out", None], dtype=object),
            "score:loss": [0.125, np.nan, 1 / 3],
            "level": ["easy", "hard", "easy"],  # a number in the other task
            "gap": pd.Series([1, None, 3], dtype="Int64"),
            "maybe": pd.Series([True, None, False], dtype="boolean"),
            "mixed": pd.Series([1, 2.0, None], dtype=object),
            "nested": pd.Series([{"a": [1]}, None, "text"], dtype=object),
        }
    )
    return TaskRun("gsm8k", "strict-match", (LOSS,), records, {"limit": 3})


def run() -> Run:
    empty = replace(texts(), filter="flexible-extract", records=texts().records.iloc[:0])
    return Run(ABOUT, (choices(), texts(), empty), ("Answers were cut at 256 tokens.",))


def test_everything_comes_back(tmp_path: Path) -> None:
    made = Made("compatcheck run old", "2025-11-01T12:00:00+00:00", 1.5)
    save_run(run(), tmp_path / "kept", made=made)
    back = load_run(tmp_path / "kept")
    assert back.manifest == ABOUT
    assert back.notes == run().notes
    assert back.made == made
    assert back.version == compatcheck.__version__
    assert [(t.task, t.filter) for t in back.tasks] == [
        ("piqa", "none"), ("gsm8k", "strict-match"), ("gsm8k", "flexible-extract"),
    ]  # fmt: skip
    for before, after in zip(run().tasks, back.tasks, strict=True):
        assert (after.metrics, after.settings, list(after.settings), after.duplicates, after.notes) == (
            before.metrics, before.settings, list(before.settings), before.duplicates, before.notes,
        )  # fmt: skip
        pd.testing.assert_frame_equal(after.records, before.records.reset_index(drop=True), check_exact=True)
    mixed = back.tasks[1].records["mixed"].tolist()
    assert [type(value) for value in mixed] == [int, float, type(None)]


def test_the_file_is_plain_parquet(tmp_path: Path) -> None:
    """What docs/runs.md promises to other readers."""
    save_run(run(), tmp_path / "kept")
    table = pd.read_parquet(tmp_path / "kept" / "records.parquet")
    assert table["task"].tolist() == ["piqa"] * 6 + ["gsm8k"] * 3
    assert table["filter"].tolist() == ["none"] * 6 + ["strict-match"] * 3
    assert table["score:acc"].tolist()[:6] == [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    assert table["score:acc"].isna().tolist()[6:] == [True] * 3
    assert table["loglikelihoods"][0].tolist() == [-1.25, float("-inf")]
    assert table["level"].tolist() == ["1", "2", "3", "1", "2", "3", '"easy"', '"hard"', '"easy"']
    manifest = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert manifest["schema"] == "compatcheck.run/1"
    assert manifest["records"]["encoded"] == ["level", "mixed", "nested", "prediction"]
    assert manifest["records"]["stored_as"] == {"task": "field:task"}
    assert [part["rows"] for part in manifest["tasks"]] == [6, 3, 0]


def test_row_groups_of_several_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compatcheck.table.kept_table.ROWS_AT_ONCE", 2)
    save_run(run(), tmp_path / "kept")
    for before, after in zip(run().tasks, load_run(tmp_path / "kept").tasks, strict=True):
        pd.testing.assert_frame_equal(after.records, before.records.reset_index(drop=True))
    assert [t.filter for t in load_run(tmp_path / "kept", ["gsm8k"]).tasks] == ["strict-match", "flexible-extract"]


def test_saving_again_keeps_how_it_was_made(tmp_path: Path) -> None:
    save_run(run(), tmp_path / "a", made=Made("compatcheck run old", "2025-11-01T12:00:00+00:00", 1.5))
    save_run(load_run(tmp_path / "a"), tmp_path / "b")
    for name in ("manifest.json", "records.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_older_run_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    def log(folder: Path) -> None:
        (folder / "samples.jsonl").write_text("{}")

    save_run(run(), kept, write_log=log)
    assert (kept / "lm-eval" / "samples.jsonl").is_file()
    (kept / "mine.txt").write_text("a note")
    check_folder(kept)
    save_run(Run(ABOUT, (texts(),)), kept)
    assert [t.task for t in load_run(kept).tasks] == ["gsm8k"]
    assert sorted(path.name for path in kept.iterdir()) == ["manifest.json", "mine.txt", "records.parquet"]


def test_a_failure_leaves_the_older_run(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    kept = tmp_path / "kept"
    with pytest.raises(InputError, match="No space left on device"):
        save_run(run(), kept, write_log=full)
    assert not kept.exists()
    save_run(run(), kept)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    with pytest.raises(InputError, match="No space left on device"):
        save_run(Run(ABOUT, (texts(),)), kept, write_log=full)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "records.parquet", "report.json"])
def test_another_ones_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"schema": "something.else/1"}')
    with pytest.raises(InputError, match=f"holds {name}, which is no kept run"):
        check_folder(tmp_path)
    if name in ("manifest.json", "records.parquet"):
        with pytest.raises(InputError, match=f"its {name} is not one of compatcheck"):
            save_run(run(), tmp_path)
    assert (tmp_path / name).read_text() == '{"schema": "something.else/1"}'
    with pytest.raises(InputError, match="is a file; name a folder"):
        check_folder(tmp_path / name)
    check_folder(tmp_path / "new" / "one")


def damage(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in manifest.items() if value != "gone"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schema": "compatcheck.run/2"},
            "schema compatcheck.run/2 is not compatcheck.run/1; .* upgrade",
        ),
        ({"fingerprint": "gone"}, "manifest.json: the field fingerprint is missing"),
        ({"engine": ["hf"]}, "manifest.json: the field engine is a list, not a dict"),
        ({"tasks": [1]}, r"manifest.json: tasks\[0\] is no object"),
        ({"tasks": [{"task": "piqa"}]}, r"manifest.json: the field tasks\[0\].filter is missing"),
        ({"records": {"rows": 9}}, "manifest.json: the field records.sha256 is missing"),
    ],
)
def test_a_damaged_manifest_is_one_line(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    save_run(run(), tmp_path / "kept")
    damage(tmp_path / "kept", **changes)
    with pytest.raises(InputError, match=message) as caught:
        compatcheck.diff(tmp_path / "kept", tmp_path / "kept")
    assert "\n" not in str(caught.value)


def test_other_damage(tmp_path: Path) -> None:
    kept = save_run(run(), tmp_path / "kept")
    manifest = json.loads((kept / "manifest.json").read_text())
    manifest["tasks"][0]["columns"]["doc_id"] = "picture"
    damage(kept, tasks=manifest["tasks"])
    with pytest.raises(InputError, match=r"tasks\[0\].columns.doc_id is 'picture'; known: text, "):
        load_run(kept)
    save_run(run(), kept)
    (kept / "records.parquet").write_bytes((kept / "records.parquet").read_bytes()[:-1])
    with pytest.raises(InputError, match="is not the file its manifest was written for"):
        load_run(kept)
    (kept / "records.parquet").unlink()
    with pytest.raises(InputError, match=r"records.parquet: is missing"):
        load_run(kept)
    save_run(run(), kept)
    (kept / "manifest.json").write_text('{"schema": "compatcheck.run/1",\n')
    with pytest.raises(InputError, match=r"manifest.json:2: not JSON"):
        compatcheck.diff(kept, kept, allow_same=True)
    with pytest.raises(InputError, match=r"no manifest.json, so it is no kept run"):
        load_run(tmp_path)
    (tmp_path / "manifest.json").write_text('{"schema": "npm/1"}')
    with pytest.raises(InputError, match="neither a model"):
        resolve(str(tmp_path))


def test_a_record_without_an_id(tmp_path: Path) -> None:
    nameless = replace(choices(), records=choices().records.assign(doc_id=[None, "1", "2", "3", "4", "5"]))
    kept = save_run(replace(run(), tasks=(nameless,)), tmp_path / "kept")
    with pytest.raises(InputError, match=r"records.parquet: a record has no doc_id"):
        load_run(kept)


def test_a_diff_of_kept_runs_is_the_diff_of_the_runs(tmp_path: Path) -> None:
    from compatcheck.api import compare_runs

    runs = [Run(ABOUT, (choices(shift), texts())) for shift in (0, 1)]
    expected, _ = compare_runs(*runs)
    folders = [save_run(one, tmp_path / str(number)) for number, one in enumerate(runs)]
    got = compatcheck.diff(*folders)
    assert [c.name for c in got.comparisons] == ["piqa/acc", "gsm8k/strict-match/loss"]
    for one, other in zip(expected, got.comparisons, strict=True):
        assert one == other
        pd.testing.assert_frame_equal(one.instances, other.instances)
    assert (got.old.fingerprint, got.old.kind, got.old.engine) == (ABOUT.fingerprint, "adapter", ABOUT.engine)
    assert got.old.reference == str(folders[0])
    assert resolve(str(folders[0])).fingerprint() == ABOUT.fingerprint


def test_one_run_per_task(tmp_path: Path) -> None:
    for shift in (0, 1):
        save_run(Run(ABOUT, (choices(shift),)), tmp_path / str(shift) / "piqa")
        save_run(Run(ABOUT, (texts(),)), tmp_path / str(shift) / "gsm8k")
    got = compatcheck.diff(f"{tmp_path}/0/{{task}}", f"{tmp_path}/1/{{task}}", task=["piqa", "gsm8k"])
    assert [c.name for c in got.comparisons] == ["piqa/acc", "gsm8k/strict-match/loss"]
    assert got.comparisons[0].quadrants["positive_flip"] == 1
    assert got.old.kind == "adapter"


def test_taking_a_part(tmp_path: Path) -> None:
    kept = save_run(run(), tmp_path / "kept")
    assert [t.filter for t in select(kept, ["gsm8k"], TaskOptions()).tasks] == ["strict-match", "flexible-extract"]
    with pytest.raises(InputError, match=r"--task samsum: samsum is not in the kept run .*; it has piqa, gsm8k"):
        select(kept, ["samsum"], TaskOptions())
    with pytest.raises(InputError, match=r"--task piq: not in the kept run .*did you mean 'piqa'.*; it has piqa"):
        load_run(kept, ["piq"])
    (piqa,) = select(kept, ["piqa"], TaskOptions(limit=2)).tasks
    assert piqa.records["doc_id"].tolist() == ["0", "1"]
    assert list(piqa.settings.items()) == [
        ("version", 1.0), ("documents", 6), ("seed", 1234), ("limit", "first:2"), ("data", "local"),
    ]  # fmt: skip
    (piqa,) = select(kept, ["piqa"], TaskOptions(sample=3, seed=5)).tasks
    assert piqa.records["doc_id"].tolist() == [str(i) for i in sorted(random.Random(5).sample(range(6), 3))]
    assert piqa.settings["limit"] == "random:3"
    part = save_run(KeptRun(ABOUT, (piqa,)), tmp_path / "part")
    assert select(part, ["piqa"], TaskOptions(sample=3, seed=5)).tasks[0].records.equals(piqa.records)
    with pytest.raises(InputError, match=r"kept for random:3 of 6 documents of piqa.*--limit 4"):
        select(part, [], TaskOptions(limit=4))
    (strict, _) = select(kept, ["gsm8k"], TaskOptions(limit=1)).tasks
    assert (strict.records["doc_id"].tolist(), strict.settings["limit"]) == (["x"], 1)
    with pytest.raises(InputError, match="--sample does not apply to recorded outputs"):
        select(kept, ["gsm8k"], TaskOptions(sample=1))


def test_a_part_of_what_was_kept_in_part_of_own_prompts(tmp_path: Path) -> None:
    """Their ids are the user's own: that one is a number does not make it a place."""
    ids = ["b", "5", "a", "0", "d", "3"]
    whole = replace(choices(), records=choices().records.assign(doc_id=ids))
    whole = replace(whole, settings={**whole.settings, "rows": "abcd"})
    kept = save_run(KeptRun(ABOUT, (whole,)), tmp_path / "kept")
    first = save_run(select(kept, [], TaskOptions(limit=4)), tmp_path / "first")
    for limit in (4, 2):
        (part,) = select(first, [], TaskOptions(limit=limit)).tasks
        assert (part.records["doc_id"].tolist(), part.settings["limit"]) == (ids[:limit], f"first:{limit}")
    with pytest.raises(InputError, match=r"kept for first:4 of 6 documents of piqa.*--limit 5"):
        select(first, [], TaskOptions(limit=5))
    drawn = sorted(random.Random(1234).sample(range(6), 3))
    some = save_run(select(kept, [], TaskOptions(sample=3, seed=1234)), tmp_path / "some")
    (part,) = select(some, [], TaskOptions(sample=3, seed=1234)).tasks
    assert part.records["doc_id"].tolist() == [ids[place] for place in drawn]
