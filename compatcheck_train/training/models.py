"""Loading the student with its teacher adapter, and the old model; saving an adapter as PEFT folders are."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from compatcheck.engines.hf.adapters import put_adapter
from compatcheck.engines.hf.head import check_head, decoder_of, head_of, reach_through
from compatcheck.engines.hf.loading import load_causal
from compatcheck.engines.hf.proof import TOLERANCE, depends_on_batch, difference, probe
from compatcheck.errors import InputError, one_line
from compatcheck.models import ACTIVATED, CONFIG, WEIGHTS, kind_of, read_config, tokenizer
from compatcheck.paths import user_path
from compatcheck.references import Reference
from compatcheck_train.folders import partial_of, put
from compatcheck_train.settings import TrainSettings

COMPAT, NEW = "compat", "new"
_ALIGNMENT = 64
"""Bytes that torch's allocator for a CPU aligns to."""
_OF_THE_COPY = ("peft_version", "base_model_name_or_path", "inference_mode")
"""Settings of a saved copy that are not those of the adapter it was copied from."""
_WAY_OUT = "train one of another kind on the same data with `compatcheck train-task`"


def dtype_of(reference: Reference, settings: TrainSettings) -> torch.dtype:
    if settings.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.dtype]
    assert reference.base is not None
    config = json.loads((reference.base / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config") or config
    named = str(text.get("dtype") or text.get("torch_dtype") or "float32")
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return torch.float32 if device == "cpu" or named == "float32" else torch.bfloat16


def load_base(reference: Reference, settings: TrainSettings, device: torch.device | str) -> Any:
    """The reference's base model, every dropout off, in evaluation mode; InputError where it is no causal language
    model, or one whose logits are made in another way than :class:`Head` knows."""
    assert reference.base is not None
    trusted = settings.trust_remote_code
    model = load_causal(reference.base, dtype=dtype_of(reference, settings), trust_remote_code=trusted)
    if model.config.is_encoder_decoder:
        raise InputError(f"{reference.text}: an encoder-decoder model; only causal language models can be trained")
    _without_dropout(model)
    # Weights mapped from a file lie at any byte, and matrix products on a CPU round differently then: a kept copy of an
    # output layer would not give its logits to the bit. So they go where torch's own allocator puts them.
    for parameter in model.parameters():
        if parameter.data_ptr() % _ALIGNMENT:
            parameter.data = parameter.data.clone()
    model = model.to(device).eval()
    check_head(model, head_of(model), model.config.get_text_config().vocab_size)
    return model


def load_tokenizer(reference: Reference, settings: TrainSettings) -> Any:
    """The reference's tokenizer: that of its base, or of the adapter's folder where it differs."""
    from transformers import AutoTokenizer

    try:
        folder = reference.tokenizer or reference.base
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=settings.trust_remote_code)
    except Exception as error:  # the tokenizers library raises plain ones
        raise InputError(f"{reference.text}: its tokenizer cannot be loaded: {one_line(error)}") from error


def load_old(reference: Reference, settings: TrainSettings, device: torch.device | str) -> Any:
    model = load_base(reference, settings, device)
    if reference.adapter is None:
        return model.requires_grad_(False)
    wrapped = _with_adapter(reference, model, "old").requires_grad_(False)
    reach_through(wrapped)
    _check_path(reference, wrapped, "old", probe(wrapped, reference.adapter))
    return wrapped


def _with_adapter(reference: Reference, model: Any, name: str) -> Any:
    """The base with the reference's adapter. InputError for virtual tokens, which have no layer that could be followed
    or trained as the others are, and for adapters that PEFT does not load twice alike."""
    assert reference.adapter is not None
    kind, said = kind_of(reference.adapter), reference.text
    if kind.in_forward and kind.name != ACTIVATED:
        raise InputError(
            f"{said}: an adapter of virtual tokens ({kind.name}); only adapters of weights can be used: "
            "train one on the same data with `compatcheck train-task`"
        )
    if "_niter_" in kind.name:  # torch.svd_lowrank starts from random numbers
        raise InputError(
            f"{said}: {kind.name}: PEFT finds what it stands on by a random method at every load, and other weights "
            "each time; save it as plain LoRA with PEFT's path_initial_model_for_weight_conversion"
        )
    wrapped = put_adapter(model, reference.adapter, name, []).eval()
    if depends_on_batch(wrapped):
        raise InputError(
            f"{said}: its outputs for a text depend on the texts beside it in a batch, so that it cannot be followed "
            f"or trained in batches; {_WAY_OUT}"
        )
    return wrapped


def _check_path(reference: Reference, wrapped: Any, adapter: str, expected: Tensor) -> None:
    """Refuse (InputError) a model whose log-probabilities hidden states and output layer, as training reads them, do
    not make, as where an adapter works elsewhere."""
    assert reference.adapter is not None
    inner = wrapped.get_base_model()
    decoder, head = decoder_of(inner), head_of(inner, adapter)

    class AsTrained:
        get_input_embeddings = staticmethod(wrapped.get_input_embeddings)

        def __call__(self, **inputs: Any) -> Any:
            return SimpleNamespace(logits=head.logits(decoder(**inputs).last_hidden_state))

    worst = difference(expected, probe(AsTrained(), reference.adapter))
    if worst > TOLERANCE.get(str(head.weight.dtype).removeprefix("torch."), 0.05):
        raise InputError(
            f"{reference.text}: an adapter of kind {kind_of(reference.adapter).name} whose outputs cannot be followed "
            f"layer by layer (log-probabilities differ by up to {worst:.2g}); merge it into its base and name that"
        )


@dataclass
class Student:
    """NEW's base with the adapter that is trained, and NEW's own frozen one beside it (``teacher``; None where NEW is a
    full model: then the base alone is the teacher)."""

    peft: Any
    reference: Reference
    teacher: str | None

    @property
    def base(self) -> Any:
        """The causal language model inside, with its layers as the active adapter makes them."""
        return self.peft.get_base_model()

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The trained parameters by name, sorted."""
        named = ((n, p) for n, p in self.peft.named_parameters() if _belongs(n, COMPAT) and p.is_floating_point())
        return dict(sorted(named))

    @contextlib.contextmanager
    def as_teacher(self) -> Iterator[None]:
        """NEW itself, without gradients; the student again afterwards."""
        training = self.peft.training
        with torch.no_grad():
            if self.teacher is None:
                with self.peft.disable_adapter():
                    self.peft.eval()
                    yield
            else:
                self.peft.set_adapter(self.teacher, inference_mode=True)
                self.peft.eval()
                try:
                    yield
                finally:
                    self.peft.set_adapter(COMPAT)
        self.peft.train(training)


def load_student(reference: Reference, settings: TrainSettings, device: torch.device | str) -> Student:
    """NEW with a trainable copy of its adapter, which has its exact weights, in float32, and no dropout; where NEW is a
    full model, with a fresh LoRA adapter that adds nothing. InputError for an adapter that cannot be trained on."""
    from peft import LoraConfig, get_peft_model

    base = load_base(reference, settings, device)
    torch.manual_seed(settings.seed)
    if reference.adapter is None:
        config = LoraConfig(
            r=settings.lora_rank, lora_alpha=settings.lora_alpha, lora_dropout=0.0, target_modules="all-linear",
            task_type="CAUSAL_LM",
        )  # fmt: skip
        student = Student(get_peft_model(base, config, adapter_name=COMPAT), reference, None)
    else:
        wrapped = _with_adapter(reference, base, NEW)
        expected = probe(wrapped, reference.adapter)
        reach_through(wrapped)
        _add_copy(wrapped, reference.text)
        wrapped.set_adapter(COMPAT)
        student = Student(wrapped, reference, NEW)
        wrapped.eval()
        _check_path(reference, wrapped, COMPAT, expected)
        with student.as_teacher():
            _check_path(reference, wrapped, NEW, expected)
    student.peft.peft_config[COMPAT].base_model_name_or_path = str(reference.base)
    _without_dropout(student.peft)
    student.peft.requires_grad_(False)
    for parameter in student.parameters().values():
        parameter.requires_grad_(True)
        parameter.data = parameter.data.float() if parameter.dtype != torch.float64 else parameter.data
    if not student.parameters():
        raise InputError(f"{reference.text}: its adapter has no weights that can be trained")
    if settings.gradient_checkpointing:
        student.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        student.base.enable_input_require_grads()
    student.peft.train(settings.gradient_checkpointing)
    return student


def _belongs(parameter: str, adapter: str) -> bool:
    """Whether a parameter of a PEFT model, by its name, is that adapter's."""
    return f".{adapter}." in f"{parameter}."


def _add_copy(wrapped: Any, said: str) -> None:
    """Put a trainable copy beside NEW's adapter on one base: equal to it to the bit, whatever its kind. One that
    changed its base when it was loaded (PiSSA, OLoRA, LoftQ), or brought biases for it, did so once: the copy stands on
    that base as it is. InputError for a kind of which PEFT takes one at a time."""
    config = copy.copy(wrapped.peft_config[NEW])
    config.inference_mode = False
    if hasattr(config, "init_lora_weights"):
        config.init_lora_weights = True
    if getattr(config, "bias", "none") != "none":
        config.bias = "none"
    try:
        wrapped.add_adapter(COMPAT, config)
    except Exception as error:  # peft raises many kinds
        raise InputError(
            f"{said}: PEFT takes one adapter of this kind at a time ({one_line(error)}), so that it cannot be trained "
            "beside itself; merge it into its base and name that model"
        ) from error
    mine, others = (
        {
            f"{key}.".replace(f".{adapter}.", ".*."): value
            for key, value in (*wrapped.named_parameters(), *wrapped.named_buffers())
            if _belongs(key, adapter)
        }
        for adapter in (COMPAT, NEW)
    )
    if not mine.keys() <= others.keys():
        raise InputError(
            f"{said}: its layers share weights, which a copy of it does not, so that it cannot be trained beside "
            f"itself; {_WAY_OUT}"
        )
    for key, value in mine.items():
        value.data = others[key].data.clone()


def _without_dropout(model: Any) -> None:
    """Every dropout off, in training mode too: at the first step the student equals NEW."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    for name, value in list(vars(model.config).items()) if hasattr(model, "config") else []:
        if ("dropout" in name or "pdrop" in name) and isinstance(value, float):
            setattr(model.config, name, 0.0)


def save_adapter(student: Student, folder: Path) -> None:
    """The trained adapter as a standard PEFT folder: safetensors, a base that every program finds (a hub id, or an
    absolute path), and NEW's own tokenizer where it has one."""
    from safetensors.torch import load_file, save_file

    temporary, reference = partial_of(folder), student.reference
    shutil.rmtree(temporary, ignore_errors=True)
    config = student.peft.peft_config[COMPAT]
    before = config.inference_mode
    student.peft.save_pretrained(str(temporary), selected_adapters=[COMPAT], safe_serialization=True)
    config.inference_mode = before
    made = temporary / COMPAT
    written: dict[str, Any] = dict(read_config(made))
    if reference.adapter is not None:
        # NEW's settings, and weights that the copy stands on without training them, such as biases of the base
        written |= {key: value for key, value in read_config(reference.adapter).items() if key not in _OF_THE_COPY}
        own, given = load_file(made / WEIGHTS), load_file(reference.adapter / WEIGHTS)
        tensors = {key: own.get(key, value).contiguous() for key, value in given.items()}
        save_file(tensors, made / WEIGHTS, metadata={"format": "pt"})
    name = reference.base_name or str(reference.base)
    local = user_path(name)
    if local.exists():
        written["base_model_name_or_path"] = str(local.resolve())
    else:
        written["base_model_name_or_path"], _, revision = name.partition("@")
        written["revision"] = revision or None
    written["inference_mode"] = True
    if "lora_dropout" in written:
        written["lora_dropout"] = 0.0
    if isinstance(written.get("target_modules"), list):
        written["target_modules"] = sorted(written["target_modules"])
    (made / CONFIG).write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
    (made / "README.md").unlink(missing_ok=True)
    if reference.adapter is not None and reference.tokenizer is not None:
        tokenizer.copy(reference.adapter, made)
    put(made, folder)
    shutil.rmtree(temporary, ignore_errors=True)
