"""lm-eval's logged samples of a task that just ran, as records. Samples in files lack the task: see ``readers``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from compatcheck.conversation import shown as turns_shown
from compatcheck.conversation import turns_in
from compatcheck.engines.answers import THINKING, about
from compatcheck.errors import InputError
from compatcheck.records import (
    ANSWER_COLUMNS,
    ANSWER_NUMBERS,
    LISTS,
    Metric,
    TaskRun,
    not_compared,
    prediction_column,
    score_column,
)
from compatcheck.similarity.direction import higher_is_better
from compatcheck.similarity.exact import CASE, PUNCTUATION
from compatcheck.table.choices import HASH_LENGTH, NO_MATCH, predicted_choices
from compatcheck.table.repeats import as_mean, error_of_shares
from compatcheck.table.values import text_of
from compatcheck.tasks import LoadedTask

_SLICE_TEXT_LIMIT = 80
"""A text field of a document is a slice field when no value of it is longer than this."""
_SMOOTH = {"rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf", "bertscore", "f1"}


def task_runs_of_samples(
    samples: Sequence[Mapping[str, Any]], loaded: LoadedTask, settings: Mapping[str, Any], failed: Mapping[Any, str]
) -> tuple[TaskRun, ...]:
    """Split logged samples by filter and turn each into a :class:`TaskRun`. ``failed`` has one line for every document
    that could not be answered, by its id: its record has this ``error``, no prediction and no score, whatever the
    sample holds. At least one was answered. Raises InputError: no metric gives a score per instance."""
    by_filter: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        by_filter.setdefault(sample["filter"], []).append(sample)
    return tuple(_task_run(some, name, loaded, settings, failed) for name, some in by_filter.items())


def _task_run(
    samples: Sequence[Mapping[str, Any]],
    filter_name: str,
    loaded: LoadedTask,
    settings: Mapping[str, Any],
    failed: Mapping[Any, str],
) -> TaskRun:
    task: Any = loaded.task
    answered = [sample for sample in samples if sample["doc_id"] not in failed]
    scores: list[Mapping[str, Any]] = [*answered]
    averaged = sample_scores(task, filter_name, answered)
    if averaged is not None:
        scores = [{**sample, **means} for sample, means in zip(answered, averaged, strict=True)]
    given = list(samples[0]["metrics"])
    names = [name for name in given if all(_is_number(one.get(name)) for one in scores)]
    own = getattr(task, "record", None)  # prompts are scored later, from their records
    if not names and own is None:
        raise InputError(
            f"task {loaded.name}: none of its metrics ({', '.join(given)}) gives a score per instance, so there is "
            "nothing to compare"
        )
    row = _choice_row if task.OUTPUT_TYPE == "multiple_choice" else _text_row
    said = [{} if own is None else own(one["doc"]) for one in samples]
    rows = [_failed_row(row(task, one), failed.get(one["doc_id"])) for one in samples]
    records = _as_records([one | more for one, more in zip(rows, said, strict=True)])
    for name in ANSWER_NUMBERS:
        if name in records:
            records[name] = records[name].astype(np.float64)
    scored = np.array([sample["doc_id"] not in failed for sample in samples])
    for name in names:
        values = np.full(len(samples), np.nan)
        values[scored] = [float(one[name]) for one in scores]
        records[score_column(name)] = values
    for name, field in (_slice_fields(samples) if own is None else {}).items():
        name = f"field:{name}" if name in ANSWER_COLUMNS else name
        if name not in records:
            records[name] = field
    metrics = tuple(_metric(name, task, records[score_column(name)], settings.get("version")) for name in names)
    if averaged is not None:
        repeats = len(answered[0]["resps"][0])
        settings = {**settings, "repeats": repeats}
        shares = [records[score_column(metric.name)].to_numpy() for metric in metrics]
        metrics = tuple(
            as_mean(metric, (repeats, repeats), error_of_shares(each, repeats))
            for metric, each in zip(metrics, shares, strict=True)
        )
    notes = not_compared(loaded.name, [name for name in given if name not in names])
    listed = own is None and isinstance(task.doc_to_target(samples[0]["doc"]), list)
    typed = frozenset({LISTS} if listed else ())
    return TaskRun(loaded.name, filter_name, metrics, records, settings, notes=notes, typed=typed)


def _as_records(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as columns; log-likelihoods as Arrow's lists, a quarter of what Python's take."""
    if "loglikelihoods" not in rows[0]:
        return pd.DataFrame(rows)
    known = pa.array([row["loglikelihoods"] for row in rows], pa.list_(pa.float64()))
    place = list(rows[0]).index("loglikelihoods")
    records = pd.DataFrame([{name: row[name] for name in row if name != "loglikelihoods"} for row in rows])
    # inserted: a column that replaces another leaves that in memory
    records.insert(place, "loglikelihoods", pd.Series(pd.arrays.ArrowExtensionArray(known)))
    return records


