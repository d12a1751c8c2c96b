"""A training that is killed outright, at random moments, again and again, ends with the same adapter."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from compatcheck_train.examples import Examples

SCRIPT = """
    import json, sys
    from pathlib import Path
    from compatcheck_train import TrainSettings
    from compatcheck_train.examples import Example, Examples
    from compatcheck_train.training.run import train
    raw = json.loads(Path(sys.argv[1]).read_text())
    def read(rows):
        return tuple(Example(r[0], tuple(map(tuple, r[1])), r[2]) for r in rows)
    examples = Examples("words", "choice", read(raw["train"]), read(raw["validation"]))
    settings = TrainSettings(
        epochs=6, batch_size=2, gradient_accumulation=1, learning_rate=1e-2, device="cpu", save_steps=2,
        cache_folder=Path(sys.argv[2]) / "cache",
    )
    print("ready", flush=True)
    train(raw["old"], raw["new"], examples, settings, Path(sys.argv[2]) / "out")
"""


@pytest.mark.slow
def test_killed_at_random_moments(pair: dict[str, str], make_examples: Callable[..., Examples], tmp_path: Path) -> None:
    import json

    examples = make_examples("choice", train=40, validation=6)

    def rows(part: tuple[object, ...]) -> list[object]:
        return [[e.doc_id, e.pairs, e.gold] for e in part]  # type: ignore[attr-defined]

    setup = {"train": rows(examples.train), "validation": rows(examples.validation), **pair}
    (tmp_path / "setup.json").write_text(json.dumps(setup))
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    root = Path(__file__).parent.parent.parent

    def start(folder: str) -> subprocess.Popen[str]:
        (tmp_path / folder).mkdir(exist_ok=True)
        command = [sys.executable, str(script), str(tmp_path / "setup.json"), str(tmp_path / folder)]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
        return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def adapter(folder: str) -> bytes:
        return (tmp_path / folder / "out" / "adapter" / "adapter_model.safetensors").read_bytes()

    whole = start("whole")
    _, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors[-3000:]
    rng, kills = random.Random(11), 0
    for wait in (rng.uniform(0.5, 4.0) for _ in range(3)):
        process = start("killed")
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.communicate()
    process = start("killed")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    assert kills, "the training is too short to be killed"
    assert adapter("killed") == adapter("whole")
    metrics = [(tmp_path / folder / "out" / "metrics.jsonl").read_text() for folder in ("whole", "killed")]
    assert metrics[0] == metrics[1]
