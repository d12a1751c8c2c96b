"""``--prompts`` of ``compatcheck fix``: the user's own prompts, a part to train on and the others to evaluate."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from compatcheck import similarity
from compatcheck.errors import InputError, did_you_mean
from compatcheck.evaluation.against import JUDGE
from compatcheck.evaluation.chat import Chat, has_template, rendered
from compatcheck.evaluation.prompted import check_targets, prompt_task
from compatcheck.evaluation.request import Request
from compatcheck.evaluation.settling import read_as_asked
from compatcheck.readers.prompts import prompts_name, read_prompts, system_text
from compatcheck.records import TaskRun
from compatcheck.references import Reference
from compatcheck.similarity import RECORDED
from compatcheck.similarity.exact import CHANGED, EXACT
from compatcheck.table.layout import Layout
from compatcheck.tasks import LoadedTask, TaskOptions
from compatcheck.tasks.conversing import given
from compatcheck.tasks.generation import read_generation
from compatcheck.tasks.prompt_set import Prompt, PromptSet
from compatcheck.text import text_hash
from compatcheck_train.examples import Example, Examples, Wanted, assembled, prompt_key

TRAIN_SHARE = 0.5
"""Share of the prompts that is trained on, where no other file of them is named."""
LEAST = 3
"""So many prompts with a target make a part to train on and one to validate."""
_SEED = 1234
"""Draws that share: another seed of the training does not change what is proven on."""


@dataclass(frozen=True)
class Answer:
    """OLD's answer in place of a target: the ``text`` that is trained on, and what counts of it, None for nothing."""

    text: str
    scored: str | None


@dataclass(frozen=True)
class Prompted:
    """The prompts of a fix. ``options`` name the file; ``training`` is another one to train on, None: a half of the
    first, drawn at random; ``answers`` are OLD's by the key of the prompt, with ``--reference old``."""

    options: TaskOptions
    training: Path | None = None
    metric: str = ""
    answers: Mapping[str, Answer] | None = None

    @property
    def name(self) -> str:
        assert self.options.prompts is not None
        return prompts_name(self.options.prompts)

    @cached_property
    def parts(self) -> tuple[PromptSet, PromptSet]:
        """Those trained on and those evaluated, in the order of their file; no content is in both where they are of
        one. InputError for a file that cannot be used."""
        whole = read_prompts(self.options)
        if self.training is not None:
            return read_prompts(replace(self.options, prompts=self.training)), whole
        keys = sorted({prompt_key(each) for each in whole.prompts})
        random.Random(_SEED).shuffle(keys)
        taken = set(keys[: round(TRAIN_SHARE * len(keys))])
        if len(taken) < LEAST:
            raise InputError(
                f"--prompts {self.options.prompts}: too few (different ones: {len(keys)}): half are trained on, the "
                "others prove; --data names another file to train on"
            )
        sides = ([each for each in whole.prompts if (prompt_key(each) in taken) is own] for own in (True, False))
        trained, evaluated = (replace(whole, prompts=each) for each in sides)
        return trained, evaluated

    def evaluated(self, limit: int | None = None) -> LoadedTask:
        """The prompts to evaluate as a task; InputError where one has no target that the metric needs."""
        loaded = self._task(self.parts[1])
        return loaded if limit is None else replace(loaded, indices=list(range(min(limit, loaded.size))))

    def trained(self, keys: Collection[str]) -> LoadedTask:
        """Those with these keys among the prompts that are trained on."""
        part = self.parts[0]
        return self._task(replace(part, prompts=[each for each in part.prompts if prompt_key(each) in keys]))

    def of(self, file: Path) -> LoadedTask:
        """The prompts of another file."""
        return self._task(read_prompts(replace(self.options, prompts=file)))

    def _task(self, prompts: PromptSet) -> LoadedTask:
        if self.answers is not None:
            told = [(each, self.answers.get(prompt_key(each))) for each in prompts.prompts]
            answered = [replace(each, target=one.scored) for each, one in told if one and one.scored is not None]
            prompts = replace(prompts, prompts=answered)
        loaded = prompt_task(prompts.prompts, replace(self.options, prompts_name=self.name), prompts)
        if self.answers is not None and not prompts.prompts:
            raise InputError(f"{self.options.prompts}: OLD gave no answer that counts to any prompt")
        check_targets(loaded, (self.metric or EXACT,))
        return loaded

    def scored(self, run: TaskRun) -> TaskRun:
        """A run over some of them, with the metric that counts."""
        return read_as_asked(run, Request("", "", metrics=(self.metric or EXACT,)))

    def fingerprint(self, further: Sequence[Path | None]) -> str:
        """Of the rows of all files."""
        files = dict.fromkeys(each for each in (self.options.prompts, self.training, *further) if each is not None)
        rows = [read_prompts(replace(self.options, prompts=file)).prompts for file in files]
        return text_hash(json.dumps([[[p.id, p.turns, p.tools, p.target] for p in each] for each in rows], default=str))

    def asked(self, files: Sequence[Path | None]) -> LoadedTask:
        """Every prompt of all files, each once, whatever targets they have."""
        sets = [*self.parts, *(read_prompts(replace(self.options, prompts=file)) for file in files if file is not None)]
        once = {prompt_key(each): each for one in sets for each in one.prompts}
        prompts = [replace(each, id=key, target=None) for key, each in once.items()]
        return prompt_task(prompts, replace(self.options, prompts_name=self.name))


