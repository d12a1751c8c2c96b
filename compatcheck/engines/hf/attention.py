"""Attention for forwards that see every token once.

Documents lie one after the other in a single row of tokens, without padding; which token may look at which is decided
here and not by a mask over the whole row. transformers lets an attention function be registered by name
(``AttentionInterface``) and then hands it the queries, keys and values of each layer and builds no mask of its own.

Two layouts: :class:`PrefixTree` (contexts with the branches that follow them, on top of a shared prefix) and
:class:`Rows` (one new token for each of several sequences whose keys and values lie in preallocated buffers).
Shapes below: H query heads, J key heads (H is a multiple of J), D head size, T tokens of the forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from compatcheck.engines.hf.packing import Document, Part

NAME = "compatcheck_packed"

_HARMLESS = frozenset(
    {"position_ids", "position_embeddings", "output_attentions", "output_hidden_states", "use_cache", "cache_position",
     "return_dict", "past_key_values", "past_key_value", "layer_head_mask", "num_items_in_batch", "token_type_ids",
     "max_length_q", "max_length_k", "seq_idx", "kwargs"}
)  # fmt: skip
_current: ContextVar[Layout | None] = ContextVar("compatcheck_attention_layout", default=None)


class UnsupportedAttention(Exception):
    """This architecture's attention asks for something the packed layouts do not do."""


