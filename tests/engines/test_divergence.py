"""The divergence from hidden states against a plain computation in float64 from the model's own logits."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compatcheck.engines import open_engine
from compatcheck.engines.hf import divergence
from compatcheck.engines.hf.divergence import States, compare_states
from compatcheck.engines.hf.head import Head
from compatcheck.engines.hf.kept_states import KeptStates, blocks
from compatcheck.engines.hf.states import Text, output_layer
from compatcheck.errors import InputError

Folder = Callable[[str], Path]
NEAR = 1e-5
"""Nats."""
KINDS = ["llama", "qwen2", "mistral", "gpt2", "granite", "gemma2", "mamba", "bloom"]


def texts(vocabulary: int, count: int = 7, longest: int = 50, shared: int = 0) -> list[Text]:
    rng = random.Random(3)
    begin = [rng.randrange(2, vocabulary) for _ in range(shared)]
    found = []
    for _ in range(count):
        own = [rng.randrange(2, vocabulary) for _ in range(rng.randrange(4, longest))]
        found.append(Text((*begin, *own), len(begin) + rng.randrange(1, 3)))
    return found


def log_probabilities(engine: Any, text: Text) -> Tensor:
    """The model's own, where each token that counts is predicted."""
    with torch.inference_mode():
        given = engine.model(input_ids=torch.tensor([text.tokens])).logits[0]
    return given.double().log_softmax(-1)[text.start - 1 : -1]


def plain(old: Any, new: Any, given: list[Text]) -> tuple[Tensor, Tensor, Tensor]:
    """KL and both log-probabilities of what follows, in float64."""
    one, other = (torch.cat([log_probabilities(engine, text) for text in given]) for engine in (old, new))
    follows = torch.tensor([token for text in given for token in text.tokens[text.start :]])[:, None]
    kl = (one.exp() * (one - other)).sum(-1)
    return kl, one.gather(-1, follows)[:, 0], other.gather(-1, follows)[:, 0]


def compared(old: Any, new: Any, given: list[Text]) -> divergence.Compared:
    sides = [States(engine.states(given), output_layer(engine, given[0].tokens).part) for engine in (old, new)]
    follows = torch.tensor([token for text in given for token in text.tokens[text.start :]])
    return compare_states(*sides, follows, output_layer(old, given[0].tokens).vocabulary)


def shaken(folder: Path, into: Path, by: float = 0.05) -> Path:
    """A model with all weights a little off."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * parameter.std() * torch.randn_like(parameter) if parameter.numel() > 1 else 0)
    model.save_pretrained(into)
    AutoTokenizer.from_pretrained(folder).save_pretrained(into)
    return into


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_is_as_computed_in_float64(kind: str, model_folder: Folder, tmp_path: Path) -> None:
    old = open_engine("hf", model_folder(kind), dtype="float32")
    new = open_engine("hf", shaken(model_folder(kind), tmp_path / "new"), dtype="float32")
    given = texts(300, shared=30)
    found, (kl, one, other) = compared(old, new, given), plain(old, new, given)
    assert float(kl.mean()) > 1e-4  # there is something to find
    for mine, expected in ((found.kl, kl), (found.old, one), (found.new, other)):
        assert float((mine - expected).abs().max()) < NEAR


def test_what_the_prefix_is_shared_with_has_no_bearing(model_folder: Folder) -> None:
    engine = open_engine("hf", model_folder("llama"), dtype="float32")
    given = texts(300, count=12, shared=60)
    together = engine.states(given)
    alone = torch.cat([engine.states([text]) for text in given])
    assert float((together - alone).abs().max()) < 1e-4
    engine.tokens_at_once = 150
    assert float((engine.states(given) - alone).abs().max()) < 1e-4


def test_a_model_beside_itself_diverges_by_nothing_at_all(model_folder: Folder) -> None:
    engine = open_engine("hf", model_folder("llama"), dtype="float32")
    found = compared(engine, engine, texts(300))
    assert float(found.kl.max()) == 0.0
    assert torch.equal(found.top_old, found.top_new)
    assert torch.equal(found.old, found.new)


def test_adapters_are_read_as_they_are_active(
    model_folder: Folder, adapter_folders: dict[str, Path], tmp_path: Path
) -> None:
    """Those of the fixture are on all linear layers, and one of its own is on the output layer."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(4)
    on_head = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model_folder("llama")),
        LoraConfig(r=2, target_modules=["lm_head", "q_proj"], init_lora_weights=False),
    )
    on_head.save_pretrained(tmp_path / "head")
    given, base = texts(300), open_engine("hf", model_folder("llama"), dtype="float32")
    for folder in (adapter_folders["old"], tmp_path / "head"):
        own = open_engine("hf", model_folder("llama"), {"own": folder}, dtype="float32")
        found, (kl, *_) = compared(base, own, given), plain(base, own, given)
        assert float((found.kl - kl).abs().max()) < NEAR
        assert float(kl.max()) > 0.01


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_compared_from_its_hidden_states(dtype: str, model_folder: Folder, tmp_path: Path) -> None:
    """Logits themselves are made in float32: the same states in float64 give the same."""
    old = open_engine("hf", model_folder("llama"), dtype=dtype)
    new = open_engine("hf", shaken(model_folder("llama"), tmp_path / "new"), dtype=dtype)
    given = texts(300)
    found = compared(old, new, given)
    logits = [
        (engine.states(given).double() @ output_layer(engine, given[0].tokens).weight.double().T).log_softmax(-1)
        for engine in (old, new)
    ]
    kl = (logits[0].exp() * (logits[0] - logits[1])).sum(-1)
    assert float((found.kl - kl).abs().max()) < NEAR


