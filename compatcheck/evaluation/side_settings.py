"""What one side alone is set to: as the evaluation takes it, and what it cannot have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from compatcheck import options, sides
from compatcheck.errors import InputError
from compatcheck.evaluation.collect import Side, SideOptions
from compatcheck.evaluation.plan import EngineOptions
from compatcheck.evaluation.store.identity import WITHOUT_BEARING
from compatcheck.readers import Layout
from compatcheck.tasks.load import TaskOptions

_ROWS = {each.name for each in fields(Layout)}
_RUN_HERE = ("engine", "dtype", "device", "trust_remote_code")
"""Settings of a model that is loaded here."""


def side_options(
    chosen: options.Evaluate, prediction: str | None = None, log_folder: Path | None = None
) -> SideOptions:
    """The options of one side as the evaluation takes them; ``prediction`` is the field of its predictions alone."""
    repeats = chosen.repeats if isinstance(chosen, options.Diff) else None
    field = prediction or chosen.prediction_field
    return SideOptions(
        options.part_of(chosen, TaskOptions),
        options.part_of(chosen, EngineOptions, log_folder=log_folder),
        options.part_of(chosen, Layout, prediction_field=field, repeats=repeats),
        chosen.api_key_env,
    )


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
    told = [{name: value for name, value in own.items() if name in differ and value is not None} for own in each]
    return (
        replace(old, engine=replace(old.engine, compared=told[0])),
        replace(new, engine=replace(new.engine, compared=told[1])),
    )


def check_settings(side: Side, given: Mapping[str, Any]) -> None:
    """Raise InputError for a setting of one side alone that what the side names cannot have."""
    from compatcheck.engines.endpoint.options import ENGINE_ARGS

    kinds = {"server" if one.endpoint is not None else "here" for one in side.references.values()}
    for name, entry in sides.entries(given):
        key = f"--{side.name}-set {sides.written(name, entry)}"
        if side.recorded:
            if name not in _ROWS and name != "trust_task":
                raise InputError(f"{key}: {side.text} is recorded, so it is as it was made; name the model instead")
        elif name in _ROWS:
            raise InputError(f"{key}: is of recorded outputs; {side.text} is evaluated here")
        elif kinds == {"server"} and (name in _RUN_HERE or (name == "engine_args" and entry not in ENGINE_ARGS)):
            raise InputError(f"{key}: no model runs here, the server of {side.text} runs it; leave it away")
        elif kinds == {"here"} and name in ("engine_args", "api_key_env") and entry in (*ENGINE_ARGS, ""):
            raise InputError(f"{key}: is of a server; {side.text} runs here")
