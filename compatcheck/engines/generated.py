"""A generated text that knows why it ended. It goes through lm-eval, its filters and metrics as any text does."""

from __future__ import annotations

from typing import Any

STOP, LENGTH = "stop", "length"
"""Why a text ended: by itself or at a stop string; at the greatest number of tokens."""


class Generated(str):
    """A text with its ``finish_reason``, as OpenAI's API and vLLM name it.

    Without one it can be made of anything, as ``str`` can: lm-eval turns a target into the type of the answer.
    """

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


def as_returned(answer: Any) -> Any:
    """What a method of ``LM`` returns for one request, from what a process says of it."""
    if isinstance(answer, dict):
        reason = answer["finish_reason"]
        return Generated(answer["text"], reason) if reason else answer["text"]
    return tuple(answer) if isinstance(answer, list) else answer
