"""The training itself on tiny random models: where it starts, what it leaves alone, that it repeats and resumes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from compatcheck.errors import InputError
from compatcheck.references import resolve
from compatcheck_train import TrainSettings
from compatcheck_train.examples import Examples
from compatcheck_train.training.loop import Loop, learning_rate
from compatcheck_train.training.models import load_student
from compatcheck_train.training.run import Trained, train, train_task_adapter


def settings(**changes: Any) -> TrainSettings:
    base: dict[str, Any] = {
        "epochs": 2, "batch_size": 2, "gradient_accumulation": 2, "learning_rate": 1e-2, "lora_rank": 4,
        "lora_alpha": 8, "device": "cpu", "teacher": "online", "new_teacher": "online",
    }  # fmt: skip
    return TrainSettings(**base | changes)


def weights(trained: Trained) -> dict[str, Tensor]:
    return load_file(trained.folder / "adapter_model.safetensors")


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def fingerprints(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def test_the_student_starts_as_the_new_model_and_leaves_it_alone(
    pair: dict[str, str], text_examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {side: fingerprints(pair[side]) for side in ("old", "new", "old_base", "new_base")}
    seen: list[dict[str, Tensor]] = []
    first_losses: list[float] = []
    step = Loop._step

    def watched(self: Loop, micro: list[int]) -> dict[str, float]:
        peft = self.trainee.student.peft
        state = {n: p.detach().clone() for n, p in peft.named_parameters()}
        if not seen:
            batch = self.plan.batch(0)
            with torch.no_grad():
                assert torch.equal(self.trainee.states(batch), self.trainee.new_states(batch))
        seen.append(state)
        values = step(self, micro)
        first_losses.append(values["loss"])
        return values

    monkeypatch.setattr(Loop, "_step", watched)
    trained = train(pair["old"], pair["new"], text_examples, settings(strategy="new-only"), tmp_path / "out")
    assert {side: fingerprints(pair[side]) for side in before} == before
    assert first_losses[0] == 0.0, "every token follows the new model, which the student is"
    new = {n: v for n, v in seen[0].items() if ".new." in n}
    assert new and all(torch.equal(v, seen[0][n.replace(".new.", ".compat.")]) for n, v in new.items())
    assert all(torch.equal(v, seen[-1][n]) for n, v in new.items())
    kept = load_file(Path(pair["new"]) / "adapter_model.safetensors")
    assert equal(weights(trained), kept), "with every gradient zero the adapter stays what it was"


def test_training_moves_the_copy_and_not_the_new_model(
    pair: dict[str, str], text_examples: Examples, tmp_path: Path
) -> None:
    trained = train(pair["old"], pair["new"], text_examples, settings(), tmp_path / "out")
    kept = load_file(Path(pair["new"]) / "adapter_model.safetensors")
    assert kept.keys() == weights(trained).keys()
    assert not equal(weights(trained), kept)
    assert trained.steps == 2 * math.ceil(6 / 2)
    assert [entry["epoch"] for entry in trained.history] == [0, 1, 2]
    assert trained.history[0]["validation_loss"] > trained.history[trained.best_epoch]["validation_loss"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "learning_rate" in line] == [1, 2, 3, 4, 5, 6]
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == pair["new_base"]
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 8, 0.0)
    assert {path.name for path in trained.folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize("name", ["muscle", "sequence-likelihood", "choice-ensemble"])
def test_two_runs_with_one_seed_give_the_same_adapter(
    name: str, pair: dict[str, str], choice_examples: Examples, tmp_path: Path
) -> None:
    def run(out: str, **changes: Any) -> dict[str, Tensor]:
        own = settings(strategy=name, epochs=1, **changes)
        return weights(train(pair["old"], pair["new"], choice_examples, own, tmp_path / out))

    first = run("a")
    assert equal(first, run("b"))
    assert not equal(first, run("c", seed=1))


@pytest.mark.parametrize("name", ["muscle", "old-correct", "choice-ensemble"])
def test_a_cached_teacher_gives_the_same_adapter_as_one_online(
    name: str, pair: dict[str, str], choice_examples: Examples, tmp_path: Path
) -> None:
    own = settings(strategy=name, cache_folder=tmp_path / "cache")
    online = train(pair["old"], pair["new"], choice_examples, own, tmp_path / "online")
    cached = train(
        pair["old"],
        pair["new"],
        choice_examples,
        own.changed(teacher="cache", new_teacher="cache"),
        tmp_path / "cached",
    )
    assert equal(weights(online), weights(cached))
    assert [e["validation_loss"] for e in online.history] == [e["validation_loss"] for e in cached.history]
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_a_killed_training_goes_on_to_the_same_adapter(
    stop: int, pair: dict[str, str], text_examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings(save_steps=1)
    whole = train(pair["old"], pair["new"], text_examples, own, tmp_path / "whole")
    step = Loop._step

    def killed(self: Loop, micro: list[int]) -> dict[str, float]:
        if self.state.step == stop:
            raise KeyboardInterrupt
        return step(self, micro)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Loop, "_step", killed)
        train(pair["old"], pair["new"], text_examples, own, tmp_path / "killed")
    said: list[str] = []
    resumed = train(pair["old"], pair["new"], text_examples, own, tmp_path / "killed", say=said.append)
    assert f"Resumed from step {stop} of 6." in said
    assert equal(weights(whole), weights(resumed))
    assert whole.history == resumed.history
    lines = (tmp_path / "killed" / "metrics.jsonl").read_text()
    assert lines == (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_a_finished_training_is_returned_as_it_is(
    pair: dict[str, str], text_examples: Examples, tmp_path: Path
) -> None:
    first = train(pair["old"], pair["new"], text_examples, settings(), tmp_path / "out")
    again = train(pair["old"], pair["new"], text_examples, settings(), tmp_path / "out")
    assert again == first


def test_a_folder_of_something_else_is_left_alone(
    pair: dict[str, str], text_examples: Examples, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something that is no training"):
        train(pair["old"], pair["new"], text_examples, settings(), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    train(pair["old"], pair["new"], text_examples, settings(epochs=1), tmp_path / "out")
    with pytest.raises(InputError, match="a training with other new, setting epochs"):
        train(pair["old"], pair["old"], text_examples, settings(), tmp_path / "out")


def test_full_models_may_be_old_and_new(pair: dict[str, str], text_examples: Examples, tmp_path: Path) -> None:
    own = settings(strategy="muscle", cache_folder=tmp_path / "cache", teacher="cache")
    trained = train(pair["old_base"], pair["new_base"], text_examples, own, tmp_path / "out")
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert "lm_head" not in config["target_modules"]
    still = train(pair["old_base"], pair["new_base"], text_examples, settings(strategy="new-only"), tmp_path / "still")
    assert still.history[0]["validation_loss"] == 0.0
    assert all(bool((v == 0).all()) for n, v in weights(still).items() if "lora_B" in n)


def test_an_adapter_on_the_output_layer_is_trained_too(
    pair: dict[str, str], text_examples: Examples, tmp_path: Path, save_adapter: Callable[..., Path]
) -> None:
    new = save_adapter(
        tmp_path / "new", Path(pair["new_base"]), 9, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"]
    )
    trained = train(pair["old"], str(new), text_examples, settings(), tmp_path / "out")
    assert trained.history[0]["validation_loss"] > trained.history[trained.best_epoch]["validation_loss"]
    before, after = load_file(new / "adapter_model.safetensors"), weights(trained)
    assert before.keys() == after.keys()
    head = next(name for name in before if "lm_head" in name)
    assert not torch.equal(before[head], after[head])
    still = train(pair["old"], str(new), text_examples, settings(strategy="new-only"), tmp_path / "still")
    assert still.history[0]["validation_loss"] == pytest.approx(0.0, abs=1e-9)


def test_a_task_adapter_for_a_model_without_one(pair: dict[str, str], text_examples: Examples, tmp_path: Path) -> None:
    trained = train_task_adapter(pair["new_base"], text_examples, settings(epochs=4), tmp_path / "task")
    assert trained.strategy == "continue-ce"
    assert trained.history[0]["validation_loss"] > trained.history[trained.best_epoch]["validation_loss"]
    with pytest.raises(InputError, match="has an adapter already"):
        train_task_adapter(pair["new"], text_examples, settings(), tmp_path / "other")


def test_the_adapter_loads_in_peft_and_gives_the_students_logits(
    pair: dict[str, str], text_examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import AutoPeftModelForCausalLM

    students: list[Any] = []
    monkeypatch.setattr(
        "compatcheck_train.training.run.load_student", lambda *a: students.append(load_student(*a)) or students[-1]
    )
    trained = train(pair["old"], pair["new"], text_examples, settings(), tmp_path / "out")
    loaded = AutoPeftModelForCausalLM.from_pretrained(trained.folder).eval()
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, students[0].peft(input_ids=ids).logits)
    assert resolve(str(trained.folder)).base == Path(pair["new_base"])


def test_a_loss_that_is_no_number_stops_the_training_and_keeps_the_last_checkpoint(
    pair: dict[str, str], text_examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Loop._step

    def poisoned(self: Loop, micro: list[int]) -> dict[str, float]:
        if self.state.step == 3:
            with torch.no_grad():
                next(iter(self.parameters.values())).fill_(math.nan)
        return step(self, micro)

    monkeypatch.setattr(Loop, "_step", poisoned)
    with pytest.raises(InputError, match=r"training loss is nan at step 4.*last good checkpoint is .*step-0000003"):
        train(pair["old"], pair["new"], text_examples, settings(), tmp_path / "out")
    kept = load_file(tmp_path / "out" / "checkpoints" / "step-0000003" / "weights.safetensors")
    assert all(bool(value.isfinite().all()) for value in kept.values())


def test_unlabelled_inputs_serve_strategies_over_choices(
    pair: dict[str, str], tmp_path: Path, make_examples: Callable[..., Examples]
) -> None:
    own = settings(strategy="choice-ensemble", epochs=1)
    more = train(pair["old"], pair["new"], make_examples("choice", unlabelled=6), own, tmp_path / "more")
    less = train(pair["old"], pair["new"], make_examples("choice"), own, tmp_path / "less")
    assert (more.steps, less.steps) == (5, 3)
    assert not equal(weights(more), weights(less))


def test_gradient_checkpointing_gives_the_same_adapter(
    pair: dict[str, str], text_examples: Examples, tmp_path: Path
) -> None:
    plain = train(pair["old"], pair["new"], text_examples, settings(), tmp_path / "plain")
    saving = train(pair["old"], pair["new"], text_examples, settings(gradient_checkpointing=True), tmp_path / "saving")
    for name, value in weights(plain).items():
        assert torch.allclose(value, weights(saving)[name], atol=1e-6)


def test_bf16_trains(pair: dict[str, str], text_examples: Examples, tmp_path: Path) -> None:
    own = settings(bf16=True, dtype="bfloat16", strategy="new-only")
    trained = train(pair["old"], pair["new"], text_examples, own, tmp_path / "still")
    assert trained.history[0]["validation_loss"] == 0.0
    trained = train(pair["old"], pair["new"], text_examples, own.changed(strategy="muscle"), tmp_path / "out")
    assert trained.history[0]["validation_loss"] > trained.history[trained.best_epoch]["validation_loss"]
    assert {value.dtype for value in weights(trained).values()} == {torch.float32}


def test_curves_go_to_tensorboard(pair: dict[str, str], text_examples: Examples, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(pair["old"], pair["new"], text_examples, settings(report_to=("tensorboard",)), tmp_path / "out")
    (events,) = (tmp_path / "out").rglob("events.out.tfevents*")
    read = EventAccumulator(str(events.parent))
    read.Reload()
    assert [event.step for event in read.Scalars("loss") if event.step] == [1, 2, 3, 3, 4, 5, 6, 6]


def test_patience_and_max_steps(pair: dict[str, str], text_examples: Examples, tmp_path: Path) -> None:
    said: list[str] = []
    own = settings(strategy="continue-ce", learning_rate=0.5, epochs=9, patience=1, schedule="constant")
    trained = train(None, pair["new"], text_examples, own, tmp_path / "out", say=said.append)
    assert trained.steps < 27
    assert any("none was better in validation for 1 epochs" in line for line in said)
    short = train(None, pair["new"], text_examples, settings(strategy="continue-ce", max_steps=4), tmp_path / "short")
    assert [entry["step"] for entry in short.history] == [0, 3, 4]


def test_over_choices_the_last_epoch_is_kept(
    pair: dict[str, str], choice_examples: Examples, text_examples: Examples, tmp_path: Path
) -> None:
    """Elsewhere, and with patience, the one with the lowest validation loss. Here the loss rises from the first on."""
    own = settings(learning_rate=0.3, epochs=4, schedule="constant")
    lowest = {}
    for name, examples, changes in (
        ("choices", choice_examples, {"strategy": "choice-ce"}),
        ("patient", choice_examples, {"strategy": "choice-ce", "patience": 9}),
        ("texts", text_examples, {"strategy": "continue-ce"}),
    ):
        done = train(None, pair["new"], examples, own.changed(**changes), tmp_path / name)
        losses = [entry["validation_loss"] for entry in done.history[1:]]
        lowest[name] = (done.best_epoch, 1 + losses.index(min(losses)))
    assert lowest["choices"][0] == 4 > lowest["choices"][1]
    assert all(kept == low < 4 for kept, low in (lowest["patient"], lowest["texts"]))


def test_learning_rate() -> None:
    own = settings(learning_rate=1.0, warmup_steps=500, warmup_share=0.1)
    rates = [learning_rate(own, step, 40) for step in (0, 1, 3, 4, 22, 39)]
    assert rates == pytest.approx([0.25, 0.5, 1.0, 1.0, 0.5, 1 / 36])
    assert learning_rate(own.changed(schedule="cosine"), 22, 40) == pytest.approx(0.5)
    assert learning_rate(own, 500, 100_000) == 1.0


def test_wrong_combinations_are_refused(
    pair: dict[str, str], text_examples: Examples, choice_examples: Examples, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="choice-ensemble is not for text tasks like words"):
        train(pair["old"], pair["new"], text_examples, settings(strategy="choice-ensemble"), tmp_path / "a")
    with pytest.raises(InputError, match="strategy muscle needs OLD"):
        train(None, pair["new"], text_examples, settings(), tmp_path / "b")
    with pytest.raises(InputError, match="trackio"):
        train(pair["old"], pair["new"], text_examples, settings(report_to=("trackio",)), tmp_path / "c")
    assert not any(tmp_path.iterdir())


def test_engines_that_take_over_the_training_are_refused(
    pair: dict[str, str], text_examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    monkeypatch.setattr(Accelerator, "distributed_type", property(lambda self: DistributedType.DEEPSPEED))
    with pytest.raises(InputError, match="configured for DEEPSPEED, which takes over weights and optimiser"):
        train(pair["old"], pair["new"], text_examples, settings(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
