"""promptfoo: what ``promptfoo eval -o out.json`` (or ``.jsonl``) and ``promptfoo export`` write.

``results.results`` has one entry per test, provider and prompt: ``testIdx``, ``promptIdx``, ``vars``, ``provider``
(``id``, ``label``), ``prompt`` (``raw``, ``label``), ``response.output``, ``score``, ``success``, ``namedScores``,
``gradingResult.componentResults``, ``error``, ``failureReason`` (0 none, 1 an assertion failed, 2 an error).
Read in the formats 2 and 3 of ``results.version``. See https://www.promptfoo.dev/docs/configuration/outputs/.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.readers.recording import (
    Record,
    Recording,
    average_repeats,
    count_scores,
    fingerprint,
    labels,
    numbered,
    records,
)
from compatcheck.table.reading import Row, Source, file_kind, read_json, read_rows
from compatcheck.table.values import text_of

_EXPECTING = (
    "equals", "contains", "icontains", "starts-with", "similar", "levenshtein", "rouge-n", "bleu", "factuality",
)  # fmt: skip
"""Assertions whose value is what is right."""
_ERROR = 2
"""``failureReason`` of a test that could not be run; where an assertion failed, ``error`` holds its reason."""
_VARIABLE = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """The tests of one provider. ``part`` names it, its label, a prompt's label, or ``LABEL/PROMPT``."""
    rows, name = _rows(path)
    chosen, several = _chosen(path, rows, part)
    recording = Recording(Source(path, "result", iter(())), (), task or name, higher=True)  # 1 where an assertion holds
    identities = _identities([record for _, record in chosen])
    items = [
        (number, _plain(record, identity, several), record.value)
        for (number, record), identity in zip(chosen, identities, strict=True)
    ]
    count_scores(items, recording, ("score:pass", "score:score"))
    recording.items = average_repeats(items, "testIdx", "repeats", recording)
    return [recording]


def _rows(path: Path) -> tuple[list[tuple[int, Record]], str]:
    """All results with their numbers, and the name of the evaluation."""
    if file_kind(path) == "jsonl":
        return list(records(read_rows(path))), "promptfoo"
    found, name = read_json(path), "promptfoo"
    if not isinstance(found, list):
        top = Record(found, str(path))
        name = str(top.record("config").value.get("description") or "promptfoo")
        found = top.value.get("results")
        if not isinstance(found, list):
            found = Record(top.need("results", "an object"), f"{path}: `results`").need("results", "a list")
    return numbered(found, path, "result"), name


def _names(record: Record) -> tuple[str, str, str, str]:
    """Identity of the provider and of the prompt, and what the user calls them."""
    provider = record.value.get("provider")
    if isinstance(provider, str):
        identity = label = provider
    elif provider is None:
        identity = label = ""
    else:
        about = record.record("provider")
        identity = about.name("id")
        label = str(about.get("label", "a text") or identity)
    prompt = record.record("prompt")
    raw = prompt.get("label", "a text") or prompt.get("raw", "a text", "")
    column = record.value.get("promptId") or raw
    return identity, label, str(column), str(raw)


def _chosen(
    path: Path, rows: Sequence[tuple[int, Record]], part: str | None
) -> tuple[list[tuple[int, Record]], Mapping[str, int]]:
    """The rows that are meant, and where they are of several prompts, the number of each prompt."""
    columns = {number: _names(record) for number, record in rows}
    if part is not None:
        wanted = {
            number
            for number, (identity, label, _, prompt) in columns.items()
            if part in (identity, label, prompt, f"{label}/{prompt}", f"{identity}/{prompt}")
        }
        if not wanted:
            known = list(dict.fromkeys(name for one in columns.values() for name in (one[1], one[0], one[3])))
            labels_ = list(dict.fromkeys(label for _, label, _, _ in columns.values()))
            hint = did_you_mean(part, known)
            raise InputError(f"{path}: no provider or prompt '{part}'{hint}; providers there: {', '.join(labels_)}")
        rows = [(number, record) for number, record in rows if number in wanted]
    providers = list(dict.fromkeys((columns[number][0], columns[number][1]) for number, _ in rows))
    if len(providers) > 1:
        names = ", ".join(label for _, label in providers)
        raise InputError(f"{path}: results of several providers; name one as {path}#PROVIDER: {names}")
    places: dict[str, float] = {}
    for number, record in rows:  # results stand in the order in which they came, prompts in that of the settings
        place, prompt = record.get("promptIdx", "a number", math.inf), columns[number][2]
        places[prompt] = min(places.get(prompt, math.inf), place)
    prompts = sorted(places, key=places.__getitem__)
    return list(rows), {name: place for place, name in enumerate(prompts, 1)} if len(prompts) > 1 else {}


