"""Multiple choice: act where the task is scored, on the distribution over the choices.

s_k is the log-likelihood of choice k's answer, as lm-eval sums it; q = softmax(s / τ). "Anchored": the tokens of the
right answer (without a label: of the likeliest one), its end-of-sequence included, keep a term to the new model or a
cross-entropy, so that answers stay well-formed. Losses are means over documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compatcheck_train.loss.strategies.base import Parts, strategy

if TYPE_CHECKING:
    from torch import Tensor

    from compatcheck_train.loss.view import View

_OPTIONS: dict[str, float | int | str] = {
    "choice_temperature": 1.0, "choice_norm": "none", "choice_ce": 0.0, "anchor": "new", "anchor_weight": 1.0,
}  # fmt: skip
_NEEDS = ("old-sums", "new-sums", "new-states")
_COMMON: dict[str, Any] = {"rows": "choices", "per": "document", "kinds": ("choice",)}
_COST = "every choice is read; teachers give one number per choice, and the new one its states for the anchor"


def _distributions(view: View, sums: Tensor) -> list[Tensor]:
    """softmax(s / τ) over the choices of every document, from one number per row."""
    scale = float(view.options["choice_temperature"])
    return [(part / scale).softmax(-1) for part in view.grouped(view.normed(sums))]


def _follow(view: View, targets: list[Tensor] | None, followed: int = 0, ce: float = 0.0) -> Parts:
    """KL from target distributions to the student's, cross-entropy over the choices, and the anchor."""
    scale = float(view.options["choice_temperature"])
    choices = [(part / scale).log_softmax(-1) for part in view.grouped(view.normed(view.student_sums()))]
    loss = view.zero()
    right, labelled = 0, 0
    for number, log_q in enumerate(choices):
        if targets is not None:
            p = targets[number].to(log_q.dtype)
            loss = loss + (p.xlogy(p) - p * log_q).sum()
        gold = view.batch.items[number].gold
        if gold is not None:
            labelled += 1
            right += int(log_q.argmax()) == gold
            if ce:
                loss = loss - ce * log_q[gold]
    likeliest = [int(part.argmax()) for part in (targets if targets is not None else [c.detach() for c in choices])]
    loss = loss + view.anchor(likeliest)
    return Parts(loss, right, followed, len(choices))


@strategy(
    "choice-ensemble", needs=_NEEDS, source="measured in our own trial; ensemble distillation", cost=_COST,
    options={**_OPTIONS, "old_share": 0.5}, idea="the mean of both teachers' distributions over the choices, anchored",
    formula="KL(s·q_old + (1 − s)·q_new ‖ q_C) + a·anchor", **_COMMON,
)  # fmt: skip
def choice_ensemble(view: View) -> Parts:
    share = float(view.options["old_share"])
    pairs = zip(_distributions(view, view.old_sums()), _distributions(view, view.new_sums()), strict=True)
    return _follow(view, [share * o + (1 - share) * n for o, n in pairs], view.documents, view.options["choice_ce"])


@strategy(
    "choice-ensemble-ce", needs=_NEEDS, source="measured in our own trial", cost=_COST,
    options={**_OPTIONS, "old_share": 0.5, "choice_ce": 0.3}, idea="the same with cross-entropy over the choices",
    formula="KL(s·q_old + (1 − s)·q_new ‖ q_C) + c·CE(q_C) + a·anchor", **_COMMON,
)  # fmt: skip
def choice_ensemble_ce(view: View) -> Parts:
    return choice_ensemble(view)


@strategy(
    "choice-old-right", needs=_NEEDS, source="measured in our own trial", cost=_COST, options=_OPTIONS,
    idea="the old model's distribution where only it is right, the new one's elsewhere, anchored",
    formula="KL(q_old ‖ q_C) where old right ∧ new wrong, else KL(q_new ‖ q_C); + c·CE(q_C) + a·anchor", **_COMMON,
)  # fmt: skip
def choice_old_right(view: View) -> Parts:
    old, new = _distributions(view, view.old_sums()), _distributions(view, view.new_sums())
    golds = [item.gold for item in view.batch.items]
    lost = [
        gold is not None and int(o.argmax()) == gold and int(n.argmax()) != gold
        for gold, o, n in zip(golds, old, new, strict=True)
    ]
    targets = [o if only_old else n for only_old, o, n in zip(lost, old, new, strict=True)]
    return _follow(view, targets, sum(lost), view.options["choice_ce"])


@strategy(
    "choice-ce", needs=("new-states",), source="control", options={**_OPTIONS, "choice_ce": 1.0},
    cost="every choice is read; the new model's states for the anchor",
    idea="cross-entropy over the choices, anchored: the control of the strategies over choices",
    formula="c·CE(q_C) + a·anchor", **_COMMON,
)  # fmt: skip
def choice_ce(view: View) -> Parts:
    return _follow(view, None, 0, view.options["choice_ce"])
