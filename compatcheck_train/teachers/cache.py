"""A teacher that ran once: its hidden states after the final norm, kept in safetensors shards and memory-mapped.

Hidden states with the output layer give back the logits to the bit, at d numbers a token instead of the vocabulary's
size; ``facts`` cost five bytes. A shard holds whole micro-batches and is written under a temporary name first, so an
interrupted run resumes with the shards that are there. The key covers everything that decides the content: weights,
adapter and its configuration, tokenizer, dtype, exact token ids, torch's version.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compatcheck.engines.progress import Progress, SilentProgress
from compatcheck.errors import InputError
from compatcheck.paths import cache_dir
from compatcheck_train.batches import Batch, Plan
from compatcheck_train.loss.head import Head
from compatcheck_train.loss.view import Taught
from compatcheck_train.teachers.online import OnlineTeacher, Wants

_SHARD_BYTES = 2**28
_HEAD = "head.safetensors"


def estimate_bytes(plan: Plan, wants: Wants, width: int, vocabulary: int, item_size: int) -> int:
    """Disk that a cache takes: ``width`` is the size of the hidden states, ``item_size`` bytes of one number."""
    states = width * item_size if "states" in wants else 0
    count = sum(plan.positions(index) for index in range(len(plan.items)))
    return count * (states + (5 if "facts" in wants else 0)) + vocabulary * states


def cache_folder(fingerprint: str, plan: Plan, wants: Wants, dtype: str, device: str, root: Path | None) -> Path:
    """Where the cache with this content lies; made if missing."""
    about = ["compatcheck.teacher/4", fingerprint, dtype, device, torch.__version__, plan.context_weight, sorted(wants)]
    digest = hashlib.sha256(json.dumps(about).encode())
    for group in plan.items:
        digest.update(json.dumps([[[*row.ids, row.answer] for row in item.rows] for item in group]).encode())
    folder = (root if root is not None else cache_dir("teacher")) / digest.hexdigest()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: the teacher cache cannot be written there ({error.strerror or error})") from None
    return folder


def free_bytes(folder: Path) -> int:
    """Free disk space where a folder lies or will lie."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def complete(folder: Path) -> bool:
    return (folder / "done.json").is_file()


def _shards(plan: Plan, bytes_per_position: int) -> list[range]:
    """Micro-batches of every shard, so that each is about a quarter of a gigabyte."""
    found, start, size = [], 0, 0
    for index in range(len(plan.items)):
        more = plan.positions(index) * bytes_per_position
        if size and size + more > _SHARD_BYTES:
            found.append(range(start, index))
            start, size = index, 0
        size += more
    return [*found, range(start, len(plan.items))] if plan.items else found


def build(
    open_teacher: Callable[[], OnlineTeacher], folder: Path, label: str = "old model", *, accelerator: Any = None,
    progress: Progress | None = None, together: bool = False,
) -> None:  # fmt: skip
    """Run a teacher over every micro-batch and keep what it gives; does nothing where that is done.

    Several processes take turns over the shards. The teacher is opened only when something is missing, and closed at
    the end.

    Args:
        together: the teacher's weights are split over the processes, so that all of them must run it equally often.
    """
    if complete(folder):
        return
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator is not None else (0, 1)
    wait = accelerator.wait_for_everyone if accelerator is not None else lambda: None
    wait()  # nobody marks the cache as done before everybody looked
    progress = progress or SilentProgress()
    teacher = open_teacher()
    head, plan = teacher.head, teacher.plan
    assert head is not None
    try:
        states = head.weight.shape[1] * head.weight.element_size() if "states" in teacher.wants else 0
        shards = _shards(plan, states + 5)
        missing = [n for n in range(len(shards)) if not _shard(folder, n).is_file()]
        shares = [sum(len(shards[n]) for n in missing if n % world == each) for each in range(world)]
        progress.start(f"{label}: once over the training data", shares[rank])
        if rank == 0 and states:
            _save({"weight": head.weight} | ({} if head.bias is None else {"bias": head.bias}), folder / _HEAD)
        for number in (n for n in missing if n % world == rank):
            tensors: dict[str, list[Tensor]] = {"hidden": [], "logprob": [], "right": []}
            for index in shards[number]:
                taught = teacher.taught(index)
                for name, parts in tensors.items():
                    if (value := getattr(taught, name)) is not None:
                        parts.append(value.to("cpu", torch.uint8 if name == "right" else None))
                progress.advance(1)
            _save({name: torch.cat(parts) for name, parts in tensors.items() if parts}, _shard(folder, number))
        for _ in range(max(shares) - shares[rank] if together else 0):
            teacher.taught(0)
        about = {"shards": [[each.start, each.stop] for each in shards], "scale": head.scale, "cap": head.cap}
    finally:
        progress.finish()
        teacher.close()
    wait()
    if rank == 0:
        temporary = folder / f"done.{os.getpid()}"
        temporary.write_text(json.dumps(about))
        temporary.replace(folder / "done.json")
    wait()


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05}.safetensors"


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); is the disk full?") from None


class CachedTeacher:
    """Reads what :func:`build` kept. ``head`` may be given, where it is the student's own.

    Tensors are copied to where torch's own allocator puts them: matrix products round differently on memory that is
    aligned another way, as what is read from a file may be, and a kept teacher would not equal one online to the bit.
    """

    def __init__(
        self, folder: Path, plan: Plan, wants: Wants, device: torch.device | str = "cpu", head: Head | None = None
    ) -> None:
        from safetensors import safe_open
        from safetensors.torch import load_file

        try:
            about = json.loads((folder / "done.json").read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: damaged teacher cache ({error}); remove the folder") from None
        self.plan, self.head, self._wants, self._device = plan, head, wants, device
        self._files: list[Any] = []
        self._places: list[tuple[int, int, int]] = []
        for number, (start, stop) in enumerate(about["shards"]):
            self._files.append(safe_open(_shard(folder, number), framework="pt"))
            at = 0
            for index in range(start, stop):
                self._places.append((number, at, at + plan.positions(index)))
                at += plan.positions(index)
        if "states" in wants and head is None:
            weights = {name: each.to(device, copy=True) for name, each in load_file(folder / _HEAD).items()}
            self.head = Head(weights["weight"], weights.get("bias"), about["scale"], about["cap"])

    def taught(self, index: int, batch: Batch | None = None) -> Taught:
        """What was asked for, on the student's device; ``batch``: the micro-batch, where it is there already."""
        shard, start, stop = self._places[index]

        def read(name: str, wanted: str) -> Any:
            if wanted not in self._wants:
                return None
            return self._files[shard].get_slice(name)[start:stop].to(self._device, copy=True)

        right = read("right", "facts")
        batch = batch or self.plan.batch(index).to(self._device)
        right = None if right is None else right.bool()
        return Taught(read("hidden", "states"), read("logprob", "facts"), right, self.head, batch)

    def close(self) -> None:
        self._files.clear()
