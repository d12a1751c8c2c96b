"""What the student follows, token by token or document by document. One registry, one small function each.

Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck_train.loss.rules import Facts, Parts, Weights

if TYPE_CHECKING:
    from torch import Tensor

    from compatcheck_train.loss.view import View

NEEDS = frozenset(
    # Hidden states; log-likelihood of rows' answers; log-probability of the gold token and whether it is ranked first.
    [f"{side}-{what}" for side in ("old", "new") for what in ("states", "sums")]
    + ["old-facts"]
    # One tokenizer; both models' answers to every document; the student's log-likelihood of a row before any weight is
    # known, for which its output layer runs twice.
    + ["same-tokens", "answers", "totals"]
)
Loss = Callable[["View"], Parts]
TokenRule = Callable[[Facts, Mapping[str, Any]], Weights]


@dataclass(frozen=True)
class Strategy:
    """One way to train. ``rows`` is what :func:`compatcheck_train.batches.make_items` takes; ``per`` says whether the
    loss is a mean over ``position`` or over ``document``; ``kinds`` are the tasks it is for; ``ce`` its own weight of
    CE."""

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
        """The options with the user's laid over the defaults; InputError for one it does not have, or a bad value."""
        for name, value in given.items():
            if name not in self.options:
                known, hint = ", ".join(self.options) or "none", did_you_mean(name, self.options)
                raise InputError(f"strategy {self.name} has no option '{name}'{hint}; it has: {known}")
            text = isinstance(self.options[name], str)
            if isinstance(value, str) is not text:
                kind = "text" if text else "number"
                raise InputError(f"strategy {self.name}, option {name}: {value!r} must be a {kind}")
        return {**self.options, **given}

    def needs_with(self, options: Mapping[str, Any]) -> frozenset[str]:
        """What it needs with these options: no states of NEW where the anchor is another."""
        anchored = {**self.options, **options}.get("anchor", "new") == "new"
        return self.needs if anchored else self.needs - {"new-states"}

    def check_kind(self, kind: str, task: str) -> None:
        """Refuse (InputError) a task that the strategy is not for."""
        if kind not in self.kinds:
            fitting = ", ".join(names(kind))
            raise InputError(f"strategy {self.name} is not for {kind} tasks like {task}; there are: {fitting}")

    @property
    def needs_old(self) -> bool:
        return any(need.startswith("old-") for need in self.needs)


_REGISTRY: dict[str, Strategy] = {}


def names(kind: str | None = None) -> list[str]:
    """Names of all strategies, or of those for ``choice`` or ``text`` tasks."""
    return [name for name, found in _REGISTRY.items() if kind is None or kind in found.kinds]


def get(name: str) -> Strategy:
    """A strategy by name; InputError for an unknown one."""
    if name not in _REGISTRY:
        hint = did_you_mean(name, _REGISTRY)
        raise InputError(f"--strategy {name}: no such strategy{hint}; known: {', '.join(_REGISTRY)}")
    return _REGISTRY[name]


def table() -> str:
    """All strategies as a Markdown table: name, idea, formula, source, cost."""
    head = "| strategy | idea | formula | source | cost of a step |\n|---|---|---|---|---|\n"
    rows = [f"| `{s.name}` | {s.idea} | {s.formula} | {s.source} | {s.cost} |" for s in _REGISTRY.values()]
    return head + "\n".join(rows) + "\n"


def strategy(name: str, *, needs: tuple[str, ...] = (), **facts: Any) -> Callable[[Loss], Loss]:
    """Register a loss over a :class:`View` under a name; ``facts`` are further fields of :class:`Strategy`."""
    assert NEEDS.issuperset(needs), needs

    def add(loss: Loss) -> Loss:
        _REGISTRY[name] = Strategy(name=name, loss=loss, needs=frozenset(needs), **facts)
        return loss

    return add


def token_strategy(name: str, *, needs: tuple[str, ...] = (), **facts: Any) -> Callable[[TokenRule], TokenRule]:
    """Register a rule that gives the weights of every position: (facts, options) -> weights.

    L' = (1 − c)·L + c·CE with c the user's ``ce_weight``, or the strategy's own."""

    def add(rule: TokenRule) -> TokenRule:
        def loss(view: View) -> Parts:
            own = get(name).ce if view.settings.ce_weight is None else view.settings.ce_weight
            return view.divergence(lambda facts: _with_ce(rule(facts, view.options), facts, own))

        strategy(name, needs=needs, **facts)(loss)
        return rule

    return add


