"""An engine asked in another order and in other batches: what its answers owe to their company is then seen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partialmethod
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

PARTS = 4
"""Into so many parts of random sizes the requests of one call are split."""


class Shuffled:
    """Hands the requests of every call on in a random order and in :data:`PARTS` random parts.

    Engines sort what they get by length, so that another order alone would make the same batches again: the parts keep
    requests apart that were together before, and end with batches of other sizes. Everything but the three methods that
    answer is the engine's own. Answers keep their place. No two calls are shuffled alike."""

    def __init__(self, engine: Any, seed: int) -> None:
        self._engine = engine
        self._random = random.Random(f"compatcheck shuffle {seed}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._engine, name)

    def _answers(self, kind: str, requests: Sequence[Instance]) -> list[Any]:
        found: list[Any] = [None] * len(requests)
        size, order = len(requests), list(range(len(requests)))
        self._random.shuffle(order)
        cuts = sorted(self._random.sample(range(1, size), min(PARTS, size) - 1)) if size > 1 else []
        for part in (order[start:end] for start, end in pairwise([0, *cuts, size]) if end > start):
            answers = getattr(self._engine, kind)([requests[place] for place in part])
            for place, answer in zip(part, answers, strict=True):
                found[place] = answer
        return found

    loglikelihood = partialmethod(_answers, "loglikelihood")
    loglikelihood_rolling = partialmethod(_answers, "loglikelihood_rolling")
    generate_until = partialmethod(_answers, "generate_until")
