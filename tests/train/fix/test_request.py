"""What a fix refuses before anything is paid for; a refusal leaves nothing behind."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from compatcheck.cli.app import run
from compatcheck.errors import InputError
from compatcheck.option_models import build
from compatcheck.options import Fix
from compatcheck.references import resolve
from compatcheck_train.fix import request as guards
from compatcheck_train.fix.judging import Scores
from compatcheck_train.fix.request import FixRequest, check, check_disk, check_old_is_worth_keeping, claim_of
from compatcheck_train.fix.run import fix
from compatcheck_train.folders import partial_of
from compatcheck_train.training.processes import TAKING_OVER
from tests.engines.adapters import KINDS, save_adapter
from tests.train.fix.conftest import request_of


@pytest.fixture
def request_(fixtures: Path, tmp_path: Path) -> FixRequest:
    return request_of(fixtures, tmp_path)


def test_what_cannot_be_old_or_new(request_: FixRequest, fixtures: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "outputs.jsonl"
    recorded.write_text('{"id": 1, "target": "a", "prediction": "b"}\n')
    base_v1, base_v2 = (str(fixtures / "models" / f"base-{v}") for v in ("v1", "v2"))
    with pytest.raises(InputError, match=r"OLD .*outputs.jsonl: fix trains on weights"):
        check(replace(request_, old=str(recorded)))
    with pytest.raises(InputError, match="are the same model; there is nothing to fix"):
        check(replace(request_, old=request_.new))
    with pytest.raises(InputError, match=r"same model"):
        check(replace(request_, old=f"{base_v2}+{request_.new}"))
    with pytest.raises(InputError, match=r"piqa-v2.*does not fit|piqa-v2.*base"):
        check(replace(request_, new=f"{base_v1}+{request_.new}"))
    with pytest.raises(InputError, match=r"--train-task: NEW .* has an adapter already; name the base alone"):
        check(request_.with_(train_task=True))
    with pytest.raises(InputError, match="OLD is a full model; only an adapter's update can be transferred"):
        check(replace(request_.with_(init="transfer"), old=base_v1))
    assert [each.base for each in check(request_)] == [Path(base_v1), Path(base_v2)]


def test_updates_that_cannot_be_transferred(request_: FixRequest, fixtures: Path, tmp_path: Path) -> None:
    """Are refused before anything is paid for, and before the folder is taken."""
    transfer, base = request_.with_(init="transfer"), fixtures / "models" / "base-v2"
    with pytest.raises(InputError, match=r"none of its 28 modules fits .*; --init transfer needs equal shapes"):
        fix(transfer, tmp_path / "out")
    dora, ia3 = (save_adapter(base, tmp_path / kind, moved=0.1, **KINDS[kind]) for kind in ("dora", "ia3"))
    with pytest.raises(InputError, match=r"--init transfer: .*dora: use_dora is set; only plain LoRA"):
        fix(replace(transfer, old=str(fixtures / "adapters" / "hellaswag-v2"), new=str(dora)), tmp_path / "out")
    with pytest.raises(InputError, match=r"--init transfer: .*ia3: its kind is IA3; only plain LoRA"):
        fix(replace(transfer, old=str(ia3)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "muscel"}, "did you mean 'muscle'"),
        ({"candidate": ("muscle", "ensembel")}, "did you mean 'ensemble'"),
        ({"control": "continue"}, "continue"),
        ({"blend_method": "tise"}, "did you mean 'ties'"),
        ({"blend": "half"}, "--blend half: must be a number such as 0.75"),
        ({"init": "old"}, "--init old: must be new or transfer"),
        ({"trial_share": 0.0}, "--trial-share 0: must be above 0"),
        ({"trial_share": 1.5}, "at most 1"),
        ({"finalists": 0}, "--finalists 0: must be at least 1"),
        ({"margin": -1.0}, "--margin -1: must be 0 points or more"),
        ({"margin": 100.0}, "--margin 100: must be 0 points or more, and below 100"),
        ({"seeds": 0}, "--seeds 0: must be at least 1"),
    ],
)
def test_what_is_misspelled_or_out_of_range(request_: FixRequest, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(replace(request_, chosen=build(Fix, vars(request_.chosen) | changes)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"strategy": "muscle", "candidate": (), "trial_share": None}, ""),
        ({"strategy": "muscle"}, "--candidate, --trial-share"),
        ({"strategy": "muscle", "candidate": (), "finalists": 3}, "--trial-share, --finalists"),
        ({"blend_method": "ties"}, ""),
        ({"blend_method": "ties", "blend": "none"}, "--blend-method"),
        ({"blend_method": "ties", "blend": 1.0}, "--blend-method"),
    ],
)
def test_options_without_effect_are_named(request_: FixRequest, changes: dict[str, Any], said: str) -> None:
    found = request_.with_(**changes).idle(resolve(request_.new))
    assert (found or "").partition("for: ")[2].removesuffix(".") == said


@pytest.mark.parametrize(
    ("changes", "chooses"),
    [
        ({}, True),
        ({"strategy": "muscle"}, True),
        ({"strategy": "muscle", "blend": 0.5}, False),
        ({"strategy": "muscle", "blend": "none"}, False),
        ({"strategy": "muscle", "blend": "none", "seeds": 2}, True),
    ],
)
def test_whether_documents_are_chosen_on(changes: dict[str, Any], chooses: bool) -> None:
    assert FixRequest("old", "new", build(Fix, {"task": "piqa"} | changes)).chooses is chooses


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed(name: str, fixtures: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed here")
    with pytest.raises(InputError, match=rf"report_to {name}: the package is not installed \(pip install {name}\)"):
        fix(request_of(fixtures, tmp_path, report_to=(name,)), tmp_path / "out")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", TAKING_OVER)
def test_launchers_that_take_over_the_training(
    name: str, fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``accelerate launch`` says what it is configured for in these variables."""
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    adapters = [str(fixtures / "adapters" / f"piqa-{version}") for version in ("v1", "v2")]
    given = ["--task", "piqa", "--data", str(fixtures / "data"), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert run(["fix", *adapters, *given]) == 2
    assert f"accelerate is configured for {name}, which takes over weights and optimiser" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_no_training_data(fixtures: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "piqa").mkdir(parents=True)
    shutil.copy(fixtures / "data" / "piqa" / "validation.jsonl.gz", tmp_path / "data" / "piqa")
    with pytest.raises(InputError, match=r"no piqa/train.jsonl\[.gz\] to train on"):
        fix(request_of(fixtures, tmp_path, data=tmp_path / "data"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["train", "nowhere"])
def test_the_split_of_the_proof(split: str, fixtures: Path, tmp_path: Path) -> None:
    """It is neither trained on nor missing, which is known before training."""
    match = {"train": "it cannot be trained or chosen on", "nowhere": "nowhere"}[split]
    with pytest.raises(InputError, match=match):
        fix(request_of(fixtures, tmp_path, split=split), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_documents_of_the_proof_are_not_trained_on_whatever_its_split(fixtures: Path, tmp_path: Path) -> None:
    import gzip

    source = fixtures / "data" / "piqa"
    (tmp_path / "data" / "piqa").mkdir(parents=True)
    for name in ("train", "validation"):
        shutil.copy(source / f"{name}.jsonl.gz", tmp_path / "data" / "piqa")
    with gzip.open(source / "train.jsonl.gz", "rt") as file:
        first = [next(file) for _ in range(3)]
    (tmp_path / "data" / "piqa" / "held.jsonl").write_text("".join(first))
    given = {"data": tmp_path / "data", "split": "held", "train_limit": None}
    with pytest.raises(InputError, match="holds some documents too, 3 in all"):
        fix(request_of(fixtures, tmp_path, **given), tmp_path / "out")


def test_strategies_that_are_not_for_the_task(fixtures: Path, tmp_path: Path) -> None:
    for name, task, message in (
        ("choice-ensemble", "gsm8k", "strategy choice-ensemble is not for text tasks like gsm8k"),
        ("sequence-ensemble", "piqa", "strategy sequence-ensemble is not for choice tasks like piqa"),
    ):
        adapters = [str(fixtures / "adapters" / f"{task}-{version}") for version in ("v1", "v2")]
        given: dict[str, Any] = {"task": task, "strategy": name, "old": adapters[0], "new": adapters[1]}
        with pytest.raises(InputError, match=message):
            fix(request_of(fixtures, tmp_path, **given), tmp_path / "out")
    bad = request_of(fixtures, tmp_path, strategy="muscle", strategy_args={"beta": 1})
    with pytest.raises(InputError, match="beta"):
        fix(bad, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_little_disk(request_: FixRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_disk(tmp_path / "a" / "b", [resolve(text) for text in (request_.old, request_.new)])
    monkeypatch.setattr(guards, "free_bytes", lambda folder: 10**8)
    with pytest.raises(InputError, match=r"0.1 GB of disk are free, about 0.2 GB are needed"):
        fix(request_, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def scores(nfr_of_new: float, score: float, score_of_new: float) -> Scores:
    return Scores("old", 100, 0.0, 0.0, score, nfr_of_new, score_of_new)


def test_an_old_model_that_is_no_teacher() -> None:
    assert check_old_is_worth_keeping(scores(0.05, 0.7, 0.8), force=False) is None
    for poor, message in (
        (scores(0.0, 0.7, 0.8), "NEW loses nothing that OLD had right"),
        (scores(0.05, 0.3, 0.8), "OLD scores 0.3 and NEW 0.8 .* poor teacher"),
    ):
        with pytest.raises(InputError, match=rf"{message}.*; --force goes on all the same"):
            check_old_is_worth_keeping(poor, force=False)
        warning = check_old_is_worth_keeping(poor, force=True)
        assert warning is not None and "--force" not in warning


@pytest.mark.slow
def test_a_model_that_guesses_is_no_teacher(fixtures: Path, tmp_path: Path) -> None:
    """The old base with random weights, on four choices."""
    shutil.copytree(fixtures / "models" / "base-v1", tmp_path / "guesses")
    path = tmp_path / "guesses" / "model.safetensors"
    torch.manual_seed(0)
    save_file({n: 0.05 * torch.randn_like(v) for n, v in load_file(path).items()}, path, metadata={"format": "pt"})
    bad = request_of(
        fixtures, tmp_path, task="hellaswag", old=str(tmp_path / "guesses"),
        new=str(fixtures / "adapters" / "hellaswag-v2"), train_limit=150,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"an old model this much worse is a poor teacher.*--force goes on"):
        fix(bad, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_is_taken_once(tmp_path: Path) -> None:
    claim = claim_of(tmp_path / "out")
    claim.check({"old": "a"})
    assert not (tmp_path / "out").exists()
    for _ in range(2):
        claim.take({"old": "a", "limit": None, "settings": {"epochs": 1}})
    with pytest.raises(InputError, match=r"holds a fix with other old, limit, setting epochs \(it can grow"):
        claim.take({"old": "b", "limit": 3, "settings": {"epochs": 2}})
    killed = claim_of(tmp_path / "killed")
    killed.path.parent.mkdir()
    partial_of(killed.path).write_text('{"sch')
    killed.take({"old": "a"})
    assert [path.name for path in killed.path.parent.iterdir()] == ["fix.json"]


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": "another/1"}'])
def test_a_folder_of_something_else(content: str, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something that is no fix; choose another folder"):
        claim_of(tmp_path / "notes").take({})
    with pytest.raises(InputError, match="is a file; name a folder"):
        claim_of(tmp_path / "notes" / "thesis.txt").take({})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "fix.json").write_text(content)
    with pytest.raises(InputError, match=r"its fix\.json is not one of compatcheck"):
        claim_of(tmp_path / "other").take({})
    assert (tmp_path / "other" / "fix.json").read_text() == content


def test_options_that_bear_on_nothing_are_named(request_: FixRequest) -> None:
    _, new = check(request_)
    assert request_.with_(finalists=3).idle(new) is None
    for given in ({"strategy": "muscle"}, {"candidate": (), "trial_share": None}, {"candidate": ("muscle",)}):
        assert "--finalists" in str(request_.with_(finalists=3, **given).idle(new))
