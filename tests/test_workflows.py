"""What ``init --github`` and ``--gitlab`` write: valid by schemas and actionlint, and their steps run in a shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from compatcheck import scaffold
from tests.factories import repository, right

BIN = Path(sys.executable).parent


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the recorded outputs of two models, the new one worse."""
    monkeypatch.chdir(tmp_path)
    repository(tmp_path, {"old": right(100), "new": right(60)})
    scaffold.write(tmp_path, name="sums", github=True, gitlab=True)
    return tmp_path


def read(path: Path) -> Any:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in found.items()}  # YAML 1.1 reads `on` as true


def run_script(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{folder / 'tools'}:{BIN}:{os.environ['PATH']}", **variables}
    return subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / "tools" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def step(workflow: Any, job: str, name: str) -> str:
    return str(next(each["run"] for each in workflow["jobs"][job]["steps"] if each.get("name") == name))


@pytest.mark.parametrize(
    ("file", "schema"),
    [(scaffold.GITHUB, "github-workflows"), (scaffold.DRIFT, "github-workflows"), (scaffold.GITLAB, "gitlab-ci")],
)
def test_it_follows_the_schema(project: Path, file: Path, schema: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    vendored = pytest.importorskip("check_jsonschema", reason="check-jsonschema carries the schemas").__name__
    text = (resources.files(vendored) / "builtin_schemas" / "vendor" / f"{schema}.json").read_text(encoding="utf-8")
    check = jsonschema.validators.validator_for(json.loads(text))(json.loads(text))
    assert list(check.iter_errors(read(project / file))) == []
    wrong = read(project / file)
    wrong["jobs" if schema.startswith("github") else "compatcheck"] = 3
    assert list(check.iter_errors(wrong))


def test_actionlint_finds_nothing(project: Path) -> None:
    lint = shutil.which("actionlint", path=f"{BIN}:{os.environ['PATH']}")
    if lint is None:
        pytest.skip("actionlint is not installed")
    files = [str(project / file) for file in (scaffold.GITHUB, scaffold.DRIFT)]
    done = subprocess.run([lint, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    broken = project / "broken.yml"
    broken.write_text((project / scaffold.GITHUB).read_text().replace("github.token", "github.tokens.x"))
    assert subprocess.run([lint, str(broken)], capture_output=True, check=False).returncode == 1


def test_least_permissions_paths_and_a_pinned_version(project: Path) -> None:
    from compatcheck import __version__

    workflow = read(project / scaffold.GITHUB)
    assert workflow["permissions"] == {"contents": "read"}
    assert [name for name, job in workflow["jobs"].items() if "permissions" in job] == ["comment"]
    assert workflow["on"]["pull_request"]["paths"][:3] == ["old.jsonl", "new.jsonl", "compatcheck.toml"]
    assert __version__ in workflow["env"]["PACKAGE"]
    for job in workflow["jobs"].values():
        assert all("${{" not in each["run"] for each in job["steps"] if "run" in each)  # data, never a part of a script
    names = [each.get("name", each.get("uses")) for each in workflow["jobs"]["comment"]["steps"]]
    assert names == ["actions/download-artifact@v7", "Comment"]  # nothing of the repository runs there
    gitlab = read(project / scaffold.GITLAB)
    assert gitlab["compatcheck"]["rules"][0]["changes"][:2] == ["old.jsonl", "new.jsonl"]


@pytest.mark.parametrize(("name", "is_path"), [("runs", True), ("@main", False), ("http://h/v1#m.json", False)])
def test_paths_are_those_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_path: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    scaffold.write(tmp_path, old=name, new="/elsewhere/new.jsonl", github=True)
    paths = read(tmp_path / scaffold.GITHUB)["on"]["pull_request"]["paths"]
    assert paths[: len(paths) - 3] == (["runs/**"] if is_path else [])


def test_installing_asks_for_the_package_alone(project: Path) -> None:
    tool(project, "python", 'echo "$@"')
    workflow = read(project / scaffold.GITHUB)
    done = run_script(step(workflow, "compare", "Install"), project, PACKAGE="a b; exit 1")
    assert done.stdout == "-m pip install a b; exit 1\n"


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "code"), [("nfr:2%", 1), ("nfr:60%", 0), ("nfr:40%", 3), ("nfr:oops", 2)])
def test_the_steps_end_with_the_codes_that_their_comment_names(project: Path, budget: str, code: int) -> None:
    text = (project / "compatcheck.toml").read_text()
    (project / "compatcheck.toml").write_text(f'fail_on = ["{budget}"]\n' + text)
    files = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(project / "summary.md")}
    done = run_script(step(read(project / scaffold.GITHUB), "compare", "Compare"), project, **files)
    assert done.returncode == code, done.stdout + done.stderr
    assert f"#   {code}  {'passes' if code == 0 else 'fails'}: " in (project / scaffold.GITHUB).read_text()
    assert (project / "compat-report" / "github.md").is_file() == (code != 2)
    assert (project / "summary.md").is_file() == (code != 2)
    gitlab = read(project / scaffold.GITLAB)["compatcheck"]["script"]
    done = run_script("\n".join(gitlab), project)
    assert (done.returncode, (project / "compat-report/junit.xml").is_file()) == (code, code != 2)


@pytest.mark.slow
def test_drift_of_a_hosted_model(project: Path) -> None:
    """Its comment's setup with recorded outputs in the server's place: the baseline, a second run, then the check."""
    again = "\n".join((project / "old.jsonl").read_text().splitlines()[:98]) + "\n"
    again += "".join(json.dumps({"id": i, "target": "a", "prediction": "b"}) + "\n" for i in (98, 99))
    (project / "again.jsonl").write_text(again)
    for setup in ("bless old.jsonl --as hosted", "run again.jsonl --out .compatcheck/again"):
        done = run_script(f"compatcheck {setup}", project)
        assert done.returncode == 0, done.stderr
    text = (project / "compatcheck.toml").read_text()
    head, drift = text.split("# [checks.drift]\n")
    lines = [line.removeprefix("# ") for line in drift.splitlines() if "task =" not in line]
    lines[1] = 'new = "new.jsonl"'
    (project / "compatcheck.toml").write_text(head + "[checks.drift]\n" + "\n".join(lines))
    script = step(read(project / scaffold.DRIFT), "drift", "Compare")
    done = run_script(script, project, GITHUB_ACTIONS="true")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "noise" in (project / "compat-report" / "github.md").read_text()
    (project / "new.jsonl").write_text(again)
    assert run_script(script, project).returncode == 3  # as many flips as without any change: not shown to be drift


def test_the_comment_is_a_file_that_was_made_and_updated(project: Path) -> None:
    script = step(read(project / scaffold.GITHUB), "comment", "Comment")
    calls, known = project / "calls", project / "known"
    known.write_text("")
    tool(project, "gh", f'echo "$@" >> {calls}\ncase "$*" in *--paginate*) cat {known};; esac')
    given = {"COMMENTS": "repos/o/r/issues/7/comments", "GITHUB_REPOSITORY": "o/r", "GH_TOKEN": "x"}

    def comment() -> tuple[int, list[str]]:
        calls.write_text("")
        done = run_script(script, project, **given)
        return done.returncode, calls.read_text().splitlines()

    assert comment() == (0, [])  # nothing was made
    report = project / "compat-report" / "github.md"
    report.parent.mkdir()
    report.write_text("look here\n")
    assert comment() == (2, [])
    report.write_text("<!-- compatcheck:0a1b -->\n$(touch pwned) `touch pwned`\n")
    code, lines = comment()
    assert code == 0 and lines[-1].endswith(
        "--method POST repos/o/r/issues/7/comments --field body=@compat-report/github.md"
    )
    known.write_text("4711\n")
    assert "--method PATCH repos/o/r/issues/comments/4711" in comment()[1][-1]
    assert not (project / "pwned").exists()
