"""Scores of a generated summary, for task YAMLs (``process_results``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """ROUGE-1 F-measure (0 to 1) of the first response against ``doc["summary"]``."""
    from compatcheck import similarity

    scores = similarity.get("rouge1").score([results[0]], [str(doc["summary"])])
    return {"rouge1": float(scores[0])}
