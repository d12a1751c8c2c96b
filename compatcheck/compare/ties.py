"""Near ties: how sure a model was of its choice, and which flips hang on a hair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from compatcheck.compare.intervals import Floats
from compatcheck.compare.pairing import Rows


def margins(records: pd.DataFrame, rows: Rows) -> Floats | None:
    """How much likelier the likeliest choice is than the next one: a difference of log-likelihoods in nats.

    NaN where fewer than two choices have a finite log-likelihood; None where the records have none. Shape (rows,).
    """
    if "loglikelihoods" not in records:
        return None
    column = records["loglikelihoods"].to_numpy(dtype=object)[rows]
    found = np.array([_margin(values) for values in column], dtype=np.float64)
    return found if np.isfinite(found).any() else None


def _margin(values: Sequence[float] | None) -> float:
    if values is None or isinstance(values, float):
        return float("nan")
    known = sorted(float(value) for value in values if value is not None and np.isfinite(value))
    return known[-1] - known[-2] if len(known) > 1 else float("nan")
