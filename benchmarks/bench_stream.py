"""Seconds and peak memory of the whole `compatcheck diff OLD NEW --out DIR` on recorded outputs, and how both grow.

Two Parquet files of the same documents, NEW in another order: an input of 200 characters, a target, a prediction, a
topic and a length. Each size is a process of its own, so that its peak (as the kernel counts it) is its own.
Run: python benchmarks/bench_stream.py [--sizes 1000,10000,…] [--memory] [--smooth] [--json FILE] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = (1_000, 10_000, 100_000, 1_000_000)
ROWS_AT_ONCE = 100_000
FACTORS = (
    0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93,
    0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB,
)  # fmt: skip
"""Odd numbers without a pattern in their bits: a document's number times one of them, cut to 64 bits, looks random in
its upper half."""
WORDS = """
the a of to and in that it was for on with as his they at be this from have or by one had not but what all were when we
there can an your which their said if do will each about how up out them then she many some so these would other into
has more her two like him see time could no make than first been its who now people my made
""".split()  # noqa: SIM905 - eighty quoted words would not read better


def generate(path: Path, rows: int, side: int, smooth: bool) -> None:
    """Write one side. Content depends on the document's number alone, the order and the answers on the side too."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(side)
    order = np.arange(rows) if side == 0 else rng.permutation(rows)
    phrases = _phrases(np.random.default_rng(7))
    writer = None
    for start in range(0, rows, ROWS_AT_ONCE):
        numbers = order[start : start + ROWS_AT_ONCE]
        right = rng.random(len(numbers)) < (0.62, 0.65)[side]
        answers = np.where(right, numbers % 997, rng.integers(1_000, 1_010, len(numbers)))
        columns: dict[str, Any] = {
            "id": [f"doc-{number:08d}" for number in numbers],
            "input": _inputs(phrases, numbers),
            "target": [str(number % 997) for number in numbers],
            "prediction": answers.astype(str).tolist(),
            "topic": [f"topic {number % 57}" for number in numbers],
            "length": (numbers % 1_500).astype(np.int64),
        }
        if smooth:
            columns["score"] = np.where(right, 1.0, np.round(rng.random(len(numbers)), 4))
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _phrases(rng: Any) -> Any:
    """2,003 phrases of 24 characters; eight of them, chosen by the document's number, make an input."""
    import numpy as np

    phrases = np.empty(2_003, dtype=object)
    for place in range(len(phrases)):
        words = [WORDS[number] for number in rng.integers(0, len(WORDS), 12)]
        phrases[place] = " ".join(words)[:24]
    return phrases


def _inputs(phrases: Any, numbers: Any) -> list[str]:
    import numpy as np

    drawn = [(numbers.astype(np.uint64) * np.uint64(factor)) >> np.uint64(32) for factor in FACTORS]
    words = [phrases[(one % np.uint64(len(phrases))).astype(np.int64)] for one in drawn]
    return [" ".join(eight) for eight in zip(*words, strict=True)]


def measure(rows: int, folder: Path, smooth: bool, options: list[str]) -> dict[str, float | int]:
    """Make the files, run the command, and remove them again."""
    files = [folder / f"{name}.parquet" for name in ("old", "new")]
    for side, path in enumerate(files):
        generate(path, rows, side, smooth)
    size = sum(path.stat().st_size for path in files)
    out = folder / "report"
    command = [str(Path(sys.executable).with_name("compatcheck")), "diff", *map(str, files)]
    command += ["--out", str(out), "--slice-by", "topic"]
    # A process of its own between us and the command: what the kernel reports of children is their greatest peak.
    code = (
        "import json,resource,subprocess,sys,time\n"
        "started=time.perf_counter()\n"
        "subprocess.run(sys.argv[1:],check=True,stdout=subprocess.DEVNULL)\n"
        "used=resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([time.perf_counter()-started,used.ru_maxrss/1024,used.ru_utime+used.ru_stime]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command, *options], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds, peak, cpu = json.loads(done.stdout)
    kept = (out / "instances.parquet").stat().st_size
    counted = json.loads((out / "report.json").read_text(encoding="utf-8"))["comparisons"][0]["n"]
    assert counted == rows, f"{counted} of {rows} rows compared"
    left = [path.name for path in folder.iterdir() if path not in (*files, out)]
    assert not left, f"left behind: {left}"
    shutil.rmtree(out)
    for path in files:
        path.unlink()
    return {
        "rows": rows, "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "peak_mb": round(peak),
        "input_mb": round(size / 1e6), "instances_mb": round(kept / 1e6),
    }  # fmt: skip


def exponent(figures: list[dict[str, float | int]], name: str, least: int = 100_000) -> float | None:
    """Slope of log(figure) over log(rows), least squares, of the sizes from ``least`` rows on.

    Time is taken beyond that of the smallest size, which is starting Python and writing a report.
    """
    start = 0.0 if name == "peak_mb" else min(figures, key=lambda one: one["rows"])[name]
    found = [(one["rows"], one[name] - start) for one in figures if one["rows"] >= least]
    points = [(math.log(rows), math.log(figure)) for rows, figure in found if figure > 0]
    if len(points) < 2:
        return None
    mean = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
    over = sum((x - mean[0]) * (y - mean[1]) for x, y in points)
    return over / sum((x - mean[0]) ** 2 for x, _ in points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="rows, e.g. 1000,10000000")
    parser.add_argument("--memory", action="store_true", help="hold everything in memory (--no-stream)")
    parser.add_argument("--smooth", action="store_true", help="a recorded score between 0 and 1")
    parser.add_argument("--folder", type=Path, help="where the files are made (about 0.6 GB for a million rows)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    found = []
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for rows in map(int, options.sizes.split(",")):
            found.append(measure(rows, Path(folder), options.smooth, ["--no-stream" if options.memory else "--stream"]))
            print("{rows:>10,} rows  {seconds:8.2f} s  (cpu {cpu_seconds:8.2f} s)  peak {peak_mb:6,} MB  "
                  "input {input_mb:5,} MB  instances {instances_mb:5,} MB".format(**found[-1]), flush=True)  # fmt: skip
    slopes = {name: exponent(found, name) for name in ("seconds", "cpu_seconds", "peak_mb")}
    shown = ", ".join(f"{name} ~ rows^{slope:.2f}" for name, slope in slopes.items() if slope is not None)
    print(
        f"from 100,000 rows on, time beyond the smallest size: {shown or 'one size only'}; "
        f"all in {time.perf_counter() - started:.0f} s"
    )
    if options.json:
        options.json.write_text(json.dumps({"sizes": found, "exponents": slopes}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    # The limit on open files bounds how many parts NEW may be sorted into at once; say it where it is small.
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 256, "raise `ulimit -n` to 256 or more"
    main()
