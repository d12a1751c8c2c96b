"""What is exported compares as the run it was made of."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

import compatcheck
from compatcheck.cli.app import run as command_line
from compatcheck.errors import InputError
from compatcheck.readers import load_recorded
from compatcheck.table.export import FORMATS, export_run
from tests.docs.pages import DOCS, check_command
from tests.factories import write_rows
from tests.readers.foreign_samples import DATA, lighteval_tree

INSPECT = DATA / "inspect"
PROMPTFOO = DATA / "promptfoo" / "sums.json.gz"


def export(reference: str | Path, to: str, out: Path, **options: Any) -> list[Path]:
    return export_run(compatcheck.evaluate(str(reference), **options), to, out)


def same(one: compatcheck.Diff, other: compatcheck.Diff) -> None:
    assert [c.name for c in one.comparisons] == [c.name for c in other.comparisons]
    for left, right in zip(one.comparisons, other.comparisons, strict=True):
        assert (left.n, left.kind, left.quadrants) == (right.n, right.kind, right.quadrants)
        assert left.pairing == right.pairing
        assert left.metrics == right.metrics
        frames = [c.instances.sort_values("doc_id").reset_index(drop=True) for c in (left, right)]
        pd.testing.assert_frame_equal(*[frame.astype(str) for frame in frames], check_like=True)


def out_of(folder: Path, side: str, to: str) -> Path:
    return folder / side if to == "lm-eval" else folder / f"{side}.{to.removeprefix('plain-')}"


@pytest.mark.parametrize("to", FORMATS)
def test_promptfoo_and_back(to: str, tmp_path: Path) -> None:
    before = compatcheck.diff(f"{PROMPTFOO}#old", f"{PROMPTFOO}#new")
    for side in ("old", "new"):
        export(f"{PROMPTFOO}#{side}", to, out_of(tmp_path, side, to))
    after = compatcheck.diff(out_of(tmp_path, "old", to), out_of(tmp_path, "new", to))
    if to.endswith("csv"):  # every cell is text: a number is no number to slice by
        assert [c.metrics for c in after.comparisons] == [c.metrics for c in before.comparisons]
        assert [c.pairing for c in after.comparisons] == [c.pairing for c in before.comparisons]
    else:
        same(before, after)
    assert len(before.comparisons) == 3


@pytest.mark.parametrize("to", ["lm-eval", "parquet", "jsonl"])
def test_choices_with_log_likelihoods_and_back(to: str, tmp_path: Path) -> None:
    trees = {side: lighteval_tree(tmp_path / f"tree-{side}", side) for side in ("old", "new")}
    before = compatcheck.diff(trees["old"], trees["new"], task="choosing")
    for side, tree in trees.items():
        (file, *_) = export(tree, to, out_of(tmp_path, side, to), task="choosing")
        assert file.is_file()
    same(before, compatcheck.diff(out_of(tmp_path, "old", to), out_of(tmp_path, "new", to), task="choosing"))


def test_kept_run_and_several_tasks(tmp_path: Path) -> None:
    kept = {}
    for side in ("old", "new"):
        kept[side] = compatcheck.evaluate(INSPECT / side).save(tmp_path / f"kept-{side}")
        export(kept[side], "lm-eval", tmp_path / side)
    before = compatcheck.diff(kept["old"], kept["new"])
    same(before, compatcheck.diff(tmp_path / "old", tmp_path / "new"))
    assert len(before.comparisons) == 5
    with pytest.raises(InputError, match=r"sums and sums_epochs have different metrics; write one file a task"):
        export(kept["old"], "jsonl", tmp_path / "all.jsonl")
    files = export(kept["old"], "jsonl", tmp_path / "{task}.jsonl")
    assert [file.name for file in files] == ["sums.jsonl", "sums_epochs.jsonl", "sums_small.jsonl"]
    assert not (tmp_path / "all.jsonl").exists()


def test_lm_eval_layout(tmp_path: Path) -> None:
    files = export(INSPECT / "old", "lm-eval", tmp_path / "out", task="sums")
    results, samples = files
    about = json.loads(results.read_text(encoding="utf-8"))
    assert about["results"]["sums"]["pattern,none"] == 0.5  # 2 of the 4 that were answered
    assert about["higher_is_better"]["sums"]["pattern"] is True
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    assert [row["doc_id"] for row in rows] == ["q1", "q2", "q3", "q4", "q5"]
    assert rows[0]["filtered_resps"] == ["2"] and rows[0]["resps"] == [["ANSWER: 2"]] and rows[0]["pattern"] == 1.0
    assert rows[4]["filtered_resps"] == ["[invalid]"]
    assert "pattern" not in rows[2] and rows[2]["compatcheck"]["error"] == "ValueError('the server said no')"
    with pytest.raises(InputError, match="is not empty"):
        export(INSPECT / "old", "lm-eval", tmp_path / "out", task="sums")


def test_parquet_is_a_plain_table(tmp_path: Path) -> None:
    (file,) = export(INSPECT / "old", "parquet", tmp_path / "t.parquet", task="sums")
    names = pq.read_schema(file).names
    assert names[:7] == ["task", "filter", "id", "input", "target", "prediction", "response"]
    table = pd.read_parquet(file)
    assert table.groupby("level")["score:pattern"].mean().to_dict() == {0: 0.5, 1: 0.5}


@pytest.mark.parametrize("to", ["csv", "plain-csv"])
def test_texts_that_a_spreadsheet_would_run(to: str, tmp_path: Path) -> None:
    texts = ["=1+1", "+a", "-5", "-a", "@sum", "'=x", "''y", "\tz", "plain", "-1,234.5"]
    rows = [{"id": f"={i}", "target": text, "prediction": text, "=name": text} for i, text in enumerate(texts)]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    out = tmp_path / "out.csv"
    export(file, to, out)
    with out.open(encoding="utf-8", newline="") as opened:
        cells = [cell for row in csv.reader(opened) for cell in row]
    runs = [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t") and cell not in ("-5", "-1,234.5")]
    assert bool(runs) == (to == "plain-csv")
    (back,) = load_recorded(out)
    assert list(back.records["prediction"]) == list(back.records["target"]) == list(back.records["=name"]) == texts
    assert list(back.records["doc_id"]) == [f"={i}" for i in range(len(texts))]
    assert "formula_safe" not in back.records


@pytest.mark.parametrize("name", ["a/b", "a\\b", "..", "a\0b"])
def test_a_task_name_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": 1, "target": "a", "prediction": "a", "task": name}) + "\n")
    with pytest.raises(InputError, match="cannot stand in a file name"):
        export(tmp_path / "rows.jsonl", "jsonl", tmp_path / "{task}.jsonl")


def test_what_a_format_cannot_hold(tmp_path: Path) -> None:
    rows = [{"id": 1, "target": "a", "prediction": "", "wer": 0.5, "score:wer": 0.5}]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="`prediction` of the id '1' is an empty text, which CSV cannot tell"):
        export(file, "csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    with pytest.raises(InputError, match="did you mean 'parquet'"):
        export(file, "parqet", tmp_path / "out")
    with pytest.raises(InputError, match="is a folder"):
        export(file, "jsonl", tmp_path)
    (kept,) = export(file, "lm-eval", tmp_path / "samples")[:1]
    assert json.loads(kept.read_text(encoding="utf-8"))["higher_is_better"] == {"recorded": {"wer": False}}
    (run,) = compatcheck.evaluate(tmp_path / "samples").tasks
    assert [(m.name, m.higher_is_better) for m in run.metrics] == [("wer", False)]
    assert run.records["prediction"].tolist() == [""]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new.jsonl"
    assert command_line(["export", f"{PROMPTFOO}#new", "--to", "jsonl", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert command_line(["diff", str(out), f"{PROMPTFOO}#new", "-q"]) == 0
    capsys.readouterr()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert command_line(["export", str(tmp_path / "model"), "--to", "jsonl", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_commands_of_the_documentation() -> None:
    text = (DOCS / "importers.md").read_text(encoding="utf-8")
    commands = [line.strip() for line in text.splitlines() if line.startswith("    compatcheck ")]
    assert len(commands) == 6
    for command in commands:
        check_command(shlex.split(command))
