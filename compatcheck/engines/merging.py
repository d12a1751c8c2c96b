"""An adapter merged into a copy of its base, for engines that cannot put adapters on a base or do it wrongly."""

from __future__ import annotations

import shutil
from pathlib import Path

from compatcheck.engines.loading import Adapters, without_bars
from compatcheck.errors import InputError


def merge_adapter(base: Path, adapter: Path, into: Path, dtype: str, trust_remote_code: bool = False) -> None:
    """Write base + adapter as one full model, safetensors, with the base's tokenizer beside it.

    The sum is made in float32 on the CPU and rounded once, to ``dtype``. Where the embeddings have another number of
    rows than the tokenizer has tokens they are fitted to it, as lm-eval's ``hf`` backend does under an adapter.

    Raises:
        InputError: an adapter that has no merged form (prompt tuning), or that does not fit its base.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with without_bars():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, trust_remote_code=trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code)
    if model.get_input_embeddings().weight.shape[0] != len(tokenizer):
        model.resize_token_embeddings(len(tokenizer))
    adapters = Adapters(model, {"adapter": adapter})
    if adapters.learns_prompts:
        raise InputError(f"{adapter}: virtual tokens cannot be merged into weights; use --engine hf")
    merged = adapters.model.merge_and_unload(safe_merge=True)
    target = merged.dtype if dtype == "auto" else getattr(torch, dtype)
    merged.to(target)
    merged.config.dtype = target
    into.mkdir(parents=True, exist_ok=True)
    merged.save_pretrained(into, safe_serialization=True)
    for path in base.iterdir():  # tokenizer, chat template, remote code: everything small that is not there yet
        if path.is_file() and path.suffix in (".json", ".jinja", ".txt", ".model", ".py"):
            if path.name.endswith(".index.json") or (into / path.name).exists():
                continue
            shutil.copyfile(path, into / path.name)
