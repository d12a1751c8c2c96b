"""HELM (crfm-helm): the files of a run's folder, ``scenario_state.json``, ``per_instance_stats.json`` and
``display_predictions.json``, and JSON lines of ``request_states``.

What was asked and answered is in ``scenario_state.json`` (``request_states``: ``instance``, ``request``, ``result``),
the scores of each instance in ``per_instance_stats.json`` (a ``mean`` for each named statistic). An instance is known
by (``instance_id``, ``perturbation``, ``train_trial_index``); trials are averaged. Where each choice was a request of
its own (``multiple_choice_separate_*``), the choice with the highest log-likelihood is the prediction.
Dataclasses of crfm-helm 0.5.16; see https://crfm-helm.readthedocs.io.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.readers.recording import (
    Item,
    Record,
    Recording,
    average_repeats,
    labels,
    need_tasks,
    numbered,
    of_one_model,
    records,
)
from compatcheck.table.reading import Row, Source, file_kind, read_json, read_rows

_STATE, _STATS, _SHOWN = "scenario_state.json", "per_instance_stats.json", "display_predictions.json"
_BOOKKEEPING = (
    "num_", "inference_", "training_", "finish_reason_", "max_prob", "batch_size", "prompt_truncated", "logprob",
    "estimated_",
)  # fmt: skip
"""How the names of statistics begin that are no scores; they become slice fields."""
_TRIAL = "train_trial_index"
_Key = tuple[str, str, int]


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One file, one run's folder, or a folder with the folders of several runs. ``part`` is a model."""
    if not path.is_dir():
        return [_of_file(path, task)]
    folders = sorted({one.parent for name in (_STATE, _STATS, _SHOWN) for one in path.rglob(name)})
    if not folders:
        raise InputError(f"{path}: no {_STATE} or {_STATS}; name the folder of a HELM run")
    models: dict[str, list[tuple[Path, str]]] = {}
    for folder in folders:
        name, model = _named(folder)
        models.setdefault(model, []).append((folder, name))
    mine = of_one_model(path, models, part, "runs")
    there = [name for _, name in mine]
    twice = next((name for name in there if there.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: several runs of {twice}; name the folder of one suite")
    alone = task if len(mine) == 1 else None
    if alone is None:
        need_tasks(path, there, tasks, "run")
    return [_of_folder(folder, alone or name) for folder, name in mine if alone or not tasks or name in tasks]


def _named(folder: Path) -> tuple[str, str]:
    """Task and model of a run, out of its name: ``mmlu:subject=anatomy,model=openai_gpt-4`` is both."""
    name, _, arguments = folder.name.partition(":")
    pairs = [one for one in arguments.split(",") if one]
    model = next((one.removeprefix("model=") for one in pairs if one.startswith("model=")), "")
    rest = ",".join(one for one in pairs if not one.startswith(("model=", "model_deployment=")))
    return (f"{name}:{rest}" if rest else name), model


def _of_folder(folder: Path, task: str) -> Recording:
    stats_file, state_file, shown_file = (folder / name for name in (_STATS, _STATE, _SHOWN))
    main = next(path for path in (state_file, shown_file, stats_file) if path.is_file())
    recording = _of_file(main, task)
    if main == stats_file or not stats_file.is_file():
        return recording
    scores: dict[_Key, tuple[int, Row]] = {}
    for number, record in _entries(read_json(stats_file), stats_file):
        key, found = _key(record), _statistics(record)
        if scores.setdefault(key, (number, found))[1] != found:
            raise record.fail(f"statistics of the instance {key[0]!r:.80} again, other than in item {scores[key][0]}")
    recording.notes, recording.duplicates = [], 0
    items = _joined(_items(_entries(read_json(main), main)), scores, stats_file)
    recording.items = average_repeats(items, _TRIAL, "trials", recording)
    return recording


def _joined(items: Iterator[Item], scores: dict[_Key, tuple[int, Row]], path: Path) -> Iterator[Item]:
    left = dict(scores)
    for number, row, raw in items:
        key = _key(Record(raw, ""))
        known = {name: value for name, value in row.items() if not name.startswith("score:")}
        found = scores.get(key)
        left.pop(key, None)
        if found is None and not row.get("error"):
            raise InputError(f"{path}: no statistics of the instance {row['id']!r:.80}, which was asked")
        yield number, known | (found[1] if found is not None else {}), raw
    if left:
        key, (number, _) = next(iter(left.items()))
        raise InputError(f"{path}: item {number}: statistics of the instance {key[0]!r:.80}, which was not asked")


def _of_file(path: Path, task: str | None) -> Recording:
    lines = file_kind(path) == "jsonl"
    recording = Recording(Source(path, "line" if lines else "item", iter(())), (), task or "helm")
    if lines:
        items = _items(list(records(read_rows(path))))
    else:
        value = read_json(path)
        items = _items(_entries(value, path))
        if isinstance(value, dict):
            spec = Record(value, str(path)).record("adapter_spec")
            shots = spec.value.get("max_train_instances")
            recording.settings = {"num_fewshot": shots} if isinstance(shots, int) else {}
    recording.items = average_repeats(items, _TRIAL, "trials", recording)
    return recording


def _entries(value: Any, path: Path) -> list[tuple[int, Record]]:
    if isinstance(value, dict):
        value = Record(value, str(path)).need("request_states", "a list")
    if not isinstance(value, list):
        raise InputError(f"{path}: a JSON list of objects is needed")
    return numbered(value, path, "item")


def _items(entries: Sequence[tuple[int, Record]]) -> Iterator[Item]:
    separate: dict[_Key, list[tuple[int, Record]]] = {}
    for number, record in entries:
        if "instance" not in record.value:
            yield number, _shown(record), record.value
        elif record.value.get("reference_index") is None:
            yield number, _answered(record), record.value
        else:
            separate.setdefault(_key(record), []).append((number, record))
    for group in separate.values():
        yield group[0][0], _chosen([record for _, record in group]), group[0][1].value


def _key(record: Record) -> _Key:
    """(instance, perturbation, trial) of a request state, a prediction or an instance's statistics."""
    trial = record.whole(_TRIAL, 0)
    if "instance" in record.value:
        instance = record.record("instance")
        return instance.name("id"), _perturbation(instance), trial
    return record.name("instance_id"), _perturbation(record), trial


def _perturbation(record: Record) -> str:
    about = record.record("perturbation")
    return str(about.get("name", "a text", "")) if about.value else ""


def _base(record: Record) -> Row:
    identity, perturbation, _ = _key(record)
    return {"id": f"{identity}/{perturbation}", "perturbation": perturbation} if perturbation else {"id": identity}


def _shown(record: Record) -> Row:
    """The row of a displayed prediction, or of statistics alone."""
    row = _base(record)
    if "predicted_text" in record.value or "mapped_output" in record.value:
        said = record.get("truncated_predicted_text", "a text") or record.get("predicted_text", "a text")
        mapped = record.get("mapped_output", "a text")
        row["prediction"] = said if mapped is None else mapped
        if mapped is not None and mapped != said:
            row["response"] = said
    return row | _statistics(record)


def _answered(record: Record) -> Row:
    """The row of a request state: one request an instance."""
    row = _asked(record)
    result = record.value.get("result")
    if result is None:
        row["error"] = "the request was not made"
        return row
    about = record.record("result")
    if about.get("success", "a boolean") is False:
        row["error"] = about.get("error", "a text") or "the request failed"
        return row
    completions = about.need("completions", "a list")
    said = None
    if completions:
        completion = Record(completions[0], f"{about.place}: completions[0]")
        said = completion.need("text", "a text")
        reason = completion.value.get("finish_reason")
        row |= {"finish_reason": reason["reason"]} if isinstance(reason, dict) and reason.get("reason") else {}
    mapping = record.get("output_mapping", "an object")
    row["prediction"] = said
    if mapping and said is not None:
        mapped = mapping.get(said.strip())
        row["prediction"], row["response"] = (str(mapped) if mapped is not None else None), said
    return row


def _asked(record: Record) -> Row:
    instance = record.record("instance")
    references = [
        Record(one, f"{instance.place}: references[{i}]")
        for i, one in enumerate(instance.get("references", "a list", []))
    ]
    right = [_text(one) for one in references if "correct" in one.get("tags", "a list", [])]
    split = instance.value.get("split")
    row = _base(record) | {
        "input": instance.record("input").get("text", "a text"),
        "target": (right[0] if len(right) == 1 else right) if right else None,
        "prediction": None,
    }
    return row | labels({"split": split, "sub_split": instance.value.get("sub_split")})


def _text(reference: Record) -> str:
    found: str = reference.record("output").need("text", "a text")
    return found


def _chosen(states: Sequence[Record]) -> Row:
    """The row of an instance whose choices were requests of their own; calibrated where there are such requests."""
    row = _asked(states[0])
    references = states[0].record("instance").get("references", "a list", [])
    totals: dict[int, float] = {}
    for state in states:
        result = state.record("result")
        if not result.value or result.get("success", "a boolean") is False:
            row["error"] = result.get("error", "a text") or "the request failed"
            return row
        completions = result.need("completions", "a list")
        first = Record(completions[0] if completions else None, f"{result.place}: completions[0]")
        sign = -1.0 if state.value.get("request_mode") == "calibration" else 1.0
        index = state.whole("reference_index")
        totals[index] = totals.get(index, 0.0) + sign * float(first.need("logprob", "a number"))
    if any(value != value for value in totals.values()):
        raise states[0].fail("a choice's `logprob` is NaN")
    best = max(totals, key=lambda index: (totals[index], -index))
    if not 0 <= best < len(references):
        raise states[0].fail(f"`reference_index` is {best}, but the instance has {len(references)} references")
    row["prediction"] = _text(Record(references[best], f"{states[0].place}: references[{best}]"))
    row["loglikelihoods"] = [totals[index] for index in sorted(totals)]
    return row


def _statistics(record: Record) -> Row:
    """``score:<name>`` for each statistic of an instance that is a score, a slice field for the others."""
    stats = record.value.get("stats")
    if stats is None:
        return {}
    if isinstance(stats, dict):
        pairs = list(stats.items())
    else:
        pairs = []
        for i, one in enumerate(record.need("stats", "a list")):
            stat = Record(one, f"{record.place}: stats[{i}]")
            about = stat.record("name")
            if about.value.get("perturbation") and about.record("perturbation").value.get("computed_on") == "worst":
                continue
            count = stat.get("count", "a number", 1)
            pairs.append((about.name("name"), stat.value.get("mean") if count else None))
    row: Row = {}
    for name, value in pairs:
        if name.startswith(_BOOKKEEPING):
            row |= labels({name: value})
        elif value is not None:
            row[f"score:{name}"] = value
    return row
