"""lm-eval's logged samples of a task that just ran, as records.

The same samples read from a file lack the task object and are read by :mod:`compatcheck.readers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from compatcheck.engines.generated import finish_reason
from compatcheck.errors import InputError
from compatcheck.records import Metric, TaskRun, not_compared, prediction_column, score_column
from compatcheck.similarity.direction import higher_is_better
from compatcheck.similarity.exact import CASE, PUNCTUATION
from compatcheck.table.choices import HASH_LENGTH, NO_MATCH, predicted_choices
from compatcheck.table.repeats import as_mean, error_of_shares
from compatcheck.tasks import LoadedTask

SLICE_TEXT_LIMIT = 80
"""A text field of a document is a slice field when no value of it is longer than this."""


def task_runs_of_samples(
    samples: Sequence[Mapping[str, Any]],
    loaded: LoadedTask,
    settings: Mapping[str, Any],
    failed: Mapping[Any, str] | None = None,
) -> tuple[TaskRun, ...]:
    """Split logged samples by filter and turn each into a :class:`TaskRun`.

    Args:
        failed: one line for every document that could not be answered, by its id. Its record has this ``error``, no
            prediction and no score, whatever the sample holds.

    Raises:
        InputError: no metric gives a score per instance, or no document was answered.
    """
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    return tuple(
        _task_run([s for s in samples if s["filter"] == name], name, loaded, settings, failed or {}) for name in filters
    )


def _task_run(
    samples: Sequence[Mapping[str, Any]],
    filter_name: str,
    loaded: LoadedTask,
    settings: Mapping[str, Any],
    failed: Mapping[Any, str],
) -> TaskRun:
    task: Any = loaded.task
    answered = [sample for sample in samples if sample["doc_id"] not in failed]
    if not answered:
        raise InputError(f"task {loaded.name}: no document could be answered: {next(iter(failed.values()))}")
    averaged = sample_scores(task, filter_name, answered)
    if averaged is not None:
        answered = [{**sample, **scores} for sample, scores in zip(answered, averaged, strict=True)]
        scored = {sample["doc_id"]: sample for sample in answered}
        samples = [scored.get(sample["doc_id"], sample) for sample in samples]
        repeats = len(answered[0]["resps"][0])
        settings = {**settings, "repeats": repeats}
    names = [name for name in samples[0]["metrics"] if all(_is_number(sample.get(name)) for sample in answered)]
    if not names:
        raise InputError(
            f"task {loaded.name}: none of its metrics ({', '.join(samples[0]['metrics'])}) gives a score per instance, "
            "so there is nothing to compare"
        )
    rows = [_choice_row(task, s) if task.OUTPUT_TYPE == "multiple_choice" else _text_row(task, s) for s in samples]
    errors = [failed.get(sample["doc_id"]) for sample in samples]
    records = pd.DataFrame([_failed_row(row, error) for row, error in zip(rows, errors, strict=True)])
    for name in names:
        records[score_column(name)] = np.array(
            [float(s[name]) if error is None else np.nan for s, error in zip(samples, errors, strict=True)]
        )
    for name, values in _slice_fields(samples).items():
        if name not in records:
            records[name] = values
    higher = task.higher_is_better()
    version = settings.get("version")
    metrics = tuple(
        Metric(
            name,
            "discrete" if records[score_column(name)].dropna().isin((0, 1)).all() and name not in _SMOOTH else "smooth",
            *_direction(name, higher.get(name), f"lm-eval|task-version:{version}"),
            _settled(task, name),
        )
        for name in names
    )
    if averaged is not None:
        metrics = tuple(
            as_mean(metric, (repeats, repeats), error_of_shares(records[score_column(metric.name)].to_numpy(), repeats))
            for metric in metrics
        )
    notes = not_compared(loaded.name, [name for name in samples[0]["metrics"] if name not in names])
    return TaskRun(loaded.name, filter_name, metrics, records, settings, notes=notes)


def _direction(name: str, told: bool | None, signature: str) -> tuple[bool, str, bool]:
    """Which way a metric points, as the task says, else its name; with its signature, and whether it is assumed."""
    told = higher_is_better(name) if told is None else told
    return told is not False, signature, told is None


def _settled(task: Any, metric: str) -> tuple[tuple[str, bool], ...]:
    """What the task itself says of case and punctuation in its exact match."""
    entries = getattr(task.config, "metric_list", None) or []
    mine = [one for one in entries if one.get("metric") == metric == "exact_match"]
    return tuple((name, one[name]) for one in mine for name in (CASE, PUNCTUATION) if isinstance(one.get(name), bool))


def _failed_row(row: dict[str, Any], error: str | None) -> dict[str, Any]:
    """The row of a document, without what the model would have said where there is an error."""
    if error is None:
        return row
    said = ("prediction", "response", "loglikelihoods")
    return {name: None if name.startswith(said) else value for name, value in row.items()} | {"error": error}


_SMOOTH = {"rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf", "bertscore", "f1"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _common(task: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    question = task.doc_to_text(sample["doc"])
    prompt = str(sample["arguments"][0][0])
    shown = question if isinstance(question, str) else prompt
    return {
        "doc_id": str(sample["doc_id"]),
        "input": shown,
        "full_prompt": prompt if prompt != shown else None,
        "doc_hash": sample["doc_hash"][:HASH_LENGTH],
        "target_hash": sample["target_hash"][:HASH_LENGTH],
    }


def _text_row(task: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    filtered = sample["filtered_resps"][0]
    response = sample["resps"][0][0]
    prediction = str(filtered[0] if isinstance(filtered, list) and filtered else filtered)
    target = task.doc_to_target(sample["doc"])
    return _common(task, sample) | {
        "target": str(target),
        "prediction": None if prediction == NO_MATCH else prediction,
        "response": str(response) if str(response) != prediction else None,
        **({} if (reason := finish_reason(response)) is None else {"finish_reason": reason}),
    }


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
    if isinstance(gold, int | np.integer) and 0 <= int(gold) < len(choices):
        return choices[int(gold)]
    return str(gold)


def _slice_fields(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Short scalar fields of the documents, by which a report can be sliced."""
    fields: dict[str, list[Any]] = {}
    first = samples[0]["doc"]
    for name in first:
        values = [sample["doc"].get(name) for sample in samples]
        if all(isinstance(v, bool | int | float) or v is None for v in values) or all(
            isinstance(v, str) and len(v) <= SLICE_TEXT_LIMIT for v in values
        ):
            fields[str(name)] = values
    return fields


