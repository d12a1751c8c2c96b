"""What ``compatcheck fix`` does to the negative flips of the fixtures' updates, over several seeds.

    python -m benchmarks.bench_fix [--task piqa]… [--seeds 0,1,2] [--new v2] [--test N] [--fresh N] [--out DIR]
                                   [-- FIX OPTIONS]
    python -m benchmarks.bench_fix strategies --task piqa [--seeds 0] [--out DIR]

The first form runs whole ``compatcheck fix --preset quick`` processes, timed (outputs of OLD and NEW are stored by the
first and read by further seeds), the second every strategy for the task's kind at equal epochs, without trials or
blends. Both are judged on the task's test split, or with ``--test`` on a larger one of so many documents: the fixture's
own and further ones from the same generator, disjoint from every other split. With ``--fresh`` what fixes deliver is
judged on so many other documents, of which no other table is made. Changes are against NEW; over seeds they are
means, with intervals from resampling documents (each with all its seeds); how seeds differ is listed beside. Writes
JSON into --out and prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
RESULTS = Path(__file__).parent / "results" / "fix"
TASKS = ("samsum", "gsm8k", "hellaswag", "piqa")
LARGEST = 3_000
"""Documents of the largest test split of any table."""


@dataclass(frozen=True)
class Change:
    """Means over seeds of a side against NEW: NFR of both, its relative fall, the score's change; 95 % intervals."""

    nfr_new: float
    nfr: float
    fall: float
    fall_low: float
    fall_high: float
    score: float
    score_low: float
    score_high: float
    by_seed: tuple[float, ...]
    """The fall of every seed."""


def data_folder(task: str, most: int | None, out: Path, fresh: int = 0) -> Path:
    """The fixtures' data, or a copy of a task's with the evaluated split grown to ``most`` documents; with ``fresh`` so
    many others in its place."""
    from fixtures import data

    if most is None and not fresh:
        return FIXTURES / "data"
    splits, name = data.splits(task), data.EVALUATED[task]
    data_of = out / ("fresh" if fresh else "data")
    if not (data_of / task).is_dir():
        rows = _grown(task, list(splits[name]), max(most or 0, LARGEST if fresh else 0), f"larger {name}")
        if fresh:
            rows = _grown(task, rows, len(rows) + fresh, f"fresh {name}")[-fresh:]
        shutil.copytree(FIXTURES / "data" / task, data_of / task)
        (data_of / task / f"{name}.jsonl.gz").write_bytes(data.encode(rows))
    return data_of


def _grown(task: str, rows: list[Any], most: int, what: str) -> list[Any]:
    """With further rows of the generator, disjoint from all splits and each other."""
    from fixtures import data

    rng = random.Random(f"{data.SEED}:{task}:{what}")
    seen = {data.content(task, row) for part in (*data.splits(task).values(), rows) for row in part}
    while len(rows) < most:
        row = data.TASKS[task].row(rng)
        if (key := data.content(task, row)) not in seen:
            seen.add(key)
            rows.append(data._finish(task, data.EVALUATED[task], len(rows), row))
    return rows


