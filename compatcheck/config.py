"""The project's settings: ``compatcheck.toml``, or ``[tool.compatcheck]`` in pyproject.toml.

Top-level keys are the options of ``compatcheck diff`` and serve every check and every ``diff`` of the project; a table
``[checks.NAME]`` names OLD and NEW and may say anything otherwise. ``[fix]`` has settings of ``compatcheck fix``.
Command line > environment > check > top level.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, did_you_mean

FILE = "compatcheck.toml"
PROJECT_FILE = "pyproject.toml"
ENVIRONMENT = "COMPATCHECK_"
"""Prefix of environment variables: ``COMPATCHECK_ENGINE=vllm``. Only for the keys of :data:`FROM_ENVIRONMENT`."""
FROM_ENVIRONMENT = ("engine", "batch_size", "dtype", "device", "limit", "max_missing", "store", "out")


@dataclass(frozen=True)
class Check:
    """One named comparison. ``options`` are those of ``compatcheck diff``, top-level ones included."""

    name: str
    old: str
    new: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Config:
    """What a settings file says. ``path`` is None where there is none; ``key`` is where in it the settings stand."""

    path: Path | None = None
    key: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    fix: Mapping[str, Any] = field(default_factory=dict)


def find(start: Path | None = None) -> Path | None:
    """The settings file for a folder: the nearest one upwards, looking no higher than the repository's root."""
    folder = (start or Path.cwd()).resolve()
    for each in (folder, *folder.parents):
        if (each / FILE).is_file():
            return each / FILE
        project = each / PROJECT_FILE
        if project.is_file() and "compatcheck" in _read(project).get("tool", {}):
            return project
        if (each / ".git").exists():
            return None
    return None


def load(path: Path | None = None) -> Config:
    """Read the settings of the current folder, or of ``path``.

    Raises:
        InputError: a file that is no TOML, an unknown key, a value of the wrong kind, a check without OLD or NEW.
    """
    if path is not None and not path.is_file():
        raise InputError(f"--config {path}: no such file")
    found = path or find()
    if found is None:
        return Config()
    table: Any = _read(found)
    key = ""
    if found.name == PROJECT_FILE:
        table, key = table.get("tool", {}).get("compatcheck", {}), "tool.compatcheck"
    if not isinstance(table, dict):
        raise InputError(f"{found}: {key} must be a table")
    place = _Place(found, key)
    checks = table.pop("checks", {})
    if not isinstance(checks, dict):
        raise place.error("checks", "must be a table of tables, such as [checks.summaries]")
    fixes = _fix(table.pop("fix", {}), place)
    options = _options(table, place)
    return Config(
        found, key, options, tuple(_check(name, each, options, place) for name, each in checks.items()), fixes
    )


