from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar as reference

from compatcheck.compare import significance
from compatcheck.compare.significance import mcnemar, sign_flip


def test_golden_numbers():
    assert mcnemar(18, 5) == pytest.approx(0.011, abs=5e-4)
    assert mcnemar(5, 0, one_sided=True) == 0.03125  # five flips one way are the fewest that are significant
    assert mcnemar(4, 0, one_sided=True) == 0.0625
    assert mcnemar(0, 0) == mcnemar(0, 0, one_sided=True) == 1.0


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mcnemar_equals_statsmodels(negative, positive):
    if negative + positive == 0:
        return
    table = [[10, negative], [positive, 10]]
    assert mcnemar(negative, positive) == pytest.approx(
        float(reference(table, exact=True).pvalue), rel=1e-9, abs=1e-280
    )


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_equals_the_binomial_test(negative, positive):
    n = negative + positive
    if n == 0:
        return
    assert mcnemar(negative, positive) == pytest.approx(binomtest(negative, n, 0.5).pvalue, rel=1e-9)
    one_sided = binomtest(negative, n, 0.5, alternative="greater").pvalue
    assert mcnemar(negative, positive, one_sided=True) == pytest.approx(one_sided, rel=1e-9)


def test_sign_flip_approaches_the_exact_permutation_p():
    gains = np.array([0.4, -0.1, 0.3, 0.2, 0.0, 0.25, -0.05, 0.15])
    sums = [sum(s * g for s, g in zip(signs, gains, strict=True)) for signs in itertools.product((1, -1), repeat=8)]
    exact = np.mean(np.abs(sums) >= abs(gains.sum()) - 1e-12)
    found = sign_flip(gains, 20_000, np.random.default_rng(0))
    assert found == pytest.approx(exact, abs=0.006)


def test_sign_flip_is_c_plus_one_over_n_plus_one():
    assert sign_flip(np.full(60, 0.2), 999, np.random.default_rng(0)) == 1 / 1000
    assert sign_flip(np.array([0.2]), 999, np.random.default_rng(0)) == 1.0  # both signs are as far from zero


def test_equal_sums_count_as_equal():
    gains = np.array([0.1] * 3 + [0.2] * 3)  # 0.1 + 0.2 adds up to the same in many orders
    exact = 2 / 64
    assert sign_flip(gains, 20_000, np.random.default_rng(1)) == pytest.approx(exact, abs=0.004)


def test_no_change_at_all_is_no_evidence():
    assert sign_flip(np.zeros(50), 200, np.random.default_rng(0)) == 1.0
    assert sign_flip(np.array([]), 200, np.random.default_rng(0)) == 1.0


def test_chunks_do_not_change_the_result(monkeypatch):
    gains = np.random.default_rng(2).normal(0.02, 0.2, 300)
    whole = sign_flip(gains, 1000, np.random.default_rng(3))
    monkeypatch.setattr(significance, "_CELLS", 300 * 64)
    assert sign_flip(gains, 1000, np.random.default_rng(3)) == pytest.approx(whole, abs=0.03)


def test_above_the_limit_the_normal_form_meets_the_permutations(monkeypatch):
    gains = np.random.default_rng(4).normal(0.004, 0.1, 3000)
    permuted = sign_flip(gains, 8000, np.random.default_rng(5))
    monkeypatch.setattr(significance, "LARGE", 100)
    assert sign_flip(gains, 8000, np.random.default_rng(5)) == pytest.approx(permuted, abs=0.015)
    assert 0.001 < permuted < 0.2
