"""What OLD gave for the texts of a comparison, kept in the user's cache: read once however many NEWs come after it.

Hidden states with the output layer give back the logits, at d numbers a token instead of the vocabulary's size. Files
are written under a temporary name first; a folder is whole once ``done.json`` is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compatcheck.engines.hf.divergence import VOCABULARY_BLOCK, States
from compatcheck.engines.hf.head import Head
from compatcheck.engines.hf.states import Text
from compatcheck.errors import InputError
from compatcheck.paths import cache_dir

_DONE = "done.json"
_FORMAT = "compatcheck.states/1"
POSITIONS = {"cpu": 4096}
"""Positions whose states are in memory at once, by kind of device."""
MORE_POSITIONS = 16_384
_RESIDENT = 0.1
"""An output layer of OLD that is no larger than this share of NEW stays in memory; another one is read by blocks."""


def folder_for(about: Any) -> Path:
    """Where the states of a model at certain texts lie; ``about`` is all that they depend on, as JSON holds it."""
    digest = hashlib.sha256(json.dumps([_FORMAT, about], sort_keys=True, default=str).encode())
    return cache_dir("states", digest.hexdigest()[:32])


def save_tensors(tensors: dict[str, Tensor | None], path: Path) -> None:
    """Write a safetensors file whole or not at all, without those that are None. Raises InputError: it cannot be."""
    from safetensors.torch import save_file

    temporary = path.with_suffix(f".{os.getpid()}")
    given = {name: each.detach().cpu().contiguous() for name, each in tensors.items() if each is not None}
    try:
        save_file(given, temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); is the disk full?") from None


def load_tensors(path: Path, device: torch.device | str) -> dict[str, Tensor]:
    """Copied to where torch's own allocator puts them: matrix products round differently on memory that is aligned
    another way, as what is read from a file may be, and what is kept would not equal what is computed to the bit."""
    from safetensors.torch import load_file

    return {name: each.to(device, copy=True) for name, each in load_file(path).items()}


def blocks(texts: Sequence[Text], device: str) -> Iterator[list[int]]:
    """Places of texts, in their order, that together have so many positions as are held at once."""
    most, block, count = POSITIONS.get(device.partition(":")[0], MORE_POSITIONS), list[int](), 0
    for place, text in enumerate(texts):
        if block and count + text.count > most:
            yield block
            block, count = [], 0
        block.append(place)
        count += text.count
    if block:
        yield block


class KeptStates:
    """One folder of states. ``about`` is what was said of it when it was written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: dict[str, Any] = {}
        self._resident: dict[int, Head] | None = None

    @property
    def complete(self) -> bool:
        """Whether all is there; then ``about`` is read. Raises InputError: damaged."""
        file = self.folder / _DONE
        if not file.is_file():
            return False
        try:
            self.about = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._damaged(error) from None
        return True

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"{self.folder}: kept states are damaged ({error}); remove the folder")

    def require(self, positions: int, width: int, head: Head) -> None:
        """Raise InputError where the disk has no room for so many positions."""
        need = (positions * width + head.weight.numel()) * head.weight.element_size()
        free = shutil.disk_usage(self.folder).free
        if need > 0.9 * free:
            raise InputError(
                f"--metric kl keeps {need / 1e9:.1f} GB of OLD's states in {self.folder}, of which {free / 1e9:.1f} GB "
                "are free; take fewer documents (--limit), or name a larger cache (COMPATCHECK_CACHE)"
            )

    def write_head(self, head: Head) -> None:
        for number, start in enumerate(range(0, head.vocabulary, VOCABULARY_BLOCK)):
            part = head.part(start, start + VOCABULARY_BLOCK)
            self._save(f"head-{number:04}", {"weight": part.weight, "bias": part.bias})

    def write_block(self, number: int, hidden: Tensor) -> None:
        self._save(f"states-{number:06}", {"hidden": hidden})

    def finish(self, head: Head, about: dict[str, Any]) -> None:
        """All is written."""
        self.about = {**about, "scale": head.scale, "cap": head.cap, "vocabulary": head.vocabulary}
        self.about["head_bytes"] = head.weight.numel() * head.weight.element_size()
        temporary = self.folder / f"done.{os.getpid()}"
        temporary.write_text(json.dumps(self.about), encoding="utf-8")
        temporary.replace(self.folder / _DONE)

    def _save(self, name: str, tensors: dict[str, Tensor | None]) -> None:
        save_tensors(tensors, self.folder / f"{name}.safetensors")

    def _load(self, name: str, device: torch.device) -> dict[str, Tensor]:
        try:
            return load_tensors(self.folder / f"{name}.safetensors", device)
        except Exception as error:  # safetensors' own, which is no OSError
            raise self._damaged(error) from None

    def read(self, number: int, device: torch.device, parameters: int) -> States:
        """One block, and the output layer; ``parameters`` is the size of NEW in bytes."""
        resident = self.about["head_bytes"] <= _RESIDENT * parameters
        self._resident = ({} if self._resident is None else self._resident) if resident else None

        def part(start: int, end: int) -> Head:
            place = start // VOCABULARY_BLOCK
            head = None if self._resident is None else self._resident.get(place)
            if head is None:
                given = self._load(f"head-{place:04}", device)
                head = Head(given["weight"], given.get("bias"), self.about["scale"], self.about["cap"])
                if self._resident is not None:
                    self._resident[place] = head
            return head.part(0, end - start)

        return States(self._load(f"states-{number:06}", device)["hidden"], part)
