"""The two wire formats for generation: what a task asks for, as a request body. What comes back: ``received``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

COMPLETIONS, CHAT = "/completions", "/chat/completions"
_DEFAULT_MOST = 256
"""lm-eval's default for the most new tokens."""
_MOST_STOPS = 4
"""What the OpenAI API takes."""
_PASSED = ("presence_penalty", "frequency_penalty", "logit_bias")
_ONLY_SAMPLING = {"top_k", "top_p", "typical_p", "min_p", "epsilon_cutoff", "eta_cutoff"}
_ONLY_BEAMS = {"length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty"}
_STREAMING: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
_NEUTRAL: dict[str, Any] = {
    "num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "num_return_sequences": 1, "n": 1, "top_k": 0,
    "typical_p": 1.0, "min_p": 0.0, "min_length": 0, "min_new_tokens": 0,
}  # fmt: skip
_OF_THE_ENGINE = {"use_cache", "pad_token_id", "eos_token_id", "bos_token_id", "return_dict_in_generate", "do_sample"}


class Messages(str):
    """A prompt that is a conversation: the JSON text of a list of messages. lm-eval handles it like any prompt."""

    __slots__ = ()

    @classmethod
    def of(cls, history: list[dict[str, Any]]) -> Messages:
        return cls(json.dumps(history, ensure_ascii=False))


@dataclass(frozen=True)
class Decoding:
    """How one text is to be generated.

    ``left_out`` are the task's settings that the API cannot express, as ``name=value``."""

    most: int
    stops: tuple[str, ...]
    temperature: float
    top_p: float | None
    passed: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def read_decoding(arguments: Mapping[str, Any], covered: Mapping[str, Any]) -> Decoding:
    """lm-eval's generation arguments, normalised by its own function. ``covered`` is what the user sends besides."""
    from lm_eval.models.utils import normalize_gen_kwargs

    given: dict[str, Any] = dict(normalize_gen_kwargs(dict(arguments), _DEFAULT_MOST))
    until = given.pop("until", None) or []
    stops = tuple(dict.fromkeys(stop for stop in ([until] if isinstance(until, str) else until) if stop))
    most, temperature = int(given.pop("max_gen_toks")), float(given.pop("temperature", 0.0))
    sampling = temperature > 0
    top_p = given.pop("top_p", None) if sampling else None
    passed = {name: given.pop(name) for name in _PASSED if given.get(name) is not None}
    silent = _OF_THE_ENGINE | covered.keys()
    silent |= set() if sampling else _ONLY_SAMPLING
    silent |= set() if given.get("num_beams") not in (None, 1) else _ONLY_BEAMS
    left_out = tuple(
        f"{name}={value}"
        for name, value in sorted(given.items())
        if value is not None and name not in silent and value != _NEUTRAL.get(name)
    )
    return Decoding(most, stops, temperature, None if top_p in (None, 1, 1.0) else float(top_p), passed, left_out)


@dataclass
class Dialect:
    """What this server turned out to want, learned from its refusals (HTTP 400) of otherwise good requests."""

    most_name: str = "max_tokens"
    most_stops: int | None = None
    seed: bool = True
    streaming: dict[str, Any] = field(default_factory=lambda: dict(_STREAMING))
    """What is sent besides where the answer is to be streamed, with the tokens counted at its end."""

    def learn(self, said: str, body: Mapping[str, Any]) -> bool:
        """Whether the refusal tells how to ask otherwise; then the same request is worth another try."""
        low = said.lower()
        if "max_completion_tokens" in low and "max_tokens" in body:
            self.most_name = "max_completion_tokens"
        elif "stop" in low and len(body.get("stop", ())) > _MOST_STOPS:
            self.most_stops = _MOST_STOPS
        elif "seed" in low and "seed" in body:
            self.seed = False
        elif "stream_options" in low and "stream_options" in body:
            self.streaming = {"stream": True}
        elif "stream" in low and "stream" in body:
            self.streaming = {}
        else:
            return False
        return True


def body_of(
    prompt: str, model: str, decoding: Decoding, seed: int, extra: Mapping[str, Any], dialect: Dialect, chat: bool
) -> dict[str, Any]:
    """The request body. A plain prompt is one user message of a chat."""
    body: dict[str, Any] = {"model": model, **decoding.passed}
    if not chat:
        body["prompt"] = str(prompt)
    elif isinstance(prompt, Messages):
        body["messages"] = turns = json.loads(prompt)
        if turns and turns[-1].get("role") == "assistant":  # a beginning to be continued
            body |= {"continue_final_message": True, "add_generation_prompt": False}
    else:
        body["messages"] = [{"role": "user", "content": prompt}]
    body |= {dialect.most_name if chat else "max_tokens": decoding.most, "temperature": decoding.temperature}
    if decoding.top_p is not None:
        body["top_p"] = decoding.top_p
    if decoding.stops:
        body["stop"] = list(decoding.stops[: dialect.most_stops])
    if dialect.seed:
        body["seed"] = seed
    return body | dict(extra)
