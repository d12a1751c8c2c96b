"""Both models' answers to every document, and which of the two both together find likelier.

For strategies over texts: sequence-level distillation (Kim & Rush 2016) with two teachers. It needs no label and no
common tokenizer, so that unlabelled inputs serve and old and new may tokenize differently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.evaluation.grouping import EngineOptions
from compatcheck.references import Reference
from compatcheck.tasks import LoadedTask
from compatcheck.tasks.generation import for_local
from compatcheck_train.examples import Examples
from compatcheck_train.folders import write_json
from compatcheck_train.training.processes import first

Ask = Callable[[str, Sequence[tuple[Any, ...]]], list[Any]]
"""A method of an engine and the arguments of every request -> the answers."""


@dataclass(frozen=True)
class Asked:
    """The contexts of all documents as a model reads them, and what stands between a context and its answer."""

    contexts: Sequence[str]
    delimiter: str


class JointAnswers:
    """Both models as answerers of a task; InputError for one that generates nothing. ``folder`` keeps the answers, so
    that a killed fix does not ask again; OLD's by themselves, as candidates differ in what stands in for NEW."""

    def __init__(
        self, loaded: LoadedTask, old: Reference, folder: Path, engine: EngineOptions,
        say: Callable[[str], None] = lambda _: None, progress: Any = None,
    ) -> None:  # fmt: skip
        task: Any = loaded.task
        if task.OUTPUT_TYPE != "generate_until":
            raise InputError(f"{loaded.name}: {task.OUTPUT_TYPE} tasks have no answers to choose from")
        self.decoding = for_local(task.config.generation_kwargs)
        self.old, self.folder, self.engine, self.say, self.progress = old, folder, engine, say, progress

    def examples(
        self, examples: Examples, new: Reference, old_share: float = 0.5, keep_labels: bool = False
    ) -> Examples:
        """Examples whose ``chosen`` is, of both models' answers a, the one with the highest joint log-likelihood per
        character: (s·log p_old(a) + (1 − s)·log p_new(a)) / |a|, with s = ``old_share``.

        A document that neither model says anything on keeps its own answer, if it has one. ``keep_labels``: labelled
        documents keep their label as the answer where there are unlabelled ones to learn both models' answers from."""
        parts = ("unlabelled",) if keep_labels and examples.unlabelled else ("train", "validation", "unlabelled")
        every = [example for part in parts for example in getattr(examples, part)]
        contexts = [example.pairs[0][0] for example in every]
        of_old = [example.pairs[0][0] if example.of_old is None else example.of_old for example in every]
        given = contexts if of_old == contexts else [of_old, contexts]
        path = self.folder / f"answers-{_key(self.old.fingerprint(), new.fingerprint(), old_share, given)}.json"
        old_asked, new_asked = map(Asked, (of_old, contexts), examples.delimiters)

        def make() -> list[str]:
            if not path.is_file():
                self.say(f"both models answer {len(contexts)} documents, and each reads the other's answers")
                found = self._joint(old_asked, new_asked, new, old_share)
                self.folder.mkdir(parents=True, exist_ok=True)
                write_json(path, {"answers": found})
            answers: list[str] = json.loads(path.read_text(encoding="utf-8"))["answers"]
            return answers

        answers = iter(first(make))
        changed: dict[str, Any] = {}
        for part in parts:
            texts = [(example, next(answers)) for example in getattr(examples, part)]
            changed[part] = tuple(
                replace(example, chosen=f"{new_asked.delimiter}{text}" if text else None) for example, text in texts
            )
        return replace(examples, **changed)

    def _joint(self, of_old: Asked, of_new: Asked, new: Reference, old_share: float) -> list[str]:
        """The answer to every document; empty where both models say nothing."""

        def generate(ask: Ask, asked: Asked) -> list[str]:
            return [
                text.strip() for text in ask("generate_until", [(one, dict(self.decoding)) for one in asked.contexts])
            ]

        def read(ask: Ask, asked: Asked, answers: Sequence[str]) -> list[float]:
            """Log-likelihood per character."""
            said = [number for number, answer in enumerate(answers) if answer]
            pairs = [(asked.contexts[number], f"{asked.delimiter}{answers[number]}") for number in said]
            scores = dict(zip(said, ask("loglikelihood", pairs), strict=True))
            return [scores[n][0] / len(answers[n]) if n in scores else float("-inf") for n in range(len(answers))]

        key = _key(self.old.fingerprint(), of_old.contexts, self.decoding, of_old.delimiter)
        path = self.folder / f"old-{key}.json"
        if not path.is_file():
            with self._engine(self.old) as ask:
                answers = generate(ask, of_old)
                kept = {"answers": answers, "logprobs": read(ask, of_old, answers)}
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, kept)
        kept = json.loads(path.read_text(encoding="utf-8"))
        old_answers: list[str] = kept["answers"]
        with self._engine(new) as ask:
            new_answers = generate(ask, of_new)
            by_new = [read(ask, of_new, answers) for answers in (old_answers, new_answers)]
        with self._engine(self.old) as ask:
            by_old = [kept["logprobs"], read(ask, of_old, new_answers)]
        mine, theirs = (
            [old_share * a + (1 - old_share) * b for a, b in zip(old, new, strict=True)]
            for old, new in zip(by_old, by_new, strict=True)
        )
        return [a if x > y else b for a, b, x, y in zip(old_answers, new_answers, mine, theirs, strict=True)]

    @contextmanager
    def _engine(self, reference: Reference) -> Iterator[Ask]:
        from lm_eval.api.instance import Instance

        from compatcheck.engines import choose, open_engine

        assert reference.base is not None
        options = self.engine
        name, _ = choose(options.engine, None, options.device)
        adapters = {} if reference.adapter is None else {"adapter": reference.adapter}
        own = {} if reference.tokenizer is None else {"tokenizer": str(reference.tokenizer)}
        engine: Any = open_engine(
            name, reference.base, adapters, batch_size=options.batch_size, dtype=options.dtype, device=options.device,
            engine_args={**own, **options.engine_args}, trust_remote_code=options.trust_remote_code,
            progress=self.progress,
        )  # fmt: skip
        try:
            engine.activate(next(iter(adapters), None))

            def ask(method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
                requests = [Instance(method, {}, one, 0, ("task", n, 1)) for n, one in enumerate(arguments)]
                answers: list[Any] = getattr(engine, method)(requests)
                return answers

            yield ask
        finally:
            engine.close()


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
