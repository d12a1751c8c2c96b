"""A training of a real model in bfloat16 against the same in float32: speed, and what comes of it.

    python -m benchmarks.bench_bf16 [--model gemma3|smollm2] [--task samsum] [--train 200] [--rounds 3] [--data DIR]

Steps of a task adapter (`train-task --preset quick`, 4 rows a step) are timed in turns, one after the other in one
process, each on the same micro-batches; the ratio is that of medians. Then both adapters are
trained for one epoch, and their validation losses stand side by side. Threads as torch has them (OMP_NUM_THREADS).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import real_models
from benchmarks.real_fix import DATA


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["gemma3", "smollm2"], default="gemma3")
    parser.add_argument("--task", choices=["piqa", "samsum", "gsm8k"], default="samsum")
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    model = getattr(real_models, given.model)()
    if model is None or not given.data.is_dir():
        raise SystemExit(f"make {given.model}, and name the folder of the real data sets with --data")
    from compatcheck.references import resolve
    from compatcheck_train import preset
    from compatcheck_train.examples import load_examples
    from compatcheck_train.training.run import train_task_adapter
    from compatcheck_train.training.speed import speed_of

    base = resolve(str(model))
    examples = load_examples(given.task, data=given.data, limit=given.train, overlap="drop")
    shared: dict[str, Any] = {"strategy": "continue-ce", "epochs": 1, "batch_size": 4}
    both = {name: preset("quick", bf16=name == "bfloat16", **shared) for name in ("float32", "bfloat16")}
    timed: dict[str, list[float]] = {name: [] for name in both}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds):
            for name, settings in both.items():
                timed[name].append(speed_of(base, base, examples, settings, Path(folder, f"{number}-{name}")).trained)
                print(f"round {number + 1}, {name}: {timed[name][-1]:.2f} s a step", flush=True)
        step = {name: statistics.median(each) for name, each in timed.items()}
        print(f"float32 / bfloat16: {step['float32'] / step['bfloat16']:.2f}", flush=True)
        for name, settings in both.items():
            done = train_task_adapter(base, examples, settings, Path(folder, name))
            losses = [f"{each['validation_loss']:.4f}" for each in done.history]
            print(
                f"{name}: validation loss {' → '.join(losses)} in {done.steps} steps, {done.seconds:.0f} s", flush=True
            )


if __name__ == "__main__":
    main()
