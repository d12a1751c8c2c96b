"""What one side alone is set to: as the evaluation takes it, and what it cannot have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from compatcheck import option_models, options, sides
from compatcheck.errors import InputError
from compatcheck.evaluation.against import refuse_alone
from compatcheck.evaluation.grouping import EngineOptions
from compatcheck.evaluation.request import Request, Side, SideOptions
from compatcheck.evaluation.settling import with_direction
from compatcheck.evaluation.store.identity import WITHOUT_BEARING
from compatcheck.readers import Layout
from compatcheck.readers.prompts import prompts_name
from compatcheck.tasks.generation import seed_of
from compatcheck.tasks.load import TaskOptions

_ROWS = {each.name for each in fields(Layout)}
_RUN_HERE = ("engine", "dtype", "device", "trust_remote_code")
"""Settings of a model that is loaded here."""


def request_of(
    old: str | os.PathLike[str], new: str | os.PathLike[str], chosen: options.Evaluate, scratch: Any = None
) -> Request:
    """The options as the evaluation takes them; engines write what they say into ``scratch``. Raises InputError: a
    setting that one side alone cannot have."""
    if not isinstance(chosen, options.Diff):
        refuse_alone(chosen.metric)
    both = []
    for side in sides.SIDES:
        own, field, repeats = chosen, chosen.prediction_field, None
        if isinstance(chosen, options.Diff):
            own, repeats = sides.of_side(chosen, side), chosen.repeats
            field = getattr(chosen, f"{side}_prediction_field") or own.prediction_field
        log_folder = None if scratch is None else Path(scratch)
        engine = option_models.part_of(own, EngineOptions, seed=seed_of(own.gen, own.seed), log_folder=log_folder)
        layout = option_models.part_of(own, Layout, prediction_field=field, repeats=repeats)
        both.append(SideOptions(option_models.part_of(own, TaskOptions), engine, layout, own.api_key_env))
    directions = with_direction(chosen.metric_args, chosen.lower_is_better)
    return Request(
        os.fspath(old), os.fspath(new), chosen.task, chosen.filter, chosen.metric, directions, *told_apart(*both),
        chosen.store, chosen.seed, getattr(chosen, "reference", None), judge=getattr(chosen, "judge", None),
    )  # fmt: skip


def told_apart(old: SideOptions, new: SideOptions) -> tuple[SideOptions, SideOptions]:
    """Both, knowing in which settings without bearing on outputs (batch size …) they differ: what is compared then."""
    engines = [old.engine, new.engine]
    each = [
        {"batch_size": one.batch_size} | {k: v for k, v in one.engine_args.items() if k in WITHOUT_BEARING}
        for one in engines
    ]
    kinds = [(one.device or "").partition(":")[0] for one in engines]
    if kinds[0] == kinds[1]:  # cuda:0 and cuda:1
        each = [{**own, "device": one.device} for own, one in zip(each, engines, strict=True)]
    differ = {name for name in {**each[0], **each[1]} if each[0].get(name) != each[1].get(name)}
    # one task, however the files are called
    if old.tasks.prompts != new.tasks.prompts and old.tasks.prompts is not None:
        named = replace(new.tasks, prompts_name=prompts_name(old.tasks.prompts), drawn_from=old.tasks)
        new = replace(new, tasks=named)
    told = [{name: value for name, value in own.items() if name in differ and value is not None} for own in each]
    return (
        replace(old, engine=replace(old.engine, compared=told[0])),
        replace(new, engine=replace(new.engine, compared=told[1])),
    )


def check_prompts(requests: Sequence[Request], chosen: options.Diff) -> None:
    """Raise InputError for prompts where nobody is asked, neither OLD nor any candidate."""
    if chosen.prompts is not None and all(each.side(name).recorded for each in requests for name in sides.SIDES):
        raise InputError(
            f"--prompts {chosen.prompts}: {'all' if requests[1:] else 'both'} sides are recorded, so nobody is asked; "
            "leave it out (--targets FILE takes targets from a file)"
        )


def check_settings(request: Request, chosen: options.Diff) -> None:
    """Raise InputError for a setting of one side alone that what the side names cannot have."""
    for name in sides.SIDES:
        side = request.side(name)
        for key, entry in sides.entries(sides.given(chosen, name)):
            why = _refused(side, key, entry)
            if why is not None:
                raise InputError(f"--{name}-set {sides.written(key, entry)}: {why}")


def _refused(side: Side, name: str, entry: str) -> str | None:
    """Why a side cannot have a setting; None where it can."""
    from compatcheck.engines.endpoint.options import ENGINE_ARGS

    servers = {one.endpoint is not None for one in side.references.values()}
    if side.recorded:
        known = name in _ROWS or name in ("trust_task", "reasoning")
        return None if known else f"{side.text} is recorded, so it is as it was made; name the model instead"
    if name in _ROWS and not side.options.tasks.prompts:
        return f"is of recorded outputs; {side.text} is evaluated here"
    if servers == {True} and (name in _RUN_HERE or (name == "engine_args" and entry not in ENGINE_ARGS)):
        return f"no model runs here, the server of {side.text} runs it; leave it away"
    of_server = name == "api_key_env" or (name == "engine_args" and entry in ENGINE_ARGS)
    return f"is of a server; {side.text} runs here" if servers == {False} and of_server else None
