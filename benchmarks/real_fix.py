"""``compatcheck fix`` between two real language models on real rows, and the table of docs/muscle.md.

    python -m benchmarks.real_fix [quantised|update] [--kind 3-bit] [--task piqa|samsum|gsm8k] [--train 100]
                                  [--test 200] [--epochs 1] [--strategy old-only] [--task-rows 0] [--seed 0]
                                  [--data DIR] [--out DIR] [-- FIX OPTIONS]

``quantised``: SmolLM2-135M-Instruct as its package has it is OLD, a build of it with fewer bits NEW. ``update``: OLD is
SmolLM2 and NEW Gemma 3 270M, which tokenizes differently. A LoRA adapter on NEW is trained on --train rows of the
training split (a fifth of them for validation) and proven on the first --test rows of the evaluation split. With
--task-rows both bases get a task adapter on so many rows first (``train-task``), and the fix goes on from NEW's. The
same command goes on where it was stopped. Writes JSON into --out and prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import real_models
from benchmarks.quantised_builds import KINDS, rewrite

RESULTS = Path(__file__).parent / "results" / "real-fix"
DATA = Path(__file__).parents[2] / "shared" / "data"


def models(pair: str, kind: str, out: Path) -> tuple[Path, Path]:
    """OLD and NEW; a build that is not there yet is made."""
    old, new = real_models.smollm2(), real_models.gemma3() if pair == "update" else None
    if old is None or (pair == "update" and new is None):
        raise SystemExit("not installed: make smollm2" + " gemma3" * (pair == "update"))
    if new is None:
        new = out / f"SmolLM2-135M-Instruct.{kind}.gguf"
        if not new.is_file():
            rewrite(old, new.with_suffix(".partial"), kind).replace(new)
    return old, new


def of_task(given: argparse.Namespace) -> list[str]:
    """Options that ``train-task`` and ``fix`` share."""
    return [
        "--task", given.task, "--data", str(given.data), "--num-fewshot", "0", "--drop-overlap", "--preset", "quick",
        "--set", "batch_size=4", "--seed", str(given.seed),
    ]  # fmt: skip


def for_task(base: Path, given: argparse.Namespace) -> str:
    """The base with an adapter that was trained for the task, for one epoch; as it is without --task-rows."""
    if not given.task_rows:
        return str(base)
    folder = given.out / f"task-{base.stem}-{given.task}-{given.task_rows}-{given.seed}"
    command = [sys.executable, "-m", "compatcheck", "train-task", str(base), *of_task(given), "--set", "epochs=1"]
    subprocess.run([*command, "--train-limit", str(given.task_rows), "--out", str(folder)], check=True)
    return f"{base}+{folder / 'adapter'}"


def fixed(given: argparse.Namespace, more: Sequence[str]) -> dict[str, Any]:
    """One whole process; its report, and the seconds of this call."""
    old, new = (for_task(base, given) for base in models(given.pair, given.kind, given.out))
    folder = given.out / named(given)
    command = [
        sys.executable, "-m", "compatcheck", "fix", old, new, *of_task(given), "--engine", "hf",
        "--limit", str(given.test), "--train-limit", str(given.train), "--strategy", given.strategy,
        "--set", f"epochs={given.epochs}", "--blend", "none", "--store", str(given.out / "store"), "--force",
        "--out", str(folder), *more,
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(command, check=False)
    if done.returncode not in (0, 1, 3):
        raise SystemExit(done.returncode)
    report = json.loads((folder / "fix_report.json").read_text(encoding="utf-8"))
    return {"report": report, "seconds": round(time.perf_counter() - started, 1)}


def named(given: argparse.Namespace) -> str:
    pair = given.pair if given.pair == "update" else given.kind
    first = f"-after-{given.task_rows}" if given.task_rows else ""
    return f"{given.task}-{pair}-{given.strategy}-{given.train}-{given.test}-{given.epochs}-{given.seed}{first}"


def shown(estimate: Mapping[str, Any], sign: str = "+", unit: str = "", digits: int = 1) -> str:
    """``value (low to high)`` of a proportion in hundredths; why, where it is undefined."""
    if estimate["value"] is None:
        return str(estimate.get("why", "undefined"))
    value, low, high = (f"{100 * estimate[key]:{sign}.{digits}f}" for key in ("value", "low", "high"))
    return f"{value}{unit} ({low} to {high})".replace("-", "−")


def table(report: Mapping[str, Any]) -> str:
    """NEW, the trained adapter, the control and the bound on the documents of the proof."""
    proof = report["proof"][0]
    lines = [
        f"| {report['task']}, n = {proof['n']} | NFR | change of NFR (95 %) | score, points (95 %) |",
        "|---|---|---|---|",
    ]
    sides = [("NEW", "new", None), (f"`{report['strategy']}`", "compat", proof["changes"])]
    if proof["control_changes"]:
        sides.append((f"control, `{report['control']['strategy']}`", "control", proof["control_changes"]))
    level = "accuracy" if proof["kind"] == "discrete" else "score"
    for name, side, changes in sides:
        metrics = proof["sides"][side]["metrics"]
        cells = [shown(metrics["nfr"], "", " %")]
        cells += (
            [shown(changes["nfr_relative"], "+", " %", 0), shown(changes["score"])]
            if changes
            else ["", " → ".join(shown(metrics[f"{level}_{side}"], "", " %") for side in ("old", "new"))]
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if report["bound"]:
        bound = report["bound"]
        cells = [shown(bound["nfr_relative"], "+", " %", 0), shown(bound["score"])]
        lines.append(f"| bound, both averaged at inference | | {' | '.join(cells)} |")
    trained = report["training"]
    lines.append(
        f"\n{report['verdict']} ({report['reason']}); delivered: {report['delivered']}. {trained['steps']} steps, "
        f"{trained['parameters']:,} parameters, {trained['seconds']:.0f} s of training; documents: "
        f"{', '.join(f'{count} {name}' for name, count in report['documents'].items())}"
    )
    return "\n".join(lines)


def main() -> None:
    own, more = sys.argv[1:], []
    if "--" in own:
        cut = own.index("--")
        own, more = own[:cut], own[cut + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", nargs="?", choices=["quantised", "update"], default="quantised")
    parser.add_argument("--kind", choices=KINDS, default="3-bit")
    parser.add_argument("--task", choices=["piqa", "samsum", "gsm8k"], default="piqa")
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--strategy", default="old-only")
    parser.add_argument("--task-rows", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(own)
    if not given.data.is_dir():
        raise SystemExit(f"{given.data}: the real data sets are not here; name their folder with --data")
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    given.out = given.out.absolute()
    given.out.mkdir(parents=True, exist_ok=True)
    found = fixed(given, more)
    print(table(found["report"]), flush=True)
    (given.out / f"{named(given)}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
