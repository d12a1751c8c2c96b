"""Conversations in place of prompts: of the user's own prompts, and of tasks whose ``doc_to_text`` gives messages."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from compatcheck.conversation import Turn, asked_and_answer, fault_in, others_in, plain, turns_in, with_system
from compatcheck.errors import InputError


def given(turns: list[Turn], place: str, chat_template: Any = None, tools: list[Any] | None = None) -> Any:
    """What a model is given of a conversation: through ``chat_template`` where there is one, else as plain text. Raises
    InputError: it holds what the model cannot read."""
    others = others_in(turns)
    if others and not getattr(chat_template, "served", False):
        raise InputError(
            f"{place}: holds {' and '.join(others)}, which a model that is given texts alone cannot read; ask a server "
            "with a chat API (http://…/v1#MODEL)"
        )
    if chat_template is None and tools:
        raise InputError(f"{place}: has `tools`, which plain text cannot carry; ask models with a chat template")
    if chat_template is None:
        return plain(turns)
    return chat_template(turns, **({"tools": tools} if tools else {}))


def let_converse(task: Any, name: str) -> None:
    """Have a task of lm-eval whose prompts are messages hand them on as messages, which lm-eval itself does not."""
    if task.OUTPUT_TYPE != "generate_until" or not len(docs := task.eval_docs):
        return
    if turns_in(task.doc_to_text(docs[0])) is not None:
        task.conversational = True
        task.fewshot_context = functools.partial(_context, task, name)


def _context(
    task: Any,
    name: str,
    doc: Mapping[str, Any],
    num_fewshot: int,
    system_instruction: str | None = None,
    chat_template: Any = None,
    **_: Any,
) -> Any:
    """In place of lm-eval's ``fewshot_context``."""
    text = task.doc_to_text(doc)
    turns = turns_in(text) or [{"role": "user", "content": str(text)}]
    if num_fewshot:
        raise InputError(f"task {name}: its prompts are conversations, which take no examples; say --num-fewshot 0")
    if fault := fault_in(turns):
        raise InputError(f"task {name}: doc_to_text gives a conversation of which {fault}")
    asked, _answer = asked_and_answer(turns)
    if not asked:
        raise InputError(f"task {name}: doc_to_text gives a conversation without a turn of the user")
    description = task.resolve_field(doc, task.config.description)
    system = "\n\n".join(part for part in (system_instruction, description) if part)
    return given(with_system(asked, system or None), f"task {name}", chat_template)
