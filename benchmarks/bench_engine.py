"""The hf engine against lm-eval's own ``hf`` backend: same process, same weights, same dtype, interleaved rounds.

    python benchmarks/bench_engine.py [--quick] [--rounds N] [--threads N | --cpu-time] [--dtype NAME]

Prints a table of medians of ratios and writes benchmarks/results/engine.json. Scores and texts of both sides are
compared too, so that a ratio is never that of a wrong answer.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.models import save_llama, text, words

clock: Callable[[], float] = time.perf_counter
RESULTS = Path(__file__).parent / "results" / "engine.json"


@dataclass
class Case:
    """One workload and what is asked of it.

    ``floor``: floating-point operations on the parameters that cannot be avoided; ``floor_attention``: those between
    the tokens, at half of every square because later tokens are not seen.
    """

    name: str
    requests: list[Any]
    least_ratio: float
    generates: bool = False
    floor: float = 0.0
    floor_attention: float = 0.0
    most_over_floor: float | None = None
    ratios: list[float] = field(default_factory=list)
    own_seconds: list[float] = field(default_factory=list)
    their_seconds: list[float] = field(default_factory=list)
    over_floor: list[float] = field(default_factory=list)
    over_floor_with_attention: list[float] = field(default_factory=list)
    difference: float = 0.0
    greedy_apart: int = 0


def multiple_choice(documents: int, shots: int, fixed: bool, seed: int = 0) -> list[Any]:
    """HellaSwag-shaped: contexts of 60 words, four endings of 20; ``shots`` examples of 80 words before a context."""
    from lm_eval.api.instance import Instance

    rng, vocabulary = random.Random(seed), words()

    def examples() -> str:
        return "".join(text(rng, vocabulary, 80) + ".\n\n" for _ in range(shots))

    same = examples()
    requests = []
    for document in range(documents):
        context = (same if fixed else examples()) + text(rng, vocabulary, 60)
        requests += [
            Instance("loglikelihood", {}, (context, " " + text(rng, vocabulary, 20)), choice, ("bench", document, 1))
            for choice in range(4)
        ]
    return requests


def few_shot_generation(documents: int, seed: int = 0) -> list[Any]:
    """Five shared examples of 100 words, a question of 40, and outputs of 8 to 96 tokens.

    A random model never stops by itself: a limit for each request, drawn from few values, stands for its stop string.
    """
    from lm_eval.api.instance import Instance

    rng, vocabulary = random.Random(seed), words()
    shots = "".join(text(rng, vocabulary, 100) + ".\n\n" for _ in range(5))
    return [
        Instance(
            "generate_until", {},
            (shots + text(rng, vocabulary, 40), {"until": ["\n\n"], "max_gen_toks": rng.choice((8, 24, 48, 96))}),
            0, ("bench", document, 1),
        )
        for document in range(documents)
    ]  # fmt: skip


def floor_of(engine: Any, requests: list[Any]) -> tuple[float, float]:
    """2 x parameters x tokens that must be seen once (the output layer only at rows that predict a scored token), and
    the attention of those tokens: 4 x hidden size x layers for each token and each token it sees."""
    from compatcheck.engines.hf.encoding import encode_pairs
    from compatcheck.engines.hf.packing import group_documents
    from compatcheck.engines.hf.scoring import LEAST_SAVING, documents_of

    pairs = encode_pairs(engine, [request.args for request in requests])
    groups = group_documents(documents_of(pairs, engine.max_length), LEAST_SAVING)
    documents = [(group, document) for group in groups for document in group.documents]
    seen = sum(group.prefix for group in groups) + sum(document.size(group.prefix) for group, document in documents)
    rows = sum(1 + sum(len(branch.tokens) - 1 for branch in document.branches) for _, document in documents)
    body = sum(weight.numel() for name, weight in engine.model.named_parameters() if ".layers." in name)
    pairs_seen = sum(group.prefix**2 / 2 for group in groups)
    for group, document in documents:
        own = len(document.context) - group.prefix
        pairs_seen += own * group.prefix + own**2 / 2
        for branch in document.branches:
            pairs_seen += (len(branch.tokens) - 1) * (len(document.context) + len(branch.tokens) / 2)
    config = engine.model.config
    attention = 4.0 * config.hidden_size * config.num_hidden_layers * pairs_seen
    return 2.0 * (body * seen + engine.model.lm_head.weight.numel() * rows), attention


def gemm_rate(dtype: Any, seconds: float = 0.3) -> float:
    """Floating-point operations per second of the model's own largest matrix product, the median of many."""
    import torch

    rows, weight = torch.randn(1024, 512).to(dtype), torch.randn(1376, 512).to(dtype)
    rates, end = [], clock() + seconds
    while clock() < end:
        start = clock()
        torch.nn.functional.linear(rows, weight)
        rates.append(2 * rows.numel() * weight.shape[0] / (clock() - start))
    return statistics.median(rates)


def _timed(work: Callable[[list[Any]], Any], requests: list[Any]) -> tuple[float, Any]:
    start = clock()
    answers = work(requests)
    return clock() - start, answers


