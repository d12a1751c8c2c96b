"""Options are written once: a new one is found everywhere; help, checks and Python signatures come from the model."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck import api, option_models, options
from compatcheck.cli.app import run
from compatcheck.errors import InputError

ADDED = '''
import inspect, json, runpy, sys
from pathlib import Path
import importlib.util

spec = importlib.util.find_spec("compatcheck.options")
module = importlib.util.module_from_spec(spec)
sys.modules["compatcheck.options"] = module
line = '    max_rows: int | None = option(None, "Read no more rows.", WHAT, least=1, environment=True)\\n'
source = Path(spec.origin).read_text()
head = '    """Of everything that evaluates references."""\\n\\n'
assert source.count(head) == 1
exec(compile(source.replace(head, head + line), spec.origin, "exec"), module.__dict__)

from compatcheck import api, config, pytest_plugin
from compatcheck.cli.app import run

run(["diff", "--help"])
Path("compatcheck.toml").write_text("max-rows = 3\\n")
found = {"settings": config.load().options, "environment": config.from_environment({"COMPATCHECK_MAX_ROWS": "4"})}
Path("compatcheck.toml").write_text("max_rows = 'x'\\n")
try:
    config.load()
except Exception as error:
    found["problem"] = str(error)
Path("compatcheck.toml").unlink()
found["python"] = [
    str(inspect.signature(each).parameters["max_rows"]) for each in (api.diff, api.evaluate, api.noise, api.bless)
]
api.evaluate("rows.jsonl", max_rows=5).save("kept")
found["manifest"] = json.loads(Path("kept/manifest.json").read_text())["options"]
Path("test_it.py").write_text(
    "def test_it(compat_diff):\\n    compat_diff('rows.jsonl', 'rows.jsonl', max_rows=2, allow_same=True)\\n"
)
import pytest
found["pytest"] = int(pytest.main(["-q", "-p", "no:cacheprovider", "test_it.py", "--compatcheck-max-rows", "2"]))
print("FOUND " + json.dumps(found))
'''  # fmt: skip


def test_an_option_is_added_in_one_place(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "target": "a", "prediction": "a"}\n')
    done = subprocess.run([sys.executable, "-c", ADDED], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--max-rows" in done.stdout
    assert "Read no more rows." in done.stdout
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("FOUND ")).partition(" ")[2])
    assert (found["settings"], found["environment"]) == ({"max_rows": 3}, {"max_rows": 4})
    assert "compatcheck.toml: max_rows: 'x' must be a whole number" in found["problem"]
    assert found["python"] == ["max_rows: 'int | None' = None"] * 4
    assert (found["manifest"], found["pytest"]) == ({"max_rows": 5}, 0)


def models_of_options() -> list[Any]:
    return [each for each in vars(options).values() if is_dataclass(each)]


def read_by(names: set[str], sources: Iterable[str]) -> set[str]:
    """Those of the names that these sources read: as attributes of any object, or as texts that are whole names."""
    found: set[str] = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Load()) | ast.Constant(value=str(name)):
                found.add(name)
            case ast.Call(func=ast.Name("getattr"), args=[_, ast.JoinedStr(parts), *_]):  # f"{side}_name"
                pattern = "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".+" for p in parts)
                found |= {name for name in names if re.fullmatch(pattern, name)}
    return names & found


def test_every_option_is_read_somewhere() -> None:
    """An option that nothing reads is accepted and does nothing."""
    root = Path(options.__file__).parent
    files = {*root.rglob("*.py"), *(root.parent / "compatcheck_train").rglob("*.py")} - {root / "options.py"}
    names = {name for each in models_of_options() for name in option_models.options_of(each)}
    assert len(names) > 80
    assert names - read_by(names, (path.read_text(encoding="utf-8") for path in files)) == set()


def test_an_option_that_nothing_reads_is_noticed() -> None:
    """It is declared, described and handed on, and no one looks at it."""
    source = """
class Evaluate:
    max_rows: int = option(3, "Read no more than max_rows rows.")

def evaluate(max_rows, chosen, side):
    chosen.max_rows = max_rows
    name = getattr(chosen, f"{side}_name")
    return Request(max_rows=max_rows, limit=chosen.limit, seed=getattr(chosen, "seed"), name=name)
"""
    names = {"max_rows", "limit", "seed", "old_name", "new_name"}
    assert names - read_by(names, [source]) == {"max_rows"}


@pytest.mark.parametrize("command", ["diff", "run", "noise", "bless", "export", "fix", "train-task", "plan", "show"])
def test_help_names_no_python_types(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert not [word for word in ("<bool>", "<str>", "<int>", "<path>", "list[", "\\[") if word in text]


def test_help_of_diff_has_an_example_of_every_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for example in ("diff old.csv new.csv", "diff org/model-1b", "base+new-adapter", "#old http://", "diff @main"):
        assert example in text
    assert run(["--help"]) == 0
    assert "--install-completion" in capsys.readouterr().out


def test_a_keyword_that_is_no_option_is_said_with_a_proposal() -> None:
    for function in (compatcheck.diff, compatcheck.evaluate, api.noise, api.bless):
        sides = ["a.jsonl"] * (2 if function is compatcheck.diff else 1)
        with pytest.raises(InputError, match=r"taks: no such option \(did you mean 'task'\?\)"):
            function(*sides, taks="x")
    with pytest.raises(InputError, match="--limit ten: must be a whole number"):
        compatcheck.diff("a.jsonl", "b.jsonl", limit="ten")
    assert "seed: 'int' = 1234" in str(inspect.signature(compatcheck.diff))


@pytest.mark.parametrize(
    "given", [{"task": "\ud800"}, {"slice_by": ["a", "\udcff"]}, {"metric_args": {"judge": {"a": "\ud800"}}}]
)
def test_texts_that_utf8_cannot_hold_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is no text that UTF-8 can hold"):
        compatcheck.diff("a.jsonl", "b.jsonl", **given)


def test_fix_takes_its_options_in_python() -> None:
    from compatcheck_train.api import fix
    from compatcheck_train.fix.request import FixRequest

    assert set(option_models.options_of(options.Fix)) <= set(inspect.signature(fix).parameters)
    chosen = option_models.build(
        options.Fix, {"task": "piqa", "preset": "quick", "blend": "none", "set": {"epochs": 2}}
    )
    request = FixRequest("old", "new", chosen)
    assert (request.judge.task, request.blend, request.settings.epochs, request.margin) == ("piqa", None, 2, 0.01)
    with pytest.raises(InputError, match=r"--blend x: must be a number such as 0.75"):
        option_models.build(options.Fix, {"blend": "x"})


@pytest.mark.parametrize("name", ["diff", "fix"])
def test_proposals_of_the_shell(name: str) -> None:
    from typer.testing import CliRunner

    from compatcheck.cli.app import app

    given = {"_TYPER_COMPLETE_ARGS": f"compatcheck {name} --dtype bf", "_COMPATCHECK_COMPLETE": "complete_zsh"}
    assert "bfloat16" in CliRunner().invoke(app, [], env=given, prog_name="compatcheck").output
