"""A causal model run on packed tokens: hidden states once, logits only at the rows that are needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from compatcheck.engines.hf import attention
from compatcheck.engines.hf.attention import Layout, PrefixStore, PrefixTree, RowBuffers, Rows, UnsupportedAttention
from compatcheck.engines.hf.memory import is_out_of_memory
from compatcheck.engines.hf.packing import Branch, Document, Group, Part

_CHECK_TOKENS = 24
_EXACT = 1e-3
"""Difference in log-probability up to which packed and plain forwards are the same, whatever the dtype."""
_LOGITS_AT_ONCE = 2**21
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_FAILURES = (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError, NotImplementedError)


class Runner:
    """Runs ``core``, a transformers causal language model (adapters injected), on packed layouts."""

    def __init__(self, core: Any, device: torch.device) -> None:
        AttentionInterface.register(attention.NAME, attention.packed_attention)  # twice is harmless
        self.core, self.device = core, device
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
        """Logits at some places of the row of tokens (``rows``, ascending), in pieces (r, vocabulary) one after the
        other; ``tokens`` and ``positions`` are (1, T)."""
        if self._decoder is None:
            index = torch.tensor(rows, device=self.device)
            yield self._call(self.core, layout, tokens, positions, logits_to_keep=index).logits[0]
            return
        hidden = self.hidden(layout, tokens, positions, rows)
        width = self._head.weight.shape[0] if hasattr(self._head, "weight") else self.core.config.vocab_size
        for piece in hidden.split(max(32, _LOGITS_AT_ONCE // width)):
            yield self._head(piece)

    def hidden(self, layout: Layout, tokens: Tensor, positions: Tensor, rows: Sequence[int]) -> Tensor:
        """Hidden states (r, hidden size) that the output layer reads, at some places of the row of tokens."""
        states: Tensor = self._call(self._decoder, layout, tokens, positions).last_hidden_state[0]
        return states[torch.tensor(rows, device=self.device)]

    def _call(self, model: Any, layout: Layout, tokens: Tensor, positions: Tensor, **more: Any) -> Any:
        with attention.laid_out(layout):
            out = model(input_ids=tokens, position_ids=positions, use_cache=False, **more)
        if layout.calls == 0:
            raise UnsupportedAttention("its layers do not use the attention interface")
        return out

    @property
    def gives_states(self) -> bool:
        """Whether hidden states can be had apart from logits."""
        return self._decoder is not None

    def output_weight(self) -> Tensor | None:
        """Weight (vocabulary, hidden size) of an output layer that is one float32 matrix product on a CPU, else None.

        There it pays to apply it to a part of the vocabulary at a time: the logits stay in the caches."""
        head = self._head
        if self._decoder is None or type(head) is not torch.nn.Linear or head.bias is not None:
            return None
        return head.weight if self.device.type == "cpu" and head.weight.dtype == torch.float32 else None

    def check(self, tokens: Sequence[int], plain: Callable[..., Any] | None = None) -> str | None:
        """Compare packed forwards with plain ones on a few tokens; say what is wrong, or None if all agrees.

        A prefix, two documents with two branches each, and three decoding steps: every layout that is used later.
        They agree where they differ by no more than :data:`_EXACT`, or by no more than twice what plain forwards of
        the same tokens differ by among themselves as the length changes: in half precision sums are rounded otherwise
        for every shape. Some processors round them alike, so one rounding of the largest logit counts as such a
        difference. ``plain`` is what to compare with, called as the model is; by default the model itself."""
        if reason := _special(self.core):
            return reason
        sequences = _check_sequences(tokens)

        def logits(sequence: Sequence[int]) -> Tensor:
            with torch.inference_mode():
                found: Tensor = (plain or self.core)(input_ids=torch.tensor([sequence], device=self.device)).logits[0]
            return found.float()

        def log_probabilities(sequence: Sequence[int]) -> Tensor:
            return logits(sequence).log_softmax(-1)

        reference = [log_probabilities(sequence) for sequence in sequences]
        try:
            with self.attached():
                worst = self._compare(sequences, reference)
        except UnsupportedAttention as error:
            return str(error)
        except _FAILURES as error:
            if is_out_of_memory(error):
                raise
            name = "" if type(error) is RuntimeError else f"{type(error).__name__}: "
            return f"its forward cannot be packed ({name}{str(error).splitlines()[0][:120]})"
        if worst <= _EXACT:
            return None
        # Plain forwards of the same tokens, followed by more or fewer others, which has no bearing but for rounding.
        most = int(getattr(self.core.config.get_text_config(), "max_position_embeddings", None) or 2**20)
        spread = torch.finfo(self.core.dtype).eps * float(logits(sequences[0]).abs().max())
        for more in (8, 17, 40, 96):
            for sequence, alone in zip(sequences, reference, strict=True):
                longer = [*sequence, *(list(sequence) * 4)[:more]]
                if len(longer) <= most:
                    spread = max(spread, _difference(log_probabilities(longer)[: len(sequence)], alone))
        if worst <= 2 * spread:
            return None
        return (
            f"packed forwards differ from plain ones by {worst:.2g} in log-probability, plain ones among themselves by "
            f"{spread:.2g}"
        )

    def _compare(self, sequences: Sequence[list[int]], reference: list[Tensor]) -> float:
        """Largest difference of packed forwards from ``reference``; NaN where there is one."""
        one, one_other, two, two_other = sequences
        third = len(one) // 3
        documents = tuple(
            Document(tuple(first[: 2 * third]), tuple(
                Branch(number, (*tokens[2 * third :], 0)) for number, tokens in enumerate((first, second))
            ))
            for first, second in ((one, one_other), (two, two_other))
        )  # fmt: skip
        group = Group(third, documents)
        store = PrefixStore(third, max(document.size(third) for document in documents))
        tree = PrefixTree([Part(group, documents, True, True)], {id(group): store}, self.device)
        packed = self._joined(tree, tree.tokens, tree.positions, range(tree.tokens.shape[1]))
        found: list[float] = []
        for document in (0, 1):
            for branch in (0, 1):
                start = tree.branch_starts[document][branch]
                own = packed[start : start + len(one) - 2 * third]
                found.append(_difference(own, reference[2 * document + branch][2 * third :]))
            end = tree.context_ends[document]
            context = packed[end - third + 1 : end + 1]
            found.append(_difference(context, reference[2 * document][third : 2 * third]))
        buffers = RowBuffers(2, len(one))
        bare = tuple(Document(document.context) for document in documents)
        parts = [Part(Group(third, bare), bare, True, False)]
        prefill = PrefixTree(parts, {}, self.device, sink=buffers.write_context)
        self._joined(prefill, prefill.tokens, prefill.positions, prefill.context_ends)
        for at in range(2 * third, min(2 * third + 3, len(one))):
            layout = Rows([at - third] * 2, buffers, store, self.device)
            given = torch.tensor([[one[at], two[at]]], device=self.device)
            stepped = self._joined(layout, given, torch.full((1, 2), at, device=self.device), [0, 1])
            found += [_difference(stepped[row], reference[2 * row][at]) for row in (0, 1)]
        return float(torch.tensor(found).max())

    def _joined(self, layout: Layout, tokens: Tensor, positions: Tensor, rows: Sequence[int]) -> Tensor:
        return torch.cat(list(self.logits(layout, tokens, positions, rows))).float().log_softmax(-1)


def _difference(one: Tensor, two: Tensor) -> float:
    """Largest difference among the log-probabilities that are not vanishingly small."""
    return float((one - two).abs().masked_fill(two < -30, 0).max())


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
    of a forward instead of each text's own."""
    config = config.get_text_config()
    limits: list[int] = []
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):
        limits.append(int(window))
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, dict) else None
    if kind in ("dynamic", "longrope", "su"):
        original = rope.get("original_max_position_embeddings")
        for name in ("original_max_position_embeddings", "max_position_embeddings"):
            original = original or getattr(config, name, None)
        limits.append(int(original or 0))
    return min(limits) if limits else None


def _special(core: Any) -> str | None:
    """What the configuration alone says against packing."""
    if getattr(core.config, "is_encoder_decoder", False):
        return "it is an encoder-decoder"
    if not getattr(core, "_supports_attention_backend", False):
        return "its attention cannot be exchanged (recurrent state or an older implementation)"
    if unknown := sorted(set(getattr(core.config.get_text_config(), "layer_types", None) or ()) - _KNOWN_LAYERS):
        return f"it has layers of the kind {', '.join(map(repr, unknown))}"
    if len(set((getattr(core, "hf_device_map", None) or {}).values())) > 1:
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
        tokens = torch.tensor([[0, 1, 2, 3]], device=next(core.parameters()).device)
        with torch.inference_mode():
            made = head(decoder(input_ids=tokens, use_cache=False).last_hidden_state)
            given = core(input_ids=tokens, use_cache=False).logits
    except _FAILURES:
        return None, None
    same = made.shape == given.shape and torch.allclose(made.float(), given.float(), rtol=1e-3, atol=1e-3)
    return (decoder, head) if same else (None, None)
