"""Per-instance scores of a prediction against its target.

``names()`` lists them, ``get(name)`` returns a :class:`Scorer`. One module per family; each defers to the library
that the field uses, so its figures are that library's.
"""

from __future__ import annotations

from compatcheck.similarity import bertscore, exact, judge, rouge, sacre, structured  # noqa: F401 - importing them registers them
from compatcheck.similarity.base import (
    RECORDED,
    STRUCTURED,
    References,
    Scorer,
    UnfitTarget,
    check_settings,
    get,
    names,
)

__all__ = ["RECORDED", "STRUCTURED", "References", "Scorer", "UnfitTarget", "check_settings", "get", "names"]
