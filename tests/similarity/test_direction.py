"""Which way a metric points, by its name."""

from __future__ import annotations

import pytest

from compatcheck.similarity.direction import higher_is_better

LOWER = """
    perplexity ppl PPL loss nll edit_distance mae rmse MSE latency toxicity word_error_rate WER cer ter val_loss
    avg_WER avgWER valLoss losses bits_per_byte byte_perplexity word_perplexity brier_score perplexities
    meanSquaredError bits-per-character cross_entropy negative_log_likelihood nll_loss accuracy_drop accuracy_loss
    toxic_frac latency_ms expected_max_toxicity ece_10_bin false_positive_rate kl_divergence num_errors
    edit/distance TTFT levenshtein eval.loss hallucination_rate not_correct LOSS rouge_degradation toxicity_score
    log-loss
"""
HIGHER = """
    accuracy acc_norm exact_match f1 F1 macro_f1 rouge1 rougeL ROUGE-2 bleu chrF bertscore BERTScore win_rate
    lossless lossless_rate error_free neg_mean_squared_error neg_loss error_reduction 1-wer one_minus_wer
    wer_accuracy error_detection_accuracy logprob log_prob loglikelihood non_toxicity edit_similarity
    levenshtein_ratio latency_improvement reward judge contains
"""
UNKNOWN = """
    score bias num_tokens likelihood_diff weather glossary closeness rank mean drop
"""


@pytest.mark.parametrize("name", LOWER.split())
def test_a_smaller_one_is_better(name: str) -> None:
    assert higher_is_better(name) is False


@pytest.mark.parametrize("name", HIGHER.split())
def test_a_greater_one_is_better(name: str) -> None:
    assert higher_is_better(name) is True


@pytest.mark.parametrize("name", [*UNKNOWN.split(), ""])
def test_a_name_that_says_nothing(name: str) -> None:
    assert higher_is_better(name) is None
