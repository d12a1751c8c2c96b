"""Every mask and every strategy against a plain loop on random numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from compatcheck.engines.hf.head import Head
from compatcheck.errors import InputError
from compatcheck_train.batches import Batch, Item, Row, collate
from compatcheck_train.examples import Example
from compatcheck_train.loss import strategies
from compatcheck_train.loss.view import Taught, View
from compatcheck_train.settings import TrainSettings

DOUBLE = torch.float64
V, D, T = 11, 6, 2.0
TOKEN_RULES = (
    "muscle", "old-correct", "old-only", "muscle-ce", "token-likelihood", "sequence-likelihood", "new-only",
    "continue-ce", "ensemble", "pct", "sequence-ensemble",
)  # fmt: skip


def item(kind: str, gold: int | None, *shapes: tuple[int, int]) -> Item:
    """An item of random rows, each (tokens of the context, tokens of the answer with its end)."""
    rows = tuple(
        Row(tuple(torch.randint(0, V, (before + after,)).tolist()), before, after > 0, "c", " a" * after)
        for before, after in shapes
    )
    return Item(kind, rows, gold, Example("1", (("c", " a"),), gold))


def batch_of(rows: str, context_weight: float) -> Batch:
    torch.manual_seed(1)
    items = {
        "answer": (item("answer", 0, (4, 3)), item("context", None, (5, 0)), item("answer", 0, (3, 2))),
        "choices": (item("choices", 1, (3, 2), (3, 4), (3, 3)), item("choices", None, (2, 2), (2, 3))),
    }
    return collate(items["answer" if rows == "chosen" else rows], 0, context_weight)


class World:
    """Random student and teachers on one micro-batch, with whole distributions at hand."""

    def __init__(self, name: str, seed: int = 7, **options: Any) -> None:
        self.strategy = strategies.get(name)
        self.batch = batch_of(self.strategy.rows, 0.5 if self.strategy.per == "position" else 0.0)
        torch.manual_seed(seed)
        n = len(self.batch.targets)
        self.head, old_head = Head(torch.randn(V, D, dtype=DOUBLE)), Head(torch.randn(V, 4, dtype=DOUBLE))
        self.hidden = torch.randn(n, D, dtype=DOUBLE, requires_grad=True)
        old_states = torch.randn(n, 4, dtype=DOUBLE)
        new_states = self.hidden.detach() + 0.5 * torch.randn(n, D, dtype=DOUBLE)
        self.z = {"student": self.hidden @ self.head.weight.T, "old": old_states @ old_head.weight.T,
                  "new": new_states @ self.head.weight.T}  # fmt: skip
        # Some gold tokens are what the models say, so that every mask has both values.
        for i in range(0, n, 3):
            who = ("student", "old", "new")[(i // 3) % 3]
            self.batch.targets[i] = self.z[who][i].argmax()
        self.settings = TrainSettings(strategy=name, temperature=T)
        self.options = self.strategy.settled(options)
        taught = {
            side: Taught(h, self.logprob(side), self.right(side), head, self.batch)
            for side, h, head in (("old", old_states, old_head), ("new", new_states, self.head))
        }
        needs = self.strategy.needs
        self.view = View(
            self.batch, self.hidden, self.head, needs, self.settings, self.options,
            taught["old"] if any(n.startswith("old") for n in needs) else None,
            taught["new"] if any(n.startswith("new") for n in needs) else None,
            chunk=5,
        )  # fmt: skip

    def logprob(self, side: str) -> Tensor:
        z = self.z[side]
        return torch.log_softmax(z, -1)[torch.arange(len(z)), self.batch.targets]

    def right(self, side: str) -> Tensor:
        return self.z[side].argmax(-1) == self.batch.targets

    def kl(self, i: int, side: str) -> Tensor:
        p = torch.softmax(self.z[side][i].detach() / T, -1)
        return (p * (p.log() - torch.log_softmax(self.z["student"][i] / T, -1))).sum()

    def ce(self, i: int) -> Tensor:
        return -self.logprob("student")[i]

    def total(self, side: str, row: int) -> Tensor:
        b = self.batch
        mine = [i for i in range(len(b.rows)) if b.rows[i] == row]
        answers = [i for i in mine if b.answer[i]]
        return sum((self.logprob(side)[i] for i in answers or mine), torch.zeros((), dtype=DOUBLE))


def expected_token(world: World, i: int) -> Tensor:
    """The loss at one position, as the table of formulas says it."""
    w, row = world, int(world.batch.rows[i])
    old, new, ce = w.kl(i, "old"), w.kl(i, "new"), w.ce(i)
    name = w.strategy.name

    def masked(mask: bool) -> Tensor:
        return old if mask else new

    if name in ("muscle", "muscle-ce"):
        found = masked(not bool(w.right("student")[i]))
    elif name == "old-correct":
        found = masked(bool(w.right("old")[i]))
    elif name == "old-only":
        found = old
    elif name == "new-only":
        found = new
    elif name == "token-likelihood":
        found = masked(bool(w.logprob("student")[i] < w.logprob("old")[i]))
    elif name == "sequence-likelihood":
        found = masked(bool(w.total("student", row) < w.total("old", row)))
    elif name in ("continue-ce", "sequence-ensemble"):
        return ce
    elif name == "ensemble":
        p = (torch.softmax(w.z["old"][i] / T, -1) + torch.softmax(w.z["new"][i] / T, -1)) / 2
        found = (p * (p.log() - torch.log_softmax(w.z["student"][i] / T, -1))).sum()
    else:
        assert name == "pct"
        found = (1 + 5 * bool(w.right("old")[i])) * old
    return found if w.strategy.ce == 0 else (1 - w.strategy.ce) * found + w.strategy.ce * ce


def agree(world: World, wanted: Tensor) -> None:
    (gradient,) = torch.autograd.grad(wanted, world.hidden, retain_graph=True)
    parts = world.strategy.loss(world.view)
    (found,) = torch.autograd.grad(parts.loss, world.hidden)
    assert parts.loss.item() == pytest.approx(wanted.item(), abs=1e-6)  # facts of teachers are kept in float32
    assert torch.allclose(found, gradient, atol=1e-6)


def test_the_registry_has_what_is_tested_here() -> None:
    rest = {"choice-ensemble", "choice-ce"}
    assert set(strategies.names()) == {*TOKEN_RULES, *rest}


@pytest.mark.parametrize("name", TOKEN_RULES)
def test_token_strategies(name: str) -> None:
    world = World(name)
    total = torch.zeros((), dtype=DOUBLE)
    for i in range(len(world.batch.targets)):
        total = total + world.batch.weight[i] * expected_token(world, i)
    agree(world, total)


@pytest.mark.parametrize("name", ["muscle", "old-correct", "token-likelihood", "sequence-likelihood"])
def test_masks_take_both_values_here(name: str) -> None:
    parts = strategies.get(name).loss(World(name, seed=0).view)
    assert 0 < parts.followed < parts.seen


def sums(world: World, side: str) -> list[list[Tensor]]:
    """Log-likelihood of the answer of every row of every document."""
    b = world.batch

    def one(row: int) -> Tensor:
        chosen = [i for i in range(len(b.rows)) if b.rows[i] == row and b.answer[i] and not b.end[i]]
        return sum((world.logprob(side)[i] for i in chosen), torch.zeros((), dtype=DOUBLE))

    return [[one(row) for row in rows] for rows in b.groups]


def anchor(world: World, document: int, row: int, how: str) -> Tensor:
    """Mean over the answer's tokens and its end."""
    b = world.batch
    number = b.groups[document].start + row
    chosen = [i for i in range(len(b.rows)) if b.rows[i] == number and b.answer[i]]
    return sum((world.kl(i, "new") if how == "new" else world.ce(i)) for i in chosen) / len(chosen)  # type: ignore[return-value]


