"""What the recipes take, from a stated formula; `python recipes/estimate.py` writes the tables of docs/recipes.md.

Estimates: nothing here was measured. Symbols as in docs/recipes.md.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "recipes.md"
FAMILIES = ("phi", "llama", "vicuna")

DOCUMENTS = {"hellaswag": 39_905, "piqa": 16_113, "gsm8k": 7_473, "samsum": 14_732}
"""Rows of the training splits."""
TOKENS = {"hellaswag": 100, "piqa": 40, "gsm8k": 180, "samsum": 200}
"""Tokens of a training document, prompt and answer: assumed, not counted."""
RATE = 100e12
"""Operations a second that one GPU sustains: assumed, about a third of what an A100 can do in bfloat16."""
RANK, EPOCHS, TRAINED = 128, 10, 0.8
"""Of the preset ``paper``: LoRA rank, epochs, and the share of the documents that is trained on."""


@dataclass(frozen=True)
class Model:
    """One model of a family, with the shape of a block."""

    name: str
    hub: str
    tokenizer: str
    layers: int
    hidden: int
    vocabulary: int
    linear: tuple[tuple[int, int], ...]

    @property
    def parameters(self) -> int:
        """P: linear layers, embeddings and output layer; norms and biases are left out."""
        return self.layers * sum(a * b for a, b in self.linear) + 2 * self.vocabulary * self.hidden

    @property
    def adapter(self) -> int:
        """n: parameters of a LoRA adapter on every linear layer."""
        return self.layers * RANK * sum(a + b for a, b in self.linear)


@dataclass(frozen=True)
class Pair:
    """An update. ``paper`` holds the paper's figures by task, and is empty where they are not given."""

    old: Model
    new: Model
    paper: dict[str, dict[str, float]]

    @property
    def other_tokens(self) -> bool:
        return self.old.tokenizer != self.new.tokenizer


def load(family: str) -> tuple[list[Model], list[Pair]]:
    """Models and pairs of a family's file."""
    read: dict[str, Any] = tomllib.loads((ROOT / "recipes" / f"{family}.toml").read_text(encoding="utf-8"))
    models = [Model(**{**one, "linear": tuple(map(tuple, one["linear"]))}) for one in read["models"]]
    named = {model.name: model for model in models}
    return models, [Pair(named[one["old"]], named[one["new"]], one.get("paper", {})) for one in read["pairs"]]


def training(model: Model, task: str) -> float:
    """Operations of one training with its validations."""
    tokens = DOCUMENTS[task] * TOKENS[task]
    fit = TRAINED * tokens * EPOCHS * (4 * model.parameters + 6 * model.adapter)
    hold = (1 - TRAINED) * tokens * (EPOCHS + 1) * 2 * model.parameters
    return fit + hold


def fixing(pair: Pair, task: str) -> float:
    """Operations of a fix: compat and control, and each teacher once. The evaluations are not in it."""
    teachers = DOCUMENTS[task] * TOKENS[task] * 2 * (pair.old.parameters + pair.new.parameters)
    return 2 * training(pair.new, task) + teachers


def memory(model: Model) -> float:
    """Bytes of weights, trained adapter with optimiser, and NEW's own adapter; activations come on top."""
    return 2 * model.parameters + (16 + 4) * model.adapter


def disk(pair: Pair, task: str) -> float:
    """Bytes of both teachers' kept states."""
    return DOCUMENTS[task] * TOKENS[task] * 2 * (pair.old.hidden + pair.new.hidden)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _hours(operations: float) -> str:
    return f"{operations / RATE / 3600:.1f} h"


def _change(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def models_table() -> str:
    lines = [_row("model", "hub id", "P", "n", "tokenizer", "memory, at least"), "|---|---|--:|--:|---|--:|"]
    for family in FAMILIES:
        for each in load(family)[0]:
            size = (f"{each.parameters / 1e9:.2f} billion", f"{each.adapter / 1e6:.0f} million")
            lines.append(_row(each.name, f"`{each.hub}`", *size, each.tokenizer, f"{memory(each) / 1e9:.0f} GB"))
    return "\n".join(lines)


def figures_table() -> str:
    lines = [_row("pair", "task", "old, new, compat", "NFR old → new", "ΔNFR", "Δ%"), "|---|---|---|--:|--:|--:|"]
    for family in FAMILIES:
        for pair in load(family)[1]:
            name = f"{pair.old.name} → {pair.new.name}"
            for task in DOCUMENTS if pair.paper else ():
                one = pair.paper[task]
                scores = f"{one['old']:.2f}, {one['new']:.2f}, {one['compat']:.2f}"
                change = (_change(one["change"], 2), _change(one["percent"], 1))
                lines.append(_row(name, task, scores, f"{one['nfr']:.2f}", *change))
            if not pair.paper:
                note = "other tokenizer: beyond the paper's method" if pair.other_tokens else "not given here"
                lines.append(_row(name, "all four", note, "", "", ""))
    return "\n".join(lines)


def costs_table() -> str:
    lines = [_row("command", *DOCUMENTS, "kept states, most"), "|---|" + "--:|" * (len(DOCUMENTS) + 1)]
    for family in FAMILIES:
        models, pairs = load(family)
        lines += [_row(f"`train-task` {m.name}", *(_hours(training(m, t)) for t in DOCUMENTS), "") for m in models]
        for pair in pairs:
            most = max(disk(pair, task) for task in DOCUMENTS)
            cells = [_hours(fixing(pair, task)) for task in DOCUMENTS]
            lines.append(_row(f"`fix` {pair.old.name} → {pair.new.name}", *cells, f"{most / 1e9:.0f} GB"))
    return "\n".join(lines)


def written(page: str) -> str:
    """The page with its tables as they are now."""
    for name, table in (("models", models_table()), ("figures", figures_table()), ("costs", costs_table())):
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise ValueError(f"{PAGE.name}: one <!-- {name} --> … <!-- /{name} --> is expected")
        page = pattern.sub(lambda m, table=table: f"{m[1]}\n{table}\n\n{m[2]}", page)  # type: ignore[misc]
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
