"""Training against a plain implementation and against TRL's GKD trainer: same process, same data, interleaved rounds.

    python benchmarks/bench_train.py [--quick] [--rounds N] [--threads N] [--device cpu|cuda]

``plain``: MUSCLE as the formula reads, both teachers in every step (the new one by switching adapters), whole logits.
``gkd``: TRL's trainer, its own loss (forward KL, off-policy, T = 1), one teacher in every step; ours is ``old-only``.
Losses of both sides are compared first, so that a ratio is never that of another computation. Ratios are medians over
rounds; the one pass that fills the cache is counted as its share of an epoch and told apart. Peak memory is that of a
process of its own for each side, as it is and without the holes that glibc leaves between blocks. Writes
benchmarks/results/train.json.
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
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

RESULTS = Path(__file__).parent / "results" / "train.json"
EPOCHS = (3, 10)


@dataclass(frozen=True)
class Size:
    """Shape of the student's base, and what a micro-batch is made of."""

    hidden: int = 448
    inner: int = 1216
    layers: int = 8
    vocabulary: int = 16_000
    rows: int = 8
    tokens: int = 128
    rank: int = 16


QUICK = Size(hidden=128, inner=256, layers=2, vocabulary=2_000, rows=4, tokens=48, rank=8)


def save_base(folder: Path, size: Size, seed: int, hidden: int) -> int:
    """A random Llama; returns its number of parameters. The old one is a little narrower than the new."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from benchmarks.models import save_tokenizer

    vocabulary = save_tokenizer(folder, size.vocabulary)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=size.inner, num_hidden_layers=size.layers,
        num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=4096, bos_token_id=0, eos_token_id=1,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return int(model.num_parameters())


def save_adapter(folder: Path, base: Path, size: Size) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    config = LoraConfig(r=size.rank, lora_alpha=2 * size.rank, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder)


def make_examples(size: Size, documents: int) -> Any:
    from benchmarks.models import text, words
    from compatcheck_train.examples import Example, Examples

    rng, vocabulary = random.Random(3), words()

    def one(number: int) -> Example:
        context = text(rng, vocabulary, 2 * size.tokens)
        return Example(str(number), ((context, " " + text(rng, vocabulary, size.tokens // 4)),), 0)

    made = tuple(one(number) for number in range(documents + 1))
    return Examples("bench", "text", made[:-1], made[-1:])


class Clock:
    """Times what fills the caches, without the loading of models, which every side does."""

    seconds = 0.0

    def start(self, label: str, total: float) -> None:
        self._started = time.perf_counter()

    def advance(self, instances: float) -> None:
        pass

    def finish(self) -> None:
        self.seconds += time.perf_counter() - self._started


def prepared(root: Path, size: Size, examples: Any, device: str, **changes: Any) -> Any:
    """Settings, strategy, the tokenizer of NEW, and the micro-batches."""
    from compatcheck.references import resolve
    from compatcheck_train import TrainSettings
    from compatcheck_train.loss import strategies
    from compatcheck_train.training.models import load_tokenizer
    from compatcheck_train.training.run import plan_of

    settings = TrainSettings(batch_size=size.rows, max_length=size.tokens, device=device, **changes)
    strategy = strategies.get(settings.strategy)
    tokenizer = load_tokenizer(resolve(f"{root}/base-new+{root}/new"), settings)
    return settings, strategy, tokenizer, plan_of(tokenizer, examples, strategy, settings)


class Ours:
    """The real parts of a training: plan, cached teachers, student, loss; and one optimiser step."""

    def __init__(self, root: Path, size: Size, examples: Any, device: str, **changes: Any) -> None:
        import torch

        from compatcheck.references import resolve
        from compatcheck_train.training.processes import open_accelerator
        from compatcheck_train.training.run import Setup

        options: dict[str, Any] = {"teacher": "cache", "new_teacher": "cache", "cache_folder": root / "cache"} | changes
        self.settings, strategy, tokenizer, self.plan = prepared(root, size, examples, device, **options)
        clock = Clock()
        setup = Setup(strategy, self.settings, open_accelerator(self.settings, root), progress=clock)
        teacher, _ = setup.old(resolve(f"{root}/old"), self.plan, tokenizer)
        self.trainee = setup.trainee(resolve(f"{root}/base-new+{root}/new"), self.plan, teacher)
        self.student, self.cache_seconds = self.trainee.student, clock.seconds
        self.parameters = list(self.student.parameters().values())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5, weight_decay=0.0)

    def loss(self, index: int) -> Any:
        return self.trainee(index)[0] / self.plan.size(index, "position")

    def step(self, index: int) -> None:
        self.loss(index).backward()
        update(self)


def update(side: Any) -> None:
    import torch

    torch.nn.utils.clip_grad_norm_(side.parameters, 1.0)
    side.optimizer.step()
    side.optimizer.zero_grad()


class Plain:
    """The formula as it reads: three models' whole logits in every step."""

    def __init__(self, root: Path, ours: Any, device: str) -> None:
        import torch

        from compatcheck.references import resolve
        from compatcheck_train.training.models import load_old, load_student

        self.plan, self.settings = ours.plan, replace(ours.settings, teacher="online")
        self.old = load_old(resolve(f"{root}/old"), self.settings, device)
        self.student = load_student(resolve(f"{root}/base-new+{root}/new"), self.settings, device)
        self.parameters = list(self.student.parameters().values())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5, weight_decay=0.0)
        self.device = device

    def loss(self, index: int) -> Any:
        import torch
        from torch.nn import functional

        batch, t = self.plan.batch(index).to(self.device), self.settings.temperature
        lengths = torch.tensor([len(row.ids) for row in batch.flat], device=self.device)
        valid = torch.arange(1, batch.ids.shape[1], device=self.device)[None] < lengths[:, None]
        with torch.no_grad():
            old = self.old(input_ids=batch.ids).logits[:, :-1]
            with self.student.as_teacher():
                new = self.student.peft(input_ids=batch.ids).logits[:, :-1]
        student = self.student.peft(input_ids=batch.ids).logits[:, :-1]
        wrong = (student.argmax(-1) != batch.ids[:, 1:])[..., None]
        log_q = functional.log_softmax(student / t, -1)
        divergences = [
            functional.kl_div(log_q, functional.log_softmax(z / t, -1), reduction="none", log_target=True)
            for z in (old, new)
        ]
        each = torch.where(wrong, *divergences).sum(-1)
        return each[valid].mean()

    step = Ours.step


