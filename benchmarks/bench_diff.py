"""Whole ``compatcheck diff`` processes: against lm-eval run twice and joined, with stored answers, and as work grows.

    python -m benchmarks.bench_diff [peer] [store] [growth] [--quick] [--rounds N] [--scale X] [--only WORDS]

``peer``: `lm_eval --model hf --log_samples` on OLD, on NEW, and a script that joins the two logs, against one
`compatcheck diff --no-store` of the same models on the same documents. ``store``: a diff with nothing stored, one with
OLD stored and another NEW, and one with both stored. ``growth``: 1,000, 10,000 and 100,000 instances, recorded and of a
tiny model with the store; the exponent is fitted to the time beyond that of 10 instances.

Writes benchmarks/results/diff.json. Exit code 1 when a goal is missed or the figures of both sides differ.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bench_process import write_pair
from benchmarks.models import text, words

LEAST_BEYOND = 0.5
"""Seconds beyond the start that are told from its noise."""
RESULTS = Path(__file__).parent / "results" / "diff.json"
BIN = Path(sys.executable).parent
JOIN = """
import glob, json, sys
def read(folder):
    (path,) = glob.glob(folder + "/**/samples_*.jsonl", recursive=True)
    return {row["doc_id"]: row for row in map(json.loads, open(path))}
old, new = read(sys.argv[1]), read(sys.argv[2])
table, differ = {}, 0
for key, a in old.items():
    b = new[key]
    metric = a["metrics"][0]
    cell = f"{int(a[metric])}{int(b[metric])}"
    table[cell] = table.get(cell, 0) + 1
    differ += a["filtered_resps"] != b["filtered_resps"]
print(json.dumps({"table": table, "differ": differ}))
"""
CHOICES = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{train: {folder}/choices-train.jsonl, test: {folder}/choices.jsonl}}}}
output_type: multiple_choice
fewshot_split: train
test_split: test
doc_to_text: "{{{{context}}}}"
doc_to_target: label
doc_to_choice: "{{{{endings}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""
GENERATION = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{train: {folder}/generation-train.jsonl, test: {folder}/generation.jsonl}}}}
output_type: generate_until
fewshot_split: train
fewshot_config: {{sampler: first_n}}
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
generation_kwargs: {{until: ["\\n\\n"], do_sample: false, max_gen_toks: 64}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@dataclass
class Case:
    """One workload for whole processes. ``least``: how many times faster than lm-eval twice and a join."""

    name: str
    task: str
    shots: int
    documents: int
    least: float
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    own_start: float = 0.0
    their_start: float = 0.0

    @property
    def ratio(self) -> float:
        return statistics.median(t / o for t, o in zip(self.theirs, self.ours, strict=True))

    @property
    def ratio_beyond_start(self) -> float:
        """The same without what a process needs for a single document: imports, lm-eval's index, loading."""
        return statistics.median(
            (t - self.their_start) / (o - self.own_start) for t, o in zip(self.theirs, self.ours, strict=True)
        )


