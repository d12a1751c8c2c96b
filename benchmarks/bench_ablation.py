"""What brings a trained adapter closer to the bound (both models averaged at inference), one change at a time.

    python -m benchmarks.bench_ablation --task piqa [--old v1] [--new v2] [--seeds 0,1] [--rows NAME,…] [--test 3000]
                                        [--out DIR]

Every row is a training on the fixtures' update v1 → v2: `choice-ce` (over texts `continue-ce`) on the labelled
documents, then what the row says, at the steps it says, without blends with NEW. Judged on a larger test split that
nothing is trained or chosen on. Processor seconds are those of the trainings and of making the teachers' outputs. A
training that is finished is not repeated, so seeds and rows can be added. Writes JSON into --out and prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ablation_ideas import OnPolicy, SampledAnswers, better_of
from benchmarks.bench_fix import FIXTURES, RESULTS, Scores, data_folder, row
from compatcheck.references import resolve
from compatcheck_train import preset
from compatcheck_train.examples import Example, Examples, load_examples, test_keys
from compatcheck_train.fix.answers import JointAnswers
from compatcheck_train.training.run import train
from compatcheck_train.weights import blend, transfer

NEAR = 10


@dataclass(frozen=True)
class Row:
    """``unlabelled`` inputs of the task, ``times`` as many recombined ones, ``epochs`` or ``steps`` of the stage, and
    the epochs of the stage ``first``, after which nothing comes without a ``strategy``; ``samples`` of each model's
    answers besides the greedy ones. ``parts``: no training, but an average of two rows, or of one and OLD's update on
    NEW's base, which has ``weight``."""

    strategy: str = "choice-ensemble"
    options: dict[str, Any] = field(default_factory=dict)
    first: str = "choice-ce"
    first_epochs: int = 3
    unlabelled: int = 0
    times: int = 0
    way: str = "choices"
    epochs: int = 3
    steps: int | None = None
    tokens: str = "all"
    samples: int = 0
    parts: tuple[str, ...] = ()
    weight: float = 0.0


