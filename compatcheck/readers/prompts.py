"""A file of the user's own prompts, read and checked before anything is asked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compatcheck.conversation import Turn, asked_and_answer, fault_in, turns_in, with_system
from compatcheck.errors import InputError
from compatcheck.paths import user_path
from compatcheck.records import ANSWER_COLUMNS, TEXT_COLUMNS
from compatcheck.similarity.structured import calls
from compatcheck.table.layout import MISSING, Layout, dig, field_names, listed, obvious, proposed
from compatcheck.table.reading import KINDS, PACKED, Row, Source, read_rows
from compatcheck.table.values import LABEL_LENGTH, is_gap, text_of
from compatcheck.tasks.load import TaskOptions
from compatcheck.tasks.prompt_set import Prompt, PromptSet, name_of
from compatcheck.text import clean_surrogates

_OPTIONS = {"id": "--id-field", "target": "--target-field", "prompt": "--input-field"}
_OWN = ("id", "prompt", "target", "system", "tools", "response_format")
_SCALARS = (str, int, float, bool)
_TAKEN = {*TEXT_COLUMNS, *ANSWER_COLUMNS, "doc_id", "score", "loglikelihoods"}
"""Names of a record's own columns, which a field of a row cannot have."""
_LIKE_TURNS = re.compile(
    r"""\s*(\[\s*\{\s*['"](content|(\w+['"]\s*:.*['"])?role)|\{\s*['"]messages)['"]\s*:""", re.DOTALL
)
_PREFIXES = ("score:", "prediction:", "agreed:")


@dataclass(frozen=True)
class _Names:
    """Which field is what; a field that no row has is None."""

    id: str | None
    prompt: str
    target: str | None


def read_prompts(options: TaskOptions) -> PromptSet:
    """What ``--prompts`` names.
    Raises InputError: a file that cannot be read, or a row that cannot be used; says file, line and field.
    """
    assert options.prompts is not None
    path = user_path(str(options.prompts))
    try:
        source = read_rows(path)
    except InputError as error:
        raise InputError(f"--prompts {error}".replace("recorded outputs are", "prompts are")) from None
    rows = [
        (number, _clean(row)) for numbers, chunk in source.chunks for number, row in zip(numbers, chunk, strict=True)
    ]
    names, notes = _names(source, rows, options)
    system = system_text(options.system)
    prompts, counts = [], Counter[str]()
    for place, (number, row) in enumerate(rows):
        prompts.append(_prompt(_Row(source.at(number), row, names, place), system, counts))
    _check_ids(prompts)
    said = [*source.notes, *notes]
    of_tasks = {"--num-fewshot": options.num_fewshot, "--split": options.split, "--data": options.data}
    said += [f"{path.name}: {flag} {value} is of tasks; prompts are asked without" for flag, value in of_tasks.items()
             if value not in (None, 0)]  # fmt: skip
    if counts["system"]:
        said.append(f"{path.name}: --system stands in place of the system text of {counts['system']:,} prompts")
    if counts["answered"]:
        said.append(
            f"{path.name}: {counts['answered']:,} conversations end with the assistant's turn, which is not given; it "
            "is the target where the row has none"
        )
    prompts = _extracted(_with_labels(prompts), options.extract)
    return PromptSet(prompts_name(path), prompts, names.id is not None, tuple(said))


def prompts_name(path: Path) -> str:
    """What the prompts of a file are called as a task."""
    return name_of(path, [*PACKED, *KINDS])


def system_text(given: str | None) -> str | None:
    """What ``--system`` says: a text, or with ``@`` before its name a file's. ``@@`` begins a text with ``@``.
    Raises InputError: no such file, or one that is no text.
    """
    if given is None or not given.startswith("@"):
        return given
    if given.startswith("@@"):
        return given[1:]
    from compatcheck.table.files import read_text

    path = user_path(given[1:])
    if not path.is_file():
        raise InputError(f"--system {given}: no such file; a text that begins with @ is written @@")
    return read_text(path).replace("\r\n", "\n").strip("\n")


def _clean(value: Any) -> Any:
    """A value without halves of surrogate pairs, which JSON can spell and no tokenizer reads."""
    if isinstance(value, str):
        return value if value.isascii() else clean_surrogates(value)
    if isinstance(value, Mapping):
        return {_clean(name): _clean(one) for name, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list) else value