class Layout(Protocol):
    """Which token sees which. ``longest`` is the length of the longest sequence, in positions."""

    longest: int
    calls: int

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Queries (1, H, T, D), keys and values (1, J, T, D) of one layer to outputs (1, T, H, D)."""


@contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """Attention called inside uses this layout."""
    token = _current.set(layout)
    try:
        yield
    finally:
        _current.reset(token)


def packed_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    scaling: float | None = None, dropout: float = 0.0, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """The function registered with transformers under :data:`NAME`. Raises UnsupportedAttention: a mask, bias, cap,
    sink or window that would change the result."""
    layout = _current.get()
    if layout is None:
        raise UnsupportedAttention("no layout is set")
    if attention_mask is not None:
        raise UnsupportedAttention("it builds an attention mask of its own")
    if dropout:
        raise UnsupportedAttention("it drops attention weights")
    for name, given in kwargs.items():
        if given is None or name in _HARMLESS:
            continue
        if name == "sliding_window":
            if layout.longest > int(given):
                raise UnsupportedAttention(f"a sliding window of {given} tokens is shorter than the text")
        elif name == "is_causal":
            if not given:
                raise UnsupportedAttention("it is not causal")
        elif given is not False:
            raise UnsupportedAttention(f"its attention uses '{name}'")
    layout.calls += 1
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    return layout.attend(id(module), query, key, value, scale), None


def _sdpa(query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None, causal: bool = False) -> Tensor:
    """(1, H, t, D) over (1, J, s, D) to (t, H, D)."""
    grouped = query.shape[1] != key.shape[1]
    if grouped and query.device.type != "cpu":
        # The fused kernels of accelerators take a mask or grouped heads, not both.
        repeats = query.shape[1] // key.shape[1]
        key, value, grouped = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1), False
    done = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
    )
    return done[0].transpose(0, 1)


@dataclass
class PrefixStore:
    """Keys and values of a shared prefix, per layer, with ``room`` free places behind it for a document's own."""

    length: int
    room: int
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def put(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keep the prefix's keys and values, (1, J, length, D)."""
        keys, values = (
            given.new_empty((1, given.shape[1], self.length + self.room, given.shape[3])) for given in (key, value)
        )
        keys[:, :, : self.length], values[:, :, : self.length] = key, value
        self.layers[layer] = keys, values

    def behind(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the prefix followed by these; valid until the next call for the layer."""
        end = self.length + key.shape[2]
        keys, values = self.layers[layer]
        keys[:, :, self.length : end], values[:, :, self.length : end] = key, value
        return keys[:, :, :end], values[:, :, :end]


Sink = Callable[[int, int, Tensor, Tensor], None]
"""Gets layer, number of the document in the forward, and the context's keys and values (J, t, D)."""


class _Span(NamedTuple):
    """One document in the row: where it starts, how many own context tokens, and the lengths of its branches."""

    start: int
    context: int
    branches: tuple[int, ...]
    size: int


class PrefixTree:
    """Contexts with branches, on top of shared prefixes; see :class:`~compatcheck.engines.hf.packing.Part`.

    ``tokens`` and ``positions`` are what the model is to be given. ``context_ends[i]`` is the place of the last context
    token of document ``i`` and ``branch_starts[i][j]`` the place of the first read token of its branch ``j``."""

    def __init__(
        self, parts: Sequence[Part], stores: dict[int, PrefixStore], device: torch.device, sink: Sink | None = None
    ) -> None:
        self.calls = self.longest = 0
        self._stores, self._sink, self._device = stores, sink, device
        self._masks: dict[tuple[int, int, tuple[int, ...]], tuple[Tensor | None, Tensor | None]] = {}
        self.context_ends: list[int] = []
        self.branch_starts: list[list[int]] = []
        tokens: list[int] = []
        positions: list[int] = []
        self._parts: list[tuple[Part, int, list[_Span]]] = []
        for part in parts:
            prefix, start = part.group.prefix, len(tokens)
            if part.encode_prefix:
                tokens.extend(part.group.prefix_tokens)
                positions.extend(range(prefix))
            spans = [self._place(document, prefix, tokens, positions) for document in part.documents]
            self._parts.append((part, start, spans))
        self.tokens = torch.tensor([tokens], device=device)
        self.positions = torch.tensor([positions], device=device)

    def _place(self, document: Document, prefix: int, tokens: list[int], positions: list[int]) -> _Span:
        start, length = len(tokens), len(document.context)
        tokens.extend(document.context[prefix:])
        positions.extend(range(prefix, length))
        self.context_ends.append(len(tokens) - 1)
        self.longest = max(self.longest, length)
        starts, lengths = [], []
        for branch in document.branches:
            starts.append(len(tokens))
            read = len(branch.tokens) - 1
            tokens.extend(branch.tokens[:-1])
            positions.extend(range(length, length + read))
            self.longest = max(self.longest, length + read)
            lengths.append(read)
        self.branch_starts.append(starts)
        return _Span(start, length - prefix, tuple(lengths), len(tokens) - start)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See :class:`Layout`."""
        out = query.new_empty((1, query.shape[2], query.shape[1], value.shape[3]))
        number = 0
        for part, start, spans in self._parts:
            prefix = part.group.prefix
            store = self._stores.get(id(part.group))
            if part.encode_prefix:
                end = start + prefix
                own = key[:, :, start:end], value[:, :, start:end]
                out[0, start:end] = _sdpa(query[:, :, start:end], *own, scale, None, causal=True)
                if store is None or not part.keep:
                    store = PrefixStore(prefix, max((span.size for span in spans), default=0))
                store.put(layer, *own)
            for span in spans:
                begin, middle, end = span.start, span.start + span.context, span.start + span.size
                keys, values = key[:, :, begin:end], value[:, :, begin:end]
                if self._sink is not None:
                    self._sink(layer, number, keys[0, :, : span.context], values[0, :, : span.context])
                if prefix:
                    assert store is not None
                    keys, values = store.behind(layer, keys, values)
                seen = prefix + span.context
                over_context, over_branches = self._mask(prefix, span, query.dtype)
                out[0, begin:middle] = _sdpa(
                    query[:, :, begin:middle], keys[:, :, :seen], values[:, :, :seen], scale, over_context,
                    causal=not prefix and span.context > 1,
                )  # fmt: skip
                if end > middle:
                    out[0, middle:end] = _sdpa(query[:, :, middle:end], keys, values, scale, over_branches)
                number += 1
        return out

    def _mask(self, prefix: int, span: _Span, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """What the own context sees, (c, prefix + c), and what the branches see, (b, prefix + c + b); made once."""
        name = (prefix, span.context, span.branches)
        if name not in self._masks:
            over_context = over_branches = None
            before, total = prefix + span.context, sum(span.branches)
            if prefix and span.context > 1:
                hidden = torch.full((span.context, before), float("-inf"), dtype=dtype, device=self._device)
                over_context = hidden.triu(prefix + 1)
            if total:
                over_branches = torch.full((total, before + total), float("-inf"), dtype=dtype, device=self._device)
                over_branches[:, :before] = 0
                at = 0
                for length in span.branches:
                    block = slice(at, at + length), slice(before + at, before + at + length)
                    over_branches[block] = over_branches[block].triu(1)
                    at += length
            self._masks[name] = over_context, over_branches
        return self._masks[name]


class RowBuffers:
    """Preallocated keys and values of up to ``rows`` sequences of up to ``room`` tokens, per layer."""

    def __init__(self, rows: int, room: int) -> None:
        self.rows, self.room = rows, room
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def write_context(self, layer: int, row: int, key: Tensor, value: Tensor) -> None:
        """Put a sequence's first keys and values, (J, t, D)."""
        if layer not in self.layers:
            self.layers[layer] = (
                key.new_zeros((self.rows, key.shape[0], self.room, key.shape[2])),
                value.new_zeros((self.rows, value.shape[0], self.room, value.shape[2])),
            )
        keys, values = self.layers[layer]
        keys[row, :, : key.shape[1]] = key
        values[row, :, : value.shape[1]] = value

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` places of one row to another."""
        for keys, values in self.layers.values():
            keys[target, :, :length] = keys[source, :, :length]
            values[target, :, :length] = values[source, :, :length]


class Rows:
    """One new token for each of the first n rows of the buffers, each seeing the shared prefix and its own row.

    The prefix is read once for all rows; nothing is copied but the new keys and values."""

    def __init__(
        self, lengths: Sequence[int], buffers: RowBuffers, store: PrefixStore | None, device: torch.device
    ) -> None:
        self.calls = 0
        self._buffers, self._store = buffers, store
        self._seen = max(lengths) + 1
        self.longest = self._seen + (store.length if store else 0)
        self._row = torch.arange(len(lengths), device=device)
        self._at = torch.tensor(lengths, device=device)
        place = torch.arange(self._seen, device=device)
        self._hidden = (place[None, :] > self._at[:, None])[:, None, None, :]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See :class:`Layout`."""
        n, size = query.shape[2], query.shape[3]
        heads = key.shape[1]
        group = query.shape[1] // heads
        keys, values = self._buffers.layers[layer]
        keys[self._row, :, self._at] = key[0].transpose(0, 1)
        values[self._row, :, self._at] = value[0].transpose(0, 1)
        query = query[0].unflatten(0, (heads, group)) * scale  # (J, H/J, n, D)
        own_keys = keys[:n].flatten(0, 1)[:, : self._seen]
        own_values = values[:n].flatten(0, 1)[:, : self._seen]
        scores = torch.bmm(query.permute(2, 0, 1, 3).reshape(n * heads, group, size), own_keys.transpose(1, 2))
        scores = scores.view(n, heads, group, self._seen).masked_fill(self._hidden, float("-inf"))
        if self._store is None:
            weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
            done = torch.bmm(weights.view(n * heads, group, self._seen), own_values)
            return done.view(1, n, heads * group, -1)
        shared_keys, shared_values = (given[0, :, : self._store.length] for given in self._store.layers[layer])
        shared = torch.bmm(query.reshape(heads, group * n, size), shared_keys.transpose(1, 2))
        shared = shared.view(heads, group, n, -1).permute(2, 0, 1, 3)  # (n, J, H/J, P)
        weights = torch.cat([shared, scores], -1).softmax(-1, dtype=torch.float32).to(query.dtype)
        over_shared, over_own = weights.split([self._store.length, self._seen], -1)
        done = torch.bmm(over_own.reshape(n * heads, group, self._seen), own_values).view(n, heads, group, -1)
        rows = over_shared.permute(1, 2, 0, 3).reshape(heads, group * n, -1)
        from_shared = torch.bmm(rows, shared_values).view(heads, group, n, -1).permute(2, 0, 1, 3)
        return (done + from_shared).reshape(1, n, heads * group, -1)
