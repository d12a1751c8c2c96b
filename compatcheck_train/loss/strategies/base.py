"""The registry, and what a strategy declares: which rows and which teachers it needs, and its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck_train.loss.rules import Facts, Weights

if TYPE_CHECKING:
    from torch import Tensor

    from compatcheck_train.loss.view import View

NEEDS = {
    "old-states": "the old model's hidden states",
    "new-states": "the new model's hidden states",
    "old-facts": "the old model's log-probability of the gold token, and whether it ranks it first",
    "new-facts": "the same of the new model",
    "old-sums": "the old model's log-likelihood of every row's answer",
    "new-sums": "the same of the new model",
    "same-tokens": "both teachers' distributions at one position, so one tokenizer",
    "answers": "both models' answers to every document",
    "totals": "the student's log-likelihood of a row before any weight is known: its output layer runs twice",
}


@dataclass(frozen=True)
class Parts:
    """What a micro-batch gave: the sum of the loss over positions or documents, and counts for the progress."""

    loss: Tensor
    right: int = 0
    followed: int = 0
    seen: int = 0
    """``followed`` of ``seen`` positions (or documents) followed the old model; on ``right`` the student was right."""


Loss = Callable[["View"], Parts]
TokenRule = Callable[[Facts, Mapping[str, Any]], Weights]


@dataclass(frozen=True)
class Strategy:
    """One way to train. ``rows`` is what :func:`compatcheck_train.rows.make_items` takes; ``per`` says whether the loss
    is a mean over ``position`` or over ``document``; ``kinds`` are the tasks it is for; ``ce`` its own weight of CE."""

    name: str
    idea: str
    formula: str
    source: str
    cost: str
    loss: Loss
    needs: frozenset[str] = frozenset()
    rows: str = "answer"
    per: str = "position"
    kinds: tuple[str, ...] = ("choice", "text")
    options: Mapping[str, float | int | str] = field(default_factory=dict)
    ce: float = 0.0

    def settled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options with the user's laid over the defaults.

        Raises:
            InputError: an option that it does not have, or a value of another type.
        """
        for name, value in given.items():
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                hint = did_you_mean(name, self.options)
                raise InputError(f"strategy {self.name} has no option '{name}'{hint}; it has: {known}")
            text = isinstance(self.options[name], str)
            if isinstance(value, str) is not text:
                kind = "text" if text else "number"
                raise InputError(f"strategy {self.name}, option {name}: {value!r} must be a {kind}")
        return {**self.options, **given}

    @property
    def needs_old(self) -> bool:
        return any(need.startswith("old-") for need in self.needs)

    @property
    def needs_new(self) -> bool:
        return any(need.startswith("new-") for need in self.needs)


REGISTRY: dict[str, Strategy] = {}


def strategy(name: str, *, needs: tuple[str, ...] = (), **facts: Any) -> Callable[[Loss], Loss]:
    """Register a loss over a :class:`View` under a name."""
    assert set(needs) <= set(NEEDS), needs

    def add(loss: Loss) -> Loss:
        REGISTRY[name] = Strategy(name=name, loss=loss, needs=frozenset(needs), **facts)
        return loss

    return add


def token_strategy(name: str, *, needs: tuple[str, ...] = (), **facts: Any) -> Callable[[TokenRule], TokenRule]:
    """Register a rule that gives the weights of every position: (facts, options) -> weights.

    L' = (1 − c)·L + c·CE with c the user's ``ce_weight``, or the strategy's own.
    """

    def add(rule: TokenRule) -> TokenRule:
        def loss(view: View) -> Parts:
            own = REGISTRY[name].ce if view.settings.ce_weight is None else view.settings.ce_weight
            return view.divergence(lambda facts: with_ce(rule(facts, view.options), facts, own))

        strategy(name, needs=needs, **facts)(loss)
        return rule

    return add


def with_ce(weights: Weights, facts: Facts, share: float) -> Weights:
    """(1 − share) of the weights, and ``share`` of CE at every position."""
    if share == 0:
        return weights

    def part(weight: Tensor | None) -> Tensor | None:
        return None if weight is None else weight * (1 - share)

    ce = share * ones(facts) if weights.ce is None else share + (1 - share) * weights.ce
    return replace(weights, old=part(weights.old), new=part(weights.new), ce=ce, inhibit=part(weights.inhibit))


def ones(facts: Facts) -> Tensor:
    """1 at every position."""
    return facts.answer.new_ones(facts.answer.shape).float()


def split(mask: Tensor | None) -> Weights:
    """The old model where the mask holds, the new one elsewhere."""
    assert mask is not None
    old = mask.float()
    return Weights(old=old, new=1 - old)
