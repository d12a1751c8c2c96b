"""From what the user calls a task to the configuration of every leaf task it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, did_you_mean, require
from compatcheck.paths import user_path
from compatcheck.tasks.index import IndexEntry, lm_eval_tasks_dir, load_index

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

    def config(self, trust: bool) -> dict[str, Any]:
        """The task's settings with what it includes; functions of the YAML are imported. Raises InputError: the file is
        a user's, would run code of its own, and is not trusted; or it cannot be read."""
        from lm_eval.tasks._yaml_loader import load_yaml

        if self.origin == "file" and not trust:
            what = _code_in(self.path) or _foreign_metric(self.path)
            if what is not None:
                raise InputError(f"{what} runs code that comes with the task; read it, then say --trust-task")
        try:
            return {**load_yaml(self.path), **self.overrides}
        except (ImportError, AttributeError) as error:
            raise InputError(f"{self.path}: {error}") from None


def bundled_names() -> list[str]:
    """Names of the tasks that travel with compatcheck."""
    return sorted(path.stem for path in BUNDLED.glob("*.yaml"))


def resolve_task(name: str) -> list[TaskConfigSource]:
    """Resolve a task name, group, tag or YAML file to its leaf tasks. Bundled names and files need no index. Raises
    InputError: unknown name, unreadable YAML, or a key in it that lm-eval does not know."""
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
    leaves = {leaf.name: leaf for leaf in _expand(index[name], {}, index)}
    if not leaves:
        raise InputError(f"--task {name}: the group has no tasks")
    return list(leaves.values())


def _from_file(path: Path) -> list[TaskConfigSource]:
    import yaml
    from lm_eval.config.task import TaskConfig

    if not path.is_file():
        raise InputError(f"--task {path}: no such file")
    try:
        config = read_yaml(path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', error)})") from None
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise InputError(f"{path}: {error}") from None
    known = {f.name for f in fields(TaskConfig)} | _STRUCTURE
    for key in config:
        if key not in known:
            lines = path.read_text(encoding="utf-8").splitlines()
            line = next((number for number, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 1)
            raise InputError(f"{path}:{line}: unknown key '{key}'{did_you_mean(str(key), known)}")
    for key, inner in (("metric_list", "metric"), ("filter_list", "name")):
        listed = config.get(key)
        whole = isinstance(listed, list) and all(isinstance(e, dict) and isinstance(e.get(inner), str) for e in listed)
        if listed is not None and not whole:
            raise InputError(f"{path}: {key} must be a list of objects, each with a text '{inner}'")
    decoding = config.get("generation_kwargs") or {}
    if not isinstance(decoding, dict):
        raise InputError(f"{path}: generation_kwargs must be an object")
    ends = decoding.get("until", [])
    if not isinstance(ends, str) and not (isinstance(ends, list) and all(isinstance(end, str) for end in ends)):
        raise InputError(f"{path}: generation_kwargs.until must be a text or a list of texts")
    if not isinstance(most := decoding.get("max_gen_toks", 1), int):
        raise InputError(f"{path}: generation_kwargs.max_gen_toks is {most!r}; a whole number is needed")
    if "group" in config:
        return list(_expand_group(config, {}, load_index()))
    if not isinstance(config.get("task"), str):
        raise InputError(f"{path}: the key 'task' (the task's name) is missing")
    return [TaskConfigSource(config["task"], path, origin="file")]


def read_yaml(path: Path) -> dict[str, Any]:
    """A task's YAML with what it includes; functions stay texts."""
    from lm_eval.tasks._yaml_loader import load_yaml

    config: dict[str, Any] = load_yaml(path, resolve_func=False)
    return config


def _code_in(path: Path, seen: tuple[Path, ...] = ()) -> str | None:
    """The first place in a YAML, or in what it includes, that imports Python; lm-eval's own files are not looked at."""
    import yaml

    path = path.expanduser().resolve()
    if path in seen or path.is_relative_to(lm_eval_tasks_dir().resolve()) or path.is_relative_to(BUNDLED.resolve()):
        return None
    root = yaml.compose(path.read_bytes(), Loader=yaml.SafeLoader)
    nodes: list[Any] = [root] if root is not None else []
    includes: list[str] = []
    done: set[int] = set()
    while nodes:
        node = nodes.pop(0)
        if id(node) in done:  # an alias
            continue
        done.add(id(node))
        if node.tag.startswith("!") or "python/" in node.tag:
            return f"{path}:{node.start_mark.line + 1}: {node.tag} {node.value if isinstance(node.value, str) else ''}"
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == "class" and node is root:
                    return f"{path}:{key.start_mark.line + 1}: class"
                if key.value == "include" and node is root:
                    includes += [each.value for each in (value.value if value.id == "sequence" else [value])]
                nodes += [key, value]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
    found = (_code_in(path.parent / include, (*seen, path)) for include in includes)
    return next((what for what in found if what is not None), None)


def _foreign_metric(path: Path) -> str | None:
    """A metric that lm-eval would take from a script of the Hub, or from a folder."""
    import lm_eval.api.metrics  # noqa: F401 - fills the register
    from lm_eval.api.registry import metric_registry

    config = read_yaml(path)
    for entry in config.get("metric_list") or ():
        metric = entry.get("metric") if isinstance(entry, Mapping) else None
        own = config.get("process_results") is not None  # names are those of its figures, nothing is loaded
        if isinstance(metric, str) and not own and (entry.get("hf_evaluate") or metric not in metric_registry):
            return f"{path}: metric {metric}, which is none of lm-eval's,"
    return None


def _expand(entry: IndexEntry, overrides: dict[str, Any], index: dict[str, IndexEntry]) -> Iterator[TaskConfigSource]:
    if entry.kind == "tag":
        for member in entry.members:
            if member in index:
                yield from _expand(index[member], overrides, index)
        return
    assert entry.path is not None
    if entry.kind == "group":
        yield from _expand_group(read_yaml(entry.path), overrides, index)
    else:
        yield TaskConfigSource(entry.name, entry.path, overrides)


def _expand_group(
    config: dict[str, Any], overrides: dict[str, Any], index: dict[str, IndexEntry]
) -> Iterator[TaskConfigSource]:
    """Members of a group. What the group says of tasks holds for each; what a member says of itself wins."""
    members = config.get("task")
    common = {k: v for k, v in config.items() if k not in _STRUCTURE | {"task", "metadata"}} | overrides
    listed: list[Any] = [members] if isinstance(members, str) else members or []
    for member in listed:
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
