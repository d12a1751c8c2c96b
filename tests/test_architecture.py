"""The floors of docs/architecture.md: no arrow runs back up, and light paths stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import compatcheck

PACKAGE = Path(compatcheck.__file__).parent
TRAINING = PACKAGE.parent / "compatcheck_train"
GROUND = {
    "conversation",
    "errors",
    "memory",
    "records",
    "options",
    "option_kinds",
    "option_models",
    "paths",
    "reasoning",
    "schema",
    "scratch",
    "text",
    "version",
}
BELOW = {
    "conversation": set(),
    "errors": set(),
    "memory": set(),
    "paths": set(),
    "records": set(),
    "schema": set(),
    "scratch": set(),
    "reasoning": set(),
    "text": set(),
    "version": set(),
    "options": set(),
    "option_kinds": set(),
    "option_models": set(),
    "compare": set(),
    "gate": {"compare"},
    "advice": {"compare"},
    "beside": {"compare", "gate"},
    "report": {"compare", "gate"},
    "sides": set(),
    "config": {"sides"},
    "doctor": {"config", "engines"},
    "baselines": set(),
    "pytest_plugin": {"results", "config", "api", "report"},
    "scaffold": {"config"},
    "similarity": set(),
    "models": set(),
    "references": {"baselines", "models"},
    "tasks": {"similarity"},
    "engines": {"models"},
    "table": {"models", "references", "similarity", "tasks"},
    "readers": {"table", "models", "references", "similarity", "tasks"},
    "evaluation": {"sides", "engines", "models", "readers", "references", "similarity", "table", "tasks"},
    "rereading": {"compare", "similarity"},
    "noise": {"compare"},
    "themes": {"compare", "similarity"},
    "sequential": {"readers", "table", "compare", "gate", "evaluation"},
    "results": {"baselines", "compare", "report", "table", "evaluation"},
    "comparing": {"results", "advice", "beside", "compare", "gate", "noise", "rereading", "sequential"},
    "several": {"beside", "comparing", "compare", "evaluation", "gate", "results"},
    "api": {
        "several",
        "comparing",
        "readers",
        "table",
        "results",
        "advice",
        "baselines",
        "beside",
        "compare",
        "engines",
        "gate",
        "noise",
        "references",
        "report",
        "rereading",
        "sides",
        "evaluation",
        "sequential",
        "similarity",
        "tasks",
        "themes",
    },
    "__main__": {"cli"},
    "demo": {"api", "references"},
    "cli": {
        "readers",
        "table",
        "results",
        "api",
        "baselines",
        "compare",
        "config",
        "demo",
        "doctor",
        "engines",
        "evaluation",
        "gate",
        "noise",
        "report",
        "scaffold",
        "sides",
        "tasks",
    },
}


def rooms() -> list[str]:
    return sorted({path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")})


def imports_of(room: str) -> dict[str, str]:
    """Rooms that a room imports, anywhere in its files, with one file that does."""
    root = PACKAGE / room
    found: dict[str, str] = {}
    for path in root.rglob("*.py") if root.is_dir() else [PACKAGE / f"{room}.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom) and node.module == "compatcheck":
                names = [f"compatcheck.{alias.name}" for alias in node.names]
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if name and name.startswith("compatcheck."):
                    found[name.split(".")[1]] = str(path.relative_to(PACKAGE))
    return found


@pytest.mark.parametrize("room", [room for room in rooms() if room != "__init__"])
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    assert room in BELOW, f"{room} is a new room: say in docs/architecture.md and here on which floor it stands"
    for other, where in imports_of(room).items():
        allowed = BELOW[room] | GROUND | {room}
        assert other in allowed, f"{where} imports {other}, which is not below {room}"


EVERY = [*PACKAGE.rglob("*.py"), *TRAINING.rglob("*.py")]
MANY_ARGUMENTS = {
    "cli/setup.py:plan",  # each is an option of the command, which no other command has
    "readers/large.py:load_large",  # those of load_recorded and where it may write
}


def test_no_file_is_long() -> None:
    assert not {str(p): n for p in EVERY if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}


def test_no_function_is_long_or_has_many_arguments() -> None:
    for path in EVERY:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            name = f"{'/'.join(path.parts[-2:])}:{node.name}"
            assert (node.end_lineno or node.lineno) - node.lineno < 60, name
            given = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            assert len(given) - (given[:1] in (["self"], ["cls"])) <= 8 or name in MANY_ARGUMENTS, name


def test_files_import_each_other_in_one_direction() -> None:
    """Anywhere in a file, but for what types alone need."""
    files = {}
    for path in EVERY:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        files[".".join(parts).removesuffix(".__init__")] = path
    arrows = {name: (imported(path, types=False) & files.keys()) - {name} for name, path in files.items()}
    for found in arrows.values():  # ``from package import module`` is an arrow to the module
        found -= {package for package in found if any(other.startswith(f"{package}.") for other in found)}
    TopologicalSorter(arrows).prepare()  # raises CycleError


def imported(path: Path, types: bool = True) -> set[str]:
    """Full names of the modules that a file imports, ``from compatcheck import api`` as ``compatcheck.api``.

    ``types``: those for type checkers alone are among them.
    """
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out: set[ast.AST] = set()
    for node in ast.walk(tree):
        if not types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            left_out.update(each for part in node.body for each in ast.walk(part))
    for node in (each for each in ast.walk(tree) if each not in left_out):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_only_the_fix_command_knows_of_training() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts == ("cli", "fix.py"):
            continue
        assert not any(name.split(".")[0] == "compatcheck_train" for name in imported(path)), path


def test_training_stands_on_what_is_below_the_command_line() -> None:
    for path in TRAINING.rglob("*.py"):
        rooms_used = {name.split(".")[1] for name in imported(path) if name.startswith("compatcheck.")}
        assert not rooms_used & {"cli", "demo", "checks", "pytest_plugin", "scaffold"}, path


TRAINING_FLOORS = (
    "settings", "folders", "examples", "batches", "loss", "teachers", "align", "training", "weights", "fix", "report",
    "api",
)  # fmt: skip
"""The rooms of training from the ground up."""


def test_training_has_no_circle_and_no_arrow_up() -> None:
    arrows: dict[str, set[str]] = {}
    for path in TRAINING.rglob("*.py"):
        parts = path.relative_to(TRAINING.parent).with_suffix("").parts
        if len(parts) == 2 and parts[1] == "__init__":
            continue
        for name in (name.split(".") for name in imported(path) if name.startswith("compatcheck_train.")):
            assert TRAINING_FLOORS.index(name[1]) <= TRAINING_FLOORS.index(parts[1]), f"{path} imports {name[1]}"
            if len(name) > 2 and name[1] == parts[1] and (TRAINING / name[1] / f"{name[2]}.py").is_file():
                arrows.setdefault("/".join(parts[1:]), set()).add(f"{name[1]}/{name[2]}")
    TopologicalSorter(arrows).prepare()  # raises CycleError


def test_settings_and_names_of_strategies_load_no_torch() -> None:
    loaded = loaded_by("import compatcheck_train\nfrom compatcheck_train.loss import strategies\nstrategies.names()")
    assert loaded.isdisjoint({"torch", "transformers", "peft", "accelerate", "lm_eval", "datasets"})


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by("from compatcheck.cli.app import run\nrun(['--help'])\nrun(['diff', '--help'])")
    assert loaded.isdisjoint({"torch", "transformers", "lm_eval", "pandas", "numpy", "scipy", "datasets"})


def test_comparing_recorded_outputs_loads_no_model_library(tmp_path: Path) -> None:
    for name, answer in (("old", "a"), ("new", "b")):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(f'{{"id": {i}, "target": "a", "prediction": "{answer if i % 3 else "a"}"}}\n' for i in range(30))
        )
    loaded = loaded_by(
        "from compatcheck.cli.app import run\n"
        f"sides = [{str(tmp_path / 'old.jsonl')!r}, {str(tmp_path / 'new.jsonl')!r}]\n"
        "code = run(['diff', *sides, '-q'])\n"
        "assert code == 0, code"
    )
    assert loaded.isdisjoint({"torch", "transformers", "lm_eval", "datasets", "peft"})
    slow = {"scipy.special", "scipy.optimize", "scipy.stats", "pydantic", "pyarrow.dataset", "duckdb", "matplotlib"}
    slow |= {"pyarrow.parquet", "urllib.request", "http.client", "ssl", "email", "importlib.metadata"}
    assert loaded.isdisjoint(slow), "a comparison of a small file can do without"
    assert "compatcheck" in loaded