SHAPES = st.tuples(st.integers(1, 40), st.integers(2, 700), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.sampled_from([(1.0, None), (0.5, None), (1.0, 5.0)]), st.booleans(), st.floats(0.01, 30))
def test_blocks_of_any_size_give_the_whole(
    shape: tuple[int, ...], head: tuple[float, float | None], bias: bool, spread: float
) -> None:
    count, vocabulary, width_old, width_new, seed = shape
    torch.manual_seed(seed)
    sides, logits = [], []
    for width in (width_old, width_new):
        own = Head(torch.randn(vocabulary, width), torch.randn(vocabulary) if bias else None, *head)
        hidden = spread * torch.randn(count, width) / width**0.5
        wide = Head(own.weight.double(), None if own.bias is None else own.bias.double(), *head)
        sides.append(States(hidden, own.part))
        logits.append(wide.logits(hidden.double()).log_softmax(-1))
    follows = torch.randint(0, vocabulary, (count,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(divergence, "VOCABULARY_BLOCK", 97)
        patch.setattr(divergence, "ROWS", {"cpu": 7})
        found = compare_states(*sides, follows, vocabulary)
    one, other = logits
    kl = (one.exp() * (one - other)).sum(-1)
    near = NEAR * (1 + float(one.abs().max().clamp(max=100)))  # log-probabilities of −100 are known to as many digits
    assert float((found.kl - kl).abs().max()) < near
    assert float((found.old - one.gather(-1, follows[:, None])[:, 0]).abs().max()) < near
    for top, expected, at_other, value in (
        (found.top_old, one, found.new_at_top_old, other), (found.top_new, other, found.old_at_top_new, one)
    ):  # fmt: skip
        chosen = expected.gather(-1, top[:, None])[:, 0]
        assert float((expected.amax(-1) - chosen).max()) < near  # the first one, or one as likely
        assert float((value.gather(-1, top[:, None])[:, 0] - at_other).abs().max()) < near
    assert bool((found.kl >= 0).all())


def test_kept_states_come_back_as_they_were(model_folder: Folder, tmp_path: Path) -> None:
    engine = open_engine("hf", model_folder("llama"), dtype="float32")
    given = texts(300)
    head, hidden = output_layer(engine, given[0].tokens), engine.states(given)
    kept = KeptStates(tmp_path)
    assert not kept.complete
    kept.write_head(head)
    kept.write_block(0, hidden)
    kept.finish(head, {"more": 1})
    again = KeptStates(tmp_path)
    assert again.complete
    for size in (1, 2**40):  # read by blocks, and held
        read = again.read(0, torch.device("cpu"), size)
        assert torch.equal(read.hidden, hidden)
        assert torch.equal(read.head(0, head.vocabulary).weight, head.weight)
    (tmp_path / "states-000000.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="remove the folder"):
        again.read(0, torch.device("cpu"), 1)


@given(st.lists(st.integers(1, 3000), max_size=30))
def test_every_text_is_in_one_block_in_order(counts: list[int]) -> None:
    given = [Text(tuple(range(count + 1)), 1) for count in counts]
    found = list(blocks(given, "cpu"))
    assert [place for block in found for place in block] == list(range(len(given)))
    assert all(len(block) == 1 or sum(given[place].count for place in block) <= 4096 for block in found)
