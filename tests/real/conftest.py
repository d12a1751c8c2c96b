"""Real language models: SmolLM2 in CI, Gemma 3 beside it in ``make real``; skipped without their packages."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import real_models

MODELS = {"smollm2": real_models.smollm2, "gemma3": real_models.gemma3}


@pytest.fixture(scope="session")
def model() -> Callable[[str], Path]:
    """The GGUF file of a real model by name."""

    def find(name: str) -> Path:
        found = MODELS[name]()
        if found is None and not (name == "smollm2" and os.environ.get("COMPATCHECK_EXPECT_REAL")):
            pytest.skip(f"{name} is not installed (make {name})")
        assert found is not None, f"make {name}"
        return found

    return find


@pytest.fixture(scope="session")
def smollm2(model: Callable[[str], Path]) -> Path:
    return model("smollm2")
