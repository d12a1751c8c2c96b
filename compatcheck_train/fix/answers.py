"""Both models' answers to every document, and which of the two both together find likelier.

For strategies over texts: sequence-level distillation (Kim & Rush 2016) with two teachers. It needs no label and no
common tokenizer, so that unlabelled inputs serve and old and new may tokenize differently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.evaluation.evaluate import EngineOptions
from compatcheck.references import Reference
from compatcheck.tasks import LoadedTask
from compatcheck_train.examples import Example, Examples
from compatcheck_train.folders import write_json
from compatcheck_train.training.processes import first

Say = Callable[[str], None]
Ask = Callable[[str, Sequence[tuple[Any, ...]]], list[Any]]
"""A method of an engine and the arguments of every request -> the answers."""


def with_joint_answers(
    examples: Examples, loaded: LoadedTask, old: Reference, new: Reference, folder: Path, *,
    engine: EngineOptions | None = None, old_share: float = 0.5, keep_labels: bool = False,
    say: Say = lambda _: None, progress: Any = None,
) -> Examples:  # fmt: skip
    """Examples whose ``chosen`` is, of both models' answers a, the one with the highest joint log-likelihood per
    character: (s·log p_old(a) + (1 − s)·log p_new(a)) / |a|.

    Args:
        loaded: the task, for its decoding.
        folder: keeps the answers, so that a killed fix does not ask again.
        old_share: s; |a| is the number of characters.
        keep_labels: labelled documents keep their label as the answer where there are unlabelled ones to learn both
            models' answers from.

    Raises:
        InputError: the task generates nothing, or an engine cannot be opened.
    """
    task: Any = loaded.task
    if task.OUTPUT_TYPE != "generate_until":
        raise InputError(f"{examples.task}: {task.OUTPUT_TYPE} tasks have no answers to choose from")
    groups = (examples.train, examples.validation, examples.unlabelled)
    if keep_labels and examples.unlabelled:
        groups = ((), (), examples.unlabelled)
    contexts = [example.pairs[0][0] for group in groups for example in group]
    path = folder / f"answers-{_key(old.fingerprint(), new.fingerprint(), old_share, contexts)}.json"

    def make() -> list[str]:
        if path.is_file():
            kept: list[str] = json.loads(path.read_text(encoding="utf-8"))["answers"]
            return kept
        say(f"both models answer {len(contexts)} documents, and each reads the other's answers")
        found = _joint(contexts, dict(task.config.generation_kwargs), str(task.config.target_delimiter), old, new,
                       engine or EngineOptions(), old_share, folder, progress)  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"answers": found})
        return found

    chosen = iter(first(make))
    made = [tuple(_with(example, next(chosen), task.config.target_delimiter) for example in group) for group in groups]
    train, validation, unlabelled = made
    return replace(
        examples, train=train or examples.train, validation=validation or examples.validation, unlabelled=unlabelled
    )


def _with(example: Example, answer: str, delimiter: str) -> Example:
    """A document that neither model says anything on keeps its own answer, if it has one."""
    return replace(example, chosen=f"{delimiter}{answer}" if answer else None, rejected=None)


def _joint(
    contexts: Sequence[str], decoding: Mapping[str, Any], delimiter: str, old: Reference, new: Reference,
    options: EngineOptions, old_share: float, folder: Path, progress: Any,
) -> list[str]:  # fmt: skip
    """The answer to every context; empty where both models say nothing.

    What OLD says is kept: candidates differ only in what stands in for NEW.
    """
    asked = [(context, dict(decoding)) for context in contexts]

    def read(ask: Ask, answers: Sequence[str]) -> list[float]:
        said = [number for number, answer in enumerate(answers) if answer]
        found = ask("loglikelihood", [(contexts[n], f"{delimiter}{answers[n]}") for n in said])
        scores = dict(zip(said, found, strict=True))
        return [scores[n][0] / len(answers[n]) if n in scores else float("-inf") for n in range(len(answers))]

    path = folder / f"old-{_key(old.fingerprint(), contexts, dict(decoding), delimiter)}.json"
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        of_old, by_old = kept["answers"], [kept["logprobs"]]
    else:
        with _engine(old, options, progress) as ask:
            of_old = [text.strip() for text in ask("generate_until", asked)]
            by_old = [read(ask, of_old)]
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"answers": of_old, "logprobs": by_old[0]})
    with _engine(new, options, progress) as ask:
        of_new = [text.strip() for text in ask("generate_until", asked)]
        by_new = [read(ask, answers) for answers in (of_old, of_new)]
    with _engine(old, options, progress) as ask:
        by_old.append(read(ask, of_new))
    share = (old_share, 1 - old_share)
    joint = [
        [sum(s * value for s, value in zip(share, pair, strict=True)) for pair in zip(a, b, strict=True)]
        for a, b in zip(by_old, by_new, strict=True)
    ]
    return [a if x > y else b for a, b, x, y in zip(of_old, of_new, *joint, strict=True)]


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@contextmanager
def _engine(reference: Reference, options: EngineOptions, progress: Any) -> Any:
    """One model, open as long as it is needed."""
    from lm_eval.api.instance import Instance

    from compatcheck.engines import choose, open_engine

    assert reference.base is not None
    name, _ = choose(options.engine, None, options.device)
    adapters = {} if reference.adapter is None else {"adapter": reference.adapter}
    engine: Any = open_engine(
        name, reference.base, adapters, batch_size=options.batch_size, dtype=options.dtype, device=options.device,
        engine_args=options.engine_args, trust_remote_code=options.trust_remote_code, progress=progress,
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