def _names(source: Source, rows: Sequence[tuple[int, Row]], options: TaskOptions) -> tuple[_Names, list[str]]:
    """Which field is what, by all rows; obvious names are taken and said."""
    number, first = rows[0]
    there = list(dict.fromkeys(name for _, row in rows[:1_000] for name in field_names(row)))
    given = {"id": options.id_field, "target": options.target_field, "prompt": options.input_field}
    known = {role: name or (role if role in there or role in first else None) for role, name in given.items()}
    wanted = [role for role, name in known.items() if name is None]
    taken = {name for name in known.values() if name} | set(_OWN)
    roles = ["input" if role == "prompt" else role for role in wanted]
    found = obvious([name for name in there if name not in taken], roles, taken)
    if "prompt" in wanted and "input" in found:
        known["prompt"] = found["input"]
    for role in ("id", "target"):
        known[role] = known[role] or found.get(role)
    for role, name in known.items():
        if name is not None and given[role] and all(dig(row, name) is MISSING for _, row in rows):
            raise InputError(
                f"{source.at(number)}: no field `{name}`, which {_OPTIONS[role]} names (fields: {listed(first)})"
            )
    if known["prompt"] is None:
        guess = next(iter(proposed(there, ["prediction"], taken).get("prediction", [])), None)
        fix = f"did you mean --input-field {guess}?" if guess else "name it with --input-field"
        lacking = "no field `prompt`" + ("" if known["target"] else " and no `target`")
        raise InputError(f"{source.at(number)}: {lacking} (fields: {listed(first)}); {fix}")
    said = [
        f"`{name}` is taken as the {role}" for role, name in known.items() if name and name not in (role, given[role])
    ]
    names = _Names(known["id"], known["prompt"], known["target"])
    return names, [f"{source.path.name}: {'; '.join(said)}"] if said else []


@dataclass(frozen=True)
class _Row:
    at: str
    row: Row
    names: _Names
    place: int

    def get(self, name: str | None) -> Any:
        value = MISSING if name is None else dig(self.row, name)
        return None if value is MISSING or is_gap(value) else value

    def fail(self, message: str) -> InputError:
        return InputError(f"{self.at}: {message}")

    def as_json(self, name: str) -> Any:
        """A field that holds an object or a list, or the text of one."""
        value = self.get(name)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise self.fail(f"`{name}` is a text that is not JSON") from None
        return value


