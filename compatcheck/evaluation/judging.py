"""The judge of ``--metric judge``: a model or an endpoint that is asked like any other, through the response store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from compatcheck.errors import InputError
from compatcheck.evaluation.chat import Chat
from compatcheck.evaluation.plan import EngineOptions, open_answering
from compatcheck.evaluation.store import Where, open_store
from compatcheck.records import Run, agreed_column
from compatcheck.references import resolve
from compatcheck.similarity.judge import Verdicts, rubric_text

if TYPE_CHECKING:
    from compatcheck.evaluation.store.engine import LazyEngine

JUDGE = "judge"
MAX_TOKENS = 256
"""Room for a reply: a few sentences and the verdict."""


class Judge:
    """Asks one model; nothing is loaded before the first question that the store cannot answer."""

    def __init__(
        self,
        model: str,
        *,
        max_tokens: int = MAX_TOKENS,
        chat: bool | None = None,
        seed: int = 0,
        store: Where = None,
        say: Callable[[str], None] = lambda _: None,
        progress: Any = None,
    ) -> None:
        """``chat``: whether prompts are put into the model's chat template; by default where it has one.

        Raises:
            InputError: ``model`` is recorded outputs, or cannot be found.
        """
        self.reference = resolve(model)
        if self.reference.recorded is not None:
            raise InputError(f"--metric-arg judge.model={model}: is recorded; name a model or an endpoint")
        self._decoding = {"until": [], "max_gen_toks": max_tokens, "do_sample": False, "temperature": 0.0}
        self._chat = chat
        self._options = EngineOptions(seed=seed)
        self._store, self._say, self._progress = store, say, progress
        self._engine: LazyEngine | None = None
        self.asked = self.from_store = 0

    def __call__(self, prompts: list[str]) -> list[str]:
        """Replies to prompts.

        Raises:
            InputError: the model cannot be loaded, or a request failed; what was answered is kept in the store.
        """
        from lm_eval.api.instance import Instance

        with open_store(self._store) as store:
            stored, self._engine = open_answering(
                self.reference, JUDGE, self._options, self._say, self._progress, store, self._engine
            )
            self._say(f"judge: {self.reference.text}, {len(prompts):,} questions")
            requests = [
                Instance(
                    request_type="generate_until",
                    doc={},
                    arguments=(self._written(stored, prompt), dict(self._decoding)),
                    idx=0,
                    metadata=(JUDGE, number, 1),
                )
                for number, prompt in enumerate(prompts)
            ]
            replies = stored.generate_until(requests)
            self.asked += stored.asked
            self.from_store += stored.from_store
        if stored.failures:
            message = next(iter(stored.failures.values()))
            raise InputError(
                f"the judge {self.reference.text} did not answer {len(stored.failures):,} of {len(prompts):,} "
                f"questions: {message}; run it again, answers are kept"
            )
        return [str(reply) for reply in replies]

    def _written(self, engine: Any, prompt: str) -> str:
        chat = self._chat
        if chat is None:
            chat = self.reference.endpoint is not None or _has_template(self.reference)
        if not chat:
            return prompt
        written: str = Chat(engine)([{"role": "user", "content": prompt}])
        return written

    def close(self) -> None:
        """Free the memory of a model that was loaded."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def _has_template(reference: Any) -> bool:
    folder = reference.base
    if folder is None:
        return False
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and '"chat_template"' in config.read_text(encoding="utf-8", errors="replace")


@contextmanager
def opened(
    metrics: tuple[str, ...],
    options: Mapping[str, Mapping[str, Any]],
    *,
    seed: int,
    store: Where,
    say: Callable[[str], None],
    progress: Any,
) -> Iterator[Mapping[str, Mapping[str, Any]]]:
    """The settings of metrics with the judge in them, where it is asked for; it is closed at the end.

    Raises:
        InputError: no model, an unknown setting, or a rubric that cannot be read.
    """
    given = dict(options.get(JUDGE, {}))
    if JUDGE not in metrics or "verdicts" in given or not given.get("model"):
        yield options  # without a model the metric itself says what it needs
        return
    most, chat = given.get("max_tokens", MAX_TOKENS), given.get("chat")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise InputError(f"--metric-arg judge.max_tokens={most}: must be a whole number of at least 1")
    if chat is not None and not isinstance(chat, bool):
        raise InputError(f"--metric-arg judge.chat={chat}: must be true or false")
    rubric = given.get("rubric")
    text = rubric_text(None if rubric is None else str(rubric))
    model = Judge(str(given["model"]), max_tokens=most, chat=chat, seed=seed, store=store, say=say, progress=progress)
    try:
        yield {**options, JUDGE: {**given, "verdicts": Verdicts(model, text)}}
    finally:
        model.close()


def judge_notes(run: Run, options: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """How far the judge agreed with itself on the answers of a run, and how many replies held no verdict."""
    verdicts = options.get(JUDGE, {}).get("verdicts")
    column = agreed_column(JUDGE)
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
