"""Adapters of every kind that has a merged form: the merged copy gives what base and adapter give, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from compatcheck.engines.hf.merging import merge_adapter
from tests.engines.adapters import KINDS, plain, save_adapter, save_base, save_task

MERGEABLE = [kind for kind in KINDS if kind not in ("activated", "prompt", "prefix", "p-tuning", "lily")]


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", MERGEABLE)
def test_the_merged_copy_gives_the_same_log_likelihoods(kind: str, tied: bool, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", tied=tied)
    adapter = save_adapter(base, tmp_path / "adapter", **KINDS[kind])
    _, data = save_task(tmp_path / "task", documents=4)
    merge_adapter(base, adapter, tmp_path / "merged", "float32")
    expected = plain(base, adapter, data, rows=KINDS[kind].get("rows"))
    for ours, theirs in zip(plain(tmp_path / "merged", None, data), expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
