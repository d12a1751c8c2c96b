"""Both models' answers to every document, and which of the two both together find likelier.

For strategies over texts: sequence-level distillation (Kim & Rush 2016) with two teachers. It needs no label and no
common tokenizer, so that unlabelled inputs serve and old and new may tokenize differently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.evaluation.grouping import EngineOptions
from compatcheck.references import Reference
from compatcheck.tasks import LoadedTask
from compatcheck_train.examples import Examples
from compatcheck_train.folders import write_json
from compatcheck_train.training.processes import first

Ask = Callable[[str, Sequence[tuple[Any, ...]]], list[Any]]
"""A method of an engine and the arguments of every request -> the answers."""


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
        self.decoding, self.delimiter = dict(task.config.generation_kwargs), str(task.config.target_delimiter)
        self.old, self.folder, self.engine, self.say, self.progress = old, folder, engine, say, progress

    def examples(
        self, examples: Examples, new: Reference, old_share: float = 0.5, keep_labels: bool = False
    ) -> Examples:
        """Examples whose ``chosen`` is, of both models' answers a, the one with the highest joint log-likelihood per
        character: (s·log p_old(a) + (1 − s)·log p_new(a)) / |a|, with s = ``old_share``.

        A document that neither model says anything on keeps its own answer, if it has one. ``keep_labels``: labelled
        documents keep their label as the answer where there are unlabelled ones to learn both models' answers from."""
        parts = ("unlabelled",) if keep_labels and examples.unlabelled else ("train", "validation", "unlabelled")
        contexts = [example.pairs[0][0] for part in parts for example in getattr(examples, part)]
        path = self.folder / f"answers-{_key(self.old.fingerprint(), new.fingerprint(), old_share, contexts)}.json"

        def make() -> list[str]:
            if not path.is_file():
                self.say(f"both models answer {len(contexts)} documents, and each reads the other's answers")
                found = self._joint(contexts, new, old_share)
                self.folder.mkdir(parents=True, exist_ok=True)
                write_json(path, {"answers": found})
            answers: list[str] = json.loads(path.read_text(encoding="utf-8"))["answers"]
            return answers

        answers = iter(first(make))
        changed: dict[str, Any] = {}
        for part in parts:
            texts = [(example, next(answers)) for example in getattr(examples, part)]
            changed[part] = tuple(
                replace(example, chosen=f"{self.delimiter}{text}" if text else None) for example, text in texts
            )
        return replace(examples, **changed)

    def _joint(self, contexts: Sequence[str], new: Reference, old_share: float) -> list[str]:
        """The answer to every context; empty where both models say nothing."""
        asked = [(context, dict(self.decoding)) for context in contexts]

        def generate(ask: Ask) -> list[str]:
            return [text.strip() for text in ask("generate_until", asked)]

        def read(ask: Ask, answers: Sequence[str]) -> list[float]:
            """Log-likelihood per character."""
            said = [number for number, answer in enumerate(answers) if answer]
            found = ask("loglikelihood", [(contexts[n], f"{self.delimiter}{answers[n]}") for n in said])
            scores = dict(zip(said, found, strict=True))
            return [scores[n][0] / len(answers[n]) if n in scores else float("-inf") for n in range(len(answers))]

        path = self.folder / f"old-{_key(self.old.fingerprint(), contexts, self.decoding, self.delimiter)}.json"
        if not path.is_file():
            with self._engine(self.old) as ask:
                answers = generate(ask)
                kept = {"answers": answers, "logprobs": read(ask, answers)}
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, kept)
        kept = json.loads(path.read_text(encoding="utf-8"))
        of_old: list[str] = kept["answers"]
        with self._engine(new) as ask:
            of_new = generate(ask)
            by_new = [read(ask, answers) for answers in (of_old, of_new)]
        with self._engine(self.old) as ask:
            by_old = [kept["logprobs"], read(ask, of_new)]
        mine, theirs = (
            [old_share * a + (1 - old_share) * b for a, b in zip(old, new, strict=True)]
            for old, new in zip(by_old, by_new, strict=True)
        )
        return [a if x > y else b for a, b, x, y in zip(of_old, of_new, mine, theirs, strict=True)]

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
