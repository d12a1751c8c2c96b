"""What a per-instance score is, and the register of those that exist."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compatcheck.errors import InputError, did_you_mean

References = str | Sequence[str]
"""What is right for one instance: a text, or several of equal standing."""

ScoreFunction = Callable[[list[str], list[References]], NDArray[np.float64]]

JudgeFunction = Callable[
    [list[str], list[References], list[str | None]], tuple[NDArray[np.float64], NDArray[np.float64]]
]
"""Predictions, targets and inputs to scores and agreement."""

RECORDED = "score"
"""Name of the score that recorded outputs carry themselves; it is read, never computed."""


@dataclass(frozen=True)
class Scorer:
    """One way to score a prediction against its target.

    ``kind`` is ``"discrete"`` (0 or 1) or ``"smooth"`` (from 0 to 1; BERTScore may leave that range a little).
    ``signature`` names the implementation, its version and its settings.
    """

    name: str
    kind: str
    signature: str
    function: ScoreFunction = field(repr=False, compare=False)
    higher_is_better: bool = True
    judged: JudgeFunction | None = field(default=None, repr=False, compare=False)
    """Of a judge, which wants the inputs too: gives scores, and whether it agreed with itself."""

    def grade(
        self,
        predictions: Sequence[str | None],
        targets: Sequence[References],
        inputs: Sequence[str | None] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Scores as :meth:`score` gives them, and of a judge whether it agreed with itself (NaN: not asked)."""
        if self.judged is None:
            return self.score(predictions, targets), None
        rows = [i for i, text in enumerate(predictions) if isinstance(text, str)]
        scores, agreed = np.zeros(len(predictions)), np.full(len(predictions), np.nan)
        if rows:
            asked = [inputs[i] if inputs is not None else None for i in rows]
            found = self.judged([str(predictions[i]) for i in rows], [targets[i] for i in rows], asked)
            scores[rows], agreed[rows] = found
        return scores, agreed

    def score(self, predictions: Sequence[str | None], targets: Sequence[References]) -> NDArray[np.float64]:
        """Return one score per instance, shape (n,).

        A null prediction is "no answer" and scores 0. Of several references the best counts.
        """
        if len(predictions) != len(targets):
            raise ValueError(f"{len(predictions)} predictions but {len(targets)} targets")
        answered = [(i, text) for i, text in enumerate(predictions) if isinstance(text, str)]
        scores = np.zeros(len(predictions), dtype=np.float64)
        if answered:
            rows = [i for i, _ in answered]
            scores[rows] = self.function([text for _, text in answered], [targets[i] for i in rows])
        return scores


ScorerFactory = Callable[..., Scorer]
_FACTORIES: dict[str, ScorerFactory] = {}


def scorer(*names: str) -> Callable[[ScorerFactory], ScorerFactory]:
    """Register a factory ``(name, **options) -> Scorer`` under one or more metric names."""

    def register(factory: ScorerFactory) -> ScorerFactory:
        for name in names:
            _FACTORIES[name] = factory
        return factory

    return register


def names() -> tuple[str, ...]:
    """Names that ``--metric`` takes, in alphabetical order; the recorded score is the last."""
    return (*sorted(_FACTORIES), RECORDED)


def get(name: str, **options: Any) -> Scorer:
    """Return the scorer of that name.

    ``options`` are those of the metric: ``ignore_case`` (exact_match), ``use_stemmer`` (ROUGE), ``model_type`` and
    ``num_layers`` (BERTScore). Raises InputError for an unknown name or option.
    """
    if name == RECORDED:
        raise InputError(
            "metric 'score' is read from recorded outputs, not computed: it needs a `score` field in every row"
        )
    if name not in _FACTORIES:
        known = names()
        raise InputError(f"unknown metric '{name}'{did_you_mean(name, known)}; metrics are {', '.join(known)}")
    parameters = inspect.signature(_FACTORIES[name]).parameters
    settings = list(parameters)[1:]
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for option in options:
        if option not in settings and not takes_any:
            there = f"its settings are {', '.join(settings)}" if settings else "it has no settings"
            raise InputError(f"--metric-arg {name}.{option}: no such setting{did_you_mean(option, settings)}; {there}")
    return _FACTORIES[name](name, **options)


def several(references: References) -> list[str]:
    """The references of one instance as a list."""
    return [references] if isinstance(references, str) else list(references)
