from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from compatcheck.engines.hf.head import Head
from compatcheck_train.align.projection import REST, Classes, canonical, identity, projected_kl
from compatcheck_train.align.vocabulary import Vocabulary
from compatcheck_train.loss.divergence import Problem, States, fused_divergence
from compatcheck_train.loss.rules import Facts, Weights
from tests.train.align.kinds import tokenizer


def numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def setting(student: int, teacher: int, n: int = 23) -> tuple[torch.Tensor, Head, States, torch.Tensor]:
    weights = numbers(n, seed=5).abs() * (torch.arange(n) % 4 != 0)
    return (
        numbers(n, 6, seed=1).requires_grad_(),
        Head(numbers(student, 6, seed=2)),
        States(numbers(n, 4, seed=3), Head(numbers(teacher, 4, seed=4))),
        weights,
    )


def by_loop(
    hidden: torch.Tensor, head: Head, teacher: States, classes: Classes, w: torch.Tensor, t: float
) -> torch.Tensor:
    """Position by position, class by class, on plain probabilities."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(hidden)):
        q = (head.logits(hidden[i : i + 1])[0] / t).softmax(-1)
        p = (teacher.head.weight @ teacher.hidden[i] / t).softmax(-1)
        both = [
            [side[owner == c].sum() for c in range(classes.count)]
            for side, owner in ((p, classes.teacher), (q, classes.student))
        ]
        if not bool((classes.student == REST).any()):
            both[0][REST] = torch.zeros((), dtype=torch.float64)
        mass = sum(both[0])
        for above, below in zip(*both, strict=True):
            if above > 0:
                total = total + w[i] * above / mass * torch.log(above / mass / below)
    return total


@pytest.mark.parametrize("rest", [True, False])
@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_loss_and_gradient_are_those_of_a_plain_loop(rest: bool, chunk: int) -> None:
    hidden, head, teacher, w = setting(30, 25)
    mine, theirs = torch.arange(30) % 9, torch.arange(25) * 7 % 9
    if not rest:
        mine = mine.clamp(min=1)
    classes = Classes(mine, theirs, 9)
    expected = by_loop(hidden, head, teacher, classes, w, 2.0)
    (slope,) = torch.autograd.grad(expected, hidden)
    found = projected_kl(hidden, head, teacher, classes, w, 2.0, chunk)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(found, hidden)[0], slope, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("widths", [(40, 40), (40, 37), (37, 40)])
def test_the_identity_gives_the_plain_divergence(widths: tuple[int, int]) -> None:
    hidden, head, teacher, w = setting(*widths)
    none = torch.zeros(len(w), dtype=torch.long)
    problem = Problem(
        hidden,
        head,
        none,
        w,
        Facts(none.bool(), none),
        lambda facts: Weights(old=torch.ones(len(facts.rows))),
        2.0,
        teacher,
    )
    expected = fused_divergence(problem).loss
    found = projected_kl(hidden, head, teacher, identity(min(widths)), w, 2.0, 5)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    slopes = [torch.autograd.grad(value, hidden)[0] for value in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-11, atol=1e-13)


def test_a_trained_output_layer_and_a_capped_one() -> None:
    hidden, head, teacher, w = setting(30, 25)
    classes = Classes(torch.arange(30) % 9, torch.arange(25) % 9, 9)
    for own in (replace(head, cap=3.0, scale=0.7), replace(head, weight=head.weight.clone().requires_grad_())):
        leaves = [hidden, *[own.weight] * own.trained]
        found = [
            torch.autograd.grad(value, leaves)
            for value in (
                projected_kl(hidden, own, teacher, classes, w, 2.0, 7),
                by_loop(hidden, own, teacher, classes, w, 2.0),
            )
        ]
        for one, two in zip(*found, strict=True):
            torch.testing.assert_close(one, two)


def test_classes_without_probability_stay_finite() -> None:
    hidden, head, teacher, w = setting(30, 25)
    classes = Classes(torch.arange(30) % 9, torch.arange(25) % 8 + 1, 9)
    far = States(teacher.hidden.float() * 1e3, Head(teacher.head.weight.float()))
    near = hidden.detach().float().mul(1e3).requires_grad_()
    value = projected_kl(near, Head(head.weight.float()), far, classes, w, 2.0)
    value.backward()
    assert torch.isfinite(value)
    assert near.grad is not None
    assert torch.isfinite(near.grad).all()


def test_canonical_classes_of_two_vocabularies() -> None:
    new, old = Vocabulary(tokenizer("fixture-unigram")), Vocabulary(tokenizer("fixture-bpe"))
    found = canonical(new, old, (len(new) + 8, len(old)))
    assert not found.identity

    def mine(text: str) -> int:
        return int(found.student[new.tokenizer.convert_tokens_to_ids(text)])

    def theirs(text: str) -> int:
        return int(found.teacher[old.tokenizer.convert_tokens_to_ids(text)])

    assert mine("▁the") == theirs("Ġthe") != REST
    assert mine("2") == theirs("2")
    assert mine("▁2") == mine("▁") == theirs("Ġ")  # v1 has no token for " 2"; its next one would be " "
    assert mine("\n") == theirs("Ċ")
    assert mine("</s>") == theirs("</s>") != REST
    assert mine("<pad>") == mine("<s>") == mine("<unk>") == theirs("<pad>") == REST
    assert (found.student[len(new) :] == REST).all()
    assert mine("<0x41>") == mine("A") == theirs("A")
    assert set(found.student.tolist()) - {REST} == set(found.teacher.tolist()) - {REST} == set(range(1, found.count))


def test_a_whole_number_counts_as_what_the_other_side_begins_it_with() -> None:
    new, old = Vocabulary(tokenizer("byte-level")), Vocabulary(tokenizer("fixture-bpe"))
    found = canonical(new, old, (len(new), len(old)))
    number = found.student[new.tokenizer.convert_tokens_to_ids("Ġ250")]
    assert number == found.teacher[old.tokenizer.convert_tokens_to_ids("Ġ")] != REST
