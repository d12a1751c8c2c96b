"""What a generation request asks for, and the next token under it. Greedy decoding only."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

# Settings that change nothing under greedy decoding with one beam, or that the loop handles itself.
_WITHOUT_EFFECT = frozenset(
    {"do_sample", "temperature", "top_k", "top_p", "typical_p", "min_p", "max_length", "max_new_tokens", "use_cache",
     "bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "cache_implementation", "length_penalty",
     "early_stopping", "return_dict_in_generate", "output_scores", "output_logits", "output_attentions",
     "output_hidden_states", "decoder_start_token_id"}
)  # fmt: skip
_ONE = frozenset({"num_beams", "num_return_sequences", "num_beam_groups"})
_HANDLED = frozenset({"no_repeat_ngram_size", "repetition_penalty"})


@dataclass(frozen=True)
class Wish:
    """One request's decoding: at most ``most`` new tokens, cut at ``stops``, ended by ``ends`` (token ids)."""

    most: int
    stops: tuple[str, ...]
    ends: frozenset[int]
    no_repeat: int = 0
    penalty: float = 1.0


def read_wish(
    arguments: dict[str, Any], default_most: int, eos: str, eos_id: int | None, defaults: Any
) -> tuple[Wish | None, str]:
    """lm-eval's generation arguments, normalised by its own functions, over the model's generation defaults.

    Returns:
        The wish, or None with the reason why the request needs transformers' own ``generate``.
    """
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
    unknown = effective.update(**given)
    if unknown:
        return None, f"{', '.join(sorted(unknown))} is set"
    neutral = type(defaults)().to_dict()
    for name, value in effective.to_dict().items():
        if name in _WITHOUT_EFFECT or name in _HANDLED or name.startswith("_"):
            continue
        if value is not None and value != neutral.get(name) and not _is_neutral(name, value):
            return None, f"{name}={value!r} is set"
    ends = effective.eos_token_id
    ids = set() if ends is None else {ends} if isinstance(ends, int) else set(ends)
    if eos_id is not None:
        ids.add(eos_id)
    wish = Wish(
        most=most,
        stops=tuple(stop for stop in stops if stop),
        ends=frozenset(ids),
        no_repeat=max(0, int(effective.no_repeat_ngram_size or 0)),
        penalty=float(effective.repetition_penalty or 1.0),
    )
    return wish, ""


def _is_neutral(name: str, value: Any) -> bool:
    return value in (False, 0, [], {}) or (name in _ONE and value == 1)


@dataclass
class Text:
    """One sequence on its way: what was read, what was written, and what its processors remember."""

    request: int
    prompt: tuple[int, ...]
    wish: Wish
    written: list[int] = field(default_factory=list)
    broken: bool = False
    """Whether the model gave logits for it that are no numbers."""
    _followers: dict[tuple[int, ...], set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.wish.no_repeat:
            self._tokens = list(self.prompt)
            for end in range(self.wish.no_repeat, len(self._tokens) + 1):
                self._remember(end)

    def _remember(self, end: int) -> None:
        size = self.wish.no_repeat
        *before, last = self._tokens[end - size : end]
        self._followers.setdefault(tuple(before), set()).add(last)

    def banned(self) -> set[int]:
        """Tokens that would repeat an n-gram of the prompt or the text so far."""
        size = self.wish.no_repeat
        if not size or len(self._tokens) + 1 < size:
            return set()
        return self._followers.get(tuple(self._tokens[len(self._tokens) + 1 - size :]), set())

    def append(self, token: int) -> None:
        """The next token was chosen."""
        self.written.append(token)
        if self.wish.no_repeat:
            self._tokens.append(token)
            if len(self._tokens) >= self.wish.no_repeat:
                self._remember(len(self._tokens))


def next_tokens(texts: Sequence[Text], logits: Tensor) -> list[int]:
    """The arg-max token of each text, (n, vocabulary) logits, after the repetition rules.

    A text whose logits are not finite is marked ``broken``; its token means nothing.
    """
    scores = logits.float()
    for row, finite in enumerate(scores.amax(-1).isfinite().tolist()):
        texts[row].broken |= not finite
    if any(text.wish.penalty != 1.0 or text.wish.no_repeat for text in texts):
        scores = scores.clone()
    for row, text in enumerate(texts):
        if text.wish.penalty != 1.0:
            seen = torch.tensor(sorted({*text.prompt, *text.written}), device=scores.device)
            values = scores[row, seen]
            scores[row, seen] = torch.where(values < 0, values * text.wish.penalty, values / text.wish.penalty)
        banned = text.banned()
        if banned:
            scores[row, torch.tensor(sorted(banned), device=scores.device)] = float("-inf")
    return [int(token) for token in scores.argmax(-1).tolist()]
