"""How to read recorded rows: which field is which, and what to take out of a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError


class Missing:
    """The value of a field that a row does not have."""


MISSING = Missing()


MATCH_SECONDS = 5
"""How long ``--extract`` may look at one text."""


@dataclass(frozen=True)
class Layout:
    """Which fields of a recorded row are its id, target, prediction and input.

    Field names may be dotted paths into nested objects and lists: ``6b_finetuning.solution``, ``choices.0.text``.
    None stands for the default names ``id``, ``target``, ``prediction`` and ``input``, and where a row has none of that
    name for an obvious one (:data:`OBVIOUS`). Raises InputError when ``extract`` is not a regular expression.
    """

    id_field: str | None = None
    target_field: str | None = None
    prediction_field: str | None = None
    extract: str | None = None
    """Regular expression for predictions and targets: the last match counts, of it the first group that took part (the
    whole match where the pattern has no group). A prediction without a match is "no answer"."""
    targets: Path | None = None
    """A third file whose rows give the target by id."""
    filter: str | None = None
    """Keep only the rows of this filter."""
    repeats: str | None = None
    """``average``: several rows of one id are samples of one document (:mod:`compatcheck.table.repeats`)."""
    tool: str | None = None
    """The tool that wrote the outputs (:data:`compatcheck.readers.recorded.READERS`), where the user says so."""
    part: str | None = None
    """Which part of them: a provider, a model, a split, a sheet."""
    input_field: str | None = None
    model_field: str | None = None
    """The field that ``part`` is a value of, where a file holds the rows of several models."""
    reasoning: str | None = None
    """``strip``: what a model thought before its answer is taken out of it; None says where there is some."""
    reference: str | None = None
    """``old``: answers are compared with each other, so that rows need no target and are not scored."""

    @property
    def rewrites(self) -> bool:
        """Whether answers are not the texts that were recorded."""
        return self.extract is not None or self.reasoning == "strip"

    @property
    def names_fields(self) -> bool:
        """Whether the user said which field is what."""
        return any((self.id_field, self.target_field, self.prediction_field, self.input_field))

    def __post_init__(self) -> None:
        if self.extract is not None:
            try:
                re.compile(self.extract)
            except re.error as error:
                raise InputError(f"--extract '{self.extract}' is not a regular expression: {error}") from None

    @cached_property
    def _finder(self) -> Any:
        """A function from a text to its matches: linear in the text where RE2 knows the pattern, else limited."""
        import re2  # type: ignore[import-untyped]

        options = re2.Options()
        options.log_errors = False
        # \d, \w and \s of re are Unicode's, of RE2 ASCII's: only a pattern without them means the same.
        if not re.search(r"\\[dwsbDWSB]|\(\?", self.extract or ""):
            with suppress(re2.error):  # back references, which take more than linear time
                return re2.compile(self.extract, options).finditer
        import regex  # type: ignore[import-untyped]  # as re, and can be told to stop

        return partial(regex.compile(self.extract or "").finditer, timeout=MATCH_SECONDS)

    def extracted(self, text: str) -> str | None:
        """What :attr:`extract` takes out of a text, without white space at the ends; None without a match."""
        found = None
        try:
            for found in self._finder(text):  # noqa: B007 - the last match is wanted
                pass
        except TimeoutError:
            raise InputError(
                f"--extract '{self.extract}' takes more than {MATCH_SECONDS} s on one text ({text[:40]!r} …); write it "
                "without repeats inside repeats, such as (a+)+"
            ) from None
        if found is None:
            return None
        took_part = [value for value in found.groups() if value is not None] if found.re.groups else [found.group()]
        return str(took_part[0]).strip() if took_part else None


def dig(row: Mapping[str, Any], path: str) -> Any:
    """Value at a dotted path, :data:`MISSING` where there is none, None where the way there is null.

    A field whose own name has dots comes before a path.
    """
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part, MISSING)
        elif isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else MISSING
        elif value is None:
            return None
        else:
            return MISSING
    return value


def picker(path: str) -> Callable[[Sequence[Mapping[str, Any]]], list[Any]]:
    """Return a function that takes the field out of many rows, fast where the name has no dots."""
    if "." in path:
        return lambda rows: [dig(row, path) for row in rows]
    return lambda rows: [row.get(path, MISSING) for row in rows]


def field_names(row: Mapping[str, Any], prefix: str = "", depth: int = 2) -> list[str]:
    """The fields of a row for an error message, nested ones dotted, in the order of the row."""
    names: list[str] = []
    for key, value in row.items():
        if isinstance(value, Mapping) and value and depth > 1:
            names += field_names(value, f"{prefix}{key}.", depth - 1)
        else:
            names.append(prefix + key)
    return names


def listed(row: Mapping[str, Any]) -> str:
    """The fields of a row in one short text."""
    there = ", ".join(field_names(row)) or "none"
    return there if len(there) <= 300 else there[:299] + "…"


OBVIOUS: Mapping[str, tuple[str, ...]] = {
    "id": (
        "question_id", "doc_id", "example_id", "sample_id", "instance_id", "item_id", "prompt_id", "document_id",
        "task_id", "test_id", "case_id", "row_id", "record_id", "qid", "uid", "uuid", "guid", "idx", "index", "_id",
        "key",
    ),
    "target": (
        "gold", "reference", "references", "ground_truth", "groundtruth", "expected", "expected_output",
        "expected_answer", "gold_answer", "ref_answer", "reference_answer", "correct_answer", "true_answer",
        "gold_label", "label", "truth", "solution",
    ),
    "prediction": (
        "output", "response", "completion", "generation", "generated", "generated_text", "predicted", "pred",
        "model_output", "model_answer", "model_response", "predicted_answer", "prediction_text", "predicted_label",
        "output_text", "hypothesis",
    ),
    "input": ("question", "query", "problem", "prompt", "instruction", "messages"),
}  # fmt: skip
"""Names by which a field is known where none has the plain name; ``answer`` is what the others leave open."""
_HINTS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "index", "idx", "key", "number"),
    "target": ("target", "gold", "reference", "truth", "expected", "correct", "label", "answer"),
    "prediction": ("prediction", "pred", "output", "response", "answer", "completion", "generat", "result", "text"),
}


def obvious(there: Sequence[str], wanted: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """The fields that are surely what is wanted (``id``, ``target`` …), by role; one of two candidates is not."""
    plain = {name.lower().replace("-", "_").replace(" ", "_"): name for name in reversed(there) if name not in taken}
    found: dict[str, str] = {}
    for role in wanted:
        if role in plain:
            found[role] = plain[role]
            continue
        names = [plain[name] for name in OBVIOUS[role] if name in plain]
        if len(names) == 1 or (names and role == "input"):
            found[role] = names[0]
    open_roles = [role for role in wanted if role in ("target", "prediction") and role not in found]
    rivals = [name for role in open_roles for name in OBVIOUS[role] if name in plain]
    if "answer" in plain and len(open_roles) == 1 and not rivals:
        found[open_roles[0]] = plain["answer"]
    elif "answer" in plain and "prediction" in found and "prediction" not in plain:
        del found["prediction"]  # `answer` may be it as well, where something else is the target
    return found


def proposed(there: Sequence[str], wanted: Sequence[str], taken: Collection[str]) -> dict[str, list[str]]:
    """For each role that is wanted the fields whose names sound like it, the likeliest first."""
    left = [name for name in there if name not in taken]
    found: dict[str, list[str]] = {}
    for role in sorted(wanted, key=lambda role: role == "prediction"):
        own = [n for n in left if n.lower().rpartition(".")[2] in OBVIOUS[role]]
        own += [n for hint in _HINTS[role] for n in left if n not in own and re.search(_like(role, hint), n.lower())]
        if own:
            found[role] = own
            left = [name for name in left if name != own[0]]
    return found


def _like(role: str, hint: str) -> str:
    return rf"(^|[^a-z]){hint}s?$" if role == "id" else rf"(^|[^a-z]){hint}"
