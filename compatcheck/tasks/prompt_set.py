"""The user's own prompts as data: what a row says, and the rows of a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compatcheck.conversation import Turn


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
