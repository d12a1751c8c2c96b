"""The fused divergence against a plain loop over positions, in float64: loss and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from compatcheck.engines.hf.head import Head
from compatcheck_train.loss.divergence import Problem, States, fused_divergence, token_facts, token_logprobs
from compatcheck_train.loss.rules import Facts, Rule, Weights

N, D, V = 13, 5, 17
DOUBLE = torch.float64


def ones(facts: Facts) -> Tensor:
    return torch.ones(len(facts.answer), dtype=DOUBLE)


def student_wrong(facts: Facts) -> Weights:
    assert facts.student_right is not None
    return Weights(old=(~facts.student_right).double(), new=facts.student_right.double())


def both_and_ce(facts: Facts) -> Weights:
    return Weights(old=0.3 * ones(facts), new=0.7 * facts.answer.double(), ce=0.5 * ones(facts))


def mixture(facts: Facts) -> Weights:
    return Weights(old=0.3 * ones(facts), new=0.7 * ones(facts), mixture=True)


RULES: dict[str, Rule] = {"student wrong": student_wrong, "both and CE": both_and_ce, "mixture": mixture}


def problem(rule: Rule, *, old_vocabulary: int = V, bias: bool = True, **head: Any) -> Problem:
    torch.manual_seed(0)
    own = Head(torch.randn(V, D, dtype=DOUBLE), torch.randn(V, dtype=DOUBLE) if bias else None, **head)
    hidden = torch.randn(N, D, dtype=DOUBLE)
    old = Head(torch.randn(old_vocabulary, 6, dtype=DOUBLE))
    targets = torch.where(torch.rand(N) < 0.5, own.logits(hidden).argmax(-1), torch.randint(0, V, (N,)))
    return Problem(
        hidden, own, targets, torch.rand(N, dtype=DOUBLE), Facts(torch.rand(N) > 0.5, torch.arange(N) // 5), rule, 2.0,
        States(torch.randn(N, 6, dtype=DOUBLE), old),
        States(hidden + 0.1 * torch.randn(N, D, dtype=DOUBLE), own),
        chunk=4,
    )  # fmt: skip


def log_softmax(z: Tensor) -> Tensor:
    return z - z.exp().sum().log()


def by_position(p: Problem) -> Tensor:
    """The formula of each position, one after the other."""
    assert p.old is not None and p.new is not None
    total = torch.zeros((), dtype=DOUBLE)

    def logits(head: Head, h: Tensor) -> Tensor:
        z = torch.stack([h @ row for row in head.weight]) + (0 if head.bias is None else head.bias)
        z = z * head.scale
        return z if head.cap is None else head.cap * (z / head.cap).tanh()

    for i in range(N):
        z = logits(p.head, p.hidden[i])
        y = int(p.targets[i])
        right = torch.tensor([int(z.argmax()) == y])
        w = p.rule(replace(p.facts.at(slice(i, i + 1)), student_right=right))
        base, t = p.weight[i], p.temperature

        def weight(given: Tensor | None) -> Tensor:
            return torch.zeros((), dtype=DOUBLE) if given is None else given[0]

        old, new = logits(p.old.head, p.old.hidden[i])[:V], logits(p.new.head, p.new.hidden[i])
        width = len(old)
        if w.mixture:
            a, b = (weight(x) / (weight(w.old) + weight(w.new)) for x in (w.old, w.new))
            teacher = b * log_softmax(new / t).exp()
            teacher = torch.cat([teacher[:width] + a * log_softmax(old / t).exp(), teacher[width:]])
            total = total + base * (teacher * (teacher.log() - log_softmax(z / t))).sum()
        else:
            for k, share, student in ((old, weight(w.old), z[:width]), (new, weight(w.new), z)):
                log_p = log_softmax(k / t)
                total = total + base * share * (log_p.exp() * (log_p - log_softmax(student / t))).sum()
        total = total - base * weight(w.ce) * log_softmax(z)[y]
    return total


def loss_and_gradient(loss: Callable[[Problem], Tensor], p: Problem) -> tuple[float, Tensor]:
    hidden = p.hidden.clone().requires_grad_()
    value = loss(replace(p, hidden=hidden))
    value.backward()
    assert hidden.grad is not None
    return value.item(), hidden.grad


@pytest.mark.parametrize("setting", [{}, {"cap": 3.0, "scale": 0.5}, {"bias": False}, {"old_vocabulary": 14}])
@pytest.mark.parametrize("rule", RULES)
def test_equals_a_plain_loop(rule: str, setting: dict[str, Any]) -> None:
    p = problem(RULES[rule], **setting)
    wanted, gradient = loss_and_gradient(by_position, p)
    value, found = loss_and_gradient(lambda q: fused_divergence(q).loss, p)
    assert value == pytest.approx(wanted, abs=1e-9)
    assert torch.allclose(found, gradient, atol=1e-9)


def test_a_larger_vocabulary_of_the_old_model_is_cut_to_the_students() -> None:
    p = problem(student_wrong, old_vocabulary=20)
    cut = replace(p, old=States(p.old.hidden, Head(p.old.head.weight[:V])))  # type: ignore[union-attr]
    assert fused_divergence(p).loss.item() == pytest.approx(fused_divergence(cut).loss.item(), abs=1e-12)


@pytest.mark.parametrize("chunk", [1, 5, N, 1000])
def test_the_chunk_size_does_not_matter(chunk: int) -> None:
    p = problem(student_wrong)
    wanted = loss_and_gradient(lambda q: fused_divergence(q).loss, p)
    value, gradient = loss_and_gradient(lambda q: fused_divergence(q).loss, replace(p, chunk=chunk))
    assert value == pytest.approx(wanted[0], abs=1e-10)
    assert torch.allclose(gradient, wanted[1], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_where_the_student_is_the_new_model_it_contributes_exactly_nothing(dtype: torch.dtype) -> None:
    p = problem(lambda facts: Weights(new=facts.student_right.float()))  # type: ignore[union-attr]
    hidden = p.hidden.to(dtype)
    head = Head(p.head.weight.to(dtype))
    same = replace(p, hidden=hidden, head=head, old=None, new=States(hidden.clone(), head))
    value, gradient = loss_and_gradient(lambda q: fused_divergence(q).loss, same)
    assert value == 0.0
    assert bool((gradient == 0).all())


def test_reports_what_the_student_has_right_and_what_follows_the_old_model() -> None:
    p = problem(student_wrong)
    outcome = fused_divergence(p)
    right = p.head.logits(p.hidden).argmax(-1) == p.targets
    assert 0 < int(right.sum()) < N
    assert (outcome.right, outcome.followed) == (int(right.sum()), N - int(right.sum()))
    assert torch.equal(outcome.old_weights, torch.where(right, 0.0, p.weight))


@pytest.mark.parametrize("setting", [{}, {"cap": 3.0, "scale": 0.5}])
@pytest.mark.parametrize("rule", RULES)
def test_a_trained_output_layer_gets_its_gradient_too(rule: str, setting: dict[str, Any]) -> None:
    p = problem(RULES[rule], **setting)
    assert p.new is not None and p.head.bias is not None
    found = []
    for loss in (lambda q: fused_divergence(q).loss, by_position):
        leaves = [each.clone().requires_grad_() for each in (p.hidden, p.head.weight, p.head.bias)]
        head = replace(p.head, weight=leaves[1], bias=leaves[2])
        value = loss(replace(p, hidden=leaves[0], head=head, new=States(p.new.hidden, p.head.frozen())))
        found.append((value.item(), torch.autograd.grad(value, leaves)))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-9)
    for ours, plain in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(ours, plain, atol=1e-9)


@pytest.mark.parametrize("setting", [{}, {"cap": 3.0, "scale": 0.5}])
def test_token_logprobs(setting: dict[str, Any]) -> None:
    p = problem(student_wrong, **setting)
    outer = torch.randn(N, dtype=DOUBLE)

    def plain(q: Problem) -> Tensor:
        z = q.head.logits(q.hidden)
        return (torch.log_softmax(z, -1)[torch.arange(N), q.targets] * outer).sum()

    def chunked(q: Problem) -> Tensor:
        return (token_logprobs(q.hidden, q.head, q.targets, 10) * outer).sum()

    wanted, found = loss_and_gradient(plain, p), loss_and_gradient(chunked, p)
    assert found[0] == pytest.approx(wanted[0], abs=1e-10)
    assert torch.allclose(found[1], wanted[1], atol=1e-10)
    right, logprob = token_facts(p.hidden, p.head, p.targets, 10)
    assert torch.equal(right, p.head.logits(p.hidden).argmax(-1) == p.targets)
    assert math.isclose(float((logprob * outer).sum()), wanted[0], abs_tol=1e-10)


def test_gradients_of_the_custom_functions_numerically() -> None:
    p = problem(both_and_ce)
    few = slice(0, 4)
    small = replace(
        p, targets=p.targets[few], weight=p.weight[few], facts=p.facts.at(few),
        old=States(p.old.hidden[few], p.old.head), new=States(p.new.hidden[few], p.new.head), chunk=3,  # type: ignore[union-attr]
    )  # fmt: skip
    hidden = p.hidden[few].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda h: fused_divergence(replace(small, hidden=h)).loss, hidden)
    assert torch.autograd.gradcheck(lambda h: token_logprobs(h, p.head, p.targets[few], 3), hidden)
