"""Loading the student with its teacher adapter, and the old model; saving an adapter as PEFT folders are."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from compatcheck.engines.hf.loading import load_causal, put_adapter
from compatcheck.engines.hf.proof import TOLERANCE, depends_on_batch, difference, probe
from compatcheck.errors import InputError, one_line
from compatcheck.models import ACTIVATED, kind_of
from compatcheck.references import Reference
from compatcheck_train.fix.folders import put
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training.copies import add_copy, belongs, complete
from compatcheck_train.training.head import check_head, decoder_of, head_of, reach_through

COMPAT, NEW = "compat", "new"


def device_of(settings: TrainSettings) -> str:
    """The device that settings mean: their own, or an accelerator where there is one."""
    if settings.device is not None:
        return settings.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype_of(reference: Reference, settings: TrainSettings) -> torch.dtype:
    """The dtype a base is loaded in."""
    if settings.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.dtype]
    assert reference.base is not None
    config = json.loads((reference.base / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config") or config
    named = str(text.get("dtype") or text.get("torch_dtype") or "float32")
    if device_of(settings) == "cpu" or named == "float32":
        return torch.float32
    return torch.bfloat16


_ALIGNMENT = 64
"""Bytes that torch's allocator for a CPU aligns to."""


def load_base(reference: Reference, settings: TrainSettings, device: torch.device | str) -> Any:
    """The reference's base model, every dropout off, in evaluation mode.

    Raises:
        InputError: it cannot be loaded, or is no causal language model.
    """
    assert reference.base is not None
    model = load_causal(
        reference.base, dtype=dtype_of(reference, settings), trust_remote_code=settings.trust_remote_code
    )
    if model.config.is_encoder_decoder:
        raise InputError(f"{reference.text}: an encoder-decoder model; only causal language models can be trained")
    _without_dropout(model)
    _align(model)
    return model.to(device).eval()


def _align(model: Any) -> None:
    """Have weights lie where torch's own allocator puts them. Mapped from a file they lie at any byte, and matrix
    products on a CPU round differently then: a kept copy of an output layer would not give its logits to the bit."""
    for parameter in model.parameters():
        if parameter.data_ptr() % _ALIGNMENT:
            parameter.data = parameter.data.clone()


