"""The texts of a task that two models are compared on token by token: one per document, as strings and as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from compatcheck.evaluation import bridge
from compatcheck.evaluation.chat import takes_template
from compatcheck.evaluation.plan import Job
from compatcheck.records import Run, TaskRun
from compatcheck.tasks import LoadedTask

if TYPE_CHECKING:
    from compatcheck.engines.hf.states import Text

KINDS = {
    "multiple_choice": "prompt and right choice",
    "loglikelihood": "prompt and target",
    "generate_until": "prompt and OLD's answer",
}
"""By the kind of a task: what its texts are made of."""


@dataclass(frozen=True)
class Passage:
    """The text of one document: ``context`` is given to the model, ``continuation`` follows; ``own`` is the part of the
    context from which on tokens count."""

    doc_id: str
    kind: str
    context: str
    continuation: str
    own: str

    @property
    def parts(self) -> list[str]:
        return [self.doc_id, self.context, self.continuation, self.own]


def passages_of(job: Job, engine: Any, runs: tuple[Run, Run]) -> list[Passage]:
    """The texts of a side on a task, of the documents that neither side failed on; ``runs`` are OLD's and NEW's."""
    task: Any = job.task.task
    records = [_by_document(run, job.task) for run in runs]
    answers = records[0]
    found: dict[str, Passage] = {}
    chat, numbers = takes_template(job.options.apply_chat_template, job.task, engine), job.task.numbers
    for requests in bridge.request_chunks(engine, job.task, chat, job.options.fewshot_as_multiturn):
        each: dict[int, list[Any]] = {}
        for request in requests:
            each.setdefault(int(request.doc_id or 0), []).append(request)
        for place, mine in each.items():
            own = getattr(task, "record", None)  # of the user's own prompts, which have ids
            doc_id = str(numbers[place] if own is None else own(mine[0].doc)["doc_id"])
            if all(doc_id in known for known in records):
                found[doc_id] = _passage(task, doc_id, mine, answers[doc_id])
    return list(found.values())


def _by_document(run: Run, task: LoadedTask) -> dict[str, dict[str, Any]]:
    """The rows of a task by document, without those in error."""
    one: TaskRun = next(each for each in run.tasks if each.task == task.name)
    names = [name for name in ("doc_id", "prediction", "response", "loglikelihoods", "error") if name in one.records]
    rows = one.records[names].to_dict("records")
    return {str(row["doc_id"]): cast(dict[str, Any], row) for row in rows if not isinstance(row.get("error"), str)}


def _passage(task: Any, doc_id: str, requests: Sequence[Any], answer: dict[str, Any]) -> Passage:
    kind = KINDS[task.OUTPUT_TYPE]
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = len(task.doc_to_choice(requests[0].doc))
        right = _right(task, requests[0].doc, choices)
        if right is None:
            known = answer.get("loglikelihoods")
            right = int(np.argmax(known)) if isinstance(known, list | np.ndarray) and len(known) else 0
        request = requests[right]
    else:
        request = requests[0]
    context = str(request.args[0])
    if task.OUTPUT_TYPE == "generate_until":
        whole = next((answer.get(name) for name in ("response", "prediction") if isinstance(answer.get(name), str)), "")
        continuation = str(whole)
    else:
        continuation = str(request.args[1])
    own = task.doc_to_text(request.doc)
    return Passage(doc_id, kind, context, continuation, own if isinstance(own, str) else "")


def _right(task: Any, doc: Any, count: int) -> int | None:
    """The place of the right choice, or of the first of several; None where the data do not say it."""
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    gold = gold[0] if isinstance(gold, list) and gold else gold
    if isinstance(gold, str):
        choices = [str(choice) for choice in task.doc_to_choice(doc)]
        return choices.index(gold) if gold in choices else None
    return int(gold) if isinstance(gold, int | np.integer) and 0 <= int(gold) < count else None


def texts_of(engine: Any, passages: Sequence[Passage]) -> list[Text]:
    """The texts as an engine reads them: tokens, and from which on they count. One that is too long loses its
    beginning, as lm-eval has it."""
    from compatcheck.engines.hf.encoding import encode_all, encode_pairs
    from compatcheck.engines.hf.packing import common_prefix
    from compatcheck.engines.hf.states import Text

    plain = [passage.context for passage in passages if not passage.continuation]
    pairs = [(passage.context, passage.continuation) for passage in passages if passage.continuation]
    bare, followed = iter(encode_all(engine, plain)), iter(encode_pairs(engine, pairs))
    ends = [passage.context.rfind(passage.own) if passage.own else 0 for passage in passages]
    heads = encode_all(engine, [passage.context[: max(0, at)] for passage, at in zip(passages, ends, strict=True)])
    texts = []
    for passage, head in zip(passages, heads, strict=True):
        if passage.continuation:
            before, after = next(followed)
            tokens = [*before, *after]
            start = common_prefix(head, tokens) if passage.context else len(before)
        else:
            tokens = next(bare)
            start = common_prefix(head, tokens)
        cut = max(0, len(tokens) - engine.max_length - 1)
        texts.append(Text(tuple(tokens[cut:]), max(1, start - cut)))
    return texts
