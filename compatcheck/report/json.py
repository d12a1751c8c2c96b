"""report.json: the contract ``compatcheck.report/1``."""

from __future__ import annotations

import json
from pathlib import Path

from compatcheck.compare.result import Result
from compatcheck.compare.serialise import result_to_dict


def render(result: Result, *, folder: Path | None = None) -> str:
    """Return the result without its instances as strict JSON (ASCII, no NaN); ``folder`` is not used.

    Instances are in ``instances.parquet`` beside it: see :func:`compatcheck.report.save`.
    """
    del folder
    return json.dumps(result_to_dict(result), indent=2, ensure_ascii=True, allow_nan=False) + "\n"
