"""Did it help? Paired figures of old, new, compat and control on the test split, and a verdict on them."""

from __future__ import annotations

from compatcheck_train.fix.proof.proof import Flow, MetricProof, Proof, prove
from compatcheck_train.fix.proof.seeds import Seeds
from compatcheck_train.fix.proof.verdict import COMPAT, CONTROL, MARGIN, VERDICTS, Judgement, judge

__all__ = [
    "COMPAT", "CONTROL", "MARGIN", "VERDICTS", "Flow", "Judgement", "MetricProof", "Proof", "Seeds", "judge", "prove",
]  # fmt: skip
