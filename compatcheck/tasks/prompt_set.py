"""The user's own prompts as data: what a row says, the rows of a file, and every turn as a prompt of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compatcheck.conversation import Turn
from compatcheck.errors import InputError

LAST, ALL = "last", "all"
Answers = Mapping[str, str | None]
"""OLD's answer to each turn by its id, ``ID/turn``; None where it could not be had."""


@dataclass(frozen=True)
class Prompt:
    """One row of a file of prompts.

    Attributes:
        place: where it stands, as messages name it: ``prompts.jsonl:3``.
        id: the user's own, or the number of the row from 0 on.
        turns: what the model is given, a system message first where there is one.
        target: what is right: a text, several of equal standing, or None.
        tools: what the model may call; ``response_format``: the form its answer is to have. Both as in OpenAI's API.
        fields: what else the row says, by which a report is sliced.
    """

    place: str
    id: str
    turns: list[Turn]
    target: str | list[str] | None = None
    tools: list[Any] | None = None
    response_format: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        """Whether it is one message of the user and nothing else."""
        return len(self.turns) == 1 and self.turns[0]["role"] == "user" and isinstance(self.turns[0]["content"], str)


@dataclass(frozen=True)
class PromptSet:
    """A file of prompts, read and checked."""

    name: str
    prompts: Sequence[Prompt]
    own_ids: bool
    """The rows have ids of their own."""
    notes: tuple[str, ...] = ()


def name_of(path: Path, ends: Iterable[str]) -> str:
    """What a file of prompts is called: its name without its last endings, ``.jsonl.gz``."""
    name = path.name
    for _ in range(2):
        name = next((name[: -len(end)] for end in ends if name.lower().endswith(end) and len(name) > len(end)), name)
    return name


@dataclass(frozen=True)
class Conversation:
    """For ``--turns all``: every turn is asked by itself, with OLD's answers to the turns before it. ``parts`` are what
    is said to the model, turn by turn; ``written`` are the answers that the file has to all but the last."""

    prompt: Prompt
    parts: Sequence[Sequence[Turn]]
    written: Sequence[str | None]

    def name(self, turn: int) -> str:
        return f"{self.prompt.id}/{turn + 1}"

    def at(self, turn: int, answers: Answers | None) -> Prompt | None:
        """The prompt of one turn, None where an answer before it could not be had. Without ``answers`` they are empty:
        that shows which prompts there will be."""
        turns = list(self.parts[0])
        for before in range(turn):
            said = "" if answers is None else answers.get(self.name(before))
            if said is None:
                return None
            turns += [{"role": "assistant", "content": said}, *self.parts[before + 1]]
        target = self.prompt.target if turn == len(self.parts) - 1 else self.written[turn]
        return replace(self.prompt, id=self.name(turn), turns=turns, target=target)


def conversations(prompts: Sequence[Prompt]) -> list[Conversation]:
    """Each prompt as the turns that it is made of. Raises InputError: turns of tools, which depend on what was called
    and so cannot be played again."""
    found = []
    for prompt in prompts:
        parts: list[list[Turn]] = [[]]
        written: list[str | None] = []
        for number, turn in enumerate(prompt.turns):
            if turn["role"] in ("tool", "function") or turn.get("tool_calls"):
                raise InputError(
                    f"{prompt.place}: --turns all cannot play turns of tools again, as they depend on what was called; "
                    "leave the row out, or take --turns last"
                )
            before = prompt.turns[number - 1]["role"] if number else ""
            if turn["role"] == "assistant":
                if len(written) < len(parts) and before == "user":
                    written.append(turn["content"] if isinstance(turn["content"], str) else None)
                continue
            if turn["role"] == "user" and before in ("user", "assistant") and parts[-1]:
                written += [None] * (len(parts) - len(written))
                parts.append([])
            parts[-1].append(turn)
        found.append(Conversation(prompt, parts, [*written, None]))
    return found


def unrolled(prompts: PromptSet, answers: Answers | None) -> PromptSet:
    """Every turn as a prompt of its own. A turn behind an answer that could not be had is left out, and said."""
    all_of = [(each, turn) for each in conversations(prompts.prompts) for turn in range(len(each.parts))]
    found = [prompt for each, turn in all_of if (prompt := each.at(turn, answers)) is not None]
    notes = prompts.notes
    if lost := len(all_of) - len(found):
        notes += (f"{prompts.name}: {lost:,} turns are left out, as OLD gave no answer to one before them",)
    return replace(prompts, prompts=found, notes=notes)
