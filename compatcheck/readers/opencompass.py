"""OpenCompass: ``predictions/MODEL/DATASET.json`` (what a model said) and ``results/MODEL/DATASET.json`` with details.

A file of predictions is an object of ``"0"``, ``"1"`` …, each ``{"origin_prompt", "prediction", "gold",
"res_length"}``; of a choice by perplexity each has ``"label: A": {"testing input", "prompt", "PPL"}`` … besides. With
parts of a dataset (``DATASET_0.json``, ``DATASET_1.json`` …) each counts from 0. Details of results
(``--dump-eval-details``) have ``prompt``, ``origin_prediction``, ``predictions``, ``references`` and ``correct``. See
https://opencompass.readthedocs.io/en/latest/get_started/quick_start.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from compatcheck.errors import InputError
from compatcheck.readers.recording import Item, Record, Recording, need_tasks, of_one_model, same_kind_of_targets
from compatcheck.table.reading import Row, Source, read_json
from compatcheck.table.values import said, text_of

_LABEL = "label: "
_ROLES = {"HUMAN": "user", "BOT": "assistant", "SYSTEM": "system"}


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One recording per dataset: of a file, or of the folder of a model. ``part`` is a model of an output folder."""
    if path.is_file():
        return [_recording(path.stem, [path], task)]
    files = _files(path, part)
    need_tasks(path, list(files), tasks, "predictions")
    return [_recording(name, parts, None) for name, parts in files.items() if not tasks or name in tasks]


def _files(folder: Path, part: str | None) -> dict[str, list[Path]]:
    """The files of each dataset of one model, the parts of one together, of the newest run in the folder."""
    found = sorted(folder.rglob("*.json"))
    inside = [file for file in found if file.parent.parent.name == "predictions"] or found
    newest = max((file.parent.parent for file in inside), default=None)
    models: dict[str, list[Path]] = {}
    for file in inside:
        if file.parent.parent == newest and not file.name.startswith("tmp_"):
            models.setdefault(file.parent.name, []).append(file)
    if not models:
        raise InputError(f"{folder}: no predictions/MODEL/DATASET.json in this folder")
    datasets: dict[str, list[Path]] = {}
    for file in of_one_model(folder, models, part, "predictions"):
        whole = re.sub(r"_\d+$", "", file.stem)
        alone = not (file.parent / f"{whole}_0.json").is_file()
        datasets.setdefault(file.stem if alone else whole, []).append(file)
    return datasets


def _recording(name: str, files: Sequence[Path], task: str | None) -> Recording:
    recording = Recording(Source(files[0], "row", iter(())), (), task or name)
    in_order = sorted(files, key=lambda file: (len(file.name), file.name))
    items = [item for file in in_order for item in _items(file)]
    if len(files) > 1:
        for place, (_, row, _) in enumerate(items):
            row["id"] = str(place)
    recording.items = same_kind_of_targets(items)
    return recording


def _items(file: Path) -> Iterator[Item]:
    top = Record(read_json(file), str(file))
    details = top.value.get("details")
    rows = details if isinstance(details, dict | list) else top.value
    named = enumerate(rows) if isinstance(rows, list) else rows.items()
    for number, (name, value) in enumerate(named, 1):
        if isinstance(rows, list) or name.isdecimal():
            record = Record(value, f"{file}: row {name}")
            yield number, _plain(str(name), record), record.value


def _plain(name: str, record: Record) -> Row:
    choices = [Record(value, record.place) for key, value in record.value.items() if key.startswith(_LABEL)]
    row: Row = {"id": name}
    asked = next((record.value[key] for key in ("origin_prompt", "prompt") if record.value.get(key)), None)
    if choices:
        asked = choices[0].get("testing input", "a text") or asked
        row["loglikelihoods"] = [-choice.need("PPL", "a number") for choice in choices]
    if asked is not None:
        row["input"] = said(_turns(asked))
    found = next((key for key in ("prediction", "predictions", "pred") if key in record.value), None)
    if found is None:
        record.need("prediction", "a text")
    row["prediction"] = record.value[found or ""]
    target = next((record.value[key] for key in ("gold", "references", "answer") if key in record.value), None)
    row["target"] = text_of(target) if isinstance(target, dict) else target
    if (correct := record.get("correct", "a boolean")) is not None:
        row["score:correct"] = correct
    tokens = record.get("res_length", "a number")
    return row | ({} if tokens is None else {"output_tokens": tokens})


def _turns(asked: object) -> object:
    """The turns of a prompt in OpenAI's words."""
    if isinstance(asked, list) and all(isinstance(one, dict) and "prompt" in one for one in asked):
        turns = [{"role": _ROLES.get(role := str(one.get("role")), role), "content": one["prompt"]} for one in asked]
        return turns[0]["content"] if len(turns) == 1 else turns
    return asked
