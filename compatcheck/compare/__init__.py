"""Pairing, quadrants, compatibility metrics with intervals, slices. Pure: numpy, scipy and pandas, no engine."""

from compatcheck.compare.comparison import compare
from compatcheck.compare.result import (
    INSTANCE_COLUMNS,
    QUADRANTS,
    SCHEMA,
    SMOOTH_GROUPS,
    Advice,
    Comparison,
    Estimate,
    Gate,
    NoiseFloor,
    Pairing,
    Result,
    Side,
    Slice,
)
from compatcheck.compare.settings import RESAMPLES

__all__ = [
    "INSTANCE_COLUMNS", "QUADRANTS", "RESAMPLES", "SCHEMA", "SMOOTH_GROUPS", "Advice", "Comparison", "Estimate",
    "Gate", "NoiseFloor", "Pairing", "Result", "Side", "Slice", "compare",
]  # fmt: skip
