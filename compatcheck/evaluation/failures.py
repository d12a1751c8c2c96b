"""Documents that an engine could not answer: the fifth bucket of a comparison, never an answer that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from compatcheck.errors import InputError
from compatcheck.tasks import LoadedTask

FEW = 0.02
"""A larger share of failed documents is warned about."""


def failed_documents(engine: Any, loaded: LoadedTask) -> dict[Any, str]:
    """One line for each failed document, by its id as lm-eval logs it.

    An engine keeps its failures by (task name, place among the documents that were asked), as requests carry it.
    """
    failures: Mapping[tuple[Any, Any], str] = getattr(engine, "failures", None) or {}
    indices = loaded.indices
    return {
        indices[place] if indices is not None else place: message
        for (task, place), message in failures.items()
        if task == loaded.name
    }


def failure_note(
    reference: str, loaded: LoadedTask, failed: Mapping[Any, str], asked: int | None = None
) -> tuple[str, ...]:
    """What is said of the failed documents of a task, of ``asked`` or all; nothing where there are none."""
    if not failed:
        return ()
    size = loaded.size if asked is None else asked
    share = len(failed) / max(1, size)
    message, count = Counter(failed.values()).most_common(1)[0]
    warning = f"Warning, {share:.0%} of {loaded.name} failed: figures rest on the other documents alone. "
    why = "" if count == len(failed) else f"{count} of them: "
    return (
        f"{warning if share > FEW else ''}{reference}: {len(failed)} of {size} documents of {loaded.name} could "
        f"not be answered and count as errors, not as wrong: {why}{message}",
    )


def only_answered(results: Mapping[str, Any], loaded: LoadedTask, failed: Mapping[Any, str]) -> dict[str, Any]:
    """lm-eval's results of one task without the failed documents: samples, counts and aggregated metrics.

    Raises:
        InputError: no document is left.
    """
    if not failed:
        return dict(results)
    name = loaded.name
    samples = [sample for sample in results["samples"][name] if sample["doc_id"] not in failed]
    if not samples:
        raise InputError(f"task {name}: no document could be answered: {next(iter(failed.values()))}")
    aggregation = loaded.task.aggregation()
    figures = dict(results["results"][name])
    for key in figures:
        metric, _, filter_name = key.partition(",")
        values = [sample[metric] for sample in samples if sample["filter"] == filter_name and metric in sample]
        if metric.endswith("_stderr"):
            figures[key] = "N/A"
        elif metric in aggregation and values:
            figures[key] = aggregation[metric](values)
    if "sample_len" in figures:
        figures["sample_len"] = len({sample["doc_id"] for sample in samples})
    counts = {name: {**results["n-samples"].get(name, {}), "effective": len({s["doc_id"] for s in samples})}}
    return {
        **results,
        "samples": {**results["samples"], name: samples},
        "results": {**results["results"], name: figures},
        "n-samples": {**results["n-samples"], **counts},
    }
