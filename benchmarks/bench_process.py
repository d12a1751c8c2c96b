"""Whole processes: how long `compatcheck --help` and a comparison of recorded outputs take, and how much memory.

The peer of the comparison is the script a team would write by hand: read both files, join on the id, count the four
quadrants. Each process runs on its own, peers alternating, and is measured by the operating system.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

JOIN_SCRIPT = """
import json, sys
old = {r["id"]: r for r in map(json.loads, open(sys.argv[1]))}
new = {r["id"]: r for r in map(json.loads, open(sys.argv[2]))}
table = {}
for key, a in old.items():
    b = new[key]
    cell = (a["prediction"] == a["target"], b["prediction"] == b["target"])
    table[cell] = table.get(cell, 0) + 1
print(table)
"""


def measure(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident memory (MB) of one process."""
    started = time.perf_counter()
    process = os.posix_spawn(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    )
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"{' '.join(command)} exited with {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_maxrss / 1024


def write_pair(folder: Path, rows: int, seed: int = 0) -> tuple[Path, Path]:
    """Two recorded files with short numeric answers, 70 % and 76 % right, in different order."""
    rng = random.Random(seed)
    paths = folder / f"old-{rows}.jsonl", folder / f"new-{rows}.jsonl"
    for path, share in zip(paths, (0.70, 0.76), strict=True):
        order = list(range(rows))
        rng.shuffle(order)
        with path.open("w") as file:
            for i in order:
                target = str(i * 7919 % 1000)
                answer = target if rng.random() < share else str(rng.randrange(1000))
                row = {"id": f"item-{i}", "input": f"Question {i}: what is it?", "target": target, "prediction": answer}
                file.write(json.dumps(row) + "\n")
    return paths


def run(quick: bool = False) -> dict[str, object]:
    """Measure and print; returns the figures."""
    tool = str(Path(sys.executable).with_name("compatcheck"))
    rounds = 3 if quick else 7
    figures: dict[str, object] = {}
    helps = [measure([tool, "--help"])[0] for _ in range(rounds)]
    bare = [measure([sys.executable, "-c", "pass"])[0] for _ in range(rounds)]
    figures["help_seconds"] = statistics.median(helps)
    figures["help_over_bare_python"] = statistics.median(helps) / statistics.median(bare)
    print(f"compatcheck --help: {statistics.median(helps):.2f} s ({statistics.median(bare):.2f} s for python alone)")
    with tempfile.TemporaryDirectory() as temporary:
        script = Path(temporary) / "join.py"
        script.write_text(JOIN_SCRIPT)
        for rows in (12_000,) if quick else (12_000, 100_000, 1_000_000):
            old, new = map(str, write_pair(Path(temporary), rows))
            repeats = 1 if rows > 500_000 else 3
            ours = [measure([tool, "diff", old, new, "-q", "--fail-on", "nfr:90%"]) for _ in range(repeats)]
            peer = [measure([sys.executable, str(script), old, new]) for _ in range(repeats)]
            seconds, memory = statistics.median(o[0] for o in ours), max(o[1] for o in ours)
            peer_seconds, peer_memory = statistics.median(p[0] for p in peer), max(p[1] for p in peer)
            figures[f"recorded_{rows}"] = {
                "seconds": seconds,
                "peak_mb": memory,
                "over_join_script": seconds / peer_seconds,
                "memory_over_join_script": memory / peer_memory,
            }
            print(
                f"recorded diff, {rows:>9,} rows: {seconds:6.2f} s, {memory:6.0f} MB  "
                f"(join script without metrics: {peer_seconds:.2f} s, {peer_memory:.0f} MB)"
            )
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
