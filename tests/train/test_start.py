"""MUSCLE at its first step, on a real student: the old model's term where NEW is wrong, and nothing else; NEW stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compatcheck_train import TrainSettings
from compatcheck_train.examples import Examples
from compatcheck_train.training.loop import Loop, Trainee
from compatcheck_train.training.run import train


def old_term_alone(trainee: Trainee, index: int) -> tuple[Tensor, Tensor]:
    """Σ KL(old ‖ student) over the tokens that the student has wrong, from whole logits; and which those are."""
    batch = trainee.plan.batch(index)
    assert trainee.old is not None and trainee.old.head is not None
    taught = trainee.old.taught(index).hidden
    assert taught is not None
    z, z_old = trainee.head.logits(trainee.states(batch)), trainee.old.head.logits(taught)
    wrong = z.argmax(-1) != batch.targets
    log_p, log_q = (functional.log_softmax(each[wrong] / 2.0, dim=-1) for each in (z_old, z))
    return (log_p.exp() * (log_p - log_q)).sum(), wrong


def test_the_first_step_of_muscle(
    pair: dict[str, str], text_examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Loop._step
    steps: list[dict[str, Tensor]] = []
    right = wrong = 0

    def watched(self: Loop, micro: list[int]) -> dict[str, float]:
        nonlocal right, wrong
        trainee = self.trainee
        named = dict(trainee.student.peft.named_parameters())
        if not steps:
            parameters = list(self.parameters.values())
            for index in range(self.plan.training):
                loss, _ = trainee(index)
                plain, mask = old_term_alone(trainee, index)
                wrong, right = wrong + int(mask.sum()), right + int((~mask).sum())
                assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
                made, wanted = (torch.autograd.grad(each, parameters, retain_graph=True) for each in (loss, plain))
                for one, other in zip(made, wanted, strict=True):
                    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
            for name, value in named.items():
                if ".new." in name:
                    assert torch.equal(value, named[name.replace(".new.", ".compat.")]), "NEW's exact weights"
        steps.append({name: value.detach().clone() for name, value in named.items()})
        return step(self, micro)

    monkeypatch.setattr(Loop, "_step", watched)
    own = TrainSettings(
        strategy="muscle", epochs=2, batch_size=2, gradient_accumulation=2, learning_rate=1e-2, device="cpu",
        teacher="online", new_teacher="online",
    )  # fmt: skip
    train(pair["old"], pair["new"], text_examples, own, tmp_path / "out")
    assert right and wrong, "there are tokens of both kinds"
    moved = {name for name, value in steps[0].items() if not torch.equal(value, steps[-1][name])}
    assert moved and all(".compat." in name for name in moved), "NEW's adapter and the base are as they were"
