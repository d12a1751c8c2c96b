"""Baselines: blessed under a name, usable as @name, guarded by their gate."""

from __future__ import annotations

from pathlib import Path

import pytest

import compatcheck
from compatcheck import baselines
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from tests.factories import repository, right, write_rows


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    return repository(tmp_path, {"good": right(100), "same": right(100), "bad": right(60)})


def test_first_run_needs_no_gate_and_serves_as_old(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bless", "good.jsonl", "--as", "main", "--fail-on", "nfr:2%", "-q"]) == 0
    assert "@main is now good.jsonl (kept in .compatcheck/baselines/main/" in capsys.readouterr().out
    assert run(["diff", "@main", "bad.jsonl", "--fail-on", "nfr:2%", "-q"]) == 1
    diff = compatcheck.diff("@main", "bad.jsonl")
    assert diff.only.quadrants["negative_flip"] == 40
    assert diff.old.reference == "@main"


def test_a_run_that_fails_its_gate_asks_for_force(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bless", "good.jsonl", "-q"]) == 0
    assert run(["bless", "bad.jsonl", "--fail-on", "nfr:2%", "-q"]) == 1
    said = capsys.readouterr()
    assert "FAIL" in said.out
    assert "--force" in said.err
    assert [entry.reference for entry in baselines.history("main")] == ["good.jsonl"]
    assert len(list((project / ".compatcheck/baselines/main").iterdir())) == 2  # the history and one run
    assert run(["bless", "bad.jsonl", "--fail-on", "nfr:2%", "-q", "--force"]) == 0
    last = baselines.history("main")[-1]
    assert (last.reference, last.verdict, last.forced) == ("bad.jsonl", "fail", True)
    assert last.reason.startswith("nfr:2%: negative flips 40 %")
    assert last.scores[0].value == 0.6


def test_older_runs_by_tilde_and_from_a_folder_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("good", "same", "bad"):
        assert run(["bless", f"{name}.jsonl", "-q"]) == 0
    monkeypatch.chdir(project / "sub")
    assert compatcheck.diff("@main~2", "@main").only.quadrants["negative_flip"] == 40
    assert compatcheck.diff("@main~1", "@main~2", allow_same=True).only.quadrants["negative_flip"] == 0
    with pytest.raises(InputError, match="only 3 runs were blessed as main"):
        baselines.locate("@main~3")


def test_history_is_shown_newest_first(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bless", "--history"]) == 0
    assert "nothing was blessed" in capsys.readouterr().out
    for name in ("good", "bad"):
        assert run(["bless", f"{name}.jsonl", "-q"]) == 0
    capsys.readouterr()
    assert run(["bless", "--history"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("@main ")
    assert "bad.jsonl" in lines[0]
    assert lines[1].split() == ["recorded/exact_match", "0.6000", "of", "100"]
    assert lines[2].startswith("@main~1")
    assert "(first)" in lines[2]


def test_budgets_of_the_settings_file_guard_it(project: Path) -> None:
    (project / "compatcheck.toml").write_text('fail_on = ["nfr:2%"]\n')
    assert run(["bless", "good.jsonl", "-q"]) == 0
    assert run(["bless", "bad.jsonl", "-q"]) == 1


def test_another_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(baselines.ENVIRONMENT, str(project / "shared"))
    assert run(["bless", "good.jsonl", "--as", "v1.2", "-q"]) == 0
    assert baselines.names() == ["v1.2"]
    assert baselines.locate("@v1.2").parent == project / "shared" / "v1.2"


def test_a_folder_that_was_moved_and_rows_of_another_layout(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"meta": {"id": n}, "gold": "a", "text": f"Answer: {'a' if n < 9 else 'b'}"} for n in range(10)]
    write_rows(project / "other.jsonl", rows)
    fields = ["--id-field", "meta.id", "--target-field", "gold", "--prediction-field", "text"]
    fields += ["--extract", r"Answer: (\w+)"]
    assert run(["bless", "other.jsonl", *fields, "-q"]) == 0
    assert run(["bless", "other.jsonl", *fields, "--fail-on", "nfr:60%", "-q"]) == 0
    (project / ".compatcheck" / "baselines").rename(project / "elsewhere")
    assert str(project) not in "".join(path.read_text() for path in (project / "elsewhere").rglob("*.json*"))
    monkeypatch.setenv(baselines.ENVIRONMENT, "elsewhere")
    assert run(["diff", "@main~1", "other.jsonl", *fields, "--allow-same", "--fail-on", "nfr:60%", "-q"]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bless", "good.jsonl", "--as", "../x"], "make a name"),
        (["bless"], "REF is missing"),
        (["diff", "@mian", "good.jsonl"], "none is blessed yet"),
        (["diff", "@", "good.jsonl"], "make a name"),
        (["bless", "good.jsonl", "--fail-on", "nonsense"], "a rule reads"),
    ],
)
def test_what_cannot_be_meant(
    project: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert says in capsys.readouterr().err
    assert not list((project / ".compatcheck").rglob("*.parquet"))


def test_a_damaged_history_and_a_lost_run(project: Path) -> None:
    assert run(["bless", "good.jsonl", "-q"]) == 0
    with pytest.raises(InputError, match="did you mean 'main'"):
        baselines.locate("@mian")
    history = project / ".compatcheck/baselines/main/history.jsonl"
    kept = baselines.locate("@main")
    history.write_text(history.read_text() + "{broken\n")
    with pytest.raises(InputError, match=r"history.jsonl:2: not an entry"):
        baselines.locate("@main")
    history.write_text(history.read_text().splitlines()[0] + "\n")
    for path in kept.iterdir():
        path.unlink()
    kept.rmdir()
    with pytest.raises(InputError, match="is gone"):
        baselines.locate("@main")
