"""What engines share: an LM of lm-eval with notes, failures and one active adapter; and checks of the user's words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lm_eval.api.model import LM

from compatcheck.engines.progress import Progress, SilentProgress
from compatcheck.errors import InputError


class Engine(LM):
    """``notes`` are plain sentences about paths taken; ``failures`` has, by (task name, document id), one line for
    every document that could not be answered; ``identity`` is what outputs depend on besides weights and prompts."""

    def __init__(self, progress: Progress | None) -> None:
        super().__init__()
        self.progress: Progress = progress or SilentProgress()
        self.notes: list[str] = []
        self.failures: dict[tuple[Any, Any], str] = {}
        self.said: set[str] = set()
        """Notes that are not repeated; emptied where another model is activated that they would concern too."""

    def note(self, sentence: str) -> None:
        if sentence not in self.said:
            self.said.add(sentence)
            self.notes.append(sentence)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of each (context, continuation)."""
        found = self._answers("loglikelihood", "scoring choices", requests)
        return [(float(value), bool(greedy)) for value, greedy in found]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts."""
        return self._answers("loglikelihood_rolling", "scoring texts", requests)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The text generated for each (context, generation arguments), cut at its stop strings."""
        return [text or "" for text in self._answers("generate_until", "generating", requests)]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return str(self._ask("apply_chat_template", chat_history, add_generation_prompt=add_generation_prompt))

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        template: str | None = self._ask("chat_template", chat_template)
        return template

    @property
    def tokenizer_name(self) -> str:
        return str(self._ask("tokenizer_name"))

    def _answers(self, method: str, label: str, requests: list[Any]) -> list[Any]:
        """What a method of an LM returns; ``label`` is shown beside the progress."""
        raise NotImplementedError

    def _ask(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Whatever else lm-eval asks of an engine."""
        raise NotImplementedError


def check_adapter(name: str | None, loaded: Iterable[str]) -> None:
    """Raises InputError where no adapter of that name is loaded; None is the base."""
    if name is not None and name not in (known := list(loaded)):
        raise InputError(f"no adapter named {name!r} is loaded; loaded: {', '.join(map(repr, known)) or 'none'}")


def cut_prompts(requests: Sequence[Any], beyond: Iterable[bool], reads: int) -> list[str]:
    """A sentence for every task of which prompts lose their beginning. ``beyond`` says for each request whether it
    does, because it is longer than the ``reads`` tokens that the model reads in all."""
    whole: dict[str, set[Any]] = {}
    cut: dict[str, set[Any]] = {}
    for request, lost in zip(requests, beyond, strict=True):
        for documents in (whole, cut) if lost else (whole,):
            documents.setdefault(str(request.task_name), set()).add(request.doc_id)
    return [
        f"{task}: {len(documents):,} of {len(whole[task]):,} prompts lost their beginning: with what is to follow they "
        f"are longer than the {reads:,} tokens that the model reads."
        for task, documents in cut.items()
    ]


def batch_size(given: int | str) -> int | None:
    """Documents at once; None for "auto". Raises InputError for neither a positive number nor "auto"."""
    if str(given) == "auto":
        return None
    if not str(given).isdigit() or int(given) < 1:
        raise InputError(f"batch size {given!r}: a positive number or 'auto'")
    return int(given)


def whole(name: str, value: Any) -> int:
    """A whole number of at least 1 among the engine's arguments."""
    if isinstance(value, bool) or not str(value).isdigit() or int(value) < 1:
        raise InputError(f"--engine-arg {name}={value}: give a whole number of at least 1")
    return int(value)