def measure(case: Case, engine: Any, reference: Any, rounds: int) -> None:
    """Interleaved rounds after one that does not count; which side goes first changes every round."""
    kind = "generate_until" if case.generates else "loglikelihood"
    sides = {
        "own": getattr(engine, kind),
        "their": lambda requests: getattr(reference, kind)(requests, disable_tqdm=True),
    }
    few = case.requests[: 8 if case.generates else 16]
    for work in sides.values():
        work(few)
    for round_ in range(rounds):
        seconds, answers = {}, {}
        rate = gemm_rate(engine.model.dtype)
        for side in ("own", "their") if round_ % 2 else ("their", "own"):
            seconds[side], answers[side] = _timed(sides[side], case.requests)
        case.ratios.append(seconds["their"] / seconds["own"])
        case.own_seconds.append(seconds["own"])
        case.their_seconds.append(seconds["their"])
        if case.floor:
            rate = (rate + gemm_rate(engine.model.dtype)) / 2
            case.over_floor.append(seconds["own"] * rate / case.floor)
            case.over_floor_with_attention.append(seconds["own"] * rate / (case.floor + case.floor_attention))
        case.difference = _difference(case, answers["own"], answers["their"])
        if not case.generates:
            case.greedy_apart = sum(a[1] != b[1] for a, b in zip(answers["own"], answers["their"], strict=True))


def _difference(case: Case, own: list[Any], their: list[Any]) -> float:
    """Largest difference of log-likelihoods, or the share of texts that are not the same."""
    if case.generates:
        return sum(one != two for one, two in zip(own, their, strict=True)) / len(own)
    return max(abs(one[0] - two[0]) for one, two in zip(own, their, strict=True))


def main() -> int:
    """Run all cases; exit code 1 when a goal is missed or the answers differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few documents, one round: does it run, not how fast")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="torch threads (default: torch's own choice)")
    parser.add_argument("--dtype", default="float32", help="of both; in half precision answers differ by its rounding")
    parser.add_argument("--batch-size", type=int, default=16, help="of lm-eval's backend")
    parser.add_argument("--only", default="", metavar="WORDS", help="only the cases whose name has these words")
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time of one thread: for a machine that is busy otherwise"
    )
    options = parser.parse_args()
    if options.cpu_time:
        global clock
        clock, options.threads = time.process_time, 1

    import torch
    from lm_eval.models.huggingface import HFLM

    from compatcheck.engines import open_engine

    if options.threads:
        torch.set_num_threads(options.threads)
    rounds, scale = (1, 8) if options.quick else (options.rounds, 1)
    with tempfile.TemporaryDirectory() as folder:
        parameters = save_llama(Path(folder))
        engine: Any = open_engine("hf", folder, dtype=options.dtype, device="cpu")
        reference = HFLM(pretrained=folder, device="cpu", dtype=options.dtype, batch_size=options.batch_size)
    cases = [
        Case("multiple choice, 0-shot", multiple_choice(64 // scale, 0, False), 2.0, most_over_floor=1.4),
        Case("multiple choice, 10-shot, own examples", multiple_choice(8 // scale, 10, False), 3.0),
        Case("multiple choice, 10-shot, fixed examples", multiple_choice(16 // scale, 10, True), 6.0),
        Case("few-shot generation", few_shot_generation(32 // scale), 1.5, generates=True),
    ]
    cases = [case for case in cases if options.only in case.name]
    for case in cases:
        if not case.generates:
            case.floor, case.floor_attention = floor_of(engine, case.requests)
        measure(case, engine, reference, rounds)
        print(f"{case.name}: {' '.join(f'{ratio:.2f}' for ratio in case.ratios)}", file=sys.stderr)
    missed = _show(cases, engine)
    RESULTS.parent.mkdir(exist_ok=True)
    result = {
        "parameters": parameters, "threads": torch.get_num_threads(), "rounds": rounds, "quick": options.quick,
        "cpu_time": options.cpu_time,
        "gemm_gflops": round(gemm_rate(engine.model.dtype) / 1e9, 1), "identity": engine.identity,
        "notes": engine.notes,
        "cases": [{key: value for key, value in asdict(case).items() if key != "requests"} for case in cases],
    }  # fmt: skip
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if options.quick or not missed else 1


def _show(cases: list[Case], engine: Any) -> list[str]:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "case", "requests", "lm-eval s", "ours s", "ratio", "goal", "over floor", "with attention", "difference"
    )
    missed = []
    for case in cases:
        ratio = statistics.median(case.ratios)
        over = statistics.median(case.over_floor) if case.over_floor else None
        goal = f">= {case.least_ratio:g}x"
        if case.most_over_floor:
            goal += f", <= {case.most_over_floor:g} floor"
        table.add_row(
            case.name, str(len(case.requests)), f"{statistics.median(case.their_seconds):.2f}",
            f"{statistics.median(case.own_seconds):.2f}", f"{ratio:.2f}x", goal, f"{over:.2f}" if over else "",
            f"{statistics.median(case.over_floor_with_attention):.2f}" if over else "",
            f"{case.difference:.1e}",
        )  # fmt: skip
        exact = engine.identity["dtype"] == "float32"
        wrong = exact and (case.difference > (0.0 if case.generates else 1e-3) or case.greedy_apart > 0)
        slow = ratio < case.least_ratio or (case.most_over_floor and over and over > case.most_over_floor)
        if wrong or slow:
            missed.append(case.name)
    console = Console(width=150)
    console.print(table)
    for note in engine.notes:
        console.print(note, markup=False)
    console.print(f"missed: {', '.join(missed)}" if missed else "all goals met", markup=False)
    return missed


if __name__ == "__main__":
    raise SystemExit(main())
