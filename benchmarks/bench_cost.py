"""The cost model of docs/scaling.md against what a run costs: the `hf` engine on models of two sizes.

Predicted: factor x 2 x parameters x tokens / rate, with the factors that docs/scaling.md states and the rate of a
matrix product measured in the same minute. One thread and processor time, so that a busy machine does not matter.
Run: python benchmarks/bench_cost.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import bench_engine  # noqa: E402
from benchmarks.models import save_tokenizer  # noqa: E402

SCORING = 1.5
"""Time of scoring choices over that of its bare matrix products."""
GENERATING = 6.5
"""The same of generation, where a product has as few rows as there are texts in flight (4 to 64 here)."""
SIZES = ((256, 688, 4, 256), (512, 1376, 8, 32), (768, 2048, 12, 16))
"""Width, width between, layers, documents."""


def save_model(folder: Path, width: int, between: int, layers: int) -> int:
    """A random Llama; returns the parameters of its layers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=save_tokenizer(folder), hidden_size=width, intermediate_size=between, num_hidden_layers=layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 64, max_position_embeddings=4096,
        bos_token_id=0, eos_token_id=1, pad_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return sum(weight.numel() for name, weight in model.named_parameters() if ".layers." in name)


def timed(work: Any, requests: list[Any]) -> tuple[float, float, Any]:
    """Seconds, and the rate of matrix products around them."""
    import torch

    before = bench_engine.gemm_rate(torch.float32)
    started = time.process_time()
    answers = work(requests)
    seconds = time.process_time() - started
    return seconds, (before + bench_engine.gemm_rate(torch.float32)) / 2, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    import torch

    from compatcheck.engines import open_engine

    torch.set_num_threads(1)
    bench_engine.clock = time.process_time
    found = []
    for width, between, layers, documents in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            body = save_model(Path(folder), width, between, layers)
            engine: Any = open_engine("hf", folder, dtype="float32", device="cpu")
        head = engine.model.lm_head.weight.numel()
        choices = bench_engine.multiple_choice(documents, 0, False)
        texts = bench_engine.few_shot_generation(max(documents // 4, 4))
        engine.loglikelihood(choices[:16])
        engine.generate_until(texts[:2])
        seconds, rate, _ = timed(engine.loglikelihood, choices)
        floor, _ = bench_engine.floor_of(engine, choices)
        found.append(_row("scoring", body, documents, floor, SCORING, rate, seconds))
        seconds, rate, answers = timed(engine.generate_until, texts)
        made = sum(len(engine.tokenizer.encode(answer)) for answer in answers)
        prompts = [engine.tokenizer.encode(request.args[0]) for request in texts]
        shared = min(map(len, prompts))
        while len({tuple(prompt[:shared]) for prompt in prompts}) > 1:
            shared -= 1
        seen = shared + sum(len(prompt) - shared for prompt in prompts)
        floor = 2.0 * (body * (seen + made) + head * (made + len(texts)))
        found.append(_row("generation", body, len(texts), floor, GENERATING, rate, seconds))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _row(
    work: str, body: int, documents: int, floor: float, factor: float, rate: float, seconds: float
) -> dict[str, Any]:
    predicted = factor * floor / rate
    row = {
        "work": work, "layer_parameters": body, "documents": documents, "gflop": floor / 1e9,
        "gflop_per_second": rate / 1e9, "predicted": predicted, "measured": seconds, "ratio": seconds / predicted,
        "over_floor": seconds * rate / floor,
    }  # fmt: skip
    print("{work:10} {layer_parameters:>11,} parameters  {documents:4} documents  {gflop:7.1f} GFLOP at "
          "{gflop_per_second:5.1f}/s  predicted {predicted:6.2f} s  measured {measured:6.2f} s  "
          "({over_floor:.2f} of the floor)".format(**row), flush=True)  # fmt: skip
    return row


if __name__ == "__main__":
    main()
