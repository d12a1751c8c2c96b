"""Braintrust: an exported experiment or log (JSON, JSON lines, CSV), and results of ``Eval`` as JSON lines.

A record is a span: ``{"id", "span_id", "root_span_id", "span_parents", "input", "output", "expected", "error",
"scores": {name: number}, "metadata", "metrics": {"start", "end", "prompt_tokens", "completion_tokens",
"estimated_cost"}}``. The root span of a trace is compared. As in Braintrust, records are known by their input. See
https://www.braintrust.dev/docs/core/experiments.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compatcheck.readers.recording import Recording
from compatcheck.readers.traces import Shape, read_traces

_SHAPE = Shape(
    tool="braintrust",
    inside=("events", "rows", "data"),
    parent=("span_parents",),
    id=("origin.id",),
    input=("input",),
    output=("output",),
    target=("expected",),
    start=("metrics.start",),
    end=("metrics.end",),
    latency=("metrics.duration",),
    cost=("metrics.estimated_cost", "metrics.cost"),
    prompt_tokens=("metrics.prompt_tokens",),
    output_tokens=("metrics.completion_tokens",),
    model=("metadata.model",),
    trace=("root_span_id",),
    kind=("span_attributes.type",),
    name=("span_attributes.name",),
)


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One row per trace. A score of 1 is the best, also of the Levenshtein of autoevals, which is a similarity."""
    recordings = read_traces(path, task, _SHAPE)
    for recording in recordings:
        recording.higher = True
    return recordings
