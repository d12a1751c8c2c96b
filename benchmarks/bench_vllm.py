"""The vLLM engine against lm-eval's ``hf``, against our ``hf`` engine, and against bare ``LLM.generate``.

    python benchmarks/bench_vllm.py [--quick] [--rounds N] [--device cpu|cuda] [--only NAME]

Four questions, each with peers in the same run on the same prompts:

1. few-shot generation against lm-eval's ``hf`` and our ``hf`` engine, vLLM's start-up excluded and included, and the
   number of documents at which vLLM, started for them, has caught up with each (from the measured seconds a document);
2. the engine against bare ``LLM.generate`` on the same prompts, start-up excluded;
3. two adapters on one base in one engine against two engines of one adapter each, start-up included;
4. texts of all of these, compared.

Prints a table and writes benchmarks/results/vllm-<device>.json. Needs nothing but the repository and its packages; on a
machine with a GPU and vLLM's CUDA build the models there are larger (``--device cuda``, taken by itself).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.models import save_llama, text, words  # noqa: E402

RESULTS = Path(__file__).parent / "results"
SHOTS, SHOT_WORDS, QUESTION_WORDS, NEW_TOKENS = 5, 100, 30, 64
BARE = """
import json, sys, time
from vllm import LLM, SamplingParams, TokensPrompt
if __name__ == "__main__":
    given = json.load(open(sys.argv[1]))
    llm = LLM(**given["arguments"])
    for prompts in given["rounds"]:
        params = [SamplingParams(temperature=0, max_tokens=given["most"], ignore_eos=False) for _ in prompts]
        started = time.perf_counter()
        found = llm.generate([TokensPrompt(prompt_token_ids=p) for p in prompts], params, use_tqdm=False)
        print("BARE", json.dumps([time.perf_counter() - started, [list(o.outputs[0].token_ids) for o in found]]))
"""


def few_shot(documents: int, seed: int) -> list[Any]:
    """Requests with five examples that all of them share (the same in every set) and a question of their own."""
    from lm_eval.api.instance import Instance

    fixed, rng, vocabulary = random.Random(7), random.Random(seed), words()
    examples = "".join(f"Question: {text(fixed, vocabulary, SHOT_WORDS)}\n\n" for _ in range(SHOTS))
    arguments = {"until": ["\n\n"], "max_gen_toks": NEW_TOKENS, "do_sample": False}
    return [
        Instance(
            "generate_until",
            {},
            (f"{examples}Question: {text(rng, vocabulary, QUESTION_WORDS)}\nAnswer:", dict(arguments)),
            0,
            ("bench", number, 1),
        )
        for number in range(documents)
    ]


def save_adapters(base: Path, folder: Path) -> dict[str, Path]:
    """Two LoRA adapters of rank 16 on all linear layers, random but not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    found = {}
    for seed, name in enumerate(("old", "new")):
        torch.manual_seed(seed)
        config = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.02)
        model.save_pretrained(folder / name)
        found[name] = folder / name
    return found


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def generation(model: Path, documents: int, rounds: int, device: str, folder: Path) -> dict[str, Any]:
    """Questions 1 and 2."""
    from lm_eval.models.huggingface import HFLM

    from compatcheck.engines import open_engine

    dtype = "float32" if device == "cpu" else "bfloat16"
    # The first set, a small one, warms up and does not count.
    sets = [few_shot(documents if seed else min(16, documents), seed) for seed in range(rounds + 1)]
    started = time.perf_counter()
    vllm: Any = open_engine("vllm", model, dtype=dtype, log_file=folder / "vllm.log")
    vllm.activate(None)
    vllm.wait()
    start_up = time.perf_counter() - started
    engine_seconds, engine_texts = zip(*(timed(lambda s=s: vllm.generate_until(s)) for s in sets), strict=True)
    prompts = [[vllm_tokens(vllm, model, request.args[0]) for request in s] for s in sets]
    arguments = dict(vllm._arguments)
    vllm.close()
    bare_seconds, bare_tokens = bare(model, arguments, prompts, folder)
    hf: Any = open_engine("hf", model, dtype=dtype, device=device)
    own = [timed(lambda s=s: hf.generate_until(s)) for s in sets]
    hf.close()
    peer = HFLM(pretrained=str(model), device=device, dtype=dtype, batch_size=16 if device == "cpu" else "auto")
    theirs = [timed(lambda s=s: peer.generate_until(s, disable_tqdm=True)) for s in sets]
    middle = lambda seconds: statistics.median(seconds[1:])  # noqa: E731
    ours, hf_own, hf_peer = middle(engine_seconds), middle([s for s, _ in own]), middle([s for s, _ in theirs])
    differ = sum(a != b for (_, x), y in zip(own[1:], engine_texts[1:], strict=True) for a, b in zip(x, y, strict=True))
    cut = peer.tokenizer
    bare_texts = [[cut.decode(ids, skip_special_tokens=True).split("\n\n")[0] for ids in one] for one in bare_tokens]
    bare_differ = sum(
        a != b for x, y in zip(bare_texts[1:], engine_texts[1:], strict=True) for a, b in zip(x, y, strict=True)
    )
    return {
        "documents": documents,
        "prompt_tokens": statistics.mean(len(p) for p in prompts[1]),
        "start_up_seconds": start_up,
        "vllm_seconds": ours,
        "bare_vllm_seconds": middle(bare_seconds),
        "our_hf_seconds": hf_own,
        "lm_eval_hf_seconds": hf_peer,
        "over_lm_eval_hf": statistics.median(t / v for (t, _), v in zip(theirs[1:], engine_seconds[1:], strict=True)),
        "over_our_hf": statistics.median(t / v for (t, _), v in zip(own[1:], engine_seconds[1:], strict=True)),
        "all_documents": documents * rounds,
        "over_lm_eval_hf_start_up_included": sum(t for t, _ in theirs[1:]) / (start_up + sum(engine_seconds[1:])),
        "over_our_hf_start_up_included": sum(t for t, _ in own[1:]) / (start_up + sum(engine_seconds[1:])),
        "overhead_over_bare": statistics.median(
            v / b for v, b in zip(engine_seconds[1:], bare_seconds[1:], strict=True)
        )
        - 1,
        "documents_to_overtake_lm_eval_hf": overtakes(start_up, documents, ours, hf_peer),
        "documents_for_twice_lm_eval_hf": overtakes(start_up, documents, ours, hf_peer / 2),
        "documents_to_overtake_our_hf": overtakes(start_up, documents, ours, hf_own),
        "texts_that_differ_from_our_hf": differ,
        "texts_that_differ_from_bare_vllm": bare_differ,
    }


