"""What the student follows, token by token or document by document. One registry, one small function each.

Importing this loads no torch.
"""

from __future__ import annotations

from compatcheck.errors import InputError, did_you_mean
from compatcheck_train.loss.strategies import choice, controls, distillation, muscle, preference
from compatcheck_train.loss.strategies.base import REGISTRY, Parts, Strategy, strategy, token_strategy

__all__ = ["Parts", "Strategy", "get", "names", "strategy", "table", "token_strategy"]

_MODULES = (muscle, controls, distillation, choice, preference)


def names(kind: str | None = None) -> list[str]:
    """Names of all strategies, or of those for ``choice`` or ``text`` tasks."""
    return [name for name, found in REGISTRY.items() if kind is None or kind in found.kinds]


def get(name: str) -> Strategy:
    """A strategy by name.

    Raises:
        InputError: no such strategy.
    """
    if name not in REGISTRY:
        hint = did_you_mean(name, REGISTRY)
        raise InputError(f"--strategy {name}: no such strategy{hint}; known: {', '.join(REGISTRY)}")
    return REGISTRY[name]


def table() -> str:
    """All strategies as a Markdown table: name, idea, formula, source, cost."""
    head = "| strategy | idea | formula | source | cost of a step |\n|---|---|---|---|---|\n"
    rows = [f"| `{s.name}` | {s.idea} | {s.formula} | {s.source} | {s.cost} |" for s in REGISTRY.values()]
    return head + "\n".join(rows) + "\n"
