"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories import repository

pytestmark = pytest.mark.slow

TESTS = """
import compatcheck

def test_kept(compat_diff):
    diff = compat_diff("good.jsonl", "good.jsonl", allow_same=True)
    assert diff.metrics["nfr"].value == 0
    assert isinstance(diff, compatcheck.Diff)

def test_broken(compat_diff):
    assert compat_diff(check="worse").metrics["nfr"].high < 0.03
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    repository(tmp_path, {"good": "aaaa", "bad": "abbb"})
    (tmp_path / "compatcheck.toml").write_text(
        '[checks.worse]\nold = "good.jsonl"\nnew = "bad.jsonl"\nfail_on = ["nfr:2%"]\n'
    )
    (tmp_path / "test_upgrade.py").write_text(TESTS)
    return tmp_path


def pytest_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_diff_is_a_test(project: Path) -> None:
    done = pytest_run(project, "--compatcheck-out", "reports")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "diff-1: · NO BUDGET  0 of 4 answers were right" in done.stdout
    assert "worse: ✗ FAIL" in done.stdout
    kept = json.loads((project / "reports/worse/report.json").read_text())
    assert kept["comparisons"][0]["quadrants"]["negative_flip"] == 3


def test_several_candidates_and_settings_of_one_side(project: Path) -> None:
    (project / "test_upgrade.py").write_text(
        "def test_it(compat_diff):\n"
        "    several = compat_diff('good.jsonl', ['bad.jsonl', 'good.jsonl'], allow_same=True)\n"
        "    assert [one.only.quadrants['negative_flip'] for one in (several[0], several[1])] == [3, 0]\n"
        "    one = compat_diff('good.jsonl', 'bad.jsonl', new_set={'prediction-field': 'target'})\n"
        "    assert one.only.quadrants['negative_flip'] == 0\n"
    )
    done = pytest_run(project, "--compatcheck-out", "reports")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "diff-1: · NO BUDGET  2 candidates" in done.stdout
    assert json.loads((project / "reports/diff-1/report.json").read_text())["schema"] == "compatcheck.report/2"


def test_a_failed_test_shows_what_broke(project: Path) -> None:
    (project / "test_upgrade.py").write_text(
        """
import pytest

@pytest.fixture(scope="module")
def diff(compat_diff):
    return compat_diff(check="worse")

def test_in_a_variable(diff):
    assert diff.verdict in ("pass", "none")

def test_elsewhere():
    assert 1 == 2
"""
    )
    done = pytest_run(project)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "where 'fail' = <Diff fail: 3 of 4 are negative flips in recorded/exact_match: 1: 'a' → 'b'" in done.stdout
    assert done.stdout.count("---- compatcheck: worse ----") == 1  # not of the test that has nothing to do with it
    assert "recorded/exact_match: 1\ntarget: a\nold: a\nnew: b" in done.stdout


def test_options_of_the_command_line(project: Path) -> None:
    done = pytest_run(project, "--compatcheck-limit", "1")
    assert done.returncode == 0 or "2 passed" not in done.stdout  # one row can show no rate below 3 %
    assert "worse: ? INCONCLUSIVE" in done.stdout
    done = pytest_run(project, "--compatcheck-limit", "few")
    assert "--compatcheck-limit few: must be a whole number" in done.stdout + done.stderr


def test_the_plugin_loads_nothing_heavy(project: Path) -> None:
    (project / "test_light.py").write_text(
        "import sys\n\ndef test_light():\n    assert not {'numpy', 'pandas', 'torch'} & set(sys.modules)\n"
    )
    assert pytest_run(project, "test_light.py", "-p", "no:hypothesispytest").returncode == 0


BROKEN = """
import compatcheck
import pytest

def test_absent(compat_diff):
    compat_diff("good.jsonl", "absent.jsonl")

def test_expected(compat_diff):
    with pytest.raises(compatcheck.InputError):
        compat_diff("good.jsonl", "absent.jsonl")

def test_internal(compat_diff, monkeypatch):
    monkeypatch.setattr("compatcheck.api.diff", lambda *_, **__: 1 / 0)
    compat_diff("good.jsonl", "good.jsonl", allow_same=True)
"""


@pytest.mark.parametrize("processes", [(), ("-n", "2")])
def test_what_could_not_be_compared_is_no_regression(project: Path, processes: tuple[str, ...]) -> None:
    (project / "test_broken.py").write_text(BROKEN)
    done = pytest_run(project, "test_broken.py", *processes)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "2 failed, 1 passed" in done.stdout
    assert "\nerror: absent.jsonl: no such file or folder" in done.stdout
    assert "\ninternal error: ZeroDivisionError: division by zero (compatcheck/" in done.stdout
    assert "Traceback" not in done.stdout
    assert done.stdout.count("checks.run") == 0


def test_a_test_that_fails_by_itself_keeps_the_status_of_pytest(project: Path) -> None:
    (project / "test_own.py").write_text("def test_own(compat_diff):\n    assert False\n")
    assert pytest_run(project, "test_own.py").returncode == 1
