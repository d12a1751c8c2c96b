"""What lm-eval writes with ``--log_samples``: which files to read, and what goes with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.errors import InputError
from compatcheck.readers.lm_eval_rows import BLOCK, RowReader
from compatcheck.readers.parts import Part
from compatcheck.readers.recording import Recording, need_tasks
from compatcheck.table.check import build_table
from compatcheck.table.layout import Layout
from compatcheck.table.reading import Chunk, Source, file_kind, json_kind, read_rows
from compatcheck.table.rows import RowTable, extract_targets
from compatcheck.table.targets import Targets
from compatcheck.table.values import NUMBER, TEXT
from compatcheck.tasks.description import of_config

_NAME = re.compile(
    r"samples_(?P<task>.+?)(?:_(?P<time>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?))?\.jsonl(?:\.gz|\.xz|\.zst|\.bz2)?",
    re.IGNORECASE,
)
_BYPASS = "bypass"
"""The metric that lm-eval's ``--predict_only`` puts in the place of a task's own."""
_MARKS = {"doc_id", "doc", "resps", "filtered_resps"}
"""Fields by which a row of lm-eval is known, whatever the file is called."""


class _Samples(NamedTuple):
    recording: Recording
    delimiter: str | None
    filters: Sequence[str]
    """Names of the task's filters, in their order, where the results file says them."""


def is_samples(path: Path) -> bool:
    """Whether a path is a folder, or a file whose first row is one of lm-eval's."""
    if path.is_dir():
        return True
    if file_kind(path) != "jsonl" or not path.is_file():
        return False
    try:
        return next(read_rows(path).chunks)[1][0].keys() >= _MARKS
    except InputError:
        return False  # reading it as plain rows says what is wrong


def read_samples(
    path: Path,
    layout: Layout,
    side: str,
    targets: Targets | None,
    task: str | None,
    tasks: Sequence[str],
    metrics: Sequence[str],
) -> list[Part]:
    """Read one samples file, or of every task in a folder the newest.

    With ``layout.extract`` or field options, predictions and targets are what these say, and lm-eval's scores, which
    were given to something else, are left out.
    """
    found = _in_folder(path, tasks) if path.is_dir() else [_described(path, task)]
    return [_read(samples, layout, side, targets, metrics) for samples in found]


def _read(samples: _Samples, layout: Layout, side: str, targets: Targets | None, metrics: Sequence[str]) -> Part:
    restated = any((layout.extract, layout.prediction_field, layout.target_field, targets))
    source, task = samples.recording.source, samples.recording.task
    reader = RowReader(source, layout, samples.delimiter, restated)
    plain = Layout(extract=layout.extract, reasoning=layout.reasoning)
    converted = replace(source, chunks=_converted(source, reader), batches=None, plain_names=True)
    rows = build_table(converted, plain, side, targets, metrics)
    rows.table = rows.table.drop_columns([name for name in reader.long_labels if name in rows.table.column_names])
    rows = _named_blocks(extract_targets(rows, plain), reader.several_blocks, samples.filters)
    notes = [*rows.notes]
    if restated:
        rows.metrics = ()
    elif not rows.metrics and not metrics:
        if set(reader.left_out) - {_BYPASS}:
            raise InputError(
                f"{source.path}: none of its metrics ({', '.join(reader.left_out) or 'none at all'}) has a score per "
                "document, so there is nothing to compare; name one that is computed here, such as --metric exact_match"
            )
        notes.append(f"{task}: logged with --predict_only, without scores; exact_match is computed here")
    left_out = [name for name in reader.left_out if name != _BYPASS]
    return Part(rows, samples.recording, rows.metrics or ("exact_match",), notes, left_out)


def _named_blocks(rows: RowTable, count: int, names: Sequence[str]) -> RowTable:
    """Rows of filters that no row names (lm-eval before 0.4.6): known by the results file, or by their place.

    Blocks that say the same throughout are one filter, logged twice.
    """
    table = rows.table
    there = pc.unique(table["filter"]).to_pylist()
    if not any(name.startswith(BLOCK) for name in there):
        return rows
    blocks = [
        table.filter(pc.equal(table["filter"], name)).drop_columns(["filter", NUMBER]).sort_by("doc_id")
        for name in there
    ]
    filters = table["filter"].to_pylist()
    if count > 1 and any(not one.equals(blocks[0]) for one in blocks[1:]):
        known = names if len(names) == count else [f"filter {i + 1}" for i in range(count)]
        name_of = dict(zip(["none", *(f"{BLOCK}{i}" for i in range(2, count + 1))], known, strict=True))
        said = f"{rows.source.path}: {count} filters without names, told apart by their place in the log"
        rows = replace(rows, notes=(*rows.notes, said))
    else:
        name_of = dict.fromkeys(there, "none")
    column = pa.array([name_of[name] for name in filters], TEXT)
    return replace(rows, table=table.set_column(table.column_names.index("filter"), "filter", column))


