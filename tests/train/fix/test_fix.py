"""The whole of a fix on the fixtures: what it leaves behind and what alone, and that its figures are those of runs."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import softmax

import compatcheck
from compatcheck.errors import InputError
from compatcheck.references import resolve
from compatcheck.tasks import TaskOptions, load_tasks
from compatcheck_train import api
from compatcheck_train.fix.judging import best, ranked
from compatcheck_train.fix.run import WITHOUT_FURTHER, fix
from compatcheck_train.report import render_text, save
from compatcheck_train.weights import read_lora
from tests.engines.adapters import edit
from tests.train.fix.conftest import LIMIT, UNLABELLED, Made, contents, request_of

pytestmark = pytest.mark.slow


def test_old_and_new_are_left_as_they_were(made: Made, fixtures: Path) -> None:
    for name, content in made.before.items():
        assert (fixtures / "adapters" / name).read_bytes() == content, name


def test_the_steps_of_a_fix(made: Made) -> None:
    fixed = made.fixed
    assert {trial.candidate.name for trial in fixed.trials} == {"choice-ce+choice-ensemble", "choice-ce+muscle"}
    assert [trial.trained.steps for trial in fixed.trials] == [2, 2], "a fifth of six steps, and of the stage before"
    assert fixed.final.trained.trained.steps == 6
    assert fixed.final.trained.first is not None and fixed.final.trained.first.steps == 6
    assert fixed.control is not None and fixed.control.steps == 12
    assert fixed.frontier is not None and fixed.picked is not None
    assert fixed.control.strategy == "choice-ce"
    assert fixed.documents == {"train": 200, "validation": 50, "unlabelled": UNLABELLED, "test": LIMIT}
    order = [each.name for each in ranked([trial.scores for trial in fixed.trials])]
    assert [trial.candidate.name for trial in fixed.trials] == order == [each.candidate.name for each in fixed.finals]
    assert f"auto goes on with {order[0]} and {order[1]}" in made.said
    assert fixed.final.trained.trained in [final.trained.trained for final in fixed.finals]
    names = {re.sub("-[0-9a-f]{8}$", "", path.name) for path in (made.out / "work").iterdir()}
    assert len(names) == len([*(made.out / "work").iterdir()]), "candidates share the stage before"
    assert names == {
        "trials",
        "first-choice-ce",
        "compat",
        "compat-2",
        "control",
        "average",
        "blend",
        "blend-2",
        "seed-1",
        "estimate.json",
    }
    again = {re.sub("-[0-9a-f]{8}$", "", path.name) for path in (made.out / "work" / "seed-1").iterdir()}
    blended = {"blend"} if fixed.frontier.chosen.share != 1 else set()
    assert again == {"compat", "first-choice-ce", "control"} | blended | ({"average"} if fixed.averaged else set())
    leftovers = [path for path in made.out.rglob("*") if path.name.startswith(".") or path.name == "checkpoints"]
    assert leftovers == []


def test_the_published_adapter_is_the_chosen_blend_or_average(made: Made, fixtures: Path) -> None:
    frontier = made.fixed.frontier
    assert frontier is not None
    assert [point.share for point in frontier.points] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    nearest = sorted(frontier.points, key=lambda point: abs(point.share - 1))
    assert frontier.chosen.scores is best([point.scores for point in nearest])
    picked = made.fixed.picked
    assert picked is not None
    published = load_file(made.out / "adapter" / "adapter_model.safetensors")
    chosen = load_file(picked.compat.folder / "adapter_model.safetensors")
    assert made.fixed.proof.judgement.delivered == "compat"
    assert published.keys() == chosen.keys()
    assert all(torch.equal(value, chosen[name]) for name, value in published.items())
    control = picked.compat.control
    assert control is not None
    averaged = made.fixed.averaged
    other = control.folder if averaged else fixtures / "adapters" / "piqa-v2"
    compat, beside, mixed = map(read_lora, (picked.compat.staged.folder, other, made.out / "adapter"))
    share = averaged or frontier.chosen.share
    for module, (a, b) in mixed.pairs.items():
        parts = [each.scales[module] * (each.pairs[module][1] @ each.pairs[module][0]) for each in (compat, beside)]
        found = mixed.scales[module] * (b @ a)
        torch.testing.assert_close(found, share * parts[0] + (1 - share) * parts[1], atol=2e-6, rtol=1e-4)
    reference = resolve(str(made.out / "adapter"))
    assert reference.base == (fixtures / "models" / "base-v2").resolve()


def test_the_proof_is_that_of_diff_on_the_same_documents(made: Made, fixtures: Path) -> None:
    """The figures of NEW and of compat are those that ``compatcheck diff`` gives without a store."""
    old = str(fixtures / "adapters" / "piqa-v1")
    for side, new in (("new", str(fixtures / "adapters" / "piqa-v2")), ("compat", str(made.out / "adapter"))):
        diff = compatcheck.diff(old, new, task="piqa", data=fixtures / "data", limit=LIMIT, engine="hf", device="cpu")
        for proof in made.fixed.proof.metrics:
            theirs = next(c for c in diff.comparisons if c.metric == proof.metric)
            ours = proof.comparisons[side]
            assert ours.signature == theirs.signature
            assert dict(ours.quadrants) == dict(theirs.quadrants)
            assert ours.metrics["nfr"].count == theirs.metrics["nfr"].count


def test_the_bound_is_the_mean_of_both_distributions(made: Made, fixtures: Path) -> None:
    (loaded,) = load_tasks(["piqa"], TaskOptions(data=fixtures / "data", limit=LIMIT))
    golds = [loaded.task.doc_to_target(loaded.task.eval_docs[number]) for number in range(LIMIT)]
    tables = []
    for name in ("piqa-v1", "piqa-v2"):
        run = compatcheck.evaluate(
            str(fixtures / "adapters" / name),
            task="piqa",
            data=fixtures / "data",
            limit=LIMIT,
            engine="hf",
            device="cpu",
        ).tasks[0]
        rows = dict(zip(run.records["doc_id"], run.records["loglikelihoods"], strict=True))
        tables.append(np.array([rows[str(number)] for number in range(LIMIT)]))
    old, new = (table.argmax(1) == golds for table in tables)
    both = (softmax(tables[0], 1) + softmax(tables[1], 1)).argmax(1) == golds
    bound = made.fixed.bound
    assert bound is not None
    assert bound["nfr"].count == (old & ~both).sum() - (old & ~new).sum()
    assert bound["score"].value == pytest.approx(both.mean() - new.mean())


def test_every_training_is_in_the_proof(made: Made) -> None:
    seeds, picked = made.fixed.proof.metrics[0].seeds, made.fixed.picked
    assert seeds is not None and picked is not None
    assert seeds.numbers == (0, 1)
    folders = (made.out / "work" / "control", made.out / "work" / "seed-1" / "control")
    trained = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in folders]
    assert any(not torch.equal(value, trained[1][name]) for name, value in trained[0].items()), "another seed"
    assert picked.compat.seed == (0, 1)[picked.scores.index(best(picked.scores))]
    delivered = made.fixed.proof.metrics[0].changes
    place = seeds.numbers.index(picked.compat.seed)
    assert seeds.each[place]["nfr"] == pytest.approx(delivered["nfr"].value)
    assert seeds.each[place]["score"] == pytest.approx(delivered["score"].value)


def test_the_controls_adapter_is_delivered_where_it_is_as_good(fixtures: Path, tmp_path: Path) -> None:
    """The strategy is the control's own, so both are the same to the bit, and following OLD added nothing."""
    request = request_of(
        fixtures, tmp_path, strategy="choice-ce", candidate=(), blend="none", train_limit=40, limit=20, force=True,
        settings={"max_steps": 2}, dev=None,
    )  # fmt: skip
    fixed = fix(request, tmp_path / "out")
    judgement = fixed.proof.judgement
    assert (judgement.against_control, judgement.delivered) == ("worse", "control")
    assert fixed.control is not None
    published = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    control = load_file(fixed.control.folder / "adapter_model.safetensors")
    assert all(torch.equal(value, control[name]) for name, value in published.items())
    report = save(fixed, tmp_path / "out")
    assert report["delivered"] == "control" and report["exit_code"] == int(judgement.exit_code)
    assert report["documents"]["test"] == 20, "nothing is chosen, so every document proves"
    assert "; nothing was chosen by its results" in (tmp_path / "out" / "adapter" / "README.md").read_text()
    for place in ("fix_report.md", "fix_report.html", "adapter/README.md"):
        text = (tmp_path / "out" / place).read_text()
        assert "PLAIN FURTHER TRAINING, at least as good; following OLD is not shown to add anything" in text, place
        assert "The adapter is the control" in text, place
    assert "PLAIN FURTHER TRAINING" in render_text(report).splitlines()[0]


