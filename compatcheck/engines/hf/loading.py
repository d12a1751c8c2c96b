"""Loading models and adapters, and the proof that nothing was left out. Every engine and the training load here.

transformers fills what a checkpoint lacks with random numbers, PEFT leaves out what an adapter's configuration does not
name; both go on with a warning. Here each is refused, in one line that names the likely cause.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.engines.hf.rows import fit_rows
from compatcheck.errors import InputError, one_line
from compatcheck.models import WEIGHTS, AdapterKind, kind_of, read_config

if TYPE_CHECKING:
    from torch import Tensor

LOAD_ERRORS = (OSError, ValueError, TypeError, AttributeError, ImportError, KeyError, RuntimeError, AssertionError)
"""What transformers raises for a model that it cannot load."""
_PREFIXES = ("_orig_mod.", "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, DataParallel and FSDP put before the names of weights, saved without unwrapping."""
_SHOWN = 3


@contextmanager
def without_bars() -> Iterator[None]:
    """transformers draws no bars of its own while weights are loaded."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextmanager
def listening(notes: list[str]) -> Iterator[None]:
    """What transformers and PEFT warn of meanwhile is added to ``notes``, one line each, and printed nowhere."""
    logger = logging.getLogger("transformers")
    handlers, propagates = logger.handlers, logger.propagate
    told_by_log = _Kept(notes)
    logger.handlers, logger.propagate = [told_by_log], False
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always", UserWarning)
            yield
    finally:
        logger.handlers, logger.propagate = handlers, propagates
    for warning in heard:
        told = issubclass(warning.category, UserWarning) and re.search(
            r"[/\\](peft|transformers)[/\\]", warning.filename
        )
        sentence = one_line(Warning(str(warning.message)))
        if told and sentence not in notes:
            notes.append(sentence)


class _Kept(logging.Handler):
    """Adds the first line of every warning to some notes."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        sentence = one_line(Warning(record.getMessage()))
        if "LOAD REPORT" not in sentence and sentence not in self._notes:  # that one is read, not shown
            self._notes.append(sentence)


class Checked:
    """An Auto class of transformers whose ``from_pretrained`` refuses a checkpoint that is not taken whole."""

    def __init__(self, auto_class: Any, name: str, unused: Callable[[str], None] | None = None) -> None:
        """``unused`` gets a sentence on weights that the model has no place for; without it they are refused."""
        self._class = auto_class
        self._name = name
        self._unused = unused

    def from_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        model, info = self._class.from_pretrained(*args, output_loading_info=True, **kwargs)
        check_weights(self._name, info, self._unused)
        _keep_apart(model)
        return model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._class, name)