def _converted(source: Source, reader: RowReader) -> Iterator[Chunk]:
    for numbers, rows in source.chunks:
        pairs = [(number, reader.plain(number, row)) for number, row in zip(numbers, rows, strict=True)]
        kept = [(number, row) for number, row in pairs if row is not None]
        if kept:
            yield [number for number, _ in kept], [row for _, row in kept]


def _in_folder(folder: Path, tasks: Sequence[str]) -> list[_Samples]:
    files = [path for path in sorted(folder.rglob("samples_*.jsonl*")) if _NAME.fullmatch(path.name)]
    if not files:
        raise InputError(f"{folder}: no samples_*.jsonl files; run lm-eval with --log_samples")
    folders = list(dict.fromkeys(path.parent for path in files))
    if len(folders) > 1:
        names = ", ".join(str(one.relative_to(folder)) for one in folders)
        raise InputError(f"{folder}: outputs of several models or runs ({names}); name one of these folders")
    newest: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: _named(path)[1]):
        newest[_named(path)[0]] = path
    need_tasks(folder, list(newest), tasks, "samples")
    return [_described(newest[task], None) for task in (tasks or sorted(newest))]


def _named(path: Path) -> tuple[str, str]:
    """Task and time by the name of a file, empty where it does not say them."""
    match = _NAME.fullmatch(path.name)
    return (match["task"], match["time"] or "") if match else ("", "")


def _described(path: Path, task: str | None) -> _Samples:
    """The file with what lm-eval's own results file beside it says of its task, if that is there."""
    own, time = _named(path)
    name = own or task or "recorded"
    results = _results(path.parent / f"results_{time}.json") if time else {}

    def of_task(key: str) -> Any:
        part = results.get(key)
        return part.get(name) if isinstance(part, dict) else None

    config = of_task("configs")
    delimiter = config.get("target_delimiter") if isinstance(config, dict) else None
    higher = of_task("higher_is_better")
    settings = {"num_fewshot": of_task("n-shot"), "version": of_task("versions")}
    known = {key: value for key, value in settings.items() if isinstance(value, int | float | str)}
    known |= _made(results, config) if isinstance(config, dict) and "doc_to_text" in config else {}
    higher = {k: v for k, v in higher.items() if isinstance(v, bool)} if isinstance(higher, dict) else {}
    scores = of_task("results")  # ``exact_match,strict-match``
    names = [name.partition(",")[2] for name in scores] if isinstance(scores, dict) else []
    delimiter = delimiter if isinstance(delimiter, str) else None
    recording = Recording(read_rows(path), (), name, known, higher)
    return _Samples(recording, delimiter, list(dict.fromkeys(filter(None, names))))


def _made(results: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """How the answers were made, as far as lm-eval's results say it; under the names that our own runs use."""
    about = results.get("config")
    about = about if isinstance(about, dict) else {}
    versions = {name: results.get(f"{name}_version") for name in ("lm_eval", "transformers")}
    made = {
        **of_config(SimpleNamespace(**config), str(config.get("output_type"))),
        "output_type": config.get("output_type"),
        "system": _short(results.get("system_instruction_sha")),
        "chat_template": _short(results.get("chat_template_sha")) if results.get("chat_template") else None,
        "fewshot_as_multiturn": results.get("fewshot_as_multiturn") if results.get("chat_template") else None,
        "limit": f"first:{about['limit']:g}" if isinstance(about.get("limit"), int | float) else None,
        "engine": about.get("model"),
        "dtype": str(about["model_dtype"]).removeprefix("torch.") if about.get("model_dtype") else None,
        "device": str(about["device"]).partition(":")[0] if about.get("device") else None,
        "versions": {name: str(version) for name, version in versions.items() if version},
    }
    generation, given = made.get("generation"), about.get("gen_kwargs")
    if isinstance(given, dict) and isinstance(generation, dict):
        made["generation"] = generation | given
    return {name: value for name, value in made.items() if value not in (None, {})}


def _short(digest: Any) -> str | None:
    return digest[:8] if isinstance(digest, str) else None


def _results(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable results file of lm-eval ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a results file of lm-eval, but {json_kind(value)}")
    return value
