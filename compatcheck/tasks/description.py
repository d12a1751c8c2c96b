"""What of a task bears on the answers besides the documents: prompt, decoding, filters, by content."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from numbers import Real
from typing import Any

from compatcheck.tasks.generation import shown

_PROMPT = (
    "description", "doc_to_text", "doc_to_target", "doc_to_choice", "doc_to_image", "doc_to_audio", "process_docs",
    "target_delimiter", "gen_prefix", "use_prompt",
)  # fmt: skip
_OF_EXAMPLES = ("sampler", "split", "fewshot_indices")
_DATA = ("dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset", "test_split", "num_fewshot", "metadata")
"""Keys of a task's file that other settings, and the documents themselves, speak of."""


def label_fault(task: Any, doc: Any) -> str | None:
    """What is wrong with the label of a document of a choice task; None where it is one of its choices.

    lm-eval counts such a document as wrong whatever a model says: splits without labels have -1 or "" there."""
    if task.OUTPUT_TYPE != "multiple_choice" or not hasattr(task, "doc_to_choice"):
        return None
    choices = list(task.doc_to_choice(doc))
    label = task.doc_to_text(doc) if getattr(task, "multiple_input", False) else task.doc_to_target(doc)
    for one in label if isinstance(label, list) else [label]:
        if one in choices if isinstance(one, str) else isinstance(one, Real) and 0 <= float(one) < len(choices):
            return None
    return f"its label ({label if label != '' else 'an empty text'}) is none of its {len(choices)} choices"


def describe(task: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Fingerprints of prompt, filters, scoring and file, and the generation arguments as they are. ``task`` is
    lm-eval's object, whose defaults are filled in; ``config`` the task's file as it was read, with what it includes."""
    file = fingerprint({name: value for name, value in config.items() if name not in _DATA})
    return {**of_config(task.config, task.OUTPUT_TYPE), "task_file": file}


def of_config(settled: Any, output_type: str) -> dict[str, Any]:
    """The same of a task's settings alone, without its file: an object that has them as attributes."""
    prompt = {name: getattr(settled, name, None) for name in _PROMPT}
    shots = {}
    if getattr(settled, "num_fewshot", 0):
        examples = getattr(settled, "fewshot_config", None)
        chosen = examples if isinstance(examples, Mapping) else vars(examples) if examples is not None else {}
        shots = {name: chosen.get(name) for name in _OF_EXAMPLES}
        shots["fewshot_delimiter"] = getattr(settled, "fewshot_delimiter", None)
    generation = getattr(settled, "generation_kwargs", None) if output_type == "generate_until" else None
    return {
        "prompt": fingerprint(prompt),
        **({"examples": fingerprint(shots)} if shots else {}),
        **({"generation": _plain(shown(generation))} if generation else {}),
        "filters": fingerprint(getattr(settled, "filter_list", None)),
        "scoring": fingerprint([getattr(settled, name, None) for name in ("metric_list", "process_results")]),
    }


def fingerprint(value: Any) -> str:
    """A few digits that differ where the content does; functions count by their source."""
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if callable(value):
        try:
            return inspect.getsource(value)
        except (OSError, TypeError):
            return getattr(value, "__qualname__", type(value).__name__)
    if hasattr(value, "__dict__"):
        own = {name: _plain(one) for name, one in vars(value).items() if name[0] != "_"}
        return {"type": type(value).__name__, **own}
    return str(value)
