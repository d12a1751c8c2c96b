"""LangSmith: runs as JSON lines (``list_runs``, bulk export), an experiment as CSV or JSON (its page, ``to_pandas``).

A run is ``{"id", "run_type", "inputs", "outputs", "error", "reference_example_id", "parent_run_id", "start_time",
"end_time", "prompt_tokens", "completion_tokens", "total_cost", "feedback_stats": {key: {"avg"}}}``; a row of an
experiment has ``inputs``, ``outputs``, ``reference_outputs`` and ``feedback`` as objects, or columns
``inputs.question``, ``reference.answer``, ``feedback.correct`` …, ``execution_time`` and ``example_id``. See
https://docs.langchain.com/langsmith/export-traces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compatcheck.readers.recording import Recording
from compatcheck.readers.traces import Shape, read_traces

_SHAPE = Shape(
    tool="langsmith",
    inside=("runs", "examples_with_runs", "data"),
    parent=("parent_run_id",),
    id=("reference_example_id", "example_id"),
    input=("inputs", "input"),
    output=("outputs", "output"),
    target=("reference_outputs", "reference", "reference_example.outputs"),
    start=("start_time",),
    end=("end_time",),
    latency=("execution_time", "latency"),
    cost=("total_cost",),
    prompt_tokens=("prompt_tokens",),
    output_tokens=("completion_tokens",),
    model=("extra.metadata.ls_model_name", "model"),
    scores=("feedback", "feedback_stats", "feedback_scores"),
    trace=("trace_id",),
    kind=("run_type",),
    told=("extra.metadata", "metadata"),
)


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One row per run that is a trace of its own."""
    return read_traces(path, task, _SHAPE)
