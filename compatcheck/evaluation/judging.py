"""The judge of ``--metric judge`` and ``--judge``: a model or an endpoint that is asked like any other, through the
response store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from compatcheck.errors import InputError
from compatcheck.evaluation.against import JUDGE
from compatcheck.evaluation.chat import Chat, has_template
from compatcheck.evaluation.grouping import EngineOptions, Say
from compatcheck.evaluation.plan import open_answering
from compatcheck.evaluation.request import Request
from compatcheck.evaluation.store import Where, open_store
from compatcheck.records import Run, agreed_column
from compatcheck.references import resolve
from compatcheck.similarity.judge import Verdicts, rubric_text

if TYPE_CHECKING:
    from compatcheck.evaluation.store.engine import LazyEngine

MAX_TOKENS = 256
"""Room for a reply: a few sentences and the verdict."""
Options = Mapping[str, Mapping[str, Any]]


class Judge:
    """Asks one model; nothing is loaded before the first question that the store cannot answer."""

    def __init__(
        self, model: str, settings: Mapping[str, Any], seed: int, store: Where, say: Say, progress: Any
    ) -> None:
        """``settings``: ``max_tokens``, and ``chat``: whether prompts are put into the model's chat template; by
        default where it has one. Raises InputError: a wrong setting, or ``model`` is recorded outputs, or cannot be
        found."""
        most, self._chat = settings.get("max_tokens", MAX_TOKENS), settings.get("chat")
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise InputError(f"--metric-arg judge.max_tokens={most}: must be a whole number of at least 1")
        if self._chat is not None and not isinstance(self._chat, bool):
            raise InputError(f"--metric-arg judge.chat={self._chat}: must be true or false")
        self.reference = resolve(model)
        if self.reference.recorded is not None:
            raise InputError(f"the judge {model} is recorded; name a model or an endpoint")
        self._decoding = {"until": [], "max_gen_toks": most, "do_sample": False, "temperature": 0.0}
        self._options = EngineOptions(seed=seed)
        self._store, self._say, self._progress = store, say, progress
        self._engine: LazyEngine | None = None

    def __call__(self, prompts: list[str]) -> list[str]:
        """Replies to prompts. Raises InputError: as :meth:`replies`, or a request failed."""
        replies, failed = self.replies(prompts)
        if failed:
            raise InputError(failed)
        return [str(reply) for reply in replies]

    def replies(self, prompts: list[str]) -> tuple[list[str | None], str]:
        """Replies to prompts, None where a request failed, and in words how many did and why; what was answered is kept
        in the store. Raises InputError: the model cannot be loaded, or answers nothing at all."""
        from lm_eval.api.instance import Instance

        with open_store(self._store) as store:
            stored, self._engine = open_answering(
                self.reference, JUDGE, self._options, self._say, self._progress, store, self._engine
            )
            self._say(f"judge: {self.reference.text}, {len(prompts):,} questions")
            base, chat = self.reference.base, self._chat
            if chat is None:
                chat = self.reference.endpoint is not None or (base is not None and has_template(base))
            if chat:
                prompts = [Chat(stored)([{"role": "user", "content": prompt}]) for prompt in prompts]
            replies = stored.generate_until(
                [
                    Instance("generate_until", {}, (prompt, dict(self._decoding)), 0, (JUDGE, number, 1))
                    for number, prompt in enumerate(prompts)
                ]
            )
        failed = ""
        if stored.failures:
            failed = (
                f"the judge {self.reference.text} did not answer {len(stored.failures):,} of {len(prompts):,} "
                f"questions: {next(iter(stored.failures.values()))}; run it again, answers are kept"
            )
        lost = {number for _, number in stored.failures}
        return [None if number in lost else str(reply) for number, reply in enumerate(replies)], failed

    def close(self) -> None:
        """Free the memory of a model that was loaded."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


@contextmanager
def judged(request: Request, say: Say, progress: Any) -> Iterator[Request]:
    """The request with the judge in the settings of its metrics, where one asks for it; it is closed at the end. Raises
    InputError: no model, an unknown setting, or a rubric that cannot be read."""
    options, given = request.metric_options, request.metric_options.get(JUDGE, {})
    model = given.get("model") or request.judge
    if JUDGE not in request.metrics or "verdicts" in given or not model:
        yield request  # without a model the metric itself says what it needs
        return
    rubric = given.get("rubric")
    text = rubric_text(None if rubric is None else str(rubric))
    judge = Judge(str(model), given, request.seed, request.store, say, progress)
    found = {**given, "model": model, "verdicts": Verdicts(judge, text)}
    try:
        yield replace(request, metric_options={**options, JUDGE: found})
    finally:
        judge.close()


def pairs_judged(request: Request, say: Say, progress: Any) -> AbstractContextManager[Request]:
    """The same where the judge compares OLD's answers with NEW's, for as long as they are compared."""
    return judged(request, say, progress) if JUDGE in request.against else nullcontext(request)


def judge_of_themes(request: Request, say: Say, progress: Any) -> Judge | None:
    """The judge that reads flips; None where none is wanted. Raises InputError: as :class:`Judge`."""
    settings = request.metric_options.get(JUDGE, {})
    if request.judge is None:
        return None
    return Judge(request.judge, settings, request.seed, request.store, say, progress)


def judge_notes(run: Run, options: Options) -> tuple[str, ...]:
    """How far the judge agreed with itself on the answers of a run, and how many replies held no verdict."""
    verdicts, column = options.get(JUDGE, {}).get("verdicts"), agreed_column(JUDGE)
    found = [one.records[column] for one in run.tasks if column in one.records]
    if verdicts is None or not found:
        return ()
    known = pd.concat(found).dropna()
    agreed, asked = int(known.sum()), len(known)
    if not asked:
        return (f"{run.manifest.reference}: every answer is the target, so the judge was not asked",)
    unreadable = (
        f"; {verdicts.unreadable:,} replies so far without a verdict count as ties" if verdicts.unreadable else ""
    )
    return (
        f"{run.manifest.reference}: the judge agrees with itself on {agreed:,} of {asked:,} answers "
        f"({100 * agreed / asked:.1f} %) when the order is swapped{unreadable}",
    )