class Gkd:
    """TRL's trainer, its own ``training_step`` on our micro-batches."""

    def __init__(self, root: Path, ours: Any, device: str) -> None:
        import torch
        from datasets import Dataset
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        from compatcheck.references import resolve
        from compatcheck_train.training.models import load_old, load_student, load_tokenizer

        settings, new = ours.settings, resolve(f"{root}/base-new+{root}/new")
        self.plan, self.device = ours.plan, device
        self.student = load_student(new, settings, device)
        teacher = load_old(resolve(f"{root}/old"), settings, device)
        tokenizer = load_tokenizer(new, settings)
        tokenizer.pad_token = tokenizer.eos_token
        config = GKDConfig(
            output_dir=str(root / "gkd"), lmbda=0.0, beta=0.0, temperature=1.0, report_to=[], use_cpu=device == "cpu",
            per_device_train_batch_size=1, gradient_checkpointing=False, bf16=False, dataset_kwargs={},
        )  # fmt: skip
        self.trainer = GKDTrainer(
            model=self.student.peft, teacher_model=teacher, args=config, processing_class=tokenizer,
            train_dataset=Dataset.from_list([{"messages": []}]), data_collator=lambda rows: rows,
        )  # fmt: skip
        self.parameters = list(self.student.parameters().values())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5, weight_decay=0.0)

    def inputs(self, index: int) -> dict[str, Any]:
        import torch

        batch = self.plan.batch(index).to(self.device)
        lengths = torch.tensor([len(row.ids) for row in batch.flat], device=self.device)
        mask = (torch.arange(batch.ids.shape[1], device=self.device)[None] < lengths[:, None]).long()
        return {"input_ids": batch.ids, "attention_mask": mask, "labels": batch.ids.masked_fill(mask == 0, -100)}

    def count(self, inputs: dict[str, Any]) -> Any:
        import torch

        return torch.tensor(int((inputs["labels"][:, 1:] != -100).sum()))

    def loss(self, index: int) -> Any:
        inputs = self.inputs(index)
        return self.trainer.compute_loss(self.trainer.model, inputs, num_items_in_batch=self.count(inputs))

    def step(self, index: int) -> None:
        inputs = self.inputs(index)
        self.trainer.training_step(self.trainer.model, inputs, num_items_in_batch=self.count(inputs))
        update(self)


def seconds(side: Any, indices: list[int], device: str) -> float:
    import torch

    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    wait()
    started = time.perf_counter()
    for index in indices:
        side.step(index)
    wait()
    return time.perf_counter() - started


def compare(ours: Ours, peer: Any, rounds: int, device: str) -> dict[str, Any]:
    """Seconds a step of both sides in turns, and their ratio."""
    steps = list(range(ours.plan.training))
    a, b = float(ours.loss(steps[-1]).detach()), float(peer.loss(steps[-1]).detach())
    assert abs(a - b) <= 1e-3 * max(abs(a), 1e-3), f"the sides compute different losses: {a} and {b}"
    for side in (ours, peer):
        side.optimizer.zero_grad()
        seconds(side, steps[:2], device)
    found: list[tuple[float, float]] = []
    for number in range(rounds):
        order = (ours, peer) if number % 2 == 0 else (peer, ours)
        taken = {id(side): seconds(side, steps, device) for side in order}
        found.append((taken[id(ours)], taken[id(peer)]))
    mine = statistics.median(x for x, _ in found)
    shares = {e: statistics.median(y * e / (x * e + ours.cache_seconds) for x, y in found) for e in EPOCHS}
    return {
        "loss": [a, b],
        "seconds_a_step": [round(mine / len(steps), 4), round(statistics.median(y for _, y in found) / len(steps), 4)],
        "throughput_ratio": round(statistics.median(y / x for x, y in found), 3),
        "throughput_ratio_with_cache": {f"{e} epochs": round(value, 3) for e, value in shares.items()},
        "rounds": [round(y / x, 3) for x, y in found],
    }


