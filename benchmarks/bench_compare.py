"""Seconds and peak memory of compare() on tables in memory: discrete and smooth, 12,000 to 1,000,000 rows.

Each size runs in a process of its own, so that its peak is its own.
Run: python benchmarks/bench_compare.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

SIZES = (12_000, 50_000, 100_000, 1_000_000)


def measure(rows: int, kind: str) -> dict[str, float | int | str]:
    """Compare two runs of ``rows`` records, NEW in another order, with an id, input, target and prediction each."""
    import numpy as np
    import pandas as pd

    from compatcheck.compare import compare
    from compatcheck.records import Metric, TaskRun

    rng = np.random.default_rng(0)
    metric = Metric("exact_match" if kind == "discrete" else "rouge1", kind)

    def run(order: np.ndarray, level: float) -> TaskRun:
        scores = rng.random(rows)
        answers = rng.integers(0, 50, rows)
        records = pd.DataFrame(
            {
                "doc_id": pd.Series([f"doc-{number}" for number in order]),
                "input": pd.Series([f"What is the answer to question number {number}, please?" for number in order]),
                "target": pd.Series([str(number % 50) for number in order]),
                "prediction": pd.Series([str(answer) for answer in answers]),
                f"score:{metric.name}": (scores < level).astype(float) if kind == "discrete" else scores * level,
                "topic": pd.Series([f"topic {number % 7}" for number in order]),
            }
        )
        return TaskRun("bench", "none", (metric,), records)

    old, new = run(np.arange(rows), 0.6), run(rng.permutation(rows), 0.65)
    before = _peak()
    started = time.perf_counter()
    comparison = compare(old, new, metric=metric.name, slice_by=["topic"])
    seconds = time.perf_counter() - started
    return {
        "kind": kind,
        "rows": comparison.n,
        "seconds": round(seconds, 3),
        "peak_mb": round(_peak()),
        "of_which_input_mb": round(before),
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("ROWS", "KIND"), help="measure one size in this process")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(int(options.one[0]), options.one[1])))
        return
    found = []
    for kind in ("discrete", "smooth"):
        for rows in SIZES:
            command = [sys.executable, __file__, "--one", str(rows), kind]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            print("{kind:9} {rows:>9,} rows  {seconds:7.2f} s  peak {peak_mb:5} MB "
                  "(before comparing {of_which_input_mb} MB)".format(**found[-1]), flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
