"""Which way a score points, told from its name where nothing better says so: a loss falls, an accuracy rises."""

from __future__ import annotations

import re


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_LOWER = _set(
    """perplexity ppl loss nll nlpd bpb bpc crossentropy wer cer ter mae mse rmse rmsle mape smape error err distance
    levenshtein divergence kl kld jsd ece brier latency runtime duration elapsed second ttft tpot itl cost price
    toxicity toxic hate harm harmful harmfulness unsafe violation hallucination hallucinated stereotype jailbreak regret
    penalty fail failure failed mistake wrong incorrect miss surprisal"""
)
"""Words of names by which a smaller score is the better one."""
_HIGHER = _set(
    """accuracy acc em match f1 precision recall rouge bleu sacrebleu chrf chr meteor bert bertscore comet bleurt cider
    auc auroc map mrr dcg ndcg mcc kappa correlation pearson spearman similarity correct correctness right pass success
    solved win hit quality helpfulness faithfulness groundedness relevance relevancy coherence fluency safety safe
    reward likelihood loglikelihood logprob lossless throughput overlap iou miou jaccard gain improvement robustness
    resistance avoidance exact contains judge"""
)
_TURNS_NEXT = _set("neg negative inverse inverted inv minus minu non no not without")
_TURNS_LAST = _set("reduction decrease drop degradation free")
_UNSETTLES = _set("diff difference delta gap")
_TOGETHER = {
    "cross entropy": "crossentropy", "log likelihood": "likelihood", "log prob": "logprob", "log probability":
    "logprob", "bit per": "bpb", "levenshtein ratio": "similarity", "false positive": "wrong", "false negative":
    "wrong",
}  # fmt: skip
_WORD = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")


def higher_is_better(name: str) -> bool | None:
    """Whether a higher score is better, by the last word of the name that says it; None where none does.

    Words are the parts of a name between marks and at capitals, so ``val_loss``, ``avg_WER`` and ``meanSquaredError``
    are known and ``lossless`` is no loss. Words that turn the meaning do: ``neg_mean_squared_error``,
    ``error_reduction``, ``accuracy_drop``, ``1-wer``.
    """
    if name.lower() in _HIGHER | _LOWER:
        return name.lower() in _HIGHER
    found: bool | None = None
    turn = re.match(r"\s*1\s*[-−]", name) is not None
    for word in _words(name):
        if word in _UNSETTLES:
            found = None
        elif word in _TURNS_NEXT:
            turn = True
        elif word in _TURNS_LAST:
            found = None if found is None else not found
        elif word in _LOWER or word in _HIGHER:
            found, turn = (word in _HIGHER) is not turn, False
    return found


def _words(name: str) -> list[str]:
    words = [_plain(word.lower()) for word in _WORD.findall(name)]
    joined: list[str] = []
    for word in words:
        if joined and (both := f"{joined[-1]} {word}") in _TOGETHER:
            joined[-1] = _TOGETHER[both]
        else:
            joined.append(word)
    return joined


def _plain(word: str) -> str:
    """Without numbers at the end (``rouge2``) and in the singular (``errors``, ``perplexities``, ``losses``)."""
    if word == "f1" or word.isdigit():
        return word
    word = word.rstrip("0123456789")
    if word in _LOWER or word in _HIGHER:
        return word
    for ending, singular in (("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("s", "")):
        if word.endswith(ending) and not word.endswith("ss"):
            return word.removesuffix(ending) + singular
    return word
