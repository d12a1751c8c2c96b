"""Which phase of a fix is under way, of how many, and how long the rest takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compatcheck.engines.progress import Measured
from compatcheck_train.examples import load_examples
from compatcheck_train.fix.phases import ANSWER, TRAIN, Phase, Phases, to_come
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
    Phase("start", ANSWER, 100),
    Phase("trial", TRAIN, 200),
    Phase("control", TRAIN, 400),
    Phase("proof", ANSWER, 600),
]


def test_the_rest_is_told_by_what_was_measured() -> None:
    clock, said = Clock(), list[str]()
    shown = Shown(clock)
    phases = Phases(shown, said.append, clock)
    phases.plan(PLAN)
    phases.begin("start")
    clock.now += 4  # a model is loaded
    phases.start("1 of 2, old: t, generating", 100)
    clock.now += 10
    phases.advance(100)
    assert shown.label == "phase 1 of 4, start: 1 of 2, old: t, generating"
    assert phases.left is None and said == [], "no training was measured"
    phases.finish()
    phases.begin("trial")
    phases.start("old model: once over the training data", 30)
    clock.now += 6
    phases.advance(30)
    phases.finish()
    phases.start("training", 200)
    phases.beside("loss 0.5000")
    clock.now += 5
    phases.advance(9)
    assert phases.left is None, "a few steps say little"
    clock.now += 5
    phases.advance(31)
    left = 40 + (6 + 100) + (4 + 60)  # of this training, the control with its teacher, the proof with its models
    assert phases.left == pytest.approx(left)
    assert said == ["about 4:00 in all, by what was measured so far (3:30 left)"]
    assert (shown.label, shown.known) == ("phase 2 of 4, trial: training", "loss 0.5000 · about 3:30 of the whole left")
    clock.now += 40
    phases.advance(160)
    phases.finish()
    phases.begin("control")
    assert phases.left == pytest.approx(106 + 64)
    phases.begin("what nobody foresaw")
    phases.start("training", 10)
    assert shown.label == "phase 3 of 4, what nobody foresaw: training"
    phases.begin("proof")
    phases.start("generating", 600)
    clock.now += 30
    phases.advance(300)
    assert phases.left == pytest.approx(300 * 40 / 400)
    assert len(said) == 1


def test_work_that_was_done_before_says_nothing() -> None:
    """A fix that is resumed goes through what is finished in no time, and takes up a training in its middle."""
    clock = Clock()
    phases = Phases(None, clock=clock)
    phases.plan(PLAN)
    phases.begin("start")
    clock.now += 1
    phases.begin("trial")
    clock.now += 1
    phases.begin("control")
    phases.start("training", 400, 300)
    clock.now += 20
    phases.advance(20)
    assert phases.left is None, "no answer was measured"
    phases.plan([Phase("another", TRAIN, 100)])
    assert phases.left == pytest.approx(80 + 100)


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
    assert any(line.startswith("about ") and " in all" in line for line in made.said)


@pytest.mark.parametrize(("lifted", "answering"), [(None, 3), (False, 3), (True, 2)])
def test_texts_are_answered_by_both_models_before(
    fixtures: Path, tmp_path: Path, lifted: bool | None, answering: int
) -> None:
    request = request_of(fixtures, tmp_path, task="samsum", candidate=(), trial_share=0.2)
    examples = load_examples("samsum", data=fixtures / "data", limit=30)
    ahead = to_come(request, examples, 10, 20, lifted)
    both = [each for each in ahead if each.name.endswith("both models answer") and each.name.startswith("trial")]
    count = len(examples.train) + len(examples.validation)
    assert [each.units for each in both] == [2 * count, count, count][: len(both)]
    assert len([each for each in ahead if "both models answer" in each.name]) == answering
    assert (ahead[0].name == "what labels alone give") is (lifted is None)
    assert ahead[-1] == Phase("proof", ANSWER, 4 * 20)
