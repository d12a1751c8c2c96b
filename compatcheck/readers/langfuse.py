"""Langfuse: exported traces, observations or experiment items (JSON, JSON lines, CSV), and what its API gives.

A record is ``{"id", "traceId", "type", "name", "input", "output", "expectedOutput", "metadata", "level",
"statusMessage", "latency", "usageDetails": {"input", "output"}, "totalCost", "scores": [{"name", "value",
"dataType"}]}``, of which traces, observations and experiment items have some; CSV has ``input`` and ``output`` as JSON
text. See https://langfuse.com/docs/api-and-data-platform/features/export-from-ui.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compatcheck.errors import InputError, did_you_mean
from compatcheck.readers.recording import Recording
from compatcheck.readers.traces import Shape, compared, open_traces, roots

_SHAPE = Shape(
    tool="langfuse",
    inside=("data", "traces", "observations"),
    parent=("parentObservationId",),
    id=("experimentItemId", "datasetItemId", "metadata.dataset_item_id", "metadata.datasetItemId"),
    input=("input",),
    output=("output",),
    target=("expectedOutput", "expected_output", "metadata.expected_output", "metadata.expectedOutput"),
    error=("statusMessage",),
    start=("startTime",),
    end=("endTime",),
    latency=("latency",),
    cost=("totalCost", "calculatedTotalCost", "costDetails.total"),
    prompt_tokens=("usageDetails.input", "usage.input", "promptTokens", "inputTokens", "inputUsage"),
    output_tokens=("usageDetails.output", "usage.output", "completionTokens", "outputTokens", "outputUsage"),
    model=("model", "providedModelName"),
    trace=("traceId",),
    kind=("type",),
)


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One row per trace; with ``part`` per observation of this name."""
    recording, rows = open_traces(path, task, _SHAPE)
    for _, record in rows:  # a message may be a warning
        if record.value.get("statusMessage") and record.value.get("level", "ERROR") != "ERROR":
            record.value["statusMessage"] = None
        elif record.value.get("level") == "ERROR" and not record.value.get("statusMessage"):
            record.value["statusMessage"] = "it failed"
        if isinstance(scores := record.value.get("scores"), dict):  # a trace may be scored several times
            record.value["scores"] = {
                name: one[0] if isinstance(one, list) and len(one) == 1 else one for name, one in scores.items()
            }
    if part is not None:
        names = {str(record.value.get("name")) for _, record in rows}
        if part not in names:
            there = ", ".join(sorted(names))
            raise InputError(f"{path}: no observation '{part}'{did_you_mean(part, names)}; there are: {there}")
        chosen = [(number, record) for number, record in rows if str(record.value.get("name")) == part]
    else:
        chosen = roots(rows, _SHAPE, recording)
    return compared(chosen, rows, _SHAPE, recording)
