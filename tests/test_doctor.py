"""Doctor: everything is found here, and each kind of problem is said with how to fix it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from compatcheck import doctor
from compatcheck.cli.app import run


def by_topic() -> dict[str, doctor.Finding]:
    return {finding.topic: finding for finding in doctor.examine()}


@pytest.mark.slow
def test_a_sound_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPATCHECK_CACHE", str(tmp_path / "cache"))
    assert run(["doctor", "--format", "json"]) == 0
    findings = {each["topic"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert {each["state"] for each in findings.values()} <= {"ok", "note"}
    assert findings["engine"]["text"].startswith("--engine auto takes")
    assert findings["settings"]["state"] == "note"


def test_broken_settings_are_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compatcheck.toml").write_text("engin = 'hf'\n")
    assert run(["doctor"]) == 2
    out = capsys.readouterr().out
    assert "engin: no such setting (did you mean 'engine'?)" in out
    assert out.rstrip().endswith("1 problem")


def test_settings_and_environment_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMPATCHECK_STORE", raising=False)
    monkeypatch.setenv("COMPATCHECK_ENGINE", "hf")
    (tmp_path / "compatcheck.toml").write_text("[checks.a]\nold = 'x'\nnew = 'y'\n")
    found = by_topic()
    assert found["settings"].text.endswith("checks: a")
    assert found["environment"].text == "COMPATCHECK_ENGINE=hf"


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPATCHECK_CACHE", str(tmp_path / "file" / "cache"))
    found = by_topic()["cache"]
    assert found.state == "problem"
    assert "COMPATCHECK_CACHE" in found.fix


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPATCHECK_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "ROOM", shutil.disk_usage(tmp_path).free + 2**40)
    assert by_topic()["cache"].state == "problem"


@pytest.mark.parametrize("broken", [False, True])
def test_lm_eval_that_is_not_there_or_broken(
    tmp_path: Path, broken: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    gone = {"lm_eval", "torch", "transformers", "peft", "datasets"}
    for name in [name for name in sys.modules if name.split(".")[0] in gone]:
        monkeypatch.delitem(sys.modules, name)
    if broken:
        for name in gone:
            (tmp_path / "fake" / name).mkdir(parents=True)
            (tmp_path / "fake" / name / "__init__.py").write_text("raise RuntimeError('broken build')\n")
        monkeypatch.syspath_prepend(str(tmp_path / "fake"))
    else:
        own = importlib.util.find_spec
        monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name in gone else own(name))
    assert run(["doctor"]) == (2 if broken else 0)
    out = capsys.readouterr().out
    assert ("lm_eval       cannot be imported: RuntimeError: broken build" in out) == broken
    assert ("lm_eval       not installed" in out) == (not broken)
    assert "cache " in out
