"""Tokens as lm-eval's own engine makes them, and micro-batches made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from compatcheck.errors import InputError
from compatcheck_train.batches import collate, make_items, make_plan
from compatcheck_train.examples import Example, Examples


@pytest.fixture(scope="module")
def tokenizer(pair: dict[str, str]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(pair["new_base"])


def test_tokens_equal_those_of_lm_evals_engine(pair: dict[str, str], choice_examples: Examples, tokenizer: Any) -> None:
    from lm_eval.models.huggingface import HFLM

    engine = HFLM(pretrained=pair["new_base"], device="cpu")
    for example, item in zip(
        choice_examples.train, make_items(tokenizer, choice_examples.train, "choices", 64), strict=True
    ):
        assert (item.kind, item.gold, len(item.rows)) == ("choices", example.gold, 3)
        for pair_, row in zip(example.pairs, item.rows, strict=True):
            context, answer = engine._encode_pair(*pair_)
            assert row.ids == (*context, *answer, tokenizer.eos_token_id)
            assert (row.answer, row.eos) == (len(context), True)


def test_kinds_of_rows(text_examples: Examples, tokenizer: Any) -> None:
    (told,) = make_items(tokenizer, [replace(text_examples.train[0], chosen=" a cat")], "chosen", 64)
    assert (told.kind, [row.text for row in told.rows]) == ("answer", [" a cat"])
    unlabelled = Example("u", (("the cat", " runs"), ("the cat", " eats")), None)
    (context,) = make_items(tokenizer, [unlabelled], "answer", 64)
    assert (context.kind, tokenizer.decode(context.rows[0].ids), context.rows[0].eos) == ("context", "the cat", False)
    (choices,) = make_items(tokenizer, [unlabelled], "choices", 64)
    assert (choices.kind, choices.gold) == ("choices", None)


def test_long_contexts_lose_their_beginning(tokenizer: Any) -> None:
    example = Example("1", (("red green blue cat", " runs"),), 0)
    (item,) = make_items(tokenizer, [example], "answer", 4)
    assert tokenizer.decode(item.rows[0].ids) == "blue cat runs </s>"
    with pytest.raises(InputError, match="document 1: its answer has 2 tokens, max_length is 2"):
        make_items(tokenizer, [example], "answer", 2)


def test_collated_positions(tokenizer: Any) -> None:
    examples = [Example("1", (("red green", " blue cat"),), 0), Example("2", (("dog", " runs"),), 0)]
    items = make_items(tokenizer, examples, "answer", 64)
    batch = collate(items, 3, 0.25)
    assert batch.ids.shape == (2, 5)
    assert [tokenizer.decode([i]) for i in batch.targets] == ["green", "blue", "cat", "</s>", "runs", "</s>"]
    assert batch.rows.tolist() == [0, 0, 0, 0, 1, 1]
    assert batch.steps.tolist() == [1, 2, 3, 4, 1, 2]
    assert batch.answer.tolist() == [False, True, True, True, True, True]
    assert batch.end.tolist() == [False, False, False, True, False, True]
    assert batch.weight.tolist() == [0.25, 1, 1, 1, 1, 1]
    assert torch.equal(batch.ids.flatten()[batch.select + 1], batch.targets)
    answers = collate(items, 3, 0.0)
    assert [tokenizer.decode([i]) for i in answers.targets] == ["blue", "cat", "</s>", "runs", "</s>"]


def test_a_plan_holds_every_document_once_and_sizes_add_up(
    make_examples: Callable[..., Examples], tokenizer: Any
) -> None:
    examples = make_examples("choice", train=23, validation=7)
    items, hold = (make_items(tokenizer, part, "answer", 64) for part in (examples.train, examples.validation))
    for weight in (1.0, 0.5, 0.0):
        plan = make_plan(items, hold, 4, 0, weight)
        assert (plan.training, len(plan.items)) == (6, 8)
        ids = [item.example.doc_id for group in plan.items for item in group]
        assert sorted(ids) == sorted(e.doc_id for e in (*examples.train, *examples.validation))
        for index in range(len(plan.items)):
            assert plan.size(index, "position") == pytest.approx(float(plan.batch(index).weight.sum()))
            assert plan.size(index, "document") == len(plan.items[index])
    assert sorted(plan.epoch(0, 1)) == list(range(6))
    assert plan.epoch(0, 1) == plan.epoch(0, 1) != plan.epoch(0, 2)
    again = plan.retold(tokenizer, "answer", 64)
    assert [[i.rows for i in group] for group in again.items] == [[i.rows for i in group] for group in plan.items]
