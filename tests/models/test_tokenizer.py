from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compatcheck.models.tokenizer import differences, folder_for
from tests.engines.adapters import tokenizer

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}{% endfor %}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_without_a_tokenizer_takes_the_base_s(base: Path, adapter: Path) -> None:
    assert differences(base, adapter) == []
    assert folder_for(base, adapter) == folder_for(base, None) == base


def test_the_same_tokenizer_written_otherwise_is_the_same(base: Path, adapter: Path) -> None:
    tokenizer().save_pretrained(adapter)
    change(adapter / "tokenizer_config.json", padding_side="left", model_max_length=77, bos_token={"content": "<s>"})
    whole = json.loads((adapter / "tokenizer.json").read_text())
    whole["padding"] = {"strategy": "BatchLongest"}
    whole["model"]["merges"] = [" ".join(pair) for pair in whole["model"]["merges"]]
    (adapter / "tokenizer.json").write_text(json.dumps(whole))
    assert differences(base, adapter) == []


def test_tokens_that_were_added_count(base: Path, adapter: Path) -> None:
    grown = tokenizer()
    grown.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    grown.save_pretrained(adapter)
    assert "vocabulary" in differences(base, adapter)
    assert folder_for(base, adapter) == adapter


def test_another_beginning_of_texts_counts(base: Path, adapter: Path) -> None:
    tokenizer().save_pretrained(adapter)
    change(adapter / "tokenizer_config.json", bos_token="</s>")
    assert differences(base, adapter) == ["special tokens"]


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json", "chat_template.json"])
def test_a_chat_template_alone_is_laid_over_the_base_s_tokenizer(where: str, base: Path, adapter: Path) -> None:
    from transformers import AutoTokenizer

    text = TEMPLATE if where.endswith(".jinja") else json.dumps({"chat_template": TEMPLATE})
    (adapter / where).write_text(text)
    assert differences(base, adapter) == ["chat template"]
    made = AutoTokenizer.from_pretrained(folder_for(base, adapter))
    assert made.apply_chat_template([{"role": "user", "content": "red"}], tokenize=False) == "<user> red"
    assert made("red stone")["input_ids"] == tokenizer()("red stone")["input_ids"]
    assert folder_for(base, adapter) == folder_for(base, adapter) != base
