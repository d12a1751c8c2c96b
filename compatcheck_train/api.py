"""``fix`` with the options of :class:`compatcheck.options.Fix`, for the command line and Python."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compatcheck import options
from compatcheck.option_models import build, takes


@takes(options.Fix)
def fix(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Any = None,
    command: str = "",
    **given: Any,
) -> Any:
    """Train a compatibility adapter on NEW's base, prove it, and leave everything in the folder ``out``, the report
    too, which names ``command``.

    The names are those of the command line (``compatcheck fix --help``), except that ``strategy_args``, ``engine_args``
    and ``set`` are mappings. InputError for something given that cannot be used."""
    from compatcheck_train.fix.request import FixRequest
    from compatcheck_train.fix.run import fix as run
    from compatcheck_train.report import save
    from compatcheck_train.training.processes import first

    fixed = run(FixRequest(os.fspath(old), os.fspath(new), build(options.Fix, given)), Path(out), say, progress)
    first(lambda: save(fixed, Path(out), command))
    return fixed
