"""Is a loaded model the one that its files make? Answered by log-probabilities of a few tokens, not by names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.engines.hf.adapters import fit_rows
from compatcheck.errors import InputError
from compatcheck.models import kind_of, read_config
from compatcheck.models.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor

_TOKENS = 48
TOLERANCE = {"float64": 1e-4, "float32": 1e-3, "bfloat16": 0.3, "float16": 0.05}
"""Largest difference in log-probability that counts as none."""


def probe(model: Any, adapter: str | Path | None = None) -> Tensor:
    """Log-probabilities (t, vocabulary) in float32 of some tokens, always the same ones.

    The tokens that start an activated adapter are among them."""
    import torch

    embedding = model.get_input_embeddings().weight
    tokens = torch.randint(embedding.shape[0], (_TOKENS,), generator=torch.Generator().manual_seed(0))
    start = (read_config(Path(adapter)).get("alora_invocation_tokens") if adapter is not None else None) or []
    if start:
        tokens[_TOKENS // 2 : _TOKENS // 2 + len(start)] = torch.tensor(start)[: _TOKENS // 2]
    return _log_probabilities(model, tokens[None])[-_TOKENS:]


def _log_probabilities(model: Any, tokens: Tensor) -> Tensor:
    """(t, vocabulary) of the first of some texts."""
    import torch

    with torch.inference_mode():
        tokens = tokens.to(model.get_input_embeddings().weight.device)
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits[0]
    return logits.float().log_softmax(-1).cpu()


def depends_on_batch(model: Any) -> bool:
    """Whether a text's log-probabilities change with the texts beside it, as where an adapter averages over a batch."""
    import torch

    size = model.get_input_embeddings().weight.shape[0]
    tokens = torch.randint(size, (2, _TOKENS // 2), generator=torch.Generator().manual_seed(1))
    apart = difference(_log_probabilities(model, tokens), _log_probabilities(model, tokens[:1]))
    return apart > TOLERANCE.get(str(model.dtype).removeprefix("torch."), 0.3)


def alone(base: str | Path, adapter: str | Path, device: Any, **kwargs: Any) -> Tensor:
    """:func:`probe` of base and adapter as transformers and PEFT load them, with nothing else beside them. Raises
    Exception: whatever the two raise."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(base, **kwargs).to(device)
    fit_rows(model, Path(adapter))
    return probe(PeftModel.from_pretrained(model, str(adapter)).eval(), adapter)


def difference(one: Tensor, other: Tensor) -> float:
    """Largest difference in log-probability; infinite where the shapes differ. Where both are NaN they agree."""
    import torch

    if one.shape != other.shape:
        return float("inf")
    apart = torch.where(one.isnan() & other.isnan(), torch.zeros_like(one), (one - other).abs())
    return float("inf") if bool(apart.isnan().any()) else float(apart.max())


def check_same(adapter: str | Path, expected: Tensor, found: Tensor, what: str, dtype: str = "float32") -> None:
    """Raise InputError for a model that is not the expected one; ``what`` says how it was made."""
    worst = difference(expected, found)
    if worst <= TOLERANCE.get(dtype, 0.3):
        return
    if "_niter_" in (kind := kind_of(Path(adapter)).name):  # torch.svd_lowrank starts from random numbers
        raise InputError(
            f"{adapter}: {kind}: PEFT changes the base by a random method when it loads it, and otherwise each time "
            f"(by up to {worst:.2g} in log-probability); save it as plain LoRA with PEFT's "
            "path_initial_model_for_weight_conversion"
        )
    raise InputError(
        f"{adapter}: {what} it gives other log-probabilities than transformers and PEFT do (by up to {worst:.2g})"
    )
