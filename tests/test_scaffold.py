"""``compatcheck init``: what it writes is valid as it is and with every comment taken away."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from compatcheck import config, scaffold
from compatcheck.cli.app import run
from compatcheck.errors import InputError


def test_the_file_is_valid_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["init", "--old", "a.jsonl", "--new", "b.jsonl", "--name", "sums"]) == 0
    loaded = config.load()
    assert loaded.options == {}
    assert [(check.name, check.old, check.new) for check in loaded.checks] == [("sums", "a.jsonl", "b.jsonl")]


def test_every_commented_setting_is_one(tmp_path: Path) -> None:
    (path,) = scaffold.write(tmp_path)
    text = path.read_text(encoding="utf-8")
    settings = re.findall(r"^# ([a-z_]+ = .*)$", text, flags=re.M)
    assert len(settings) >= 14
    path.write_text(re.sub(r"^# ([a-z_]+ = .*|\[checks.*)$", r"\1", text, flags=re.M), encoding="utf-8")
    loaded = config.load(path)
    assert loaded.options["fail_on"] == ["nfr:2%", "net:-1%"]
    assert loaded.checks[0].options["extract"] == r"Answer: (\w+)"
    assert loaded.checks[1].options["noise_run"] == [".compatcheck/again"]


def test_nothing_is_replaced_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "compatcheck.toml").write_text("seed = 1\n")
    assert run(["init", str(tmp_path)]) == 2
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert run(["init", str(tmp_path), "--prompts", "--github"]) == 2
    assert not (tmp_path / ".github").exists()
    assert run(["init", str(tmp_path), "--github"]) == 0  # a workflow for a project that has settings
    assert (tmp_path / "compatcheck.toml").read_text() == "seed = 1\n"
    assert run(["init", str(tmp_path), "--gitlab", "--github"]) == 2
    assert not (tmp_path / ".gitlab").exists()
    assert run(["init", str(tmp_path), "--force"]) == 0
    assert "[checks.upgrade]" in (tmp_path / "compatcheck.toml").read_text()


@pytest.mark.parametrize("given", [{"old": 'a"b'}, {"new": "a\nb"}, {"name": "a.b"}, {"name": ""}])
def test_what_cannot_stand_in_the_file(tmp_path: Path, given: dict[str, str]) -> None:
    with pytest.raises(InputError):
        scaffold.write(tmp_path, **given)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_prompts_that_are_written_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a server of which OLD knows every answer and NEW no sums."""
    from tests.engines.endpoint.scripted import Reply, Scripted
    from tests.engines.endpoint.servers import serving

    class Knowing(Scripted):
        @staticmethod
        def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
            assert body["max_tokens"] == 64 and body["temperature"] == 0
            said = {"capital": "It is Paris.", "degrees": "100 degrees", "days": "Yes.", "cat": "Tom"}
            sums = "42" if model == "old" else "43"
            return Reply(next((text for word, text in said.items() if word in asked), sums))

    monkeypatch.chdir(tmp_path)
    with serving(Knowing) as server:
        assert run(["init", "--prompts", "--old", f"{server.url}#old", "--new", f"{server.url}#new"]) == 0
        assert run(["diff", "--out", "report", "--format", "json"]) == 0
    (found,) = json.loads((tmp_path / "report" / "report.json").read_text())["comparisons"]
    assert found["quadrants"] == {"both_correct": 4, "positive_flip": 0, "negative_flip": 1, "both_wrong": 0}
    assert found["metric"] == "contains"
