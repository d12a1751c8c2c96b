"""A teacher that ran once: what it gave for every micro-batch, kept in a safetensors file and memory-mapped.

Hidden states after the final norm with the output layer give back the logits to the bit, at d numbers a token instead
of the vocabulary's size; ``facts`` cost five bytes. Files are written under a temporary name first, so an interrupted
run resumes with those that are there. The key covers everything that decides the content: weights, adapter and its
configuration, tokenizer, dtype, exact token ids, torch's version.
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

from compatcheck.engines.hf.head import Head
from compatcheck.engines.hf.kept_states import load_tensors, save_tensors
from compatcheck.engines.progress import Progress, SilentProgress
from compatcheck.errors import InputError
from compatcheck.paths import cache_dir
from compatcheck_train.batches import Batch, Plan
from compatcheck_train.loss.view import Taught
from compatcheck_train.teachers.online import OnlineTeacher, Wants

_HEAD, _DONE = "head.safetensors", "done.json"


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
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free


def complete(folder: Path) -> bool:
    return (folder / _DONE).is_file()


def build(
    open_teacher: Callable[[], OnlineTeacher], folder: Path, label: str = "old model", *, accelerator: Any = None,
    progress: Progress | None = None, together: bool = False,
) -> None:  # fmt: skip
    """Run a teacher over every micro-batch and keep what it gives; does nothing where that is done. Several processes
    share the work. The teacher is opened only when something is missing, and closed at the end.

    ``together``: its weights are split over the processes, so that all of them must run it equally often."""
    if complete(folder):
        return
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator is not None else (0, 1)
    wait = accelerator.wait_for_everyone if accelerator is not None else lambda: None
    wait()  # nobody marks the cache as done before everybody looked
    progress = progress or SilentProgress()
    teacher = open_teacher()
    head = teacher.head
    assert head is not None
    try:
        missing = [n for n in range(len(teacher.plan.items)) if not _file(folder, n).is_file()]
        mine = missing[rank::world]
        wait()  # nobody writes before everybody looked
        progress.start(f"{label}: once over the training data", len(mine))
        if rank == 0 and "states" in teacher.wants:
            save_tensors({"weight": head.weight, "bias": head.bias}, folder / _HEAD)
        for index in mine:
            taught = teacher.taught(index)
            right = None if taught.right is None else taught.right.to(torch.uint8)
            save_tensors({"hidden": taught.hidden, "logprob": taught.logprob, "right": right}, _file(folder, index))
            progress.advance(1)
        if together and len(mine) < len(missing[0::world]):
            teacher.taught(0)
        about = {"scale": head.scale, "cap": head.cap}
    finally:
        progress.finish()
        teacher.close()
    wait()
    if rank == 0:
        temporary = folder / f"done.{os.getpid()}"
        temporary.write_text(json.dumps(about))
        temporary.replace(folder / _DONE)
    wait()


def _file(folder: Path, index: int) -> Path:
    return folder / f"batch-{index:06}.safetensors"


class CachedTeacher:
    """Reads what :func:`build` kept. ``head`` may be given, where it is the student's own."""

    def __init__(
        self, folder: Path, plan: Plan, wants: Wants, device: torch.device | str = "cpu", head: Head | None = None
    ) -> None:
        try:
            about = json.loads((folder / _DONE).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: damaged teacher cache ({error}); remove the folder") from None
        self.plan, self.head, self._folder, self._device = plan, head, folder, device
        if "states" in wants and head is None:
            weights = load_tensors(folder / _HEAD, device)
            self.head = Head(weights["weight"], weights.get("bias"), about["scale"], about["cap"])

    def taught(self, index: int, batch: Batch | None = None) -> Taught:
        """What was asked for, on the student's device; ``batch``: the micro-batch, where it is there already."""
        given = load_tensors(_file(self._folder, index), self._device)
        right = given["right"].bool() if "right" in given else None
        batch = batch or self.plan.batch(index).to(self._device)
        return Taught(given.get("hidden"), given.get("logprob"), right, self.head, batch)

    def close(self) -> None:
        """Holds nothing open."""
