"""A whole model and adapter to damage, one run of the damaged one, and what plain transformers makes of it."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from compatcheck.cli.app import run
from tests import tiny
from tests.fuzz.mutations import mutate

FILES = (
    "base/config.json", "base/tokenizer.json", "base/tokenizer_config.json", "base/generation_config.json",
    "base/model.safetensors.index.json", "base/model-00002-of-00003.safetensors", "base/chat_template.jinja",
    "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
)  # fmt: skip
DOCUMENTS = 3


def build(folder: Path) -> Path:
    """The whole folders: a Llama in three files that samples by default, an adapter on it, two tasks."""
    words = tiny.tokenizer(chat=tiny.CHAT)
    model = tiny.llama(words)
    model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.9)
    tiny.save(model, words, folder / "base", max_shard_size="60KB")
    tiny.adapter(folder / "base", folder / "adapter")
    tiny.tasks(folder, DOCUMENTS)
    missing = [file for file in FILES if not (folder / file).is_file()]
    assert not missing, missing
    return folder


@dataclass(frozen=True)
class Outcome:
    """What one damaged folder led to."""

    number: int
    file: str
    done: str
    code: int
    said: str
    chat: bool
    written: list[str]
    """Files outside the folder of the run that changed or appeared."""
    kept: Path

    def __str__(self) -> str:
        return f"#{self.number} {self.done} (chat {self.chat}) -> {self.code}: {self.said[-800:]}"


def attempt(number: int, whole: Path, folder: Path, capture: pytest.CaptureFixture[str]) -> Outcome:
    """Damage a copy of the whole folders and evaluate it with the command line."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    file = FILES[number % len(FILES)]
    done = mutate(folder, file, number)
    chat = "chat_template" in file or number % 4 == 3
    before = _contents(folder)
    capture.readouterr()
    out = folder / "out"
    code = run(
        [
            "run", str(folder / file.partition("/")[0]), "--task", str(folder / "tinychoice.yaml"),
            "--task", str(folder / "tinygen.yaml"), "--data", str(folder / "data"), "--engine", "hf", "--no-store",
            "--quiet", "--out", str(out), *(["--apply-chat-template"] if chat else []),
        ]
    )  # fmt: skip
    said = capture.readouterr().err
    after = _contents(folder)
    written = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return Outcome(number, file, done, int(code), said, chat, written, out)


def _contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and folder / "out" not in path.parents]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def complaint(outcome: Outcome) -> str:
    """What is wrong with an outcome, whatever the damage was; empty where nothing is."""
    lines = outcome.said.strip().splitlines()
    if outcome.code not in (0, 2, 3):
        return f"exit code {outcome.code}"
    if "Traceback" in outcome.said or "panicked" in outcome.said:
        return "a traceback"
    if outcome.written:
        return f"written outside --out: {outcome.written}"
    if outcome.code == 2:
        if len(lines) != 1 or not lines[0].startswith("error: "):
            return "not one line of an error"
        if Path(outcome.file).name not in lines[0] and "scores that are not finite" not in lines[0]:
            return "the file is not named"  # no single file makes a model's scores overflow
        if outcome.kept.exists() and any(outcome.kept.iterdir()):
            return f"half-written: {[path.name for path in outcome.kept.iterdir()]}"
    return ""


def difference(outcome: Outcome, folder: Path, rows: list[dict[str, Any]]) -> str:
    """In what a run that went through differs from plain transformers and PEFT on the same folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        words = AutoTokenizer.from_pretrained(folder / "base")
        model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype="float32")
        if outcome.file.startswith("adapter/"):
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(folder / "adapter"))
        model.eval()
    except Exception as error:
        return f"transformers does not load it: {type(error).__name__}: {error}"
    prompts = [tiny.PROMPT.format(row["question"]) for row in rows]
    if outcome.chat:
        talks = [[{"role": "user", "content": prompt}] for prompt in prompts]
        prompts = [words.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) for talk in talks]
    records = pd.read_parquet(outcome.kept / "records.parquet")
    scored = _of(records, "tinychoice")["loglikelihoods"]
    for row, prompt, given in zip(rows, prompts, scored, strict=True):
        truth = tiny.loglikelihoods(model, words, prompt, row["choices"], "" if outcome.chat else " ")
        if list(given) != pytest.approx(truth, abs=1e-4):
            return f"log-likelihoods {list(given)}, not {truth}"
    return _text_difference(model, words, prompts, _of(records, "tinygen")["prediction"].tolist())


def _of(records: pd.DataFrame, task: str) -> pd.DataFrame:
    mine = records[records["task"] == task]
    return mine.assign(number=mine["doc_id"].astype(int)).sort_values("number")


def _text_difference(model: Any, words: Any, prompts: list[str], texts: list[str]) -> str:
    import torch

    for read, text in zip(prompts, texts, strict=True):
        prompt = torch.tensor([words(read)["input_ids"]])
        written = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False,
            pad_token_id=0, use_cache=True,  # a configuration with use_cache = 0 makes transformers lose its place
        )[0][prompt.shape[1] :]  # fmt: skip
        ends = [words.eos_token_id] if words.eos_token_id is not None else []
        until = next((n for n, token in enumerate(written.tolist()) if token in ends), len(written))
        truth = words.decode(written[:until], skip_special_tokens=True).split("\n")[0]
        if text != truth:
            return f"text {text!r}, not {truth!r}"
    return ""
