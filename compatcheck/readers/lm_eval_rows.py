"""One row of an lm-eval samples file as a plain recorded row; the predicted choice is recomputed."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compatcheck.errors import InputError
from compatcheck.table.choices import HASH_LENGTH, NO_MATCH, OWN_FIELD, predicted_choices
from compatcheck.table.layout import MISSING, Layout, dig
from compatcheck.table.reading import Row, Source
from compatcheck.table.rows import missing_field
from compatcheck.table.values import LABEL_LENGTH, text_of
from compatcheck.text import text_hash

_NOT_METRICS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash", "task_name",
}  # fmt: skip


_TAKEN = _NOT_METRICS | {"id", "prediction", "response", "input", "score", "error", "task", "loglikelihoods"}

MADE_HASH = "doc:"
"""How a ``doc_hash`` begins that was made here, of a document whose log has none."""
BLOCK = "block "
"""How a filter is called of which nothing but its place in the log is known."""

EXTRACTED = "extract"
"""Filter name of answers that ``--extract`` took out of the whole responses."""


class RowReader:
    """Turns rows of one samples file into plain ones.

    ``delimiter`` is what stands between prompt and choice, where known. ``restated``: predictions and targets are
    those that the layout names, not lm-eval's.
    """

    def __init__(self, source: Source, layout: Layout, delimiter: str | None, restated: bool) -> None:
        self.source = source
        self.layout = layout
        self.delimiter = delimiter
        self.restated = restated
        self.left_out: list[str] = []
        """Metrics without a number per document (perplexities, F1 over a corpus)."""
        self.long_labels: set[str] = set()
        """Fields of documents that are texts in some row, so that they are no labels in any."""
        self._filters: dict[str, str] = {}
        """By document the filter of the row that is read, where responses are read whole."""
        self._met: dict[str, int] = {}

    def plain(self, number: int, row: Row) -> Row | None:
        """The plain row; None for further filters of a response that is read whole."""
        for name in ("doc_id", "filtered_resps", "resps"):
            if name not in row:
                raise missing_field(self.source, number, row, name, "lm-eval's --log_samples, which writes it")
        name = str(row.get("filter") or self._block(row))
        document = self._field(number, row, self.layout.id_field or "doc_id", "--id-field")
        if self.layout.extract is not None and self.layout.prediction_field is None:
            read = self.layout.filter or self._filters.setdefault(text_of(document), name)
            if name != read:
                return None
            name = self.layout.filter or EXTRACTED
        plain: Row = {"id": document, "filter": name}
        own = row.get(OWN_FIELD)
        if isinstance(own, dict) and not self.restated:
            metrics = row.get("metrics")
            scores = {f"score:{name}": row.get(name) for name in map(str, metrics if isinstance(metrics, list) else [])}
            return {"target": None, "prediction": None} | own | plain | scores
        plain |= self._hashes(row) | self._labels(row) | {"full_prompt": _whole_prompt(row)}
        if not self.restated:
            plain |= self._scores(number, row)
        pairs = _pairs(row["filtered_resps"])
        if pairs is None:
            plain |= self._generated(row)
        else:
            plain |= self._chosen(number, row, pairs)
        if self.layout.prediction_field is not None:
            plain["prediction"] = self._field(number, row, self.layout.prediction_field, "--prediction-field")
            plain["response"] = None
        if self.layout.input_field is not None:
            plain["input"] = self._field(number, row, self.layout.input_field, "--input-field")
        if self.layout.target_field is not None:
            plain["target"] = self._field(number, row, self.layout.target_field, "--target-field")
        return plain

    def _field(self, number: int, row: Row, name: str, option: str) -> Any:
        value = dig(row, name)
        if value is MISSING:
            raise missing_field(self.source, number, row, name, option)
        return value

    def _hashes(self, row: Row) -> Row:
        hashes = {name: row.get(name) for name in ("doc_hash", "target_hash")}
        found = {name: str(value)[:HASH_LENGTH] for name, value in hashes.items() if value}
        if "doc_hash" not in found and isinstance(
            row.get("doc"), dict
        ):  # logs before lm-eval 0.4.2, as it makes them now
            found["doc_hash"] = MADE_HASH + text_hash(json.dumps(row["doc"], indent=2, ensure_ascii=False))
        return found

    def _block(self, row: Row) -> str:
        """The filter of a row that names none: the block that it stands in, where all documents come again."""
        key = text_of(row["doc_id"])
        self._met[key] = self._met.get(key, 0) + 1
        return "none" if self._met[key] == 1 else f"{BLOCK}{self._met[key]}"

    @property
    def several_blocks(self) -> int:
        """How many filters the rows went through without a name; 1 where documents differ in how often they come."""
        counts = set(self._met.values())
        return counts.pop() if len(counts) == 1 else 1

    def _labels(self, row: Row) -> Row:
        """Scalars of the document short enough to slice by, under their own names or ``field:<name>``."""
        doc = row.get("doc")
        if not isinstance(doc, dict):
            return {}
        labels: Row = {}
        for key, value in doc.items():
            name = f"field:{key}" if key in _TAKEN else key
            if isinstance(value, str) and len(value) > LABEL_LENGTH:
                self.long_labels.add(name)
            elif isinstance(value, bool | int | float | str) and name not in self.long_labels:
                labels[name] = value
        return labels

    def _scores(self, number: int, row: Row) -> Row:
        names = row.get("metrics")
        if not isinstance(names, list):  # logs before lm-eval 0.4.9
            names = [key for key in row if key not in _NOT_METRICS]
        scores: Row = {}
        for name in map(str, names):
            value = row.get(name)
            if isinstance(value, bool | int | float):
                scores[f"score:{name}"] = value
            elif name not in self.left_out:
                self.left_out.append(name)
        return scores

    def _generated(self, row: Row) -> Row:
        response = _first_text(row["resps"])
        prediction = _first_text(row["filtered_resps"])
        if self.layout.extract is not None:
            prediction = response
        elif prediction == NO_MATCH:
            prediction = None
        return {
            "input": _last_question(row),
            "target": _accepted(_target_text(row.get("target")), row.get("doc")),
            "prediction": prediction,
            "response": response if response != prediction and self.layout.extract is None else None,
        }

    def _chosen(self, number: int, row: Row, pairs: Sequence[tuple[float, bool]]) -> Row:
        if any(math.isnan(value) for value, _ in pairs):
            raise InputError(f"{self.source.at(number)}: `filtered_resps` has a log-likelihood that is NaN")
        requests = _requests(row)
        values = np.array([value for value, _ in pairs])
        target = _target_text(row.get("target"))
        if len(pairs) == 1:
            # One continuation, judged by whether it is the most likely one: what else the model would say is unknown.
            said = target if pairs[0][1] else "(another continuation)"
            return {
                "input": _last_question(row), "target": target, "prediction": said,
                "loglikelihoods": values.tolist(),
            }  # fmt: skip
        unconditional = None
        half = len(pairs) // 2
        if "acc_mutual_info" in row and all(context == "" for context, _ in requests[half:]):
            values, unconditional, requests = values[:half], values[half:], requests[:half]
        choices = _choices(requests, row, self.delimiter)
        if len(choices) != len(values):
            raise InputError(
                f"{self.source.at(number)}: {len(values)} log-likelihoods in `filtered_resps`, but {len(choices)} "
                "choices in `arguments`"
            )
        predicted = predicted_choices(values, choices, unconditional)
        plain: Row = {
            "input": _last_question(row),
            "target": target if _is_text(target, choices, row.get("doc")) else _gold(target, choices),
            "prediction": predicted.pop("acc"),
            "loglikelihoods": values.tolist(),
        }
        if not self.restated:
            plain |= {f"prediction:{metric}": choice for metric, choice in predicted.items() if metric in row}
        return plain


def _pairs(filtered: Any) -> list[tuple[float, bool]] | None:
    """(log-likelihood, is greedy) of every request, None where the responses are texts. lm-eval writes them as text."""
    if not isinstance(filtered, list) or not filtered:
        return None
    pairs = []
    for item in filtered:
        if not isinstance(item, list) or len(item) != 2 or str(item[1]) not in ("True", "False"):
            return None
        try:
            pairs.append((float(item[0]), str(item[1]) == "True"))
        except (TypeError, ValueError, OverflowError):
            return None
    return pairs


def _first_text(responses: Any) -> str | None:
    while isinstance(responses, list):
        if not responses:
            return None
        responses = responses[0]
    return None if responses is None else text_of(responses)


def _requests(row: Row) -> list[tuple[str, str]]:
    """(context, continuation) of every request, from either shape that lm-eval has used."""
    arguments = row.get("arguments")
    if isinstance(arguments, dict):
        items = [list(one.values()) if isinstance(one, dict) else one for one in arguments.values()]
    else:
        items = arguments if isinstance(arguments, list) else []
    requests = []
    for item in items:
        if isinstance(item, list) and len(item) >= 2:
            requests.append((text_of(item[0]), item[1] if isinstance(item[1], str) else ""))
        elif isinstance(item, list) and item:
            requests.append((text_of(item[0]), ""))
    return requests


def _choices(requests: Sequence[tuple[str, str]], row: Row, delimiter: str | None) -> list[str]:
    """Texts of the choices, as lm-eval measures their length.

    They are the continuations without what stands before each. That is known from the results file, or from the
    document where it lists the choices, or else one space where all have it. Where only the contexts differ
    (Winogrande) the choices are the words in which they do.
    """
    contexts, continuations = [c for c, _ in requests], [c for _, c in requests]
    if len(set(continuations)) == 1 and len(set(contexts)) > 1:
        return _differing_words(contexts)
    if delimiter is not None and all(text.startswith(delimiter) for text in continuations):
        return [text[len(delimiter) :] for text in continuations]
    for listed in _lists(row.get("doc")):
        if len(listed) == len(continuations):
            before = {
                text[: len(text) - len(choice)] if text.endswith(choice) else None
                for text, choice in zip(continuations, listed, strict=True)
            }
            if len(before) == 1 and None not in before and not str(next(iter(before))).strip():
                return listed
    if all(text.startswith(" ") for text in continuations):
        return [text[1:] for text in continuations]
    return continuations


def _lists(doc: Any) -> list[list[str]]:
    """Lists of texts in a document, also one level down (``choices.text``)."""
    if not isinstance(doc, Mapping):
        return []
    values = [
        *doc.values(),
        *(inner for value in doc.values() if isinstance(value, Mapping) for inner in value.values()),
    ]
    return [value for value in values if isinstance(value, list) and value and all(isinstance(v, str) for v in value)]


def _differing_words(texts: Sequence[str]) -> list[str]:
    split = [text.split() for text in texts]
    shortest = min(map(len, split))
    start = next((i for i in range(shortest) if len({words[i] for words in split}) > 1), shortest)
    end = next((i for i in range(shortest - start) if len({words[-1 - i] for words in split}) > 1), shortest - start)
    return [" ".join(words[start : len(words) - end]) for words in split]


def _gold(target: str | None, choices: Sequence[str]) -> str | None:
    """The right choice's text: lm-eval records its index, a list of indices, or the text itself."""
    if target is None:
        return None
    if target.isdecimal() and int(target) < len(choices):
        return choices[int(target)]
    if target.startswith("["):
        try:
            indices = json.loads(target)
        except ValueError:
            return target
        if isinstance(indices, list) and all(isinstance(i, int) and 0 <= i < len(choices) for i in indices):
            return " | ".join(choices[i] for i in indices)
    return target


