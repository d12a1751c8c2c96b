"""Bad input: exit code 2, one line that says what, where and how to fix it, and nothing written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from compatcheck.cli.app import run

GOOD = [{"id": str(i), "target": "a", "prediction": "a" if i % 3 else "b"} for i in range(30)]


def write(path: Path, rows: list[dict] | bytes) -> str:
    data = rows if isinstance(rows, bytes) else "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def lines(rows: list[dict]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


def fails_with(capsys: pytest.CaptureFixture[str], arguments: list[str], *parts: str) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("error: ")
    for part in parts:
        assert part in captured.err, captured.err


MALFORMED = b"\n".join([*lines(GOOD[:4]), b'{"id": "4", "target": ', *lines(GOOD[5:])])
NOT_UTF8 = b"\n".join([*lines(GOOD[:2]), b'{"id": "2", "target": "a", "prediction": "\xff\xfe"}'])
BAD_ROWS = [
    ("malformed", MALFORMED, ["new.jsonl:5"]),
    ("missing field", [*GOOD[:2], {"id": "2", "prediction": "a"}], ["new.jsonl:3", "target"]),
    ("no id", [{"target": "a", "prediction": "a"}], ["new.jsonl:1", "id", "--id-field"]),
    ("duplicate ids", [*GOOD[:3], {"id": "1", "target": "a", "prediction": "z"}], ["new.jsonl:4", "line 2"]),
    ("no ids in common", [{**row, "id": f"x{row['id']}"} for row in GOOD], ["no id", "common"]),
    ("empty", b"", ["new.jsonl", "empty"]),
    ("mixed target types", [*GOOD[:2], {"id": "2", "target": 3, "prediction": "a"}], ["new.jsonl:3", "target"]),
    ("NaN score", b'{"id": "1", "target": "a", "prediction": "a", "score": NaN}', ["new.jsonl:1", "score"]),
    ("infinite score", b'{"id": "1", "target": "a", "prediction": "a", "score": -Infinity}', ["new.jsonl:1", "score"]),
    ("not UTF-8", NOT_UTF8, ["new.jsonl:3", "UTF-8"]),
]


@pytest.mark.parametrize(("rows", "parts"), [row[1:] for row in BAD_ROWS], ids=[row[0] for row in BAD_ROWS])
def test_bad_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[dict] | bytes, parts: list[str]
) -> None:
    old, new = write(tmp_path / "old.jsonl", GOOD), write(tmp_path / "new.jsonl", rows)
    fails_with(capsys, ["diff", old, new, "--out", str(tmp_path / "out")], *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_unknown_task(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPATCHECK_CACHE", str(tmp_path / "cache"))
    old = write(tmp_path / "old.jsonl", GOOD)
    arguments = ["diff", old, old, "--allow-same", "--task", "samsun"]
    run(arguments)  # makes lm-eval's index, and says so
    assert "indexing" in capsys.readouterr().err
    fails_with(capsys, arguments, "unknown task", "did you mean 'samsum'")


def test_truncated_gzip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write(tmp_path / "old.jsonl.gz", GOOD), write(tmp_path / "new.jsonl.gz", GOOD * 1)
    Path(new).write_bytes(Path(new).read_bytes()[:-12])
    fails_with(capsys, ["diff", old, new], "new.jsonl.gz", "cut")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--metric", "rogue1"], ["unknown metric", "did you mean 'rouge1'"]),
        (["--format", "htm"], ["unknown format", "did you mean 'html'"]),
        (["--fail-on", "nrf:2%"], ["nrf", "did you mean 'nfr'"]),
        (["--fail-on", "nfr"], ["nfr"]),
        (["--limit", "0"], ["--limit 0"]),
        (["--limit", "many"], ["--limit", "integer"]),
        (["--epsilon", "-1"], ["--epsilon -1"]),
        (["--slice-by", "topc"], ["topc", "did you mean 'topic'"]),
        (["--extract", "(unclosed"], ["--extract"]),
        (["--engine-arg", "novalue"], ["--engine-arg novalue", "key=value"]),
        (["--dtype", "bfloat61"], ["did you mean 'bfloat16'"]),
        (["--batch-size", "big"], ["--batch-size big"]),
        (["--lmit", "3"], ["--lmit"]),
        (["--targets", "gone.jsonl"], ["gone.jsonl"]),
    ],
)
def test_bad_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]
) -> None:
    rows = [{**row, "topic": "x"} for row in GOOD]
    old, new = write(tmp_path / "old.jsonl", rows), write(tmp_path / "new.jsonl", rows)
    fails_with(capsys, ["diff", old, new, "--allow-same", *arguments], *parts)


def test_unknown_engine_is_refused_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fixtures: Path
) -> None:
    base = str(fixtures / "models" / "base-v1")
    data = ["--task", "piqa", "--data", str(fixtures / "data"), "--limit", "2"]
    fails_with(capsys, ["diff", base, base, "--allow-same", *data, "--engine", "vlm"], "engine", "did you mean 'vllm'")


def test_models_need_a_task(capsys: pytest.CaptureFixture[str], fixtures: Path) -> None:
    base = str(fixtures / "models" / "base-v1")
    fails_with(capsys, ["diff", base, base, "--allow-same"], "--task or --prompts is missing")


def test_output_directory_not_writable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write(tmp_path / "old.jsonl", GOOD)
    fails_with(capsys, ["diff", old, old, "--allow-same", "--out", old], "is a file")
    fails_with(capsys, ["diff", old, old, "--allow-same", "--out", "/proc/nowhere/report"], "not writable")


def test_recorded_for_different_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write(tmp_path / "old.jsonl", [{**row, "task": "one"} for row in GOOD])
    new = write(tmp_path / "new.jsonl", [{**row, "task": "two"} for row in GOOD])
    fails_with(capsys, ["diff", old, new], "share no task")
    changed = write(tmp_path / "changed.jsonl", [{**row, "target": "other"} for row in GOOD])
    same = write(tmp_path / "same.jsonl", GOOD)
    fails_with(capsys, ["diff", same, changed], "different")


def test_report_of_a_folder_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails_with(capsys, ["report", str(tmp_path)], "report.json")
    fails_with(capsys, ["report", str(tmp_path / "gone")], "gone")


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    fails_with(capsys, ["dif", "a", "b"], "No such command", "diff")


def test_control_characters_in_a_file_name_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "./a\x1b[31mred", "./b"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("exact_mach.ignore_case=true", "no metric of that name (did you mean 'exact_match'?)"),
        ("foo.x=1", "--metric-arg foo.x: no"),
    ],
)
def test_settings_of_a_metric_that_there_is_not(
    tmp_path: Path, given: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).with_suffix(".jsonl").write_text('{"id": 1, "target": "a", "prediction": "a"}\n')
    sides = [str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl"), "--allow-same"]
    assert run(["diff", *sides, "--metric-arg", given]) == 2
    assert says in capsys.readouterr().err
    assert run(["diff", *sides, "--metric-arg", "rouge1.use_stemmer=true", "-q"]) == 0
