"""The old model's term across tokenizers, on the fixture models: v1 teaches v2 (the same tokens) and v3 (others)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from compatcheck.engines.hf.head import head_of
from compatcheck.errors import InputError
from compatcheck.references import resolve
from compatcheck_train import TrainSettings, preset
from compatcheck_train.align.projection import canonical
from compatcheck_train.align.spans import chunks, spans
from compatcheck_train.align.term import AlignedTerm, align_wants, alm
from compatcheck_train.align.vocabulary import Vocabulary
from compatcheck_train.batches import Batch, Plan, make_items, make_plan
from compatcheck_train.examples import load_examples
from compatcheck_train.loss.divergence import Problem, States, fused_divergence, token_facts
from compatcheck_train.loss.rules import Facts, Weights
from compatcheck_train.loss.view import View
from compatcheck_train.teachers import OnlineTeacher
from compatcheck_train.teachers.online import model_states
from compatcheck_train.training.models import load_old, load_tokenizer

FIXTURES = Path(__file__).parents[3] / "fixtures"
SETTINGS = preset("quick", device="cpu")


@cache
def model(version: str, task: str = "piqa") -> Any:
    """The fixture model in 64 bits, and its tokenizer, states, head."""
    reference = resolve(str(FIXTURES / "adapters" / f"{task}-{version}"))
    inner = load_old(reference, SETTINGS, "cpu").get_base_model().double()
    import contextlib

    states = model_states(inner, contextlib.nullcontext)
    return SimpleNamespace(
        model=inner, states=states, head=head_of(inner, "old").frozen(), tokenizer=load_tokenizer(reference, SETTINGS)
    )


def plan(version: str, task: str = "piqa", context_weight: float = 1.0) -> Plan:
    found = load_examples(task, data=FIXTURES / "data", limit=10)
    items = make_items(model(version, task).tokenizer, found.train, "answer", 400)
    hold = make_items(model(version, task).tokenizer, found.validation, "answer", 400)
    return make_plan(items, hold, 4, 0, context_weight)


class Both:
    """Student and teacher over the same micro-batches."""

    def __init__(self, old: str, new: str, method: str, task: str = "piqa", context_weight: float = 1.0) -> None:
        self.old, self.new = model(old, task), model(new, task)
        self.plan = plan(new, task, context_weight)
        self.twin = self.plan.retold(self.old.tokenizer, "answer", 400)
        wanted = align_wants(method, self.old.tokenizer, self.new.tokenizer) | {"facts"}
        self.teacher = OnlineTeacher(self.old.states, self.old.head, self.twin, wanted)
        self.term = AlignedTerm(self.teacher, self.plan, self.old.tokenizer, self.new.tokenizer, method)

    def student(self, index: int) -> tuple[Batch, Tensor]:
        batch = self.plan.batch(index)
        with torch.no_grad():
            return batch, self.new.states(batch)

    def loss(self, batch: Batch, hidden: Tensor, weights: Tensor) -> Tensor:
        view = View(batch, hidden, self.new.head, frozenset(), TrainSettings(temperature=2.0), {})
        return self.term.loss(view, weights)


def muscle_weights(both: Both, batch: Batch, hidden: Tensor) -> Tensor:
    right, _ = token_facts(hidden, both.new.head, batch.targets)
    return (~right).double() * batch.weight.double()


@pytest.mark.parametrize("method", ["alm", "projected"])
def test_with_one_tokenizer_it_is_plain_muscle_in_loss_and_gradient(method: str) -> None:
    both = Both("v1", "v2", method)
    for index in range(len(both.plan.items)):
        batch, states = both.student(index)
        hidden = states.clone().requires_grad_()

        def rule(facts: Facts) -> Weights:
            assert facts.student_right is not None
            return Weights(old=(~facts.student_right).double())

        facts = Facts(batch.answer, batch.rows)
        plain = fused_divergence(
            Problem(
                hidden, both.new.head, batch.targets, batch.weight, facts, rule, 2.0,
                States(both.teacher.taught(index).hidden, both.old.head),
            )
        )  # fmt: skip
        assert plain.followed > 5
        aligned = both.loss(batch, hidden, plain.old_weights)
        torch.testing.assert_close(aligned, plain.loss, rtol=1e-10, atol=0)
        slopes = [torch.autograd.grad(value, hidden)[0] for value in (aligned, plain.loss)]
        torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-12)
    assert both.term.coverage == 1.0


def chunks_of(both: Both, index: int) -> list[tuple[int, list[int], list[int], bool]]:
    """(row, the student's tokens, the teacher's tokens, comparable) of every chunk of a micro-batch."""
    mine, theirs = Vocabulary(both.new.tokenizer), Vocabulary(both.old.tokenizer)
    out = []
    rows = zip(both.plan.batch(index).flat, both.twin.batch(index).flat, strict=True)
    for number, (one, two) in enumerate(rows):
        text = one.context + one.text
        assert text == two.context + two.text
        found = chunks(spans(mine, text, one.ids), spans(theirs, text, two.ids))
        for c in range(len(found)):
            a = list(range(*found.student[c : c + 2].tolist()))
            b = list(range(*found.teacher[c : c + 2].tolist()))
            out.append((number, a, b, bool(found.comparable[c])))
    return out


def gold_logprobs(side: Any, batch: Batch, hidden: Tensor) -> Callable[[int, int], Tensor | None]:
    """log p(token) by row and index in the row, from whole logits; None where it is not trained."""
    table = side.head.logits(hidden).log_softmax(-1)
    places = {(int(r), int(s)): n for n, (r, s) in enumerate(zip(batch.rows, batch.steps, strict=True))}

    def at(row: int, step: int) -> Tensor | None:
        place = places.get((row, step))
        return None if place is None else table[place, batch.targets[place]]

    return at


@pytest.mark.parametrize("task", ["piqa", "gsm8k"])
@pytest.mark.parametrize("context_weight", [1.0, 0.0])
def test_alm_is_that_of_a_plain_loop_over_chunks(task: str, context_weight: float) -> None:
    both = Both("v1", "v3", "alm", task, context_weight)
    batch, states = both.student(0)
    hidden = states.clone().requires_grad_()
    weights = muscle_weights(both, batch, states)
    found = both.loss(batch, hidden, weights)
    twin = both.twin.batch(0)
    mine, theirs = gold_logprobs(both.new, batch, hidden), gold_logprobs(both.old, twin, both.old.states(twin))
    places = {(int(r), int(s)): n for n, (r, s) in enumerate(zip(batch.rows, batch.steps, strict=True))}
    expected = torch.zeros((), dtype=torch.float64)
    several = 0
    for row, a, b, comparable in chunks_of(both, 0):
        left, right = [mine(row, step) for step in a], [theirs(row, step) for step in b]
        if not comparable or None in left or None in right:
            continue
        weight = sum(weights[places[row, step]] for step in a) / len(a)
        expected = expected + weight * alm(sum(left)[None], sum(right)[None].float())[0]
        several += len(a) > 1 or len(b) > 1
    assert several > (3 if task == "gsm8k" else 0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    slopes = [torch.autograd.grad(value, hidden)[0] for value in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)
    assert 0.8 < (both.term.coverage or 0) <= 1.0


def test_projected_is_that_of_a_plain_loop_over_first_tokens() -> None:
    both = Both("v1", "v3", "projected")
    batch, states = both.student(0)
    hidden = states.clone().requires_grad_()
    weights = muscle_weights(both, batch, states)
    found = both.loss(batch, hidden, weights)
    twin = both.twin.batch(0)
    widths = (both.new.head.vocabulary, both.old.head.vocabulary)
    mapping = canonical(Vocabulary(both.new.tokenizer), Vocabulary(both.old.tokenizer), widths)
    mine, theirs = mapping.student, mapping.teacher
    q = (both.new.head.logits(hidden) / 2).softmax(-1)
    p = (both.old.head.logits(both.old.states(twin)) / 2).softmax(-1)
    q = torch.zeros(len(q), mapping.count, dtype=q.dtype).index_add(1, mine, q)
    p = torch.zeros(len(p), mapping.count, dtype=p.dtype).index_add(1, theirs, p)
    here = {(int(r), int(s)): n for n, (r, s) in enumerate(zip(batch.rows, batch.steps, strict=True))}
    there = {(int(r), int(s)): n for n, (r, s) in enumerate(zip(twin.rows, twin.steps, strict=True))}
    expected = torch.zeros((), dtype=torch.float64)
    for row, a, b, comparable in chunks_of(both, 0):
        if comparable and all((row, s) in here for s in a) and all((row, s) in there for s in b):
            i, j = here[row, a[0]], there[row, b[0]]
            expected = expected + weights[i] * (p[j] * (p[j] / q[i]).log()).sum()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    slopes = [torch.autograd.grad(value, hidden)[0] for value in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-8, atol=1e-11)


def test_no_weight_no_loss_no_gradient() -> None:
    both = Both("v1", "v3", "alm")
    batch, states = both.student(0)
    hidden = states.clone().requires_grad_()
    loss = both.loss(batch, hidden, torch.zeros(len(batch.targets), dtype=torch.float64))
    assert loss.item() == 0
    (slope,) = torch.autograd.grad(loss, hidden)
    assert (slope == 0).all()


@pytest.mark.parametrize("new", ["v2", "v3"])
def test_log_probabilities_of_chunks_sum_to_those_of_sequences(new: str) -> None:
    both = Both("v1", new, "alm", "gsm8k")
    for index in range(len(both.plan.items)):
        batch, twin = both.plan.batch(index), both.twin.batch(index)
        right, logprob = both.term.old_facts(index)
        given = both.teacher.taught(index).logprob
        sums = [torch.zeros(len(batch.flat)).index_add(0, b.rows, v) for b, v in ((batch, logprob), (twin, given))]
        torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-3)
        if new == "v2":
            torch.testing.assert_close(logprob, given)
            assert right.tolist() == both.teacher.taught(index).right.tolist()


def test_old_facts_of_a_chunk_are_shared_by_its_tokens() -> None:
    both = Both("v1", "v3", "alm", "gsm8k")
    batch, twin = both.plan.batch(0), both.twin.batch(0)
    right, logprob = both.term.old_facts(0)
    given = both.teacher.taught(0)
    here = {(int(r), int(s)): n for n, (r, s) in enumerate(zip(batch.rows, batch.steps, strict=True))}
    there = {(int(r), int(s)): n for n, (r, s) in enumerate(zip(twin.rows, twin.steps, strict=True))}
    seen = 0
    for row, a, b, comparable in chunks_of(both, 0):
        places = [there[row, s] for s in b if (row, s) in there]
        if not comparable or len(places) < len(b):
            continue
        for step in a:
            if (row, step) in here:
                assert logprob[here[row, step]].item() == pytest.approx(
                    float(given.logprob[places].sum()) / len(a), abs=1e-4
                )
                assert bool(right[here[row, step]]) is bool(given.right[places].all())
                seen += 1
    assert seen > 100


def test_no_such_method() -> None:
    both = Both("v1", "v3", "alm")
    with pytest.raises(InputError, match="alignment 'aln': must be one of alm, projected"):
        AlignedTerm(both.teacher, both.plan, both.old.tokenizer, both.new.tokenizer, "aln")
