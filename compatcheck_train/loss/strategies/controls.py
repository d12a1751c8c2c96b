"""Controls: what training on the same data for the same steps does without the old model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compatcheck_train.loss.rules import Facts, Weights
from compatcheck_train.loss.strategies.base import ones, token_strategy


@token_strategy(
    "new-only", needs=("new-states",), source="control", cost="one teacher row per token, no old model",
    idea="the new model everywhere: the student stays where it is", formula="m = 0",
)  # fmt: skip
def new_only(facts: Facts, _: Mapping[str, Any]) -> Weights:
    return Weights(new=ones(facts))


@token_strategy(
    "continue-ce", source="control", cost="no teacher",
    idea="the new adapter trained on with cross-entropy", formula="CE",
)  # fmt: skip
def continue_ce(facts: Facts, _: Mapping[str, Any]) -> Weights:
    return Weights(ce=ones(facts))