def test_called_again_it_returns_what_it_has(made: Made, fixtures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained and no model is loaded: trainings are finished and answers are in the store."""
    before = contents(made.out / "adapter")
    opened: list[str] = []
    said: list[str] = []
    monkeypatch.setattr("compatcheck.engines.open_engine", lambda *a, **k: opened.append(str(a)))
    monkeypatch.setattr("compatcheck_train.training.loop.Loop.run", lambda self: opened.append("a training"))
    again = fix(made.fixed.request, made.out, say=said.append)
    assert opened == []
    after = contents(made.out / "adapter")
    assert after.pop("adapter_model.safetensors") == before["adapter_model.safetensors"]
    assert [each.judgement for each in again.proof.metrics] == [each.judgement for each in made.fixed.proof.metrics]
    assert again.scores == made.fixed.scores
    assert not list(made.out.glob("fix_report.*")), "none is there that may be about another adapter"
    save(made.fixed, made.out, "compatcheck fix …")  # the other tests read it
    assert contents(made.out / "adapter") == before


def test_python_gets_the_report_too(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line: data, Markdown, HTML, and the card of the adapter."""
    adapter = shutil.copytree(made.fixed.adapter, tmp_path / "adapter", ignore=shutil.ignore_patterns("README.md"))
    monkeypatch.setattr("compatcheck_train.fix.run.fix", lambda *_: dataclasses.replace(made.fixed, adapter=adapter))
    api.fix("old", "new", tmp_path, task="piqa")
    assert {path.name for path in tmp_path.glob("fix_report.*")} == {f"fix_report.{e}" for e in ("json", "md", "html")}
    assert json.loads((tmp_path / "fix_report.json").read_text())["verdict"] == made.report["verdict"]
    assert (adapter / "README.md").is_file()


def test_a_fix_with_the_steps_left_out(fixtures: Path, tmp_path: Path) -> None:
    """A strategy by name, no blend, no control; an adapter on NEW's own base as OLD, whose update is the start. NEW's
    adapter names another base."""
    shutil.copytree(fixtures / "adapters" / "piqa-v2", tmp_path / "named")
    edit(tmp_path / "named" / "adapter_config.json", base_model_name_or_path="someone/their-base")
    request = request_of(
        fixtures, tmp_path, new=f"{fixtures / 'models' / 'base-v2'}+{tmp_path / 'named'}",
        old=str(fixtures / "adapters" / "hellaswag-v2"), strategy="choice-ensemble", candidate=(), blend="none",
        control="none", init="transfer", metric="acc_norm", train_limit=40, limit=20, force=True,
        settings={"max_steps": 2},
    )  # fmt: skip
    fixed = fix(request, tmp_path / "out")
    assert (fixed.trials, fixed.frontier, fixed.control) == ([], None, None)
    assert fixed.final.candidate.name == "choice-ensemble"
    assert [each.metric for each in fixed.proof.metrics] == ["acc_norm", "acc"], "the one asked for comes first"
    assert set(fixed.proof.metrics[0].comparisons) == {"new", "compat"}
    assert any("modules moved, 0 left" in note for note in fixed.notes)
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str((fixtures / "models" / "base-v2").resolve())
    with pytest.raises(InputError, match=r"holds a fix with other limit \(it can grow, not shrink"):
        fix(request.with_(limit=10), tmp_path / "out")
    with pytest.raises(
        InputError, match=r"other train_limit \(other training documents make another adapter\); choose"
    ):
        fix(request.with_(train_limit=300), tmp_path / "out")


def test_whole_trials_are_not_trained_again(fixtures: Path, tmp_path: Path) -> None:
    request = request_of(
        fixtures, tmp_path, candidate=("choice-ce", "choice-ensemble"), trial_share=1.0, blend="none", control="none",
        train_limit=40, limit=20, force=True, settings={"max_steps": 2},
    )  # fmt: skip
    fixed = fix(request, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "work").iterdir()} == {"trials", "estimate.json"}
    assert [trial.trained.steps for trial in fixed.trials] == [2, 2]
    assert list(fixed.finals) == list(fixed.trials)
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "work").rglob("*.safetensors")}
    more = fix(request.with_(limit=30), tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "work").rglob("*.safetensors")} == trained
    assert (more.documents["test"], more.proof.metrics[0].n) == (30, 30)
    assert any(note.startswith("The folder began with --limit 20: ") for note in more.notes)
    winner = best([final.scores for final in fixed.finals], errors=1.0)
    assert fixed.final.candidate.name == winner.name
    published = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    taken = load_file(fixed.final.trained.folder / "adapter_model.safetensors")
    assert all(torch.equal(value, taken[name]) for name, value in published.items())


