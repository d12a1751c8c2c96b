"""A causal model run on packed tokens: hidden states once, logits only at the rows that are needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from compatcheck.engines.hf import attention
from compatcheck.engines.hf.attention import Forest, Layout, PrefixStore, RowBuffers, Rows, UnsupportedAttention
from compatcheck.engines.hf.packing import Branch, Document, Group, Part

_CHECK_TOKENS = 24
_EXACT = 1e-3
"""Difference in log-probability up to which packed and plain forwards are the same, whatever the dtype."""
_LOGITS_AT_ONCE = 2**21
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}


class Runner:
    """Runs ``core``, a transformers causal language model (adapters injected), on packed layouts."""

    def __init__(self, core: Any, device: torch.device) -> None:
        attention.register()
        self.core = core
        self.device = device
        self.vocabulary: int | None = None
        """Only the first so many logits count; None means all."""
        self._decoder, self._head = _decoder_and_head(core)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The model uses the packed attention inside, and its own again afterwards."""
        before = self.core.config._attn_implementation
        self.core.set_attn_implementation(attention.NAME)
        try:
            with torch.inference_mode():
                yield
        finally:
            self.core.set_attn_implementation(before)

    def logits(self, layout: Layout, tokens: Tensor, positions: Tensor, rows: Sequence[int]) -> Iterator[Tensor]:
        """Logits at some places of the row of tokens, in pieces (r, vocabulary) one after the other.

        Args:
            tokens, positions: (1, T).
            rows: places in the row, ascending.
        """
        if self._decoder is None:
            index = torch.tensor(rows, device=self.device)
            with attention.laid_out(layout):
                out = self.core(input_ids=tokens, position_ids=positions, use_cache=False, logits_to_keep=index).logits[
                    0
                ]
            _check_called(layout)
            yield out[:, : self.vocabulary]
            return
        hidden = self.hidden(layout, tokens, positions, rows)
        width = self._head.weight.shape[0] if hasattr(self._head, "weight") else self.core.config.vocab_size
        step = max(32, _LOGITS_AT_ONCE // width)
        for start in range(0, len(rows), step):
            yield self._head(hidden[start : start + step])[:, : self.vocabulary]

    def hidden(self, layout: Layout, tokens: Tensor, positions: Tensor, rows: Sequence[int]) -> Tensor:
        """Hidden states (r, hidden size) that the output layer reads, at some places of the row of tokens."""
        with attention.laid_out(layout):
            states: Tensor = self._decoder(input_ids=tokens, position_ids=positions, use_cache=False).last_hidden_state[
                0
            ]
        _check_called(layout)
        return states[torch.tensor(rows, device=self.device)]

    def output_weight(self) -> Tensor | None:
        """Weight (vocabulary, hidden size) of an output layer that is one float32 matrix product on a CPU, else None.

        There it pays to apply it to a part of the vocabulary at a time: the logits stay in the caches.
        """
        head = self._head
        if self._decoder is None or type(head) is not torch.nn.Linear or head.bias is not None:
            return None
        if self.device.type != "cpu" or head.weight.dtype != torch.float32:
            return None
        return head.weight[: self.vocabulary]

    def check(self, tokens: Sequence[int], plain: Callable[..., Any] | None = None) -> str | None:
        """Compare packed forwards with plain ones on a few tokens; say what is wrong, or None if all agrees.

        A prefix, two documents with two branches each, and three decoding steps: every layout that is used later.
        They agree where they differ by no more than :data:`_EXACT`, or by no more than twice what plain forwards of
        the same tokens differ by among themselves as the length changes: in half precision sums are rounded otherwise
        for every shape.

        Args:
            plain: what to compare with, called as the model is; the model itself by default.
        """
        reason = _special(self.core)
        if reason:
            return reason
        plain = plain or self.core
        sequences = _check_sequences(tokens)
        reference = self._plain(plain, sequences)
        try:
            with self.attached():
                worst = self._compare(tokens, reference)
        except UnsupportedAttention as error:
            return str(error)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, NotImplementedError) as error:
            return f"its forward cannot be packed ({type(error).__name__}: {str(error).splitlines()[0][:120]})"
        except RuntimeError as error:
            from compatcheck.engines.hf.memory import is_out_of_memory

            if is_out_of_memory(error):
                raise
            return f"its forward cannot be packed ({str(error).splitlines()[0][:120]})"
        if worst <= _EXACT:
            return None
        spread = self._spread(plain, sequences, reference)
        if worst <= 2 * spread:
            return None
        return (
            f"packed forwards differ from plain ones by {worst:.2g} in log-probability, plain ones among themselves by "
            f"{spread:.2g}"
        )

    def _plain(self, plain: Callable[..., Any], sequences: Sequence[Sequence[int]]) -> list[Tensor]:
        """Log-probabilities (t, vocabulary) of sequences, from plain forwards of one at a time."""
        with torch.inference_mode():
            return [
                plain(input_ids=torch.tensor([sequence], device=self.device)).logits[0].float().log_softmax(-1)
                for sequence in sequences
            ]

    def _spread(
        self, plain: Callable[..., Any], sequences: Sequence[Sequence[int]], reference: Sequence[Tensor]
    ) -> float:
        """Largest difference between plain forwards of the same tokens that are followed by more or fewer others.

        What follows a token has no bearing on it but for rounding.
        """
        config = getattr(self.core.config, "text_config", None) or self.core.config
        most = int(getattr(config, "max_position_embeddings", None) or 2**20)
        found = [0.0]
        for more in (8, 17, 40, 96):
            for sequence, alone in zip(sequences, reference, strict=True):
                longer = [*sequence, *(list(sequence) * 4)[:more]]
                if len(longer) <= most:
                    (given,) = self._plain(plain, [longer])
                    found.append(_difference(given[: len(sequence)], alone))
        return max(found)

    def _compare(self, tokens: Sequence[int], reference: list[Tensor]) -> float:
        """Largest difference of packed forwards from ``reference``; NaN where there is one."""
        one, one_other, two, two_other = _check_sequences(tokens)
        third = len(tokens) // 3
        documents = tuple(
            Document(tuple(first[: 2 * third]), (
                Branch(0, (*first[2 * third :], 0)), Branch(1, (*second[2 * third :], 0)),
            ))
            for first, second in ((one, one_other), (two, two_other))
        )  # fmt: skip
        group = Group(third, documents)
        store = PrefixStore(third, max(document.size(third) for document in documents))
        forest = Forest([Part(group, documents, True, True)], {id(group): store}, self.device)
        rows = list(range(forest.tokens.shape[1]))
        packed = self._joined(forest, forest.tokens, forest.positions, rows)
        found: list[float] = []
        for document, (first, second) in enumerate(((0, 1), (2, 3))):
            for branch, number in enumerate((first, second)):
                start = forest.branch_starts[document][branch]
                own = packed[start : start + len(tokens) - 2 * third]
                found.append(_difference(own, reference[number][2 * third :]))
            end = forest.context_ends[document]
            found.append(_difference(packed[end - third + 1 : end + 1], reference[first][third : 2 * third]))
        buffers = RowBuffers(2, len(tokens))
        bare = tuple(Document(document.context) for document in documents)
        prefill = Forest(
            [Part(Group(third, bare), bare, True, False)], {}, self.device,
            sink=lambda layer, row, key, value: buffers.write_context(layer, row, key, value),
        )  # fmt: skip
        self._joined(prefill, prefill.tokens, prefill.positions, prefill.context_ends)
        for step in range(min(3, len(tokens) - 2 * third)):
            at = 2 * third + step
            layout = Rows([at - third] * 2, buffers, store, self.device)
            given = torch.tensor([[one[at], two[at]]], device=self.device)
            places = torch.full((1, 2), at, device=self.device)
            stepped = self._joined(layout, given, places, [0, 1])
            found += [_difference(stepped[row], reference[2 * row][at]) for row in (0, 1)]
        return float(torch.tensor(found).max())

    def _joined(self, layout: Layout, tokens: Tensor, positions: Tensor, rows: Sequence[int]) -> Tensor:
        return torch.cat(list(self.logits(layout, tokens, positions, rows))).float().log_softmax(-1)


