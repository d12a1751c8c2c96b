"""Old and new model with different tokenizers: what corresponds to what, and the loss on it.

``vocabulary`` and ``spans`` say which bytes of a text each token stands for, ``chunks`` where two tokenizations meet,
``same`` whether they differ at all, ``mapping`` which tokens of two vocabularies are the same event. ``alm`` compares
likelihoods of chunks, ``projection`` next-token distributions; ``term`` makes either of them the old model's part of
the loss, ``choices`` gives the old model's likelihood of the choices to the strategies that compare those.

Importing this package loads no torch.
"""

from __future__ import annotations

from compatcheck_train.align.chunks import Chunks, chunks
from compatcheck_train.align.same import Sameness, same_tokenizer
from compatcheck_train.align.spans import Spans, spans
from compatcheck_train.align.vocabulary import Vocabulary

__all__ = ["Chunks", "Sameness", "Spans", "Vocabulary", "chunks", "same_tokenizer", "spans"]
