"""What ``compatcheck tasks`` prints: which tasks there are, and how one is prompted and scored."""

from __future__ import annotations

from typing import Any

from compatcheck.errors import InputError
from compatcheck.tasks.index import load_index
from compatcheck.tasks.resolve import BUNDLED, bundled_names, resolve_task


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
    """``name  kind`` of every task, group and tag whose name contains ``part``, bundled first.

    Raises:
        InputError: no name contains it.
    """
    names = [(name, "bundled") for name in bundled_names() if part in name]
    names += [(e.name, e.kind) for e in load_index().values() if part in e.name and e.name not in bundled_names()]
    if not names:
        raise InputError(f"no task, group or tag of lm-eval contains '{part}'")
    width = max(len(name) for name, _ in names)
    return [f"{name:<{width}}  {kind}" for name, kind in names]


def show(name: str) -> str:
    """How a task is prompted, decoded and scored; for a group, its members.

    Raises:
        InputError: the task is unknown.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    sources = resolve_task(name)
    if len(sources) > 1:
        return "\n".join([f"{name}: {len(sources)} tasks", *(f"  {source.name}" for source in sources)])
    source = sources[0]
    config: dict[str, Any] = {**load_yaml(source.path, resolve_func=False), **source.overrides}
    lines = [f"{source.name} ({source.origin})"]
    for key in (
        "dataset_path",
        "dataset_name",
        "output_type",
        "training_split",
        "validation_split",
        "test_split",
        "fewshot_split",
        "num_fewshot",
        "doc_to_text",
        "doc_to_target",
        "doc_to_choice",
        "process_docs",
        "generation_kwargs",
        "filter_list",
        "metric_list",
        "process_results",
        "metadata",
    ):
        if config.get(key) is not None:
            lines += _entry(key, config[key])
    return "\n".join(lines)


def _entry(key: str, value: Any) -> list[str]:
    if key == "filter_list":
        return [f"  {key}: {', '.join(str(one['name']) for one in value)}"]
    if key == "metric_list":
        return [f"  {key}: {', '.join(str(one['metric']) for one in value)}"]
    if key in ("process_docs", "process_results"):
        return [f"  {key}: {str(value).rsplit('/', 1)[-1]}"]
    return [f"  {key}: {value!r}"]
