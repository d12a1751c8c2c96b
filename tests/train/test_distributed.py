"""Two processes over gloo give what one gives, and share the work of the teacher cache and, if asked, the base."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = """
    import os, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[4])
    from compatcheck_train import TrainSettings
    from compatcheck_train.training import processes
    from compatcheck_train.examples import Example, Examples
    from compatcheck_train.training.run import train
    import json
    raw = json.loads(open(sys.argv[1]).read())
    def read(rows):
        return tuple(Example(r[0], tuple(map(tuple, r[1])), r[2]) for r in rows)
    examples = Examples("words", "choice", read(raw["train"]), read(raw["validation"]))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    settings = TrainSettings(
        strategy=sys.argv[3], epochs=2, batch_size=2, gradient_accumulation=4 // world, learning_rate=1e-2,
        device="cpu", shard_base=raw["shard"] == "setting", teacher=raw["teacher"], new_teacher=raw["teacher"],
        cache_folder=Path(raw["cache"]), save_steps=1, max_length=32,
    )
    split, held = processes.shard, []
    def shard(model, device):
        before = sum(p.numel() for p in model.parameters())
        split(model, device)
        held.append(sum(getattr(p, "to_local", lambda: p)().numel() for p in model.parameters()) / before)
    processes.shard = shard
    done = train(raw["old"], raw["new"], examples, settings, sys.argv[2])
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps([[h["validation_loss"] for h in done.history], held, done.notes]))
    else:
        sys.stdin.read()  # until the first one has left the last barrier: gloo fails there where a peer is gone
"""


def launch(arguments: list[str], processes: int, folder: Path, **environment: str) -> list[Any]:
    import json

    script = folder / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(processes):
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **environment}
        if processes > 1:
            variables |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }  # fmt: skip
        command = [sys.executable, str(script), *arguments]
        running.append(
            subprocess.Popen(
                command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    outputs = [process.communicate(timeout=500) for process in running]
    for process, (_, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    found: list[Any] = json.loads(outputs[0][0].splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "teacher", "shard"),
    [
        ("muscle", "online", ""), ("choice-ensemble", "cache", ""), ("muscle", "online", "setting"),
        ("choice-ensemble", "cache", "accelerate"),
    ],
)  # fmt: skip
def test_two_processes_give_what_one_gives(
    strategy: str, teacher: str, shard: str, pair: dict[str, str], make_examples: object, tmp_path: Path
) -> None:
    import json

    # Nine documents make five micro-batches: in the last step of an epoch one process has nothing left to do.
    examples = make_examples("choice", train=9, validation=3)  # type: ignore[operator]

    def rows(part: tuple[object, ...]) -> list[object]:
        return [[e.doc_id, e.pairs, e.gold] for e in part]  # type: ignore[attr-defined]

    found = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        setup = {
            "train": rows(examples.train), "validation": rows(examples.validation), "old": pair["old"],
            "new": pair["new"], "teacher": teacher, "cache": str(folder / "cache"), "shard": shard,
        }  # fmt: skip
        (folder / "setup.json").write_text(json.dumps(setup))
        root = str(Path(__file__).parent.parent.parent)
        asked = {"ACCELERATE_USE_FSDP": "true"} if shard == "accelerate" else {}
        losses, held, notes = launch(
            [str(folder / "setup.json"), str(folder / "out"), strategy, root], processes, folder, **asked
        )
        assert ("The layers of NEW's base are split over 2 processes." in notes) is (bool(shard) and processes == 2)
        # The old model and the new one, where both are split: their layers are most of them, and half is here.
        assert len(held) == (2 if shard and processes == 2 else 0)
        assert all(0.5 <= share < 0.75 for share in held), held
        found[processes] = (losses, load_file(folder / "out" / "adapter" / "adapter_model.safetensors"))
    assert found[1][0] == pytest.approx(found[2][0], abs=1e-5)
    assert found[1][1].keys() == found[2][1].keys()
    for name, value in found[1][1].items():
        assert torch.allclose(value, found[2][1][name], atol=1e-4), name
