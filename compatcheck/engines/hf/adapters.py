"""Adapters put on a base, and the proof that every weight of them arrived.

PEFT leaves out what an adapter's configuration does not name and goes on with a warning. Here that is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.engines.base import check_adapter
from compatcheck.engines.hf.loading import listening, named, wrapper_of
from compatcheck.errors import InputError, one_line
from compatcheck.models import WEIGHTS, AdapterKind, kind_of, read_config
from compatcheck.models.files import tensor_shapes

if TYPE_CHECKING:
    from torch import Tensor

_WRAPPED = re.compile(r"(\.token_adapter)?\.(base_layer|original_module|modules_to_save)$")
"""What PEFT puts after the name of an embedding or a head that it works on."""


def put_adapter(model: Any, folder: str | Path, name: str, notes: list[str], **kwargs: Any) -> Any:
    """Put an adapter on a base, or beside the adapters that are there, and show that every weight of it arrived;
    returns the ``PeftModel``. ``model`` is a base, or what an earlier call returned; ``kwargs`` are those of PEFT's
    ``from_pretrained`` and ``load_adapter``. Raises InputError: it cannot be read, does not fit, or part of it would be
    left out."""
    from peft import PeftModel

    folder = str(folder)
    _check_settings(folder, notes)
    try:
        with listening(notes):
            if not isinstance(model, PeftModel):
                fit_rows(model, Path(folder))
                model = PeftModel.from_pretrained(model, folder, adapter_name=name, **kwargs)
            # After from_pretrained once more, for what it returns: that tells of missing weights alone.
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
    for key, value in config.items():
        if key in known or value in (None, False, {}, []):
            continue
        said = f"{folder}: adapter_config.json sets {key}, which PEFT {peft.__version__} does not know"
        if isinstance(value, bool | str | list | dict):
            raise InputError(f"{said} and would leave out; upgrade PEFT, or take the key out if it has no effect")
        notes.append(f"{said}: it had no effect.")


def _check_arrived(folder: str, model: Any, name: str, result: Any) -> None:
    """Every weight of the file has a place, every place has a weight, and the values are those of the file."""
    from peft import get_peft_model_state_dict
    from peft.utils import load_peft_weights

    if wrapper := wrapper_of(result.unexpected_keys):
        raise InputError(f"{folder}: the names in {WEIGHTS} carry '{wrapper}': save the unwrapped adapter again")
    missing = [key.replace(f".{name}", "") for key in _not_shared(model, result.missing_keys)]
    if missing:
        raise InputError(
            f"{folder}: adapter does not fit its base: {WEIGHTS} lacks {named(missing)}, which "
            "its adapter_config.json names; it was made for another base, or part of it was not saved"
        )
    there = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    stored = load_peft_weights(folder, device="cpu")
    left = set(result.unexpected_keys) - there.keys()  # virtual tokens have no place in the layers
    unexpected = sorted(key.removeprefix("base_model.model.") for key in left if not _twice(key, stored, left))
    if unexpected:
        raise InputError(
            f"{folder}: {WEIGHTS} holds weights that have no place: {named(unexpected)}; it was trained on "
            "another base, or target_modules, modules_to_save or layers_to_transform in adapter_config.json changed"
        )
    for key, value in stored.items():
        if key in there and not _same(value, there[key]):
            raise InputError(
                f"{folder}: {key} was not loaded as its file holds it; report this with the adapter's kind"
            )


def _not_shared(model: Any, missing: Iterable[str]) -> list[str]:
    """Those of the missing names whose tensor did not arrive under another name either (VB-LoRA's one bank of all)."""
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    absent = set(missing)
    arrived = {id(tensor) for name, tensor in tensors.items() if name not in absent}
    return sorted(name for name in absent if name not in tensors or id(tensors[name]) not in arrived)


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
    tolerance = 1e-2 if min(stored.element_size(), loaded.element_size()) < 4 else 1e-6
    return torch.allclose(stored.float(), loaded.detach().cpu().float(), rtol=tolerance, atol=1e-7, equal_nan=True)


def fit_rows(base: Any, folder: Path) -> None:
    """Give a base the number of embedding rows that an adapter's own embeddings or head were saved with.

    New rows are overwritten by the adapter's. Raises InputError: the adapter holds the new rows of one of the two
    matrices alone."""
    path = folder / WEIGHTS
    embedding, head = base.get_input_embeddings(), base.get_output_embeddings()
    names = {name for name, module in base.named_modules() if module is not None and module in (embedding, head)}
    saved: dict[str, int] = {}
    for key, shape in (tensor_shapes(path) if path.is_file() else {}).items():
        module, _, what = key.removeprefix("base_model.model.").rpartition(".")
        module = _WRAPPED.sub("", module)
        if module in names and what == "weight" and len(shape) == 2:
            saved[module] = shape[0]
    if not saved or embedding is None:
        return
    old, rows = embedding.weight.shape[0], next(iter(saved.values()))
    if rows == old:
        return
    if rows > old and head is not None and head.weight is not embedding.weight and len(saved) == 1:
        raise InputError(
            f"{folder}: {WEIGHTS} holds {rows} rows of {next(iter(saved))} where its base has {old}, but not those of "
            "the other one of embeddings and head, which would be filled with random numbers; name both in "
            "target_modules or modules_to_save when it is trained"
        )
    base.resize_token_embeddings(rows, mean_resizing=False)


class Adapters:
    """A base with PEFT adapters on it, unmerged; at most one active at a time.

    Several may share the base where each only adds to it; another kind is alone on its base, and the base with it."""

    def __init__(self, base: Any, folders: Mapping[str, str | Path], notes: list[str] | None = None) -> None:
        """Load all adapters. Raises InputError: an adapter that cannot be read or does not fit the base, or kinds that
        cannot share one."""
        self.base = base
        self.active: str | None = None
        self._peft: Any = None
        self._off = False
        # PEFT looks for an adapter's name anywhere in a weight's: "run-1" would be in "run-10", "1" in "layers.1".
        self._peft_names = {name: f"side_{number}_" for number, name in enumerate(folders)}
        self._kinds: dict[str, AdapterKind] = {name: kind_of(Path(folder)) for name, folder in folders.items()}
        special = next((name for name, kind in self._kinds.items() if not kind.plain), None)
        if special is not None and len(folders) > 1:
            raise InputError(f"{folders[special]}: {self._kinds[special].own_base}: it cannot share a base with others")
        before = _checksums(base) if self.shared and folders else {}
        notes = [] if notes is None else notes
        for name, folder in folders.items():
            self._peft = put_adapter(base if self._peft is None else self._peft, folder, self._peft_names[name], notes)
        if before and _checksums(base, before) != before:
            raise InputError(
                f"{next(iter(folders.values()))}: loading it changed the base's weights, so that no other model can "
                "share the base; evaluate each side with `compatcheck run` and compare the two kept runs"
            )
        if folders:
            self.activate(next(iter(folders)))

    @property
    def shared(self) -> bool:
        """Whether the base is what it is without adapters."""
        return all(kind.plain for kind in self._kinds.values())

    @property
    def model(self) -> Any:
        """The model to call: with the active adapter, or the base alone."""
        return self.base if self.active is None else self._peft

    @property
    def kind(self) -> AdapterKind | None:
        """The kind of the active adapter; None where the base is active."""
        return None if self.active is None else self._kinds[self.active]

    def activate(self, name: str | None) -> None:
        """Use one adapter, or none. Raises InputError: no adapter of that name, or the base alone where an adapter
        changed it."""
        check_adapter(name, self._kinds)
        if name is None and not self.shared:
            raise InputError(f"the base cannot be used beside {', '.join(self._kinds)}: load it by itself")
        tuner: Any = getattr(self._peft, "base_model", None)
        if name is None:
            if hasattr(tuner, "disable_adapter_layers"):
                tuner.disable_adapter_layers()
        else:
            if len(self._kinds) > 1:
                self._peft.set_adapter(self._peft_names[name])
            if self._off and hasattr(tuner, "enable_adapter_layers"):  # adaption prompts fail where they are on already
                tuner.enable_adapter_layers()
        self._off = name is None
        self.active = name


def _checksums(base: Any, of: Collection[int] | None = None) -> dict[int, int]:
    """The sum of every tensor's bits, by the tensor's identity; of the given ones alone."""
    import torch

    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    found = {}
    for tensor in [*base.parameters(), *base.buffers()]:
        if (of is None or id(tensor) in of) and tensor.device.type != "meta":
            bits = tensor.detach().contiguous().view(-1).view(whole.get(tensor.element_size(), torch.uint8))
            found[id(tensor)] = int(bits.sum(dtype=torch.int64))
    return found
