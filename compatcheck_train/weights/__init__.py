"""Work on adapters' weights without training: blends of two adapters, and an adapter's update on another base."""

from __future__ import annotations

from compatcheck_train.weights.blend import METHODS, blend, merge
from compatcheck_train.weights.files import why_not_blended
from compatcheck_train.weights.transfer import transfer

__all__ = ["METHODS", "blend", "merge", "transfer", "why_not_blended"]
