"""A teacher that ran once: its hidden states after the final norm, kept in safetensors shards and memory-mapped.

Hidden states with the output layer give back the logits to the bit, at d numbers a token instead of the vocabulary's
size; the two numbers of :class:`Wants` ``facts`` cost five bytes. A shard holds whole micro-batches and is written
under a temporary name first, so an interrupted run goes on with the shards that are there. The key covers everything
that decides the content: weights, adapter and its configuration, tokenizer, dtype, exact token ids, torch's version.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compatcheck.engines.progress import Progress, SilentProgress
from compatcheck.errors import InputError
from compatcheck.paths import cache_dir
from compatcheck_train.teachers.base import TeacherBatch, Wants
from compatcheck_train.teachers.online import OnlineTeacher
from compatcheck_train.training.batches import Plan, first_trained
from compatcheck_train.training.head import Head

_SHARD_BYTES = 2**28
_HEAD = "head.safetensors"


def positions(plan: Plan) -> list[int]:
    """Number of trained positions of every micro-batch."""
    return [
        sum(max(0, len(row.ids) - first_trained(row, plan.context_weight)) for item in group for row in item.rows)
        for group in plan.items
    ]


def estimate_bytes(plan: Plan, wants: Wants, width: int, vocabulary: int, item_size: int) -> int:
    """Disk that a cache takes: ``width`` is the size of the hidden states, ``item_size`` bytes of one number."""
    each = (width * item_size if wants.states else 0) + (5 if wants.facts else 0)
    return sum(positions(plan)) * each + (vocabulary * width * item_size if wants.states else 0)


def cache_key(fingerprint: str, plan: Plan, wants: Wants, dtype: str, device: str) -> str:
    """Key of everything that decides the content."""
    digest = hashlib.sha256(
        json.dumps(
            ["compatcheck.teacher/3", fingerprint, dtype, device, torch.__version__, plan.context_weight, vars(wants)]
        ).encode()
    )
    for group in plan.items:
        digest.update(json.dumps([[[*row.ids, row.answer] for row in item.rows] for item in group]).encode())
    return digest.hexdigest()[:32]


def folder_of(key: str, root: Path | None) -> Path:
    """Where the cache with this key lies; made if missing."""
    folder = (root / key) if root is not None else cache_dir("teacher") / key
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


def shards(plan: Plan, bytes_per_position: int) -> list[range]:
    """Micro-batches of every shard, so that each is about a quarter of a gigabyte."""
    found, start, size = [], 0, 0
    for index, count in enumerate(positions(plan)):
        if size and size + count * bytes_per_position > _SHARD_BYTES:
            found.append(range(start, index))
            start, size = index, 0
        size += count * bytes_per_position
    return [*found, range(start, len(plan.items))] if plan.items else found


def complete(folder: Path) -> bool:
    return (folder / "done.json").is_file()


def build(
    open_teacher: Callable[[], OnlineTeacher],
    folder: Path,
    plan: Plan,
    wants: Wants,
    *,
    rank: int = 0,
    world: int = 1,
    wait: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
    label: str = "old model",
    together: bool = False,
) -> None:
    """Run a teacher over every micro-batch and keep what it gives; does nothing where that is done.

    Several processes take turns over the shards; ``wait`` is a barrier between them. The teacher is opened only when
    something is missing, and closed at the end.

    Args:
        together: the teacher's weights are split over the processes, so that all of them must run it equally often.
    """
    if complete(folder):
        return
    wait()  # nobody marks the cache as done before everybody looked
    progress = progress or SilentProgress()
    teacher = open_teacher()
    try:
        assert teacher.head is not None
        each = (teacher.head.weight.shape[1] * teacher.head.weight.element_size() if wants.states else 0) + 5
        plan_of = shards(plan, each)
        missing = [n for n in range(len(plan_of)) if not _shard(folder, n).is_file()]
        batches_of = [sum(len(plan_of[n]) for n in missing if n % world == each) for each in range(world)]
        progress.start(f"{label}: once over the training data", batches_of[rank])
        if rank == 0 and wants.states:
            _save({"weight": teacher.head.weight} | _bias(teacher.head), folder / _HEAD)
        for number in (n for n in missing if n % world == rank):
            batches = plan_of[number]
            tensors: dict[str, list[Tensor]] = {}
            for index in batches:
                for name, value in vars(teacher.batch(index)).items():
                    if value is not None:
                        tensors.setdefault(name, []).append(value.to("cpu", torch.uint8 if name == "right" else None))
                progress.advance(1)
            _save({name: torch.cat(parts) for name, parts in tensors.items()}, _shard(folder, number))
        for _ in range(max(batches_of) - batches_of[rank] if together else 0):
            teacher.batch(0)
        about = {
            "shards": [[batches.start, batches.stop] for batches in plan_of],
            "positions": positions(plan),
            "scale": teacher.head.scale,
            "cap": teacher.head.cap,
        }
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


def _bias(head: Head) -> dict[str, Tensor]:
    return {} if head.bias is None else {"bias": head.bias}


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); is the disk full?") from None


def _own(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A copy where torch's own allocator puts it. Matrix products round differently on memory that is aligned another
    way, as what is read from a file may be, and a kept teacher would not equal one online to the bit."""
    return tensor.to(device, copy=True)


class CachedTeacher:
    """Reads what :func:`build` kept. ``head`` may be given, where it is the student's own."""

    kind = "cache"

    def __init__(
        self, folder: Path, plan: Plan, wants: Wants, device: torch.device | str = "cpu", head: Head | None = None
    ) -> None:
        from safetensors import safe_open
        from safetensors.torch import load_file

        try:
            about = json.loads((folder / "done.json").read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: damaged teacher cache ({error}); remove the folder") from None
        self.plan = plan
        self.head = head
        self._wants = wants
        self._device = device
        self._files: list[Any] = []
        self._places: list[tuple[int, int, int]] = []
        counts: Sequence[int] = about["positions"]
        for number, (start, stop) in enumerate(about["shards"]):
            self._files.append(safe_open(folder / f"shard-{number:05}.safetensors", framework="pt"))
            at = 0
            for index in range(start, stop):
                self._places.append((number, at, at + counts[index]))
                at += counts[index]
        if wants.states and head is None:
            weights = load_file(folder / _HEAD)
            bias = _own(weights["bias"], device) if "bias" in weights else None
            self.head = Head(_own(weights["weight"], device), bias, about["scale"], about["cap"])

    def batch(self, index: int) -> TeacherBatch:
        shard, start, stop = self._places[index]
        file = self._files[shard]

        def read(name: str) -> Tensor:
            return _own(file.get_slice(name)[start:stop], self._device)

        return TeacherBatch(
            read("hidden") if self._wants.states else None,
            read("logprob") if self._wants.facts else None,
            read("right").bool() if self._wants.facts else None,
        )

    def close(self) -> None:
        self._files.clear()
