"""What is tried and for how long, the control beside it, blends with NEW and averages with the control."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from compatcheck.references import resolve
from compatcheck_train.examples import Example, Examples, load_examples
from compatcheck_train.fix import search
from compatcheck_train.fix.candidates import Candidate, candidates_for
from compatcheck_train.fix.judging import Scores
from compatcheck_train.fix.phases import Phases
from compatcheck_train.fix.run import fix
from compatcheck_train.fix.search import Repeat, Staged, Work, average, averaged_where_better, run_trials
from compatcheck_train.loss import strategies
from compatcheck_train.report import render_text, save
from compatcheck_train.training.models import load_tokenizer
from compatcheck_train.training.run import Trained, plan_of
from compatcheck_train.weights import read_lora
from tests.train.fix.conftest import request_of


def test_something_is_tried_for_either_length_of_trials() -> None:
    for kind, name in (("text", "sequence-ensemble"), ("choice", "choice-ensemble")):
        short, whole = (candidates_for(kind, share=share) for share in (0.2, 1.0))
        assert len(short) > len(whole) == 1 and whole[0] in short
        assert name in whole[0].name


@pytest.mark.parametrize(
    ("labelled", "more", "epochs", "after"),
    [
        (8, 0, 12, 3), (640, 0, 12, 3), (960, 0, 8, 3), (960, 2000, 8, 1), (100, 1000, 12, 2), (3000, 0, 3, 3),
        (3000, 3000, 3, 2), (50_000, 0, 3, 3), (50_000, 100_000, 3, 1),
    ],
)  # fmt: skip
def test_few_labelled_documents_are_gone_through_more_often(
    labelled: int, more: int, epochs: int, after: int, fixtures: Path, tmp_path: Path
) -> None:
    """The stage after them has about as many steps over all inputs as three epochs of them, or a third of 1,000."""
    document = Example("0", (("a", " b"), ("a", " c")), 0)
    spare = (replace(document, gold=None),) * more
    examples = Examples("piqa", "choice", (document,) * labelled, (), spare)
    request = request_of(fixtures, tmp_path).with_(candidate=(), trial_share=None, set={})
    (one,) = request.candidates(examples)
    assert one.first_settings(request.settings).epochs == epochs
    assert one.settings(request.settings).epochs == after
    asked = request.with_(set={"epochs": 2})
    (one,) = asked.candidates(examples)
    assert (one.first_settings(asked.settings).epochs, one.settings(asked.settings).epochs) == (2, 2)


def test_what_the_control_does_too_is_told_from_what_it_does_not() -> None:
    assert Candidate.of("continue-ce").is_only("continue-ce")
    assert not Candidate.of("continue-ce+continue-ce").is_only("continue-ce")


def test_a_training_that_is_the_controls_is_told_from_one_that_has_more(fixtures: Path, tmp_path: Path) -> None:
    """The control has no inputs without labels, no options, and starts as NEW."""
    document = Example("0", (("a", " b"), ("a", " c")), 0)
    examples, one = Examples("piqa", "choice", (document,), ()), Candidate.of("choice-ce")
    request = request_of(fixtures, tmp_path)
    assert request.is_control(one, examples)
    assert not request.is_control(one, replace(examples, unlabelled=(replace(document, gold=None),)))
    assert not request.is_control(Candidate.of("continue-ce"), examples)
    for changes in ({"init": "transfer"}, {"strategy_args": {"anchor": "none"}}, {"control": "none"}):
        assert not request_of(fixtures, tmp_path, **changes).is_control(one, examples)


POOR, GOOD = (0.03, 0.785), (0.04, 0.815)


@pytest.mark.parametrize(
    ("half", "quarter", "taken"),
    [
        (POOR, (0.04, 0.82), 0.25), (POOR, (0.05, 0.82), 0.25), (POOR, (0.06, 0.82), 0), (POOR, (0.03, 0.80), 0),
        (POOR, (0.03, 0.70), 0), (GOOD, (0.035, 0.81), 0.25), (GOOD, (0.045, 0.84), 0.5), (GOOD, (0.04, 0.82), 0.25),
        (GOOD, (0.04, 0.81), 0.5), (GOOD, (0.03, 0.80), 0.5),
    ],
)  # fmt: skip
def test_the_average_with_the_control_is_taken_where_it_scores_better_at_no_more_flips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: tuple[float, float], quarter: tuple[float, float],
    taken: float,
) -> None:  # fmt: skip
    """Of 400 documents a standard error of the difference between two rates of 4 % is 1.4 points."""
    trained = Trained(tmp_path / "control", "continue-ce", 1, 1, (), (), 0.0, 0, 0)
    one = Repeat(0, tmp_path / "compat", Staged(trained), trained)
    notes: list[str] = []
    monkeypatch.setattr(search, "blend", lambda compat, control, share, to: to)
    work = SimpleNamespace(folder=tmp_path, progress=Phases(), note=notes.append)
    blend = Scores("1", 400, 0.04, 0.1, 0.79, 0.08, 0.7, 0.02)
    for three, expected in ((POOR, taken), ((0.02, 0.82), 0.75)):
        found = {"0.75": three, "0.5": half, "0.25": quarter}
        work.scores = lambda folders, found=found: {
            name: Scores(name, 400, found[name][0], 0.1, found[name][1], 0.08, 0.7, 0.02) for name in folders
        }
        notes.clear()
        made = averaged_where_better(cast(Any, work), one, blend)
        assert made.averaged == expected and bool(notes) is bool(expected)
        assert made.folder == tmp_path / (f"average/{expected:g}" if expected else "compat")


@pytest.mark.parametrize("averaged", [0.0, 0.5])
def test_further_seeds_are_blended_or_averaged_as_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaged: float
) -> None:
    trained = Trained(tmp_path / "trained", "muscle", 1, 1, (), (), 0.0, 0, 0)
    scores = Scores("1", 400, 0.04, 0.1, 0.79, 0.08, 0.7, 0.02)
    shown = search.Blend(0.75, tmp_path / "blend", scores)
    blended: list[Any] = []

    def blends_of(*given: Any) -> search.Frontier:
        blended.append(given[-1])
        return search.Frontier(replace(shown, folder=given[-2]), [])

    monkeypatch.setattr(search, "blends_of", blends_of)
    monkeypatch.setattr(search, "train_candidate", lambda *_, **__: Staged(trained))
    monkeypatch.setattr(search, "with_control", lambda work, candidate, one, to: replace(one, control=trained))
    monkeypatch.setattr(search, "averaged_where_better", lambda work, one, _: replace(one, averaged=averaged))
    monkeypatch.setattr(search, "blend", lambda compat, control, share, to: to)
    settings = SimpleNamespace(seed=0, changed=lambda **_: None)
    request = SimpleNamespace(settings=settings, averages=True, chosen=SimpleNamespace(seeds=2))
    work = SimpleNamespace(request=request, folder=tmp_path, progress=Phases(), say=lambda _: None)
    final = search.Trial(Candidate.of("muscle"), Staged(trained), scores)
    made = search.repeats_of(cast(Any, work), final, search.Frontier(shown, []))
    assert [each.averaged for each in made] == [averaged, averaged]
    assert blended == ([] if averaged else [0.75]), "no blend is made that an average stands in for"
    assert made[1].folder == tmp_path / "seed-1" / ("average" if averaged else "blend")


def test_of_blends_that_score_alike_the_one_that_is_most_as_it_was_trained_is_taken(
    fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was the smallest weight, by which the training hardly counts."""
    monkeypatch.setattr(search, "blend", lambda compat, new, share, to: to)
    request = request_of(fixtures, tmp_path).with_(blend="auto")
    work = SimpleNamespace(request=request, new=SimpleNamespace(adapter=tmp_path), say=lambda _: None)
    work.scores = lambda folders: {name: Scores(name, 400, 0.03, 0.1, 0.8, 0.08, 0.8, 0.02) for name in folders}
    found = search.blends_of(cast(Any, work), tmp_path / "compat", tmp_path / "blend")
    assert found.chosen.share == 1 and [each.share for each in found.points] == [0.25, 0.5, 0.75, 1, 1.25, 1.5]


