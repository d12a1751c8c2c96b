"""Settings files: found, read, checked; paths are relative to the file."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import pytest

from compatcheck import api, config
from compatcheck.errors import InputError
from compatcheck.option_models import options_of
from compatcheck.options import Check


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(project: Path, text: str, name: str = config.FILE) -> Path:
    path = project / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_option_of_diff_can_be_set() -> None:
    parameters = set(inspect.signature(api.diff).parameters) - {"old", "new", "say", "progress", "scratch"}
    assert set(options_of(Check)) - parameters == {"format", "out", "exit_zero", "overwrite", "quiet", "junit_flips"}


def test_no_file_is_no_settings(project: Path) -> None:
    assert config.load() == config.Config()


def test_checks_take_the_shared_options_and_their_own(project: Path) -> None:
    write(
        project,
        """
        num-fewshot = 0
        fail_on = ["nfr:2%"]
        format = ["html", "junit"]
        [checks.summaries]
        old = "hub/old"
        new = "hub/new@main"
        task = "samsum"
        fail-on = ["nfr:30%"]
        [checks.sums]
        old = "a"
        new = "b"
        """,
    )
    loaded = config.load()
    assert loaded.options == {"num_fewshot": 0, "fail_on": ["nfr:2%"], "format": ["html", "junit"]}
    first, second = loaded.checks
    assert (first.name, first.old, first.new) == ("summaries", "hub/old", "hub/new@main")
    assert first.options == {
        "num_fewshot": 0, "fail_on": ["nfr:30%"], "format": ["html", "junit"], "task": ["samsum"],
    }  # fmt: skip
    assert second.options == loaded.options


def test_pyproject_and_the_nearest_file_upwards(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, '[tool.compatcheck]\nengine = "hf"\n[tool.other]\nx = 1\n', config.PROJECT_FILE)
    monkeypatch.chdir(project / "sub")
    assert config.load().options == {"engine": "hf"}
    write(project / "sub", 'engine = "vllm"\n')
    assert config.load().options == {"engine": "vllm"}


def test_a_file_above_the_repository_is_not_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "sub" / ".git").mkdir()
    write(project, 'engine = "hf"\n')
    monkeypatch.chdir(project / "sub")
    assert config.load().options == {}


def test_paths_are_relative_to_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("base", "adapters/piqa-v1"):
        (project / name).mkdir(parents=True)
    write(
        project,
        """
        data = "data"
        task = ["samsum", "tasks/mine.yaml"]
        [checks.one]
        old = "base+adapters/piqa-v1"
        new = "adapters/{task}-v2"
        [checks.two]
        old = "org/model"
        new = "http://localhost:8000/v1#m"
        """,
    )
    monkeypatch.chdir(project / "sub")
    loaded = config.load()
    one, two = loaded.checks
    assert loaded.options == {"data": str(project / "data"), "task": ["samsum", str(project / "tasks/mine.yaml")]}
    assert one.old == f"{project / 'base'}+{project / 'adapters/piqa-v1'}"
    assert one.new == str(project / "adapters/{task}-v2")
    assert (two.old, two.new) == ("org/model", "http://localhost:8000/v1#m")
    monkeypatch.chdir(project)
    assert config.load().checks[0].new == "adapters/{task}-v2"


def test_settings_of_fix(project: Path) -> None:
    write(project, "limit = 5\n[fix]\nmargin = 2\nseeds = 3")
    loaded = config.load()
    assert (loaded.fix, loaded.options) == ({"margin": 2, "seeds": 3}, {"limit": 5})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fail_onn = ['nfr:2%']", "fail_onn: no such setting (did you mean 'fail_on'?)"),
        ("limit = 'ten'", "limit: 'ten' must be a whole number"),
        ("limit = true", "limit: True must be a whole number"),
        ("fail_on = [1]", "must be text, or a list of texts"),
        ("[checks.a]\nold = 'x'", "checks.a.new: is missing"),
        ("[checks.a]\nold = 'x'\nnew = 'y'\ntaks = 'z'", "checks.a.taks: no such setting"),
        ("checks = 3", "checks: must be a table"),
        ("fail_on = []\nfail-on = []", "given twice"),
        ("limit = ", "not TOML"),
        ("fix = 3", "fix: must be a table of options"),
        ("[fix]\nsedes = 3", "fix.sedes: no such setting (did you mean 'seeds'?)"),
        ("[fix]\nmargin = '1%'", "fix.margin: '1%' must be a number"),
        ("[fix]\nmargin = 1" + "0" * 400, "must be a number"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(project: Path, text: str, says: str) -> None:
    path = write(project, text)
    with pytest.raises(InputError) as caught:
        config.load()
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    found = config.from_environment({"COMPATCHECK_ENGINE": "vllm", "COMPATCHECK_LIMIT": "5", "COMPATCHECK_SEED": "1"})
    assert found == {"engine": "vllm", "limit": 5}
    with pytest.raises(InputError, match="COMPATCHECK_LIMIT=few: must be a whole number"):
        config.from_environment({"COMPATCHECK_LIMIT": "few"})


def test_a_named_file_must_be_there(project: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        config.load(project / "other.toml")


def test_outside_a_repository_the_folder_alone_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any((above / ".git").exists() for above in tmp_path.parents):
        pytest.skip("the temporary folder lies in a repository")
    (tmp_path / "below").mkdir()
    write(tmp_path, 'engine = "hf"\n')
    monkeypatch.chdir(tmp_path)
    assert config.load().options == {"engine": "hf"}
    monkeypatch.chdir(tmp_path / "below")
    assert config.load() == config.Config()


@pytest.mark.parametrize("mode", [0o666, 0o646])
def test_a_file_that_others_can_write_is_refused_unless_it_is_named(project: Path, mode: int) -> None:
    path = write(project, "limit = 3\n")
    path.chmod(mode)
    with pytest.raises(InputError, match=r"other users can write it, so it is not obeyed; chmod go-w compatcheck.toml"):
        config.load()
    assert config.load(path).options == {"limit": 3}
    path.chmod(0o644)
    assert config.load().options == {"limit": 3}


def test_a_file_of_another_user_is_refused_unless_it_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(project, "limit = 3\n")
    owner = path.stat().st_uid
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 4711)
    if owner == 0:
        os.chown(path, 12345, -1)
    with pytest.raises(InputError, match="belongs to another user"):
        config.load()
    assert config.load(path).options == {"limit": 3}


@pytest.mark.parametrize(
    "text",
    [
        "trust_remote_code = true",
        "engine_args = { trust_remote_code = true }",
        "[checks.a]\nold = 'x'\nnew = 'y'\ntrust-remote-code = true",
        "[fix]\ntrust_remote_code = true",
        "api_key_env = 'AWS_SECRET_ACCESS_KEY'",
    ],
)
def test_powers_are_taken_from_a_file_that_is_named_alone(project: Path, text: str) -> None:
    path = write(project, text)
    with pytest.raises(InputError, match="is taken from the command line alone, or from a file named there: --config"):
        config.load()
    config.load(path)
    write(project, "trust_remote_code = false")
    assert config.load().options == {"trust_remote_code": False}


@pytest.mark.parametrize(
    ("judge", "seen"), [("models/judge", "sub/models/judge"), ("http://host:8000/v1#j", "http://host:8000/v1#j")]
)
def test_a_judge_is_a_reference_whose_path_is_relative_to_the_file(project: Path, judge: str, seen: str) -> None:
    (project / "sub/models/judge").mkdir(parents=True)
    write(project / "sub", f'judge = "{judge}"\n')
    assert config.load(project / "sub" / config.FILE).options["judge"] == seen


def test_a_rubric_is_a_text_or_a_file_below_the_settings(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "private.txt").write_text("secret")
    (project / "sub/rubric.txt").write_text("be short")
    for rubric in (str(project / "private.txt"), "../private.txt", "~/x"):
        write(project / "sub", f'[metric_args.judge]\nrubric = "{rubric}"\n')
        with pytest.raises(
            InputError, match=r"metric_args.judge.rubric: .* lies outside .*; move it below the settings"
        ):
            config.load(project / "sub" / config.FILE)
    write(project / "sub", '[metric_args.judge]\nrubric = "rubric.txt"\n')
    assert config.load(project / "sub" / config.FILE).options["metric_args"]["judge"]["rubric"] == "sub/rubric.txt"
    write(project / "sub", '[metric_args.judge]\nrubric = "Prefer the shorter one"\n')
    loaded = config.load(project / "sub" / config.FILE)
    assert loaded.options["metric_args"]["judge"]["rubric"] == "Prefer the shorter one"


def test_the_file_that_is_obeyed_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from compatcheck.cli.app import run

    (project / "a.jsonl").write_text('{"id": 1, "target": "a", "prediction": "a"}\n')
    write(project, "allow_same = true\nquiet = true\n")
    assert run(["diff", "a.jsonl", "a.jsonl"]) == 0
    assert capsys.readouterr().err == "settings: compatcheck.toml\n"
