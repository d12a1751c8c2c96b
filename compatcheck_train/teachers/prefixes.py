"""The choices of a document begin alike: what they share is computed once.

The rows of a document become one sequence, the common beginning and then what each row adds. Positions count on from
the beginning for every row, and the attention mask lets a token see the beginning and its own row, as in tree
attention (Cai et al. 2024, Medusa). The hidden states are those of separate rows up to rounding, for a fraction of the
tokens: 0.4 of them for the four endings of the fixtures' hellaswag documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compatcheck_train.batches import Batch, Item
from compatcheck_train.loss.head import Through

KNOWN = frozenset(
    ["cohere", "gemma", "gpt2", "gpt_neox", "granite", "llama", "mistral", "olmo", "olmo2", "phi", "phi3", "qwen2",
     "qwen3", "smollm3", "stablelm", "starcoder2"]
)  # fmt: skip
"""Model types whose attention takes any mask and whose positions are arguments. Tests hold each against rows."""
_LONGEST = 4096
"""Tokens of one sequence, whose mask has the square of as many entries."""
_WORTH = 0.8
"""Share of the rows' tokens that may be left at most; else the mask costs more than it saves."""


@dataclass(frozen=True)
class Tree:
    """B sequences of L tokens: ``ids`` and ``positions`` (B, L); ``mask`` (B, 1, L, L) says which token (column) each
    token (row) sees; ``select`` (N,) are the trained positions in the flattened (B, L), in the order of the rows'."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    select: Tensor


def trained_states(decoder: Any, batch: Batch, shared: bool = True) -> Tensor:
    """The hidden states at the trained positions of a micro-batch (N, d), as ``decoder`` makes them; ``shared``: common
    beginnings are computed once, where the model is known to allow it and it saves a fifth at least."""
    alone = isinstance(decoder, Through)  # an activated adapter looks for its beginning in every row
    tree = tree_of(batch) if shared and not alone and allows(decoder.config) else None
    if tree is None:
        inputs, select = {"input_ids": batch.ids}, batch.select
    else:
        inputs = {"input_ids": tree.ids, "position_ids": tree.positions, "attention_mask": tree.mask}
        select = tree.select
    hidden: Tensor = decoder(**inputs, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1).index_select(0, select)


def allows(config: Any) -> bool:
    """Whether a model computes the same with a mask and positions of our own: a known type, full attention in every
    layer, through torch's ``scaled_dot_product_attention``."""
    kinds = getattr(config, "layer_types", None)
    whole = set(kinds) == {"full_attention"} if kinds else not getattr(config, "sliding_window", None)
    return config.model_type in KNOWN and getattr(config, "_attn_implementation", None) == "sdpa" and whole


def tree_of(batch: Batch) -> Tree | None:
    """The rows of a micro-batch by document; None where that saves too little."""
    made = [_merged(item) for item in batch.items]
    length = max(len(ids) for ids, _, _ in made)
    if length > _LONGEST or len(made) * length > _WORTH * batch.ids.numel():
        return None
    shape = (len(made), length)
    ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    branch = torch.full(shape, -2)  # of every token: the row that it belongs to, −1 for the beginning, −2 for padding
    starts: list[tuple[int, int]] = []
    for number, (item, (tokens, common, begins)) in enumerate(zip(batch.items, made, strict=True)):
        ids[number, : len(tokens)] = torch.tensor(tokens)
        positions[number, :common] = torch.arange(common)
        branch[number, :common] = -1
        for place, (row, begin) in enumerate(zip(item.rows, begins, strict=True)):
            end = begin + len(row.ids) - common
            positions[number, begin:end] = torch.arange(common, len(row.ids))
            branch[number, begin:end] = place
            starts.append((number * length + begin - common, number * length))
    before = torch.ones(length, length, dtype=torch.bool).tril()
    own = (branch[:, None, :] == branch[:, :, None]) | (branch[:, None, :] == -1)
    mask = own & before
    diagonal = torch.arange(length)
    mask[:, diagonal, diagonal] = True  # padding sees itself: a token that sees nothing would be NaN
    # the trained positions: in the common beginning where they lie there, else in what their row adds
    rows, at = batch.rows.cpu(), batch.steps.cpu() - 1
    common_of = torch.tensor(
        [common for item, (_, common, _) in zip(batch.items, made, strict=True) for _ in item.rows]
    )
    own_at, shared_at = torch.tensor(starts)[rows].unbind(-1)
    select = torch.where(at < common_of[rows], shared_at + at, own_at + at)
    device = batch.ids.device
    return Tree(ids.to(device), positions.to(device), mask[:, None].to(device), select.to(device))


def _merged(item: Item) -> tuple[list[int], int, list[int]]:
    """The tokens of one document, how many of them all rows share, and where what each row adds begins."""
    rows = [row.ids for row in item.rows]
    apart = (number for number, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1)
    common = next(apart, min(map(len, rows))) if len(rows) > 1 else 0
    tokens, begins = list(rows[0][:common]), []
    for row in rows:
        begins.append(len(tokens))
        tokens += row[common:]
    return tokens, common, begins