def _keep_apart(model: Any) -> None:
    """transformers leaves head and embeddings apart where a checkpoint holds two that differ, whatever its config says;
    the config is made to say so, or a later ``tie_weights()`` (lm-eval calls it) would throw the head away."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    one, other = getattr(embedding, "weight", None), getattr(head, "weight", None)
    if (
        model.config.is_encoder_decoder
        or one is None
        or other is None
        or one is other
        or one.device.type == "meta"
        or other.device.type == "meta"
    ):
        return
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False


def check_weights(name: str, info: Mapping[str, Any], unused: Callable[[str], None] | None = None) -> None:
    """Refuse a model whose weights are not exactly those of its files, by transformers' own account of the loading.

    Raises:
        InputError: weights are missing, of another shape, or have no place in the model.
    """
    missing, unexpected = sorted(info.get("missing_keys") or ()), sorted(info.get("unexpected_keys") or ())
    mismatched = sorted(key if isinstance(key, str) else str(key[0]) for key in info.get("mismatched_keys") or ())
    prefix = next((p for p in _PREFIXES if any(p in key for key in unexpected)), None)
    if mismatched:
        raise InputError(f"{name}: {_named(mismatched)} of another shape in its files than config.json says")
    if missing:
        cause = (
            f"the names in its files carry '{prefix}': save the unwrapped model again"
            if prefix
            else f"its files hold {_named(unexpected)} instead"
            if unexpected
            else "they were not saved, or config.json is another model's"
        )
        raise InputError(
            f"{name}: its files lack {_named(missing)}, which would be filled with random numbers; {cause}"
        )
    errors = info.get("error_msgs") or ()
    if errors:
        raise InputError(f"{name}: {one_line(Warning(next(iter(errors))))}")
    if unexpected:
        said = f"{name}: its files hold {_named(unexpected)} that the model of its config.json has no place for"
        if unused is None:
            raise InputError(
                f"{said}; load it with the class it was saved from, or say --engine-arg unused_weights=true if they "
                "are not needed"
            )
        unused(said)


def _named(keys: Collection[str]) -> str:
    shown = ", ".join(list(keys)[:_SHOWN])
    return shown if len(keys) <= _SHOWN else f"{shown} and {len(keys) - _SHOWN} more"


def load_causal(path: str | Path, **kwargs: Any) -> Any:
    """A causal language model as its files hold it; ``kwargs`` are those of transformers' ``from_pretrained``.

    Raises:
        InputError: it cannot be loaded, or its weights are not whole.
    """
    from transformers import AutoModelForCausalLM

    try:
        with without_bars():
            return Checked(AutoModelForCausalLM, str(path)).from_pretrained(path, **kwargs)
    except LOAD_ERRORS as error:
        raise InputError(f"{path}: cannot be loaded: {one_line(error)}") from error


def put_adapter(model: Any, folder: str | Path, name: str, notes: list[str], **kwargs: Any) -> Any:
    """Put an adapter on a base, or beside the adapters that are there, and show that every weight of it arrived.

    Args:
        model: a base, or what an earlier call returned.
        kwargs: of PEFT's ``from_pretrained`` and ``load_adapter``.

    Returns:
        The ``PeftModel``.

    Raises:
        InputError: it cannot be read, does not fit, or part of it would be left out.
    """
    from peft import PeftModel

    folder = str(folder)
    _check_settings(folder, notes)
    try:
        with listening(notes):
            if isinstance(model, PeftModel):
                result = model.load_adapter(folder, adapter_name=name, **kwargs)
            else:
                fit_rows(model, Path(folder))
                model = PeftModel.from_pretrained(model, folder, adapter_name=name, **kwargs)
                # Once more, for what it returns: from_pretrained tells of missing weights alone.
                result = model.load_adapter(folder, adapter_name=name, **kwargs)
    except InputError:
        raise
    except Exception as error:  # peft lets many kinds through, from safetensors' own to TypeError
        file = Path(folder) / (WEIGHTS if type(error).__name__ == "SafetensorError" else "adapter_config.json")
        raise InputError(
            f"{file}: adapter cannot be put on its base: {one_line(error).replace(f'.{name}', '')}"
        ) from error
    _check_arrived(folder, model, name, result)
    notes[:] = [note for note in notes if "missing adapter keys" not in note]
    return model


def _check_settings(folder: str, notes: list[str]) -> None:
    """Settings that this PEFT does not know are dropped by it: refused where they switch something on."""
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    config = read_config(Path(folder))
    kind = PEFT_TYPE_TO_CONFIG_MAPPING.get(config.get("peft_type"))
    if kind is None:
        raise InputError(
            f"{folder}: peft_type {config.get('peft_type')!r} in adapter_config.json is unknown to PEFT "
            f"{peft.__version__}; upgrade PEFT"
        )
    known = {one.name for one in fields(kind)}
    unknown = {key: value for key, value in config.items() if key not in known and value not in (None, False, {}, [])}
    for key, value in unknown.items():
        said = f"{folder}: adapter_config.json sets {key}, which PEFT {peft.__version__} does not know"
        if isinstance(value, bool | str | list | dict):
            raise InputError(f"{said} and would leave out; upgrade PEFT, or take the key out if it has no effect")
        notes.append(f"{said}: it had no effect.")


def _check_arrived(folder: str, model: Any, name: str, result: Any) -> None:
    """Every weight of the file has a place, every place has a weight, and the values are those of the file.

    Raises:
        InputError: not so.
    """
    from peft import get_peft_model_state_dict
    from peft.utils import load_peft_weights

    prefix = next((p for p in _PREFIXES if any(p in key for key in result.unexpected_keys)), None)
    if prefix is not None:
        raise InputError(f"{folder}: the names in {WEIGHTS} carry '{prefix}': save the unwrapped adapter again")
    missing = [key.replace(f".{name}", "") for key in _not_shared(model, result.missing_keys)]
    if missing:
        raise InputError(
            f"{folder}: adapter does not fit its base: {WEIGHTS} lacks {_named(missing)}, which "
            "its adapter_config.json names; it was made for another base, or part of it was not saved"
        )
    there = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    stored = load_peft_weights(folder, device="cpu")
    left = set(result.unexpected_keys) - there.keys()  # virtual tokens have no place in the layers
    unexpected = sorted(key.removeprefix("base_model.model.") for key in left if not _twice(key, stored, left))
    if unexpected:
        raise InputError(
            f"{folder}: {WEIGHTS} holds weights that have no place: {_named(unexpected)}; it was trained on "
            "another base, or target_modules, modules_to_save or layers_to_transform in adapter_config.json changed"
        )
    for key, value in stored.items():
        loaded = there.get(key)
        if loaded is not None and not _same(value, loaded):
            raise InputError(
                f"{folder}: {key} was not loaded as its file holds it; report this with the adapter's kind"
            )


def _not_shared(model: Any, missing: Iterable[str]) -> list[str]:
    """Those of the missing names whose tensor did not arrive under another name either (VB-LoRA's one bank of all)."""
    named = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    absent = set(missing)
    arrived = {id(tensor) for name, tensor in named.items() if name not in absent}
    return sorted(name for name in absent if name not in named or id(named[name]) not in arrived)


def _twice(key: str, stored: Mapping[str, Tensor], left: Collection[str]) -> bool:
    """With a grown vocabulary PEFT writes some weights twice: a saved embedding as the adapter's and as the module's,
    trained tokens for each of two tied matrices."""
    if ".modules_to_save." in key:
        others = [key.replace(".modules_to_save.", ".")]
    else:
        tail = ".token_adapter." + key.rpartition(".token_adapter.")[2]
        others = [other for other in stored if other.endswith(tail)]
    return any(other in stored and _same(stored[key], stored[other]) for other in others if other not in left)


def _same(stored: Tensor, loaded: Tensor) -> bool:
    import torch

    if stored.shape != loaded.shape:
        return False
    if not stored.is_floating_point():
        return bool((stored == loaded.cpu()).all())
    narrow = min(stored.element_size(), loaded.element_size()) < 4
    tolerance = 1e-2 if narrow else 1e-6
    return torch.allclose(stored.float(), loaded.detach().cpu().float(), rtol=tolerance, atol=1e-7, equal_nan=True)


class Adapters:
    """A base with PEFT adapters on it, unmerged; at most one active at a time.

    Several may share the base where each only adds to it; another kind is alone on its base, and the base with it.
    """

    def __init__(self, base: Any, folders: Mapping[str, str | Path], notes: list[str] | None = None) -> None:
        """Load all adapters.

        Raises:
            InputError: an adapter that cannot be read or does not fit the base, or kinds that cannot share one.
        """
        self.base = base
        self.active: str | None = None
        self._peft: Any = None
        self._off = False
        # PEFT looks for an adapter's name anywhere in a weight's: "run-1" would be in "run-10", "1" in "layers.1".
        self._peft_names = {name: f"side_{number}_" for number, name in enumerate(folders)}
        self._kinds: dict[str, AdapterKind] = {name: kind_of(Path(folder)) for name, folder in folders.items()}
        self._check_alone(folders)
        before = _checksums(base) if self.shared and folders else {}
        for name, folder in folders.items():
            self._peft = put_adapter(
                base if self._peft is None else self._peft,
                folder,
                self._peft_names[name],
                [] if notes is None else notes,
            )
        if before and _checksums(base, before) != before:
            raise InputError(
                f"{next(iter(folders.values()))}: loading it changed the base's weights, so that no other model can "
                "share the base; evaluate each side with `compatcheck run` and compare the two kept runs"
            )
        if folders:
            self.activate(next(iter(folders)))

    def _check_alone(self, folders: Mapping[str, str | Path]) -> None:
        special = next((name for name, kind in self._kinds.items() if not kind.plain), None)
        if special is not None and len(self._kinds) > 1:
            raise InputError(f"{folders[special]}: {self._kinds[special].own_base}: it cannot share a base with others")

    @property
    def shared(self) -> bool:
        """Whether the base is what it is without adapters."""
        return all(kind.plain for kind in self._kinds.values())

    @property
    def names(self) -> list[str]:
        return list(self._peft_names)

    @property
    def model(self) -> Any:
        """The model to call: with the active adapter, or the base alone."""
        return self.base if self.active is None else self._peft

    @property
    def kind(self) -> AdapterKind | None:
        """The kind of the active adapter; None where the base is active."""
        return None if self.active is None else self._kinds[self.active]

    def activate(self, name: str | None) -> None:
        """Use one adapter, or none.

        Raises:
            InputError: no adapter of that name, or the base alone where an adapter changed it.
        """
        if name is not None and name not in self.names:
            known = ", ".join(map(repr, self.names)) or "none"
            raise InputError(f"no adapter named {name!r} is loaded; loaded: {known}")
        if name is None and not self.shared:
            raise InputError(f"the base cannot be used beside {', '.join(self.names)}: load it by itself")
        tuner: Any = getattr(self._peft, "base_model", None)
        if name is None:
            if hasattr(tuner, "disable_adapter_layers"):
                tuner.disable_adapter_layers()
        else:
            if len(self.names) > 1:
                self._peft.set_adapter(self._peft_names[name])
            if self._off and hasattr(tuner, "enable_adapter_layers"):  # adaption prompts fail where they are on already
                tuner.enable_adapter_layers()
        self._off = name is None
        self.active = name


def _checksums(base: Any, of: Iterable[int] | None = None) -> dict[int, int]:
    """The sum of every tensor's bits, by the tensor's identity; of the given ones alone."""
    import torch

    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    wanted = None if of is None else set(of)
    found = {}
    for tensor in [*base.parameters(), *base.buffers()]:
        if (wanted is None or id(tensor) in wanted) and tensor.device.type != "meta":
            bits = tensor.detach().contiguous().view(-1).view(whole.get(tensor.element_size(), torch.uint8))
            found[id(tensor)] = int(bits.sum(dtype=torch.int64))
    return found
