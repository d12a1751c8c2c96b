"""Tasks: data + prompt + scoring, in lm-eval's own format. Bundled ones, any of lm-eval's, or the user's YAML."""

from __future__ import annotations

from compatcheck.tasks.load import DEFAULT_SEED, LoadedTask, TaskOptions, check_metric_names, load_tasks
from compatcheck.tasks.resolve import TaskConfigSource, bundled_names, resolve_task

__all__ = [
    "DEFAULT_SEED",
    "LoadedTask",
    "TaskConfigSource",
    "TaskOptions",
    "bundled_names",
    "check_metric_names",
    "load_tasks",
    "resolve_task",
]