def from_environment(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Options given as environment variables.

    Raises:
        InputError: a value that cannot be read.
    """
    environment = os.environ if environment is None else environment
    given: dict[str, Any] = {}
    for key in FROM_ENVIRONMENT:
        name = ENVIRONMENT + key.upper()
        text = environment.get(name, "")
        if not text:
            continue
        value: Any = int(text) if text.isdigit() else text
        problem = _KEYS[key](value)
        if problem:
            raise InputError(f"environment variable {name}={text}: must be {problem}")
        given[key] = value
    return given


@dataclass(frozen=True)
class _Place:
    path: Path
    key: str

    def name(self, key: str) -> str:
        return f"{self.key}.{key}" if self.key else key

    def below(self, key: str) -> _Place:
        return _Place(self.path, self.name(key))

    def error(self, key: str, why: str) -> InputError:
        return InputError(f"{self.path}: {self.name(key)}: {why}")


def _check(name: str, table: Any, shared: Mapping[str, Any], place: _Place) -> Check:
    place = place.below(f"checks.{name}")
    if not isinstance(table, dict):
        raise InputError(f"{place.path}: {place.key}: must be a table with old, new and options")
    for side in ("old", "new"):
        if not isinstance(table.get(side), str) or not table[side]:
            raise place.error(side, "is missing: name a model, an adapter or recorded outputs")
    rest = {key: value for key, value in table.items() if key not in ("old", "new")}
    old, new = (_reference(table[side], place.path.parent) for side in ("old", "new"))
    return Check(name, old, new, {**shared, **_options(rest, place)})


def _fix(table: Any, place: _Place) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise place.error("fix", f"must be a table with {' or '.join(_FIX)}")
    for key, value in table.items():
        if key not in _FIX:
            raise place.below("fix").error(
                key, f"no such setting{did_you_mean(key, _FIX)}; there are {', '.join(_FIX)}"
            )
        problem = _FIX[key](value)
        if problem:
            raise place.below("fix").error(key, f"{value!r} must be {problem}")
    return dict(table)


def _options(table: Mapping[str, Any], place: _Place) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for written, value in table.items():
        key = written.replace("-", "_")
        if key not in _KEYS:
            hint = did_you_mean(key, [*_KEYS, "checks", "fix", "old", "new"])
            raise place.error(written, f"no such setting{hint}; see `compatcheck diff --help`, whose options they are")
        if key in options:
            raise place.error(written, "is given twice, with - and with _")
        problem = _KEYS[key](value)
        if problem:
            raise place.error(written, f"{value!r} must be {problem}")
        options[key] = _from_here(value, place.path.parent) if key in _PATHS else value
    if "task" in options:
        names = [options["task"]] if isinstance(options["task"], str) else options["task"]
        options["task"] = [_from_here(n, place.path.parent) if n.endswith((".yaml", ".yml")) else n for n in names]
    if "noise_run" in options:
        runs = [options["noise_run"]] if isinstance(options["noise_run"], str) else options["noise_run"]
        options["noise_run"] = [_reference(run, place.path.parent) for run in runs]
    return options


def _reference(text: str, folder: Path) -> str:
    """A reference whose paths are relative to the settings file, as seen from the current folder."""
    if text.startswith(("http://", "https://", "@")):
        return text
    return "+".join(_from_here(part, folder) if _exists(part, folder) else part for part in text.split("+"))


def _exists(part: str, folder: Path) -> bool:
    """Whether a part of a reference is a path here; of one with ``{task}`` the folder before it counts."""
    stem, placeholder, _ = part.partition("{task}")
    if placeholder:
        return "/" in stem and (folder / stem.rpartition("/")[0]).is_dir()
    return bool(part) and (folder / part).exists()


def _from_here(text: str, folder: Path) -> str:
    path = folder / Path(text).expanduser()
    here = Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None


def _kind(words: str, holds: Callable[[Any], bool]) -> Callable[[Any], str | None]:
    """A test that answers with what a value must be, or None where it is that."""
    return lambda value: None if holds(value) else words


def _whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_text = _kind("text", lambda v: isinstance(v, str))
_yes = _kind("true or false", lambda v: isinstance(v, bool))
_whole = _kind("a whole number", _whole_number)
_number = _kind("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool))
_texts = _kind(
    "text, or a list of texts",
    lambda v: isinstance(v, str) or (isinstance(v, list) and all(isinstance(each, str) for each in v)),
)
_table = _kind("a table", lambda v: isinstance(v, dict))
_tables = _kind("a table of tables", lambda v: isinstance(v, dict) and all(isinstance(e, dict) for e in v.values()))
_share = _kind('a share such as "2%" or 0.02', lambda v: isinstance(v, str | float | int) and not isinstance(v, bool))
_batch = _kind('a whole number or "auto"', lambda v: v == "auto" or (_whole_number(v) and v >= 1))
_store = _kind("a folder, or false for none", lambda v: isinstance(v, str) or v is False)

_FIX: dict[str, Callable[[Any], str | None]] = {"margin": _number, "seeds": _whole}
"""What ``[fix]`` may say: the margin in points, and the number of trainings."""
_PATHS = ("data", "targets", "out")
_KEYS: dict[str, Callable[[Any], str | None]] = {
    "task": _texts, "data": _text, "split": _text, "limit": _whole, "sample": _whole, "num_fewshot": _whole,
    "engine": _text, "engine_args": _table, "batch_size": _batch, "dtype": _text, "device": _text,
    "apply_chat_template": _yes, "fewshot_as_multiturn": _yes, "trust_remote_code": _yes, "seed": _whole,
    "store": _store,
    "metric": _texts, "metric_args": _tables, "lower_is_better": _texts,
    "epsilon": _number, "correct_at": _number, "slice_by": _texts,
    "cluster_by": _text,
    "fail_on": _texts, "advisory": _texts, "required": _texts, "max_missing": _share, "allow_same": _yes,
    "until_decided": _yes, "step": _whole, "max": _whole,
    "id_field": _text, "target_field": _text, "prediction_field": _text,
    "old_prediction_field": _text, "new_prediction_field": _text, "extract": _text, "targets": _text,
    "stream": _yes, "repeats": _text, "noise_floor": _whole, "noise_run": _texts,
    "format": _texts, "out": _text, "exit_zero": _yes, "quiet": _yes,
}  # fmt: skip