def _metric(name: str, task: Any, scores: pd.Series, version: Any) -> Metric:
    """A metric that points as the task says, else as its name does; and what the task says of its exact match."""
    said = task.higher_is_better().get(name)
    said = higher_is_better(name) if said is None else said
    discrete = name not in _SMOOTH and scores.dropna().isin((0, 1)).all()
    entries = getattr(task.config, "metric_list", None) or []
    mine = [one for one in entries if one.get("metric") == name == "exact_match"]
    settled = tuple((key, one[key]) for one in mine for key in (CASE, PUNCTUATION) if isinstance(one.get(key), bool))
    signature = f"lm-eval|task-version:{version}"
    return Metric(name, "discrete" if discrete else "smooth", said is not False, signature, said is None, settled)


def _failed_row(row: dict[str, Any], error: str | None) -> dict[str, Any]:
    """The row of a document, without what the model would have said where there is an error."""
    if error is None:
        return row
    said = ("prediction", "response", "loglikelihoods", *ANSWER_COLUMNS)
    return {name: None if name.startswith(said) else value for name, value in row.items()} | {"error": error}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _common(task: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    question, prompt = task.doc_to_text(sample["doc"]), prompt_shown(sample["arguments"][0][0])
    if getattr(task, "conversational", False) and (turns := turns_in(question)) is not None:
        question = turns_shown(turns)
    shown = question if isinstance(question, str) else prompt
    return {
        "doc_id": str(sample["doc_id"]),
        "input": shown,
        "full_prompt": prompt if prompt != shown else None,
        "doc_hash": sample["doc_hash"][:HASH_LENGTH],
        "target_hash": sample["target_hash"][:HASH_LENGTH],
    }


def prompt_shown(prompt: Any) -> str:
    """What a model was given, as a report shows it: of a conversation every turn after its role."""
    prompt = getattr(prompt, "prompt", prompt)  # lm-eval's own for chat APIs
    turns = turns_in(prompt) if type(prompt) is not str or prompt[:2] == "[{" else None
    return str(prompt) if turns is None else turns_shown(turns)


def _text_row(task: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    filtered, response = sample["filtered_resps"][0], sample["resps"][0][0]
    prediction = str(filtered[0] if isinstance(filtered, list) and filtered else filtered)
    came = _came_with(sample["resps"][0])
    silent = prediction == NO_MATCH or (came.get("finish_reason") == THINKING and not prediction.strip())
    return _common(task, sample) | {
        "target": _target_text(task.doc_to_target(sample["doc"])),
        "prediction": None if silent else prediction,
        "response": str(response) if str(response) != prediction else None,
        **came,
    }


def _target_text(target: Any) -> str:
    """What is right; several texts as recorded rows have them, so that each is accepted."""
    texts = isinstance(target, list) and all(isinstance(one, str) for one in target)
    return text_of(target) if texts and target else str(target)


def _came_with(answers: Sequence[Any]) -> dict[str, Any]:
    """What came with the answer of a document; of several answers the texts of the first, and means of the numbers."""
    every = [about(answer) for answer in answers]
    found = every[0].known
    if "tool_calls" in found:
        found["tool_calls"] = json.dumps(found["tool_calls"], ensure_ascii=False)
    for name in ANSWER_NUMBERS:
        values = [value for one in every if (value := getattr(one, name)) is not None]
        if len(values) == len(every):
            found[name] = sum(values) / len(values)
        else:
            found.pop(name, None)
    return found


def _choice_row(task: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    """The predicted choice is recomputed as lm-eval does: argmax of the log-likelihoods, per character for acc_norm."""
    choices = [str(choice) for choice in task.doc_to_choice(sample["doc"])]
    scores = np.array([float(pair[0]) for pair in sample["filtered_resps"]])
    conditional, unconditional = scores[: len(choices)], scores[len(choices) :]
    predicted = predicted_choices(conditional, choices, unconditional if len(unconditional) else None)
    gold = task.doc_to_text(sample["doc"]) if task.multiple_input else task.doc_to_target(sample["doc"])
    row = _common(task, sample) | {
        "target": _gold_text(gold, choices),
        "prediction": predicted.pop("acc"),
        "loglikelihoods": conditional.tolist(),
    }
    row |= {prediction_column(name): choice for name, choice in predicted.items() if name in sample["metrics"]}
    if task.multiple_input:
        row["input"] = "\n".join(dict.fromkeys(str(argument[0]) for argument in sample["arguments"]))
        row["full_prompt"] = None
    return row


def _gold_text(gold: Any, choices: list[str]) -> str:
    if isinstance(gold, list):
        return " | ".join(_gold_text(one, choices) for one in gold)
    return choices[int(gold)] if isinstance(gold, int | np.integer) and 0 <= int(gold) < len(choices) else str(gold)


def _slice_fields(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Short scalar fields of the documents, by which a report can be sliced."""
    fields: dict[str, list[Any]] = {}
    for name in samples[0]["doc"]:
        values = [sample["doc"].get(name) for sample in samples]
        if all(isinstance(v, bool | int | float) or v is None for v in values) or all(
            isinstance(v, str) and len(v) <= _SLICE_TEXT_LIMIT for v in values
        ):
            fields[str(name)] = values
    return fields


def sample_scores(task: Any, filter_name: str, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, float]] | None:
    """The scores of a task that was asked several times for each document, averaged over the answers.

    lm-eval scores what the filter leaves: by default the first answer alone. Here the filter and the task's own
    ``process_results`` are applied to every answer by itself, and the numbers that they give are averaged. None where
    every document was asked once, where the task does not generate, and where the filter itself makes one of them (a
    majority vote, the first k): its score stays as the task defines it."""
    from lm_eval.filters.custom import CustomFilter
    from lm_eval.filters.selection import MajorityVoteFilter, TakeKFilter

    if task.OUTPUT_TYPE != "generate_until" or not samples:
        return None
    answers = [sample["resps"][0] for sample in samples]
    repeats = len(answers[0])
    ensemble = next((one for one in getattr(task, "_filters", ()) if one.name == filter_name), None)
    if repeats < 2 or ensemble is None or any(len(each) != repeats for each in answers):
        return None
    filters = [make() for make in ensemble.filters]
    if any(isinstance(each, MajorityVoteFilter | TakeKFilter | CustomFilter) for each in filters):
        return None
    docs = [sample["doc"] for sample in samples]
    totals: list[dict[str, list[float]]] = [{} for _ in samples]
    for number in range(repeats):
        left: Any = [[each[number]] for each in answers]
        for each in filters:
            left = each.apply(left, docs)
        for found, doc, answer in zip(totals, docs, left, strict=True):
            for name, value in task.process_results(doc, [answer]).items():
                if isinstance(value, int | float | np.number):
                    found.setdefault(name, []).append(float(value))
    return [{name: sum(values) / repeats for name, values in found.items()} for found in totals]
