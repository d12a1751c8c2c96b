"""The choices of a document begin alike: what they share is computed once.

The rows of a document become one sequence, the common beginning and then what each row adds. Positions count on from
the beginning for every row, and the attention mask lets a token see the beginning and its own row, as in tree
attention (Cai et al. 2024, Medusa). The hidden states are those of separate rows up to rounding, for a fraction of the
tokens: 0.4 of them for the four endings of the fixtures' hellaswag documents.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from compatcheck.engines.hf.head import Through
from compatcheck_train.batches import Batch, Item

KNOWN = frozenset(
    ["cohere", "gemma", "gpt2", "gpt_neox", "granite", "llama", "mistral", "olmo", "olmo2", "phi", "phi3", "qwen2",
     "qwen3", "smollm3", "stablelm", "starcoder2"]
)  # fmt: skip
"""Model types whose attention takes any mask and whose positions are arguments. Tests hold each against rows."""
_LONGEST = 4096
"""Tokens of one sequence, whose mask has the square of as many entries."""
_WORTH = 0.8
"""Share of the rows' tokens that may be left at most; else the mask costs more than it saves."""


def trained_states(decoder: Any, batch: Batch, shared: bool = True) -> Tensor:
    """The hidden states at the trained positions of a micro-batch (N, d), as ``decoder`` makes them; ``shared``: common
    beginnings are computed once, where the model is known to allow it and it saves a fifth at least."""
    alone = isinstance(decoder, Through)  # an activated adapter looks for its beginning in every row
    tree = tree_of(batch) if shared and not alone and allows(decoder.config) else None
    inputs, select = tree or ({"input_ids": batch.ids}, batch.select)
    hidden: Tensor = decoder(**inputs, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1).index_select(0, select)


def allows(config: Any) -> bool:
    """Whether a model computes the same with a mask and positions of our own: a known type, full attention in every
    layer, through torch's ``scaled_dot_product_attention``."""
    kinds = getattr(config, "layer_types", None)
    whole = set(kinds) == {"full_attention"} if kinds else not getattr(config, "sliding_window", None)
    return config.model_type in KNOWN and getattr(config, "_attn_implementation", None) == "sdpa" and whole


def tree_of(batch: Batch) -> tuple[dict[str, Tensor], Tensor] | None:
    """The rows of a micro-batch as one sequence a document, B of L tokens: a decoder's inputs (tokens and positions (B,
    L), a mask (B, 1, L, L) that says which token (column) each token (row) sees), and the trained positions in the
    flattened (B, L), in the order of the rows' (N,). None where that saves too little."""
    made = [_merged(item) for item in batch.items]
    length = max(len(tokens) for tokens, *_ in made)
    if length > _LONGEST or len(made) * length > _WORTH * batch.ids.numel():
        return None
    ids, positions, branch = (
        pad_sequence([torch.tensor(each[part]) for each in made], batch_first=True, padding_value=(0, 0, -2)[part])
        for part in range(3)
    )
    own = (branch[:, None, :] == branch[:, :, None]) | (branch[:, None, :] == -1)
    mask = own & torch.ones(length, length, dtype=torch.bool).tril()
    diagonal = torch.arange(length)
    mask[:, diagonal, diagonal] = True  # padding sees itself: a token that sees nothing would be NaN
    places = [[n * length + place for place in row] for n, (*_, rows) in enumerate(made) for row in rows]
    select = [places[row][step - 1] for row, step in zip(batch.rows.tolist(), batch.steps.tolist(), strict=True)]
    inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask[:, None]}
    device = batch.ids.device
    return {name: each.to(device) for name, each in inputs.items()}, torch.tensor(select, device=device)


def _merged(item: Item) -> tuple[list[int], list[int], list[int], list[list[int]]]:
    """One document: its tokens, the position of each and the row that it belongs to (−1: all of them); and for every
    row where its tokens are among them."""
    rows = [row.ids for row in item.rows]
    apart = (number for number, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1)
    common = next(apart, min(map(len, rows))) if len(rows) > 1 else 0
    tokens, positions, branch, places = list(rows[0][:common]), list(range(common)), [-1] * common, []
    for number, row in enumerate(rows):
        own = range(len(tokens), len(tokens) + len(row) - common)
        places.append([*range(common), *own])
        tokens += row[common:]
        positions += range(common, len(row))
        branch += [number] * len(own)
    return tokens, positions, branch, places
