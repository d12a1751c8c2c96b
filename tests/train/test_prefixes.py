"""Common beginnings computed once: the same hidden states and gradients as separate rows."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from compatcheck.engines.hf.head import decoder_of
from compatcheck_train.batches import Batch, Item, Row, collate
from compatcheck_train.examples import Example
from compatcheck_train.teachers.prefixes import KNOWN, allows, trained_states, tree_of

VOCABULARY = 50
EXAMPLE = Example("0", (("", ""),), 0)


def item(rng: random.Random, common: int, *rests: int) -> Item:
    """A document whose rows share ``common`` tokens; the answer is what each adds."""
    start = tuple(rng.randrange(VOCABULARY) for _ in range(common))
    rows = tuple(
        # the first token that a row adds is its own, so that no more than ``common`` are shared
        Row((*start, number, *(rng.randrange(VOCABULARY) for _ in range(rest - 1))), common, False, "", "")
        for number, rest in enumerate(rests)
    )
    return Item("choices", rows, 0, EXAMPLE)


def batch_of(context_weight: float = 0.0) -> Batch:
    rng = random.Random(1)
    return collate([item(rng, 9, 3, 5, 1, 4), item(rng, 12, 2, 2, 6, 3), item(rng, 7, 4)], 0, context_weight)


def tiny(kind: str, **more: Any) -> Any:
    """A random decoder of a type, in float64."""
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sliding_window": None, "use_sliding_window": False,
    }  # fmt: skip
    if kind == "gpt2":
        shape = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**shape, **more})).double().eval()
    return decoder_of(model)


def assert_near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Within 1e-4 of the largest entry: norms of some types compute in float32, whatever the dtype."""
    assert float((ours - theirs).abs().max()) <= 1e-4 * float(theirs.abs().max())


@pytest.mark.parametrize("kind", sorted(KNOWN))
@pytest.mark.parametrize("context_weight", [0.0, 0.5])
def test_states_and_gradients_are_those_of_separate_rows(kind: str, context_weight: float) -> None:
    decoder, batch = tiny(kind), batch_of(context_weight)
    assert allows(decoder.config)
    found = []
    for shared in (False, True):
        decoder.zero_grad()
        states = trained_states(decoder, batch, shared)
        (states * torch.linspace(-1, 1, states.numel(), dtype=torch.float64).view_as(states)).sum().backward()
        found.append((states.detach(), {n: p.grad for n, p in decoder.named_parameters() if p.grad is not None}))
    (rows, rows_grad), (tree, tree_grad) = found
    assert len(rows) == len(batch.targets) > 20
    assert_near(tree, rows)
    assert rows_grad.keys() == tree_grad.keys()
    for name, gradient in rows_grad.items():
        assert_near(tree_grad[name], gradient)


def test_a_beginning_is_computed_once() -> None:
    tree = tree_of(batch_of())
    assert tree is not None
    ids, mask = tree[0]["input_ids"], tree[0]["attention_mask"]
    assert ids.shape == (3, 25)  # 12 in common and 2 + 2 + 6 + 3; as rows 9 × 18
    assert not mask[0, 0, 12:17, 9:12].any(), "a row sees another"
    assert mask[0, 0, 12:17, :9].all()


def test_rows_with_nothing_in_common_stay_rows() -> None:
    rng = random.Random(2)
    assert tree_of(collate([item(rng, 0, 6, 6, 6)], 0, 0.0)) is None
    assert tree_of(collate([item(rng, 8, 5), item(rng, 8, 6)], 0, 0.0)) is None


def test_equal_rows_and_one_that_begins_as_another() -> None:
    rng = random.Random(3)
    one = item(rng, 10, 4)
    longer = replace(one.rows[0], ids=(*one.rows[0].ids, 7, 8))
    batch = collate([replace(one, rows=(one.rows[0], longer, one.rows[0]))], 0, 0.0)
    decoder = tiny("llama")
    assert tree_of(batch) is not None
    torch.testing.assert_close(trained_states(decoder, batch), trained_states(decoder, batch, False))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("mistral", {"sliding_window": 8}),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0}),
        ("gemma2", {"sliding_window": 8}),
        ("llama", {"attn_implementation": "eager"}),
    ],
)
def test_other_models_compute_rows(kind: str, more: dict[str, Any]) -> None:
    decoder = tiny(kind, **more)
    assert not allows(decoder.config)
    batch = batch_of()
    assert torch.equal(trained_states(decoder, batch), trained_states(decoder, batch, False))
