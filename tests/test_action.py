"""The GitHub Action: its scripts are run as they stand, with the command line as it is installed here."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.factories import repository, right

pytestmark = pytest.mark.slow

ACTION = Path(__file__).parent.parent / "action.yml"


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return repository(tmp_path, {"good": right(100), "bad": right(60)})


def step(action: dict[str, Any], name: str) -> str:
    return str(next(s["run"] for s in action["runs"]["steps"] if s["name"] == name))


def run_script(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "GITHUB_ACTIONS": "true", "RUNNER_TEMP": str(folder), **variables}
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def compare(action: dict[str, Any], project: Path, **inputs: str) -> tuple[subprocess.CompletedProcess[str], str]:
    blank = {"OLD": "", "NEW": "", "TASK": "", "FAIL_ON": "", "ARGS": "", "OUT": "rep", "EXIT_ZERO": "false"}
    files = {"GITHUB_OUTPUT": str(project / "output"), "GITHUB_STEP_SUMMARY": str(project / "summary.md")}
    done = run_script(step(action, "Compare"), project, **{**blank, **files, **inputs})
    return done, (project / "output").read_text()


def test_every_input_reaches_a_step(action: dict[str, Any]) -> None:
    text = json.dumps(action["runs"]) + json.dumps(action["outputs"])
    for name, given in action["inputs"].items():
        assert f"inputs.{name}" in text, name
        assert given["description"]
        assert "default" in given


def test_no_input_is_pasted_into_a_script(action: dict[str, Any]) -> None:
    assert all("${{" not in each["run"] for each in action["runs"]["steps"])


@pytest.mark.parametrize(
    ("package", "extras", "installed"),
    [("", "", "/the/action"), ("", "models", "/the/action[models]"), ("compatcheck==1", "", "compatcheck==1")],
)
def test_the_action_installs_its_own_version(
    action: dict[str, Any], tmp_path: Path, package: str, extras: str, installed: str
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    script = f'export PATH="{tmp_path}:$PATH"\n' + step(action, "Install")
    done = run_script(script, tmp_path, PACKAGE=package, EXTRAS=extras, GITHUB_ACTION_PATH="/the/action")
    assert done.stdout == f"-m pip install --quiet {installed}\n", done.stderr
    assert "none" in action["inputs"]["package"]["description"]
    assert next(s["if"] for s in action["runs"]["steps"] if s["name"] == "Install") == "inputs.package != 'none'"


def test_a_regression_fails_the_step_and_is_annotated(action: dict[str, Any], project: Path) -> None:
    done, output = compare(action, project, OLD="good.jsonl", NEW="bad.jsonl", FAIL_ON="nfr:2% net:-50%")
    assert done.returncode == 1, done.stderr
    assert output == "exit-code=1\n"
    assert "::error title=" in done.stdout
    assert "40" in (project / "summary.md").read_text()
    assert {path.name for path in (project / "rep").iterdir()} >= {
        "report.json",
        "report.html",
        "junit.xml",
        "github.md",
    }


def test_exit_zero_and_arguments_with_blanks(action: dict[str, Any], project: Path) -> None:
    done, output = compare(
        action, project, OLD="good.jsonl", NEW="bad.jsonl", FAIL_ON="nfr:2%", EXIT_ZERO="true",
        ARGS="--extract\n^(a|b b| *)$\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert output == "exit-code=0\n"


def test_checks_of_the_settings_file(action: dict[str, Any], project: Path) -> None:
    (project / "compatcheck.toml").write_text('[checks.a]\nold = "good.jsonl"\nnew = "good.jsonl"\nallow_same = true\n')
    done, _ = compare(action, project)
    assert done.returncode == 0, done.stderr
    assert (project / "rep/report.json").is_file()


def test_a_name_with_a_dash_is_no_option(action: dict[str, Any], project: Path) -> None:
    for old, new in (("--exit-zero", "bad.jsonl"), ("good.jsonl", "--exit-zero"), ("--check=x", "-q")):
        done, output = compare(action, project, OLD=old, NEW=new, FAIL_ON="nfr:2%")
        assert (done.returncode, output.splitlines()[-1]) == (2, "exit-code=2"), done.stdout
        assert "error: -" in done.stderr
    assert not (project / "rep").exists()


def test_the_comment_is_made_once_and_then_updated(action: dict[str, Any], project: Path) -> None:
    (project / "rep/planted").mkdir(parents=True)
    (project / "rep/planted/github.md").write_text('<!-- compatcheck:")) | halt_error(" -->\nlook here')
    os.utime(project / "rep/planted/github.md", (1, 1))
    compare(action, project, OLD="good.jsonl", NEW="bad.jsonl")
    tools = project / "tools"
    tools.mkdir()
    calls, known = project / "calls", project / "known"
    known.write_text("")
    gh = tools / "gh"
    gh.write_text(f'#!/bin/sh\necho "$@" >> {calls}\ncase "$*" in *--paginate*) cat {known};; esac\n')
    gh.chmod(gh.stat().st_mode | stat.S_IXUSR)
    variables = {
        "OUT": "rep", "COMMENTS": "repos/o/r/issues/7/comments", "GITHUB_REPOSITORY": "o/r", "GH_TOKEN": "x",
        "PATH": f"{tools}:{os.environ['PATH']}",
    }  # fmt: skip

    def comment() -> list[str]:
        calls.write_text("")
        script = f'export PATH="{variables["PATH"]}"\n' + step(action, "Comment")
        done = run_script(script, project, **{k: v for k, v in variables.items() if k != "PATH"})
        assert done.returncode == 0, done.stderr
        return calls.read_text().splitlines()

    first = comment()
    assert first[-1].startswith("api --method POST repos/o/r/issues/7/comments --field body=@rep/github.md")
    assert sum("--field" in line for line in first) == 1  # what came with the repository is not commented
    assert any("env.MARKER" in line for line in first)
    known.write_text("4711\n")
    assert comment()[-1].startswith("api --method PATCH repos/o/r/issues/comments/4711")


@pytest.mark.parametrize(("name", "does"), [("traceback", "exit 1"), ("killed", "kill -9 $$"), ("absent", "exit 127")])
def test_what_is_not_a_verdict_is_an_error(action: dict[str, Any], project: Path, name: str, does: str) -> None:
    """An installation that is broken ends with 1 as Python does, and the folder may hold the report of another day."""
    compare(action, project, OLD="good.jsonl", NEW="bad.jsonl")
    tool = project / name / "compatcheck"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{does}\n")
    tool.chmod(0o755)
    blank = {"OLD": "good.jsonl", "NEW": "bad.jsonl", "TASK": "", "FAIL_ON": "", "ARGS": "", "OUT": "rep"}
    output = project / "again"
    script = f'export PATH="{tool.parent}:$PATH"\n' + step(action, "Compare")
    done = run_script(script, project, **blank, EXIT_ZERO="false", GITHUB_OUTPUT=str(output))
    assert (done.returncode, output.read_text()) == (2, "exit-code=2\n"), done.stdout + done.stderr


def test_steps_that_fail_end_with_2(action: dict[str, Any], project: Path) -> None:
    for name, tool in (("Install", "python"), ("Comment", "gh")):
        compare(action, project, OLD="good.jsonl", NEW="bad.jsonl")
        broken = project / name / tool
        broken.parent.mkdir()
        broken.write_text("#!/bin/sh\nexit 1\n")
        broken.chmod(0o755)
        script = f'export PATH="{broken.parent}:$PATH"\n' + step(action, name)
        done = run_script(script, project, OUT="rep", COMMENTS="c", GITHUB_REPOSITORY="o/r", PACKAGE="x")
        assert done.returncode == 2, (name, done.stdout, done.stderr)
        assert "::error title=compatcheck::" in done.stdout
