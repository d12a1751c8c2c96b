"""``no_repeat_ngram_size`` for vLLM, as transformers means it: n-grams of the prompt count too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from compatcheck.engines.hf.sampling import Ngrams

if TYPE_CHECKING:
    from vllm import SamplingParams

ARGUMENT = "no_repeat_ngram_size"
"""Its name in ``SamplingParams.extra_args``."""


class NoRepeatNgram(LogitsProcessor):
    """Follows the requests that ask for it through vLLM's batch; the others cost nothing."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._rows: dict[int, tuple[Ngrams, list[int]]] = {}
        """By row: n-grams so far, and vLLM's own list of what was written, which grows while it generates."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        size = (sampling_params.extra_args or {}).get(ARGUMENT, 0)
        if not isinstance(size, int) or size < 0:
            raise ValueError(f"{ARGUMENT}={size!r}: a whole number, 0 or more")

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Rows of the batch come, go and move; in this order, as vLLM asks for."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._rows.pop(row, None)
        for row, params, prompt, written in batch_update.added:
            size = (params.extra_args or {}).get(ARGUMENT, 0)
            self._rows.pop(row, None)
            if size:
                self._rows[row] = Ngrams(size, prompt or ()), written
        for first, second, direction in batch_update.moved:
            moving, other = self._rows.pop(first, None), self._rows.pop(second, None)
            if moving is not None:
                self._rows[second] = moving
            if other is not None and direction is MoveDirectionality.SWAP:
                self._rows[first] = other

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """(rows, vocabulary) logits with the banned tokens at minus infinity, changed in place."""
        rows: list[int] = []
        tokens: list[int] = []
        for row, (ngrams, written) in self._rows.items():
            ngrams.follow(written)
            banned = ngrams.banned()
            rows += [row] * len(banned)
            tokens += banned
        if rows:
            where = torch.tensor([rows, tokens], device=self._device)
            logits[where[0], where[1]] = float("-inf")
        return logits
