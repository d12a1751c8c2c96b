"""Half precision keeps the packed path where it differs from plain forwards no more than these among themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compatcheck.engines import open_engine
from compatcheck.engines.hf.attention import PrefixTree
from compatcheck.engines.hf.runner import Runner, check_tokens

ADAPTERS = sorted(path.name for path in (Path(__file__).parents[2] / "fixtures" / "adapters").iterdir())
TEXT = "Question: How do you make tea for two people? Answer: Boil water, pour it over the leaves and wait."


@pytest.fixture(scope="module")
def opened(fixtures: Path) -> Callable[[str, str], Any]:
    def open_(adapter: str, dtype: str) -> Any:
        folder = fixtures / "adapters" / adapter
        base = folder / json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        return open_engine("hf", base.resolve(), {"one": folder}, dtype=dtype)

    return open_


def checked(engine: Any, plain: Callable[..., Any] | None = None) -> str | None:
    return Runner(engine._adapters.base, engine.device).check(check_tokens(engine.tok_encode(TEXT)), plain)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_fixture_takes_the_packed_path(adapter: str, dtype: str, opened: Callable[..., Any]) -> None:
    assert checked(opened(adapter, dtype)) is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_positions_that_are_off_by_two_are_found(
    dtype: str, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = PrefixTree._place

    def shifted(self: PrefixTree, document: Any, prefix: int, tokens: list[int], positions: list[int]) -> Any:
        start = len(positions)
        span = before(self, document, prefix, tokens, positions)
        positions[start:] = [place + 2 for place in positions[start:]]
        return span

    monkeypatch.setattr(PrefixTree, "_place", shifted)
    reason = checked(opened("piqa-v2", dtype))
    assert reason is not None
    assert "packed forwards differ from plain ones by" in reason
    assert "plain ones among themselves by" in reason


def test_an_adapter_that_the_packed_side_lacks_is_found(opened: Callable[..., Any]) -> None:
    engine = opened("piqa-v2", "bfloat16")

    def with_the_other(input_ids: torch.Tensor) -> Any:
        logits = engine._adapters.base(input_ids=input_ids).logits
        engine.activate(None)
        without = engine._adapters.base(input_ids=input_ids).logits
        engine.activate("one")
        return SimpleNamespace(logits=logits + (logits - without))

    assert "packed forwards differ" in (checked(engine, with_the_other) or "")


def test_what_is_no_number_is_never_taken_for_agreement(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened("piqa-v2", "float16")
    joined = Runner._joined
    monkeypatch.setattr(Runner, "_joined", lambda *given: joined(*given).fill_(torch.nan))
    assert "differ" in (checked(engine) or "")
