"""Whether two models tokenize alike, so that their distributions can be compared token by token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

PROBES = (
    "The quick brown fox jumps over 13 lazy dogs; 4,096 + 3.14 = $4,099.14!",
    " leading space,\n\ttabs\n\n\nand newlines  here ",
    "naïve Ünïcödé ﬁne – 日本語のテキスト Привет مرحبا 🙂👩‍👩‍👧 e\u0301",
    "def f(x_1):\n    return {'a': x_1 ** 2}  # </div> <unk>",
)


@dataclass(frozen=True)
class Sameness:
    """``same``: every text gets the same tokens; ``shared``: the token ids below which both mean the same, where that
    is so; ``why``: what makes them differ, in words."""

    same: bool
    shared: int
    why: str = ""

    def __bool__(self) -> bool:
        return self.same


def same_tokenizer(old: Any, new: Any) -> Sameness:
    """Compares two tokenizers: entries by number, the way to split, and what they make of some texts.

    Vocabularies that merely differ at their end (entries added behind the common ones, or padding of the model's output
    layer, which no tokenizer knows) count as the same: ``shared`` says how many ids both have. Distributions are then
    compared on the shared ids, each normalised over them: the added entries have no counterpart in the other model.
    """
    left, right = _by_number(old), _by_number(new)
    shared = min(len(left), len(right))
    for number in range(shared):
        if left[number] != right[number]:
            return Sameness(False, 0, f"token {number} is {left[number]!r} in the old and {right[number]!r} in the new")
    longer = [*left[shared:], *right[shared:]]
    added = {*_added(old), *_added(new)}
    if plain := [entry for entry in longer if entry is not None and entry not in added]:
        return Sameness(False, 0, f"{len(plain)} entries are in only one vocabulary, the first {plain[0]!r}")
    ours, theirs = _rules(old), _rules(new)
    for name in ours:
        if ours[name] != theirs[name]:
            return Sameness(False, 0, f"the same vocabulary, but {name}")
    for probe in PROBES:
        if old(probe)["input_ids"] != new(probe)["input_ids"]:
            return Sameness(False, 0, f"the same vocabulary, but other tokens for {probe[:20]!r}")
    return Sameness(True, shared)


def _by_number(tokenizer: Any) -> list[str | None]:
    entries: dict[int, str] = {number: text for text, number in tokenizer.get_vocab().items()}
    return [entries.get(number) for number in range(max(entries, default=-1) + 1)]


def _added(tokenizer: Any) -> set[str]:
    return {token.content for token in tokenizer.added_tokens_decoder.values()}


def _rules(tokenizer: Any) -> dict[str, Any]:
    """How a text is split and what is put around it, without the vocabulary (its order of merges stays)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {"another class": type(tokenizer).__name__}
    state = json.loads(backend.to_str())
    model = {key: value for key, value in state["model"].items() if key != "vocab"}
    if state["model"]["type"] == "Unigram":
        model["scores"] = [score for _, score in state["model"]["vocab"]]
    return {
        "another normalizer": state["normalizer"],
        "another way of splitting": state["pre_tokenizer"],
        "another model": model,
        "other start and end tokens": state["post_processor"],
    }