def _prompt(row: _Row, system: str | None, counts: Counter[str]) -> Prompt:
    names = row.names
    missing = [name for name in (names.id, names.prompt) if name is not None and row.get(name) is None]
    if missing:
        lacking = " and ".join(f"no `{name}`" for name in missing)
        raise row.fail(f"{lacking} (fields: {listed(row.row)}); every row needs {'them' if len(missing) > 1 else 'it'}")
    turns, answer = _turns(row, system, counts)
    target = _target(row, answer)
    counts["answered"] += bool(answer)
    tools = row.as_json("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(one, dict) for one in tools)):
        raise row.fail("`tools` must be a list of objects, as OpenAI's API takes them")
    form = row.as_json("response_format")
    if form is not None and not isinstance(form, dict):
        raise row.fail("`response_format` must be an object, as OpenAI's API takes it")
    return Prompt(
        row.at,
        _id(row),
        turns,
        target,
        tools or None,
        form,
        dict(_labels(row, {*_OWN, *filter(None, vars(names).values())})),
    )


def _id(row: _Row) -> str:
    if row.names.id is None:
        return str(row.place)
    value = row.get(row.names.id)
    if not isinstance(value, str | int | float):
        raise row.fail(f"`{row.names.id}` must be a text or a number")
    return str(text_of(value))


def _turns(row: _Row, system: str | None, counts: Counter[str]) -> tuple[list[Turn], list[Turn]]:
    """What is given, the system message first, and the assistant's turns behind it."""
    name = row.names.prompt
    value, own = row.get(name), row.get("system")
    turns = turns_in(value)
    if turns is None:
        if not isinstance(value, _SCALARS):
            raise row.fail(f"`{name}` is neither a text nor a list of messages, each with a role and a content")
        if isinstance(value, str) and _LIKE_TURNS.match(value) and not _is_json(value):
            raise row.fail(
                f"`{name}` looks like a list of messages, but cannot be read as JSON; write it by json.dumps"
            )
        turns = [{"role": "user", "content": str(text_of(value))}]
    if fault := fault_in(turns):
        raise row.fail(f"`{name}`: {fault}")
    if own is not None and not isinstance(own, str):
        raise row.fail("`system` must be a text")
    begins = turns[0]["role"] in ("system", "developer")
    if own is not None and begins:
        raise row.fail(f"a `system` and a system message in `{name}`; leave one of them")
    counts["system"] += system is not None and (own is not None or begins)
    asked, answer = asked_and_answer(turns)
    if not any(turn["role"] not in ("system", "developer") for turn in asked):
        raise row.fail(f"`{name}` has no turn of the user, so there is nothing to answer")
    if all(not _says(turn) for turn in asked):
        raise row.fail(f"`{name}` is empty")
    return with_system(asked, own if system is None else system), answer


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _says(turn: Turn) -> bool:
    content = turn.get("content")
    return bool(content.strip() if isinstance(content, str) else content or turn.get("tool_calls"))


def _target(row: _Row, answer: Sequence[Turn]) -> str | list[str] | None:
    """What is right, by the row, else by the assistant's turn that ends the conversation."""
    value = row.get(row.names.target)
    if value is None and answer:
        last = answer[-1]
        if last.get("tool_calls"):
            try:
                return json.dumps(calls(json.dumps(last["tool_calls"])), ensure_ascii=False)
            except ValueError as error:
                raise row.fail(f"`{row.names.prompt}`: its last message's tool_calls cannot be read: {error}") from None
        content = last.get("content")
        return content if isinstance(content, str) else None
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        if not value and row.get("tools") is None:  # with tools it says that none is to be called
            raise row.fail(f"`{row.names.target}` is an empty list; give a text or a list of accepted texts")
        if value and all(isinstance(one, _SCALARS) for one in value):
            texts = [str(text_of(one)) for one in value]
            return texts if len(texts) > 1 else texts[0]
    return str(text_of(value))


def _labels(row: _Row, skip: set[str]) -> Iterator[tuple[str, Any]]:
    """The other fields of a row, nested ones by dotted names."""

    def within(values: Mapping[str, Any], before: str, depth: int) -> Iterator[tuple[str, Any]]:
        for key, value in values.items():
            name = f"{before}{key}"
            if name in skip:
                continue
            if isinstance(value, Mapping) and depth < 4:
                yield from within(value, f"{name}.", depth + 1)
            elif not is_gap(value):
                yield f"field:{name}" if name in _TAKEN or name.startswith(_PREFIXES) else name, value

    yield from within(row.row, "", 1)


def _with_labels(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts with those of their fields alone by which a report can be sliced: scalars, and short in every row."""

    def unfit(value: Any) -> bool:
        return not isinstance(value, _SCALARS) or (isinstance(value, str) and len(value) > LABEL_LENGTH)

    names = dict.fromkeys(name for prompt in prompts for name in prompt.fields)
    kept = [name for name in names if not any(unfit(prompt.fields.get(name, "")) for prompt in prompts)]
    return [replace(prompt, fields={name: prompt.fields.get(name) for name in kept}) for prompt in prompts]


def _check_ids(prompts: Sequence[Prompt]) -> None:
    seen: dict[str, str] = {}
    for prompt in prompts:
        first = seen.setdefault(prompt.id, prompt.place)
        if first != prompt.place:
            raise InputError(
                f"{prompt.place}: the id {prompt.id!r} stands at {first}, too; an id stands for one prompt"
            )


def _extracted(prompts: list[Prompt], pattern: str | None) -> list[Prompt]:
    """Targets as ``--extract`` leaves them: where it finds nothing in any of them, they are answers already."""
    if pattern is None:
        return prompts
    layout = Layout(extract=pattern)
    found: list[list[str | None]] = []
    for prompt in prompts:
        texts = [prompt.target] if isinstance(prompt.target, str) else prompt.target or []
        found.append([layout.extracted(text) for text in texts])
    if not any(text is not None for texts in found for text in texts):
        return prompts
    for prompt, each in zip(prompts, found, strict=True):
        if None in each:
            raise InputError(
                f"{prompt.place}: --extract finds nothing in the target, though it does in other rows; change the "
                "pattern or the target"
            )
    kept = [list(dict.fromkeys(text for text in texts if text is not None)) for texts in found]
    return [
        replace(prompt, target=None if prompt.target is None else texts[0] if len(texts) == 1 else list(texts))
        for prompt, texts in zip(prompts, kept, strict=True)
    ]
