"""The output layer: from the hidden state after the final norm to logits, and a gradient back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from compatcheck.errors import InputError


@dataclass(frozen=True)
class Head:
    """Logits of hidden states: ``cap · tanh(scale · (h Wᵀ + b) / cap)``; most models have neither bias, scale nor cap.

    ``weight`` is (vocabulary, d). Logits come out in float32, or in float64 for float64 weights."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    @property
    def vocabulary(self) -> int:
        return int(self.weight.shape[0])

    @property
    def trained(self) -> bool:
        """Whether the layer itself wants a gradient: then nothing is made in the forward pass."""
        return bool(self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad))

    def raw(self, hidden: Tensor) -> Tensor:
        """Logits before the cap: (n, vocabulary)."""
        return self._wide(hidden, self.bias)

    def shift(self, change: Tensor) -> Tensor:
        """What a change of the hidden states adds to the raw logits: exactly zero where the change is zero."""
        return self._wide(change, None)

    def _wide(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            product = torch.nn.functional.linear(hidden.to(self.weight.dtype), self.weight, bias)
        wide = product if product.dtype == torch.float64 else product.float()
        return wide if self.scale == 1.0 else wide * self.scale

    def part(self, start: int, end: int) -> Head:
        """The layer for the tokens from one number up to another one."""
        return replace(self, weight=self.weight[start:end], bias=None if self.bias is None else self.bias[start:end])

    def frozen(self) -> Head:
        return replace(self, weight=self.weight.detach(), bias=None if self.bias is None else self.bias.detach())

    def capped(self, raw: Tensor) -> Tensor:
        return raw if self.cap is None else self.cap * torch.tanh(raw / self.cap)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.capped(self.raw(hidden))

    def to_raw(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """The gradient with respect to h Wᵀ + b, from that with respect to the logits. Overwrites ``gradient``."""
        if self.cap is not None:
            gradient.mul_(1 - (logits / self.cap) ** 2)
        if self.scale != 1.0:
            gradient.mul_(self.scale)
        return gradient.to(self.weight.dtype)


class Through:
    """A decoder that is called by way of the whole PEFT model, whose call prepares its adapter (activated LoRA)."""

    def __init__(self, model: Any, decoder: Any) -> None:
        self.model, self.decoder, self.config = model, decoder, decoder.config

    def __call__(self, **inputs: Any) -> Any:
        found: list[Any] = []
        handle = self.decoder.register_forward_hook(lambda module, given, output: found.append(output))
        try:
            self.model(**inputs, logits_to_keep=1)
        finally:
            handle.remove()
        return found[0]

    def modules(self) -> Any:
        return self.decoder.modules()


_THROUGH = "_compatcheck_through"


def reach_through(wrapped: Any) -> None:
    """From now on :func:`decoder_of` the base of this PEFT model goes by way of it, where its adapter asks for that."""
    if any(getattr(config, "alora_invocation_tokens", None) for config in wrapped.peft_config.values()):
        inner = wrapped.get_base_model()
        setattr(inner, _THROUGH, Through(wrapped, decoder_of(inner)))


def decoder_of(model: Any) -> Any:
    """The part of a causal language model that gives the hidden states after its final norm."""
    through = getattr(model, _THROUGH, None)
    if through is not None:
        return through
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else getattr(model, model.base_model_prefix, None)
    if decoder is None or decoder is model:
        raise InputError(f"{type(model).__name__}: its decoder cannot be told from its output layer; not supported")
    return decoder


def head_of(model: Any, adapter: str | None = None) -> Head:
    """The output layer of a causal language model with what an adapter does to it, whose weights stay in the graph
    where they are trained; InputError where it is no linear layer."""
    layer = model.get_output_embeddings()
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    copies = getattr(layer, "modules_to_save", None)
    if copies is not None:
        own = copies[adapter] if adapter is not None and adapter in copies else layer.original_module
        weight, bias = own.weight, own.bias
    elif hasattr(layer, "get_base_layer"):
        base = layer.get_base_layer()
        weight, bias = base.weight, base.bias
        if adapter is not None and adapter in getattr(layer, "lora_A", {}):
            low, high = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
            weight = weight + ((high @ low) * layer.scaling[adapter]).to(weight.dtype)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise InputError(f"{type(model).__name__}: its output layer is no linear layer; not supported here")
    return Head(weight, bias, *scale_and_cap(model.config))


def scale_and_cap(config: Any) -> tuple[float, float | None]:
    """What a configuration says is done to logits: Cohere and Granite scale them, Gemma 2 caps them."""
    config = getattr(config, "text_config", None) or config
    scale = float(getattr(config, "logit_scale", None) or 1) / float(getattr(config, "logits_scaling", None) or 1)
    cap = getattr(config, "final_logit_softcapping", None)
    return scale, float(cap) if cap else None


def check_head(model: Any, head: Head, vocabulary: int) -> None:
    """Refuse a model that makes its logits in a way that :class:`Head` does not know: compared on a few tokens."""
    ids = torch.arange(2, 10, device=head.weight.device).remainder(vocabulary)[None]
    with torch.no_grad():
        hidden = decoder_of(model)(input_ids=ids, use_cache=False).last_hidden_state
        own = model(input_ids=ids, use_cache=False).logits.float()
        ours = head.logits(hidden).float()
    if own.shape != ours.shape or not torch.allclose(own, ours, rtol=2e-2, atol=2e-2):
        raise InputError(
            f"{type(model).__name__}: its logits are not its output layer applied to its last hidden states; "
            "this architecture is not supported here"
        )
