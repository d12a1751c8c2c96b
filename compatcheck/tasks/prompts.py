"""The user's own prompts as a task: made in memory, like lm-eval's other tasks in everything else."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.config.task import TaskConfig

from compatcheck.conversation import plain, shown
from compatcheck.tasks.conversing import given
from compatcheck.tasks.description import fingerprint
from compatcheck.tasks.generation import shown as shown_generation
from compatcheck.tasks.prompt_set import Prompt, PromptSet
from compatcheck.text import text_hash

NOTHING_FOUND = "[invalid]"
"""What lm-eval's filters leave of an answer in which they find nothing: it counts as no answer."""
DEFAULTS: Mapping[str, Any] = {"until": [], "max_gen_toks": 512, "temperature": 0.0, "do_sample": False}
"""Generation arguments where ``--gen`` says nothing."""


class PromptTask(Task):
    """Asks every prompt once and generates; scores are computed from answer and target afterwards, as of recorded rows.

    A model with a chat template gets the turns through it, every other one plain text."""

    VERSION = 1
    OUTPUT_TYPE = "generate_until"
    multiple_input = 0
    conversational = True
    """Takes a model's chat template where it has one and the user does not say."""

    def __init__(
        self, prompts: PromptSet, generation: Mapping[str, Any], extract: Callable[[str], str | None] | None = None
    ) -> None:
        """``extract`` takes the answer out of a text, None where there is none in it."""
        self.prompts, self._extract = prompts, extract
        self.names = [each.id for each in prompts.prompts]
        self.formed = sum(each.response_format is not None for each in prompts.prompts)
        """Prompts that say in which form the answer is to be."""
        self._docs = [{"place": number} for number in range(len(prompts.prompts))]
        self._instances: list[Instance] | None = None
        self._filters: list[Any] = []
        self.fewshot_rnd: random.Random | None = None
        self._config = TaskConfig(
            task=prompts.name, output_type="generate_until", num_fewshot=0, generation_kwargs={"until": []}
        )
        self._config.generation_kwargs = dict(generation)  # lm-eval's own check knows no setting that is left out

    # Documents

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> list[dict[str, int]]:
        return self._docs

    def prompt(self, doc: Mapping[str, int]) -> Prompt:
        return self.prompts.prompts[doc["place"]]

    def doc_to_text(self, doc: Mapping[str, int]) -> str:
        """The prompt as a report shows it."""
        asked = self.prompt(doc)
        return str(asked.turns[0]["content"]) if asked.is_text else shown(asked.turns)

    def doc_to_target(self, doc: Mapping[str, int]) -> str:
        target = self.prompt(doc).target
        return target if isinstance(target, str) else json.dumps(target, ensure_ascii=False) if target else ""

    def record(self, doc: Mapping[str, int]) -> dict[str, Any]:
        """What the row says of a record: its id, its target, its labels, and what no changed prompt changes of it."""
        asked = self.prompt(doc)
        labels = json.dumps([asked.target, dict(asked.fields)], sort_keys=True, default=str)
        own = f"row:{text_hash(labels)}" if asked.target or asked.fields else f"prompt:{text_hash(plain(asked.turns))}"
        return {
            "doc_id": asked.id,
            "doc_hash": f"id:{text_hash(asked.id)}" if self.prompts.own_ids else own,
            "target": self.doc_to_target(doc) if asked.target is not None else None,
            **asked.fields,
        }

    # Requests

    def fewshot_context(
        self,
        doc: Mapping[str, int],
        num_fewshot: int,
        apply_chat_template: bool = False,
        chat_template: Any = None,
        **_: Any,
    ) -> Any:
        """What the model is given: the turns in its template, or plain text."""
        asked = self.prompt(doc)
        return given(asked.turns, asked.place, chat_template if apply_chat_template else None, asked.tools)

    def construct_requests(self, doc: Mapping[str, int], ctx: Any, **kwargs: Any) -> Instance:
        asked = self.prompt(doc)
        generation = copy.deepcopy(self._config.generation_kwargs) or {}
        generation |= {} if asked.tools is None else {"tools": asked.tools}
        generation |= {} if asked.response_format is None else {"response_format": dict(asked.response_format)}
        return Instance("generate_until", dict(doc), (ctx, generation), 0, metadata=kwargs["metadata"])

    def apply_filters(self) -> None:
        """``--extract`` in place of lm-eval's filters."""
        for instance in self._instances or ():
            answer = instance.resps[0]
            found = answer if self._extract is None else self._extract(answer)
            instance.filtered_resps = {"none": NOTHING_FOUND if found is None else found}

    # Scores: computed from the records

    def process_results(self, doc: Any, results: Any) -> dict[str, float]:
        return {}

    def aggregation(self) -> dict[str, Any]:
        return {}

    def higher_is_better(self) -> dict[str, bool]:
        return {}


def settings_of(task: PromptTask) -> dict[str, Any]:
    """What a figure's signature says of the prompts: how they read, how they are answered, all of the file."""
    prompts = task.prompts.prompts
    if task.prompts.own_ids:  # by which they are paired, in whatever order
        prompts = sorted(prompts, key=lambda each: each.id)
    sent = [[each.turns, each.tools, each.response_format] for each in prompts]
    rows = [[each.id, each.target, dict(each.fields)] for each in prompts]
    generation = task.config.generation_kwargs or {}
    return {
        "output_type": task.OUTPUT_TYPE,
        "num_fewshot": 0,
        "documents": len(prompts),
        "prompt": fingerprint(sent),
        "generation": shown_generation(generation),
        "rows": fingerprint(rows),
    }