def load_tokenizer(reference: Reference, settings: TrainSettings) -> Any:
    """The reference's tokenizer: that of its base, or of the adapter's folder where it differs.

    Raises:
        InputError: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        folder = reference.tokenizer or reference.base
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=settings.trust_remote_code)
    except Exception as error:  # the tokenizers library raises plain ones
        raise InputError(f"{reference.text}: its tokenizer cannot be loaded: {one_line(error)}") from error


def load_old(reference: Reference, settings: TrainSettings, device: torch.device | str) -> Any:
    """The old model, frozen, with its adapter if it has one."""
    model = load_base(reference, settings, device)
    check_head(model, head_of(model), model.config.get_text_config().vocab_size)
    if reference.adapter is None:
        return model.requires_grad_(False)
    _refuse_kinds(reference)
    wrapped = put_adapter(model, reference.adapter, "old", []).eval().requires_grad_(False)
    _refuse_batches(reference, wrapped)
    reach_through(wrapped)
    _check_path(reference, wrapped, "old", probe(wrapped, reference.adapter))
    return wrapped


def _refuse_batches(reference: Reference, wrapped: Any) -> None:
    if depends_on_batch(wrapped):
        raise InputError(
            f"{reference.text}: its outputs for a text depend on the texts beside it in a batch, so that it cannot be "
            "followed or trained in batches; train one of another kind on the same data with `compatcheck train-task`"
        )


def _check_path(reference: Reference, wrapped: Any, adapter: str, expected: torch.Tensor) -> None:
    """Whether hidden states and output layer, as training reads them, make the log-probabilities of the model.

    Raises:
        InputError: they do not, as where an adapter works elsewhere.
    """
    assert reference.adapter is not None
    inner = wrapped.get_base_model()
    decoder, head = decoder_of(inner), head_of(inner, adapter)

    class AsTrained:
        get_input_embeddings = staticmethod(wrapped.get_input_embeddings)

        def __call__(self, **inputs: Any) -> Any:
            return SimpleNamespace(logits=head.logits(decoder(**inputs).last_hidden_state))

    worst = difference(expected, probe(AsTrained(), reference.adapter))
    dtype = str(head.weight.dtype).removeprefix("torch.")
    if worst > TOLERANCE.get(dtype, 0.05):
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
        return dict(
            sorted((n, p) for n, p in self.peft.named_parameters() if belongs(n, COMPAT) and p.is_floating_point())
        )

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
    """NEW with a trainable copy of its adapter; where it is a full model, with a fresh LoRA adapter that adds nothing.

    The copy has NEW's exact weights, in float32, and no dropout.

    Raises:
        InputError: an adapter that cannot be trained on.
    """
    from peft import LoraConfig, get_peft_model

    base = load_base(reference, settings, device)
    check_head(base, head_of(base), base.config.get_text_config().vocab_size)
    torch.manual_seed(settings.seed)
    if reference.adapter is None:
        config = LoraConfig(
            r=settings.lora_rank, lora_alpha=settings.lora_alpha, lora_dropout=0.0, target_modules="all-linear",
            task_type="CAUSAL_LM",
        )  # fmt: skip
        student = Student(get_peft_model(base, config, adapter_name=COMPAT), reference, None)
    else:
        _refuse_kinds(reference)
        wrapped = put_adapter(base, reference.adapter, NEW, []).eval()
        _refuse_batches(reference, wrapped)
        expected = probe(wrapped, reference.adapter)
        reach_through(wrapped)
        add_copy(wrapped, NEW, COMPAT, reference.text)
        wrapped.set_adapter(COMPAT)
        student = Student(wrapped, reference, NEW)
        wrapped.eval()
        _check_path(reference, wrapped, COMPAT, expected)
        with student.as_teacher():
            _check_path(reference, wrapped, NEW, expected)
    student.peft.peft_config[COMPAT].base_model_name_or_path = str(reference.base)
    _without_dropout(student.peft)
    for parameter in student.peft.parameters():
        parameter.requires_grad_(False)
    for parameter in student.parameters().values():
        parameter.requires_grad_(True)
        parameter.data = parameter.data.float() if parameter.dtype != torch.float64 else parameter.data
    if not student.parameters():
        raise InputError(f"{reference.text}: its adapter has no weights that can be trained")
    if settings.gradient_checkpointing:
        student.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        student.base.enable_input_require_grads()
        student.peft.train()
    else:
        student.peft.eval()
    return student


def _refuse_kinds(reference: Reference) -> None:
    """Refuse virtual tokens, which have no layer that could be followed or trained as the others are, and adapters that
    PEFT does not load twice alike."""
    assert reference.adapter is not None
    kind = kind_of(reference.adapter)
    if kind.in_forward and kind.name != ACTIVATED:
        raise InputError(
            f"{reference.text}: an adapter of virtual tokens ({kind.name}); only adapters of weights can be used: "
            "train one on the same data with `compatcheck train-task`"
        )
    if "_niter_" in kind.name:  # torch.svd_lowrank starts from random numbers
        raise InputError(
            f"{reference.text}: {kind.name}: PEFT finds what it stands on by a random method at every load, and other "
            "weights each time; save it as plain LoRA with PEFT's path_initial_model_for_weight_conversion"
        )


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
    """The trained adapter as a standard PEFT folder: safetensors, the base named so that every program finds it.

    A base with a hub id keeps that; a local one is named by its absolute path.
    """
    import shutil

    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    config = student.peft.peft_config[COMPAT]
    before = config.inference_mode
    student.peft.save_pretrained(str(temporary), selected_adapters=[COMPAT], safe_serialization=True)
    config.inference_mode = before
    made = temporary / COMPAT
    if student.reference.adapter is not None:
        complete(made, student.reference.adapter)
    written = json.loads((made / "adapter_config.json").read_text())
    reference = student.reference
    name = reference.base_name or str(reference.base)
    local = Path(name).expanduser()
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
    (made / "adapter_config.json").write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
    (made / "README.md").unlink(missing_ok=True)
    put(made, folder)
    shutil.rmtree(temporary, ignore_errors=True)