def linear(root: Path, size: Size, rounds: int, device: str) -> dict[str, Any]:
    """Seconds of a step of one, two and four times the documents, and what a token costs at most against at least."""
    found = {}
    for factor in (1, 2, 4):
        wide = replace(size, rows=size.rows * factor)
        ours = Ours(root, wide, make_examples(size, wide.rows * 2), device)
        seconds(ours, [0, 1], device)
        each = statistics.median(seconds(ours, [0, 1], device) / 2 for _ in range(rounds))
        found[round(ours.plan.size(0, "position"))] = round(each, 4)
    a_token = [value / tokens for tokens, value in found.items()]
    return {"seconds_by_tokens": found, "growth_of_a_token": round(a_token[-1] / a_token[0], 3)}


def peak(root: Path, size: Size, side: str, device: str, documents: int) -> dict[str, float]:
    """In a process of its own: growth of peak memory from before any model is loaded, in MB."""
    import torch

    def status(name: str) -> float:
        """Of this process's own memory map: what getrusage tells begins at the parent's peak."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024

    def most() -> float:
        return torch.cuda.max_memory_allocated() / 2**20 if device != "cpu" else status("VmHWM")

    def now() -> float:
        return most() if device != "cpu" else status("VmRSS")

    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    import compatcheck_train.training.run  # noqa: F401

    examples = make_examples(size, documents)
    before = now()
    if side == "ours":
        ours = Ours(root, size, examples, device)
        seconds(ours, list(range(ours.plan.training)), device)
    else:
        settings, _, _, plan = prepared(root, size, examples, device)
        plain = Plain(root, SimpleNamespace(plan=plan, settings=settings), device)
        seconds(plain, list(range(plan.training)), device)
    return {"growth_mb": round(most() - before, 1), "before_mb": round(before, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny models, few rounds: tries the code, not the speed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)
    size, rounds, micro = (QUICK, 2, 3) if given.quick else (Size(), given.rounds, 4)
    if given.peak:
        print(json.dumps(peak(Path(given.peak[1]), size, given.peak[0], given.device, micro * size.rows)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        count = save_base(root / "base-new", size, 2, size.hidden)
        old = save_base(root / "old", size, 1, size.hidden * 7 // 8 // 16 * 16)
        save_adapter(root / "new", root / "base-new", size)
        examples = make_examples(size, micro * size.rows)
        results: dict[str, Any] = {
            "parameters": {"old": old, "new": count}, "size": vars(size), "device": given.device,
            "threads": torch.get_num_threads(), "quick": given.quick,
        }  # fmt: skip

        def show(name: str, make: Callable[[], dict[str, Any]]) -> None:
            results[name] = make()
            print(f"{name}: {json.dumps(results[name])}", flush=True)

        def against(peer: Callable[..., Any], **changes: Any) -> dict[str, Any]:
            ours = Ours(root, size, examples, given.device, **changes)
            return compare(ours, peer(root, ours, given.device), rounds, given.device)

        show("against_plain", lambda: against(Plain))
        show("against_gkd", lambda: against(Gkd, strategy="old-only", temperature=1.0))
        show("linear", lambda: linear(root, size, rounds, given.device))

        def memory(repeats: int, **environment: str) -> dict[str, Any]:
            """Medians over processes. glibc keeps holes between blocks; ``environment`` may keep it from that."""
            found: dict[str, list[float]] = {"ours": [], "plain": []}
            for side in [*found] * repeats:
                command = [sys.executable, __file__, "--device", given.device, "--peak", side, folder]
                command += ["--quick"] * given.quick + (["--threads", str(given.threads)] if given.threads else [])
                for kept in (root / "cache").glob("*/*"):
                    kept.unlink()  # the pass that fills the cache is part of our side's peak
                done = subprocess.run(
                    command, check=True, capture_output=True, text=True, env={**os.environ, **environment}
                )
                found[side].append(json.loads(done.stdout.splitlines()[-1])["growth_mb"])
            ours, plain = (statistics.median(values) for values in found.values())
            return {"growth_mb": found, "ratio": round(ours / plain, 3)}

        show("peak_memory", lambda: memory(1 if given.quick else 5))
        if given.device == "cpu":
            show("peak_memory_without_holes", lambda: memory(1, MALLOC_MMAP_THRESHOLD_=str(2**20)))
        if not given.quick:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
