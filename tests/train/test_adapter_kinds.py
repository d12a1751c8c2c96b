"""Adapters of every kind as OLD and NEW of a training: at the first step student and teacher are NEW as transformers
and PEFT load it alone, and what is saved is what was trained; or the kind is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compatcheck.engines.hf.head import decoder_of, head_of
from compatcheck.engines.hf.proof import alone, difference, probe
from compatcheck.errors import InputError
from compatcheck.models.tokenizer import differences
from compatcheck.references import resolve
from compatcheck_train import preset
from compatcheck_train.training.models import COMPAT, NEW, Student, load_old, load_student, save_adapter
from compatcheck_train.weights import blend, transfer, why_not_blended
from tests.engines.adapters import KINDS, save_base, with_own_tokenizer
from tests.engines.adapters import save_adapter as made_by_peft

SETTINGS = preset("quick", device="cpu")
REFUSED = {
    "prompt": "an adapter of virtual tokens",
    "prefix": "an adapter of virtual tokens",
    "p-tuning": "an adapter of virtual tokens",
    "lily": "depend on the texts beside it in a batch",
}
NOT_BLENDED = {
    "dora": "use_dora", "pissa": "(pissa)", "olora": "(olora)", "loftq": "(loftq)", "lora-bias": "lora_B.bias",
    "on-embedding": "lora_embedding_A", "experts": "target_parameters", "ia3": "IA3", "loha": "LOHA", "lokr": "LOKR",
    "oft": "OFT", "layer-norm": "LN_TUNING", "vera": "VERA", "vb-lora": "VBLORA",
}  # fmt: skip
"""Kinds whose update is not that of plain LoRA, and what is said of them."""
EVERY = KINDS | {"experts": {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.gate_up_proj"]}}
TRAINED = [kind for kind in EVERY if kind not in REFUSED]
TIED = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    """(kind, tied) -> base and adapter."""
    root = tmp_path_factory.mktemp("kinds")

    def folders(kind: str, tied: bool) -> tuple[Path, Path]:
        experts = kind == "experts"
        base, target = root / f"base-{tied}-{experts}", root / f"{kind}-{tied}"
        if not base.exists():
            save_base(base, tied=tied, experts=experts)
        if not target.exists():
            made_by_peft(base, target, **EVERY[kind])
        return base, target

    return folders


class AsTrained:
    """A student or an old model as losses see it: hidden states and output layer."""

    def __init__(self, model: Any, adapter: str) -> None:
        self.model, self.adapter = model, adapter

    def get_input_embeddings(self) -> Any:
        return self.model.get_input_embeddings()

    def __call__(self, **inputs: Any) -> Any:
        head = head_of(self.model.get_base_model(), self.adapter).frozen()
        return SimpleNamespace(logits=head.logits(decoder_of(self.model.get_base_model())(**inputs).last_hidden_state))


def sides(student: Student, adapter: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """What the student and NEW as a teacher say."""
    trained = probe(AsTrained(student.peft, COMPAT), adapter)
    with student.as_teacher():
        return trained, probe(AsTrained(student.peft, NEW), adapter)


@TIED
@pytest.mark.parametrize("kind", TRAINED)
def test_the_first_step_is_new_itself(kind: str, tied: bool, made: Callable[..., Any], tmp_path: Path) -> None:
    base, adapter = made(kind, tied)
    truth = alone(base, adapter, "cpu", dtype=torch.float32)
    student = load_student(resolve(str(adapter)), SETTINGS, "cpu")
    trained, teacher = sides(student, adapter)
    assert torch.equal(trained, teacher), "to the bit"
    assert difference(truth, trained) < 1e-4
    # what is saved before a step is NEW, and after one it is what was trained
    save_adapter(student, tmp_path / "start")
    assert difference(truth, alone(base, tmp_path / "start", "cpu", dtype=torch.float32)) < 1e-4
    parameters = student.parameters()
    decoder, head = decoder_of(student.base), head_of(student.base, COMPAT)
    start = getattr(student.peft.peft_config[COMPAT], "alora_invocation_tokens", None) or []
    tokens = [3, 7, 8, 300, 301, *start, 5, 9]
    head.logits(decoder(input_ids=torch.tensor([tokens])).last_hidden_state).logsumexp(-1).sum().backward()
    moved = [name for name, value in parameters.items() if value.grad is not None and bool((value.grad != 0).any())]
    assert moved, "something is trained"
    with torch.no_grad():
        for value in parameters.values():
            if value.grad is not None:
                value -= 0.05 * value.grad.sign()
    trained, teacher = sides(student, adapter)
    assert difference(truth, teacher) < 1e-4, "NEW stays"
    assert difference(truth, trained) > 1e-3
    save_adapter(student, tmp_path / "trained")
    assert difference(trained, alone(base, tmp_path / "trained", "cpu", dtype=torch.float32)) < 1e-4
    if kind in NOT_BLENDED:
        assert NOT_BLENDED[kind] in why_not_blended(adapter)
        return
    assert why_not_blended(adapter) == ""
    for share, expected in ((0.0, truth), (1.0, trained)):
        out = blend(tmp_path / "trained", adapter, share, tmp_path / f"blend-{share}")
        assert difference(expected, alone(base, out, "cpu", dtype=torch.float32)) < 1e-3


@TIED
@pytest.mark.parametrize("kind", TRAINED)
def test_old_is_followed_as_it_is(kind: str, tied: bool, made: Callable[..., Any]) -> None:
    base, adapter = made(kind, tied)
    old = load_old(resolve(str(adapter)), SETTINGS, "cpu")
    truth = alone(base, adapter, "cpu", dtype=torch.float32)
    assert difference(truth, probe(AsTrained(old, "old"), adapter)) < 1e-4


def test_what_peft_does_not_load_twice_alike_is_refused(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    adapter = made_by_peft(base, tmp_path / "adapter", init_lora_weights="pissa_niter_4")
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(alone(base, adapter, "cpu"))
    assert difference(*found) > 0.1
    for load in (load_student, load_old):
        with pytest.raises(InputError, match=r"pissa_niter_4.* other weights each time; save it as plain LoRA"):
            load(resolve(str(adapter)), SETTINGS, "cpu")


@pytest.mark.parametrize("kind", list(REFUSED))
def test_what_cannot_be_trained_is_refused_with_the_way_out(kind: str, made: Callable[..., Any]) -> None:
    _, adapter = made(kind, False)
    for load in (load_student, load_old):
        with pytest.raises(InputError, match=f"{REFUSED[kind]}.*train-task"):
            load(resolve(str(adapter)), SETTINGS, "cpu")


def test_news_own_tokenizer_goes_along(made: Callable[..., Any], tmp_path: Path) -> None:
    """With what is trained, blended or transferred, which would be read by the base's tokenizer without it."""
    base, folder = made("lora", False)
    new = shutil.copytree(folder, tmp_path / "new")
    with_own_tokenizer(base, new)
    reference = resolve(f"{base}+{new}")
    assert reference.tokenizer == new
    save_adapter(load_student(reference, SETTINGS, "cpu"), tmp_path / "trained")
    transfer(folder, base, tmp_path / "moved", new)
    blend(tmp_path / "trained", new, 0.5, tmp_path / "blend")
    for made_of_it in ("trained", "moved", "blend"):
        found = resolve(str(tmp_path / made_of_it))
        assert found.tokenizer is not None, made_of_it
        assert differences(new, found.tokenizer) == []
    save_adapter(load_student(resolve(str(folder)), SETTINGS, "cpu"), tmp_path / "plain")
    assert {path.name for path in (tmp_path / "plain").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