def overtakes(start_up: float, documents: int, ours: float, theirs: float) -> int | None:
    """Documents from which ``start_up`` and our seconds are less than theirs; None where that is never."""
    gain = (theirs - ours) / documents
    return round(start_up / gain) if gain > 0 else None


def vllm_tokens(_: Any, model: Path, prompt: str, cache: dict[str, Any] = {}) -> list[int]:  # noqa: B006
    from transformers import AutoTokenizer

    tokenizer = cache.setdefault(str(model), None) or AutoTokenizer.from_pretrained(model)
    cache[str(model)] = tokenizer
    return list(tokenizer(prompt)["input_ids"])


def bare(model: Path, arguments: dict[str, Any], prompts: list[Any], folder: Path) -> tuple[list[float], list[Any]]:
    """``LLM.generate`` in a process of its own, with the settings that the engine chose, but no logits processor."""
    kept = {name: value for name, value in arguments.items() if name != "logits_processors"}
    order = {"arguments": {"model": str(model), **kept}, "rounds": prompts, "most": NEW_TOKENS}
    (folder / "bare.json").write_text(json.dumps(order))
    script = folder / "bare.py"
    script.write_text(BARE)
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "VLLM_USE_V2_MODEL_RUNNER": "0"}
    if "kv_cache_memory_bytes" in arguments:
        environment.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    command = [sys.executable, str(script), str(folder / "bare.json")]
    with (folder / "bare.log").open("wb") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, env=environment, check=True, text=True)
    lines = [json.loads(line.removeprefix("BARE ")) for line in done.stdout.splitlines() if line.startswith("BARE ")]
    return [seconds for seconds, _ in lines], [tokens for _, tokens in lines]


def two_adapters(model: Path, documents: int, device: str, folder: Path) -> dict[str, Any]:
    """Question 3."""
    from compatcheck.engines import open_engine

    dtype = "float32" if device == "cpu" else "bfloat16"
    adapters = save_adapters(model, folder / "adapters")
    requests = few_shot(documents, 1)

    def together() -> list[list[str]]:
        engine: Any = open_engine("vllm", model, adapters, dtype=dtype, log_file=folder / "both.log")
        found = []
        for name in adapters:
            engine.activate(name)
            found.append(engine.generate_until(requests))
        engine.close()
        return found

    def apart() -> list[list[str]]:
        found = []
        for name, path in adapters.items():
            engine: Any = open_engine("vllm", model, {name: path}, dtype=dtype, log_file=folder / f"{name}.log")
            engine.activate(name)
            found.append(engine.generate_until(requests))
            engine.close()
        return found

    one, joint = timed(together)
    two, single = timed(apart)
    texts = [(a, b) for x, y in zip(joint, single, strict=True) for a, b in zip(x, y, strict=True)]
    return {
        "documents": documents,
        "one_engine_seconds": one,
        "two_engines_seconds": two,
        "one_over_two": one / two,
        "texts": len(texts),
        "texts_that_differ": sum(a != b for a, b in texts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few documents and rounds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--device", choices=["cpu", "cuda"])
    parser.add_argument("--only", choices=["generation", "adapters"])
    parser.add_argument("--documents", type=int)
    given = parser.parse_args()
    import torch

    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    documents = given.documents or (16 if given.quick else 64 if device == "cpu" else 512)
    rounds = given.rounds or (1 if given.quick else 3)
    figures: dict[str, Any] = {"device": device, "machine": machine(device)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        figures["parameters"] = save_llama(folder / "model")
        if given.only in (None, "generation"):
            figures["generation"] = generation(folder / "model", documents, rounds, device, folder)
            show(figures["generation"])
        if given.only in (None, "adapters"):
            figures["adapters"] = two_adapters(folder / "model", documents, device, folder)
            show(figures["adapters"])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"vllm-{device}.json").write_text(json.dumps(figures, indent=2) + "\n")


def machine(device: str) -> str:
    import platform

    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        print(f"  {name.replace('_', ' '):36} {value:.2f}" if isinstance(value, float) else f"  {name:36} {value}")
    print(flush=True)


if __name__ == "__main__":
    main()
