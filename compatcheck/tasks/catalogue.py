"""What ``compatcheck tasks`` prints: which tasks there are, and how one is prompted and scored."""

from __future__ import annotations

from typing import Any

from compatcheck.errors import InputError
from compatcheck.tasks.index import load_index
from compatcheck.tasks.resolve import BUNDLED, bundled_names, read_yaml, resolve_task

_SHOWN = (
    "dataset_path", "dataset_name", "output_type", "training_split", "validation_split", "test_split", "fewshot_split",
    "num_fewshot", "doc_to_text", "doc_to_target", "doc_to_choice", "process_docs", "generation_kwargs", "filter_list",
    "metric_list", "process_results", "metadata",
)  # fmt: skip


def overview() -> str:
    """The bundled tasks with what they measure, and where the others are."""
    lines = ["bundled (no index, no download of code):"]
    for name in bundled_names():
        text = (BUNDLED / f"{name}.yaml").read_text(encoding="utf-8")
        lines.append(f"  {name:<10} {text.splitlines()[0].removeprefix('# ')}")
    lines += [
        "",
        "any task, group or tag of lm-eval works too: `compatcheck tasks --search arc`, `compatcheck tasks --all`",
        "and so does a YAML file in its format: `--task my_task.yaml`",
    ]
    return "\n".join(lines)


def listing(part: str) -> list[str]:
    """``name  kind`` of every task, group and tag whose name contains ``part``, bundled first. Raises InputError: no
    name contains it."""
    names = [(name, "bundled") for name in bundled_names() if part in name]
    names += [(e.name, e.kind) for e in load_index().values() if part in e.name and e.name not in bundled_names()]
    if not names:
        raise InputError(f"no task, group or tag of lm-eval contains '{part}'")
    width = max(len(name) for name, _ in names)
    return [f"{name:<{width}}  {kind}" for name, kind in names]


def show(name: str) -> str:
    """How a task is prompted, decoded and scored; for a group, its members. Raises InputError: the task is unknown."""
    sources = resolve_task(name)
    if len(sources) > 1:
        return "\n".join([f"{name}: {len(sources)} tasks", *(f"  {source.name}" for source in sources)])
    source = sources[0]
    config = {**read_yaml(source.path), **source.overrides}
    shown = {key: _shown(key, config[key]) for key in _SHOWN if config.get(key) is not None}
    return "\n".join([f"{source.name} ({source.origin})", *(f"  {key}: {text}" for key, text in shown.items())])


def _shown(key: str, value: Any) -> str:
    if key in ("filter_list", "metric_list"):
        return ", ".join(str(one["name" if key == "filter_list" else "metric"]) for one in value)
    return str(value).rsplit("/", 1)[-1] if key in ("process_docs", "process_results") else repr(value)
