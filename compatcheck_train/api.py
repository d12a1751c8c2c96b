"""``fix`` with the options of :class:`compatcheck.options.Fix`, for the command line and Python."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compatcheck import options
from compatcheck.options import build, takes
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

    settings = training_settings(
        chosen,
        tokens=chosen.tokens,
        context_weight=chosen.context_weight,
        temperature=chosen.temperature,
        ce_weight=chosen.ce_weight,
        teacher=chosen.teacher,
        report_to=chosen.report_to,
        strategy_options=chosen.strategy_args or {},
    )
    engine = EngineOptions(
        chosen.engine, chosen.engine_args or {}, chosen.batch_size, chosen.dtype, chosen.device,
        trust_remote_code=chosen.trust_remote_code,
    )  # fmt: skip
    judge = Judge(
        chosen.task, chosen.data, chosen.split, chosen.dev, chosen.num_fewshot, chosen.limit, chosen.metric, engine,
        chosen.store,
    )  # fmt: skip
    return FixRequest(
        old=os.fspath(old),
        new=os.fspath(new),
        judge=judge,
        settings=settings,
        strategy=chosen.strategy,
        candidates=chosen.candidate,
        trial_share=TRIAL_SHARES[chosen.preset] if chosen.trial_share is None else chosen.trial_share,
        finalists=chosen.finalists,
        blend=None if chosen.blend == "none" else chosen.blend,
        blend_method=chosen.blend_method,
        control=None if chosen.control == "none" else chosen.control,
        init=chosen.init,
        train_task=chosen.train_task,
        unlabelled=chosen.unlabelled,
        train_split=chosen.train_split,
        train_limit=chosen.train_limit,
        overlap="drop" if chosen.drop_overlap else "error",
        force=chosen.force,
        margin=chosen.margin / 100,
        seeds=chosen.seeds,
    )


def training_settings(chosen: options.TrainTask, **further: Any) -> TrainSettings:
    """The preset with what the options change; ``set`` comes last."""
    given = {"seed": chosen.seed, "device": chosen.device, "trust_remote_code": chosen.trust_remote_code, **further}
    return settings_of(chosen.preset, **{**given, **(chosen.set or {})})
