"""Answers of engines: a generated text with what came with it, and what a model that computes no numbers gives."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from compatcheck.reasoning import split

STOP, LENGTH = "stop", "length"
"""Why a text ended: by itself or at a stop string; at the greatest number of tokens."""
THINKING = "thinking"
"""The text ended within its reasoning, at the greatest number of tokens or at a stop string: there is no answer."""
NOT_FINITE = "the model gave scores that are not finite"
"""The failure of a request to a model that computes no numbers, as engines report it."""
MOST_NOT_FINITE = 0.01
"""Share of a task's documents beyond which such a model is not scored at all."""


@dataclass(frozen=True)
class About:
    """What came with a text; None where it is not known."""

    finish_reason: str | None = None
    """``stop``, ``length``, or what the server says; :data:`THINKING` where it ended within its reasoning."""
    reasoning: str | None = None
    """What the model thought before it answered, where that is kept apart from the text."""
    tool_calls: list[dict[str, Any]] | None = None
    """Each ``{"name": …, "arguments": …}``; arguments that are no JSON are a text."""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    """Reasoning and the token that ends the text among them."""
    latency_first: float | None = None
    """Seconds from asking to the first token; of a server that streams."""
    latency: float | None = None
    """Seconds from asking to the last token; of a server. A text made in a batch with others has no time of its own."""

    @property
    def known(self) -> dict[str, Any]:
        """What is known, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Generated(str):
    """A text that knows what came with it. It goes through lm-eval as any text does.

    Without anything it can be made of what ``str`` can: lm-eval turns a target into the type of the answer."""

    about: About

    def __new__(cls, text: object = "", finish_reason: str | None = None, **about: Any) -> Generated:
        return cls.of(text, About(finish_reason, **about))

    @classmethod
    def of(cls, text: object, about: About) -> Generated:
        answer = super().__new__(cls, text)
        answer.about = about
        return answer

    def __reduce__(self) -> tuple[Any, ...]:
        return Generated.of, (str(self), self.about)


def about(answer: Any) -> About:
    """What came with an answer."""
    return answer.about if isinstance(answer, Generated) else About()


def without_reasoning(answer: str) -> str:
    """The answer alone, as it is scored; its reasoning goes along with it. See :mod:`compatcheck.reasoning`."""
    came, found = about(answer), split(answer)
    cut = came.finish_reason == LENGTH and came.reasoning and not found.answer.strip()
    if found.answer == answer and not cut:
        return answer
    thoughts = "\n\n".join(each for each in (came.reasoning, found.reasoning) if each) or None
    reason = THINKING if found.unfinished or cut else came.finish_reason
    return Generated.of(found.answer, replace(came, reasoning=thoughts, finish_reason=reason))


def is_finite(kind: str, answer: Any) -> bool:
    """Whether an answer of one of lm-eval's three kinds is one; texts always are, their engine tells."""
    if kind == "generate_until":
        return True
    try:
        return math.isfinite(float(answer[0] if kind == "loglikelihood" else answer))
    except (TypeError, ValueError):
        return True  # another backend's own answer, which its metric judges
