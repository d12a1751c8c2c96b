"""Settings of one side alone: each is applied to that side, said in the header, and part of the signature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.errors import InputError
from tests import tiny

Diff = Callable[..., compatcheck.Diff]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a chat template, and two tasks."""
    folder = tmp_path_factory.mktemp("sides")
    words = tiny.tokenizer(chat=tiny.CHAT)
    tiny.save(tiny.llama(words), words, folder / "model")
    tiny.tasks(folder, 12)
    return folder


@pytest.fixture
def diff(place: Path) -> Diff:
    """Compares the model with itself, under settings of either side."""

    def compared(**options: Any) -> compatcheck.Diff:
        options = {"task": str(place / "tinychoice.yaml"), "data": place / "data", "engine": "hf", **options}
        return compatcheck.diff(place / "model", place / "model", **options)

    return compared


def said(c: compatcheck.Diff) -> list[str]:
    assert c.differences is not None
    return [one.name for one in c.differences.found]


@pytest.mark.parametrize(
    ("setting", "name", "part"),
    [
        ({"dtype": "bfloat16"}, "dtype", "|dtype:float32/bfloat16|"),
        ({"batch_size": 3}, "batch size", "|batch_size:auto/3|"),
        ({"num-fewshot": 1}, "few-shot", "|fewshot:0/1|"),
        ({"apply-chat-template": True}, "chat template", "|chat_template:none/"),
        ({"engine-arg.max_length": 300}, "engine argument max_length", "|arguments:none/"),
    ],
    ids=["dtype", "batch size", "few-shot", "template", "engine argument"],
)
def test_each_alone_is_in_header_and_signature(diff: Diff, setting: dict[str, Any], name: str, part: str) -> None:
    c = diff(new_set=setting)
    assert said(c) == [name]
    assert part in c.comparisons[0].signature
    assert c.differences is not None
    assert c.differences.sentence == f"OLD and NEW differ in: {name}"


def test_equal_settings_give_equal_signatures_and_are_the_same(diff: Diff) -> None:
    both = diff(dtype="bfloat16", allow_same=True)
    apart = diff(old_set={"dtype": "bfloat16"}, new_set={"dtype": "bfloat16"}, allow_same=True)
    assert both.comparisons[0].signature == apart.comparisons[0].signature
    assert said(apart) == []
    loaded: list[str] = []
    with pytest.raises(InputError, match="OLD and NEW are the same"):
        diff(old_set={"dtype": "bfloat16"}, new_set={"dtype": "bfloat16"}, say=loaded.append)
    assert loaded == []
