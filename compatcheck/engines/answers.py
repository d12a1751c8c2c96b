"""Answers of engines: a generated text that knows why it ended, and what a model that computes no numbers gives."""

from __future__ import annotations

import math
from typing import Any

STOP, LENGTH = "stop", "length"
"""Why a text ended: by itself or at a stop string; at the greatest number of tokens."""
NOT_FINITE = "the model gave scores that are not finite"
"""The failure of a request to a model that computes no numbers, as engines report it."""
MOST_NOT_FINITE = 0.01
"""Share of a task's documents beyond which such a model is not scored at all."""


class Generated(str):
    """A text with its ``finish_reason``, as OpenAI's API and vLLM name it. It goes through lm-eval as any text does.

    Without one it can be made of anything, as ``str`` can: lm-eval turns a target into the type of the answer."""

    finish_reason: str | None

    def __new__(cls, text: object = "", finish_reason: str | None = None) -> Generated:
        answer = super().__new__(cls, text)
        answer.finish_reason = finish_reason
        return answer

    def __getnewargs__(self) -> tuple[str, str | None]:  # type: ignore[override]
        return str(self), self.finish_reason


def finish_reason(answer: Any) -> str | None:
    """Why an answer ended; None where it is not known."""
    return answer.finish_reason if isinstance(answer, Generated) else None


def is_finite(kind: str, answer: Any) -> bool:
    """Whether an answer of one of lm-eval's three kinds is one; texts always are, their engine tells."""
    if kind == "generate_until":
        return True
    try:
        return math.isfinite(float(answer[0] if kind == "loglikelihood" else answer))
    except (TypeError, ValueError):
        return True  # another backend's own answer, which its metric judges
