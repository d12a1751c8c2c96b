"""A teacher that was kept gives what one online gives, to the bit; its key covers what decides its content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from compatcheck.engines.hf.head import head_of
from compatcheck.errors import InputError
from compatcheck.references import resolve
from compatcheck_train import TrainSettings
from compatcheck_train.batches import Plan, make_items, make_plan
from compatcheck_train.examples import Examples
from compatcheck_train.teachers import CachedTeacher, OnlineTeacher, build, cache, estimate_bytes
from compatcheck_train.teachers.online import Wants, model_states
from compatcheck_train.training.models import load_old
from compatcheck_train.training.processes import open_accelerator

BOTH: Wants = frozenset({"states", "facts"})


@pytest.fixture(scope="module")
def plan(pair: dict[str, str], choice_examples: Examples) -> Plan:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pair["old_base"])
    fit, hold = (make_items(tokenizer, e, "choices", 64) for e in (choice_examples.train, choice_examples.validation))
    return make_plan(fit, hold, 2, 0, 1.0)


def online(pair: dict[str, str], plan: Plan, wants: Wants = BOTH, dtype: str = "float32") -> OnlineTeacher:
    settings = TrainSettings(device="cpu", dtype=dtype)
    model: Any = load_old(resolve(pair["old"]), settings, "cpu").get_base_model()
    accelerator = open_accelerator(settings, Path())
    return OnlineTeacher(model_states(model, accelerator.autocast), head_of(model, "old").frozen(), plan, wants)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_of_a_kept_teacher_equal_those_online(
    dtype: str, pair: dict[str, str], plan: Plan, tmp_path: Path
) -> None:
    build(lambda: online(pair, plan, dtype=dtype), tmp_path)
    kept, live = CachedTeacher(tmp_path, plan, BOTH), online(pair, plan, dtype=dtype)
    assert kept.head is not None and live.head is not None
    for index in range(len(plan.items)):
        here, there = kept.taught(index), live.taught(index)
        assert here.hidden is not None and there.hidden is not None and here.hidden.dtype == getattr(torch, dtype)
        assert torch.equal(kept.head.logits(here.hidden), live.head.logits(there.hidden))
        assert torch.equal(here.logprob, there.logprob)  # type: ignore[arg-type]
        assert torch.equal(here.right, there.right)  # type: ignore[arg-type]


def test_facts_equal_those_of_the_models_own_logits(pair: dict[str, str], plan: Plan) -> None:
    settings = TrainSettings(device="cpu")
    model = load_old(resolve(pair["old"]), settings, "cpu")
    batch = plan.batch(0)
    with torch.no_grad():
        logits = model(input_ids=batch.ids).logits.flatten(0, 1)[batch.select]
    given = online(pair, plan).taught(0)
    wanted = torch.log_softmax(logits, -1).gather(-1, batch.targets[:, None]).squeeze(-1)
    assert torch.allclose(given.logprob, wanted, atol=1e-5)  # type: ignore[arg-type]
    assert torch.equal(given.right, logits.argmax(-1) == batch.targets)  # type: ignore[arg-type]


def test_only_what_is_wanted_is_kept(pair: dict[str, str], plan: Plan, tmp_path: Path) -> None:
    facts: Wants = frozenset({"facts"})
    build(lambda: online(pair, plan, facts), tmp_path)
    with safe_open(tmp_path / "batch-000000.safetensors", framework="pt") as file:
        assert set(file.keys()) == {"logprob", "right"}
    assert not (tmp_path / "head.safetensors").exists()
    assert CachedTeacher(tmp_path, plan, facts).taught(1).hidden is None


def test_the_estimate_is_what_the_files_take(pair: dict[str, str], plan: Plan, tmp_path: Path) -> None:
    build(lambda: online(pair, plan), tmp_path)
    taken = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    estimate = estimate_bytes(plan, BOTH, 16, 18, 4)
    assert estimate <= taken <= estimate + 300 * (len(plan.items) + 1), "but for the headers"


def test_an_interrupted_build_resumes_with_the_files_that_are_there(
    pair: dict[str, str], plan: Plan, tmp_path: Path
) -> None:
    asked: list[int] = []

    def teacher(stop: int | None) -> OnlineTeacher:
        made = online(pair, plan)
        taught = made.taught

        def counted(index: int) -> Any:
            if index == stop:
                raise KeyboardInterrupt
            asked.append(index)
            return taught(index)

        made.taught = counted  # type: ignore[method-assign, assignment]
        return made

    with pytest.raises(KeyboardInterrupt):
        build(lambda: teacher(5), tmp_path)
    assert not cache.complete(tmp_path)
    first = list(asked)
    asked.clear()
    build(lambda: teacher(None), tmp_path)
    assert cache.complete(tmp_path)
    assert asked[0] > 0 and len(asked) < len(plan.items), "some files were there"
    assert set(first) | set(asked) == set(range(len(plan.items)))
    build(lambda: pytest.fail("a complete cache opens no model"), tmp_path)


def test_the_key_covers_what_decides_the_content(plan: Plan, tmp_path: Path) -> None:
    from dataclasses import replace

    def key(fingerprint: str = "sha256:a", of: Plan = plan, wants: Wants = BOTH, *numbers: str) -> Path:
        dtype, device = numbers or ("torch.float32", "cpu")
        return cache.cache_folder(fingerprint, of, wants, dtype, device, tmp_path)

    assert key() == key()
    item = plan.items[0][0]
    row = replace(item.rows[0], ids=(*item.rows[0].ids[:-1], 3))
    other = replace(item, rows=(row, *item.rows[1:]))
    changed = replace(plan, items=((other, *plan.items[0][1:]), *plan.items[1:]))
    others = {
        key("sha256:b"), key(of=changed), key(wants=frozenset({"states"})), key(of=replace(plan, context_weight=0.0)),
        key("sha256:a", plan, BOTH, "torch.bfloat16", "cpu"), key("sha256:a", plan, BOTH, "torch.float32", "cuda"),
    }  # fmt: skip
    assert len({key(), *others}) == 7


def test_too_little_disk_is_said_before_anything_starts(
    pair: dict[str, str], choice_examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compatcheck_train.training.run import train

    monkeypatch.setattr(cache, "free_bytes", lambda folder: 10_000)
    own = TrainSettings(device="cpu", epochs=1, batch_size=4, cache_folder=tmp_path / "cache", new_teacher="online")
    with pytest.raises(InputError, match=r"caching the old model takes .* KB, 10.0 KB are free"):
        train(pair["old"], pair["new"], choice_examples, own.changed(teacher="cache"), tmp_path / "a")
    said: list[str] = []
    train(pair["old"], pair["new"], choice_examples, own, tmp_path / "b", say=said.append)
    assert any("so it runs in every step" in line for line in said)


def test_a_damaged_cache_says_which_folder(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "done.json").write_text("{")
    with pytest.raises(InputError, match="damaged teacher cache"):
        CachedTeacher(tmp_path, plan, BOTH)
