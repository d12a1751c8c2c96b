"""What a generation request asks for, and the next token under it. Greedy decoding only."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Settings that change nothing under greedy decoding with one beam, or that the loop handles itself.
_WITHOUT_EFFECT = frozenset(
    {"do_sample", "temperature", "top_k", "top_p", "typical_p", "min_p", "max_length", "max_new_tokens", "use_cache",
     "bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "cache_implementation", "length_penalty",
     "early_stopping", "return_dict_in_generate", "output_scores", "output_logits", "output_attentions",
     "output_hidden_states", "decoder_start_token_id", "no_repeat_ngram_size", "repetition_penalty"}
)  # fmt: skip
_ONE = frozenset({"num_beams", "num_return_sequences", "num_beam_groups"})


@dataclass(frozen=True)
class GenerationArguments:
    """One request's decoding: at most ``most`` new tokens, cut at ``stops``, ended by ``ends`` (token ids)."""

    most: int
    stops: tuple[str, ...]
    ends: frozenset[int]
    no_repeat: int = 0
    penalty: float = 1.0


def read_generation_arguments(
    arguments: dict[str, Any], default_most: int, eos: str, eos_id: int | None, defaults: Any
) -> tuple[GenerationArguments | None, str]:
    """lm-eval's generation arguments, normalised by its own functions, over the model's generation defaults; None with
    the reason why where the request needs transformers' own ``generate``."""
    from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

    given: dict[str, Any] = dict(normalize_gen_kwargs(arguments, default_most))
    stops = handle_stop_sequences(given.pop("until", None), eos=eos)
    most = given.pop("max_gen_toks")
    if "max_length" in given:
        return None, "max_length is set"
    temperature, sampled = given.get("temperature", 0.0), given.get("do_sample")
    if sampled and "temperature" in given and not temperature:
        sampled = given["do_sample"] = False
    if sampled or (sampled is None and temperature):
        return None, "sampling is asked for"
    effective = copy.deepcopy(defaults)
    if unknown := effective.update(**given):
        return None, f"{', '.join(sorted(unknown))} is set"
    neutral = type(defaults)().to_dict()
    for name, value in effective.to_dict().items():
        silent = name in _WITHOUT_EFFECT or name.startswith("_") or value in (None, neutral.get(name), False, 0, [], {})
        if not silent and not (name in _ONE and value == 1):
            return None, f"{name}={value!r} is set"
    ends = effective.eos_token_id
    ids = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    found = GenerationArguments(
        most=most,
        stops=tuple(stop for stop in stops if stop),
        ends=frozenset(ids if eos_id is None else [*ids, eos_id]),
        no_repeat=max(0, int(effective.no_repeat_ngram_size or 0)),
        penalty=float(effective.repetition_penalty or 1.0),
    )
    return found, ""


class Ngrams:
    """The n-grams of one text, and what may not come next: the tokens that would complete one a second time."""

    def __init__(self, size: int, prompt: Iterable[int]) -> None:
        self._size, self._tokens, self._followed = size, list[int](), 0
        self._followers: dict[tuple[int, ...], set[int]] = {}
        for token in prompt:
            self.append(token)

    def append(self, token: int) -> None:
        self._tokens.append(token)
        if len(self._tokens) >= self._size:
            *before, last = self._tokens[-self._size :]
            self._followers.setdefault(tuple(before), set()).add(last)

    def follow(self, written: Sequence[int]) -> None:
        """Take what was added to ``written`` since the last call."""
        for token in written[self._followed :]:
            self.append(token)
        self._followed = len(written)

    def banned(self) -> set[int]:
        at = len(self._tokens) + 1 - self._size
        return self._followers.get(tuple(self._tokens[at:]), set()) if at >= 0 else set()


class Text:
    """One sequence on its way: what was read, what was written, and the n-grams of both."""

    def __init__(self, request: int, prompt: Sequence[int], arguments: GenerationArguments) -> None:
        self.request, self.prompt, self.arguments = request, tuple(prompt), arguments
        self.written: list[int] = []
        self.broken = False
        """Whether the model gave logits for it that are no numbers."""
        self.ngrams = Ngrams(arguments.no_repeat, prompt) if arguments.no_repeat else None

    def append(self, token: int) -> None:
        """The next token was chosen."""
        self.written.append(token)
        if self.ngrams is not None:
            self.ngrams.append(token)


def next_tokens(texts: Sequence[Text], logits: Tensor) -> list[int]:
    """The arg-max token of each text, (n, vocabulary) logits, after the repetition rules.

    A text whose logits are not finite is marked ``broken``; its token means nothing."""
    scores = logits.float()
    for row, finite in enumerate(scores.amax(-1).isfinite().tolist()):
        texts[row].broken |= not finite
    if any(text.arguments.penalty != 1.0 or text.ngrams for text in texts):
        scores = scores.clone()
    for row, text in enumerate(texts):
        penalty = text.arguments.penalty
        if penalty != 1.0:
            seen = torch.tensor(sorted({*text.prompt, *text.written}), device=scores.device)
            values = scores[row, seen]
            scores[row, seen] = torch.where(values < 0, values * penalty, values / penalty)
        if text.ngrams and (banned := text.ngrams.banned()):
            scores[row, torch.tensor(sorted(banned), device=scores.device)] = float("-inf")
    return [int(token) for token in scores.argmax(-1).tolist()]