def sample_scores(task: Any, filter_name: str, samples: Sequence[Mapping[str, Any]]) -> list[dict[str, float]] | None:
    """The scores of a task that was asked several times for each document, averaged over the answers.

    lm-eval scores what the filter leaves: by default the first answer alone. Here the filter and the task's own
    ``process_results`` are applied to every answer by itself, and the numbers that they give are averaged. None where
    every document was asked once, where the task does not generate, and where the filter itself makes one of them
    (a majority vote, the first k): its score stays as the task defines it.
    """
    if task.OUTPUT_TYPE != "generate_until" or not samples:
        return None
    answers = [sample["resps"][0] for sample in samples]
    repeats = len(answers[0])
    ensemble = next((one for one in getattr(task, "_filters", ()) if one.name == filter_name), None)
    if repeats < 2 or ensemble is None or any(len(each) != repeats for each in answers):
        return None
    filters = [make() for make in ensemble.filters]
    if any(_combines(each) for each in filters):
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


def _combines(one: Any) -> bool:
    """Whether a filter makes one answer of several."""
    from lm_eval.filters.custom import CustomFilter
    from lm_eval.filters.selection import MajorityVoteFilter, TakeKFilter

    return isinstance(one, MajorityVoteFilter | TakeKFilter | CustomFilter)
