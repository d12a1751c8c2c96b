"""Preference tuning on what the new model got worse: the old output chosen, the new one rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compatcheck_train.strategies.base import Parts, strategy

if TYPE_CHECKING:
    from compatcheck_train.view import View


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
