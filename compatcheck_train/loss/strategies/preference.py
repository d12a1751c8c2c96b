"""What the models themselves said: the likelier of both answers; the old one preferred where the new got worse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compatcheck_train.loss.rules import Facts, Weights
from compatcheck_train.loss.strategies.base import Parts, ones, strategy, token_strategy

if TYPE_CHECKING:
    from compatcheck_train.loss.view import View


@token_strategy(
    "sequence-ensemble", needs=("answers",), rows="chosen", kinds=("text",),
    options={"old_share": 0.5, "keep_labels": 0},
    source="sequence-level distillation (Kim & Rush 2016) with two teachers",
    cost="no teacher in a step; both models answer every document once, and read both answers",
    idea="of both models' answers to a document the one that both together find likelier, with cross-entropy",
    formula="CE on the answer a of the two with the highest (s·log p_old(a) + (1 − s)·log p_new(a)) / length of a",
)  # fmt: skip
def sequence_ensemble(facts: Facts, _: Mapping[str, Any]) -> Weights:
    return Weights(ce=ones(facts))


@strategy(
    "regression-preference", needs=("new-sums", "new-states"), rows="pairs", per="document", kinds=("text",),
    options={"beta": 0.1, "anchor": "new", "anchor_weight": 1.0}, source="DPO (Rafailov et al. 2023) on regressions",
    cost="two rows where NEW got worse, one elsewhere; both models generate on the training split once",
    idea="the old output preferred to the new one on documents that got worse; the new model elsewhere",
    formula="−log σ(β·[log p_C/p_new (old output) − log p_C/p_new (new output)]) + a·anchor",
)  # fmt: skip
def regression_preference(view: View) -> Parts:
    from torch.nn import functional

    student, reference = view.grouped(view.student_sums(end=True)), view.grouped(view.new_sums(end=True))
    loss, right, pairs = view.zero(), 0, 0
    for item, mine, theirs in zip(view.batch.items, student, reference, strict=True):
        if item.kind != "pair":
            continue
        margin = (mine[0] - theirs[0]) - (mine[1] - theirs[1])
        loss = loss + functional.softplus(-float(view.options["beta"]) * margin)
        pairs += 1
        right += bool(mine[0] > mine[1])
    loss = loss + view.anchor([0] * view.documents)
    return Parts(loss, right, pairs, view.documents)