def _plain(record: Record, identity: str, several: Mapping[str, int]) -> Row:
    variables = record.get("vars", "an object", {})
    _, _, column, prompt = _names(record)
    described = record.record("testCase").value.get("description")
    row: Row = {
        "id": identity,
        "doc_hash": "vars:" + fingerprint(variables),
        "input": record.record("prompt").get("raw", "a text"),
        "target": _target(record, variables),
        "prediction": None,
    }
    if several:
        row["id"] = f"{row['id']}/{several[column]}"
        row["prompt"] = prompt
    grading = record.record("gradingResult")
    response = record.value.get("response")
    output = response.get("output") if isinstance(response, dict) else response
    error = record.value.get("error") or (response.get("error") if isinstance(response, dict) else None)
    reason = record.value.get("failureReason")
    failed = reason == _ERROR if reason is not None else bool(error) and output is None
    if failed:
        row["error"] = text_of(error or "the test could not be run")
    elif not isinstance(response, dict | str | None):
        raise record.fail("`response` must be an object")
    else:
        row["prediction"] = text_of(output) if isinstance(output, list | dict) else output
    if not failed:
        passed = record.get("success", "a boolean")
        row["score:pass"] = grading.get("pass", "a boolean") if passed is None else passed
        row["score:score"] = record.value.get("score", grading.value.get("score"))
    row |= labels({key: value for key, value in variables.items() if value != row["target"]})
    if isinstance(described, str):
        row |= labels({"description": described})
    named = record.get("namedScores", "an object", {}) if not failed else {}
    return row | {f"score:{name}": value for name, value in named.items() if name not in ("pass", "score")}


def _identities(records: Sequence[Record]) -> list[str]:
    """The id of each test: a fingerprint of its variables, since its number is only its place in the file.

    Tests with the same variables are repeats of one (``--repeat``), unless they say or assert something else: then
    a fingerprint of that follows, as no order of them is the same in the next run.
    """
    variants: dict[str, set[str]] = {}
    pairs = []
    for record in records:
        identity = fingerprint(record.get("vars", "an object", {}))
        case = record.record("testCase")
        kind = fingerprint([case.value.get("description"), case.value.get("assert")])
        variants.setdefault(identity, set()).add(kind)
        pairs.append((identity, kind))
    return [f"{identity}.{kind[:8]}" if len(variants[identity]) > 1 else identity for identity, kind in pairs]


def _target(record: Record, variables: Mapping[str, Any]) -> str | None:
    """The value of the first assertion that says what is right, as it was when the test ran."""
    components = record.record("gradingResult").get("componentResults", "a list", [])
    found: list[tuple[str, Any]] = []
    for one in components:
        if isinstance(one, dict) and isinstance(one.get("assertion"), dict):
            about = one.get("metadata")
            rendered = about.get("renderedAssertionValue") if isinstance(about, dict) else None
            value = one["assertion"].get("value")
            found.append((str(one["assertion"].get("type")), value if rendered is None else rendered))
    if not found:
        given = record.record("testCase").get("assert", "a list", [])
        found = [(str(one.get("type")), one.get("value")) for one in given if isinstance(one, dict)]
    for kind in _EXPECTING:
        for name, value in found:
            if name == kind and isinstance(value, str | int | float):
                return _VARIABLE.sub(lambda m: text_of(variables[m[1]]) if m[1] in variables else m[0], text_of(value))
    return None