def timed(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Wall seconds and peak resident memory (MB) of one process."""
    log = folder / "log.txt"
    started = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(list(command), stdout=file, stderr=subprocess.STDOUT, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}:\n{log.read_text()[-3000:]}")
    return seconds, usage.ru_maxrss / 1024


def make_models(kind: str, folders: Sequence[Path]) -> int:
    """Random models with the seeds 0, 1 …; returns their number of parameters.

    In a process of its own: the peak memory of a process counts what the one that started it had.
    """
    script = (
        f"import sys\nfrom pathlib import Path\nfrom benchmarks.models import {kind}\n"
        f"print({{{kind}(Path(folder), seed) for seed, folder in enumerate(sys.argv[1:])}}.pop())"
    )
    command = [sys.executable, "-c", script, *map(str, folders)]
    made = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    return int(made.stdout.split()[-1])


def write_tasks(folder: Path, documents: int) -> None:
    """HellaSwag-shaped choices (60 words, four endings of 20); questions of 40 words, with examples of 100."""
    rng, vocabulary = random.Random(0), words()

    def some(length: int) -> str:
        return text(rng, vocabulary, length)

    def choice(length: int) -> dict[str, Any]:
        return {"context": some(length), "endings": [some(20) for _ in range(4)], "label": rng.randrange(4)}

    def question(length: int) -> dict[str, Any]:
        return {"question": some(length), "answer": some(20)}

    rows = {
        "choices": [choice(60) for _ in range(documents)], "choices-train": [choice(60) for _ in range(200)],
        "generation": [question(40) for _ in range(documents)], "generation-train": [question(80) for _ in range(20)],
    }  # fmt: skip
    for name, found in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (folder / "tasks").mkdir()
    for name, template in (("choices", CHOICES), ("generation", GENERATION)):
        (folder / "tasks" / f"bench_{name}.yaml").write_text(template.format(name=f"bench_{name}", folder=folder))


def diff(folder: Path, case: Case, store: Sequence[str], new: str = "new", limit: int | None = None) -> float:
    """Seconds of one whole ``compatcheck diff``; its report lies in ``folder/ours`` afterwards."""
    command = [
        str(BIN / "compatcheck"), "diff", "old", new, "--task", f"tasks/bench_{case.task}.yaml", "--num-fewshot",
        str(case.shots), "--limit", str(limit or case.documents), "--engine", "hf", "--device", "cpu", "--dtype",
        "float32", "--out", "ours", "-q", *store,
    ]  # fmt: skip
    return timed(command, folder)[0]


def lm_eval_twice(folder: Path, case: Case, limit: int | None = None) -> float:
    """Seconds of lm-eval on OLD, lm-eval on NEW and the join; what the join prints lies in ``folder/log.txt``."""
    seconds = 0.0
    with tempfile.TemporaryDirectory() as out:
        for side in ("old", "new"):
            command = [
                str(BIN / "lm_eval"), "--model", "hf", "--model_args", f"pretrained={folder / side},dtype=float32",
                "--tasks", f"bench_{case.task}", "--include_path", str(folder / "tasks"), "--num_fewshot",
                str(case.shots), "--limit", str(limit or case.documents), "--device", "cpu", "--batch_size", "16",
                "--log_samples", "--output_path", f"{out}/{side}",
            ]  # fmt: skip
            seconds += timed(command, folder)[0]
        (folder / "join.py").write_text(JOIN)
        return seconds + timed([sys.executable, "join.py", f"{out}/old", f"{out}/new"], folder)[0]


def same_figures(folder: Path, case: Case) -> str:
    """Hold our report against what the join printed; returns what is not the same, or nothing."""
    import pandas as pd

    theirs = json.loads((folder / "log.txt").read_text().splitlines()[-1])
    (comparison,) = json.loads((folder / "ours" / "report.json").read_text())["comparisons"]
    if case.task == "generation":
        table = pd.read_parquet(folder / "ours" / "instances.parquet")
        differ = int((table["prediction_old"] != table["prediction_new"]).sum())
        return "" if differ == theirs["differ"] else f"{differ} texts differ here, {theirs['differ']} there"
    cells = {"11": "both_correct", "10": "negative_flip", "01": "positive_flip", "00": "both_wrong"}
    expected = {name: theirs["table"].get(cell, 0) for cell, name in cells.items()}
    return "" if comparison["quadrants"] == expected else f"{comparison['quadrants']} here, {expected} there"


def peer(folder: Path, cases: Sequence[Case], rounds: int) -> list[str]:
    """Both sides, interleaved; which one goes first changes every round. Returns what was missed."""
    missed = []
    for case in cases:
        case.own_start = diff(folder, case, ["--no-store"], limit=1)
        case.their_start = lm_eval_twice(folder, case, limit=1)
        for number in range(rounds):
            for side in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                if side == "ours":
                    case.ours.append(diff(folder, case, ["--no-store"]))
                else:
                    case.theirs.append(lm_eval_twice(folder, case))
                    joined = (folder / "log.txt").read_text()
            (folder / "log.txt").write_text(joined)
        problem = same_figures(folder, case)
        if problem or case.ratio < case.least:
            missed.append(f"{case.name}: {problem or f'{case.ratio:.2f}x'}")
        print(
            f"{case.name}, {case.documents} documents: lm-eval twice and join {statistics.median(case.theirs):.1f} s "
            f"({case.their_start:.1f} s for one document), diff {statistics.median(case.ours):.1f} s "
            f"({case.own_start:.1f} s): {case.ratio:.2f}x (goal {case.least:g}x), beyond start-up "
            f"{case.ratio_beyond_start:.2f}x{', ' + problem if problem else ', same figures'}",
            flush=True,
        )
    return missed


def stored(folder: Path, case: Case, rounds: int, figures: dict[str, Any]) -> list[str]:
    """Nothing stored, OLD stored, both stored. Returns what was missed."""
    first, second, third = [], [], []
    for number in range(rounds):
        store = ["--store", f"store-{number}"]
        first.append(diff(folder, case, store))
        second.append(diff(folder, case, store, new="newer"))
        third.append(diff(folder, case, store, new="newer"))
    share = statistics.median(s / f for s, f in zip(second, first, strict=True))
    both = statistics.median(third)
    figures["store"] = {"documents": case.documents, "first": first, "old_stored": second, "both_stored": third}
    print(
        f"stored answers, {case.documents} documents: nothing stored {statistics.median(first):.1f} s, OLD stored "
        f"{statistics.median(second):.1f} s ({share:.2f} of the first, goal 0.6), both stored {both:.2f} s (goal 5 s)",
        flush=True,
    )
    missed = [f"OLD stored: {share:.2f} of the first"] if share > 0.6 else []
    return missed + ([f"both stored: {both:.2f} s"] if both > 5 else [])


def growth(folder: Path, sizes: Sequence[int], figures: dict[str, Any]) -> list[str]:
    """Time and memory as instances grow: recorded files; a tiny model, computing, then answered from the store."""
    rng, vocabulary = random.Random(2), words(count=200)
    make_models("save_tiny_llama", [folder / "tiny-old", folder / "tiny-new"])
    (folder / "growth.yaml").write_text(CHOICES.format(name="growth", folder=folder).replace("choices", "growth"))
    tool, missed = str(BIN / "compatcheck"), []
    found: dict[str, list[tuple[int, float, float]]] = {"recorded": [], "computed": [], "stored": []}
    for size in (10, *sizes):
        pair = [str(path) for path in write_pair(folder, size)]
        found["recorded"].append((size, *timed([tool, "diff", *pair, "-q", "--out", "ours"], folder)))
        rows = [
            {"context": text(rng, vocabulary, 12) + f" {n}", "endings": [" yes", " no"], "label": n % 2}
            for n in range(size)
        ]
        for name in ("growth", "growth-train"):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [
            tool, "diff", "tiny-old", "tiny-new", "--task", "growth.yaml", "--engine", "hf", "--device", "cpu",
            "--store", f"growth-{size}", "--out", "ours", "-q",
        ]  # fmt: skip
        for kind in ("computed", "stored"):
            found[kind].append((size, *timed(command, folder)))
    figures["growth"] = {}
    for kind, measured in found.items():
        (_, start, base), *rest = measured
        points = [(math.log(n), math.log(s - start)) for n, s, _ in rest if s - start >= LEAST_BEYOND]
        exponent = statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else None
        figures["growth"][kind] = {
            "exponent": exponent, "start_seconds": start, "start_mb": base,
            "measured": [{"instances": n, "seconds": s, "peak_mb": mb} for n, s, mb in rest],
        }  # fmt: skip
        shown = ", ".join(f"{size:,}: {seconds:.1f} s {mb:.0f} MB" for size, seconds, mb in rest)
        told = f"exponent {exponent:.2f} (goal 1.05)" if exponent is not None else "too small to fit an exponent"
        print(f"growth, {kind}: {told} beyond {start:.1f} s {base:.0f} MB; {shown}", flush=True)
        if exponent is not None and exponent > 1.05:
            missed.append(f"growth, {kind}: exponent {exponent:.2f}")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="peer, store, growth; all where none is named")
    parser.add_argument("--quick", action="store_true", help="few documents, one round: does it run, not how fast")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many documents")
    parser.add_argument("--only", default="", metavar="WORDS", help="only the peer cases whose name has these words")
    options = parser.parse_args()
    parts = options.parts or ["peer", "store", "growth"]
    if set(parts) - {"peer", "store", "growth"}:
        parser.error("parts are peer, store and growth")
    rounds, scale = (1, 0.04) if options.quick else (options.rounds, options.scale)
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    cases = [
        Case("multiple choice, 0-shot", "choices", 0, round(256 * scale), 2.5),
        Case("multiple choice, 10-shot", "choices", 10, max(4, round(48 * scale)), 4.0),
        Case("few-shot generation", "generation", 5, max(4, round(64 * scale)), 1.5),
    ]
    chosen = [case for case in cases if options.only in case.name]
    figures: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}  # of the other parts
    figures |= {"quick": options.quick, "rounds": rounds}
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
        write_tasks(folder, max(case.documents for case in cases))
        figures["parameters"] = make_models("save_llama", [folder / name for name in ("old", "new", "newer")])
        if "peer" in parts:
            missed += peer(folder, chosen, rounds)
            figures["peer"] = [asdict(c) | {"ratio": c.ratio, "beyond_start": c.ratio_beyond_start} for c in chosen]
        if "store" in parts:
            missed += stored(folder, cases[0], rounds, figures)
        if "growth" in parts:
            missed += growth(folder, (100, 300, 1000) if options.quick else (1_000, 10_000, 100_000), figures)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"missed: {'; '.join(missed)}" if missed else "all goals met")
    return 0 if options.quick or not missed else 1


if __name__ == "__main__":
    raise SystemExit(main())
