"""``--metric kl`` against scoring both models on the same texts: one process, interleaved rounds; and peak memory.

    python -m benchmarks.bench_divergence [--quick] [--rounds N] [--texts N] [--wall] [--models OLD NEW]

Without ``--models`` two random 42-million-parameter Llamas. Both ways read the same tokens and make logits where the
same tokens are predicted; models are loaded before the clock starts. Seconds are of the processor unless ``--wall``
asks for the clock. Peaks are of processes of their own: one scores the texts with OLD, one makes the divergence with
one model after the other. Writes benchmarks/results/divergence.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.models import save_llama

RESULTS = Path(__file__).parent / "results" / "divergence.json"
START = 4
"""Tokens of a text that are read and not counted."""


def texts_of(count: int, vocabulary: int) -> list[Any]:
    """Texts of 40 to 160 random tokens."""
    from compatcheck.engines.hf.states import Text

    rng = random.Random(0)
    return [
        Text(tuple(rng.randrange(10, vocabulary) for _ in range(rng.randrange(40, 160))), START) for _ in range(count)
    ]


def score(engine: Any, texts: list[Any]) -> list[float]:
    """The log-likelihood of every text."""
    pairs = [(None, list(text.tokens[: text.start]), list(text.tokens[text.start :])) for text in texts]
    return [value for value, _ in engine._loglikelihood_tokens(pairs)]


def keep(engine: Any, texts: list[Any], folder: Path) -> Any:
    """OLD's states, written as a comparison writes them."""
    from compatcheck.engines.hf.kept_states import KeptStates, blocks
    from compatcheck.engines.hf.states import output_layer

    kept = KeptStates(folder)
    head = output_layer(engine, texts[0].tokens[:32])
    kept.write_head(head)
    for number, block in enumerate(blocks(texts, "cpu")):
        kept.write_block(number, engine.states([texts[place] for place in block]))
    kept.finish(head, {})
    return kept


def against(engine: Any, texts: list[Any], kept: Any) -> tuple[float, list[float]]:
    """The mean divergence, and NEW's log-likelihood of every text, to see that both ways did the same."""
    import torch

    from compatcheck.engines.hf.divergence import States, compare_states
    from compatcheck.engines.hf.kept_states import blocks
    from compatcheck.engines.hf.states import output_layer

    head = output_layer(engine, texts[0].tokens[:32])
    size = sum(each.numel() * each.element_size() for each in engine.base.parameters())
    total, scores = 0.0, list[float]()
    for number, block in enumerate(blocks(texts, "cpu")):
        mine = [texts[place] for place in block]
        follows = torch.tensor([token for text in mine for token in text.tokens[text.start :]])
        new = States(engine.states(mine), head.part)
        found = compare_states(kept.read(number, engine.device, size), new, follows, head.vocabulary)
        total += float(found.kl.sum())
        scores += [float(part.sum()) for part in found.new.split([text.count for text in mine])]
    return total / sum(text.count for text in texts), scores


def loaded(path: str) -> Any:
    from compatcheck.engines import open_engine
    from compatcheck.models import gguf

    file = gguf.locate(path)
    return open_engine("hf", gguf.folder_of(file) if file else path, dtype="float32", device="cpu")


def peak(way: str, old: str, new: str, count: int) -> None:
    """What one process needs at most, in MB, printed: with one model loaded, and after its work."""
    engine = loaded(old)
    texts = texts_of(count, len(engine.tokenizer))
    if way == "score":
        score(engine, texts)
    else:
        with tempfile.TemporaryDirectory() as folder:
            kept = keep(engine, texts, Path(folder))
            engine.close()
            against(loaded(new), texts, kept)
    # not getrusage: what a process is started by counts there
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)


def timed(clock: Callable[[], float], work: Callable[[], Any]) -> tuple[float, Any]:
    begun = clock()
    given = work()
    return clock() - begun, given


def measure(old: str, new: str, count: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    engines = [loaded(path) for path in (old, new)]
    texts = texts_of(count, len(engines[0].tokenizer))
    ratios, apart = [], 0.0
    for number in range(rounds + 1):  # the first one warms up
        with tempfile.TemporaryDirectory() as folder:
            scoring, scores = timed(clock, lambda: [score(engine, texts) for engine in engines])
            reading, kept = timed(clock, lambda: keep(engines[0], texts, Path(folder)))
            comparing, (mean, mine) = timed(clock, lambda: against(engines[1], texts, kept))  # noqa: B023
        apart = max(apart, *(abs(a - b) for a, b in zip(scores[1], mine, strict=True)))
        if number:
            ratios.append(((reading + comparing) / scoring, comparing / scoring))
            print(
                f"scoring {scoring:.2f} s, OLD's states {reading:.2f} s, NEW against them {comparing:.2f} s", flush=True
            )
    whole, again = ([each[n] for each in ratios] for n in (0, 1))
    return {
        "texts": count, "tokens": sum(text.count for text in texts), "mean kl": mean,
        "largest difference of a log-likelihood": apart, "time over scoring both": statistics.median(whole),
        "rounds": whole, "with OLD's states kept": statistics.median(again),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--models", nargs=2, metavar=("OLD", "NEW"))
    parser.add_argument("--peak", choices=("score", "kl"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    rounds, count = (1, 30) if given.quick else (given.rounds, given.texts)
    if given.peak:
        peak(given.peak, *given.models, given.texts)
        return
    with tempfile.TemporaryDirectory() as folder:
        models = given.models
        if models is None:
            models = [f"{folder}/old", f"{folder}/new"]
            for seed, path in enumerate(models):
                save_llama(Path(path), seed)
        figures = measure(*models, count, rounds, time.perf_counter if given.wall else time.process_time)
        peaks = {}
        for way in ("score", "kl"):
            command = [sys.executable, "-m", "benchmarks.bench_divergence", "--peak", way, "--texts", str(count)]
            done = subprocess.run([*command, "--models", *models], capture_output=True, text=True, check=True)
            peaks[way] = float(done.stdout.split()[-1])
        figures |= {"peak MB": peaks, "memory over scoring with one": peaks["kl"] / peaks["score"]}
    print(json.dumps(figures, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
