"""Budgets and verdicts: ``rules`` reads budgets, ``verdict`` judges them, ``doubts`` says why a verdict does not stand,
``sequential`` judges while instances come in."""

from compatcheck.gate.doubts import MAX_MISSING, doubts_of, noise_remarks, remarks
from compatcheck.gate.rules import (
    ADVISORY,
    CRITICAL,
    GRAMMAR,
    Rule,
    check_reference,
    parse_rules,
    parse_share,
    slice_fields,
)
from compatcheck.gate.verdict import MIN_AVERAGED, exit_code, judge, judge_all, judge_one, settle, verdict_of, worst

__all__ = [
    "ADVISORY", "CRITICAL", "GRAMMAR", "MAX_MISSING", "MIN_AVERAGED", "Rule", "check_reference", "doubts_of",
    "exit_code", "judge", "judge_all", "judge_one", "noise_remarks", "parse_rules", "parse_share", "remarks", "settle",
    "slice_fields", "verdict_of", "worst",
]  # fmt: skip
