"""MUSCLE, and the masks of the paper's ablation (Echterhoff et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compatcheck_train.loss.rules import Facts, Weights
from compatcheck_train.loss.strategies.base import ones, split, token_strategy

_PAPER = "Echterhoff et al. 2024"
_BOTH = ("old-states", "new-states")
_COST = "one teacher row per token"


@token_strategy(
    "muscle", needs=_BOTH, source=_PAPER, cost=_COST,
    idea="the old model where the student is wrong on the token, the new one elsewhere",
    formula="m = 1[argmax z_C ≠ y]",
)  # fmt: skip
def muscle(facts: Facts, _: Mapping[str, Any]) -> Weights:
    assert facts.student_right is not None
    return split(~facts.student_right)


@token_strategy(
    "old-correct", needs=(*_BOTH, "old-facts"), source=f"{_PAPER}, ablation", cost=_COST,
    idea="the old model where it is right on the token, the new one elsewhere",
    formula="m = 1[argmax z_old = y]",
)  # fmt: skip
def old_correct(facts: Facts, _: Mapping[str, Any]) -> Weights:
    return split(facts.old_right)


@token_strategy(
    "old-only", needs=("old-states",), source=f"{_PAPER}, ablation", cost="one teacher row per token, no new teacher",
    idea="the old model everywhere", formula="m = 1",
)  # fmt: skip
def old_only(facts: Facts, _: Mapping[str, Any]) -> Weights:
    return Weights(old=ones(facts))


@token_strategy(
    "muscle-ce", needs=_BOTH, source=f"{_PAPER}, ablation", cost=_COST, ce=0.5,
    idea="MUSCLE with cross-entropy", formula="λ·L + (1 − λ)·CE, m = 1[argmax z_C ≠ y]",
)  # fmt: skip
def muscle_ce(facts: Facts, options: Mapping[str, Any]) -> Weights:
    return muscle(facts, options)


@token_strategy(
    "token-likelihood", needs=(*_BOTH, "old-facts"), source=f"{_PAPER}, ablation", cost=_COST, ce=0.5,
    idea="the old model where it finds the token likelier than the student does; with cross-entropy",
    formula="λ·L + (1 − λ)·CE, m = 1[p_C(y) < p_old(y)]",
)  # fmt: skip
def token_likelihood(facts: Facts, _: Mapping[str, Any]) -> Weights:
    assert facts.student_logprob is not None and facts.old_logprob is not None
    return split(facts.student_logprob < facts.old_logprob)


@token_strategy(
    "sequence-likelihood", needs=(*_BOTH, "old-facts", "totals"), source=f"{_PAPER}, ablation (operator inferred)",
    cost="one teacher row per token, the student's output layer twice", ce=0.5,
    idea="the old model on whole sequences that it finds likelier than the student does; with cross-entropy",
    formula="λ·L + (1 − λ)·CE, m = 1[Σ log p_C(y) < Σ log p_old(y)]",
)  # fmt: skip
def sequence_likelihood(facts: Facts, _: Mapping[str, Any]) -> Weights:
    assert facts.student_total is not None and facts.old_total is not None
    return split(facts.student_total < facts.old_total)
