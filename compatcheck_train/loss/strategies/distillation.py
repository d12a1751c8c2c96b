"""Other ways to follow one or both teachers, token by token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compatcheck_train.loss.rules import Facts, Weights
from compatcheck_train.loss.strategies.base import ones, split, token_strategy

_BOTH = ("old-states", "new-states")


@token_strategy(
    "ensemble", needs=(*_BOTH, "same-tokens"), source="the usual ensemble distillation",
    cost="two teacher rows per token", options={"old_share": 0.5}, idea="the mean of both teachers everywhere",
    formula="KL(s·p_old + (1 − s)·p_new ‖ p_C)",
)  # fmt: skip
def ensemble(facts: Facts, options: Mapping[str, Any]) -> Weights:
    share = options["old_share"] * ones(facts)
    return Weights(old=share, new=1 - share, mixture=True)


@token_strategy(
    "data-partition", needs=(*_BOTH, "old-facts", "new-facts"), source="Roth et al. 2024",
    cost="one teacher row per token", idea="a mask that does not change: the teacher that finds the token likelier",
    formula="m = 1[p_old(y) > p_new(y)]",
)  # fmt: skip
def data_partition(facts: Facts, _: Mapping[str, Any]) -> Weights:
    assert facts.old_logprob is not None and facts.new_logprob is not None
    return split(facts.old_logprob > facts.new_logprob)


@token_strategy(
    "pct", needs=("old-states", "old-facts"), source="focal distillation, Yan et al. 2021", ce=0.5,
    cost="one teacher row per token, no new teacher", options={"alpha": 1.0, "beta": 5.0},
    idea="cross-entropy, and the old model with more weight where it is right",
    formula="λ·(α + β·1[argmax z_old = y])·KL(p_old ‖ p_C) + (1 − λ)·CE",
)  # fmt: skip
def pct(facts: Facts, options: Mapping[str, Any]) -> Weights:
    assert facts.old_right is not None
    return Weights(old=options["alpha"] + options["beta"] * facts.old_right.float())


@token_strategy(
    "dual-focal", needs=(*_BOTH, "old-facts", "new-facts"), source="Ricci et al. 2025",
    cost="two teacher rows per token",
    options={"alpha": 1.0, "beta": 1.0}, idea="both teachers on every token, each with more weight where it is right",
    formula="Σ_k (α + β·1[argmax z_k = y])·KL(p_k ‖ p_C), k = old, new",
)  # fmt: skip
def dual_focal(facts: Facts, options: Mapping[str, Any]) -> Weights:
    assert facts.old_right is not None and facts.new_right is not None
    old, new = (options["alpha"] + options["beta"] * right.float() for right in (facts.old_right, facts.new_right))
    return Weights(old=old, new=new)


@token_strategy(
    "elodi", needs=(*_BOTH, "same-tokens"), source="ELODI-style, Zhao et al. 2022", ce=0.5,
    cost="two teacher rows per token",
    options={"top": 10, "margin": 0.0, "scale": 0.1},
    idea="cross-entropy, and no log-probability far from the mean of both teachers' on the tokens it ranks highest",
    formula="λ·s·Σ_top max(abs(log p_C − ½(log p_old + log p_new)) − ξ, 0)² + (1 − λ)·CE",
)  # fmt: skip
def elodi(facts: Facts, options: Mapping[str, Any]) -> Weights:
    return Weights(inhibit=options["scale"] * ones(facts), top=int(options["top"]), margin=options["margin"])
