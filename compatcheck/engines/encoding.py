"""Text to tokens exactly as lm-eval does it, in a few calls to the tokenizer instead of one for every string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.models.utils import has_bos_prefix

Pair = tuple[list[int], list[int]]


def encode_pairs(engine: Any, strings: Sequence[tuple[str, str]]) -> list[Pair]:
    """What lm-eval's ``_encode_pair`` gives for each (context, continuation); every context is encoded once.

    Spaces at the end of a context belong to its continuation. The continuation's tokens are what follows the context's
    tokens when both are encoded together. Without a context the model's start token stands in for it.

    Args:
        engine: an ``HFLM`` of a causal model.
    """
    moved = []
    for context, continuation in strings:
        bare = context.rstrip()
        moved.append((bare, context[len(bare) :] + continuation) if context else (context, continuation))
    contexts = list(dict.fromkeys(context for context, _ in moved))
    context_tokens = dict(zip(contexts, encode_all(engine, contexts), strict=True))
    wholes = encode_all(engine, [context + continuation for context, continuation in moved])
    pairs = []
    for (original, _), (context, continuation), whole in zip(strings, moved, wholes, strict=True):
        if original:
            before = context_tokens[context]
            pairs.append((before, whole[len(before) :]))
        else:
            alone = engine.tok_encode(continuation, add_special_tokens=False)
            starts = bool(alone) and alone[0] == engine.prefix_token_id
            pairs.append((alone[:1], alone[1:]) if starts else ([engine.prefix_token_id], alone))
    return pairs


def encode_all(engine: Any, strings: Sequence[str]) -> list[list[int]]:
    """``tok_encode`` of each string."""
    start = engine.tokenizer.decode(engine.prefix_token_id)
    found: list[list[int]] = [[]] * len(strings)
    for has_start in (False, True):
        numbers = [n for n, string in enumerate(strings) if has_bos_prefix(string, start) is has_start]
        if not numbers:
            continue
        given = engine.add_bos_token
        options = {} if given is None and not has_start else {"add_special_tokens": bool(given) and not has_start}
        encoded = engine.tokenizer([strings[n] for n in numbers], **options)["input_ids"]
        for number, tokens in zip(numbers, encoded, strict=True):
            found[number] = list(tokens)
    return found
