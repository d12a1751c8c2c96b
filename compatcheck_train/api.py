"""``fix`` with the options of :class:`compatcheck.options.Fix`, for the command line and Python."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compatcheck import options
from compatcheck.options import build, part_of, takes
from compatcheck_train.fix.request import FixRequest
from compatcheck_train.settings import TRIAL_SHARES, TrainSettings
from compatcheck_train.settings import preset as settings_of


@takes(options.Fix)
def fix(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Any = None,
    **given: Any,
) -> Any:
    """Train a compatibility adapter on NEW's base, prove it, and leave everything in the folder ``out``.

    The names are those of the command line (``compatcheck fix --help``), except that ``strategy_args``, ``engine_args``
    and ``set`` are mappings.

    Raises:
        InputError: something given cannot be used; the message says what, where and how to fix it.
    """
    from compatcheck_train.fix.run import fix as run

    return run(request_of(old, new, build(options.Fix, given)), Path(out), say=say, progress=progress)


def request_of(old: str | os.PathLike[str], new: str | os.PathLike[str], chosen: options.Fix) -> FixRequest:
    """What the options ask for."""
    from compatcheck.evaluation.evaluate import EngineOptions
    from compatcheck_train.fix.judging import Judge

    names = ("tokens", "context_weight", "temperature", "ce_weight", "teacher", "report_to")
    further = {name: getattr(chosen, name) for name in names}
    settings = training_settings(chosen, strategy_options=chosen.strategy_args or {}, **further)
    share = TRIAL_SHARES[chosen.preset] if chosen.trial_share is None else chosen.trial_share
    return part_of(
        chosen,
        FixRequest,
        old=os.fspath(old),
        new=os.fspath(new),
        judge=part_of(chosen, Judge, engine=part_of(chosen, EngineOptions, seed=0), seed=Judge.seed),
        settings=settings,
        candidates=chosen.candidate,
        trial_share=share,
        blend=None if chosen.blend == "none" else chosen.blend,
        control=None if chosen.control == "none" else chosen.control,
        overlap="drop" if chosen.drop_overlap else "error",
        margin=chosen.margin / 100,
    )


def training_settings(chosen: options.TrainTask, **further: Any) -> TrainSettings:
    """The preset with what the options change; ``set`` comes last."""
    given = {"seed": chosen.seed, "device": chosen.device, "trust_remote_code": chosen.trust_remote_code, **further}
    return settings_of(chosen.preset, **{**given, **(chosen.set or {})})