def check_prompts(chosen: Any) -> None:
    """Refuse (InputError) options that do not go together, and metrics that cannot score an answer to a prompt."""
    if chosen.prompts is None:
        for name in ("reference", "system", "gen", "extract", "id_field", "target_field", "input_field"):
            if getattr(chosen, name):
                raise InputError(f"--{name.replace('_', '-')}: is for --prompts; a task says by itself what it asks")
        return
    if chosen.task:
        raise InputError("--task and --prompts: an adapter is trained on one of them")
    if chosen.reference is not None and chosen.control not in ("auto", "none"):
        raise InputError(
            f"--control {chosen.control}: with --reference old labels are OLD's answers, so there is none without OLD"
        )
    for name in ("split", "train_split", "num_fewshot"):
        if getattr(chosen, name):
            raise InputError(f"--{name.replace('_', '-')}: is for --task; prompts have none")
    for name in ("data", "unlabelled"):
        path = getattr(chosen, name)
        if path is not None and not path.is_file():
            raise InputError(f"--{name} {path}: must be a file of prompts, as --prompts is")
    read_generation(chosen.gen)
    system_text(chosen.system)
    Layout(extract=chosen.extract)
    known = [name for name in similarity.names() if name not in (RECORDED, JUDGE, CHANGED)]
    if chosen.metric and chosen.metric not in known:
        hint = did_you_mean(chosen.metric, known)
        raise InputError(f"--metric {chosen.metric}: cannot score answers here{hint}; known: {', '.join(known)}")


def answers_of(run: TaskRun) -> dict[str, Answer]:
    """OLD's answers of a run over :meth:`Prompted.asked`; those that could not be had are left out."""
    found = {}
    for row in run.records.to_dict("records"):
        scored = row["prediction"] if isinstance(row["prediction"], str) else None
        text = row.get("response")
        text = text if isinstance(text, str) else scored
        if text and text.strip():
            found[str(row["doc_id"])] = Answer(text.strip(), scored)
    return found


class Reader:
    """What a model is given of a prompt, as the engine that evaluates it makes it: through its chat template where it
    has one. ``delimiter`` stands between that and the answer."""

    served = False

    def __init__(self, reference: Reference, tokenizer: Any) -> None:
        folder = reference.tokenizer or reference.base
        assert folder is not None
        self.tokenizer_name, self._tokenizer = str(folder), tokenizer
        self._chat = Chat(self) if has_template(folder) else None
        self.delimiter = "" if self._chat else " "

    def apply_chat_template(self, history: list[dict[str, Any]], **options: Any) -> str:
        return rendered(self._tokenizer, history, **options)

    def context(self, prompt: Prompt) -> str:
        """InputError for content that a model which is given texts alone cannot read."""
        return str(given(prompt.turns, prompt.place, self._chat, prompt.tools))


def prompt_examples(prompted: Prompted, sides: tuple[Reader, Reader], wanted: Wanted, extract: str | None) -> Examples:
    """The prompts to train on as examples, read as OLD and NEW (``sides``) read them. Those without a target, and
    ``wanted.unlabelled``, are inputs without a label. InputError for too few targets to train on."""
    old, new = sides
    prompted.evaluated()  # before anything is said of those to train on
    whole = replace(prompted.options, extract=None)  # an answer is trained on as it was written
    test = {prompt_key(each): each.id for each in prompted.parts[1].prompts}
    ids = {each.id for each in prompted.parts[0].prompts}
    file = prompted.training or prompted.options.prompts
    rows = [each for each in read_prompts(replace(whole, prompts=file)).prompts if each.id in ids]
    further: Sequence[Prompt] = ()
    if wanted.unlabelled is not None:
        further = read_prompts(replace(whole, prompts=Path(wanted.unlabelled))).prompts
    counts = Layout(extract=extract).extracted if extract is not None else str

    def example(prompt: Prompt, label: str | None) -> Example:
        context, of_old = new.context(prompt), old.context(prompt)
        return Example(
            prompt.id, ((context, "" if label is None else f"{new.delimiter}{label}"),), None if label is None else 0,
            content=prompt_key(prompt), of_old=None if of_old == context else of_old,
        )  # fmt: skip

    def label_of(prompt: Prompt, own: bool) -> str | None:
        if prompted.answers is not None:
            answer = prompted.answers.get(prompt_key(prompt))
            return answer.text if answer is not None and answer.scored is not None else None
        target = prompt.target[0] if isinstance(prompt.target, list) else prompt.target
        return target if own and target and counts(target) is not None else None

    told = [(prompt, label_of(prompt, own)) for own, part in ((True, rows), (False, further)) for prompt in part]
    labelled = [example(prompt, label) for prompt, label in told if label is not None]
    if len(labelled) < LEAST and extract is not None and any(prompt.target for prompt in rows):
        raise InputError(
            f"{file}: --extract finds nothing in the targets, so a model that learns to write them would be wrong; "
            "give targets as the model shall write them, or --reference old"
        )
    if len(labelled) < LEAST:
        raise InputError(
            f"{file}: {len(labelled)} of the prompts to train on have a `target`; at least {LEAST} are needed, and "
            "some hundreds teach more (--data FILE names others, --reference old takes OLD's answers)"
        )
    spare = [example(prompt, None) for prompt, label in told if label is None]
    start = Examples(prompted.name, "text", (), (), split=str(file), delimiters=(old.delimiter, new.delimiter))
    return assembled(start, labelled, spare, test, wanted, str(file))
