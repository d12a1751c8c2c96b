"""``--metric kl`` from end to end: what it gives, what it keeps, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import compatcheck
from compatcheck.errors import InputError
from tests import tiny

LIMIT = 6


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of one tokenizer, one of another, adapters, and two tasks."""
    folder = tmp_path_factory.mktemp("kl")
    words = tiny.tokenizer(chat=tiny.CHAT)
    tiny.save(tiny.llama(words), words, folder / "old")
    tiny.save(tiny.llama(words, seed=1), words, folder / "new")
    other = tiny.tokenizer(bos="<begin>")
    tiny.save(tiny.llama(other), other, folder / "other")
    tiny.adapter(folder / "old", folder / "adapter")
    tiny.tasks(folder)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPATCHECK_CACHE", str(tmp_path / "cache"))


def diff(place: Path, new: str = "new", task: str = "tinychoice", **given: Any) -> compatcheck.Diff:
    given = {"metric": ["kl"], "limit": LIMIT, **given}
    old = given.pop("old", place / "old")
    return compatcheck.diff(
        old, place / new, task=str(place / f"{task}.yaml"), data=place / "data", num_fewshot=0, **given
    )


def plain(place: Path, new: str, texts: list[str], prompts: list[str]) -> np.ndarray[Any, Any]:
    """KL at every token of the texts, by whole forwards in float64."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words = AutoTokenizer.from_pretrained(place / "old")
    old, other = (AutoModelForCausalLM.from_pretrained(place / name, dtype=torch.float64) for name in ("old", new))
    found = []
    for text in texts:
        given = torch.tensor([words(text)["input_ids"]])
        with torch.inference_mode():
            one, two = (model(given).logits[0].log_softmax(-1) for model in (old, other))
        found.append((one.exp() * (one - two)).sum(-1)[:-1].numpy())
    assert all(text.startswith(prompt) for text, prompt in zip(texts, prompts, strict=True))
    return np.concatenate(found)


def rows(place: Path, task: str) -> list[dict[str, Any]]:
    lines = (place / "data" / task / "test.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines][:LIMIT]


def test_choices_are_read_with_the_right_one(place: Path) -> None:
    result = diff(place)
    (one,) = result.comparisons
    assert one.kl is not None
    prompts = [tiny.PROMPT.format(row["question"]) for row in rows(place, "tinychoice")]
    texts = [f"{p} {row['choices'][row['label']]}" for p, row in zip(prompts, rows(place, "tinychoice"), strict=True)]
    expected = plain(place, "new", texts, prompts)
    assert one.metrics["kl"].value == pytest.approx(expected.mean(), abs=1e-5)
    assert one.kl.percentiles["max"] == pytest.approx(expected.max(), abs=1e-4)
    assert (one.kl.tokens, one.kl.documents, one.kl.texts) == (len(expected), LIMIT, "prompt and right choice")
    worst = one.kl.worst[0]
    assert worst.kl == pytest.approx(expected.max(), abs=1e-4)
    assert f"{worst.before}{worst.token}" in texts[int(worst.doc_id)]


def test_generating_tasks_are_read_with_olds_answer(place: Path) -> None:
    result = diff(place, task="tinygen")
    (one,) = result.comparisons
    assert one.kl is not None and one.kl.texts == "prompt and OLD's answer"
    prompts = [tiny.PROMPT.format(row["question"]) for row in rows(place, "tinygen")]
    frame = one.instances.sort_values("doc_id")
    answers = [next((text for text in pair if isinstance(text, str)), "")
               for pair in zip(frame["response_old"], frame["prediction_old"], strict=True)]  # fmt: skip
    expected = plain(place, "new", [f"{p}{a}" for p, a in zip(prompts, answers, strict=True)], prompts)
    assert one.metrics["kl"].value == pytest.approx(expected.mean(), abs=1e-4)


def test_few_shot_examples_and_the_template_are_read_and_not_counted(place: Path) -> None:
    plainly, chat = diff(place).comparisons[0], diff(place, apply_chat_template=True).comparisons[0]
    assert plainly.kl is not None and chat.kl is not None
    assert plainly.kl.tokens < chat.kl.tokens < plainly.kl.tokens + LIMIT * 8  # "\nassistant:" follows the question
    assert plainly.metrics["kl"].value != chat.metrics["kl"].value


def test_old_is_read_once_and_kept(place: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first = diff(place, say=said.append)
    made = sorted((tmp_path / "cache" / "states").rglob("*"))
    assert any(path.name == "done.json" for path in made)
    again = diff(place, say=(more := list[str]()).append)
    assert again.comparisons == first.comparisons
    assert sorted((tmp_path / "cache" / "states").rglob("*")) == made
    assert sum("loading" in line for line in more) == 1  # NEW alone: answers are stored, and so are OLD's states
    assert diff(place, limit=LIMIT - 1).comparisons[0].kl != first.comparisons[0].kl


def test_an_adapter_beside_its_base_and_one_budget(place: Path, tmp_path: Path) -> None:
    result = diff(place, "adapter", fail_on=["kl:0.0001"], limit=None)
    assert result.comparisons[0].metrics["kl"].value > 0  # type: ignore[operator]
    assert result.verdict == "inconclusive"  # 8 documents
    result.save(tmp_path / "kept")
    assert compatcheck.load(tmp_path / "kept").comparisons == result.comparisons
    kept = json.loads((tmp_path / "kept" / "report.json").read_text())["comparisons"][0]
    assert set(kept["kl"]) == {"texts", "documents", "tokens", "percentiles", "same_top", "perplexity_old",
                               "perplexity_new", "perplexity_ratio", "worst"}  # fmt: skip


def test_the_same_model_diverges_by_nothing(place: Path) -> None:
    (one,) = diff(place, "old", allow_same=True).comparisons
    assert one.kl is not None
    assert (one.metrics["kl"].value, one.kl.percentiles["max"], one.kl.same_top.value) == (0.0, 0.0, 1.0)
    assert one.kl.perplexity_ratio.value == 1.0


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"new": "other"}, "one vocabulary"),
        ({"engine": "vllm"}, "--engine hf"),
        ({"engine": "ray"}, "--engine hf"),
        ({"until_decided": True, "fail_on": ["nfr:2%"]}, "exclude each other"),
    ],
)
def test_what_it_cannot_be_made_of_is_one_line(given: dict[str, Any], why: str, place: Path) -> None:
    with pytest.raises(InputError, match=why) as error:
        diff(place, **given)
    assert "\n" not in str(error.value)


def test_recorded_sides_and_single_runs_are_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text('{"id": 0, "target": "a", "prediction": "a"}\n')
    with pytest.raises(InputError, match="recorded"):
        diff(place, old=tmp_path / "old.jsonl")
    with pytest.raises(InputError, match="compatcheck diff"):
        compatcheck.evaluate(place / "old", task=str(place / "tinychoice.yaml"), data=place / "data", metric=["kl"])