@pytest.mark.parametrize(
    ("first", "changes", "start", "steps"),
    [
        ("continue-ce", {}, "first", 21),
        ("continue-ce", {"control": "new-only"}, "new", 27),
        ("continue-ce", {"init": "transfer"}, "new", 27),
        ("muscle-ce", {}, "new", 27),
    ],
)
def test_the_control_has_as_many_steps_on_labels_alone(
    fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, changes: dict[str, str], start: str,
    steps: int,
) -> None:  # fmt: skip
    """It had those of as many epochs: 300 beside 675 on the fixtures' samsum, where labels alone are its rows. It goes
    on from the stage before where that trained on labels as it does, and knows nothing of OLD."""
    found = load_examples("samsum", data=fixtures / "data", limit=30)
    spare = replace(found.train[0], gold=None, pairs=((found.train[0].pairs[0][0], ""),))
    examples = replace(found, train=found.train[1:17], unlabelled=(spare,) * 40)
    request = request_of(
        fixtures, tmp_path, task="samsum", settings={"max_steps": None, "batch_size": 8, "patience": 1}, **changes
    )
    new = resolve(str(fixtures / "adapters" / "samsum-v2"))
    before = Trained(fixtures / "adapters" / "samsum-v3", first, 6, 1, (), (), 0.0, 0, 0)
    work = Work(request, new, new, new, examples, cast(Any, None), {}, tmp_path)
    candidate = Candidate("two", "muscle", {"tokens": "answer"}, first=first)
    one = Repeat(0, tmp_path, Staged(replace(before, strategy="muscle", steps=21), before), None)
    asked: list[Any] = []

    def train(old: Any, start: Any, given: Examples, own: Any, to: Path, **_: Any) -> Trained:
        asked.append((start, given, own))
        return replace(before, folder=to, steps=own.max_steps)

    monkeypatch.setattr(search, "train", train)
    control = search.with_control(work, candidate, one, tmp_path).control
    ((began, given, own),) = asked
    tokenizer = load_tokenizer(new, own)
    per_epoch = plan_of(tokenizer, given, strategies.get(own.strategy), own).training
    assert control is not None and control.steps == 27 and not given.unlabelled
    assert (per_epoch, own.max_steps) == (2, steps)
    assert own.epochs * per_epoch >= steps and own.tokens == "answer" and own.patience is None
    assert began.fingerprint() == (new if start == "new" else resolve(str(before.folder))).fingerprint()


