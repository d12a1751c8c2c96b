"""BLEU and chrF equal sacreBLEU's sentence scores, divided by 100."""

from __future__ import annotations

import sacrebleu

from compatcheck import similarity

PREDICTIONS = ["The cat sat on the mat.", "A completely different line", "one two", ""]
TARGETS = ["The cat is sitting on the mat.", "Nothing in common here", "one two", "x"]


def test_bleu() -> None:
    expected = [
        sacrebleu.sentence_bleu(p, [t], use_effective_order=True).score / 100
        for p, t in zip(PREDICTIONS, TARGETS, strict=True)
    ]
    assert similarity.get("bleu").score(PREDICTIONS, TARGETS).tolist() == expected
    assert 0 < expected[0] < 1


def test_chrf() -> None:
    expected = [sacrebleu.sentence_chrf(p, [t]).score / 100 for p, t in zip(PREDICTIONS, TARGETS, strict=True)]
    assert similarity.get("chrf").score(PREDICTIONS, TARGETS).tolist() == expected
    assert 0 < expected[0] < 1


def test_several_references() -> None:
    references = ["The cat is sitting on the mat.", "The cat sat on a mat."]
    bleu = sacrebleu.sentence_bleu(PREDICTIONS[0], references, use_effective_order=True).score / 100
    chrf = sacrebleu.sentence_chrf(PREDICTIONS[0], references).score / 100
    assert similarity.get("bleu").score(PREDICTIONS[:1], [references])[0] == bleu
    assert similarity.get("chrf").score(PREDICTIONS[:1], [references])[0] == chrf
