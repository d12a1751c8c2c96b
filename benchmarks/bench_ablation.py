"""What brings a trained adapter closer to the bound (both models averaged at inference), one change at a time.

    python -m benchmarks.bench_ablation --task piqa [--seeds 0,1] [--rows NAME,…] [--test 3000] [--out DIR]

Every row is a training on the fixtures' update v1 → v2: `choice-ce` on the labelled documents, then what the row says,
at the steps it says, without blends. Judged on a larger test split that nothing is trained or chosen on. Processor
seconds are those of the trainings and of making the teachers' outputs. A training that is finished is not repeated, so
seeds and rows can be added. Writes JSON into --out and prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_fix import FIXTURES, RESULTS, Scores, data_folder, row
from compatcheck_train import preset
from compatcheck_train.examples import Example, Examples, load_examples, test_keys
from compatcheck_train.loss.rules import Parts
from compatcheck_train.loss.strategies import _choice_strategy, _follow, _scaled
from compatcheck_train.loss.view import View
from compatcheck_train.training.run import train

NEAR = 10


@dataclass(frozen=True)
class Row:
    """``unlabelled`` inputs of the task, ``times`` as many recombined ones, ``epochs`` or ``steps`` of the stage, and
    the epochs of the stage ``first``."""

    strategy: str = "choice-ensemble"
    options: dict[str, Any] = field(default_factory=dict)
    first: str = "choice-ce"
    first_epochs: int = 3
    unlabelled: int = 0
    times: int = 0
    way: str = "choices"
    epochs: int = 3
    steps: int | None = None


_BOTH = {"choice_ce": 1.0, "old_share": 0.65}
ROWS = {
    "base": Row(),
    "base-long": Row(epochs=10, steps=1110),
    "choice-ce-long": Row("choice-ce", first="", epochs=15, steps=1470),
    "choices-3": Row(times=3, way="choices", steps=360),
    "near-swap-3": Row(times=3, way="near swap", steps=360),
    "near-swap-3-long": Row(times=3, way="near swap", steps=1110),
    "labels-kept": Row("choice-ensemble", _BOTH),
    "labels-kept-long": Row("choice-ensemble", _BOTH, epochs=10, steps=1110),
    "sure": Row("sure"),
    "unlabelled-2000-360": Row(unlabelled=2000, steps=360),
    "unlabelled-2000": Row(unlabelled=2000),
    "unlabelled-2000-labels-kept": Row("choice-ensemble", _BOTH, unlabelled=2000),
    "choice-ce-360": Row("choice-ce", first=""),
    "choice-ce-1110": Row("choice-ce", first="", epochs=10, steps=1110),
    "continue-ce-1110": Row("continue-ce", first="", epochs=10, steps=1110),
    "auto": Row("choice-ensemble", {**_BOTH, "anchor": "ce"}, first_epochs=8, unlabelled=2000, epochs=1),
    "auto-labels-not-kept": Row(first_epochs=8, unlabelled=2000, epochs=1),
    "auto-short-first": Row("choice-ensemble", {**_BOTH, "anchor": "ce"}, unlabelled=2000),
}


# A strategy that is tried here alone


@_choice_strategy("sure", "both teachers, weighted by how sure each is of the document", "", "tried here")
def sure(view: View) -> Parts:
    assert view.old is not None and view.new is not None
    targets = []
    for old, new in zip(*(_scaled(view, side.sums()) for side in (view.old, view.new)), strict=True):
        p, q = old.softmax(-1), new.softmax(-1)
        by_old, by_new = (float(each.max()) - 1 / len(each) + 1e-3 for each in (p, q))
        targets.append((by_old * p + by_new * q) / (by_old + by_new))
    return _follow(view, targets, len(targets))


# Documents made of others


def nearest(examples: Sequence[Example]) -> list[list[int]]:
    """For every document those with the same number of choices that share most words with its context."""
    words = [set(each.pairs[0][0].lower().split()) for each in examples]
    known = {word: n for n, word in enumerate(sorted(set().union(*words)))}
    there = np.zeros((len(words), len(known)), dtype=np.float32)
    for n, each in enumerate(words):
        there[n, [known[word] for word in each]] = 1
    there *= np.log(len(words) / there.sum(axis=0))
    there /= np.linalg.norm(there, axis=1, keepdims=True) + 1e-9
    close = there @ there.T
    np.fill_diagonal(close, -1)
    return [list(map(int, line)) for line in np.argsort(-close, axis=1)[:, :NEAR]]


def recombined(examples: Sequence[Example], times: int, way: str, known: set[str], seed: int) -> list[Example]:
    """``times`` as many documents: the context of one with the choices, or one choice, of another."""
    rng, near = random.Random(f"recombined/{seed}"), nearest(examples) if way.startswith("near") else None
    seen, made = {each.key for each in examples} | known, []
    for _ in range(20 * times):
        for n, each in enumerate(examples):
            other = examples[rng.choice(near[n]) if near is not None else rng.randrange(len(examples))]
            if len(made) == times * len(examples) or len(other.pairs) != len(each.pairs):
                continue
            texts = [text for _, text in (other if way.endswith("choices") else each).pairs]
            if way.endswith("swap"):
                texts[rng.randrange(len(texts))] = rng.choice(other.pairs)[1]
            pairs = tuple((context, text) for (context, _), text in zip(each.pairs, texts, strict=True))
            fresh = Example(f"made:{len(made)}", pairs, None)
            if len(set(texts)) == len(texts) and fresh.key not in seen:
                seen.add(fresh.key)
                made.append(fresh)
    return made


class Bench:
    """Trainings of one task, and what they do on the test split."""

    def __init__(self, task: str, given: argparse.Namespace) -> None:
        self.task, self.out = task, given.out
        self.data = data_folder(task, given.test, given.out)
        self.scores = Scores(task, self.data, "v2", given.out / f"store-{task}")
        self.old, self.new = (f"{FIXTURES}/adapters/{task}-{version}" for version in ("v1", "v2"))
        self.known = set(test_keys(task, self.data, "train"))

    def examples(self, seed: int, one: Row) -> Examples:
        more = self.data / self.task / "production.jsonl.gz"
        found = load_examples(self.task, data=self.data, seed=seed, unlabelled=more if one.unlabelled else None)
        found = replace(found, unlabelled=found.unlabelled[: one.unlabelled])
        if not one.times:
            return found
        made = recombined([*found.train, *found.unlabelled], one.times, one.way, self.known, seed)
        return replace(found, unlabelled=(*found.unlabelled, *made))

    def trained(self, name: str, new: str, examples: Examples, seed: int, **own: Any) -> tuple[Path, int, float]:
        """The adapter, its steps and the processor seconds it took."""
        place, started = self.out / f"{self.task}-{seed}" / name, time.process_time()
        settings = preset("quick", seed=seed, cache_folder=self.out / "cache", **own)
        done = train(self.old, new, examples, settings, place)
        cost = place / "cost.json"
        if not cost.is_file():
            cost.write_text(json.dumps(time.process_time() - started))
        return done.folder, done.steps, float(json.loads(cost.read_text()))

    def made(self, name: str, one: Row, seed: int) -> tuple[Path, int, float]:
        start, steps, seconds = self.new, 0, 0.0
        examples = self.examples(seed, one)
        if one.first:
            bare = replace(examples, unlabelled=())
            before, steps, seconds = self.trained(
                f"first-{one.first}-{one.first_epochs}", self.new, bare, seed, strategy=one.first,
                epochs=one.first_epochs,
            )  # fmt: skip
            start = str(before)
        folder, more, cost = self.trained(
            name, start, examples, seed, strategy=one.strategy, strategy_options=one.options, epochs=one.epochs,
            max_steps=one.steps,
        )  # fmt: skip
        return folder, steps + more, seconds + cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["piqa", "hellaswag"], default="piqa")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--rows", default="", help="their names, parted by commas")
    parser.add_argument("--test", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=RESULTS.with_name("ablation"))
    given = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    given.out = given.out.absolute()
    given.out.mkdir(parents=True, exist_ok=True)
    bench, file = Bench(given.task, given), given.out / f"{given.task}-{given.seeds}.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    for name in given.rows.split(",") if given.rows else ROWS:
        one = ROWS[name]
        parts = [bench.made(name, one, int(seed)) for seed in given.seeds.split(",")]
        found[name] = asdict(bench.scores.change(bench.scores.of([str(folder) for folder, *_ in parts])))
        found[name] |= {"n": len(bench.scores.old), "steps": parts[0][1], "seconds": [cost for *_, cost in parts]}
        file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(f"{row(name, found[name])} {parts[0][1]} | {np.mean(found[name]['seconds']):.0f} s |", flush=True)


if __name__ == "__main__":
    main()
