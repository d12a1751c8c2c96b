"""OLD's answers as the reference: which metrics hold NEW's answers against them, and what scores the pairs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from compatcheck import similarity
from compatcheck.errors import InputError, did_you_mean
from compatcheck.records import KL, Metric, OldAsReference
from compatcheck.similarity import RECORDED
from compatcheck.similarity.exact import CHANGED

OLD, JUDGE = "old", "judge"
"""Value of ``--reference``."""
Chosen = TypeVar("Chosen", bound=Any)
Options = Mapping[str, Mapping[str, Any]]
Grade = Callable[
    [Metric, list[str], list[str], list[str | None]], tuple[NDArray[np.float64], NDArray[np.float64] | None]
]


def against_old(metrics: Sequence[str], reference: str | None) -> tuple[str, ...]:
    """Of the metrics that were asked for those that need no target: all with ``--reference old``, else ``changed``."""
    if reference == OLD:
        return tuple(dict.fromkeys(metrics)) or (CHANGED,)
    return (CHANGED,) if CHANGED in metrics else ()


def with_reference(chosen: Chosen, beside: Collection[str] = ()) -> Chosen:
    """The options, with ``--reference old`` where the only metric asked for means it; ``beside`` are no scores. Raises
    InputError: a metric that cannot hold one answer against another, or an option that does not go with it."""
    names = [name for name in chosen.metric if name not in (KL, *beside)]  # KL reads texts of the task
    if names and not set(names) - set(against_old(names, chosen.reference)):
        chosen = replace(chosen, reference=OLD)
    if chosen.reference != OLD:
        return chosen
    if chosen.repeats is not None:
        raise InputError("--repeats average: answers cannot be averaged, and --reference old compares answers")
    if chosen.lower_is_better:
        raise InputError("--lower-is-better: is for scores by targets, and --reference old compares answers")
    if JUDGE in names and (chosen.epsilon is not None or chosen.correct_at is not None):
        raise InputError(
            "--epsilon and --correct-at say how alike two answers must be, and judge says which one is better: leave "
            "them out, or compare by judge in a run of its own"
        )
    known = [name for name in similarity.names() if name != RECORDED]
    for name in names:
        if name not in known:
            raise InputError(
                f"--metric {name}: with --reference old answers are compared with each other{did_you_mean(name, known)}"
                f"; metrics that can are {', '.join(known)}"
            )
    return chosen


def refuse_alone(metrics: Sequence[str]) -> None:
    """Raise InputError for a metric that needs OLD and NEW where there is one model."""
    if CHANGED in metrics:
        raise InputError(
            f"--metric {CHANGED}: holds NEW's answers against OLD's, so it is for compatcheck diff; a run of one model "
            "is kept without it"
        )


def metrics_of(names: Sequence[str], options: Options) -> tuple[Metric, ...]:
    """What is compared, as metrics of both sides."""
    found = []
    for scorer in _scorers(names, options).values():
        signature = scorer.signature.replace("pairwise to target", "pairwise to OLD's answer")
        preference = scorer.judged is not None
        found.append(OldAsReference(scorer.name, scorer.kind, True, signature, preference=preference))
    return tuple(found)


def grade_of(names: Sequence[str], options: Options) -> Grade:
    """What scores NEW's answers by OLD's."""
    scorers = _scorers(names, options)

    def grade(
        metric: Metric, old: list[str], new: list[str], inputs: list[str | None]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        scorer = scorers[metric.name]
        if scorer.judged is not None:
            return scorer.judged(new, list(old), inputs)
        return (scorer.between or scorer.function)(new, list(old)), None

    return grade


def _scorers(names: Sequence[str], options: Options) -> dict[str, similarity.Scorer]:
    return {name: similarity.get(name, **options.get(name, {})) for name in names}