def _with_ce(weights: Weights, facts: Facts, share: float) -> Weights:
    """(1 − share) of the weights, and ``share`` of CE at every position."""
    if share == 0:
        return weights
    old, new, ce = (
        None if weight is None else weight * (1 - share) for weight in (weights.old, weights.new, weights.ce)
    )
    all_ce = share * _ones(facts) if ce is None else share + ce
    return replace(weights, old=old, new=new, ce=all_ce)


def _ones(facts: Facts) -> Tensor:
    return facts.answer.new_ones(facts.answer.shape).float()


def _split(mask: Any) -> Weights:
    old = mask.float()
    return Weights(old=old, new=1 - old)


_PAPER = "Echterhoff et al. 2024"
_BOTH = ("old-states", "new-states")
_ONE_ROW = "one teacher row per token"
_TWO_ROWS = "two teacher rows per token"


# Multiple choice: on the distribution over the choices. s_k is the log-likelihood of choice k's answer, as lm-eval sums
# it; q = softmax(s / τ). "Anchored": the tokens of the right answer (without a label: of the teachers' likeliest one),
# its end-of-sequence included, keep a term to the new model or a cross-entropy, so that answers stay well-formed.
# Losses are means over documents.

_OPTIONS: dict[str, float | int | str] = {
    "choice_temperature": 1.0, "choice_norm": "none", "choice_ce": 0.0, "anchor": "new", "anchor_weight": 1.0,
}  # fmt: skip


def _choice_strategy(name: str, idea: str, formula: str, source: str, **options: float | str) -> Callable[[Loss], Loss]:
    """Register one with both teachers, or a control without any."""
    needs: tuple[str, ...] = ("old-sums", "new-sums", "new-states")
    cost = "teachers give one number per choice, and the new one its states for `anchor=new`"
    if source == "control":
        needs, cost = (), "no teacher"
    return strategy(
        name, needs=needs, idea=idea, formula=formula, source=source, cost=f"every choice is read; {cost}",
        options={**_OPTIONS, **options}, rows="choices", per="document", kinds=("choice",),
    )  # fmt: skip


def _scaled(view: View, sums: Tensor) -> list[Tensor]:
    """s / τ over the choices of every document, from one number per row."""
    return [part / float(view.options["choice_temperature"]) for part in view.grouped(view.normed(sums))]


def _teachers(view: View) -> list[tuple[Tensor, Tensor]]:
    """(q_old, q_new) of every document."""
    assert view.old is not None and view.new is not None
    old, new = ([each.softmax(-1) for each in _scaled(view, side.sums())] for side in (view.old, view.new))
    return list(zip(old, new, strict=True))


def _follow(view: View, targets: list[Tensor] | None, followed: int = 0) -> Parts:
    """KL from target distributions to the student's, cross-entropy over the choices, and the anchor."""
    choices, ce = [each.log_softmax(-1) for each in _scaled(view, view.student_sums())], view.options["choice_ce"]
    loss, right = view.zero(), 0
    for number, log_q in enumerate(choices):
        if targets is not None:
            p = targets[number].to(log_q.dtype)
            loss = loss + (p.xlogy(p) - p * log_q).sum()
        gold = view.batch.items[number].gold
        if gold is not None:
            right += int(log_q.argmax()) == gold
            if ce:
                loss = loss - ce * log_q[gold]
    likeliest = [int(part.argmax()) for part in targets] if targets is not None else [None] * len(choices)
    return Parts(loss + view.anchor(likeliest), right, followed, len(choices))


@_choice_strategy(
    "choice-ensemble", "the mean of both teachers' distributions over the choices, anchored",
    "KL(s·q_old + (1 − s)·q_new ‖ q_C) + a·anchor", "measured in our own trial; ensemble distillation", old_share=0.5,
)  # fmt: skip
def choice_ensemble(view: View) -> Parts:
    share = float(view.options["old_share"])
    return _follow(view, [share * o + (1 - share) * n for o, n in _teachers(view)], len(view.batch.items))


_choice_strategy(
    "choice-ce", "cross-entropy over the choices and on the right one's tokens: the control over choices",
    "c·CE(q_C) + a·anchor", "control", choice_ce=1.0, anchor="ce",
)(lambda view: _follow(view, None))  # fmt: skip


# Controls: what training on the same data for the same steps does without the old model

token_strategy(
    "new-only", needs=("new-states",), source="control", cost=f"{_ONE_ROW}, no old model", formula="m = 0",
    idea="the new model everywhere: the student stays where it is",
)(lambda facts, _: Weights(new=_ones(facts)))  # fmt: skip

