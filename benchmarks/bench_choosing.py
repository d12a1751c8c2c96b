"""On which documents `fix` should choose: held-out training rows, which NEW has seen, or some of the evaluation split.

    python -m benchmarks.bench_choosing [--update piqa]… [--seeds 0,1] [--test 2500] [--out DIR]

For every update and seed the candidates of `--strategy auto` are trained once and blended at every weight, and all of
them answer the held-out training rows and a large further test split. Choosing is then played through on what they
answered: many times an evaluation split of 800 documents is drawn, a share of it set aside to choose on, and what is
taken is judged on the documents outside of it. `NAME-short` is an update whose NEW was trained for long on few rows,
as adapters for small data sets are. Writes JSON into --out and prints Markdown.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_fix import FIXTURES, RESULTS, data_folder

UPDATES = ("piqa", "hellaswag", "piqa-short", "hellaswag-short")
SHARES = (0.125, 0.25, 0.333, 0.5)
SPLIT, DRAWS, MARGIN = 800, 2000, 0.01
Scores = NDArray[np.float64]


def adapters(update: str, data: Path, out: Path) -> tuple[str, str, int]:
    """OLD, NEW, and how many training documents, 0 for all: NEW of a short update is trained here, 12 epochs on 300."""
    task, _, short = update.partition("-")
    old, new = (f"{FIXTURES}/adapters/{task}-{version}" for version in ("v1", "v2"))
    if not short:
        return old, new, 0
    from compatcheck_train import preset
    from compatcheck_train.examples import load_examples
    from compatcheck_train.training.run import train_task_adapter

    # Every row of it is trained on: the rows to choose on are among them, as where the user trained NEW.
    examples = load_examples(task, data=data, limit=300)
    every = examples.__class__(task, examples.kind, examples.train + examples.validation, examples.validation)
    settings = preset("quick", epochs=12, learning_rate=2e-3)
    return (
        old,
        str(train_task_adapter(f"{FIXTURES}/models/base-v2", every, settings, out / f"{update}-new").folder),
        300,
    )


def _first(source: Path, most: int, target: Path) -> Path:
    with gzip.open(source, "rt", encoding="utf-8") as file:
        target.write_text("".join(islice(file, most)), encoding="utf-8")
    return target


def answered(update: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Scores of OLD, NEW and every blend on held-out training rows and on further documents."""
    from compatcheck.option_models import build
    from compatcheck.options import Fix
    from compatcheck.references import resolve
    from compatcheck_train.examples import load_examples
    from compatcheck_train.fix.candidates import SHARES as WEIGHTS
    from compatcheck_train.fix.candidates import candidates_for
    from compatcheck_train.fix.judging import HELD_OUT
    from compatcheck_train.fix.request import FixRequest
    from compatcheck_train.fix.search import Work, train_candidate
    from compatcheck_train.weights import blend

    task = update.partition("-")[0]
    data = data_folder(task, given.test, given.out)
    old, new, rows = adapters(update, data, given.out)
    chosen = {
        "task": task, "data": data, "dev": HELD_OUT, "num_fewshot": 0, "store": given.out / "store", "preset": "quick",
        "seed": seed, "set": {"cache_folder": given.out / "cache"},
    }  # fmt: skip
    request = FixRequest(str(old), str(new), build(Fix, chosen))
    judge = request.judge
    unlabelled = None if rows else _first(data / task / "production.jsonl.gz", 1000, given.out / f"{task}.jsonl")
    examples = load_examples(task, data=data, limit=rows or None, seed=seed, unlabelled=unlabelled)
    models, start = {"old": resolve(old), "new": resolve(new)}, resolve(new)
    work = Work(request, models["old"], start, start, examples, judge.test(), {}, given.out / f"{update}-{seed}")
    for candidate in candidates_for("choice", share=1.0):
        place = given.out / f"{update}-{seed}" / candidate.name
        made = train_candidate(work, candidate, place).folder
        for weight in WEIGHTS:
            folder = made if weight == 1 else blend(made, start.adapter, weight, place / f"blend-{weight:g}")
            models[f"{candidate.name} × {weight:g}"] = resolve(str(folder))
    found: dict[str, Any] = {}
    held_out = judge.on_training_documents(examples, examples.validation)
    for where, documents in (("held out", held_out), ("test", judge.test())):
        runs = judge.run(documents, models)
        found[where] = {}
        for name, run in runs.items():
            table, metric = judge.pick(run)
            found[where][name] = table.records[f"score:{metric}"].to_numpy(dtype=np.float64)
    return found


