"""deepeval: the test run that ``evaluate`` writes (``results_folder``, ``DEEPEVAL_RESULTS_FOLDER``), one JSON object.

``testCases`` has one entry a case: ``name``, ``input``, ``actualOutput``, ``expectedOutput``, ``toolsCalled``,
``expectedTools``, ``success``, ``metricsData`` (``name``, ``score``, ``success``, ``error``), ``tokenCost`` and
``completionTime``. See https://deepeval.com/docs/evaluation-flags-and-configs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compatcheck.readers.chat import calls_text, tool_calls
from compatcheck.readers.recording import Item, Record, Recording, count_scores, is_finite, labels, numbered
from compatcheck.table.reading import Row, Source, read_json
from compatcheck.text import text_hash

_LOWER = {"Bias", "Hallucination", "Misuse", "Toxicity"}
"""deepeval's own metrics of which less is better."""


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One row per test case; conversations are left out, which a note says."""
    top = Record(read_json(path), str(path))
    recording = Recording(Source(path, "test case", iter(())), (), task or "deepeval")
    cases = numbered(top.need("testCases", "a list"), path, "testCases")
    items: list[Item] = [(number, _plain(record), record.value) for number, record in cases]
    recording.higher_is_better = _directions(cases)
    count_scores(items, recording)
    recording.items = items
    if turns := top.get("conversationalTestCases", "a list", []):
        recording.notes.append(f"{len(turns):,} conversational test cases are left out")
    return [recording]


def _directions(cases: Sequence[tuple[int, Record]]) -> dict[str, bool]:
    """Which way each metric points: by the scores beyond their threshold that succeeded or not, else by its name."""
    told: dict[str, set[bool]] = {}
    for _, record in cases:
        for one in record.get("metricsData", "a list", []):
            found: Row = one if isinstance(one, dict) else {}
            known, success = told.setdefault(str(found.get("name")), set()), found.get("success")
            beyond = [found[key] for key in ("score", "threshold") if is_finite(found.get(key))]
            if len(set(beyond)) == 2 and isinstance(success, bool):
                known.add((beyond[0] > beyond[1]) is success)
    sure = {name: known == {True} for name, known in told.items() if len(known) == 1}
    return dict.fromkeys(_LOWER & told.keys(), False) | sure


def _plain(record: Record) -> Row:
    asked = record.need("input", "a text")
    row: Row = {"id": text_hash(asked)[:16], "input": asked, "prediction": record.get("actualOutput", "a text")}
    called, expected = record.get("toolsCalled", "a list"), record.get("expectedTools", "a list")
    row["target"] = record.get("expectedOutput", "a text")
    if called:
        row["tool_calls"] = calls_text(tool_calls(called))
    if expected:  # the calls are what is judged
        row |= {"target": calls_text(tool_calls(expected)), "response": row["prediction"]}
        row["prediction"] = calls_text(tool_calls(called or []))
    failed = []
    for place, one in enumerate(record.get("metricsData", "a list", [])):
        metric = Record(one, f"{record.place}, `metricsData`[{place}]")
        if metric.value.get("error"):
            failed.append(f"{metric.name('name')}: {metric.value['error']}")
        else:
            row[f"score:{metric.name('name')}"] = metric.value.get("score")
    if failed:
        row["error"] = "; ".join(failed)
    found = {"cost": record.get("tokenCost", "a number"), "latency": record.get("completionTime", "a number")}
    row |= {key: value for key, value in found.items() if value is not None}
    told = {key: record.value.get(key) for key in ("name", "success")}
    return row | labels(told | record.get("metadata", "an object", {}))
