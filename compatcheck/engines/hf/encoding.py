"""Text to tokens exactly as lm-eval does it, in a few calls to the tokenizer instead of one for every string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.models.utils import has_bos_prefix

from compatcheck.errors import InputError

Pair = tuple[list[int], list[int]]


def start_token(engine: Any) -> int | None:
    """The token that lm-eval puts in place of an empty context: the user's, BOS or EOS; None where there is none."""
    tokenizer = engine.tokenizer
    found = (getattr(engine, "custom_prefix_token_id", None), tokenizer.bos_token_id, tokenizer.eos_token_id)
    return next((token for token in found if token is not None), None)


def require_start(engine: Any) -> int:
    """As :func:`start_token`; raises InputError where there is none."""
    start = start_token(engine)
    if start is None:
        raise InputError(
            f"{engine.tokenizer.name_or_path}: a prompt is empty, and the tokenizer has neither a BOS nor an EOS token "
            "to begin with; name one by its number: --engine-arg prefix_token_id=N"
        )
    return start


def encode_pairs(engine: Any, strings: Sequence[tuple[str, str]]) -> list[Pair]:
    """What lm-eval's ``_encode_pair`` gives for each (context, continuation); every context is encoded once.

    Spaces at the end of a context belong to its continuation. The continuation's tokens are what follows the context's
    tokens when both are encoded together. Without a context the model's start token stands in for it. ``engine`` is an
    ``HFLM`` of a causal model."""
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
            start = require_start(engine)
            starts = bool(alone) and alone[0] == start
            pairs.append((alone[:1], alone[1:]) if starts else ([start], alone))
    return pairs


def encode_all(engine: Any, strings: Sequence[str]) -> list[list[int]]:
    """``tok_encode`` of each string."""
    first = start_token(engine)
    start = None if first is None else engine.tokenizer.decode(first)
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