def take(scores: Mapping[str, Scores]) -> str:
    """The blend that ``fix`` takes on these documents."""
    from compatcheck_train.fix.judging import Scores as OnDocuments
    from compatcheck_train.fix.judging import best

    old, new = scores["old"], scores["new"]
    candidates: dict[str, list[OnDocuments]] = {}
    for name, own in scores.items():
        if name not in ("old", "new"):
            error = float((own - new).std(ddof=1) / len(new) ** 0.5)
            one = OnDocuments(
                name, len(new), float((own < old).mean()), 0.0, float(own.mean()), float((new < old).mean()),
                float(new.mean()), error,
            )  # fmt: skip
            candidates.setdefault(name.partition(" × ")[0], []).append(one)
    return best([best(each) for each in candidates.values()]).name


def change(scores: Mapping[str, Scores], name: str) -> tuple[float, float]:
    """(relative change of NFR, change of the score) of a model against NEW."""
    old, new, own = scores["old"], scores["new"], scores[name]
    return float((own < old).mean() / (new < old).mean() - 1), float((own - new).mean())


def proven(scores: Mapping[str, Scores], name: str) -> bool:
    """Whether the proof on these documents says better."""
    from compatcheck_train.fix.change import rate_change
    from compatcheck_train.fix.verdict import judge

    old, new, own = (scores[each] == 1 for each in ("old", "new", name))
    changes = {"nfr": rate_change(old & ~new, old & ~own), "score": rate_change(new, own)}
    return judge(changes, margin=MARGIN).verdict == "better"


def played(found: Mapping[str, Mapping[str, Scores]], seed: int) -> dict[str, Any]:
    """What every way of choosing takes, and what that is worth on the documents outside."""
    test, rng = found["test"], np.random.default_rng(seed)
    n = len(test["new"])
    ways: dict[str, list[tuple[float, float, bool]]] = {}
    fixed = take(found["held out"])
    for _ in range(DRAWS):
        order = rng.permutation(n)
        split, outside = order[:SPLIT], {name: own[order[SPLIT:]] for name, own in test.items()}
        for share in (0.0, *SHARES):
            cut = round(share * SPLIT)
            chosen = take({name: own[split[:cut]] for name, own in test.items()}) if cut else fixed
            proof = {name: own[split[cut:]] for name, own in test.items()}
            way = f"{100 * share:.0f} % of the evaluation split" if cut else "held-out training rows"
            ways.setdefault(way, []).append((*change(outside, chosen), proven(proof, chosen)))
    best = max((change(test, name) for name in test if name not in ("old", "new")), key=lambda c: -c[0] + 2 * c[1])
    rows = {}
    for way, drawn in ways.items():
        table = np.array(drawn, dtype=np.float64)
        rows[way] = {
            "nfr": float(table[:, 0].mean()), "score": float(table[:, 1].mean()),
            "below": float((table[:, 1] < -MARGIN).mean()), "proven": float(table[:, 2].mean()),
        }  # fmt: skip
    return {
        "new_held_out": float(found["held out"]["new"].mean()), "new_test": float(test["new"].mean()),
        "nfr_of_new": float((test["new"] < test["old"]).mean()), "taken_on_held_out": fixed,
        "ways": rows, "best": best, "models": {name: change(test, name) for name in test if name not in ("old", "new")},
    }  # fmt: skip


def show(update: str, figures: Sequence[Mapping[str, Any]]) -> None:
    mean = {key: np.mean([each[key] for each in figures]) for key in ("new_held_out", "new_test", "nfr_of_new")}
    print(
        f"\n| {update}: NEW {100 * mean['new_held_out']:.1f} % right on held-out training rows, "
        f"{100 * mean['new_test']:.1f} % on others | NFR | score, points | a point below NEW or more | proven better |"
        "\n|---|---|---|---|---|"
    )
    for way in figures[0]["ways"]:
        found = {key: np.mean([each["ways"][way][key] for each in figures]) for key in figures[0]["ways"][way]}
        print(
            f"| {way} | {100 * found['nfr']:+.0f} % | {100 * found['score']:+.2f} | {100 * found['below']:.0f} % | "
            f"{100 * found['proven']:.0f} % |".replace("-", "−"), flush=True,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="append", choices=UPDATES)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--test", type=int, default=2500, help="documents of the further test split")
    parser.add_argument("--out", type=Path, default=RESULTS.with_name("choosing"))
    given = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    given.out = given.out.absolute()
    given.out.mkdir(parents=True, exist_ok=True)
    for update in given.update or UPDATES:
        figures = [played(answered(update, int(seed), given), int(seed)) for seed in given.seeds.split(",")]
        show(update, figures)
        (given.out / f"{update}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
