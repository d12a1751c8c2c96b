"""Scores and texts of a GGUF file equal those of lm-eval's own ``hf`` backend, which reads the file itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.real_parity import compare, measure

DIFFERENCE = 2e-3
"""Largest difference of a log-likelihood, which is a sum over some twenty tokens, in float32."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_real_rows_score_as_with_lm_eval(name: str, model: Callable[[str], Path], shared: Path) -> None:
    file = model(name)
    found = compare(measure(file, "ours", shared, 40, 10), measure(file, "theirs", shared, 40, 10))
    for task in ("piqa", "hellaswag"):
        assert found[task]["documents"] == 40
        assert found[task]["other"] == 0
        assert found[task]["difference"] < DIFFERENCE
    assert found["gsm8k"] == {"documents": 10, "other": 0}
    assert found["piqa"]["right"] >= 24  # a coin gives 20: the weights are those of a model that learned something
    assert found["hellaswag"]["right"] >= 13  # chance gives 10