class Scores:
    """Scores of models on the test split, document by document."""

    def __init__(self, task: str, data: Path, new: str, store: Path) -> None:
        from compatcheck_train.fix.judging import HELD_OUT, Judge

        self.judge = Judge(task, data=data, dev=HELD_OUT, num_fewshot=0, store=store)  # all of the split is scored
        self.loaded = self.judge.test()
        self.old, self.new = self.of([f"{FIXTURES}/adapters/{task}-v1", f"{FIXTURES}/adapters/{task}-{new}"])

    def of(self, models: Sequence[str]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        """(documents,) for each model."""
        from compatcheck.references import resolve

        runs = self.judge.run(self.loaded, {str(n): resolve(model) for n, model in enumerate(models)})
        found = []
        for n in range(len(models)):
            run, metric = self.judge.pick(runs[str(n)])
            found.append(run.records[f"score:{metric}"].to_numpy(dtype=np.float64))
        return found

    def change(self, sides: Sequence[Any], resamples: int = 4000) -> Change:
        """Of one model a seed against NEW."""
        after = np.stack(sides)
        lost_new = (self.new < self.old).astype(float)
        lost = (after < self.old).mean(axis=0)
        gain = (after - self.new).mean(axis=0)
        rng = np.random.default_rng(0)
        drawn = rng.integers(0, len(lost), (resamples, len(lost)))
        falls = 1 - lost[drawn].mean(axis=1) / np.maximum(lost_new[drawn].mean(axis=1), 1e-12)
        low, high = np.quantile(falls, [0.025, 0.975])
        score_low, score_high = np.quantile(gain[drawn].mean(axis=1), [0.025, 0.975])
        by_seed = tuple(float(1 - (one < self.old).mean() / lost_new.mean()) for one in after)
        return Change(
            float(lost_new.mean()), float(lost.mean()), float(1 - lost.mean() / lost_new.mean()), float(low),
            float(high), float(gain.mean()), float(score_low), float(score_high), by_seed,
        )  # fmt: skip

    def apart(self, ours: Sequence[Any], theirs: Sequence[Any], resamples: int = 4000) -> tuple[float, float, float]:
        """NFR of one side less that of another, means over seeds, with a 95 % interval."""
        less = (np.stack(ours) < self.old).mean(axis=0) - (np.stack(theirs) < self.old).mean(axis=0)
        drawn = np.random.default_rng(1).integers(0, len(less), (resamples, len(less)))
        low, high = np.quantile(less[drawn].mean(axis=1), [0.025, 0.975])
        return float(less.mean()), float(low), float(high)


def inputs(task: str, data: Path) -> list[str]:
    return [
        "--data",
        str(data),
        "--num-fewshot",
        "0",
        "--dev",
        "dev",
        "--unlabelled",
        str(data / task / "production.jsonl.gz"),
    ]


def fixes(task: str, seeds: Sequence[int], given: argparse.Namespace, more: Sequence[str]) -> dict[str, Any]:
    """Whole processes, one a seed."""
    data = data_folder(task, given.test, given.out)
    reports, seconds, folders = [], [], []
    for seed in seeds:
        out = given.out / f"{task}-{given.new}-{seed}"
        command = [
            str(Path(sys.executable).with_name("compatcheck")), "fix", f"{FIXTURES}/adapters/{task}-v1",
            f"{FIXTURES}/adapters/{task}-{given.new}", "--task", task, *inputs(task, data), "--preset", "quick",
            "--seed", str(seed), "--store", str(given.out / f"store-{task}"), "--out", str(out), "-q", *more,
        ]  # fmt: skip
        log = given.out / f"{task}-{given.new}-{seed}.log"
        started = time.perf_counter()
        with log.open("w") as file:
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
        seconds.append(time.perf_counter() - started)
        if done.returncode not in (0, 1, 3):
            raise RuntimeError(f"{' '.join(command)}\n{log.read_text()[-2000:]}")
        folders.append(out)
        reports.append(json.loads((out / "fix_report.json").read_text()))
        print(f"{task}, seed {seed}: {seconds[-1]:.0f} s, {log.read_text().splitlines()[-1]}", flush=True)
    if given.fresh:
        data = data_folder(task, given.test, given.out, given.fresh)
    scores = Scores(task, data, given.new, given.out / f"store-{task}")
    ours = scores.of([str(folder / "adapter") for folder in folders])
    controls = scores.of([str(folder / "work" / "control" / "adapter") for folder in folders])
    return {
        "task": task, "new": given.new, "n": len(scores.old), "seeds": list(seeds), "seconds": seconds,
        "score_old": float(scores.old.mean()), "score_new": float(scores.new.mean()),
        "fix": asdict(scores.change(ours)), "control": asdict(scores.change(controls)),
        "fix_less_control": scores.apart(ours, controls),
        "chosen": [report["strategy"] for report in reports],
        "blend": [None if r["frontier"] is None else r["frontier"]["chosen"] for r in reports],
        "verdicts": [report["verdict"] for report in reports],
        "bound": reports[0]["bound"],
    }  # fmt: skip


def strategies(task: str, seeds: Sequence[int], given: argparse.Namespace) -> dict[str, Any]:
    """Every strategy of the task's kind, at equal epochs from the same start."""
    from compatcheck_train import preset
    from compatcheck_train.examples import load_examples
    from compatcheck_train.loss import strategies as known
    from compatcheck_train.training.run import train

    data = data_folder(task, given.test, given.out)
    scores = Scores(task, data, given.new, given.out / f"store-{task}")
    old, new = f"{FIXTURES}/adapters/{task}-v1", f"{FIXTURES}/adapters/{task}-{given.new}"
    found: dict[str, Any] = {}
    kind = load_examples(task, data=data).kind
    for name in known.names(kind):
        made = []
        for seed in seeds:
            labelled = load_examples(task, data=data, seed=seed)
            settings = preset("quick", strategy=name, seed=seed, cache_folder=given.out / "cache")
            made.append(train(old, new, labelled, settings, given.out / f"strategy-{task}-{name}-{seed}"))
        found[name] = asdict(scores.change(scores.of([str(one.folder) for one in made])))
        found[name] |= {"steps": made[0].steps, "seconds": [round(one.seconds, 1) for one in made]}
        print(row(name, found[name]), flush=True)
    return {"task": task, "n": len(scores.old), "seeds": list(seeds), "strategies": found}


def row(name: str, change: Mapping[str, Any]) -> str:
    """A line of a table: NFR, its change against NEW's (a fall is negative), the score's in points, NFR's by seed."""
    falls = (change["fall"], change["fall_high"], change["fall_low"], *change["by_seed"])
    value, low, high, *by_seed = (f"{0.0 - 100 * fall:+.0f}" for fall in falls)
    score, least, most = (f"{100 * change[key]:+.2f}" for key in ("score", "score_low", "score_high"))
    cells = (
        f"{100 * change['nfr']:.2f} %", f"{value} % ({low} to {high})", f"{score} ({least} to {most})",
        ", ".join(by_seed),
    )  # fmt: skip
    return f"| {name} | {' | '.join(cells).replace('-', '−')} |"


def show(figures: Mapping[str, Any]) -> None:
    print(
        f"\n{figures['task']} v1 → {figures['new']}, n = {figures['n']}, NEW's NFR "
        f"{100 * figures['fix']['nfr_new']:.2f} %, score {100 * figures['score_old']:.2f} → "
        f"{100 * figures['score_new']:.2f}; chosen: {', '.join(figures['chosen'])}, blends {figures['blend']}; "
        f"{', '.join(f'{s:.0f}' for s in figures['seconds'])} s\n\n"
        "| | NFR | change (95 %) | score (95 %) | change by seed |\n|---|---|---|---|---|"
    )
    print(row("fix", figures["fix"]))
    print(row("control", figures["control"]))
    less, low, high = (100 * value for value in figures["fix_less_control"])
    print(f"\nNFR less the control's: {less:+.2f} points ({low:+.2f} to {high:+.2f})", flush=True)


def main() -> None:
    own, more = sys.argv[1:], []
    if "--" in own:
        cut = own.index("--")
        own, more = own[:cut], own[cut + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["fixes", "strategies"], default="fixes")
    parser.add_argument("--task", action="append", choices=TASKS)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--new", choices=["v2", "v3"], default="v2")
    parser.add_argument("--test", type=int, help="documents of the test split")
    parser.add_argument("--fresh", type=int, default=0, metavar="N", help="documents to judge on in its place")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(own)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    given.out = given.out.absolute()
    given.out.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in given.seeds.split(",")]
    for task in given.task or TASKS:
        if given.what == "strategies":
            figures = strategies(task, seeds, given)
        else:
            figures = fixes(task, seeds, given, more)
            show(figures)
        name = f"{given.what}-{task}-{given.new}.json"
        (given.out / name).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