def kl(p: Tensor, log_q: Tensor) -> Tensor:
    return (p * (p.log() - log_q)).sum()


CHOICES: list[tuple[str, dict[str, Any]]] = [
    ("choice-ensemble", {}),
    ("choice-ensemble", {"old_share": 0.3, "choice_temperature": 2.0, "anchor": "ce", "anchor_weight": 0.5}),
    ("choice-ensemble", {"choice_norm": "chars", "anchor": "none"}),
    ("choice-ensemble", {"choice_ce": 0.3}),
    ("choice-ce", {"anchor": "ce"}),
]


@pytest.mark.parametrize(("name", "options"), CHOICES)
def test_choice_strategies(name: str, options: dict[str, Any]) -> None:
    world = World(name, **options)
    o = world.options
    total = torch.zeros((), dtype=DOUBLE)
    rows = {side: sums(world, side) for side in ("student", "old", "new")}
    for d, each in enumerate(world.batch.items):
        lengths = torch.tensor([len(row.text.strip()) if o["choice_norm"] == "chars" else 1.0 for row in each.rows])
        scaled = {k: torch.stack(v[d]) / lengths / o["choice_temperature"] for k, v in rows.items()}
        log_q = torch.log_softmax(scaled["student"], -1)
        old, new = torch.softmax(scaled["old"], -1).detach(), torch.softmax(scaled["new"], -1).detach()
        likeliest = None
        if name == "choice-ensemble":
            p = o["old_share"] * old + (1 - o["old_share"]) * new
        else:
            p = None
        if p is not None:
            total, likeliest = total + kl(p, log_q), int(p.argmax())
        if each.gold is not None:
            total = total - o["choice_ce"] * log_q[each.gold]
        row = each.gold if each.gold is not None else likeliest  # a control without teachers has no guess of its own
        if o["anchor"] != "none" and row is not None:
            total = total + o["anchor_weight"] * anchor(world, d, row, o["anchor"])
    agree(world, total)


def test_ce_weight_of_the_user_wins() -> None:
    world = World("muscle")
    world.view.settings = replace(world.settings, ce_weight=1.0)
    total = sum(world.batch.weight[i] * world.ce(i) for i in range(len(world.batch.targets)))
    agree(world, total)  # type: ignore[arg-type]


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'muscle'"):
        strategies.get("musle")
    with pytest.raises(InputError, match=r"has no option 'shar'"):
        strategies.get("ensemble").settled({"shar": 1})
    with pytest.raises(InputError, match="must be a number"):
        strategies.get("ensemble").settled({"old_share": "half"})
    with pytest.raises(InputError, match="anchor 'old' must be new, ce or none"):
        world = World("choice-ensemble", anchor="old")
        world.strategy.loss(world.view)


def test_the_new_models_states_are_asked_for_where_they_anchor() -> None:
    one = strategies.get("choice-ensemble")
    assert "new-states" in one.needs_with({}) == one.needs_with({"anchor": "new", "old_share": 0.3}) == one.needs
    assert one.needs_with({"anchor": "ce"}) == one.needs_with({"anchor": "none"}) == one.needs - {"new-states"}
    assert all(strategies.get(name).needs_with({}) == strategies.get(name).needs for name in strategies.names())


def test_the_table_names_every_strategy_once() -> None:
    lines = strategies.table().splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == strategies.names()
    assert all(line.count("|") == 6 for line in lines)
