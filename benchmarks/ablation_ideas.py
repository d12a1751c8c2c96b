"""Targets and teachers that are tried in :mod:`benchmarks.bench_ablation` alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compatcheck.references import Reference
from compatcheck.similarity.rouge import rouge
from compatcheck_train.examples import Example
from compatcheck_train.fix.answers import Ask, Asked, JointAnswers
from compatcheck_train.loss.rules import Parts
from compatcheck_train.loss.strategies import _choice_strategy, _follow, _scaled, _teachers
from compatcheck_train.loss.view import View
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training.loop import learning_rate
from compatcheck_train.training.models import load_old, load_student, load_tokenizer, save_adapter

MOST = 48
"""Tokens of a sampled answer in the on-policy stage at most."""


# Over choices


@_choice_strategy("sure", "both teachers, weighted by how sure each is of the document", "", "tried here")
def sure(view: View) -> Parts:
    targets = []
    for p, q in _teachers(view):
        by_old, by_new = (float(each.max()) - 1 / len(each) + 1e-3 for each in (p, q))
        targets.append((by_old * p + by_new * q) / (by_old + by_new))
    return _follow(view, targets, len(targets))


@_choice_strategy("geometric", "the new model moved towards the old one by so many nats", "", "tried here", budget=0.2)
def geometric(view: View) -> Parts:
    budget = float(view.options["budget"])
    return _follow(view, [within(old, new, budget) for old, new in _teachers(view)], len(view.batch.items))


def within(old: Tensor, new: Tensor, budget: float) -> Tensor:
    """q ∝ new^(1 − t)·old^t with the largest t up to 1 at which KL(q ‖ new) is at most ``budget``."""
    log_old, log_new = (each.double().clamp_min(1e-12).log() for each in (old, new))

    def at(t: float) -> Tensor:
        return ((1 - t) * log_new + t * log_old).softmax(-1)

    def fits(q: Tensor) -> bool:
        return float((q.xlogy(q) - q * log_new).sum()) <= budget

    low, high = 0.0, 1.0
    if fits(at(high)):
        return at(high)
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(at(middle)) else (low, middle)
    return at(low)


class Calibrated:
    """Both teachers, each weighted by its calibrated probability of being right on the document: its highest one, at
    the temperature that fits the validation documents best. The loop reads those before the first step."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor, int]] = []
        self.temperatures = (1.0, 1.0)

    def __call__(self, view: View) -> Parts:
        assert view.old is not None and view.new is not None
        old, new = (_scaled(view, side.sums()) for side in (view.old, view.new))
        if not view.hidden.requires_grad:
            golds = [-1 if item.gold is None else item.gold for item in view.batch.items]
            self.seen += zip(old, new, golds, strict=True)
        elif self.seen:
            *sides, gold = (list(column) for column in zip(*self.seen, strict=True))
            self.temperatures = (self._fitted(sides[0], gold), self._fitted(sides[1], gold))
            right = [f"{np.mean([int(s.argmax()) == g for s, g in zip(x, gold, strict=True)]):.1%}" for x in sides]
            print(f"OLD, NEW: temperature {self.temperatures}, right {right}, n = {len(gold)}", flush=True)
            self.seen = []
        targets = []
        for pair in zip(old, new, strict=True):
            p, q = (each.softmax(-1) for each in pair)
            a, b = (float((s / t).softmax(-1).max()) for s, t in zip(pair, self.temperatures, strict=True))
            targets.append((a * p + b * q) / (a + b))
        return _follow(view, targets, len(targets))

    @staticmethod
    def _fitted(sums: list[Tensor], gold: list[int]) -> float:
        scores, right = torch.stack(sums).double(), torch.tensor(gold)
        tried = torch.logspace(-1, 1.5, 200).tolist()
        return min(tried, key=lambda t: float(torch.nn.functional.cross_entropy(scores / t, right)))


calibrated = _choice_strategy("calibrated", "both teachers, weighted by how likely each is right", "", "tried here")(
    Calibrated()
)


# Over texts


