"""Adapter folders: are they whole, do they fit their base, what do they do to it, which tokenizer is theirs?

Reads configurations and headers; loads no weights.
"""

from __future__ import annotations

from compatcheck.models.adapters import CONFIG, WEIGHTS, check
from compatcheck.models.kinds import ACTIVATED, AdapterKind, kind_of, read_config

__all__ = ["ACTIVATED", "CONFIG", "WEIGHTS", "AdapterKind", "check", "kind_of", "read_config"]
