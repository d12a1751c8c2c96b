"""One real model on real rows, by the hf engine or by lm-eval's own ``hf``: answers, seconds, peak memory.

    python -m benchmarks.real_parity GGUF ours|theirs DATA OUT [--rows N] [--texts N] [--dtype NAME]

A process for each, so that the peak is its own. lm-eval reads the GGUF file itself (``gguf_file=``) and gets the
tokenizer of the dequantised folder: transformers' reading of a GGUF file begins no text with BOS.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

CHOICES = ("piqa", "hellaswag")
MAX_GEN_TOKS = 32
STOP = ["\n\n", "Question:"]


def requests_of(data: Path, rows: int, texts: int) -> tuple[dict[str, list[Any]], dict[str, list[int]]]:
    """lm-eval's requests of each task, zero-shot, and of the choice tasks the right choices."""
    from lm_eval.api.instance import Instance

    from compatcheck.tasks import TaskOptions, load_tasks

    found: dict[str, list[Any]] = {}
    gold: dict[str, list[int]] = {}
    for task in CHOICES:
        (loaded,) = load_tasks([task], TaskOptions(data=data, limit=rows, num_fewshot=0))
        loaded.task.build_all_requests(limit=None, samples=loaded.indices, rank=0, world_size=1)
        found[task] = list(loaded.task.instances)
        gold[task] = [int(loaded.task.doc_to_target(each.doc)) for each in found[task] if each.idx == 0]
    (loaded,) = load_tasks(["gsm8k"], TaskOptions(data=data, limit=texts, num_fewshot=0))
    loaded.task.build_all_requests(limit=None, samples=loaded.indices, rank=0, world_size=1)
    wish = {"until": STOP, "do_sample": False, "max_gen_toks": MAX_GEN_TOKS}
    found["gsm8k"] = [
        Instance("generate_until", {}, (each.args[0], wish), 0, ("gsm8k", n, 1))
        for n, each in enumerate(loaded.task.instances)
    ]
    return found, gold


def open_model(file: Path, whose: str, dtype: str) -> Any:
    """The hf engine, or lm-eval's with one text at a time, so that no padding enters."""
    from compatcheck.engines import open_engine
    from compatcheck.models.gguf import folder_of

    if whose == "ours":
        return open_engine("hf", folder_of(file), dtype=dtype, device="cpu")
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder_of(file))
    return HFLM(
        pretrained=str(file.parent), gguf_file=file.name, tokenizer=tokenizer, device="cpu", dtype=dtype, batch_size=1
    )


def peak() -> int:
    """Largest resident size of this process in bytes, from the time it began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def measure(file: Path, whose: str, data: Path, rows: int, texts: int, dtype: str = "float32") -> dict[str, Any]:
    """Answers and seconds by task; ``peak`` in bytes."""
    start = time.perf_counter()
    model = open_model(file, whose, dtype)
    seconds = {"load": time.perf_counter() - start}
    requests, gold = requests_of(data, rows, texts)
    answers: dict[str, list[Any]] = {}
    for task, given in requests.items():
        start = time.perf_counter()
        if task in CHOICES:
            answers[task] = [[n, float(v)] for n, v in _scored(given, model.loglikelihood(given, disable_tqdm=True))]
        else:
            answers[task] = list(model.generate_until(given, disable_tqdm=True))
        seconds[task] = time.perf_counter() - start
    return {"answers": answers, "gold": gold, "seconds": seconds, "peak": peak(), "notes": getattr(model, "notes", [])}


def _scored(given: list[Any], found: list[tuple[float, bool]]) -> list[tuple[int, float]]:
    """(number of the document, log-likelihood) of each choice."""
    number, numbered = -1, []
    for request, (value, _) in zip(given, found, strict=True):
        number += request.idx == 0
        numbered.append((number, value))
    return numbered


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By task: the largest difference in log-likelihood and the documents with another choice, or the other texts."""
    found: dict[str, dict[str, Any]] = {}
    for task in CHOICES:
        pairs = list(zip(ours["answers"][task], theirs["answers"][task], strict=True))
        best = [_choices(side["answers"][task]) for side in (ours, theirs)]
        found[task] = {
            "documents": len(best[0]),
            "other": sum(a != b for a, b in zip(*best, strict=True)),
            "difference": max(abs(a[1] - b[1]) for a, b in pairs),
            "right": sum(a == b for a, b in zip(best[0], ours["gold"][task], strict=True)),
        }
    texts = list(zip(ours["answers"]["gsm8k"], theirs["answers"]["gsm8k"], strict=True))
    found["gsm8k"] = {"documents": len(texts), "other": sum(a != b for a, b in texts)}
    return found


def _choices(scored: list[list[Any]]) -> list[int]:
    """The choice with the highest log-likelihood, by document."""
    documents: dict[int, list[float]] = {}
    for number, value in scored:
        documents.setdefault(number, []).append(value)
    return [values.index(max(values)) for values in documents.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("file", "whose", "data", "out"):
        parser.add_argument(name, type=str if name == "whose" else Path)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--texts", type=int, default=10)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    figures = measure(given.file, given.whose, given.data, given.rows, given.texts, given.dtype)
    given.out.write_text(json.dumps(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