token_strategy(
    "continue-ce", source="control", cost="no teacher", idea="the new adapter trained on with cross-entropy",
    formula="CE",
)(lambda facts, _: Weights(ce=_ones(facts)))  # fmt: skip


# Other ways to follow one or both teachers, token by token


@token_strategy(
    "ensemble", needs=(*_BOTH, "same-tokens"), source="the usual ensemble distillation", cost=_TWO_ROWS,
    options={"old_share": 0.5}, idea="the mean of both teachers everywhere",
    formula="KL(s·p_old + (1 − s)·p_new ‖ p_C)",
)  # fmt: skip
def ensemble(facts: Facts, options: Mapping[str, Any]) -> Weights:
    share = options["old_share"] * _ones(facts)
    return Weights(old=share, new=1 - share, mixture=True)


token_strategy(
    "pct", needs=("old-states", "old-facts"), source="focal distillation, Yan et al. 2021", ce=0.5,
    cost=f"{_ONE_ROW}, no new teacher", options={"alpha": 1.0, "beta": 5.0},
    idea="cross-entropy, and the old model with more weight where it is right",
    formula="λ·(α + β·1[argmax z_old = y])·KL(p_old ‖ p_C) + (1 − λ)·CE",
)(lambda facts, options: Weights(old=options["alpha"] + options["beta"] * facts.old_right.float()))  # fmt: skip


# MUSCLE, and the masks of the paper's ablation (Echterhoff et al. 2024)

token_strategy(
    "muscle", needs=_BOTH, source=_PAPER, cost=_ONE_ROW, formula="m = 1[argmax z_C ≠ y]",
    idea="the old model where the student is wrong on the token, the new one elsewhere",
)(lambda facts, _: _split(~facts.student_right))  # fmt: skip

token_strategy(
    "old-correct", needs=(*_BOTH, "old-facts"), source=f"{_PAPER}, ablation", cost=_ONE_ROW,
    idea="the old model where it is right on the token, the new one elsewhere", formula="m = 1[argmax z_old = y]",
)(lambda facts, _: _split(facts.old_right))  # fmt: skip

token_strategy(
    "old-only", needs=("old-states",), source=f"{_PAPER}, ablation", cost=f"{_ONE_ROW}, no new teacher",
    idea="the old model everywhere", formula="m = 1",
)(lambda facts, _: Weights(old=_ones(facts)))  # fmt: skip

token_strategy(
    "muscle-ce", needs=_BOTH, source=f"{_PAPER}, ablation", cost=_ONE_ROW, ce=0.5, idea="MUSCLE with cross-entropy",
    formula="λ·L + (1 − λ)·CE, m = 1[argmax z_C ≠ y]",
)(lambda facts, _: _split(~facts.student_right))  # fmt: skip

token_strategy(
    "token-likelihood", needs=(*_BOTH, "old-facts"), source=f"{_PAPER}, ablation", cost=_ONE_ROW, ce=0.5,
    idea="the old model where it finds the token likelier than the student does; with cross-entropy",
    formula="λ·L + (1 − λ)·CE, m = 1[p_C(y) < p_old(y)]",
)(lambda facts, _: _split(facts.student_logprob < facts.old_logprob))  # fmt: skip

token_strategy(
    "sequence-likelihood", needs=(*_BOTH, "old-facts", "totals"), source=f"{_PAPER}, ablation (operator inferred)",
    cost=f"{_ONE_ROW}, the student's output layer twice", ce=0.5,
    idea="the old model on whole sequences that it finds likelier than the student does; with cross-entropy",
    formula="λ·L + (1 − λ)·CE, m = 1[Σ log p_C(y) < Σ log p_old(y)]",
)(lambda facts, _: _split(facts.student_total < facts.old_total))  # fmt: skip


# What the models themselves said

token_strategy(
    "sequence-ensemble", needs=("answers",), rows="chosen", kinds=("text",),
    options={"old_share": 0.5, "keep_labels": 0},
    source="sequence-level distillation (Kim & Rush 2016) with two teachers",
    cost="no teacher in a step; both models answer every document once, and read both answers",
    idea="of both models' answers to a document the one that both together find likelier, with cross-entropy",
    formula="CE on the answer a of the two with the highest (s·log p_old(a) + (1 − s)·log p_new(a)) / length of a",
)(lambda facts, _: Weights(ce=_ones(facts)))  # fmt: skip
