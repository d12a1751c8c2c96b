"""How long a fix takes, told before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compatcheck.option_models import build
from compatcheck.options import Fix
from compatcheck.references import resolve
from compatcheck_train.examples import Example, Examples
from compatcheck_train.fix import estimate
from compatcheck_train.fix.estimate import Answering, Costs
from compatcheck_train.fix.phases import whole
from compatcheck_train.fix.request import FixRequest
from compatcheck_train.settings import preset
from compatcheck_train.training.speed import Speed, few, spaced, speed_of
from tests.train.fix.conftest import Made

SPEED = Speed(old=7, read_old=0.5, new=3, read_new=0.25, trained=1, validated=0.125)
COSTS = Costs(
    Answering(5, 0.1),
    Answering(6, 0.2),
    0.0,
    {"choice-ensemble 1": SPEED, "choice-ce 1 labelled": replace(SPEED, old=0, read_old=0)},
    {},
)


def examples_of(train: int, validation: int) -> Examples:
    made = [Example(str(n), (("q" * (n + 1), " a"), ("q" * (n + 1), " b")), 0) for n in range(train + validation)]
    return Examples("t", "choice", tuple(made[:train]), tuple(made[train:]))


def request(**given: object) -> FixRequest:
    chosen = {"task": "piqa", "preset": "quick", "strategy": "choice-ensemble", "blend": "none"} | given
    return FixRequest("old", "new", build(Fix, chosen))


def test_the_whole_is_the_sum_of_its_phases() -> None:
    examples = examples_of(80, 16)  # micro-batches: 10 to train on, 2 of validation; 3 epochs
    timed = COSTS.timed(examples, whole(request(seeds=2), examples, 20, 100))
    before, reads = 7 + 3, 12 * 0.75
    trained = before + reads + 30 + 4 * 2 * 0.125
    assert {phase.name: phase.seconds for phase in timed} == pytest.approx({
        "OLD and NEW": 5 + 2 + 6 + 4, "training 1": trained, "trainings, judged": 6 + 4, "control": trained - 7 - 6,
        "training with seed 2": trained, "control with seed 2": trained - 7 - 6, "which training": 6 + 4 * 4,
        "proof": 5 + 10 + 6 + 5 * 20,
    })  # fmt: skip


def test_what_is_there_costs_nothing() -> None:
    """Answers that the store has, and what OLD gave for a training before."""
    examples = examples_of(80, 16)
    asked = request(strategy="auto", candidate=("choice-ensemble", "choice-ensemble"), trial_share=1.0, control="none")
    costs = replace(COSTS, stored={"OLD and NEW": ["old", "new"], "proof": ["old"]})
    timed = {phase.name: phase.seconds or 0.0 for phase in costs.timed(examples, whole(asked, examples, 20, 100))}
    assert timed["OLD and NEW"] == 0
    assert timed["proof"] == pytest.approx(6 + 2 * 20)
    assert timed["trial 1 of 2, choice-ensemble"] - timed["trial 2 of 2, choice-ensemble"] == pytest.approx(
        7 + 12 * 0.5
    )


def test_one_line_says_it() -> None:
    examples = examples_of(80, 16)
    phases = COSTS.timed(examples, whole(request(), examples, 20, 100))
    assert estimate.said(phases, 200) == (
        "about 3:20 in all: evaluating 1:48, training 0:50 (30 steps), the control 0:37 (30 steps)"
    )


def test_it_is_kept_and_reported(made: Made) -> None:
    kept = Costs.read(made.out / "work" / "estimate.json")
    assert kept.whole == made.report["estimated_seconds"] > 0
    assert all(value >= 0 for speed in kept.speeds.values() for value in vars(speed).values())
    assert {"choice-ce 1 labelled", "choice-ensemble 1", "muscle 1"} == set(kept.speeds)


def test_documents_of_all_lengths_are_measured() -> None:
    some = few(examples_of(960, 240), 8)
    lengths = [len(each.pairs[0][0]) for each in some.train]
    assert len(lengths) == 8 * 8
    assert lengths == sorted(lengths)
    assert sum(lengths) / len(lengths) == pytest.approx(480, rel=0.02)
    assert len(some.validation) == 3 * 8
    assert few(examples_of(5, 2), 8) == examples_of(5, 2)
    assert spaced(3, 10) == [1, 5, 8]
    assert spaced(3, 2) == [0, 1]


def test_measuring_trains_nothing(pair: dict[str, str], choice_examples: Examples, tmp_path: Path) -> None:
    settings = preset("quick", strategy="choice-ensemble", learning_rate=1e30, device="cpu")
    old, new = resolve(pair["old"]), resolve(pair["new"])
    before = {path: path.read_bytes() for path in Path(pair["new"]).iterdir()}
    speed = speed_of(old, new, choice_examples, settings, tmp_path)
    assert min(speed.old, speed.new, speed.read_old, speed.read_new, speed.trained, speed.validated) > 0
    assert before == {path: path.read_bytes() for path in Path(pair["new"]).iterdir()}
