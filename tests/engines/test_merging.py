from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compatcheck.engines.hf.merging import merge_adapter
from compatcheck.errors import InputError


def test_a_merged_copy_says_what_base_and_adapter_say(
    model_folder: Callable[[str], Path], adapter_folders: dict[str, Path], tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = model_folder("llama")
    merge_adapter(base, adapter_folders["new"], tmp_path / "merged", "float32")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.dtype == torch.float32
    plain = AutoModelForCausalLM.from_pretrained(base)
    tokens = torch.tensor([[3, 14, 15, 92, 65]])
    with torch.inference_mode():
        alone = plain(tokens).logits
        expected = PeftModel.from_pretrained(plain, adapter_folders["new"])(tokens).logits
        found = merged(tokens).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, alone, atol=1e-2)
    kept, own = (AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "merged", base))
    assert kept("the red bird")["input_ids"] == own("the red bird")["input_ids"]
    assert not list((tmp_path / "merged").glob("*.bin"))


def test_the_copy_is_rounded_once_to_the_dtype_asked_for(
    model_folder: Callable[[str], Path], adapter_folders: dict[str, Path], tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    merge_adapter(model_folder("llama"), adapter_folders["new"], tmp_path / "whole", "float32")
    merge_adapter(model_folder("llama"), adapter_folders["new"], tmp_path / "half", "bfloat16")
    whole, half = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    for name, weights in half.items():
        assert weights.dtype == torch.bfloat16
        assert torch.equal(weights, whole[name].to(torch.bfloat16)), name


def test_rows_that_pad_the_vocabulary_are_kept(
    model_folder: Callable[[str], Path], adapter_folders: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    shutil.copytree(model_folder("llama"), tmp_path / "padded")
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    tokens = model.config.vocab_size
    model.resize_token_embeddings(tokens + 9)
    model.save_pretrained(tmp_path / "padded")
    merge_adapter(tmp_path / "padded", adapter_folders["new"], tmp_path / "merged", "float32")
    assert load_file(tmp_path / "merged" / "model.safetensors")["lm_head.weight"].shape[0] == tokens + 9


def test_virtual_tokens_cannot_be_merged(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    from peft import PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    tuning = PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    get_peft_model(base, tuning).save_pretrained(tmp_path / "tuned")
    with pytest.raises(InputError, match="it is PROMPT_TUNING: it cannot be merged into weights; use --engine hf"):
        merge_adapter(model_folder("llama"), tmp_path / "tuned", tmp_path / "merged", "float32")
    assert not (tmp_path / "merged").exists()
