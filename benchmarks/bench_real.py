"""Two real language models on real data: parity with lm-eval's ``hf``, seconds, peak memory, the diff of the two, and a
small slice of ``compatcheck fix`` (:mod:`benchmarks.real_fix`), which goes on where it was stopped.

    python -m benchmarks.bench_real [--data DIR] [--rows 40] [--texts 10] [--diff-rows 500] [--dtype float32]

Prints the tables of docs/real-models.md and writes benchmarks/results/real.json. Needs ``make smollm2 gemma3`` and the
real data sets (piqa, hellaswag, gsm8k), a folder for each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import real_models
from benchmarks.real_parity import CHOICES, compare

RESULTS = Path(__file__).parent / "results" / "real.json"
DATA = Path(__file__).parents[2] / "shared" / "data"
NAMES = {"smollm2": "SmolLM2-135M-Instruct, Q4_1", "gemma3": "Gemma 3 270M, Q4_K_M"}
SIDES = {"ours": "`hf` engine", "theirs": "lm-eval's `hf`"}


def parity(file: Path, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both sides, each in a process of its own, one after the other."""
    sides = {}
    for whose in SIDES:
        out = folder / f"{whose}.json"
        command = [sys.executable, "-m", "benchmarks.real_parity", str(file), whose, str(given.data), str(out)]
        sizes = ["--rows", str(given.rows), "--texts", str(given.texts), "--dtype", given.dtype]
        subprocess.run([*command, *sizes], check=True)
        sides[whose] = json.loads(out.read_text(encoding="utf-8"))
    figures = {whose: {"seconds": side["seconds"], "peak": side["peak"]} for whose, side in sides.items()}
    return {"found": compare(sides["ours"], sides["theirs"]), **figures}


def diff(old: Path, new: Path, given: argparse.Namespace, out: Path) -> dict[str, Any]:
    """`compatcheck diff` of the two on PIQA; its report."""
    command = [
        sys.executable, "-m", "compatcheck", "diff", str(old), str(new), "--task", "piqa", "--data", str(given.data),
        "--limit", str(given.diff_rows), "--num-fewshot", "0", "--engine", "hf", "--dtype", given.dtype,
        "--out", str(out),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def show(results: dict[str, Any]) -> None:
    """The tables of docs/real-models.md."""
    print("| model | task | documents | other choices or texts | largest difference of a log-likelihood | right |")
    print("|---|---|---|---|---|---|")
    for name, model in results["models"].items():
        for task, found in model["found"].items():
            apart = f"{found['difference']:.1e}" if task in CHOICES else ""
            cells = [NAMES[name], task, found["documents"], found["other"], apart, found.get("right", "")]
            print("| " + " | ".join(map(str, cells)) + " |")
    print("\n| model | | loading | piqa | hellaswag | gsm8k | peak memory |\n|---|---|---|---|---|---|---|")
    for name, model in results["models"].items():
        for whose, side in SIDES.items():
            seconds, peak = model[whose]["seconds"], model[whose]["peak"]
            times = " | ".join(f"{seconds[key]:.0f} s" for key in ("load", "piqa", "hellaswag", "gsm8k"))
            print(f"| {NAMES[name]} | {side} | {times} | {peak / 1e9:.1f} GB |")
    (acc,) = [each for each in results["diff"]["comparisons"] if each["metric"] == "acc"]
    print(f"\nSmolLM2 -> Gemma 3 on {acc['n']} rows of PIQA: {acc['quadrants']}")
    for name in ("accuracy_old", "accuracy_new", "nfr", "pfr", "net", "agreement"):
        found = acc["metrics"][name]
        print(
            f"{name}: {found['count']} of {found['of']}, {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--texts", type=int, default=10)
    parser.add_argument("--diff-rows", type=int, default=500)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    if not given.data.is_dir():
        raise SystemExit(f"{given.data}: the real data sets are not here; name their folder with --data")
    files = {"smollm2": real_models.smollm2(), "gemma3": real_models.gemma3()}
    missing = [name for name, file in files.items() if file is None]
    if missing:
        raise SystemExit(f"not installed: make {' '.join(missing)}")
    results: dict[str, Any] = {"dtype": given.dtype, "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, file in files.items():
            assert file is not None
            print(f"{name} by both engines", file=sys.stderr, flush=True)
            results["models"][name] = parity(file, given, Path(folder))
        old, new = files["smollm2"], files["gemma3"]
        assert old is not None
        assert new is not None
        results["diff"] = diff(old, new, given, Path(folder) / "diff")
    show(results)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "benchmarks.real_fix", "--data", str(given.data)], check=True)


if __name__ == "__main__":
    main()
