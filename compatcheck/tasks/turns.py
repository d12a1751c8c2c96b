"""``--turns all``: every turn of a conversation is asked by itself, with OLD's answers to the turns before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from compatcheck.conversation import Turn
from compatcheck.errors import InputError
from compatcheck.tasks.prompt_set import Prompt, PromptSet

LAST, ALL = "last", "all"
Answers = Mapping[str, str | None]
"""OLD's answer to each turn by its id, ``ID/turn``; None where it could not be had."""


@dataclass(frozen=True)
class Conversation:
    """What is said to the model, turn by turn; ``written`` are the answers that the file has to all but the last."""

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
    """Each prompt as the turns that it is made of. Raises InputError: turns of tools, which hang on what was called and
    so cannot be played again."""
    found = []
    for prompt in prompts:
        parts: list[list[Turn]] = [[]]
        written: list[str | None] = []
        for number, turn in enumerate(prompt.turns):
            if turn["role"] in ("tool", "function") or turn.get("tool_calls"):
                raise InputError(
                    f"{prompt.place}: --turns all cannot play turns of tools again, as they hang on what was called; "
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
