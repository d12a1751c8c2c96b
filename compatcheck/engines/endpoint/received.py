"""What a server answers to a request for a text: the text, and what came with it."""

from __future__ import annotations

from typing import Any

from compatcheck.engines.answers import STOP, Generated
from compatcheck.models.client import malformed
from compatcheck.text import clean_surrogates


def text_of(answer: Any, chat: bool, stops: tuple[str, ...]) -> str:
    """The generated text, cut at the first stop string as lm-eval does.

    Where the server says why it ended, it is a :class:`Generated` text. A chat answer without content (all tokens spent
    on reasoning, or a refusal in a field of its own) is an empty text. Raises RequestFailed: the answer has no choice
    or no text."""
    from lm_eval.models.utils import postprocess_generated_text

    choice = first_choice(answer)
    text = choice.get("text")
    if chat:
        message = choice.get("message")
        if not isinstance(message, dict) or not message:
            raise malformed("the answer holds no message")
        text = message.get("content")
        if isinstance(text, list):
            text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        text = "" if text is None else text
    if not isinstance(text, str):
        raise malformed("the answer holds no text")
    text = clean_surrogates(text)
    cut = str(postprocess_generated_text(text, list(stops), None))
    reason = choice.get("finish_reason")
    return Generated(cut, STOP if cut != text else clean_surrogates(reason)) if isinstance(reason, str) else cut


def first_choice(answer: Any) -> dict[str, Any]:
    """The first of ``choices``. Raises RequestFailed: there is none."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        error = answer.get("error") if isinstance(answer, dict) else None
        said = f": {' '.join(str(error).split())[:160]}" if error else ""
        raise malformed(f"the answer holds no choices{said}")
    return choices[0]
