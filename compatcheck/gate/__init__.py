"""Budgets and verdicts: does the evidence show that a metric keeps its budget, that it breaks it, or neither?

:mod:`~compatcheck.gate.rules` reads budgets, :mod:`~compatcheck.gate.verdict` judges one of them,
:mod:`~compatcheck.gate.family` all of a run together, :mod:`~compatcheck.gate.needed` says how many instances would
settle one, :mod:`~compatcheck.gate.noise` holds budgets against the noise floor.
"""

from compatcheck.gate.doubts import MAX_MISSING, doubts_of, remarks
from compatcheck.gate.family import exit_code, judge
from compatcheck.gate.noise import noise_remarks
from compatcheck.gate.rules import ADVISORY, CRITICAL, GRAMMAR, Rule, parse_rules, parse_share
from compatcheck.gate.verdict import MIN_AVERAGED, judge_one, settle

__all__ = [
    "ADVISORY",
    "CRITICAL",
    "GRAMMAR",
    "MAX_MISSING",
    "MIN_AVERAGED",
    "Rule",
    "doubts_of",
    "exit_code",
    "judge",
    "judge_one",
    "noise_remarks",
    "parse_rules",
    "parse_share",
    "remarks",
    "settle",
]
