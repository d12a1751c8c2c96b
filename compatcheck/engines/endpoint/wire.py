"""The two wire formats for generation: what a task asks for, as a request body. What comes back: ``received``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from compatcheck.conversation import others_in, plain
from compatcheck.errors import InputError

COMPLETIONS, CHAT = "/completions", "/chat/completions"
_DEFAULT_MOST = 256
"""lm-eval's default for the most new tokens."""
_MOST_STOPS = 4
"""What the OpenAI API takes."""
_PASSED = ("presence_penalty", "frequency_penalty", "logit_bias", "tools", "response_format", "reasoning_effort")
_LENGTHS = ("max_tokens", "max_completion_tokens")
_DISPENSABLE = (
    "temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "logit_bias", *_LENGTHS,
    "stream_options", "stream",
)  # fmt: skip
"""What a server may refuse: the request is then made without it."""
_UNKNOWN = re.compile(r"support|recogni|unknown|unexpected|permitted|allowed|extra|invalid argument")
"""How a server says that it does not have a field, and not that a text is too long for it."""
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


def is_plain(prompt: Messages) -> bool:
    """Whether a conversation holds nothing but texts."""
    return not others_in(json.loads(prompt))


@dataclass(frozen=True)
class Decoding:
    """How one text is to be generated.

    ``left_out`` are the task's settings that the API cannot express, as ``name=value``."""

    most: int | None
    stops: tuple[str, ...]
    temperature: float | None
    top_p: float | None
    passed: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    seeded: bool = True

    @property
    def sampled(self) -> bool:
        """Whether answers are drawn at random; where no temperature is said, a server takes its own."""
        return self.temperature is None or self.temperature > 0


def read_decoding(arguments: Mapping[str, Any], covered: Mapping[str, Any]) -> Decoding:
    """lm-eval's generation arguments, normalised by its own function; None is what the user wants left out. ``covered``
    is what the user sends besides. Raises InputError: both say the same field, and not the same of it: what is sent
    would not be what it is filed as."""
    from lm_eval.models.utils import normalize_gen_kwargs

    for name in covered.keys() & arguments.keys():
        if arguments[name] not in (None, covered[name], _NEUTRAL.get(name)):
            raise InputError(
                f"--engine-arg extra_body: {name} is {_short(covered[name])} there, and {_short(arguments[name])} in "
                "--gen, the task or the prompts; say it in one place"
            )
    absent = {name for name, value in arguments.items() if value is None}
    said = {name: value for name, value in arguments.items() if value is not None and name != "seed"}
    given: dict[str, Any] = dict(normalize_gen_kwargs(said, _DEFAULT_MOST))
    until = given.pop("until", None) or []
    stops = tuple(dict.fromkeys(stop for stop in ([until] if isinstance(until, str) else until) if stop))
    most, temperature = int(given.pop("max_gen_toks")), float(given.pop("temperature", 0.0))
    sampling = temperature > 0 or "temperature" in absent
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
    return Decoding(
        None if "max_gen_toks" in absent else most,
        stops,
        None if "temperature" in absent else temperature,
        None if top_p in (None, 1, 1.0) else float(top_p),
        passed,
        left_out,
        "seed" not in absent,
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"


@dataclass(frozen=True)
class Dialect:
    """What this server turned out to want, learned from its refusals (HTTP 400, 422) of otherwise good requests.

    ``without`` are the fields that it refused."""

    most_name: str = "max_tokens"
    most_stops: int | None = None
    without: frozenset[str] = frozenset()

    @property
    def streaming(self) -> dict[str, Any]:
        """What is sent besides where the answer is to be streamed, with the tokens counted at its end."""
        if "stream" in self.without:
            return {}
        return {name: value for name, value in _STREAMING.items() if name not in self.without}

    def learned(self, said: str, body: Mapping[str, Any], named: str | None = None) -> Dialect | None:
        """How to ask otherwise, where the refusal tells; then the same request is worth another try.

        ``named`` is the field that the server names beside what it says."""
        low = said.lower()
        if "max_completion_tokens" in low and "max_tokens" in body and self.most_name == "max_tokens":
            return replace(self, most_name="max_completion_tokens")
        about = [name for name in _DISPENSABLE if name in body and (name == named or re.search(rf"\b{name}\b", low))]
        if "stop" in about and self.most_stops is None and len(body["stop"]) > _MOST_STOPS:
            return replace(self, most_stops=_MOST_STOPS)
        for name in [named, *about] if named in about else about:
            if name in _LENGTHS and (not _UNKNOWN.search(low) or "context" in low):
                continue
            return replace(self, without=self.without | {str(name)})
        return None

    def joined(self, other: Dialect) -> Dialect:
        """What both have learned."""
        name = other.most_name if self.most_name == "max_tokens" else self.most_name
        return Dialect(name, self.most_stops or other.most_stops, self.without | other.without)


def body_of(
    prompt: str, model: str, decoding: Decoding, seed: int, extra: Mapping[str, Any], dialect: Dialect, chat: bool
) -> dict[str, Any]:
    """The request body. A plain prompt is one user message of a chat."""
    body: dict[str, Any] = {"model": model, **decoding.passed}
    if not chat:
        body["prompt"] = plain(json.loads(prompt)) if isinstance(prompt, Messages) else str(prompt)
    elif isinstance(prompt, Messages):
        body["messages"] = turns = json.loads(prompt)
        if turns and turns[-1].get("role") == "assistant":  # a beginning to be continued
            body |= {"continue_final_message": True, "add_generation_prompt": False}
    else:
        body["messages"] = [{"role": "user", "content": prompt}]
    given = {
        dialect.most_name if chat else "max_tokens": decoding.most,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "stop": list(decoding.stops[: dialect.most_stops]) or None,
        "seed": seed if decoding.seeded else None,
    }
    body |= {name: value for name, value in given.items() if value is not None}
    return {name: value for name, value in body.items() if name not in dialect.without} | dict(extra)
