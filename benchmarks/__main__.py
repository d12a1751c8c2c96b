"""`python -m benchmarks [--quick]`: every benchmark, one after the other; figures under benchmarks/results/."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from benchmarks import bench_process

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds")
    quick = parser.parse_args().quick
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    print("== the hf engine against lm-eval's ==", flush=True)
    command = [sys.executable, str(HERE / "bench_engine.py"), *(["--quick"] if quick else [])]
    subprocess.run(command, check=True)
    print("== whole processes ==", flush=True)
    figures = bench_process.run(quick)
    (results / "process.json").write_text(json.dumps(figures, indent=2) + "\n")
    print("== whole diffs of models ==", flush=True)
    subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_diff", *(["--quick"] if quick else [])], check=True, cwd=HERE.parent
    )
    if importlib.util.find_spec("vllm") is not None:
        print("== the vLLM engine ==", flush=True)
        subprocess.run([sys.executable, str(HERE / "bench_vllm.py"), *(["--quick"] if quick else [])], check=True)
    print("== comparison in memory ==", flush=True)
    subprocess.run([sys.executable, str(HERE / "bench_compare.py")], check=True)
    print("== comparison as a stream ==", flush=True)
    sizes = ["--sizes", "1000,10000"] if quick else []
    command = [sys.executable, str(HERE / "bench_stream.py"), "--json", str(results / "stream.json"), *sizes]
    subprocess.run(command, check=True)
    print("== training against a plain implementation and TRL ==", flush=True)
    command = [sys.executable, str(HERE / "bench_train.py"), *(["--quick"] if quick else [])]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
