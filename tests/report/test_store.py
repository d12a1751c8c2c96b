from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from compatcheck.cli.app import run
from compatcheck.compare.result import SCHEMA, Result
from compatcheck.errors import InputError
from compatcheck.report import FORMATS, load, render, save


def test_report_json_follows_the_contract(failing: Result) -> None:
    data = json.loads(render(failing, "json"))
    assert data["schema"] == SCHEMA == "compatcheck.report/1"
    assert {"schema", "version", "verdict", "old", "new", "comparisons"} <= data.keys()
    assert data["verdict"] == "fail"
    assert data["old"]["reference"] == "org/model-v1+adapters/gsm8k"
    comparison = data["comparisons"][0]
    assert {"task", "filter", "metric", "kind", "signature", "n", "pairing", "quadrants", "metrics", "tests", "slices",
            "gates"} <= comparison.keys()  # fmt: skip
    assert comparison["quadrants"] == {
        "both_correct": 128, "positive_flip": 71, "negative_flip": 41, "both_wrong": 160
    }  # fmt: skip
    nfr = comparison["metrics"]["nfr"]
    assert (nfr["value"], nfr["count"], nfr["of"]) == (0.1025, 41, 400)
    assert comparison["gates"][1]["needed_n"] == 4200


def test_report_json_is_ascii_and_strict(hostile: Result) -> None:
    text = render(hostile, "json")
    text.encode("ascii")
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize("name", ["failing", "several", "errors"])
def test_a_kept_result_reads_back_the_same(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    result: Result = request.getfixturevalue(name)
    save(result, tmp_path / "deep" / "er", ["markdown", "html", "terminal"])
    assert sorted(path.name for path in (tmp_path / "deep" / "er").iterdir()) == [
        "instances.parquet", "report.html", "report.json", "report.md"
    ]  # fmt: skip
    again = load(tmp_path / "deep" / "er")
    assert again == result
    for kept, comparison in zip(again.comparisons, result.comparisons, strict=True):
        assert list(kept.instances.columns) == list(comparison.instances.columns)
        pd.testing.assert_series_equal(kept.instances["gain"], comparison.instances["gain"], check_names=False)
    for format in [name for name, each in FORMATS.items() if each.printed]:
        assert render(again, format) == render(result, format)


def test_hostile_text_survives_the_round_trip(hostile: Result, tmp_path: Path) -> None:
    save(hostile, tmp_path)
    again = load(tmp_path)
    before, after = hostile.comparisons[0].instances, again.comparisons[0].instances
    shown = before["prediction_new"].iloc[0].replace("\ud800", "\\ud800")  # Parquet holds no lone surrogate
    assert after["prediction_new"].iloc[0] == shown
    assert render(again, "terminal") == render(hostile, "terminal")


def test_saving_again_replaces_and_leaves_other_files(failing: Result, several: Result, tmp_path: Path) -> None:
    save(failing, tmp_path, ["markdown"])
    (tmp_path / "mine.txt").write_text("keep")
    save(several, tmp_path)
    assert load(tmp_path) == several
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert not list(tmp_path.glob(".report-*"))


def test_no_format_of_an_older_result_stays(failing: Result, several: Result, tmp_path: Path) -> None:
    save(failing, tmp_path, ["html", "junit"])
    save(several, tmp_path)
    fresh = tmp_path / "fresh"
    save(several, fresh, ["html", "junit"])
    for name in ("report.html", "junit.xml"):
        assert (tmp_path / name).read_text().replace(str(tmp_path), "") == (fresh / name).read_text().replace(
            str(fresh), ""
        )


def test_a_folder_that_cannot_be_written_is_an_input_error(failing: Result, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("x")
    for folder in (taken, taken / "below"):
        with pytest.raises(InputError, match="cannot be written"):
            save(failing, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failure_half_way_leaves_nothing(
    failing: Result, several: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(several, tmp_path / "old")

    def full(self: Path, *args: object, **kwargs: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for folder in (tmp_path / "new" / "deep", tmp_path / "old"):
        with pytest.raises(InputError, match="No space left on device"):
            save(failing, folder)
    assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == ["instances.parquet", "report.json"]
    monkeypatch.undo()
    assert load(tmp_path / "old") == several


def test_unknown_formats_are_refused_before_anything_is_written(failing: Result, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean 'markdown'\?"):
        save(failing, tmp_path / "out", ["markdwon"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="unknown"):
        render(failing, "pdf")


def test_loading_says_what_is_wrong(failing: Result, several: Result, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no report\.json"):
        load(tmp_path / "empty")

    folder = tmp_path / "kept"
    save(failing, folder)
    good = (folder / "report.json").read_text()
    table = (folder / "instances.parquet").read_bytes()

    def broken(text: str, match: str) -> None:
        (folder / "report.json").write_text(text)
        with pytest.raises(InputError, match=match):
            load(folder)

    broken(good[:-40], r"report\.json:\d+: cannot be read as JSON")
    broken("[1]", "holds a list")
    broken(good.replace("compatcheck.report/1", "compatcheck.report/9"), r"report\.json: .*compatcheck\.report/9")
    cut = json.loads(good)
    del cut["comparisons"][0]["quadrants"]
    broken(json.dumps(cut), "quadrants")

    (folder / "report.json").write_text(good)
    (folder / "instances.parquet").write_bytes(table[:100])
    with pytest.raises(InputError, match=r"instances\.parquet: cannot be read as Parquet"):
        load(folder)
    (folder / "instances.parquet").unlink()
    with pytest.raises(InputError, match=r"has no instances\.parquet"):
        load(folder)


def test_no_comparison_at_all_can_be_kept(failing: Result, tmp_path: Path) -> None:
    nothing = replace(failing, comparisons=(), verdict="none")
    save(nothing, tmp_path, ["html", "markdown"])
    assert load(tmp_path) == nothing


KILLED = """
import os, signal, sys
from pathlib import Path
from compatcheck.report import load, save
moved, rename = [], os.rename
def counted(name):
    before = getattr(Path, name)
    def change(self, target):
        if len(moved) == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        moved.append(target)
        return before(self, target)
    return change
Path.rename, Path.replace = counted("rename"), counted("replace")
save(load(Path(sys.argv[1])), Path(sys.argv[2]), ["markdown", "junit"])
print(len(moved))
"""


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def whole(folder: Path, *results: Result) -> Result:
    """The result that a folder holds, all of whose files are those of it."""
    found = load(folder)
    (which,) = (each for each in results if each == found)
    assert len(found.comparisons[0].instances) == len(which.comparisons[0].instances)
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []
    return which


def test_a_killed_process_leaves_one_result_and_no_mixture(failing: Result, several: Result, tmp_path: Path) -> None:
    save(several, tmp_path / "new")
    out = tmp_path / "out"
    seen = []
    for place in range(5):  # the swap and four files
        save(failing, out, ["markdown", "junit"])
        done = child(KILLED, tmp_path / "new", out, place)
        assert done.returncode == -signal.SIGKILL, done.stderr
        result = load(out)
        seen.append(result == several)
        assert (out / "report.md").read_text().rstrip() == render(result, "markdown", folder=out)
        assert (out / "junit.xml").read_text().rstrip() == render(result, "junit")
        save(result, out, ["markdown", "junit"])  # sweeps what the dead process left
        assert whole(out, failing, several) == result
    assert seen == [False, True, True, True, True], "before the swap nothing has changed, after it everything has"
    assert child(KILLED, tmp_path / "new", out, 99).stdout == "5\n"


def test_results_kept_at_once_in_one_folder_never_mix(failing: Result, several: Result, tmp_path: Path) -> None:
    save(failing, tmp_path / "a")
    save(several, tmp_path / "b")
    save(failing, tmp_path / "out")
    code = (
        "import sys\nfrom pathlib import Path\nfrom compatcheck.report import load, save\n"
        "result = load(Path(sys.argv[1]))\nfor _ in range(8): save(result, Path(sys.argv[2]))"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / name), str(tmp_path / "out")]) for name in "ab"
    ]
    while any(writer.poll() is None for writer in writers):
        found = load(tmp_path / "out")
        assert found in (failing, several)
        assert len(found.comparisons[0].instances) == found.comparisons[0].n
    assert [writer.returncode for writer in writers] == [0, 0]
    whole(tmp_path / "out", failing, several)


@pytest.mark.parametrize("name", ["report.json", "junit.xml", "report.md", "report.html", "instances.parquet"])
def test_files_of_others_are_not_replaced(failing: Result, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"tests": 3, "tool": "another"}')
    with pytest.raises(InputError, match=rf"{name}: was not written by compatcheck; .*--overwrite"):
        save(failing, tmp_path, ["junit", "markdown", "html"])
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert path.read_text() == '{"tests": 3, "tool": "another"}'
    save(failing, tmp_path, ["junit", "markdown", "html"], overwrite=True)
    save(failing, tmp_path, ["junit", "markdown", "html"])  # ours now
    assert load(tmp_path) == failing


def test_every_format_knows_its_own_files_again(hostile: Result, tmp_path: Path) -> None:
    names = [name for name, each in FORMATS.items() if each.file_name]
    save(hostile, tmp_path, names)
    save(hostile, tmp_path, names)
    (tmp_path / "report.html").unlink()
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match="is a folder, where the report would be kept"):
        save(hostile, tmp_path, ["html"], overwrite=True)


def test_the_command_refuses_before_anything_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "junit.xml").write_text("<testsuites/>")
    for name in ("old", "new"):
        (tmp_path / f"{name}.jsonl").write_text('{"id": 1, "target": "a", "prediction": "a"}\n')
    command = ["diff", str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl"), "--allow-same", "-q"]
    command += ["--out", str(out), "--format", "junit"]
    assert run(command) == 2
    assert capsys.readouterr() == ("", f"error: {out / 'junit.xml'}: was not written by compatcheck; name another "
                                       "folder, or replace it with --overwrite\n")  # fmt: skip
    assert run([*command, "--overwrite"]) == 0
    assert run(command) == 0
