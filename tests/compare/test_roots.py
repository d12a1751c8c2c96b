"""Roots: digit for digit those of SciPy's Brent, which is another implementation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from compatcheck.compare.roots import crossing

SHAPES = {
    "cubic": lambda x, root, steep: (x - root) ** 3,
    "saturating": lambda x, root, steep: math.tanh(steep * (x - root)),
    "exponential": lambda x, root, steep: math.exp(x) - math.exp(root),
    "wavy": lambda x, root, steep: (x - root) * (1 + 0.4 * math.sin(steep * x)),
    "falling": lambda x, root, steep: math.atan(steep * (root - x)),
}


@given(
    shape=st.sampled_from(sorted(SHAPES)),
    root=st.floats(-2, 2),
    steep=st.floats(0.1, 30),
    left=st.floats(0.01, 3),
    right=st.floats(0.01, 3),
    tolerance=st.sampled_from([1e-6, 1e-10, 2e-12]),
)
def test_is_the_root_that_scipy_finds(shape, root, steep, left, right, tolerance):
    def function(x: float) -> float:
        return SHAPES[shape](x, root, steep)

    low, high = root - left, root + right
    if function(low) * function(high) < 0:
        expected, seen = brentq(function, low, high, xtol=tolerance, full_output=True, disp=False)
        if seen.converged:
            assert crossing(function, low, high, tolerance) == expected
        else:
            with pytest.raises(ArithmeticError, match="no root found"):
                crossing(function, low, high, tolerance)


def test_an_end_may_be_the_root():
    assert crossing(lambda x: x, 0.0, 1.0, 1e-9) == 0.0
    assert crossing(lambda x: x - 1, 0.0, 1.0, 1e-9) == 1.0


def test_without_a_change_of_sign_there_is_none():
    with pytest.raises(ValueError, match="no change of sign"):
        crossing(lambda x: x * x + 1, -1.0, 1.0, 1e-9)