def _difference(one: Tensor, two: Tensor) -> float:
    """Largest difference among the log-probabilities that are not vanishingly small."""
    two = two[..., : one.shape[-1]]
    return float((one - two).abs().masked_fill(two < -30, 0).max())


def _check_called(layout: Layout) -> None:
    if layout.calls == 0:
        raise UnsupportedAttention("its layers do not use the attention interface")


def _check_sequences(tokens: Sequence[int]) -> list[list[int]]:
    """Two contexts that share a third of the tokens, with two endings each, made of the same tokens."""
    tokens = list(tokens)
    third = len(tokens) // 3
    start, middle, end = tokens[:third], tokens[third : 2 * third], tokens[2 * third :]
    other = middle[::-1]
    return [start + middle + end, start + middle + end[::-1], start + other + end, start + other + end[::-1]]


def check_tokens(tokens: Sequence[int]) -> list[int]:
    """Tokens long enough to check with, from some that the tokenizer gave."""
    tokens = list(tokens) or [0]
    return (tokens * (_CHECK_TOKENS // len(tokens) + 1))[:_CHECK_TOKENS]


def longest_text(config: Any) -> int | None:
    """Longest sequence for which packed positions mean what plain ones do; None when there is no limit.

    A sliding window hides far tokens, and rotary embeddings that scale with the length would be told the longest text
    of a forward instead of each text's own.
    """
    config = getattr(config, "text_config", None) or config
    limits: list[int] = []
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):
        limits.append(int(window))
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, dict) else None
    if kind in ("dynamic", "longrope", "su"):
        original = rope.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        limits.append(int(original or getattr(config, "max_position_embeddings", None) or 0))
    return min(limits) if limits else None


def _special(core: Any) -> str | None:
    """What the configuration alone says against packing."""
    config = getattr(core.config, "text_config", None) or core.config
    if getattr(core.config, "is_encoder_decoder", False):
        return "it is an encoder-decoder"
    if not getattr(core, "_supports_attention_backend", False):
        return "its attention cannot be exchanged (recurrent state or an older implementation)"
    unknown = sorted(set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS)
    if unknown:
        return f"it has layers of the kind {', '.join(map(repr, unknown))}"
    devices = set((getattr(core, "hf_device_map", None) or {}).values())
    if len(devices) > 1:
        return "it is spread over several devices"
    if "position_ids" not in inspect.signature(core.forward).parameters:
        return "its forward takes no position_ids"
    return None


def _decoder_and_head(core: Any) -> tuple[Any, Any]:
    """The part that makes hidden states and the output layer, if together they make the model's logits."""
    try:
        decoder, head = core.get_decoder(), core.get_output_embeddings()
        if decoder is None or decoder is core or head is None:
            return None, None
        device = next(core.parameters()).device
        tokens = torch.tensor([[0, 1, 2, 3]], device=device)
        with torch.inference_mode():
            made = head(decoder(input_ids=tokens, use_cache=False).last_hidden_state)
            given = core(input_ids=tokens, use_cache=False).logits
    except (AttributeError, TypeError, RuntimeError, ValueError, IndexError, NotImplementedError):
        return None, None
    same = made.shape == given.shape and torch.allclose(made.float(), given.float(), rtol=1e-3, atol=1e-3)
    return (decoder, head) if same else (None, None)
