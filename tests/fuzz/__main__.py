"""``python -m tests.fuzz [--first N] [--count N] [--kind KIND]``: inputs one by one, with what is wrong with each."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ |= dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> int:
    from tests.engines.endpoint.servers import serving
    from tests.fuzz.inputs import KINDS, build, make
    from tests.fuzz.served import Rubbish
    from tests.fuzz.watch import attempt, complaints

    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # inputs have half surrogates
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--kind", choices=list(KINDS))
    parser.add_argument("--show", action="store_true", help="print every input and what it printed")
    given = parser.parse_args()
    codes: Counter[tuple[str, int]] = Counter()
    taken: Counter[str] = Counter()
    wrong, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as name, serving(Rubbish) as server:
        folder = Path(name).resolve()
        whole = build(folder / "whole", server)
        for number in range(given.first, given.first + given.count):
            outcome = attempt(make(number, folder / "box", whole, given.kind))
            taken[outcome.input.kind] += outcome.seconds
            codes[outcome.input.kind, outcome.code] += 1
            found = complaints(outcome)
            if found or given.show:
                wrong += bool(found)
                print(f"#{number} {'; '.join(found)}\n    {outcome}", flush=True)
            if given.show:
                print(outcome.said, outcome.errors, sep="\n", flush=True)
    print(f"{given.count} inputs in {time.monotonic() - started:.0f} s, {wrong} wrong")
    for kind in sorted({kind for kind, _ in codes}):
        print(
            f"  {kind:10} {taken[kind]:4.0f} s",
            {code: codes[kind, code] for code in sorted({c for k, c in codes if k == kind})},
        )
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
