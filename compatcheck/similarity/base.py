"""What a per-instance score is, and the register of those that exist."""

from __future__ import annotations

import inspect
import json
import operator
from collections.abc import Callable, Mapping, Sequence
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
STRUCTURED = frozenset({"json", "tool_call"})
"""Metrics whose targets and predictions may be objects and lists."""
RECORDED = "score"
"""Name of the score that recorded outputs carry themselves; it is read, never computed."""
_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "bool": (bool, "true or false"), "int": (int, "a whole number"), "float": ((int, float), "a number"),
    "str": (str, "a text"), "None": (type(None), "null"),
}  # fmt: skip
"""Types of settings, by their annotation."""


class UnfitTarget(InputError):
    """A target that a metric cannot read; ``row`` is its place among those that were given."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


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
    lists: bool = True
    """A list of texts in the file stands for these, and to a discrete score the JSON text of one."""
    itself: bool = False
    """The target's own text scores 1, whatever it is."""
    faults: Callable[[str, str], list[str]] | None = field(default=None, repr=False, compare=False)
    """What is wrong in a prediction by its target, part by part: the fields of an object, the calls of a list."""
    between: ScoreFunction | None = field(default=None, repr=False, compare=False)
    """Scores one answer by another, where that is not as by a target: an answer may be no JSON, a target may not."""

    def grade(
        self,
        predictions: Sequence[str | None],
        targets: Sequence[References],
        inputs: Sequence[str | None] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """One score per instance, and of a judge whether it agreed with itself (NaN: not asked), each of shape (n,).

        A null prediction is "no answer" and scores 0. Of several references the best counts.
        """
        if len(predictions) != len(targets):
            raise ValueError(f"{len(predictions)} predictions but {len(targets)} targets")
        same = np.zeros(len(predictions), dtype=bool)
        if self.itself:
            same = np.fromiter(map(operator.eq, predictions, targets), bool, len(predictions))
        scores = same.astype(np.float64)
        rows = [i for i in np.flatnonzero(~same).tolist() if isinstance(predictions[i], str)]
        texts = [str(predictions[i]) for i in rows]
        right = [self._right(targets[i], text) for i, text in zip(rows, texts, strict=True)]
        if self.judged is None:
            if rows:
                try:
                    scores[rows] = self.function(texts, right)
                except UnfitTarget as error:
                    raise UnfitTarget(str(error), rows[error.row]) from None
            return scores, None
        agreed = np.full(len(predictions), np.nan)
        if rows:
            asked = [inputs[i] if inputs is not None else None for i in rows]
            scores[rows], agreed[rows] = self.judged(texts, right, asked)
        return scores, agreed

    def _right(self, target: References, prediction: str) -> References:
        """The texts that one is scored by. What is a list is scored by the text of a list, too; and by a smooth score
        a text is one, whatever it is: the file says whether its targets are lists."""
        if not self.lists or isinstance(target, str):
            return accepted(target, True) if self.lists and self.kind == "discrete" else target
        if len(target) < 2 or prediction[:1] != "[":
            return target
        return [*target, json.dumps(list(target), ensure_ascii=False)]

    def score(self, predictions: Sequence[str | None], targets: Sequence[References]) -> NDArray[np.float64]:
        """The scores of :meth:`grade` alone, shape (n,)."""
        return self.grade(predictions, targets)[0]


ScorerFactory = Callable[..., Scorer]
_FACTORIES: dict[str, ScorerFactory] = {}


def scorer(*names: str) -> Callable[[ScorerFactory], ScorerFactory]:
    """Register a factory ``(name, **options) -> Scorer`` under one or more metric names."""

    def register(factory: ScorerFactory) -> ScorerFactory:
        _FACTORIES.update(dict.fromkeys(names, factory))
        return factory

    return register


def names() -> tuple[str, ...]:
    """Names that ``--metric`` takes, in alphabetical order; the recorded score is the last."""
    return (*sorted(_FACTORIES), RECORDED)


def get(name: str, **options: Any) -> Scorer:
    """Return the scorer of that name with these settings, e.g. ``use_stemmer`` (ROUGE), ``model_type`` (BERTScore).
    Raises InputError: an unknown name or setting, or a setting of another type.
    """
    if name == RECORDED:
        raise InputError(
            "metric 'score' is read from recorded outputs, not computed: it needs a `score` field in every row"
        )
    if name not in _FACTORIES:
        raise InputError(f"unknown metric '{name}'{did_you_mean(name, names())}; metrics are {', '.join(names())}")
    check_settings(name, options)
    return _FACTORIES[name](name, **options)


def check_settings(name: str, options: Mapping[str, Any]) -> None:
    """Raise InputError for settings that a metric does not have, or that are of another type."""
    if not options:
        return
    if name not in _FACTORIES:
        having = [each for each in names() if each != RECORDED]
        raise InputError(
            f"--metric-arg {name}.{next(iter(options))}: no metric of that name{did_you_mean(name, having)} has "
            f"settings; there are {', '.join(having)}"
        )
    parameters = dict(list(inspect.signature(_FACTORIES[name]).parameters.items())[1:])
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for option, value in options.items():
        if option not in parameters and not takes_any:
            there = f"its settings are {', '.join(parameters)}" if parameters else "it has no settings"
            raise InputError(
                f"--metric-arg {name}.{option}: no such setting{did_you_mean(option, parameters)}; {there}"
            )
        kinds = str(parameters[option].annotation).split(" | ") if option in parameters else []
        known = [_KINDS[kind] for kind in kinds if kind in _KINDS]
        fits = any(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) for kind, _ in known)
        if len(known) == len(kinds) > 0 and not fits:
            words = " or ".join(word for _, word in known if word != "null")
            raise InputError(f"--metric-arg {name}.{option}={value}: must be {words}")


def accepted(target: References, itself: bool) -> References:
    """The texts that are right: those of a JSON list of texts, where ``itself`` also the text of the list."""
    if not (isinstance(target, str) and target.startswith('["') and target.endswith('"]')):
        return target
    try:
        listed = json.loads(target)
    except (ValueError, RecursionError):
        return target
    if not all(isinstance(one, str) for one in listed):
        return target
    return [*listed, target] if itself else listed


def several(references: References) -> list[str]:
    """The references of one instance as a list."""
    return [references] if isinstance(references, str) else list(references)
