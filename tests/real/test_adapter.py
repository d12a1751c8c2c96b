"""A LoRA adapter that ``train-task`` makes on a GGUF file, and its diff against the file itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from compatcheck.cli.app import run
from compatcheck.evaluation.evaluate import evaluate_jobs
from compatcheck.evaluation.grouping import EngineOptions, Job
from compatcheck.references import resolve
from compatcheck.tasks import TaskOptions, load_tasks

ROWS = 8


def by_peft(file: Path, adapter: Path, requests: list[Any]) -> list[float]:
    """Log-likelihoods of continuations, by transformers and PEFT alone, from the file itself."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(adapter)).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    found = []
    for request in requests:
        context, continuation = request.args
        start = len(tokenizer(context)["input_ids"])
        tokens = torch.tensor([tokenizer(context + continuation)["input_ids"]])
        with torch.inference_mode():
            chances = model(input_ids=tokens).logits[0, start - 1 : -1].log_softmax(-1)
        found.append(float(chances.gather(1, tokens[0, start:, None]).sum()))
    return found


@pytest.mark.slow
def test_an_adapter_trained_on_a_file(smollm2: Path, shared: Path, tmp_path: Path) -> None:
    given = ["--task", "piqa", "--data", str(shared), "-q"]
    settings = [
        "--train-limit",
        "64",
        "--drop-overlap",
        "--preset",
        "quick",
        "--set",
        "epochs=1",
        "--set",
        "lora_rank=4",
    ]
    assert run(["train-task", str(smollm2), *given, *settings, "--out", str(tmp_path / "task")]) == 0
    adapter = tmp_path / "task" / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(smollm2.resolve())
    reference = resolve(str(adapter))
    assert (reference.kind, reference.gguf, reference.quantization) == ("adapter", smollm2.resolve(), "Q4_1")

    out = tmp_path / "out"
    command = [
        "diff",
        str(smollm2),
        str(adapter),
        *given,
        "--num-fewshot",
        "0",
        "--limit",
        str(ROWS),
        "--out",
        str(out),
    ]
    assert run([*command, "--engine", "hf"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert [report[side]["engine"]["quantization"] for side in ("old", "new")] == ["GGUF Q4_1"] * 2
    assert report["old"]["fingerprint"] != report["new"]["fingerprint"]

    (task,) = load_tasks(["piqa"], TaskOptions(data=shared, limit=ROWS, num_fewshot=0))
    (done,) = evaluate_jobs([Job("new", reference, task, EngineOptions(engine="hf"))])
    task.task.build_all_requests(limit=None, samples=task.indices, rank=0, world_size=1)
    mine = [value for row in done.runs[0].records["loglikelihoods"] for value in row]
    assert mine == pytest.approx(by_peft(smollm2, adapter, list(task.task.instances)), abs=2e-3)
