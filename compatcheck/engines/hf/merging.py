"""An adapter merged into a copy of its base, for engines that cannot put adapters on a base or do it wrongly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from compatcheck.engines.hf.adapters import put_adapter
from compatcheck.engines.hf.loading import load_causal, set_tied
from compatcheck.engines.hf.proof import TOLERANCE, difference, probe
from compatcheck.errors import InputError, one_line
from compatcheck.models import kind_of


def merge_adapter(base: Path, adapter: Path, into: Path, dtype: str, trust_remote_code: bool = False) -> None:
    """Write base + adapter as one full model, safetensors, with the base's tokenizer beside it.

    The sum is made in float32 on the CPU and rounded once, to ``dtype``. What is written gives the log-probabilities
    that transformers and PEFT make of base and adapter, or is refused. Raises InputError: an adapter that has no merged
    form (virtual tokens), that does not fit its base, or whose merged weights give other log-probabilities."""
    import torch

    kind = kind_of(adapter)
    if kind.in_forward:
        raise InputError(f"{adapter}: {kind.own_base}: it cannot be merged into weights; use --engine hf")

    def load(folder: Path) -> Any:
        return load_causal(folder, dtype=torch.float32, trust_remote_code=trust_remote_code)

    model = load(base)
    target = model.config.dtype if dtype == "auto" else getattr(torch, dtype)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = embedding is not None and head is not None and head.weight is embedding.weight
    expected = probe(put_adapter(model, adapter, "adapter", []).eval())
    worst = float("inf")
    # What an adapter adds to one of two tied layers must not reach the other; some kinds add to both.
    for untie in (False, True) if tied and not kind.plain else (False,):
        model = load(base)
        if untie:
            weight = model.get_input_embeddings().weight.detach().clone()
            model.get_output_embeddings().weight = torch.nn.Parameter(weight)
            set_tied(model, False)
        wrapped = put_adapter(model, adapter, "adapter", [])
        try:
            merged = wrapped.merge_and_unload(safe_merge=True)
        except Exception as error:  # of kinds without a merged form, each in its own way
            raise InputError(f"{adapter}: cannot be merged into weights: {one_line(error)}; use --engine hf") from error
        apart = difference(expected, probe(merged))
        if apart <= TOLERANCE["float32"]:
            _write(merged, base, into, target)
            if kind.plain:
                return
            apart = difference(expected, probe(load(into)))
            if apart <= TOLERANCE[str(target).removeprefix("torch.")]:
                return
            shutil.rmtree(into)
        worst = min(worst, apart)
    raise InputError(
        f"{adapter}: merged into its base's weights it gives other log-probabilities than transformers and PEFT do "
        f"(by {worst:.2g} or more); use --engine hf"
    )


def _write(merged: Any, base: Path, into: Path, dtype: Any) -> None:
    merged.to(dtype)
    merged.config.dtype = dtype
    into.mkdir(parents=True, exist_ok=True)
    merged.save_pretrained(into, safe_serialization=True)
    for path in base.iterdir():  # tokenizer, chat template, remote code: everything small that is not there yet
        small = path.is_file() and path.suffix in (".json", ".jinja", ".txt", ".model", ".py")
        if small and not path.name.endswith(".index.json") and not (into / path.name).exists():
            shutil.copyfile(path, into / path.name)