def update(folder: Path) -> torch.Tensor:
    """Of one module."""
    lora = read_lora(folder)
    name = "model.layers.1.self_attn.q_proj"
    a, b = lora.pairs[name]
    return lora.scales[name] * b @ a


@pytest.mark.slow
def test_every_seed_is_averaged_with_its_control(
    fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        search, "averaged_where_better", lambda work, one, _: average(one, 0.25, work.folder / "average")
    )
    request = request_of(
        fixtures, tmp_path, candidate=(), trial_share=1.0, train_limit=40, limit=20, seeds=2, force=True,
        settings={"max_steps": 2},
    )  # fmt: skip
    fixed = fix(request, tmp_path / "out")
    assert fixed.averaged == 0.25
    work = tmp_path / "out" / "work"
    for place, trained in (
        (work, fixed.final.trained.folder),
        (work / "seed-1", work / "seed-1" / "compat" / "adapter"),
    ):
        parts = [update(folder) for folder in (trained, place / "control" / "adapter")]
        assert not torch.allclose(parts[0], parts[1])
        assert torch.allclose(update(place / "average"), (parts[0] + 3 * parts[1]) / 4, atol=1e-6)
    report = save(fixed, tmp_path / "out", "")
    assert report["averaged"] == 0.25
    assert ("averaged with the control, weight 0.25" in render_text(report)) is (report["delivered"] == "compat")


def test_the_stage_before_is_trained_once(fixtures: Path, tmp_path: Path) -> None:
    data = fixtures / "data"
    request = request_of(
        fixtures, tmp_path, task="samsum", num_fewshot=0, limit=None, trial_share=1.0, store=False,
        settings={"max_steps": 2},
    )  # fmt: skip
    judge, found = request.judge, load_examples("samsum", data=data, limit=30)
    spare = replace(found.train[0], gold=None, pairs=((found.train[0].pairs[0][0], ""),))
    examples = replace(found, train=found.train[1:], unlabelled=(spare,))
    old, new = (resolve(str(fixtures / "adapters" / f"samsum-{version}")) for version in ("v1", "v2"))
    candidates = [
        Candidate(name, strategy, {"tokens": "answer"}, first=first)
        for name, strategy, first in (("one", "muscle", ""), ("two", "muscle-ce", "continue-ce"))
    ] + [Candidate("also two", "muscle", {"tokens": "answer"}, first="continue-ce")]
    documents = judge.validation(examples, 6)
    known = judge.run(documents, {"old": old, "new": new})
    made = run_trials(Work(request, old, new, new, examples, documents, known, tmp_path), candidates)
    by_name = {trial.candidate.name: trial.trained for trial in made}
    assert set(by_name) == {"one", "two", "also two"}
    assert len(list(tmp_path.glob("trials/first-*"))) == 1
    first = by_name["two"].first
    assert first is not None and first == by_name["also two"].first
    assert (first.steps, by_name["two"].steps, by_name["one"].steps) == (2, 4, 2)
