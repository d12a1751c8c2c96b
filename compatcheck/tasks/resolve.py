"""From what the user calls a task to the configuration of every leaf task it means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, did_you_mean, require
from compatcheck.paths import user_path
from compatcheck.tasks.index import IndexEntry, load_index

BUNDLED = Path(__file__).parent / "bundled"
_STRUCTURE = {"include", "tag", "group", "group_alias", "task_list", "class", "aggregate_metric_list", "weight_by_size"}


@dataclass(frozen=True)
class TaskConfigSource:
    """One leaf task: its name, the YAML that defines it, and what a group lays over it."""

    name: str
    path: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    origin: str = "lm-eval"
    """``bundled``, ``file`` or ``lm-eval``."""


def bundled_names() -> list[str]:
    """Names of the tasks that travel with compatcheck."""
    return sorted(path.stem for path in BUNDLED.glob("*.yaml"))


def resolve_task(name: str) -> list[TaskConfigSource]:
    """Resolve a task name, group, tag or YAML file to its leaf tasks. Bundled names and files need no index.

    Raises:
        InputError: unknown name, unreadable YAML, or a key in it that lm-eval does not know.
    """
    require(f"--task {name}", "lm_eval", "datasets")
    if name.endswith((".yaml", ".yml")):
        return _from_file(user_path(name))
    if (BUNDLED / f"{name}.yaml").is_file():
        return [TaskConfigSource(name, BUNDLED / f"{name}.yaml", origin="bundled")]
    index = load_index()
    if name not in index:
        raise InputError(
            f"--task {name}: unknown task{did_you_mean(name, [*bundled_names(), *index])}; "
            "`compatcheck tasks` lists them, and a YAML file works too"
        )
    leaves = list(_expand(index[name], {}, index))
    if not leaves:
        raise InputError(f"--task {name}: the group has no tasks")
    return list({leaf.name: leaf for leaf in leaves}.values())


def _from_file(path: Path) -> list[TaskConfigSource]:
    import yaml

    if not path.is_file():
        raise InputError(f"--task {path}: no such file")
    try:
        config = _read_yaml(path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', error)})") from None
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from None
    _check_keys(path, config)
    if "group" in config:
        index = load_index()
        return list(_expand_group(config, {}, index))
    if not isinstance(config.get("task"), str):
        raise InputError(f"{path}: the key 'task' (the task's name) is missing")
    return [TaskConfigSource(config["task"], path, origin="file")]


def _read_yaml(path: Path) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    config: dict[str, Any] = load_yaml(path, resolve_func=False)
    return config


def _check_keys(path: Path, config: dict[str, Any]) -> None:
    from dataclasses import fields

    from lm_eval.config.task import TaskConfig

    known = {f.name for f in fields(TaskConfig)} | _STRUCTURE
    for key in config:
        if key not in known:
            raise InputError(f"{path}:{_line_of(path, key)}: unknown key '{key}'{did_you_mean(str(key), known)}")


def _line_of(path: Path, key: str) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 1)


def _expand(entry: IndexEntry, overrides: dict[str, Any], index: dict[str, IndexEntry]) -> Iterator[TaskConfigSource]:
    if entry.kind == "tag":
        for member in entry.members:
            if member in index:
                yield from _expand(index[member], overrides, index)
    elif entry.kind == "group":
        assert entry.path is not None
        yield from _expand_group(_read_yaml(entry.path), overrides, index)
    else:
        assert entry.path is not None
        yield TaskConfigSource(entry.name, entry.path, overrides)


def _expand_group(
    config: dict[str, Any], overrides: dict[str, Any], index: dict[str, IndexEntry]
) -> Iterator[TaskConfigSource]:
    """Members of a group. What the group says of tasks holds for each; what a member says of itself wins."""
    members = config.get("task")
    if isinstance(members, str):
        members = [members]
    common = {k: v for k, v in config.items() if k not in _STRUCTURE | {"task", "metadata"}} | overrides
    for member in members or []:
        own = {} if isinstance(member, str) else {k: v for k, v in member.items() if k not in ("task", "group")}
        name = member if isinstance(member, str) else member.get("task") or member.get("group")
        if isinstance(name, list):
            yield from _expand_group(member, common | own, index)
        elif name in index:
            yield from _expand(index[name], common | own, index)
        elif (BUNDLED / f"{name}.yaml").is_file():
            yield TaskConfigSource(name, BUNDLED / f"{name}.yaml", common | own, origin="bundled")
        else:
            raise InputError(f"group '{config.get('group')}': member '{name}' is no known task")
