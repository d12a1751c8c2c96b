from __future__ import annotations

import math

import pytest
import torch

from compatcheck_train.align.term import alm, log1mexp


def binary_cross_entropy(student: torch.Tensor, teacher: torch.Tensor, tau: float = 100.0) -> torch.Tensor:
    """As the paper writes it, times tau."""
    u, v = teacher / tau, student / tau
    return -tau * (u.exp() * v + (1 - u.exp()) * torch.log(1 - v.exp()))


@pytest.mark.parametrize("x", [-1e-12, -1e-6, -0.01, -math.log(2), -0.7, -3.0, -40.0, -300.0])
def test_log1mexp_and_its_gradient(x: float) -> None:
    value = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    result = log1mexp(value)
    result.backward()
    exact = math.log(-math.expm1(x)) if x > -1 else math.log1p(-math.exp(x))
    assert result.item() == pytest.approx(exact, rel=1e-12)
    assert value.grad is not None
    assert value.grad.item() == pytest.approx(math.exp(x) / math.expm1(x), rel=1e-9)


def test_alm_by_hand() -> None:
    p, q = math.exp(-2.0 / 5), math.exp(-0.5 / 5)
    expected = 5 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    found = alm(torch.tensor([-0.5], dtype=torch.float64), torch.tensor([-2.0], dtype=torch.float64), tau=5)
    assert found.tolist() == pytest.approx([expected], rel=1e-12)


def test_alm_is_the_cross_entropy_without_the_teachers_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    student = (-4 * torch.rand(50, generator=generator, dtype=torch.float64)).requires_grad_()
    teacher = -4 * torch.rand(50, generator=generator, dtype=torch.float64)
    entropy = binary_cross_entropy(teacher, teacher)
    torch.testing.assert_close(alm(student, teacher), binary_cross_entropy(student, teacher) - entropy)
    (one,) = torch.autograd.grad(alm(student, teacher).sum(), student)
    (two,) = torch.autograd.grad(binary_cross_entropy(student, teacher).sum(), student)
    torch.testing.assert_close(one, two)


def test_alm_is_zero_and_flat_where_both_agree_and_pulls_towards_the_teacher() -> None:
    student = torch.tensor([-1.0, -3.0, -0.2], dtype=torch.float64, requires_grad=True)
    value = alm(student, torch.tensor([-1.0, -1.0, -1.0]))
    (slope,) = torch.autograd.grad(value.sum(), student)
    assert value[0].item() == slope[0].item() == 0
    assert (value[1:] > 0).all()
    assert slope[1] < 0 < slope[2]


def test_the_slope_does_not_depend_on_tau() -> None:
    for tau in (100.0, 1000.0):
        student = torch.tensor([-0.5, -2.0], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(alm(student, torch.tensor([-2.0, -0.5]), tau).sum(), student)
        torch.testing.assert_close(slope, torch.tensor([3.0, -0.75], dtype=torch.float64), rtol=1.5 / tau * 2, atol=0)


def test_certain_chunks_stay_finite() -> None:
    student = torch.tensor([0.0, 0.0, -1e-30, -500.0], requires_grad=True)
    value = alm(student, torch.tensor([0.0, -3.0, -500.0, 0.0]))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert value[0] == 0