_BOTH = {"choice_ce": 1.0, "old_share": 0.65}
_KEPT = {"choice_ce": 1.0, "anchor": "ce"}
_TODAY: dict[str, Any] = {"first_epochs": 8, "unlabelled": 2000, "epochs": 1}
_TEXT: dict[str, Any] = {"first": "continue-ce", "first_epochs": 10, "tokens": "answer"}
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
    "first": Row("", first_epochs=8),
    "control": Row("choice-ce", first_epochs=8, epochs=4, steps=370),
    "geometric-0.05": Row("geometric", {**_KEPT, "budget": 0.05}, **_TODAY),
    "geometric-0.2": Row("geometric", {**_KEPT, "budget": 0.2}, **_TODAY),
    "calibrated": Row("calibrated", _KEPT, **_TODAY),
}
ROWS |= {
    f"{name}-control-0.5": Row(parts=(name, "control"), weight=0.5)
    for name in ("auto", "geometric-0.05", "geometric-0.2", "calibrated")
}
OLD_ON_NEW = {
    f"{name}-old-{weight}": Row(parts=(name, "old"), weight=weight)
    for name in ("auto", "control")
    for weight in (0.1, 0.25)
}
TEXT_ROWS = {
    "first": Row("", **_TEXT),
    "auto": Row("sequence-ensemble", unlabelled=1000, epochs=1, **_TEXT),
    "control": Row("continue-ce", epochs=3, steps=225, **_TEXT),
    "sampled-4": Row("sequence-ensemble", unlabelled=1000, epochs=1, samples=4, **_TEXT),
    "on-policy": Row("on-policy", steps=225, **_TEXT),
}


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
    seen, made = {each.key for each in examples} | known, list[Example]()
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
        self.task, update = task, f"{given.old}-{given.new}"
        self.out = given.out if update == "v1-v2" else given.out / update
        self.data = data_folder(task, given.test, given.out)
        self.scores = Scores(task, self.data, given.new, given.out / f"store-{task}")
        self.old, self.new = (f"{FIXTURES}/adapters/{task}-{version}" for version in (given.old, given.new))
        if given.old != "v1":
            (self.scores.old,) = self.scores.of([self.old])
        self.known = set(test_keys(task, self.data, "train"))

    def examples(self, seed: int, one: Row) -> Examples:
        more = self.data / self.task / "production.jsonl.gz"
        found = load_examples(self.task, data=self.data, seed=seed, unlabelled=more if one.unlabelled else None)
        found = replace(found, unlabelled=found.unlabelled[: one.unlabelled])
        if not one.times:
            return found
        made = recombined([*found.train, *found.unlabelled], one.times, one.way, self.known, seed)
        return replace(found, unlabelled=(*found.unlabelled, *made))

    def answers(self, name: str, one: Row, seed: int) -> JointAnswers:
        kind = SampledAnswers if one.samples else JointAnswers
        place = self.out / f"{self.task}-{seed}" / (f"answers-{name}" if one.samples else "answers")
        found = kind(self.scores.loaded, resolve(self.old), place, self.scores.judge.engine)
        if isinstance(found, SampledAnswers):
            found.times, found.seed = one.samples, seed
        return found

    def trained(self, name: str, one: Row, new: str, seed: int, **own: Any) -> tuple[Path, int, float]:
        """The adapter, its steps and the processor seconds it took."""
        place, started = self.out / f"{self.task}-{seed}" / name, time.process_time()
        settings = preset("quick", seed=seed, cache_folder=self.out / "cache", tokens=one.tokens, **own)
        examples = self.examples(seed, one)
        folder, steps = place / "adapter", settings.max_steps or 0
        if settings.strategy == "sequence-ensemble":
            examples = self.answers(name, one, seed).examples(examples, resolve(new))
        if settings.strategy != "on-policy":
            done = train(self.old, new, examples, settings, place)
            folder, steps = done.folder, done.steps
        elif not folder.is_dir():
            by_old = better_of(self.answers(name, one, seed), resolve(new), examples.train)
            loop = OnPolicy(resolve(self.old), resolve(new), settings)
            losses = loop.train([each.pairs[0][0] for each in examples.train], by_old, steps, folder)
            print(f"OLD teaches {np.mean(by_old):.1%}; loss {np.mean(losses[:25]):.4f} to {np.mean(losses[-25:]):.4f}")
        cost = place / "cost.json"
        if not cost.is_file():
            cost.write_text(json.dumps(time.process_time() - started))
        return folder, steps, float(json.loads(cost.read_text()))

    def made(self, name: str, rows: Mapping[str, Row], seed: int) -> tuple[Path, int, float]:
        one, start, steps, seconds = rows[name], self.new, 0, 0.0
        if one.parts:
            return self.averaged(name, rows, seed)
        if one.first:
            before, steps, seconds = self.trained(
                f"first-{one.first}-{one.first_epochs}", Row(tokens=one.tokens), self.new, seed, strategy=one.first,
                epochs=one.first_epochs,
            )  # fmt: skip
            start = str(before)
            if not one.strategy:
                return before, steps, seconds
        folder, more, cost = self.trained(
            name, one, start, seed, strategy=one.strategy, strategy_options=one.options, epochs=one.epochs,
            max_steps=one.steps,
        )  # fmt: skip
        return folder, steps + more, seconds + cost

    def averaged(self, name: str, rows: Mapping[str, Row], seed: int) -> tuple[Path, int, float]:
        one, place = rows[name], self.out / f"{self.task}-{seed}"
        mine, steps, seconds = self.made(one.parts[0], rows, seed)
        if one.parts[1] != "old":
            return blend(mine, self.made(one.parts[1], rows, seed)[0], 1 - one.weight, place / name), steps, seconds
        base = resolve(self.new).base
        assert base is not None
        transfer(Path(self.old), base, place / "old")
        return blend(mine, place / "old", 1 - one.weight, place / name), steps, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["piqa", "hellaswag", "samsum"], default="piqa")
    parser.add_argument("--old", choices=["v1", "v2"], default="v1")
    parser.add_argument("--new", choices=["v2", "v3"], default="v2")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--rows", default="", help="their names, parted by commas")
    parser.add_argument("--against", default="", help="a row; of every one the NFR less that row's is said too")
    parser.add_argument("--test", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=RESULTS.with_name("ablation"))
    given = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    given.out = given.out.absolute()
    given.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(given.task, given)
    bench.out.mkdir(exist_ok=True)
    file = bench.out / f"{given.task}-{given.seeds}.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    rows = TEXT_ROWS if given.task == "samsum" else {**ROWS, **OLD_ON_NEW}
    seeds = [int(seed) for seed in given.seeds.split(",")]

    def judged(parts: Sequence[tuple[Path, int, float]]) -> list[Any]:
        return bench.scores.of([str(folder) for folder, *_ in parts])

    against = judged([bench.made(given.against, rows, seed) for seed in seeds]) if given.against else None
    for name in given.rows.split(",") if given.rows else (TEXT_ROWS if rows is TEXT_ROWS else ROWS):
        parts = [bench.made(name, rows, seed) for seed in seeds]
        sides, less = judged(parts), ""
        found[name] = asdict(bench.scores.change(sides))
        found[name] |= {"n": len(bench.scores.old), "steps": parts[0][1], "seconds": [cost for *_, cost in parts]}
        if against is not None:
            found[name]["less"] = bench.scores.apart(sides, against)
            less = " {:+.2f} ({:+.2f} to {:+.2f}) |".format(*(100 * each for each in found[name]["less"]))
        file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(f"{row(name, found[name])} {parts[0][1]} | {np.mean(found[name]['seconds']):.0f} s |{less}", flush=True)


if __name__ == "__main__":
    main()
