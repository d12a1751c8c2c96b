"""OLD's answers to every turn of conversations, one turn after the other, for ``--turns all``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError
from compatcheck.evaluation import bridge
from compatcheck.evaluation.chat import takes_template
from compatcheck.evaluation.grouping import Say
from compatcheck.evaluation.plan import open_answering
from compatcheck.evaluation.prompted import prompt_task, read_chosen
from compatcheck.evaluation.store import open_store
from compatcheck.records import TaskRun
from compatcheck.tasks.load import KEEP
from compatcheck.tasks.prompt_set import Conversation, conversations

if TYPE_CHECKING:
    from compatcheck.evaluation.request import Side


def recorded_answers(run: TaskRun) -> dict[str, str | None]:
    """OLD's answers where it is recorded, by the ids of its rows."""
    records = run.records
    whole = records["response"] if "response" in records else records["prediction"]
    said = whole.where(whole.notna(), records["prediction"])
    pairs = zip(records["doc_id"], said, strict=True)
    return {str(name): None if text is None or text != text else str(text) for name, text in pairs}


def replay(side: Side, store: Any, say: Say = lambda _: None, progress: Any = None) -> dict[str, str | None]:
    """What a model answers to every turn, each with its own answers before it. It is loaded once. Raises InputError:
    prompts or a model that cannot be used."""
    options = side.options.tasks
    prompts = read_chosen(options)
    talks = conversations(prompts.prompts)
    name, answers = prompts.name, dict[str, str | None]()
    with open_store(store) as kept:
        engine, lazy = open_answering(side.of(name), name, side.options.engine, say, progress, kept)
        engine.keeps_reasoning = options.reasoning == KEEP
        try:
            for turn in range(max(len(talk.parts) for talk in talks)):
                say(f"{side.name}: turn {turn + 1} of {name}")
                answers |= _answers(engine, talks, turn, answers, side.options)
        finally:
            lazy.close()
    return answers


def _answers(
    engine: Any, talks: list[Conversation], turn: int, before: dict[str, str | None], options: Any
) -> dict[str, str | None]:
    asked = [talk.at(turn, before) for talk in talks if turn < len(talk.parts)]
    prompts = [prompt for prompt in asked if prompt is not None]
    if not prompts:
        return {}
    loaded = prompt_task(prompts, options.tasks)
    chat = takes_template(options.engine.apply_chat_template, loaded, engine)
    found: dict[str, str | None] = {}
    for requests in bridge.request_chunks(engine, loaded, chat, options.engine.fewshot_as_multiturn):
        results = bridge.ask(engine, loaded, requests)
        failed = bridge.failed_documents(engine, loaded)
        for sample in results["samples"][loaded.name]:
            number = sample["doc_id"]
            found[loaded.name_of(number)] = None if number in failed else str(sample["resps"][0][0])
    if all(text is None for text in found.values()):
        raise InputError(
            f"{loaded.name}: turn {turn + 1}: no answer of OLD could be had: {next(iter(failed.values()))}"
        )
    return found
