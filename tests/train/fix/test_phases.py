"""Which phase of a fix is under way, of how many, and how long the rest takes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from compatcheck.engines.progress import Measured
from compatcheck_train.examples import load_examples
from compatcheck_train.fix.phases import ANSWER, CONTROL, TRAIN, Phase, Phases, whole
from compatcheck_train.settings import TrainSettings
from tests.train.fix.conftest import Made, request_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Shown(Measured):
    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, lambda count, of: f"{count}/{of}")

    def finish(self) -> None:
        pass


PLAN = [
    Phase("start", ANSWER, 100, seconds=10),
    Phase("trial", TRAIN, 200, settings=TrainSettings(), seconds=100),
    Phase("control", CONTROL, 400, settings=TrainSettings(), seconds=150),
    Phase("proof", ANSWER, 600, seconds=60),
]


def test_what_was_expected_is_corrected_by_what_work_of_the_kind_took() -> None:
    clock = Clock()
    shown = Shown(clock)
    phases = Phases(shown, clock)
    phases.plan(PLAN)
    assert phases.left == 320
    phases.begin("start")
    clock.now += 4  # a model is loaded
    phases.start("1 of 2, old: t, generating", 100)
    assert shown.label == "phase 1 of 4, start: 1 of 2, old: t, generating"
    assert phases.left == 320
    phases.advance(10)
    assert phases.left == 9 + 310, "a few documents say little of how fast they go"
    clock.now += 16
    phases.advance(90)
    phases.finish()
    assert phases.left == 100 + 150 + 2 * 60
    phases.begin("trial")
    phases.start("old model: once over the training data", 30)
    phases.advance(30)
    phases.finish()
    assert phases.left == 100 + 150 + 2 * 60, "what goes before counts for nothing"
    phases.start("training", 200)
    phases.beside("loss 0.5000")
    clock.now += 25
    phases.advance(100)
    assert phases.left == 25 + 150 + 120
    assert (shown.label, shown.known) == ("phase 2 of 4, trial: training", "loss 0.5000 · about 4:55 of the whole left")
    phases.begin("what nobody foresaw")
    phases.start("training", 10)
    assert shown.label == "phase 2 of 4, what nobody foresaw: training"
    assert phases.left == 150 + 120


def test_nothing_is_said_of_a_rest_that_is_not_known() -> None:
    assert Phases(Shown(Clock()), Clock()).left is None, "before anything is planned"
    phases = Phases()
    phases.plan([replace(PLAN[0], seconds=None)])
    assert phases.left is None


def test_work_that_was_done_before_says_nothing() -> None:
    """A fix that is resumed goes through what is finished in no time, and takes up a training in its middle."""
    clock = Clock()
    phases = Phases(None, clock)
    phases.plan(PLAN)
    phases.begin("start")
    clock.now += 1
    phases.begin("control")
    phases.start("training", 400, 300)
    assert phases.left == pytest.approx(150 / 4 + 60)


def test_every_phase_of_a_real_fix_was_foreseen(made: Made) -> None:
    numbers = [re.match(r"phase (\d+) of (\d+), ", label) for label in made.shown]
    assert all(numbers), made.shown
    found = [(int(each[1]), int(each[2])) for each in numbers if each]
    (total,) = {of for _, of in found}
    assert sorted({number for number, _ in found}) == list(range(1, total + 1)), made.shown
    assert found == sorted(found)
    assert made.shown[0].startswith(f"phase 1 of {total}, OLD and NEW: 1 of 2, old: piqa, scoring choices")
    assert made.shown[-1].startswith(f"phase {total} of {total}, proof: ")
    assert f"phase 3 of {total}, trial 1 of 2, choice-ce+choice-ensemble: training" in made.shown
    said = [line for line in made.said if re.match(r"about [\d:]+ in all: evaluating [\d:]+, training [\d:]+ ", line)]
    assert len(said) == 1, made.said
    assert made.said.index(said[0]) < min(n for n, line in enumerate(made.said) if line.startswith("loading "))


def test_texts_are_answered_by_both_models_before(fixtures: Path, tmp_path: Path) -> None:
    request = request_of(fixtures, tmp_path, task="samsum", candidate=(), trial_share=0.2)
    examples = load_examples("samsum", data=fixtures / "data", limit=30)
    ahead = whole(request, examples, 10, 20)
    both = [each for each in ahead if each.name.endswith("both models answer") and each.name.startswith("trial")]
    count = len(examples.train) + len(examples.validation)
    assert [each.units for each in both] == [2 * count, count]
    assert len([each for each in ahead if "both models answer" in each.name]) == 3
    assert ahead[-1] == Phase("proof", ANSWER, 4 * 20, 20)