def _is_text(target: str | None, choices: Sequence[str], doc: Any) -> bool:
    """Whether a target such as ``1``, which lm-eval writes as it writes an index, is a choice's text.

    The document says it, which is the same on both sides: it has the text, and the number nowhere.
    """
    values = list(doc.values()) if isinstance(doc, dict) else []
    numbers = [text_of(one) for one in values if isinstance(one, int | float)]
    return target in choices and target in [one for one in values if isinstance(one, str)] and target not in numbers


def _target_text(target: Any) -> str | None:
    return None if target is None else text_of(target)


def _accepted(target: str | None, doc: Any) -> str | None:
    """Several right texts, which lm-eval writes as Python shows a list, as JSON; a document's own text as it is."""
    if target is None or not (target.startswith("[") and target.endswith("]")):
        return target
    if isinstance(doc, dict) and target in (value for value in doc.values() if isinstance(value, str)):
        return target
    try:
        listed = ast.literal_eval(target)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return target
    texts = isinstance(listed, list) and listed and all(isinstance(one, str) for one in listed)
    return text_of(listed) if texts else target


def _whole_prompt(row: Row) -> str | None:
    """The prompt that was sent, where it is more than the part that is shown as the input."""
    requests = _requests(row)
    whole = requests[0][0] if requests else None
    return whole if whole != _last_question(row) else None


def _last_question(row: Row) -> str | None:
    """The part of the prompt that is this document's: without the few-shot examples, as far as the document tells.

    It starts with the line in which the first of the document's texts appears for the last time.
    """
    requests = _requests(row)
    if not requests:
        return None
    prompt = requests[0][0]
    doc = row.get("doc")
    texts = [v for v in doc.values() if isinstance(v, str) and len(v) >= 10] if isinstance(doc, dict) else []
    places = [place for place in (prompt.rfind(text) for text in texts) if place >= 0]
    if not places:
        return prompt
    return prompt[prompt.rfind("\n", 0, min(places)) + 1 :]