def test_a_candidate_whose_loss_is_no_number_is_left_out(fixtures: Path, tmp_path: Path) -> None:
    """At this rate every candidate diverges that has a gradient; at the start ``new-only`` has none."""
    request = request_of(
        fixtures, tmp_path, candidate=("choice-ce", "new-only"), trial_share=1.0, blend="none", control="none",
        train_limit=40, limit=20, force=True, settings={"max_steps": 3, "learning_rate": 1e30, "warmup_steps": 0},
    )  # fmt: skip
    fixed = fix(request, tmp_path / "out")
    assert [trial.candidate.name for trial in fixed.trials] == ["new-only"]
    (note,) = [note for note in fixed.notes if "left out" in note]
    assert note.startswith("choice-ce is left out: the training loss is")
    assert WITHOUT_FURTHER in fixed.notes, "auto, and no --unlabelled"
    with pytest.raises(InputError, match="the training loss is"):
        fix(request.with_(candidate=("choice-ce",)), tmp_path / "none")


@pytest.mark.parametrize("strategy", ["new-only", "auto"])
def test_a_control_whose_loss_is_no_number_leaves_the_fix_without_one(
    fixtures: Path, tmp_path: Path, strategy: str
) -> None:
    request = request_of(
        fixtures, tmp_path, strategy=strategy, candidate=("new-only",) if strategy == "auto" else (), trial_share=1.0,
        blend="none" if strategy != "auto" else "auto", train_limit=40, limit=20, force=True,
        settings={"max_steps": 3, "learning_rate": 1e30, "warmup_steps": 0},
    )  # fmt: skip
    fixed = fix(request, tmp_path / "out")
    assert fixed.control is None and fixed.proof.judgement.against_control == ""
    assert any(note.startswith("There is no control to compare with: the training loss is") for note in fixed.notes)
    assert "no control" in render_text(save(fixed, tmp_path / "out"))


