"""AlpacaEval: ``model_outputs.json`` (what one model said) and ``annotations.json`` (who won against a baseline).

``model_outputs``: a list of ``{"dataset", "instruction", "output", "generator"}``. ``annotations``: a list of
``{"instruction", "output_1", "generator_1", "output_2", "generator_2", "preference", …}`` where ``preference`` is 1
when the baseline (``output_1``) is preferred, 2 when the model is, anything between where the annotator weighs; the
``win`` of the model is ``preference`` - 1. See https://github.com/tatsu-lab/alpaca_eval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from compatcheck.errors import InputError
from compatcheck.readers.recording import Item, Record, Recording, labels, records
from compatcheck.table.reading import Row, Source, read_rows
from compatcheck.text import text_hash

_TEXTS = {"instruction", "output", "output_1", "output_2", "preference", "raw_completion"}


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """The outputs, or the annotations, in one file. ``part`` is a generator or an annotator, where it holds several."""
    source = read_rows(path)
    recording = Recording(source, (), task or "alpaca_eval")
    recording.items = _items(source, part)
    return [recording]


def identity(instruction: str) -> str:
    """The id of an instruction: files hold them in any order, and some lack a few."""
    return text_hash(instruction)[:16]


def _items(source: Source, part: str | None) -> Iterator[Item]:
    """Rows of one generator and one annotator; ``part`` names either where there are several."""
    met: dict[str, dict[str, int]] = {"generator": {}, "annotator": {}}
    chosen: list[tuple[str, str]] = []
    for number, record in records(source):
        row, generator = _plain(record)
        annotator = record.value.get("annotator")
        who = {"generator": generator, "annotator": annotator if isinstance(annotator, str) else ""}
        for kind, name in who.items():
            met[kind].setdefault(name, number)
        if part is None or part in who.values():
            chosen.append((who["generator"], who["annotator"]))
            yield number, row, record.value
    for kind, place in (("generator", 0), ("annotator", 1)):
        several = {one[place] for one in chosen} - ({""} if kind == "annotator" else set())
        if len(several) > 1:
            names = ", ".join(sorted(met[kind]))
            where = source.at(list(met[kind].values())[1])
            raise InputError(f"{where}: another {kind}; name one of them as {source.path}#NAME: {names}")
    if part is not None and not chosen:
        there = [f"{kind}s there: {', '.join(sorted(names))}" for kind, names in met.items() if set(names) - {""}]
        raise InputError(f"{source.path}: no generator '{part}'; {'; '.join(there)}")


def _plain(record: Record) -> tuple[Row, str]:
    instruction = record.need("instruction", "a text")
    annotated = "output_2" in record.value
    generator = str(record.get("generator_2" if annotated else "generator", "a text", ""))
    name = "output_2" if annotated else "output"
    if name not in record.value:
        record.need(name, "a text")
    row: Row = {
        "id": identity(instruction),
        "input": instruction,
        "target": None,
        "prediction": record.get(name, "a text"),
    }
    skip = _TEXTS | {"generator", "generator_1", "generator_2"}
    row |= labels({key: value for key, value in record.value.items() if key not in skip})
    if annotated:
        preference = record.get("preference", "a number")
        if preference is None:
            row["error"] = "the annotator gave no preference"
        elif preference < 1 or preference > 2:
            raise record.fail(f"`preference` is {preference}, but it must be between 1 and 2")
        row["score:win"] = None if preference is None else preference - 1
    if not annotated:
        del row["target"]
    return row, generator
