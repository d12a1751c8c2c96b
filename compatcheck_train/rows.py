"""Examples as tokens, exactly as lm-eval's engines make them, and where the answer begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compatcheck.errors import InputError
from compatcheck_train.examples import Example


@dataclass(frozen=True)
class Row:
    """One sequence: tokens, the index of the first token of the answer, whether an end-of-sequence token was added, and
    the texts. ``size`` is the answer's length in (characters, bytes), as ``acc_norm`` and ``acc_bytes`` count it."""

    ids: tuple[int, ...]
    answer: int
    eos: bool
    context: str
    text: str

    @property
    def size(self) -> tuple[int, int]:
        return max(1, len(self.text.lstrip())), max(1, len(self.text.lstrip().encode()))


@dataclass(frozen=True)
class Item:
    """One example as rows, in the order of its choices. ``gold`` is the index of the right row; ``kind`` is ``answer``
    (one row), ``choices``, ``pair`` (chosen, rejected) or ``context`` (one row without an answer)."""

    kind: str
    rows: tuple[Row, ...]
    gold: int | None
    example: Example

    @property
    def length(self) -> int:
        return max(len(row.ids) for row in self.rows)


class Encoder:
    """A tokenizer with the few attributes that ``compatcheck.engines.hf.encoding`` wants of an engine."""

    add_bos_token: bool | None = None

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @property
    def prefix_token_id(self) -> int:
        bos = self.tokenizer.bos_token_id
        return int(bos if bos is not None else self.tokenizer.eos_token_id)

    def tok_encode(self, string: str, add_special_tokens: bool = True) -> list[int]:
        return list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens))


def make_items(tokenizer: Any, examples: Sequence[Example], rows: str, max_length: int) -> list[Item]:
    """Tokenize examples into items of the kind a strategy wants.

    Args:
        rows: ``answer``: context and right answer; ``chosen``: context and chosen answer, where there is one;
            ``choices``: context with every choice; ``pairs``: chosen and rejected where there are, else context and
            right answer. Without a label: all choices, or the context alone.
        max_length: tokens at most; the beginning of a longer context is left out, as lm-eval does.

    Raises:
        InputError: an answer alone is longer than that, or the tokenizer has neither a start nor an end token.
    """
    from compatcheck.engines.hf.encoding import encode_pairs

    encoder = Encoder(tokenizer)
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has neither a start nor an end token; lm-eval cannot score with it either")
    wanted = [_texts(example, rows) for example in examples]
    flat = [pair for _, pairs, _ in wanted for pair in pairs]
    encoded = iter(encode_pairs(encoder, flat))
    items = []
    for example, (kind, pairs, gold) in zip(examples, wanted, strict=True):
        made = tuple(_row(next(encoded), pair, tokenizer.eos_token_id, max_length, example, kind) for pair in pairs)
        if made[0].ids:
            items.append(Item(kind, made, gold, example))
    return items


def _texts(example: Example, rows: str) -> tuple[str, tuple[tuple[str, str], ...], int | None]:
    if rows == "pairs" and example.chosen is not None and example.rejected is not None:
        context = example.pairs[0][0]
        return "pair", ((context, example.chosen), (context, example.rejected)), 0
    if rows == "chosen" and example.chosen is not None:
        return "answer", ((example.pairs[0][0], example.chosen),), 0
    if rows == "choices":
        return "choices", example.pairs, example.gold
    if example.gold is None:
        return "context", ((example.pairs[0][0], ""),), None
    return "answer", (example.pairs[example.gold],), 0


def _row(
    tokens: tuple[list[int], list[int]], pair: tuple[str, str], eos: int | None, most: int, example: Example, kind: str
) -> Row:
    context, answer = tokens
    ends = kind != "context" and eos is not None
    tail = [*answer, eos] if ends and eos is not None else answer
    room = most - len(tail)
    if room < 1:
        raise InputError(f"document {example.doc_id}: its answer has {len(tail)} tokens, max_length is {most}")
    context = context[-room:]
    return Row((*context, *tail), len(context), ends, *pair)
