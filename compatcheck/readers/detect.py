"""Outputs that other evaluation tools wrote: whose they are, and the way to their reader.

A tool is known by what its files hold, never by a name alone; ``TOOL:PATH`` as the reference says it outright, and
``PATH#PART`` which of several models, providers or splits is meant. docs/importers.md says what becomes of each field.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from compatcheck.references import tool_of_folder
from compatcheck.table.files import DAMAGED, open_bytes
from compatcheck.table.layout import Layout
from compatcheck.table.reading import Row, file_kind

_ROWS = "rows"
"""How the user says that a file holds plain rows, or lm-eval's, whatever it looks like."""
_HEAD_BYTES = 1 << 20
_ROWS_OF: tuple[tuple[str, tuple[set[str], ...]], ...] = (
    ("alpaca_eval", ({"instruction", "output", "generator"}, {"instruction", "output_1", "output_2", "preference"})),
    ("fastchat", ({"question_id", "choices", "model_id"}, {"question_id", "model", "judge", "score", "turn"})),
    ("helm", ({"instance", "request", "result"}, {"instance_id", "stats", "predicted_text"})),
    ("helm", ({"instance_id", "stats", "train_trial_index"},)),
    ("promptfoo", ({"promptIdx", "testIdx", "vars"},)),
    ("openai_evals", ({"run_id", "event_id", "sample_id", "type", "data"},)),
    ("nemo_evaluator", ({"problem_idx", "repeat", "reward"}, {"sample_id", "response", "scores", "status"})),
    ("langsmith", ({"run_type", "inputs", "outputs"}, {"inputs", "outputs", "reference_outputs"})),
    ("langsmith", ({"inputs", "outputs", "reference"}, {"inputs", "outputs", "feedback"})),
    ("braintrust", ({"span_id", "root_span_id", "input"}, {"input", "output", "expected", "scores"})),
    ("langfuse", ({"input", "output", "traceId"}, {"input", "output", "sessionId"}, {"input", "output", "projectId"})),
    ("chat_log", ({"choices", "object"}, {"choices", "usage"}, {"custom_id", "response"}, {"custom_id", "result"})),
)
"""By which fields of a row a tool is known: all those of one set. Of a column ``a.b`` the field is ``a``."""
_FILES_OF: tuple[tuple[str, tuple[set[str], ...]], ...] = (
    ("inspect", ({"version", "status", "eval"},)),
    ("helm", ({"adapter_spec"}, {"request_states"})),
    ("promptfoo", ({"evalId", "results"}, {"results", "config"}, {"results", "stats", "version"})),
    ("deepeval", ({"testCases", "metricsScores"}, {"testCases", "conversationalTestCases"})),
    ("opencompass", ({"accuracy", "details"},)),
    ("langfuse", ({"data", "meta"},)),
    ("braintrust", ({"events", "cursor"},)),
)
"""By which keys the tool is known whose file is one object."""
_TRACES = ("langfuse", "langsmith", "braintrust")
"""Tools whose rows have no ``target``: with one they are plain rows."""
_BEFORE_KEY, _COLON = re.compile(r"\s*[{,]\s*"), re.compile(r"\s*:\s*")
_CONVERSATION = {"id", "messages", "tools", "parallel_tool_calls", "metadata", "model"}
"""Fields that a row with a conversation may have, and no other."""


def tool_of(path: Path, layout: Layout) -> str | None:
    """The tool that wrote a file or folder; None for plain rows and for what lm-eval wrote.

    Where the user names fields, a file of rows is read as rows.
    """
    if layout.tool is not None:
        return None if layout.tool == _ROWS else layout.tool
    if path.is_dir():
        return tool_of_folder(path)
    if not path.is_file():
        return None
    if path.suffix.lower() == ".eval":
        return "inspect"
    kind = file_kind(path)
    if kind == "parquet":
        return None if layout.names_fields else _tool_of_parquet(path)
    if kind == "csv":
        names = next(csv.reader(_head(path).splitlines()), [])
        return None if layout.names_fields else _tool_of_row(dict.fromkeys(name.partition(".")[0] for name in names))
    if kind not in ("json", "jsonl"):
        return None
    return _tool_of_json(_head(path), layout)


def _head(path: Path) -> str:
    """The first bytes of a file as text, damaged ones replaced; empty where it cannot be read."""
    try:
        with open_bytes(path) as file:
            return file.read(_HEAD_BYTES).decode("utf-8", errors="replace").removeprefix("\ufeff").lstrip()
    except (OSError, *DAMAGED):
        return ""  # reading it says what is wrong


def _tool_of_json(head: str, layout: Layout) -> str | None:
    if head.startswith("["):
        return None if layout.names_fields else _tool_of_row(_first_object(head[1:]))
    if not head.startswith("{"):
        return None
    if row := _first_object(head.partition("\n")[0]):
        tool = _tool_of_row(row)
        if tool is not None:
            return None if layout.names_fields else tool
        return _tool_of_keys(set(row))
    return _tool_of_keys(_first_keys(head))


def _tool_of_row(row: Row) -> str | None:
    keys = set(row)
    if keys >= {"id", "prediction"}:
        return None  # plain rows that carry a tool's fields along
    if keys == {"spec"}:
        return "openai_evals"  # its first line
    tool = next((tool for tool, marks in _ROWS_OF if any(keys >= mark for mark in marks)), None)
    if tool in _TRACES and "target" in keys:
        return None
    return "chat_log" if tool is None and _is_exchange(row) else tool


def _is_exchange(row: Row) -> bool:
    """Whether a row is a request to a chat model with its response, or a conversation and nothing else."""
    answers = [row.get(name) for name in ("response", "output", "completion")]
    if any(isinstance(one, dict) and one.keys() & {"choices", "object", "stop_reason", "body"} for one in answers):
        return True
    turns = row.get("messages")
    last = turns[-1] if isinstance(turns, list) and turns else None
    return isinstance(last, dict) and last.get("role") == "assistant" and set(row) <= _CONVERSATION


def _tool_of_keys(keys: set[str]) -> str | None:
    """The tool whose file is one object with these keys (perhaps not all of them)."""
    if keys & {"configs", "versions"}:
        return None  # lm-eval's summary
    if "0" in keys and all(key.isdecimal() for key in keys):
        return "opencompass"
    return next((tool for tool, marks in _FILES_OF if any(keys >= mark for mark in marks)), None)


def _first_object(text: str) -> Row:
    """The object that a text begins with; empty where it begins with none that is whole."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _first_keys(text: str) -> set[str]:
    """Keys of an object at the beginning of a text that may end anywhere."""
    keys: set[str] = set()
    decode, place = json.JSONDecoder().raw_decode, 0
    try:
        while before := _BEFORE_KEY.match(text, place):
            key, place = decode(text, before.end())
            if not isinstance(key, str):
                break
            keys.add(key)
            colon = _COLON.match(text, place)
            _, place = decode(text, colon.end() if colon else len(text))
    except (ValueError, RecursionError):
        pass  # no whole key or value stands there
    return keys


def _tool_of_parquet(path: Path) -> str | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = set(pq.read_schema(path).names)
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return None  # reading it says what is wrong
    if names >= {"doc", "metric", "model_response"}:
        return "lighteval"
    return "lighteval" if names >= {"full_prompt", "predictions", "metrics", "gold_index"} else None