class SampledAnswers(JointAnswers):
    """Besides both models' greedy answers ``times`` sampled ones of each: the likeliest jointly is taken."""

    times, seed = 4, 0

    def _joint(self, of_old: Asked, of_new: Asked, new: Reference, old_share: float) -> list[str]:
        given = [{**self.decoding}] + [
            {**self.decoding, "do_sample": True, "temperature": 1.0, "top_k": 0} for _ in range(self.times)
        ]
        torch.manual_seed(self.seed)
        made: list[list[str]] = []

        def write(ask: Ask, asked: Asked) -> None:
            told = [ask("generate_until", [(context, own) for context in asked.contexts]) for own in given]
            made.extend([text.strip() for text in texts] for texts in told)

        def read(ask: Ask, asked: Asked) -> dict[tuple[int, str], float]:
            pairs = sorted({(n, text) for answers in made for n, text in enumerate(answers) if text})
            found = ask("loglikelihood", [(asked.contexts[n], f"{asked.delimiter}{text}") for n, text in pairs])
            return {pair: value[0] / len(pair[1]) for pair, value in zip(pairs, found, strict=True)}

        with self._engine(self.old) as ask:
            write(ask, of_old)
        with self._engine(new) as ask:
            write(ask, of_new)
            by_new = read(ask, of_new)
        with self._engine(self.old) as ask:
            by_old = read(ask, of_old)
        best: dict[int, tuple[float, str]] = {}
        for (n, text), value in by_new.items():
            best[n] = max(
                best.get(n, (float("-inf"), "")), (old_share * by_old[n, text] + (1 - old_share) * value, text)
            )
        greedy = len({*by_new} & {(n, text) for row in (made[0], made[len(given)]) for n, text in enumerate(row)})
        print(f"{len(by_new)} answers to {len(of_new.contexts)} documents, {greedy} of them greedy", flush=True)
        return [best.get(n, (0.0, ""))[1] for n in range(len(of_new.contexts))]


def better_of(joint: JointAnswers, new: Reference, examples: Sequence[Example]) -> list[bool]:
    """Whether OLD's greedy answer to a labelled document scores higher than NEW's, by ROUGE-1."""
    found = []
    for reference in (joint.old, new):
        with joint._engine(reference) as ask:
            texts = ask("generate_until", [(each.pairs[0][0], dict(joint.decoding)) for each in examples])
        labels = [each.pairs[0][1].strip() for each in examples]
        found.append(rouge("rouge1").score([text.strip() for text in texts], labels))
    return [bool(a > b) for a, b in zip(*found, strict=True)]


class OnPolicy:
    """The student answers by sampling; every token is graded by a frozen teacher, OLD or NEW by document: the reverse
    KL(student ‖ teacher), a mean over tokens. Both have one tokenizer."""

    def __init__(self, old: Reference, new: Reference, settings: TrainSettings) -> None:
        self.student, self.old = load_student(new, settings, "cpu"), load_old(old, settings, "cpu")
        self.settings, self.tokenizer = settings, load_tokenizer(new, settings)
        assert self.tokenizer.get_vocab() == load_tokenizer(old, settings).get_vocab()
        self.tokenizer.padding_side = "left"

    def train(self, contexts: Sequence[str], by_old: Sequence[bool], steps: int, out: Path) -> list[float]:
        """The adapter into ``out``; returns the losses."""
        weights = list(self.student.parameters().values())
        optimizer = torch.optim.AdamW(weights, lr=self.settings.learning_rate, weight_decay=0.0)
        torch.manual_seed(self.settings.seed)
        rng, order, losses = random.Random(self.settings.seed), list[int](), []
        for step in range(steps):
            if len(order) < self.settings.batch_size:
                order = rng.sample(range(len(contexts)), len(contexts))
            picked, order = order[: self.settings.batch_size], order[self.settings.batch_size :]
            loss = self._loss([contexts[n] for n in picked], torch.tensor([by_old[n] for n in picked]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, self.settings.max_grad_norm)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.settings, step, steps)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        save_adapter(self.student, out)
        return losses

    def _loss(self, contexts: list[str], by_old: Tensor) -> Tensor:
        given = self.tokenizer(contexts, return_tensors="pt", padding=True)
        given.pop("token_type_ids", None)
        start, end, pad = given["input_ids"].shape[1], self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        with torch.no_grad():
            ids = self.student.peft.generate(
                **given, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=MOST, pad_token_id=pad
            )  # fmt: skip
        written = ids[:, start:]
        ended = (written == end).cumsum(-1) - (written == end).long()
        counted = (ended == 0).float()
        mask = torch.cat([given["attention_mask"], counted.long()], 1)

        def logprobs(model: Any) -> Tensor:
            logits: Tensor = model(input_ids=ids, attention_mask=mask).logits[:, start - 1 : -1]
            return logits.log_softmax(-1)

        with torch.no_grad():
            old = logprobs(self.old)
        with self.student.as_teacher():
            new = logprobs(self.student.peft)
        taught = torch.where(by_old[:, None, None], old, new)
        mine = logprobs(self.student.peft)
        return ((mine.exp() * (mine - taught)).sum(-1) * counted).sum() / counted.sum()