def test_a_base_gets_its_task_adapter_first(fixtures: Path, tmp_path: Path) -> None:
    request = request_of(
        fixtures, tmp_path, new=str(fixtures / "models" / "base-v2"), train_task=True, strategy="muscle", blend=0.5,
        control="none", train_limit=40, limit=20, force=True, settings={"max_steps": 2},
    )  # fmt: skip
    fixed = fix(request, tmp_path / "out")
    task = load_file(tmp_path / "out" / "work" / "task" / "adapter" / "adapter_model.safetensors")
    assert any(bool((value != 0).any()) for name, value in task.items() if "lora_B" in name)
    assert fixed.frontier is not None and [point.share for point in fixed.frontier.points] == [0.5]
    assert fixed.final.trained.trained.strategy == "muscle"
    assert fixed.final.trained.trained.steps == 2


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(fixtures: Path, tmp_path: Path) -> None:
    """A learning rate beyond all measure: the weights overflow in the first step, so the second loss is none."""
    request = request_of(
        fixtures, tmp_path, strategy="muscle", blend="none", control="none", train_limit=60,
        settings={"max_steps": 4, "learning_rate": 1e30, "warmup_steps": 0, "save_steps": 1},
    )  # fmt: skip
    with pytest.raises(InputError, match=r"training loss is nan at step 2.*last good checkpoint is .*step-0000001"):
        fix(request.with_(force=True), tmp_path / "out")
    (kept,) = (tmp_path / "out" / "work" / "compat" / "checkpoints").glob("step-*")
    assert (kept / "weights.safetensors").is_file()
    assert not (tmp_path / "out" / "adapter").exists()
