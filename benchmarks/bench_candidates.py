"""Five candidates at once against five single comparisons, on the four fixture tasks: CPU seconds, and equal figures.

python benchmarks/bench_candidates.py [LIMIT]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[1] / "fixtures"
TASKS = ("piqa", "hellaswag", "gsm8k", "samsum")
OLD = str(FIXTURES / "adapters" / "{task}-v1")
NEWS = [str(FIXTURES / "adapters" / f"{{task}}-v{n}") for n in (2, 3)]
NEWS += [str(FIXTURES / "models" / f"base-v{n}") for n in (1, 2, 3)]


def diff(news: list[str], limit: str, out: Path, *more: str) -> tuple[float, dict[str, Any]]:
    """One command: its CPU seconds and its report."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    tasks = [part for task in TASKS for part in ("--task", task)]
    command = [sys.executable, "-m", "compatcheck", "diff", OLD, *news, *tasks, "--data", str(FIXTURES / "data")]
    command += ["--limit", limit, "--num-fewshot", "0", "--engine", "hf", "--out", str(out), "-q", *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, json.loads((out / "report.json").read_text())


def figures(report: dict[str, Any]) -> list[Any]:
    """What a comparison says, but for how it was judged."""
    return [{name: value for name, value in one.items() if name != "gates"} for one in report["comparisons"]]


def main(limit: str = "100") -> None:
    """Print a line for each way."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        together, all_of_them = diff(NEWS, limit, place / "all", "--no-store")
        single = [diff([new], limit, place / str(n), "--no-store") for n, new in enumerate(NEWS)]
        store = ["--store", str(place / "store")]
        stored = [diff([new], limit, place / f"stored{n}", *store)[0] for n, new in enumerate(NEWS)]
        equal = [figures(one) for _, one in single] == [figures(one) for one in all_of_them["candidates"]]
        apart = sum(seconds for seconds, _ in single)
        print(f"five candidates at once: {together:.1f} s of CPU")
        print(f"five single comparisons, no store: {apart:.1f} s ({apart / together:.2f} times as much)")
        print(f"five single comparisons, one store: {sum(stored):.1f} s ({sum(stored) / together:.2f} times as much)")
        print(f"figures equal: {equal}")


if __name__ == "__main__":
    main(*sys.argv[1:])
