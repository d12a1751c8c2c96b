"""Answers of a model that computes no numbers: NaN weights, or an overflow of a narrow dtype."""

from __future__ import annotations

import math
from typing import Any

NOT_FINITE = "the model gave scores that are not finite"
"""The failure of a request to such a model, as engines report it."""
MOST = 0.01
"""Share of a task's documents beyond which the model is not scored at all."""


class NotFinite(Exception):
    """Some row of a batch got logits that are not finite."""


def is_finite(kind: str, answer: Any) -> bool:
    """Whether an answer of one of lm-eval's three kinds is one; texts always are, their engine tells."""
    if kind == "generate_until":
        return True
    value = answer[0] if kind == "loglikelihood" else answer
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return True  # another backend's own answer, which its metric judges


def not_finite(model: Any) -> list[str]:
    """Names of the weights that hold NaN or infinity. Attention may turn them into numbers that mean nothing."""
    import torch

    return [
        name
        for name, one in model.named_parameters()
        if one.is_floating_point() and one.element_size() > 1 and one.device.type != "meta"
        if not bool(one.detach().sum(dtype=torch.float32).isfinite()) and not bool(one.detach().isfinite().all())
    ]


def watch_logits() -> Any:
    """A logits processor of transformers that raises :class:`NotFinite`."""
    from transformers import LogitsProcessor

    class Watch(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            if not scores.amax(-1).isfinite().all():
                raise NotFinite
            return scores

    return Watch()
